"""The operator as kopf runs it, against a strict API server and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg
import pytest
from kmock._internal import enums, references, rendering

from usher_core import errors
from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases
from usher_core.tenants import authentications
from usher_core.testing import identity_providers
from usher_operator import processes, vaults

if TYPE_CHECKING:
    from conftest import Cluster, Operator

TENANTS = references.resource("usher.dev", "v1alpha1", "scimtenants")
SECRETS = references.resource("", "v1", "secrets")
EVENTS = references.resource("", "v1", "events")


def tenant(name: str = "acme", **spec: Any) -> dict[str, Any]:
    wanted = {
        "tokens": [{"name": "okta", "secretRef": {"name": f"{name}-scim-okta"}}],
        "sso": {"saml": {"metadataConfigMapRef": {"name": "saml"}}},
    }
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": name},
        "spec": wanted | spec,
    }


def text_in(secret: dict[str, Any] | None, key: str = "token") -> str:
    assert secret is not None
    return base64.b64decode(secret["data"][key]).decode()


def alive(urls: DatabaseUrls) -> list[str]:
    with psycopg.connect(urls.owner) as owner:
        rows = owner.execute(
            "SELECT token_id FROM tokens"
            " WHERE revoked_at IS NULL AND coalesce(valid_until, expires_at) > now()"
        ).fetchall()
    return [row[0] for row in rows]


async def works(database: databases.Database, text: str) -> bool:
    authenticator = authentications.Authenticator(database)
    try:
        await authenticator.authenticate(f"Bearer {text}", "scim.example.com")
    except errors.Unauthenticated:
        return False
    finally:
        await authenticator.close()
    return True


def reasons(cluster: Cluster) -> list[str]:
    return [event["reason"] for event in cluster.all(EVENTS)]


async def test_a_new_tenant_gets_its_secret_and_becomes_ready(
    cluster: Cluster, operator: Operator, database: databases.Database
) -> None:
    made = await cluster.create(TENANTS, tenant())
    status = (await cluster.until_ready())["status"]
    secret = cluster.get(SECRETS, "acme-scim-okta")
    assert secret is not None
    assert await works(database, text_in(secret))
    metadata = secret["metadata"]
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "usher-operator",
        "usher.dev/tenant": "acme",
    }
    assert metadata["ownerReferences"] == [
        {"apiVersion": "usher.dev/v1alpha1", "kind": "ScimTenant", "name": "acme",
         "uid": made["metadata"]["uid"], "controller": True}
    ]  # fmt: skip
    assert metadata["annotations"] == {"checksum.usher.dev/okta": vaults.checksum(text_in(secret))}
    assert set(secret["data"]) == {"token", "base_url", "expires_at"}
    assert text_in(secret, "base_url") == "https://scim.example.com/iam/scim/v2"
    assert text_in(secret, "expires_at") == status["tokens"][0]["expiresAt"]
    assert status["observedGeneration"] == 1
    assert status["endpoint"] == {"url": "https://scim.example.com/iam/scim/v2"}
    (token,) = status["tokens"]
    assert (token["name"], token["id"]) == ("okta", text_in(secret).split("_")[1])
    assert status["tokensExpireAt"] == token["expiresAt"]
    assert (status["users"], status["groups"]) == (0, 0)
    assert {condition["type"]: condition["status"] for condition in status["conditions"]} == {
        "Ready": "True", "SSOReady": "True", "TokensIssued": "True", "EndpointReady": "True",
        "Suspended": "False", "Conflict": "False",
    }  # fmt: skip
    assert set(status) == {
        "observedGeneration",
        "conditions",
        "endpoint",
        "tokens",
        "tokensExpireAt",
        "users",
        "groups",
        "deadLetters",
    }
    await cluster.until(lambda: reasons(cluster) == ["TokenIssued"], "the event")


async def test_a_restart_writes_nothing_and_issues_nothing(
    cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.create(TENANTS, tenant("globex"))
    await cluster.until_ready()
    await cluster.until_ready("globex")
    before = [cluster.get(TENANTS, "acme"), cluster.get(TENANTS, "globex")]
    secrets, tokens = cluster.all(SECRETS), alive(database_urls)
    await operator.stop()
    changes = len(cluster.changes())
    fetched = _fetches(cluster)
    operator.start()
    await cluster.until(lambda: _fetches(cluster) >= fetched + 2, "both were looked at again")
    await asyncio.sleep(1)
    assert cluster.changes()[changes:] == []
    assert [cluster.get(TENANTS, "acme"), cluster.get(TENANTS, "globex")] == before
    assert cluster.all(SECRETS) == secrets
    assert alive(database_urls) == tokens


def _fetches(cluster: Cluster) -> int:
    return sum(
        request.action is enums.action.FETCH and request.resource == SECRETS
        for request in cluster.api._requests
    )


async def test_a_lost_secret_comes_back_by_itself(
    impatient: None, cluster: Cluster, operator: Operator, database: databases.Database
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    old = text_in(cluster.get(SECRETS, "acme-scim-okta"))
    await cluster.delete(SECRETS, "acme-scim-okta")
    await cluster.until(lambda: cluster.get(SECRETS, "acme-scim-okta"), "the timer")
    new = text_in(cluster.get(SECRETS, "acme-scim-okta"))
    assert new != old
    assert await works(database, new)


async def test_a_secret_that_is_not_ours_is_left_alone_and_told(
    cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    foreign = await cluster.create(
        SECRETS, {"metadata": {"name": "acme-scim-okta"}, "data": {"token": "c2VjcmV0"}}
    )
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready(reason="SecretNotOurs")
    issued = cluster.condition("acme", "TokensIssued")
    assert (issued["status"], issued["reason"]) == ("False", "SecretNotOurs")
    assert "acme-scim-okta" in issued["message"]
    assert "secret\n" not in issued["message"]
    assert cluster.get(SECRETS, "acme-scim-okta") == foreign
    assert alive(database_urls) == []
    await cluster.until(lambda: reasons(cluster) == ["SecretNotOurs"], "the event")
    # Somebody makes room, and gives the tenant a nudge.
    await cluster.delete(SECRETS, "acme-scim-okta")
    await cluster.patch(TENANTS, "acme", {"metadata": {"labels": {"nudge": "1"}}})
    await cluster.until_ready()


async def test_a_secret_of_another_tenant_is_not_ours(cluster: Cluster, operator: Operator) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    secret = cluster.get(SECRETS, "acme-scim-okta")
    thief = tenant("globex", tokens=[{"name": "okta", "secretRef": {"name": "acme-scim-okta"}}])
    await cluster.create(TENANTS, thief)
    await cluster.until_ready("globex", "SecretNotOurs")
    assert cluster.get(SECRETS, "acme-scim-okta") == secret


async def test_two_tokens_share_a_secret_and_one_leaves_it(
    cluster: Cluster, operator: Operator, database: databases.Database
) -> None:
    both = [{"name": name, "secretRef": {"name": "shared", "key": name}} for name in ("okta", "entra")]
    await cluster.create(TENANTS, tenant(tokens=both))
    await cluster.until_ready()
    secret = cluster.get(SECRETS, "shared")
    okta, entra = text_in(secret, "okta"), text_in(secret, "entra")
    assert await works(database, okta)
    assert await works(database, entra)
    await cluster.patch(TENANTS, "acme", {"spec": {"tokens": both[:1]}})
    await cluster.until(
        lambda: (
            set((cluster.get(SECRETS, "shared") or {})["data"]) == {"okta", "okta.expires_at", "base_url"}
        ),
        "one token left",
    )
    assert "checksum.usher.dev/entra" not in (cluster.get(SECRETS, "shared") or {})["metadata"]["annotations"]
    assert text_in(cluster.get(SECRETS, "shared"), "okta") == okta
    assert await works(database, okta)
    assert not await works(database, entra)


async def test_a_deleted_tenant_is_out_of_service_and_gone(
    cluster: Cluster, operator: Operator, database: databases.Database
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    text = text_in(cluster.get(SECRETS, "acme-scim-okta"))
    assert (cluster.get(TENANTS, "acme") or {})["metadata"]["finalizers"] == ["usher.dev/operator"]
    await cluster.delete(TENANTS, "acme")
    await cluster.until(lambda: cluster.get(TENANTS, "acme") is None, "it is gone")
    assert cluster.get(SECRETS, "acme-scim-okta") is None
    assert not await works(database, text)


async def test_a_tenant_that_comes_back_is_ready_with_another_token(
    cluster: Cluster, operator: Operator, database: databases.Database
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    old = text_in(cluster.get(SECRETS, "acme-scim-okta"))
    await cluster.delete(TENANTS, "acme")
    await cluster.until(lambda: cluster.get(TENANTS, "acme") is None, "it is gone")
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    new = text_in(cluster.get(SECRETS, "acme-scim-okta"))
    assert await works(database, new)
    assert not await works(database, old)


async def test_a_tenant_that_can_not_be_read_can_be_deleted(
    cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    await cluster.patch(TENANTS, "acme", {"spec": {"colour": "red"}})
    await cluster.until(
        lambda: cluster.condition("acme", "Ready").get("reason") == "SpecInvalid", "SpecInvalid"
    )
    await cluster.delete(TENANTS, "acme")
    await cluster.until(lambda: cluster.get(TENANTS, "acme") is None, "it is gone")
    assert alive(database_urls) == []


async def test_a_spec_that_is_wrong_is_told_and_put_right(cluster: Cluster, operator: Operator) -> None:
    await cluster.create(TENANTS, tenant(sso={"mode": "Required"}))
    told = await cluster.until_ready(reason="SpecInvalid")
    assert "sso.saml must be set" in cluster.condition("acme", "Ready")["message"]
    assert told["status"]["observedGeneration"] == 1
    await cluster.until(lambda: reasons(cluster) == ["SpecInvalid"], "the event")
    await cluster.patch(TENANTS, "acme", {"spec": tenant()["spec"]})
    await cluster.until_ready()


async def test_sso_that_is_not_ready_is_told_and_put_right(cluster: Cluster, operator: Operator) -> None:
    await cluster.create(TENANTS, tenant(sso={"saml": {"metadataSecretRef": {"name": "acme-saml"}}}))
    await cluster.until_ready(reason="MetadataMissing")
    assert cluster.condition("acme", "SSOReady")["status"] == "False"
    assert cluster.condition("acme", "TokensIssued")["status"] == "True"
    metadata = base64.b64encode(identity_providers.metadata().encode()).decode()
    await cluster.create(SECRETS, {"metadata": {"name": "acme-saml"}, "data": {"metadata.xml": metadata}})
    await cluster.patch(TENANTS, "acme", {"metadata": {"labels": {"nudge": "1"}}})
    await cluster.until_ready()


async def test_a_condition_keeps_its_moment_until_it_turns(cluster: Cluster, operator: Operator) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    long_ago = "2020-01-01T00:00:00Z"
    status = (cluster.get(TENANTS, "acme") or {})["status"]
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = long_ago
    await cluster.patch(TENANTS, "acme", {"status": status, "spec": {"suspend": True}})
    await cluster.until_ready(reason="Suspended")
    moved = {c["type"] for c in (cluster.get(TENANTS, "acme") or {})["status"]["conditions"]
             if c["lastTransitionTime"] != long_ago}  # fmt: skip
    assert moved == {"Ready", "Suspended"}


async def test_a_store_that_is_away_is_told_and_waited_for(
    impatient: None, cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    server, _, name = database_urls.admin.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        await cluster.create(TENANTS, tenant())
        await cluster.until_ready(reason="StoreUnavailable")
        assert cluster.condition("acme", "Ready")["status"] == "Unknown"
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())
    await cluster.until_ready()


@pytest.mark.parametrize("status", [403, 409, 500, 503])
@pytest.mark.parametrize("applied", [pytest.param(False, id="refused"), pytest.param(True, id="answer-lost")])
async def test_a_failure_at_the_secret_ends_with_one_token_that_works(
    cluster: Cluster,
    operator: Operator,
    database: databases.Database,
    database_urls: DatabaseUrls,
    impatient: None,
    status: int,
    applied: bool,
) -> None:
    failures = iter([status, status])
    lost = False

    async def fault(request: rendering.Request) -> int | None:
        nonlocal lost
        if request.action is not enums.action.CREATE or request.resource != SECRETS:
            return None
        failure = next(failures, None)
        if failure is not None and applied and not lost:
            lost = True
            await cluster.create(SECRETS, request.data)
        return failure

    cluster.api.faults.append(fault)
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    text = text_in(cluster.get(SECRETS, "acme-scim-okta"))
    assert alive(database_urls) == [text.split("_")[1]]
    assert await works(database, text)


async def test_a_secret_that_changes_under_our_hands_is_looked_at_again(
    impatient: None, cluster: Cluster, operator: Operator
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    touched = False

    async def fault(request: rendering.Request) -> int | None:
        # Between the operator's look and its patch somebody takes the Secret over.
        nonlocal touched
        if request.action is enums.action.UPDATE and request.resource == SECRETS and not touched:
            touched = True
            foreign = {"metadata": {"labels": {"usher.dev/tenant": None}}, "data": {"token": "bWluZQ=="}}
            await cluster.patch(SECRETS, "acme-scim-okta", foreign)
        return None

    cluster.api.faults.append(fault)
    # A broken token makes the operator write a new one.
    await cluster.patch(SECRETS, "acme-scim-okta", {"data": {"token": "YnJva2Vu"}})
    await cluster.patch(TENANTS, "acme", {"metadata": {"labels": {"nudge": "1"}}})
    await cluster.until_ready(reason="SecretNotOurs")
    assert text_in(cluster.get(SECRETS, "acme-scim-okta")) == "mine"


async def test_a_token_is_nowhere_but_in_its_secret(
    cluster: Cluster, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    await cluster.until(lambda: reasons(cluster), "an event")
    secret = text_in(cluster.get(SECRETS, "acme-scim-okta")).split("_")[2]
    encoded = cluster.all(SECRETS)[0]["data"]["token"]
    for place in (json.dumps(cluster.all(TENANTS)), json.dumps(cluster.all(EVENTS)), caplog.text):
        assert secret not in place
        assert encoded not in place
    assert secret not in json.dumps([held["metadata"] for held in cluster.all(SECRETS)])


async def test_no_secret_is_listed_watched_or_annotated_by_kopf(cluster: Cluster, operator: Operator) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    seen = {(request.action, request.resource.plural) for request in cluster.api._requests
            if request.resource is not None and request.action is not None}  # fmt: skip
    assert (enums.action.LIST, "secrets") not in seen
    assert (enums.action.WATCH, "secrets") not in seen
    assert "kopf" not in json.dumps(cluster.all(SECRETS))
    assert "annotations" not in cluster.all(TENANTS)[0]["metadata"]


async def test_an_operator_of_one_namespace_leaves_the_others_alone(
    cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    await operator.stop()
    operator.options = processes.Options(
        database_urls.app, None, ("identity",), operator.options.liveness_port
    )
    operator.start()
    await cluster.create(TENANTS, tenant("other"), "elsewhere")
    await cluster.create(TENANTS, tenant())
    # Nobody told the public URL either.
    await cluster.until_ready(reason="PublicUrlUnknown")
    assert (cluster.get(TENANTS, "other", "elsewhere") or {}).get("status") is None


async def test_health_tells_how_long_the_watch_has_been_silent(cluster: Cluster, operator: Operator) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    url = f"http://127.0.0.1:{operator.options.liveness_port}/healthz"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        assert (await answer.json())["secondsSinceLastEvent"] < 30


async def test_a_cluster_without_the_crd_is_told(cluster: Cluster, database_urls: DatabaseUrls) -> None:
    del cluster.api.resources[TENANTS]
    with pytest.raises(errors.ConfigurationInvalid, match=r"scimtenants\.usher\.dev .* is not installed"):
        await processes.serve(processes.Options(database_urls.app, None, (), 1))
