"""scim2-tester, a checker of SCIM servers that others have written, finds nothing to complain about."""

from __future__ import annotations

from collections import Counter

import httpx2
import psycopg
import pytest
import pytest_asyncio
import scim2_tester
from psycopg.types.json import Jsonb
from scim2_client.engines.httpx2 import SyncSCIMClient

from usher_core.testing import stacks

# How often each check is made: of some one an attribute, a method, a schema or a resource type.
CHECKS = {
    "service_provider_config_endpoint": 1,
    "service_provider_config_endpoint_methods": 4,
    "query_all_resource_types": 1,
    "query_resource_type_by_id": 2,
    "access_invalid_resource_type": 1,
    "resource_types_schema_validation": 2,
    "resource_types_endpoint_methods": 4,
    "query_all_schemas": 1,
    "access_schema_by_id": 6,
    "access_invalid_schema": 1,
    "schemas_endpoint_methods": 4,
    "random_url": 1,
    "object_creation": 2,
    "object_query": 2,
    "object_query_without_id": 2,
    "object_query_with_attributes": 4,
    "object_list_with_attributes": 4,
    "search_with_attributes": 4,
    "object_replacement": 2,
    "check_add_attribute": 29,
    "check_remove_attribute": 28,
    "check_replace_attribute": 31,
    "object_deletion": 2,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(stack: stacks.Stack) -> stacks.Access:
    """A tenant for all checks; the names that the checker makes up are no email addresses."""
    made = await stack.make_tenant("checked")
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, true)", (str(made.tenant),))
        app.execute("UPDATE tenants SET config = %s", (Jsonb({"user_name_format": "Any"}),))
    return made


@pytest.fixture(scope="module")
def results(access: stacks.Access) -> list[scim2_tester.CheckResult]:
    """What every check found."""
    with httpx2.Client(base_url=access.base_url, headers=access.headers, timeout=40) as http:
        return scim2_tester.check_server(SyncSCIMClient(http))


@pytest.mark.parametrize("title", CHECKS)
def test_a_check_finds_nothing_to_complain_about(results: list[scim2_tester.CheckResult], title: str) -> None:
    made = [one for one in results if one.title == title]
    wrong = [one for one in made if one.status is not scim2_tester.Status.SUCCESS]
    assert not wrong, "\n".join(map(repr, wrong))


def test_every_check_was_made_and_none_skipped(results: list[scim2_tester.CheckResult]) -> None:
    assert Counter(one.title for one in results) == CHECKS
