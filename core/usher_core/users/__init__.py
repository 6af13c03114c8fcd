"""What a person may do with a tenant's users beside its identity provider: `usher users …`."""
