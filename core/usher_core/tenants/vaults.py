"""Where issued tokens are handed over: a Kubernetes Secret, or a file for `usher dev`.

`reconciliations` writes through a `Vault`; the operator brings the one for Kubernetes. Invariant: the
vault's content is the only place that ever holds a token in clear.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Protocol

from usher_core import errors


class SecretNotOurs(errors.UsherError):
    """The place for a token holds something that this service did not put there; it stays untouched."""


class VaultUnavailable(errors.UsherError):
    """The vault can't be reached, or was changed by someone else meanwhile: try again."""


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRef:
    """The place of one token of one tenant."""

    namespace: str
    tenant_name: str
    token_name: str
    secret_name: str
    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class StoredToken:
    """What a vault holds; not `complete` when all that goes along with the token must be written again.

    `expires_at` is what stands beside it, `None` in a vault where nothing does.
    """

    text: str = dataclasses.field(repr=False)
    complete: bool = True
    expires_at: datetime | None = None


class Vault(Protocol):
    """Keeps the text of tokens; each method works on one place."""

    def locate(self, ref: TokenRef) -> str:
        """Name the place: two refs of one name share it."""

    async def read_token(self, ref: TokenRef, *, base_url: str | None) -> StoredToken | None:
        """Read what is there; `None` when nothing is.

        Raises:
            SecretNotOurs: somebody else's Secret has the place.
            VaultUnavailable: try again.
        """

    async def write_token(
        self, ref: TokenRef, text: str, *, base_url: str | None, expires_at: datetime
    ) -> None:
        """Put a token there, in place of one that was.

        Raises:
            SecretNotOurs: somebody else's Secret has the place.
            VaultUnavailable: try again.
        """

    async def delete_token(self, ref: TokenRef) -> None:
        """Take a token away; what is not ours, or not there, is left alone.

        Raises:
            VaultUnavailable: try again.
        """


class FileVault:
    """Tokens in the files `<namespace>.<tenant>.<token>` of a folder, readable by us alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def locate(self, ref: TokenRef) -> str:
        """Name the file: neither a namespace nor a token's name has a dot."""
        return f"{ref.namespace}.{ref.tenant_name}.{ref.token_name}"

    async def read_token(self, ref: TokenRef, *, base_url: str | None) -> StoredToken | None:
        """Read the file; `None` when there is none. The URL is of no concern to a file."""
        try:
            return StoredToken((self._folder / self.locate(ref)).read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            return StoredToken("")

    async def write_token(
        self, ref: TokenRef, text: str, *, base_url: str | None, expires_at: datetime
    ) -> None:
        """Write the file whole or not at all."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        file = self._folder / self.locate(ref)
        beside = self._folder / f".{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(text + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)

    async def delete_token(self, ref: TokenRef) -> None:
        """Remove the file."""
        (self._folder / self.locate(ref)).unlink(missing_ok=True)
