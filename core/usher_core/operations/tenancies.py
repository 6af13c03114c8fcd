"""Finding the tenant, or the token, that a person names; a wrong name is answered with the closest ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from usher_core import errors, ids
from usher_core.store import databases, histories, tenants


async def pick(database: databases.Database, label: str | None) -> list[histories.Tenant]:
    """List the one tenant of that NAMESPACE/NAME, or all of them for none; deleted ones keep their log.

    Raises:
        ConfigurationInvalid: there is none of that name.
    """
    known = await histories.list_tenants(database)
    if label is None:
        return known
    found = [one for one in known if label in (one.label, str(one.tenant))]
    if not found:
        hint = closest(label, [one.label for one in known])
        if "/" not in label:
            hint += " (write NAMESPACE/NAME)"
        raise errors.ConfigurationInvalid(f"--tenant {label}: there is no such tenant{hint}")
    return found


async def pick_tokens(
    database: databases.Database, tenant: ids.TenantId, wanted: str | None
) -> tuple[Mapping[str, str], frozenset[str] | None]:
    """Read the tokens' names by their ids, and pick those of one name or id; `None` for no wish.

    Raises:
        ConfigurationInvalid: there is no token of that name or id.
    """
    names = await name_tokens(database, tenant)
    if wanted is None:
        return names, None
    picked = frozenset(token_id for token_id, name in names.items() if wanted in (token_id, name))
    if not picked:
        hint = closest(wanted, names.values())
        raise errors.ConfigurationInvalid(f"--token {wanted}: the tenant has no such token{hint}")
    return names, picked


async def name_tokens(database: databases.Database, tenant: ids.TenantId) -> dict[str, str]:
    """Read the names of a tenant's tokens by their ids, revoked ones too."""
    return {str(row.token_id): row.name for row in await tenants.list_tokens(database, tenant)}


def closest(name: str, known: Iterable[str]) -> str:
    """Ask whether one of the names most like this one was meant; empty where none is."""
    listed = list(dict.fromkeys(known))
    close: Sequence[str] = difflib.get_close_matches(name, listed, n=3, cutoff=0.5)
    if not close:
        close = [one for one in listed if name and name in one][:3]
    return f"; is it {' or '.join(close)}?" if close else ""
