"""`usher dev`: the whole service on one machine, from one command."""
