"""Dead letters are seen, retried and discarded; none is lost, and none overtakes unseen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from usher_core import ids
from usher_core.operations import retries
from usher_core.queues import connections, keys
from usher_core.store import databases, dead_letters

if TYPE_CHECKING:
    from conftest import Acme, Usher

LABEL = "test/acme"
ADA: dict[str, Any] = {
    "userName": "ada@x.io",
    "externalId": "00u1",
    "active": True,
    "emails": [{"value": "ada@x.io", "type": "work"}],
}


def letters(acme: Acme) -> list[str]:
    return [str(one) for (one,) in acme.ask("SELECT change_id FROM dead_letters ORDER BY accepted_at")]


def users(acme: Acme) -> list[str]:
    return [one for (one,) in acme.ask("SELECT document ->> 'userName' FROM resources ORDER BY 1")]


def test_a_list_tells_why_how_often_and_when(acme: Acme, usher: Usher) -> None:
    assert usher("dead-letters", "list").stdout == "There is no dead letter.\n"
    dead = acme.bury()
    [shown] = usher.json("dead-letters", "list")
    assert (shown["change"], shown["tenant"], shown["attempts"]) == (str(dead), LABEL, 2)
    assert shown["firstFailedAt"] == shown["lastFailedAt"]
    assert shown["token"]["name"] == "okta"
    assert str(dead) in usher("dead-letters", "list", "--tenant", LABEL).stdout


def test_a_letter_is_shown_without_its_values(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    shown = usher("dead-letters", "show", dead)
    assert "Ada" not in shown.stdout
    assert "Traceback (most recent call last):" in shown.stdout
    assert "patches.py" in shown.stdout
    assert "Ada's nonsense" in usher("dead-letters", "show", dead, "--reveal").stdout
    missing = usher("dead-letters", "show", ids.new_uuid())
    assert (missing.exit_code, "there is no dead letter" in str(missing.exception)) == (1, True)


@pytest.mark.usefixtures("worker")
def test_a_retry_applies_the_content_as_a_new_change_and_removes_the_letter(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    acme.mend(dead, operation="create", body=acme.change("create", ids.new_uuid(), ADA).body)
    done = usher("dead-letters", "retry", dead)
    assert done.exit_code == 0, done.output
    assert (letters(acme), users(acme)) == ([], ["ada@x.io"])
    [retried, first] = usher.json("changes", "list", "--tenant", LABEL)
    assert (first["change"], first["state"]) == (str(dead), "failed")
    assert (retried["state"], retried["requestId"]) == ("applied", f"usher dead-letters retry {dead}")
    assert retried["token"]["name"] == "okta"
    assert retried["change"] in done.stdout


@pytest.mark.usefixtures("worker")
def test_one_that_fails_again_is_still_one_letter_with_all_its_attempts(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "it failed again" in done.stderr) == (1, True)
    [shown] = usher.json("dead-letters", "list")
    assert (shown["change"], shown["attempts"]) == (str(dead), 4)
    assert shown["firstFailedAt"] < shown["lastFailedAt"]


@pytest.mark.usefixtures("worker")
def test_one_that_is_refused_is_kept(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    acme.mend(dead, operation="delete", body=None)
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "refused with 404" in done.stderr) == (1, True)
    assert letters(acme) == [str(dead)]
    acme.mend(dead, operation="create", body=acme.change("create", ids.new_uuid(), ADA).body)
    assert usher("dead-letters", "retry", dead).exit_code == 0, "it may be tried again at once"


@pytest.mark.usefixtures("worker")
def test_one_that_would_overtake_says_so_and_needs_force(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    acme.apply(acme.change("create", ada, ADA))
    dead = acme.bury(ada)
    off = acme.change("patch", ada, [{"op": "replace", "path": "active", "value": True}])
    acme.mend(dead, body=off.body)
    [later] = acme.apply(acme.change("patch", ada, [{"op": "replace", "path": "active", "value": False}]))
    done = usher("dead-letters", "retry", dead)
    assert done.exit_code == 1
    assert "1 later change concerns the same resource" in done.stderr
    assert str(later) in done.stderr
    assert letters(acme) == [str(dead)]
    assert acme.ask("SELECT document -> 'active' FROM resources") == [(False,)]
    assert usher("dead-letters", "retry", dead, "--force").exit_code == 0
    assert acme.ask("SELECT document -> 'active' FROM resources") == [(True,)]


def test_what_waits_in_the_stream_is_overtaken_too(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    dead = acme.bury(ada)
    [waiting] = acme.queue(acme.change("delete", ada))
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, str(waiting) in done.stderr) == (1, True)
    assert acme.process.redis.xlen(keys.changes(acme.tenant)) == 1


@pytest.mark.parametrize("case", ["same name", "group names the user", "member deleted"])
def test_changes_of_others_that_bear_upon_it_count(acme: Acme, usher: Usher, case: str) -> None:
    ada, team = ids.new_uuid(), ids.new_uuid()
    acme.apply(acme.change("create", team, {"displayName": "T"}, kind="Group"))
    if case == "same name":
        dead = acme.bury()
        acme.mend(dead, operation="create", body=acme.change("create", ada, ADA).body)
        acme.apply(acme.change("create", ada, ADA))
    elif case == "group names the user":
        acme.apply(acme.change("create", ada, ADA))
        dead = acme.bury(ada)
        join = [{"op": "add", "path": "members", "value": [{"value": str(ada)}]}]
        acme.apply(acme.change("patch", team, join, kind="Group"))
    else:
        acme.apply(acme.change("create", ada, ADA))
        dead = acme.bury(team, kind="Group")
        join = [{"op": "add", "path": "members", "value": [{"value": str(ada)}]}]
        acme.mend(dead, body=acme.change("patch", team, join, kind="Group").body)
        acme.apply(acme.change("delete", ada))
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "later change" in done.stderr) == (1, True), done.output


def test_changes_of_others_that_do_not_bear_upon_it_do_not_count(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    acme.apply(acme.change("create", ids.new_uuid(), ADA))
    done = usher("dead-letters", "retry", dead, USHER_APPLY_WAIT="0.2")
    assert "was not applied within 0.2 s" in done.stderr
    assert letters(acme) == [str(dead)]


def test_a_retry_whose_command_went_away_is_found_again(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    acme.mend(dead, operation="create", body=acme.change("create", ids.new_uuid(), ADA).body)
    assert usher("dead-letters", "retry", dead, USHER_APPLY_WAIT="0.2").exit_code == 1
    waiting = usher("dead-letters", "retry", dead)
    assert (waiting.exit_code, "waits in the stream already" in waiting.stderr) == (1, True)
    acme.drain()
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "was applied before" in done.stdout) == (0, True)
    assert (letters(acme), users(acme)) == ([], ["ada@x.io"])


@pytest.mark.usefixtures("worker")
async def test_of_two_who_retry_one_at_once_one_applies_it_and_the_other_is_told_the_truth(
    acme: Acme, database: databases.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = acme.bury()
    acme.mend(dead, operation="create", body=acme.change("create", ids.new_uuid(), ADA).body)
    letter = await dead_letters.find(database, [acme.tenant], dead)
    assert letter is not None
    look, both_have_looked = retries._look, asyncio.Barrier(2)

    async def look_together(*args: Any) -> Any:
        found = await look(*args)
        await both_have_looked.wait()
        return found

    monkeypatch.setattr(retries, "_look", look_together)
    async with connections.connect_async(acme.redis_url) as client:
        given = acme.process.settings, database, client, letter
        done = await asyncio.gather(
            *(retries.retry(*given, force=False) for _ in range(2)), return_exceptions=True
        )
    [mine] = [one for one in done if isinstance(one, retries.Retried) and not one.earlier]
    [other] = [one for one in done if one is not mine]
    told = str(other) if isinstance(other, retries.RetryRefused) else repr(other)
    assert str(mine.change_id) in told, "which one it is that applies it"
    assert (letters(acme), users(acme)) == ([], ["ada@x.io"])
    assert acme.ask("SELECT status FROM change_log WHERE operation = 'create'") == [(201,)]


def test_one_that_is_settled_while_another_looks_is_told_to_be_gone(
    acme: Acme, usher: Usher, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = acme.bury()
    look = retries._look

    async def look_slowly(*args: Any) -> Any:
        found = await look(*args)
        acme.ask("DELETE FROM dead_letters RETURNING 1")
        return found

    monkeypatch.setattr(retries, "_look", look_slowly)
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "gone: somebody else retried or discarded it" in done.stderr) == (1, True)
    assert acme.process.redis.xlen(keys.changes(acme.tenant)) == 0


def test_a_retry_that_ended_in_vain_after_its_command_went_away_is_told(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    acme.mend(dead, operation="delete", body=None)
    assert usher("dead-letters", "retry", dead, USHER_APPLY_WAIT="0.2").exit_code == 1
    acme.drain()
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "has just ended with status 404" in done.stderr) == (1, True)
    assert letters(acme) == [str(dead)]


@pytest.mark.usefixtures("worker")
def test_a_revocation_whose_retry_is_refused_stands_until_its_letter_is_discarded(
    acme: Acme, usher: Usher
) -> None:
    ada = ids.new_uuid()
    dead = acme.bury(ada, promised=True, told_later=True)
    assert acme.ask("SELECT kind FROM events") == [("asyncresp",)]
    acme.mend(dead, operation="delete", body=None)
    acme.fence(ada, dead)
    done = usher("dead-letters", "retry", dead)
    assert (done.exit_code, "refused with 404" in done.stderr) == (1, True)
    assert acme.ask("SELECT count(*) FROM fences") == [(1,)]
    assert acme.ask("SELECT kind FROM events") == [("asyncresp",)], "nothing was given back, nobody is told"
    assert usher("dead-letters", "discard", dead, "--yes").exit_code == 0
    assert acme.ask("SELECT count(*) FROM fences") == [(0,)]
    assert acme.ask("SELECT kind FROM events ORDER BY number") == [("asyncresp",), ("unrevoke",)]


def test_what_is_no_change_can_be_seen_and_discarded_but_not_retried(acme: Acme, usher: Usher) -> None:
    acme.process.redis.xadd(keys.changes(acme.tenant), {"c": b"\xff nonsense"})
    acme.drain()
    [dead] = letters(acme)
    retried = usher("dead-letters", "retry", dead)
    assert (retried.exit_code, "it holds no change" in retried.stderr) == (1, True)
    assert "The entry of the stream is no change." in usher("dead-letters", "show", dead).stdout
    assert usher("dead-letters", "discard", dead, "--yes").exit_code == 0
    assert letters(acme) == []


def test_a_discard_asks_first_and_is_in_the_change_log(acme: Acme, usher: Usher) -> None:
    dead = acme.bury()
    assert usher("dead-letters", "discard", dead).exit_code == 1  # nobody answered
    assert letters(acme) == [str(dead)]
    assert usher("dead-letters", "discard", dead, "--yes").exit_code == 0
    assert letters(acme) == []
    [noted, _] = usher.json("changes", "list", "--tenant", LABEL)
    assert noted["operation"] == "discard"
    assert noted["requestId"].startswith("usher dead-letters discard by ")
    assert str(dead) in noted["detail"]
    assert usher.json("changes", "show", noted["change"])["differences"] == []


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("settled", ["retry", "discard --yes"])
def test_with_its_letter_a_revocation_no_longer_stands(acme: Acme, usher: Usher, settled: str) -> None:
    ada = ids.new_uuid()
    acme.apply(acme.change("create", ada, ADA))
    dead = acme.bury(ada)
    acme.mend(dead, operation="delete", body=None)
    acme.fence(ada, dead)
    command, *options = settled.split()
    assert usher("dead-letters", command, dead, *options).exit_code == 0
    assert acme.ask("SELECT count(*) FROM fences") == [(0,)]
    assert users(acme) == ([] if command == "retry" else ["ada@x.io"])


@pytest.mark.usefixtures("worker")
def test_several_are_retried_in_the_order_of_their_acceptance(acme: Acme, usher: Usher) -> None:
    ada = ids.new_uuid()
    first, second = acme.bury(ada), acme.bury(ada)
    acme.mend(first, operation="create", body=acme.change("create", ada, ADA).body)
    title = acme.change("patch", ada, [{"op": "add", "path": "title", "value": "Dr"}])
    acme.mend(second, body=title.body)
    done = usher("dead-letters", "retry", second, first, "--json", "--force")
    assert done.exit_code == 0, done.output
    assert letters(acme) == []
    assert acme.ask("SELECT document ->> 'title' FROM resources") == [("Dr",)]
