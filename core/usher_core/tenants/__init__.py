"""Tenants and their tokens: manifests, issue and renewal, and who a request comes from.

The operator and `usher dev` bring manifests here (`reconciliations`), the api asks who calls
(`authentications`). All SQL stands in `usher_core.store.tenants`; nothing here knows Kubernetes.
"""
