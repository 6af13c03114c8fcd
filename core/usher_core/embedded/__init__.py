"""PostgreSQL and Valkey from wheels, for a laptop and the tests: started, watched and stopped by us."""
