"""The front door: SCIM 2.0 over HTTP, each write through the queue."""
