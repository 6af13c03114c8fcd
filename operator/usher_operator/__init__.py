"""The operator: it keeps the store and the Secrets in step with the ScimTenant resources."""
