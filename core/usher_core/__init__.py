"""The core of Usher: what the services share: protocol, changes, store, tenants and queue."""

__version__ = "0.1.0"
