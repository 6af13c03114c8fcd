"""Valkey or Redis, the one queue: a stream of changes for each tenant, replies, and RQ jobs that wake drains.

What is answered to a client is committed in PostgreSQL first; everything here may be lost whole.
"""
