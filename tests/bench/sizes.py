"""What must not grow with the directory: look-ups, pages, and a change of one member.

The rows are loaded with COPY, into one tenant a size; what is timed is the store's own functions, so that no
constant of HTTP hides a growth. Written to `build/bench.json`: milliseconds (p50) by size, and the ratio of
the largest to the smallest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
from rich.console import Console
from rich.table import Table

from usher_core import ids
from usher_core.changes import records
from usher_core.scim import filters, patches, schemas
from usher_core.store import batches, cursors, databases, migrations, predicates, resources
from usher_core.testing import servers

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
NOTHING = resources.Relations(groups=False, members=False)
GROUP_SIZES = (10, 1_000, 100_000)
RUNS = 300
STAMP = "2026-11-01T00:00:00Z"


def user_id(number: int) -> str:
    return str(uuid.UUID(int=(0x01A20000_0000_7000_8000_0000_0000_0000) + number))


def user_rows(tenant: uuid.UUID, count: int) -> Iterator[tuple[str, str, str]]:
    """Lines for resources, unique_values and lookup_values, in COPY's text form."""
    for number in range(count):
        name, one = f"user{number}@example.com", user_id(number)
        document = orjson.dumps(
            {
                "schemas": [USER.schema.id],
                "userName": name,
                "externalId": f"00u{number}",
                "displayName": f"User {number}",
                "emails": [{"value": name, "type": "work", "primary": True}],
                "active": True,
            }
        ).decode()
        yield (
            f"{tenant}\tUser\t{one}\t1\t{document}\t00u{number}\tuser {number}\t{STAMP}\t{STAMP}\n",
            f"{tenant}\tUser\tuserName\t{name}\t{one}\n",
            f"{tenant}\tUser\temails.value\t{name}\t{one}\n",
        )


def copy(owner: psycopg.Connection[Any], table: str, columns: str, lines: list[str]) -> None:
    with owner.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as out:
        out.write("".join(lines))


def load_users(owner: psycopg.Connection[Any], tenant: uuid.UUID, count: int) -> None:
    owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'b', %s)", (tenant, str(tenant)))
    owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (tenant,))
    owner.execute("INSERT INTO totals VALUES (%s, 'User', %s)", (tenant, count))
    rows = user_rows(tenant, count)
    while chunk := [row for _, row in zip(range(20_000), rows, strict=False)]:
        people, unique, lookups = (list(lines) for lines in zip(*chunk, strict=True))
        columns = "tenant, type, id, version, document, external_id, display_name, created_at, modified_at"
        copy(owner, "resources", columns, people)
        copy(owner, "unique_values", "tenant, type, path, folded, id", unique)
        copy(owner, "lookup_values", "tenant, type, path, folded, id", lookups)


def load_group(owner: psycopg.Connection[Any], tenant: uuid.UUID, number: int, size: int) -> ids.ResourceId:
    group = ids.ResourceId(uuid.UUID(int=(0x01A30000_0000_7000_8000_0000_0000_0000) + number))
    document = orjson.dumps({"schemas": [GROUP.schema.id], "displayName": f"Group {size}"}).decode()
    owner.execute(
        "INSERT INTO resources (tenant, type, id, version, document, display_name, created_at, modified_at)"
        " VALUES (%s, 'Group', %s, 1, %s, %s, now(), now())",
        (tenant, group, document, f"group {size}"),
    )
    lines = [f"{tenant}\t{group}\t{user_id(member)}\tUser\n" for member in range(size)]
    copy(owner, "members", "tenant, group_id, member_id, member_type", lines)
    return group


async def p50(work: Callable[[int], Awaitable[None]], runs: int = RUNS) -> float:
    for number in range(min(runs, 20)):
        await work(number)
    taken = []
    for number in range(runs):
        started = time.perf_counter()
        await work(number)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


LOOKUPS = {
    "lookup_username_ms": 'userName eq "USER{n}@example.com"',
    "lookup_external_id_ms": 'externalId eq "00u{n}"',
    "lookup_email_ms": 'emails.value eq "user{n}@example.com"',
    "lookup_display_name_ms": 'displayName eq "user {n}"',
}


async def time_lookups(database: databases.Database, tenant: ids.TenantId, size: int) -> dict[str, float]:
    async def look_up(text: str, number: int) -> None:
        # Far apart, so that each reads other pages.
        wanted = text.replace("{n}", str(number * 7919 % size))
        condition = predicates.over(tenant, {USER: filters.parse(wanted, USER)})
        query = resources.Query(("User",), condition, is_filtered=True, relations=NOTHING)
        page = await resources.page(database, tenant, query, offset=0, limit=100)
        assert page.total == 1

    found = {}
    for name, text in LOOKUPS.items():
        found[name] = await p50(lambda number, text=text: look_up(text, number))  # type: ignore[misc]
    return found


