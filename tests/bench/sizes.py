"""What must not grow with the directory: look-ups, pages, and a change of one member.

The rows are loaded with COPY, into one tenant a size; what is timed is the store's own functions, so that no
constant of HTTP hides a growth. The sizes take turns, so that a slow moment of the machine is everybody's.
Written to `build/bench.json`: milliseconds (p50) by size, the ratio of the largest to the smallest, how large
it may be, and whether it is not larger.

- `lookup_*_ms`: one of as many users, or groups, found by a filter; `lookup_member_ms`: the group that
  somebody is in, by the size of that group;
- `patch_one_member_ms`: one member added or removed, by the size of the group;
- `list_page_ms`: a hundred users by cursor, at the beginning and at the end of the largest tenant.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psycopg
import reports
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
LOOKUPS = {
    "lookup_username_ms": (USER, 'userName eq "USER{n}@example.com"'),
    "lookup_external_id_ms": (USER, 'externalId eq "00u{n}"'),
    "lookup_email_ms": (USER, 'emails.value eq "user{n}@example.com"'),
    "lookup_display_name_ms": (GROUP, 'displayName eq "group {n}"'),
}
LOOKUP_GOAL = 1.2
GOALS = {"patch_one_member_ms": 1.3, "list_page_ms": 1.3}
RUNS = 300
STAMP = "2026-11-01T00:00:00Z"

Work = Callable[[int], Awaitable[None]]
Row = dict[str, float | bool]


def user_id(number: int) -> str:
    return str(uuid.UUID(int=(0x01A20000_0000_7000_8000_0000_0000_0000) + number))


def group_id(number: int) -> ids.ResourceId:
    return ids.ResourceId(uuid.UUID(int=(0x01A30000_0000_7000_8000_0000_0000_0000) + number))


def user_rows(tenant: ids.TenantId, count: int) -> Iterator[tuple[str, str, str]]:
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


def group_rows(tenant: ids.TenantId, count: int) -> Iterator[tuple[str]]:
    """Lines for resources, in COPY's text form: groups without members."""
    for number in range(count):
        document = orjson.dumps({"schemas": [GROUP.schema.id], "displayName": f"Group {number}"}).decode()
        yield (
            f"{tenant}\tGroup\t{group_id(number)}\t1\t{document}\t\\N\tgroup {number}\t{STAMP}\t{STAMP}\n",
        )


def copy(owner: psycopg.Connection[Any], table: str, columns: str, lines: Sequence[str]) -> None:
    with owner.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as out:
        out.write("".join(lines))


def load(owner: psycopg.Connection[Any], tenant: ids.TenantId, users: int, groups: int) -> None:
    owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'b', %s)", (tenant, str(tenant)))
    owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (tenant,))
    for kind, count in (("User", users), ("Group", groups)):
        owner.execute("INSERT INTO totals VALUES (%s, %s, %s)", (tenant, kind, count))
    columns = (
        (
            "resources",
            "tenant, type, id, version, document, external_id, display_name, created_at, modified_at",
        ),
        ("unique_values", "tenant, type, path, folded, id"),
        ("lookup_values", "tenant, type, path, folded, id"),
    )
    for rows in (user_rows(tenant, users), group_rows(tenant, groups)):
        while chunk := list(itertools.islice(rows, 20_000)):
            for (table, names), lines in zip(columns, zip(*chunk, strict=True), strict=False):
                copy(owner, table, names, lines)


def load_members(owner: psycopg.Connection[Any], tenant: ids.TenantId) -> dict[int, range]:
    """Make a group of each of `GROUP_SIZES`, and tell which users are in it: each is in one, one in none."""
    load(owner, tenant, sum(GROUP_SIZES) + 1, len(GROUP_SIZES))
    found, start = {}, 0
    for number, size in enumerate(GROUP_SIZES):
        found[size] = range(start, start + size)
        start += size
        lines = [f"{tenant}\t{group_id(number)}\t{user_id(member)}\tUser\n" for member in found[size]]
        copy(owner, "members", "tenant, group_id, member_id, member_type", lines)
    return found


