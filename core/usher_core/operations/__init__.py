"""How people see and mend the queue: `usher changes`, `usher dead-letters`, `usher queue`."""
