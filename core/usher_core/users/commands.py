"""The subcommands `usher users list-deleted` and `usher users restore`."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from usher_core import errors, ids

if TYPE_CHECKING:
    from usher_core import settings
    from usher_core.store import databases

TENANT = click.option(
    "--tenant", required=True, metavar="NAMESPACE/NAME", help="The ScimTenant, by its namespace and name."
)


@click.group()
def users() -> None:
    """Look at the deleted users of a tenant, and bring one back.

    Reads USHER_DATABASE_URL and USHER_REDIS_URL, as the api does.
    """


@users.command("list-deleted")
@TENANT
@click.option("--json", "as_json", is_flag=True, help="Write a JSON array, for programs.")
def list_deleted(tenant: str, *, as_json: bool) -> None:
    """List the deleted users that can be restored, the one deleted last first."""
    import orjson

    from usher_core import settings

    found = asyncio.run(_list(settings.load(), tenant))
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    for user in found:
        click.echo(
            f"{user['id']}  deleted {_shown(user['deletedAt'])}  kept until {_shown(user['keptUntil'])}"
            f"  {user['userName']}"
        )
    if not found:
        click.echo("No deleted user can be restored.")


@users.command()
@TENANT
@click.argument("user_id", metavar="ID", type=click.UUID)
def restore(tenant: str, user_id: uuid.UUID) -> None:
    """Bring a deleted user back under its old ID, as it was, but in no group.

    The change takes its turn in the tenant's stream like any other. It is refused when the userName was
    taken meanwhile.
    """
    from usher_core import settings

    version = asyncio.run(_restore(settings.load(), tenant, ids.ResourceId(user_id)))
    click.echo(f"The user {user_id} is back, at version {version}, in no group.")


async def _list(config: settings.Settings, tenant: str) -> list[dict[str, Any]]:
    from usher_core.store import databases, deletions
    from usher_core.tenants import configs

    async with databases.Database(config.database_url, application="usher-users", pool_size=1) as database:
        tenant_id, document = await _find(database, tenant)
        retention = configs.from_document(document).deleted_retention
        found = await deletions.list_users(database, tenant_id)
    return [
        {
            "id": str(one.stored.id),
            "userName": one.stored.document.get("userName"),
            "externalId": one.stored.document.get("externalId"),
            "active": one.stored.document.get("active"),
            "deletedAt": one.deleted_at,
            "keptUntil": one.deleted_at + retention,
        }
        for one in found
    ]


async def _restore(config: settings.Settings, tenant: str, user: ids.ResourceId) -> int | None:
    from usher_core.store import databases
    from usher_core.users import restorations

    async with databases.Database(config.database_url, application="usher-users", pool_size=1) as database:
        tenant_id, _ = await _find(database, tenant)
        outcome = await restorations.restore(config, database, tenant_id, user)
    return outcome.version


async def _find(database: databases.Database, tenant: str) -> tuple[ids.TenantId, Mapping[str, Any]]:
    from usher_core.store import deletions

    namespace, _, name = tenant.partition("/")
    if not namespace or not name:
        raise errors.ConfigurationInvalid(f"--tenant {tenant}: write NAMESPACE/NAME, such as identity/acme")
    found = await deletions.find_tenant(database, namespace, name)
    if found is None:
        raise errors.ConfigurationInvalid(f"--tenant {tenant}: there is no such tenant")
    return found


def _shown(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