async def p50s(works: Mapping[str, Work], runs: int = RUNS) -> Row:
    """Time each work in its turn, `runs` times; the median in milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(min(runs, 20) + runs):
        for name, work in works.items():
            started = time.perf_counter()
            await work(number)
            taken[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(times[-runs:]) * 1000, 3) for name, times in taken.items()}


def looking_up(
    database: databases.Database, tenant: ids.TenantId, kind: schemas.ResourceType, text: Callable[[int], str]
) -> Work:
    async def look_up(number: int) -> None:
        condition = predicates.over(tenant, {kind: filters.parse(text(number), kind)})
        query = resources.Query((kind.name,), condition, is_filtered=True, relations=NOTHING)
        page = await resources.page(database, tenant, query, offset=0, limit=100)
        assert page.total == 1

    return look_up


def scattered(number: int, size: int) -> int:
    """Far apart, so that each look-up reads other pages."""
    return number * 7919 % size


async def time_lookups(database: databases.Database, tenants: Mapping[int, ids.TenantId]) -> dict[str, Row]:
    found = {}
    for name, (kind, pattern) in LOOKUPS.items():

        def text(number: int, size: int, pattern: str = pattern) -> str:
            return pattern.replace("{n}", str(scattered(number, size)))

        found[name] = await p50s(
            {
                str(size): looking_up(database, tenant, kind, functools.partial(text, size=size))
                for size, tenant in tenants.items()
            }
        )
    return found


async def time_membership(
    database: databases.Database, tenant: ids.TenantId, groups: Mapping[int, range]
) -> Row:
    """Find the group that somebody is in."""

    def text(number: int, members: range) -> str:
        return f'members.value eq "{user_id(members[scattered(number, len(members))])}"'

    return await p50s(
        {
            str(size): looking_up(database, tenant, GROUP, functools.partial(text, members=members))
            for size, members in groups.items()
        }
    )


async def time_pages(database: databases.Database, tenant: ids.TenantId, size: int) -> Row:
    """Read the first and the last page of a hundred by cursor, and the last by index to compare."""
    query = resources.Query(("User",), predicates.over(tenant, {USER: None}), False, NOTHING)
    near_the_end = await resources.page(database, tenant, query, offset=size - 101, limit=1)
    cursor = cursors.Cursor(near_the_end.positions[0], backward=False)
    last = await resources.page_from(database, tenant, query, cursor, 100)
    assert (len(last.resources), last.more) == (100, False)

    async def first_page(_: int) -> None:
        await resources.page_from(database, tenant, query, None, 100)

    async def last_page(_: int) -> None:
        await resources.page_from(database, tenant, query, cursor, 100)

    async def by_index(_: int) -> None:
        await resources.page(database, tenant, query, offset=size - 100, limit=100)

    by_cursor = await p50s({"first": first_page, "last": last_page})
    return by_cursor | await p50s({"last_by_index": by_index}, runs=5)


async def time_member(url: str, tenant: ids.TenantId, groups: Mapping[int, range]) -> Row:
    """Add and remove one member by turns."""
    member = user_id(sum(GROUP_SIZES))
    with batches.Connection(url) as store:
        epoch = store.raise_epoch(tenant)

        def changing(group: ids.ResourceId) -> Work:
            async def change(number: int) -> None:
                op = {"op": "add", "path": "members", "value": [{"value": member}]}
                if number % 2:
                    op = {"op": "remove", "path": f'members[value eq "{member}"]'}
                body = patches.dump(patches.parse({"schemas": [], "Operations": [op]}, GROUP))
                made = records.Change(
                    ids.ChangeId(ids.new_uuid()),
                    records.now(),
                    "patch",
                    "Group",
                    group,
                    body,
                    None,
                    "t",
                    "r",
                    "",
                )
                [outcome] = store.apply(tenant, epoch, REGISTRY, [(f"{number}-1", made)])
                assert outcome.status == 200

            return change

        return await p50s({str(size): changing(group_id(number)) for number, size in enumerate(groups)})


async def measure(sizes: tuple[int, ...]) -> dict[str, Row]:
    with (
        tempfile.TemporaryDirectory(prefix="usher-bench-") as folder,
        servers.start_servers(Path(folder), {"shared_buffers": "512MB"}) as up,
    ):
        migrations.upgrade(up.database.owner)
        tenants = {size: ids.TenantId(uuid.uuid4()) for size in sizes}
        of_members = ids.TenantId(uuid.uuid4())
        # As the superuser: COPY does not work under row-level security.
        admin = up.database.admin.rpartition("/")[0] + "/" + up.database.owner.rpartition("/")[2]
        with psycopg.connect(admin, autocommit=True) as owner:
            for size, tenant in tenants.items():
                load(owner, tenant, size, size)
            groups = load_members(owner, of_members)
            owner.execute("VACUUM ANALYZE")
        async with databases.Database(up.database.app) as database:
            found = await time_lookups(database, tenants)
            found["lookup_member_ms"] = await time_membership(database, of_members, groups)
            found["list_page_ms"] = await time_pages(database, tenants[max(sizes)], max(sizes))
        found["patch_one_member_ms"] = await time_member(up.database.app, of_members, groups)
    return {name: judged(name, row) for name, row in found.items()}


def judged(name: str, row: Row) -> Row:
    """Add how much more the largest takes than the smallest, how much it may, and whether it does not."""
    small, *_, large = (value for size, value in row.items() if size != "last_by_index")
    ratio, goal = round(large / small, 2), GOALS.get(name, LOOKUP_GOAL)
    return row | {"ratio": ratio, "goal": goal, "met": ratio <= goal}


def _size(name: str) -> str:
    return f"{int(name):,}" if name.isdigit() else name.replace("_", " ")


def show(found: dict[str, Row]) -> None:
    table = Table(title="What must not grow (p50, milliseconds; the ratio of the largest to the smallest)")
    for column in ("what", "small", "middle", "large", "ratio", "goal", "met"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, row in found.items():
        figures = [f"{value:.2f} at {_size(size)}" for size, value in row.items()][:-3]
        cells = figures + [""] * (3 - len(figures))
        verdict = f"{row['ratio']:.2f}", f"{row['goal']:.1f}", "yes" if row["met"] else "NO"
        table.add_row(name, *cells, *verdict)
    Console(width=130).print(table)


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--million", action="store_true", help="up to 1,000,000 users (some minutes)")
    args = parser.parse_args()
    found = asyncio.run(measure((1_000, 100_000, 1_000_000) if args.million else (1_000, 100_000)))
    show(found)
    reports.write(found, args.out)


if __name__ == "__main__":
    main()
