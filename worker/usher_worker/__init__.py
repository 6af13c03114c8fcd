"""The workers: they apply the changes of each tenant, in order and once."""