async def time_pages(database: databases.Database, tenant: ids.TenantId, size: int) -> dict[str, float]:
    """Read the first and the last page of a hundred by cursor, and the last by index to compare."""
    query = resources.Query(("User",), predicates.over(tenant, {USER: None}), False, NOTHING)
    first = await resources.page_from(database, tenant, query, None, 100)
    near_the_end = await resources.page(database, tenant, query, offset=size - 101, limit=1)
    cursor = cursors.Cursor(near_the_end.positions[0], backward=False)
    last = await resources.page_from(database, tenant, query, cursor, 100)
    assert (len(first.resources), len(last.resources), last.more) == (100, 100, False)

    async def by_cursor(place: cursors.Cursor | None) -> None:
        await resources.page_from(database, tenant, query, place, 100)

    async def by_index() -> None:
        await resources.page(database, tenant, query, offset=size - 100, limit=100)

    return {
        "first": round(await p50(lambda _: by_cursor(None)), 3),
        "last": round(await p50(lambda _: by_cursor(cursor)), 3),
        "last_by_index": round(await p50(lambda _: by_index(), runs=5), 3),
    }


def time_member(url: str, tenant: ids.TenantId, group: ids.ResourceId, size: int) -> float:
    """Add and remove one member; the median time of one of them, in milliseconds."""
    member = user_id(size + 1)
    taken = []
    with batches.Connection(url) as store:
        epoch = store.raise_epoch(tenant)
        for number in range(RUNS):
            op = {"op": "add", "path": "members", "value": [{"value": member}]}
            if number % 2:
                op = {"op": "remove", "path": f'members[value eq "{member}"]'}
            body = patches.dump(patches.parse({"schemas": [], "Operations": [op]}, GROUP))
            change = records.Change(
                ids.ChangeId(ids.new_uuid()), records.now(), "patch", "Group", group, body, None, "t", "r", ""
            )
            started = time.perf_counter()
            [outcome] = store.apply(tenant, epoch, REGISTRY, [(f"{number}-1", change)])
            taken.append(time.perf_counter() - started)
            assert outcome.status == 200
    return statistics.median(taken) * 1000


async def measure(sizes: tuple[int, ...]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="usher-bench-") as folder,
        servers.start_servers(Path(folder), {"shared_buffers": "512MB"}) as up,
    ):
        migrations.upgrade(up.database.owner)
        # As the superuser: COPY does not work under row-level security.
        admin = up.database.admin.rpartition("/")[0] + "/" + up.database.owner.rpartition("/")[2]
        with psycopg.connect(admin, autocommit=True) as owner:
            tenants = {size: ids.TenantId(uuid.uuid4()) for size in sizes}
            for size, tenant in tenants.items():
                load_users(owner, tenant, size)
            groups = {
                size: load_group(owner, tenants[max(sizes)], number, size)
                for number, size in enumerate(size for size in GROUP_SIZES if size < max(sizes))
            }
            owner.execute("VACUUM ANALYZE")
        async with databases.Database(up.database.app) as database:
            for size, tenant in tenants.items():
                for name, taken in (await time_lookups(database, tenant, size)).items():
                    found.setdefault(name, {})[str(size)] = round(taken, 3)
            pages = await time_pages(database, tenants[max(sizes)], max(sizes))
        member_tenant = tenants[max(sizes)]
        for size, group in groups.items():
            taken = time_member(up.database.app, member_tenant, group, size)
            found.setdefault("patch_one_member_ms", {})[str(size)] = round(taken, 3)
    found["list_page_ms"] = pages | {"ratio": round(pages["last"] / pages["first"], 2)}
    for name, row in found.items():
        if name == "list_page_ms":
            continue
        values = list(row.values())
        row["ratio"] = round(values[-1] / values[0], 2)
    return found


def _size(name: str) -> str:
    return f"{int(name):,}" if name.isdigit() else name.replace("_", " ")


def show(found: dict[str, dict[str, float]]) -> None:
    table = Table(title="What must not grow (p50, milliseconds; the ratio of the largest to the smallest)")
    table.add_column("what")
    for column in ("small", "middle", "large", "ratio"):
        table.add_column(column, justify="right")
    for name, row in found.items():
        cells = [f"{value:.2f} at {_size(size)}" for size, value in row.items() if size != "ratio"]
        table.add_row(name, *cells, *[""] * (3 - len(cells)), f"{row['ratio']:.2f}")
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="up to 1,000,000 users (some minutes)")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    args = parser.parse_args()
    found = asyncio.run(measure((1_000, 100_000, 1_000_000) if args.million else (1_000, 150_000)))
    show(found)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.write_text(json.dumps(before | found, indent=2) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
