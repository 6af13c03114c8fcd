"""Where the Secrets and ConfigMaps that a tenant names are read from.

`reconciliations` asks a `Sources`: a `manifests.Bundle` for `usher dev`, Kubernetes for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from usher_core import errors


class SourceUnavailable(errors.UsherError):
    """Secrets and ConfigMaps can't be read now: try again."""


class Sources(Protocol):
    """Read access to Secrets and ConfigMaps, one at a time."""

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Read the values of a Secret; `None` when there is none of that name.

        Raises:
            SourceUnavailable: try again.
        """

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Read the values of a ConfigMap; `None` when there is none of that name.

        Raises:
            SourceUnavailable: try again.
        """
