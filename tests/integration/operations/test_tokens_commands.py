"""Tokens are listed without their text, marked to be rotated, and revoked within a second."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from usher_core.store import databases, tenants
from usher_core.tenants import tokens
from usher_core.testing import stacks

if TYPE_CHECKING:
    from conftest import Acme, Usher

LABEL = "test/acme"


@pytest.fixture
async def issued(acme: Acme) -> dict[str, tokens.IssuedToken]:
    """Two tokens named entra, one after the other, beside the tenant's okta."""
    now = datetime.now(UTC)
    made = {
        "before": tokens.issue("entra", "reader", timedelta(days=90), now - timedelta(days=60)),
        "after": tokens.issue("entra", "reader", timedelta(days=90), now),
    }
    async with databases.Database(acme.urls.app, application="usher-test") as database:
        for one in made.values():
            await tenants.insert_token(database, acme.tenant, one.record)
    return made


def test_a_list_tells_how_each_stands_and_never_its_text(
    acme: Acme, usher: Usher, issued: dict[str, tokens.IssuedToken]
) -> None:
    done = usher("tokens", "list", "--tenant", LABEL)
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["NAME", "ID", "ROLE", "ISSUED", "EXPIRES", "LAST", "USED", "STATE"]
    assert [line.split()[:3] for line in lines] == [
        ["entra", issued["after"].record.token_id, "reader"],
        ["entra", issued["before"].record.token_id, "reader"],
        ["okta", "t1", "administrator"],
    ]
    assert [line.split("  never  ")[1].strip() for line in lines] == [
        "current", "previous, until the next one is used", "current",
    ]  # fmt: skip
    shown = usher.json("tokens", "list", "--tenant", LABEL)
    assert [one["state"] for one in shown] == ["current", "previous", "current"]
    assert set(shown[0]) == {
        "name", "id", "role", "issuedAt", "expiresAt", "lastUsedAt", "state", "endsAt", "awaitsUseOfNext",
        "rotateRequestedAt",
    }  # fmt: skip
    everything = done.output + str(shown)
    for one in issued.values():
        assert one.text not in everything
        assert one.record.digest.hex() not in everything


def test_a_rotation_is_asked_for_the_current_token_once(
    acme: Acme, usher: Usher, issued: dict[str, tokens.IssuedToken]
) -> None:
    [shown] = usher.json("tokens", "rotate", "--tenant", LABEL, "entra", issued["after"].record.token_id)
    assert (shown["id"], shown["state"]) == (issued["after"].record.token_id, "current")
    asking = "SELECT token_id, rotate_requested_at FROM tokens WHERE rotate_requested_at IS NOT NULL"
    [(token_id, at)] = acme.ask(asking)
    assert token_id == issued["after"].record.token_id
    done = usher("tokens", "rotate", "--tenant", LABEL, "entra")
    assert done.stdout.rstrip().endswith("current, rotation requested")
    assert "within five minutes" in done.stderr
    assert acme.ask(asking) == [(token_id, at)]


def test_a_revocation_asks_first_and_takes_every_living_token_of_the_name(
    acme: Acme, usher: Usher, issued: dict[str, tokens.IssuedToken]
) -> None:
    asked = usher("tokens", "revoke", "--tenant", LABEL, "entra")
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert "Revoke these 2 tokens of test/acme for good?" in asked.stderr
    assert acme.ask("SELECT count(*) FROM tokens WHERE revoked_at IS NOT NULL") == [(0,)]
    done = usher.json("tokens", "revoke", "--tenant", LABEL, "entra", "--yes")
    assert [one["state"] for one in done] == ["revoked", "revoked"]
    assert acme.ask("SELECT token_id FROM tokens WHERE revoked_at IS NULL") == [("t1",)]


def test_an_id_revokes_that_one_alone(
    acme: Acme, usher: Usher, issued: dict[str, tokens.IssuedToken]
) -> None:
    usher.json("tokens", "revoke", "--tenant", LABEL, issued["before"].record.token_id, "--yes")
    revoked = acme.ask("SELECT token_id FROM tokens WHERE revoked_at IS NOT NULL")
    assert revoked == [(issued["before"].record.token_id,)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["list", "--tenant", "test/acne"], "no such tenant; is it test/acme?", id="a tenant"),
        pytest.param(["rotate", "--tenant", LABEL, "okt"], "no such token; is it okta?", id="a name"),
        pytest.param(
            ["revoke", "--tenant", LABEL, "entra", "--yes"], "the tenant has no such", id="no token"
        ),
        pytest.param(["revoke", "--tenant", LABEL, "t", "--yes"], "t: the tenant", id="a part of an id"),
        pytest.param(["revoke", "--tenant", LABEL, "t1", "okt", "--yes"], "okt: the tenant", id="one of two"),
    ],
)
def test_a_wrong_name_is_told_and_nothing_done(acme: Acme, usher: Usher, words: list[str], told: str) -> None:
    done = usher("tokens", *words)
    assert done.exit_code == 1
    assert told in str(done.exception)
    changed = "SELECT count(*) FROM tokens WHERE revoked_at IS NOT NULL OR rotate_requested_at IS NOT NULL"
    assert acme.ask(changed) == [(0,)]


def test_a_token_that_has_ended_can_be_neither_rotated_nor_revoked(acme: Acme, usher: Usher) -> None:
    usher.json("tokens", "revoke", "--tenant", LABEL, "okta", "--yes")
    for command in (["rotate"], ["revoke", "--yes"]):
        done = usher("tokens", *command, "--tenant", LABEL, "okta")
        assert (done.exit_code, "okta: no current token" in str(done.exception)) == (1, True)


def test_a_store_that_is_away_is_told(acme: Acme, usher: Usher) -> None:
    away = acme.urls.app.replace("/usher_test", "/nowhere")
    done = usher("tokens", "list", "--tenant", LABEL, USHER_DATABASE_URL=away)
    assert (done.exit_code, "PostgreSQL can't be reached" in done.stderr) == (2, True)


def test_every_api_refuses_a_revoked_token_within_a_second(
    acme: Acme, usher: Usher, issued: dict[str, tokens.IssuedToken], redis_url: str, tmp_path: Path
) -> None:
    acme.ask("UPDATE tenants SET sso_required = false RETURNING 1")
    folders = [tmp_path / "one", tmp_path / "two"]
    apis = [stacks.Stack(acme.urls.app, redis_url, folder) for folder in folders]
    headers = {"Authorization": f"Bearer {issued['after'].text}"}
    try:
        for folder, api in zip(folders, apis, strict=True):
            folder.mkdir()
            api.start_api()
        with httpx.Client(headers=headers) as client:

            def statuses() -> list[int]:
                return [client.get(f"{api.base_url}/Users").status_code for api in apis]

            assert statuses() == [200, 200]
            usher.json("tokens", "revoke", "--tenant", LABEL, "entra", "--yes")
            revoked = time.monotonic()
            while (found := statuses()) != [401, 401]:
                assert time.monotonic() - revoked < 1.5, found  # one second, and the requests' own time
            answer = client.get(f"{apis[0].base_url}/Users")
            assert "the token 'entra' was revoked at" in answer.json()["detail"]
    finally:
        for api in apis:
            api.stop()
