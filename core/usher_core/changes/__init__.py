"""What a write is, from its acceptance to its outcome; pure: no input, no output."""
