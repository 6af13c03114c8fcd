"""The core of Usher: the protocol, the changes, the store, the tenants and the queue that the services share."""

__version__ = "0.1.0"
