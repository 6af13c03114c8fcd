"""`usher changes` tells what came in, by which token, when, and what it did; masked unless asked."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import pytest

from usher_core import ids
from usher_core.changes import records
from usher_core.operations import listings
from usher_core.queues import connections, keys
from usher_core.store import databases, histories, inboxes

if TYPE_CHECKING:
    from conftest import Acme, Usher

LABEL = "test/acme"
ADA: dict[str, Any] = {
    "userName": "ada@x.io",
    "externalId": "00u1",
    "active": True,
    "emails": [{"value": "ada@x.io", "type": "work"}],
}

AWAY = "postgresql://usher_app:secret-word@127.0.0.1:1/usher"
PATCHED = [{"op": "replace", "path": 'emails[type eq "work"].value', "value": "ada@home.io"}]


def test_a_list_shows_every_state_newest_first(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    applied, refused = acme.apply(acme.change("create", ada, ADA), acme.change("delete", ids.new_uuid()))
    dead, failed = acme.bury(), acme.bury()
    usher("dead-letters", "discard", failed, "--yes")
    [pending] = acme.queue(acme.change("delete", ada))
    listed = usher.json("changes", "list", "--tenant", LABEL)
    assert [(one["change"], one["state"]) for one in listed if one["operation"] != "discard"] == [
        (str(pending), "pending"),
        (str(failed), "failed"),
        (str(dead), "dead"),
        (str(refused), "refused"),
        (str(applied), "applied"),
    ]
    assert listed[-1]["token"] == {"id": "t1", "name": "okta"}
    assert listed[-1]["status"] == 201
    for state, change in (("dead", dead), ("pending", pending), ("refused", refused)):
        found = usher.json("changes", "list", "--tenant", LABEL, "--state", state)
        assert [one["change"] for one in found] == [str(change)]


def test_a_table_has_a_line_a_change_and_is_not_cut_off(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    [created] = acme.apply(acme.change("create", ada, ADA))
    head, line = usher("changes", "list", "--tenant", LABEL).stdout.splitlines()
    assert head.split()[:3] == ["ACCEPTED", "CHANGE", "STATE"]
    assert str(created) in line
    assert f"User {ada}" in line
    assert "okta" in line


def test_pages_meet_without_a_gap(acme: Acme, usher: Usher) -> None:
    changes = acme.apply(*(acme.change("delete", ids.new_uuid()) for _ in range(5)))
    changes += acme.queue(*(acme.change("delete", ids.new_uuid()) for _ in range(3)))
    seen: list[str] = []
    before: list[object] = []
    for _ in range(3):
        page = usher.json("changes", "list", "--tenant", LABEL, "--limit", 3, *before)
        seen += [one["change"] for one in page]
        before = ["--before", seen[-1]]
    assert usher.json("changes", "list", "--tenant", LABEL, *before) == []
    assert seen == [str(one) for one in reversed(changes)]


def test_a_user_is_found_by_each_of_its_names_and_in_its_groups(acme: Acme, usher: Usher) -> None:
    ada, bob, team = ids.new_uuid(), ids.new_uuid(), ids.new_uuid()
    created, other = acme.apply(
        acme.change("create", ada, ADA),
        acme.change("create", bob, ADA | {"userName": "bob@x.io", "externalId": "00u2"}),
    )
    members = [{"value": str(ada)}]
    [grouped] = acme.apply(
        acme.change("create", team, {"displayName": "T", "members": members}, kind="Group")
    )
    [again] = acme.apply(acme.change("create", ids.new_uuid(), ADA))  # refused: it made nobody
    [deleted] = acme.apply(acme.change("delete", ada))
    [waiting] = acme.queue(acme.change("delete", ada))
    everything = [str(one) for one in (waiting, deleted, again, grouped, created)]
    for name in ("ada@x.io", "ADA@X.IO", "00u1"):
        found = usher.json("changes", "list", "--tenant", LABEL, "--user", name)
        assert [one["change"] for one in found] == everything, name
    by_id = usher.json("changes", "list", "--tenant", LABEL, "--user", ada)
    assert [one["change"] for one in by_id] == [str(one) for one in (waiting, deleted, grouped, created)]
    by_resource = usher.json("changes", "list", "--tenant", LABEL, "--resource", bob)
    assert [one["change"] for one in by_resource] == [str(other)]


def test_time_and_token_select(acme: Acme, usher: Usher) -> None:
    old = acme.change("delete", ids.new_uuid())
    early = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=3)
    [first, second] = acme.apply(
        acme.change("delete", ids.new_uuid(), accepted_at=early),
        acme.change("delete", old.resource_id, token_id="t2"),
    )
    since = ("changes", "list", "--tenant", LABEL)
    assert [one["change"] for one in usher.json(*since, "--since", "2h")] == [str(second)]
    assert [one["change"] for one in usher.json(*since, "--until", "2h")] == [str(first)]
    assert [one["change"] for one in usher.json(*since, "--token", "okta")] == [str(first)]
    wrong = usher(*since, "--token", "okto")
    assert wrong.exit_code == 1
    assert "is it okta?" in str(wrong.exception)


def test_show_tells_what_came_in_and_what_it_did(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    acme.apply(acme.change("create", ada, ADA))
    [patched] = acme.apply(acme.change("patch", ada, PATCHED))
    masked = usher.json("changes", "show", patched)
    path = 'emails[type eq "work"].value'
    assert masked["differences"] == [{"path": path, "before": "•••", "after": "•••"}]
    assert masked["body"] == [{"op": "replace", "path": path, "value": "•••"}]
    assert masked["ageSeconds"] >= 0
    assert masked["position"]
    shown = usher.json("changes", "show", patched, "--reveal")
    assert shown["differences"] == [{"path": path, "before": "ada@x.io", "after": "ada@home.io"}]
    text = usher("changes", "show", patched)
    assert "okta (t1)" in text.stdout
    assert f"~ {path}" in text.stdout
    assert "ada" not in text.stdout
    assert "→" in text.stdout


def test_what_a_group_change_did_names_the_members_that_really_came_and_went(
    acme: Acme, usher: Usher
) -> None:
    ada, bob, team = ids.new_uuid(), ids.new_uuid(), ids.new_uuid()
    acme.apply(acme.change("create", ada, ADA), acme.change("create", bob, {"userName": "bob@x.io"}))
    both = [{"value": str(ada)}, {"value": str(bob)}]
    acme.apply(acme.change("create", team, {"displayName": "T", "members": both[:1]}, kind="Group"))
    add = [{"op": "add", "path": "members", "value": both}]
    [added] = acme.apply(acme.change("patch", team, add, kind="Group"))
    acme.apply(acme.change("delete", ada))
    [cleared] = acme.apply(acme.change("patch", team, [{"op": "remove", "path": "members"}], kind="Group"))
    came = usher.json("changes", "show", added)["differences"]
    assert came == [{"path": "members", "before": None, "after": {"value": str(bob)}}]
    went = usher.json("changes", "show", cleared)["differences"]
    assert went == [{"path": "members", "before": {"value": str(bob)}, "after": None}]


def test_what_was_before_is_not_made_up_when_the_log_is_gone(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    [created] = acme.apply(acme.change("create", ada, ADA))
    [patched] = acme.apply(acme.change("patch", ada, PATCHED))
    with psycopg.connect(acme.urls.admin) as admin:
        admin.execute("DELETE FROM change_log WHERE change_id = %s", (created,))
    shown = usher.json("changes", "show", patched)
    assert shown["differences"] is None
    assert "no longer in the log" in shown["note"]
    assert shown["body"]


def test_show_tells_of_a_waiting_change_and_of_one_that_never_was(acme: Acme, usher: Usher) -> None:
    _, second = acme.queue(acme.change("delete", ids.new_uuid()), acme.change("create", ids.new_uuid(), ADA))
    shown = usher.json("changes", "show", second)
    assert (shown["state"], shown["waitingBefore"]) == ("pending", 1)
    assert "behind 1 others" in usher("changes", "show", second).stdout
    missing = usher("changes", "show", ids.new_uuid())
    assert missing.exit_code == 1
    assert "there is no change" in str(missing.exception)


def test_a_refusal_is_shown_without_what_it_quotes(acme: Acme, usher: Usher) -> None:
    stranger = {"displayName": "T", "members": [{"value": "eve@x.io"}]}
    [refused] = acme.apply(acme.change("create", ids.new_uuid(), stranger, kind="Group"))
    shown = usher.json("changes", "show", refused)
    assert (shown["state"], shown["status"], shown["differences"]) == ("refused", 400, [])
    assert "eve@x.io" not in orjson.dumps(shown).decode()
    assert "eve@x.io" in usher.json("changes", "show", refused, "--reveal")["detail"]


def test_no_tenant_sees_anothers_changes(acme: Acme, usher: Usher) -> None:
    [mine] = acme.apply(acme.change("delete", ids.new_uuid()))
    with psycopg.connect(acme.urls.owner) as owner:
        owner.execute(
            "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'other')", (ids.new_uuid(),)
        )
    assert usher.json("changes", "list", "--tenant", "test/other") == []
    assert usher("changes", "show", mine, "--tenant", "test/other").exit_code == 1
    assert usher.json("changes", "show", mine)["tenant"] == LABEL


@pytest.mark.parametrize(
    ("name", "hint"),
    [("test/acma", "is it test/acme?"), ("acme", "is it test/acme?"), ("x/y", "there is no such tenant")],
)
def test_an_unknown_tenant_is_answered_with_close_ones(usher: Usher, name: str, hint: str) -> None:
    done = usher("changes", "list", "--tenant", name)
    assert done.exit_code == 1
    assert hint in str(done.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("changes", "list", "--tenant", LABEL),
        ("changes", "show", ids.new_uuid()),
        ("queue",),
        ("dead-letters", "list"),
    ],
    ids=lambda words: " ".join(map(str, words[:2])),
)
def test_a_store_that_is_away_is_one_line_and_exit_2(usher: Usher, words: Any) -> None:
    done = usher(*words, USHER_DATABASE_URL=AWAY)
    assert done.exit_code == 2
    assert done.output == "usher: PostgreSQL can't be reached: 127.0.0.1:1/usher (USHER_DATABASE_URL)\n"


def test_without_the_queue_the_log_is_listed_and_the_rest_said(acme: Acme, usher: Usher) -> None:
    [logged] = acme.apply(acme.change("delete", ids.new_uuid()))
    away = "redis://:secret-word@127.0.0.1:1/0"
    done = usher("changes", "list", "--tenant", LABEL, USHER_REDIS_URL=away)
    assert done.exit_code == 0
    assert str(logged) in done.stdout
    assert "Valkey can't be reached" in done.stderr
    assert "secret-word" not in done.output
    pending = usher("changes", "list", "--tenant", LABEL, "--state", "pending", USHER_REDIS_URL=away)
    assert pending.exit_code == 2


def start_follow(usher: Usher, *words: object) -> subprocess.Popen[bytes]:
    code = "from usher_core.operations.commands import changes; changes(prog_name='usher changes')"
    return subprocess.Popen(
        (sys.executable, "-c", code, "follow", "--tenant", LABEL, "--json", *map(str, words)),
        env=os.environ | usher.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_follow_prints_each_change_once_as_it_is_applied(acme: Acme, usher: Usher) -> None:
    acme.apply(acme.change("delete", ids.new_uuid()))  # before it began
    late = acme.change("delete", ids.new_uuid())
    acme.queue(late)  # accepted before, applied after
    following = start_follow(usher)
    assert following.stdout is not None
    assert following.stderr is not None
    try:
        assert following.stderr.readline().startswith(b"Following ")
        expected = [late.change_id]
        printed = []
        for _ in range(4):
            expected += acme.apply(
                acme.change("delete", ids.new_uuid()), acme.change("delete", ids.new_uuid())
            )
            while len(printed) < len(expected):
                printed.append(following.stdout.readline())
    finally:
        following.send_signal(signal.SIGINT)
        out, err = following.communicate(timeout=10)
    assert [orjson.loads(line)["change"] for line in printed] == [str(one) for one in expected]
    assert (following.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("way", ["promised", "waited in its api"])
async def test_follow_loses_nothing_that_was_long_on_its_way(
    acme: Acme, database: databases.Database, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(listings, "POLL", 0.05)
    age = datetime.timedelta(minutes=5) if way == "promised" else datetime.timedelta(seconds=100)
    late = acme.change("delete", ids.new_uuid(), accepted_at=records.now() - age, promised=way == "promised")
    if late.promised:
        await inboxes.accept(database, acme.tenant, late, [])
    selection = histories.Selection(since=histories.BEGINNING, until=histories.BEGINNING)
    begun = asyncio.Event()

    async def follow(count: int) -> list[ids.ChangeId]:
        found = []
        async with connections.connect_async(acme.redis_url) as client:
            async for entry in listings.follow(
                database, client, acme.tenant, selection, seconds=10, on_start=begun.set, on_loss=print
            ):
                found.append(entry.change_id)
                if len(found) == count:
                    break
        return found

    following = asyncio.create_task(follow(3))
    await begun.wait()
    expected = [*acme.apply(acme.change("delete", ids.new_uuid()))]
    await asyncio.sleep(0.3)  # it has looked since
    expected += acme.apply(late)
    expected += acme.apply(acme.change("delete", ids.new_uuid()))
    assert await following == expected


def test_follow_ends_when_its_time_is_up(acme: Acme, usher: Usher) -> None:
    done = usher("changes", "follow", "--tenant", LABEL, "--for", "0.1")
    assert (done.exit_code, done.output) == (0, "Following test/acme; Ctrl-C ends it.\n")


def test_a_change_between_commit_and_removal_is_listed_once(acme: Acme, usher: Usher) -> None:
    change = acme.change("delete", ids.new_uuid())
    acme.apply(change)
    acme.process.redis.xadd(keys.changes(acme.tenant), {"c": change.encode()})
    listed = usher.json("changes", "list", "--tenant", LABEL)
    assert [one["state"] for one in listed] == ["refused"]
