"""What a command stands on: the store, the queue, and one way to end when they are away or Ctrl-C is pressed.

Called by `commands`. Exit codes: 0 for what was done, 1 for what can't be had as things are, 2 for a backend
that is away (and for wrong usage), 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import urllib.parse
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import click
import psycopg

from usher_core import errors, settings
from usher_core.store import databases

T = TypeVar("T")

AWAY: Final = 2
INTERRUPTED: Final = 130

# A person waits for it, but no longer than this.
STATEMENT_TIMEOUT: Final = 30.0


def open_store(config: settings.Settings) -> databases.Database:
    """Make the store of a command; it connects when it is entered."""
    return databases.Database(
        config.database_url, application="usher-command", pool_size=1, statement_timeout=STATEMENT_TIMEOUT
    )


def run(config: settings.Settings, work: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; a backend that is away is told in one line."""
    # The pool tells each failed attempt; the one line that follows says all of it.
    logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
    try:
        return asyncio.run(work)
    except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
        click.echo(f"usher: {describe(config, exc)}", err=True)
        sys.exit(AWAY)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def describe(config: settings.Settings, failure: Exception) -> str:
    """Tell which backend is away, where it should be, and which variable says so."""
    if isinstance(failure, errors.QueueUnavailable):
        return f"Valkey can't be reached, or is full: {_place(config.redis_url)} (USHER_REDIS_URL)"
    if isinstance(failure.__cause__, psycopg.errors.QueryCanceled):
        return f"PostgreSQL took longer than {STATEMENT_TIMEOUT:g} s: ask for less, with a later --since"
    return f"PostgreSQL can't be reached: {_place(config.database_url)} (USHER_DATABASE_URL)"


def _place(url: str) -> str:
    """Take host, port and database out of a URL; the password stays behind."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
