"""Files that only we may read: generated passwords, ports, the ready file.

Servers, the bootstrap of the database and `usher dev` write them. A file is whole or not there: it is
written beside its place with mode 0600 and then renamed, so no reader ever sees half of it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Put `text` into `path`, atomically, with mode 0600."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A password that is lost with the machine's power locks us out of the data it protects.
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def password(path: Path) -> str:
    """Read the password kept in `path`; at the first call make one up (256 bits, hexadecimal)."""
    if not path.exists():
        write(path, secrets.token_hex(32))
    return path.read_text(encoding="utf-8")
