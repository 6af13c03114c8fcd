"""PostgreSQL, the one store: every statement of Usher stands in this package.

The async connections (`databases`) serve the api and the operator; the sync one (`batches`) serves
the workers. Each transaction names its tenant first; row-level security hides everything else.
"""
