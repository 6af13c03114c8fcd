"""Two operators on one store: what the older one would write is refused, whatever it believes."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from usher_core import errors, ids
from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases, removals, tenants, terms

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENANT = ids.TenantId(ids.new_uuid())
ROW = tenants.TenantRow(TENANT, "identity", "acme", None, None, False, False, False, "", {})


async def test_the_writes_of_an_older_term_are_refused(
    database: databases.Database, database_urls: DatabaseUrls
) -> None:
    older = terms.Term(database, "older")
    await older.ensure()
    await tenants.put_tenant(database, ROW)
    async with databases.Database(database_urls.app, pool_size=1) as other:
        younger = terms.Term(other, "younger")
        await younger.ensure()
        assert (older.number, younger.number) == (1, 2)
        with pytest.raises(errors.OperatorSuperseded):
            await tenants.mark_deleted(database, TENANT, NOW)
        with pytest.raises(errors.OperatorSuperseded):
            async with database.transaction(TENANT):
                raise AssertionError("it never comes to this")
        await tenants.put_tenant(other, ROW)
        # A second use begins no second term.
        await younger.ensure()
        assert younger.number == 2
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT deleted_at FROM tenants").fetchone() == (None,)


async def test_a_removal_that_comes_late_takes_nothing_from_a_tenant_that_lives_again(
    database: databases.Database, database_urls: DatabaseUrls
) -> None:
    await tenants.put_tenant(database, ROW)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO totals VALUES (%s, 'User', 7)", (TENANT,))
    await tenants.mark_deleted(database, TENANT, NOW)
    await tenants.put_tenant(database, ROW)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await removals.remove_some(database, TENANT, seconds=1)
    assert await removals._remove_batch(database, TENANT, "totals", 10) == 0
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT total FROM totals").fetchone() == (7,)


async def test_a_removal_goes_on_where_the_last_call_ended_and_tells_how_far_it_is(
    database: databases.Database, database_urls: DatabaseUrls
) -> None:
    await tenants.put_tenant(database, ROW)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute(
            "INSERT INTO lookup_values SELECT %s, 'User', 'emails.value', n::text, gen_random_uuid()"
            " FROM generate_series(1, 25) n",
            (TENANT,),
        )
    await tenants.mark_deleted(database, TENANT, NOW)
    told = []
    while progress := await removals.remove_some(database, TENANT, seconds=0, batch=10):
        told.append(str(progress))
    assert told == [
        "step 3 of 11, 15 rows left in lookup_values",
        "step 3 of 11, 5 rows left in lookup_values",
    ]
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM lookup_values, tenants").fetchone() == (0,)
