"""The checker finds what it is there to find: each rule in a history made by hand, and on a real Usher with a
fault planted in it. The faults are planted from here alone, by SQL or by an entry point of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import checks
import histories
import psycopg
import pytest
import redis
import runs
import uvloop
from clients import Client
from deployments import Deployment, planted, running, until
from evidences import Event, Evidence, Row
from histories import Attempt, History, Operation
from nemeses import emptied_valkey
from workloads import Workload

from usher_core.queues import keys
from usher_core.testing import stacks

TENANT = "acme"
ADA, BOB, TEAM = "ada", "bob", "team"
SECOND = 1_000_000


class Story:
    """A short history, right in every respect: requests take a second, effects come in its middle."""

    def __init__(self) -> None:
        self.history = History()
        self.evidence = Evidence()
        self.clock = 100
        create = Operation("create_user", name="Ada@x.io", external="e1")
        self.made = self.write(create, 201, ADA, 1, ("create", 1))
        self.write(Operation("create_user", name="bob@x.io"), 201, BOB, 1, ("create", 1))
        self.team = self.write(
            Operation("create_group", name="Team", members=(ADA, BOB)), 201, TEAM, 1, ("create", 1)
        )
        self.seen = self.read(Operation("read_user", ADA), self.ada(1, active=True, groups=[TEAM]))
        self.gone = self.write(Operation("deactivate", ADA), 200, ADA, 2, ("patch", 2), takes=("User", ADA))
        self.late = self.read(Operation("read_user", ADA), self.ada(2, active=False, groups=[TEAM]))
        self.left = self.write(
            Operation("remove_members", TEAM, members=(BOB,)),
            204,
            TEAM,
            2,
            ("patch", 2),
            takes=("Group", BOB),
        )
        self.listed = self.read(Operation("read_group", TEAM), self.group(2, [ADA]))
        self.refused = self.write(Operation("create_user", name="BOB@x.io"), 409, "other", None)
        self.evidence.users = [
            self.ada(2, active=False, groups=[TEAM]),
            {**self.ada(1, active=True, groups=[]), "id": BOB, "name": "bob@x.io", "external": ""},
        ]
        self.evidence.groups = [self.group(2, [ADA])]
        self.evidence.names = {"ada@x.io": ADA, "bob@x.io": BOB}

    @staticmethod
    def ada(version: int, *, active: bool, groups: list[str]) -> dict[str, object]:
        return {
            "id": ADA,
            "version": version,
            "fenced": False,
            "name": "Ada@x.io",
            "external": "e1",
            "title": "",
            "active": active,
            "groups": groups,
        }

    @staticmethod
    def group(version: int, members: list[str]) -> dict[str, object]:
        return {"id": TEAM, "version": version, "fenced": False, "name": "Team", "members": members}

    def read(self, wanted: Operation, *seen: dict[str, object]) -> Attempt:
        return self.ask(wanted, 200, [*seen])

    def ask(self, wanted: Operation, status: int | None, seen: list[dict[str, object]]) -> Attempt:
        attempt = self.history.invoke(TENANT, wanted)
        attempt.sent, attempt.sent_wall = self.clock, self.clock * SECOND
        self.history.complete(attempt, status, seen)
        self.clock += 1
        attempt.ended_wall = self.clock * SECOND
        attempt.ended = self.clock if attempt.is_definite else float("inf")
        self.clock += 1
        return attempt

    def write(
        self,
        wanted: Operation,
        status: int | None,
        about: str,
        version: int | None,
        *told: tuple[str, int],
        takes: tuple[str, str] | None = None,
    ) -> Attempt:
        at = self.clock * SECOND + SECOND // 2
        if takes is not None:
            detail = {"member": takes[1]} if takes[0] == "Group" else None
            self.tell(at - SECOND // 4, "revoke", takes[0], about, None, detail)
        for kind, at_version in told:
            self.tell(at, kind, "", about, at_version)
        operation = {"create": "create", "delete": "delete"}.get(wanted.kind.partition("_")[0], "patch")
        logged = 200 if status == 204 and operation == "patch" else status or 200
        attempt = self.ask(wanted, status, [{"version": version}] if version else [])
        change = self.change
        row = Row(change, attempt.request_id, operation, "", about, f"{at}-0", at, logged, version)
        self.evidence.rows.append(row)
        return attempt

    @property
    def change(self) -> str:
        return f"change-{len(self.history.attempts) - 1}"

    def tell(
        self,
        at: int,
        kind: str,
        of: str,
        about: str,
        version: int | None,
        detail: dict[str, str] | None = None,
    ) -> None:
        number = len(self.evidence.events) + 1
        change = f"change-{len(self.history.attempts)}"
        self.evidence.events.append(Event(number, at, kind, change, of, about, version, detail))

    def row(self, attempt: Attempt) -> Row:
        return next(row for row in self.evidence.rows if row.request_id == attempt.request_id)

    def change_row(self, attempt: Attempt, **values: object) -> None:
        row = self.row(attempt)
        self.evidence.rows[self.evidence.rows.index(row)] = dataclasses.replace(row, **values)  # type: ignore[arg-type]

    def drop_row(self, attempt: Attempt) -> None:
        self.evidence.rows.remove(self.row(attempt))


def judged(story: Story) -> list[checks.Violation]:
    return checks.check(story.history, {TENANT: story.evidence})


def test_a_history_that_is_right_has_no_violation() -> None:
    assert judged(Story()) == []


def lose_an_answered_write(story: Story) -> None:
    story.drop_row(story.refused)


def log_a_write_twice(story: Story) -> None:
    again = dataclasses.replace(story.row(story.refused), change_id="again", applied_at=story.clock * SECOND)
    story.evidence.rows.append(again)


def log_what_nobody_sent(story: Story) -> None:
    story.change_row(story.refused, request_id="r999")


def answer_another_status(story: Story) -> None:
    story.refused.status = 201


def answer_before_it_is_applied(story: Story) -> None:
    story.refused.ended_wall = story.row(story.refused).applied_at - SECOND // 4


def answer_for_a_fault(story: Story) -> None:
    story.refused.status = 500


def answer_without_telling_when(story: Story) -> None:
    story.ask(Operation("create_user", name="eve@x.io"), 503, [])


def show_another_version(story: Story) -> None:
    story.gone.seen = [{"version": 7}]


def show_what_a_change_did_not_make(story: Story) -> None:
    story.gone.seen = [{**Story.ada(2, active=True, groups=[]), "version": 2}]
    del story.gone.seen[0]["fenced"], story.gone.seen[0]["groups"]


def repeat_an_outcome_that_is_over(story: Story) -> None:
    again = story.history.invoke(TENANT, story.made.operation, story.made.number)
    story.history.complete(again, 201, [{"version": 1}])
    again.sent, again.sent_wall = story.clock, story.clock * SECOND
    again.ended, again.ended_wall = story.clock + 1, (story.clock + 1) * SECOND


def log_another_status(story: Story) -> None:
    story.change_row(story.refused, status=404)
    story.refused.status = 404


def log_another_version(story: Story) -> None:
    story.change_row(story.left, version=3)
    story.left.seen = [{"version": 3}]


def lose_a_user(story: Story) -> None:
    del story.evidence.users[0]


def keep_a_member(story: Story) -> None:
    story.evidence.groups[0]["members"] = [ADA, BOB]


def hold_a_name_for_nobody(story: Story) -> None:
    story.evidence.names["eve@x.io"] = "eve"


def apply_in_another_order(story: Story) -> None:
    # Another request was sent and answered long before this one's turn came, which was answered before it.
    at = story.row(story.refused).applied_at
    story.change_row(story.made, applied_at=at + 1, stream_id=f"{at + 1}-0")


def overtake_in_the_stream(story: Story) -> None:
    story.change_row(story.left, stream_id="1-0")


def skip_a_number(story: Story) -> None:
    story.evidence.events[-1] = dataclasses.replace(story.evidence.events[-1], number=99)


def tell_nobody(story: Story) -> None:
    del story.evidence.events[2]
    story.evidence.events[2:] = [
        dataclasses.replace(event, number=event.number - 1) for event in story.evidence.events[2:]
    ]


def tell_twice(story: Story) -> None:
    last = story.evidence.events[-1]
    story.evidence.events.append(dataclasses.replace(last, number=last.number + 1))


def revoke_without_telling(story: Story) -> None:
    found = next(event for event in story.evidence.events if event.kind == "revoke")
    story.evidence.events.remove(found)
    story.evidence.events = [
        dataclasses.replace(event, number=number)
        for number, event in enumerate(story.evidence.events, start=1)
    ]


def revoke_for_nothing(story: Story) -> None:
    story.tell(story.clock * SECOND, "revoke", "User", BOB, None)


def show_access_again(story: Story) -> None:
    story.late.seen = [Story.ada(1, active=True, groups=[TEAM])]


def show_access_that_was_told_as_taken(story: Story) -> None:
    # Sent when the revocation had been told and another had followed: its turn need not have come.
    revoked = next(event for event in story.evidence.events if event.kind == "revoke")
    read = story.history.invoke(TENANT, Operation("read_user", ADA))
    story.history.complete(read, 200, [Story.ada(1, active=True, groups=[TEAM])])
    turn = story.row(story.gone).applied_at
    read.sent_wall, read.ended_wall = turn + SECOND // 10, turn + SECOND // 5
    story.gone.ended_wall = turn + SECOND // 20
    read.sent = read.ended = story.gone.ended - 0.5
    assert revoked.at < read.sent_wall


def show_a_member_again(story: Story) -> None:
    story.listed.seen = [Story.group(1, [ADA, BOB])]


def find_nobody(story: Story) -> None:
    story.read(Operation("find_user", name="ada@x.io"))


def miss_what_is_there(story: Story) -> None:
    story.ask(Operation("read_user", BOB), 404, [])


def miss_what_was_just_made(story: Story) -> None:
    # By the log it may have been made only then; by its answer it was there.
    read = story.ask(Operation("read_user", ADA), 404, [])
    story.made.seen = [{"id": ADA, "version": 1}]
    read.sent, read.ended = story.made.ended + 0.1, story.made.ended + 0.2
    read.sent_wall = read.ended_wall = story.row(story.made).applied_at


def list_nobody(story: Story) -> None:
    story.read(Operation("list_active"))


def refuse_a_reader(story: Story) -> None:
    story.ask(Operation("read_user", BOB), 401, [])


def leave_a_change(story: Story) -> None:
    story.evidence.pending = 1


def leave_a_promise(story: Story) -> None:
    story.evidence.inbox = ["change-9"]


def leave_a_fence(story: Story) -> None:
    story.evidence.fences = ["change-9"]


def bury_what_is_well(story: Story) -> None:
    story.change_row(story.refused, status=500)
    story.evidence.dead_letters = [story.row(story.refused).change_id]
    story.refused.status = 503
    story.refused.seen, story.refused.why = [], "Retry-After: 1"


def keep_a_letter_of_nothing(story: Story) -> None:
    story.evidence.dead_letters = ["change-9"]


def create_eve(story: Story, *, fenced: bool) -> Attempt:
    """Make a user whose answer shows her inactive; with `fenced` because her end was accepted meanwhile."""
    wanted = Operation("create_user", name="eve@x.io")
    attempt = story.write(wanted, 201, "eve", 1, ("create", 1))
    attempt.seen = [
        {"id": "eve", "version": 1, "name": "eve@x.io", "external": "", "title": "", "active": False}
    ]
    if fenced:
        story.write(Operation("deactivate", "eve"), 200, "eve", 2, ("patch", 2), takes=("User", "eve"))
        revoke = next(
            one for one in story.evidence.events if (one.kind, one.resource_id) == ("revoke", "eve")
        )
        story.evidence.events.remove(revoke)
        at = attempt.sent_wall + SECOND * 3 // 4
        story.evidence.events.insert(revoke.number - 1, dataclasses.replace(revoke, at=at))
    eve = {**Story.ada(1 + fenced, active=not fenced, groups=[]), "id": "eve", "name": "eve@x.io"}
    story.evidence.users.append({**eve, "external": ""})
    story.evidence.names["eve@x.io"] = "eve"
    return attempt


def answer_nobody_who_insists(story: Story) -> None:
    story.history.whole_since = story.clock
    attempt = story.ask(Operation("create_user", name="eve@x.io"), 503, [])
    attempt.why = "Retry-After: 1"


def show_inactive_for_nothing(story: Story) -> None:
    create_eve(story, fenced=False)


BAD = (
    ("answers", lose_an_answered_write),
    ("answers", log_a_write_twice),
    ("answers", log_what_nobody_sent),
    ("answers", answer_another_status),
    ("answers", answer_before_it_is_applied),
    ("answers", answer_for_a_fault),
    ("answers", answer_without_telling_when),
    ("answers", show_another_version),
    ("answers", show_what_a_change_did_not_make),
    ("answers", show_inactive_for_nothing),
    ("answers", repeat_an_outcome_that_is_over),
    ("replay", log_another_status),
    ("replay", log_another_version),
    ("replay", lose_a_user),
    ("replay", keep_a_member),
    ("replay", hold_a_name_for_nobody),
    ("real time", apply_in_another_order),
    ("real time", overtake_in_the_stream),
    ("events", skip_a_number),
    ("events", tell_nobody),
    ("events", tell_twice),
    ("events", revoke_without_telling),
    ("events", revoke_for_nothing),
    ("reads", show_access_again),
    ("reads", show_access_that_was_told_as_taken),
    ("reads", show_a_member_again),
    ("reads", find_nobody),
    ("reads", miss_what_is_there),
    ("reads", miss_what_was_just_made),
    ("reads", list_nobody),
    ("reads", refuse_a_reader),
    ("leftovers", leave_a_change),
    ("leftovers", leave_a_promise),
    ("leftovers", leave_a_fence),
    ("dead letters", bury_what_is_well),
    ("dead letters", keep_a_letter_of_nothing),
    ("wishes", answer_nobody_who_insists),
)


@pytest.mark.parametrize(("rule", "spoil"), [pytest.param(*bad, id=bad[1].__name__) for bad in BAD])
def test_each_rule_finds_what_breaks_it(rule: str, spoil: Callable[[Story], None]) -> None:
    story = Story()
    spoil(story)
    assert rule in {violation.rule for violation in judged(story)}


@pytest.mark.parametrize(
    "spoil",
    [show_access_again, show_access_that_was_told_as_taken, show_a_member_again],
    ids=lambda f: f.__name__,
)
def test_access_that_is_seen_again_is_called_so(spoil: Callable[[Story], None]) -> None:
    story = Story()
    spoil(story)
    assert any("ACCESS THAT WAS TAKEN AWAY" in violation.words for violation in judged(story))


def test_an_unknown_write_may_have_happened_or_not() -> None:
    story = Story()
    story.refused.status, story.refused.ended = None, float("inf")
    assert judged(story) == []
    story.drop_row(story.refused)
    assert judged(story) == []


def test_a_retry_may_be_given_the_outcome_of_its_first_try() -> None:
    story = Story()
    wanted = Operation("create_user", name="eve@x.io")
    first = story.write(wanted, None, "eve", 1, ("create", 1))
    story.row(first)
    again = story.history.invoke(TENANT, wanted, first.number)
    story.history.complete(again, 201, [{"version": 1}])
    again.sent, again.sent_wall = story.clock, story.clock * SECOND
    again.ended, again.ended_wall = story.clock + 1, (story.clock + 1) * SECOND
    eve = {**Story.ada(1, active=True, groups=[]), "id": "eve", "name": "eve@x.io", "external": ""}
    story.evidence.rows[-1] = dataclasses.replace(story.evidence.rows[-1], status=201)
    story.evidence.users.append(eve)
    story.evidence.names["eve@x.io"] = "eve"
    assert judged(story) == []


def test_an_answer_told_from_the_log_shows_what_was_taken_away_meanwhile() -> None:
    story = Story()
    create_eve(story, fenced=True)
    assert judged(story) == []


def test_a_history_that_was_written_down_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with path.open("wb") as file:
        history = History(file)
        part = Operation("set_title", ADA, title="t", versions=(1, 2))
        told = history.invoke(TENANT, Operation("bulk", parts=(part,)))
        history.complete(told, 200, [{"status": 200}])
        history.complete(history.invoke(TENANT, Operation("read_user", ADA), 0), 503, why="Retry-After: 1")
        history.invoke(TENANT, Operation("delete_user", ADA))
    assert histories.read(path).attempts == history.attempts


# Faults planted in a real Usher.

Scenario = Callable[[History, Deployment], Awaitable[None]]
FORGETFUL = "ALTER TABLE change_log DROP CONSTRAINT change_log_pkey"
FENCELESS = """
CREATE OR REPLACE VIEW effective_resources WITH (security_invoker = true) AS
SELECT tenant, type, id, version, document, external_id, display_name, created_at, modified_at, folded,
       false AS fenced
  FROM resources;
CREATE OR REPLACE VIEW effective_members WITH (security_invoker = true) AS
SELECT tenant, group_id, member_id, member_type, display, folded FROM members;
"""


def judge(folder: Path, scenario: Scenario, api: tuple[str, ...] = stacks.COMMAND) -> list[checks.Violation]:
    async def run() -> list[checks.Violation]:
        history = History()
        async with running(folder, tenants=1, api=api) as deployment:
            await scenario(history, deployment)
            found = await runs.collect(deployment)
        return checks.check(history, found)

    return uvloop.run(run())


def forget_what_was_applied(deployment: Deployment) -> None:
    """Take away the key of the change log, and the look-up in it."""
    with psycopg.connect(deployment.servers.database.owner) as owner:
        owner.execute(FORGETFUL)
        [(text,)] = owner.execute(
            "SELECT pg_get_functiondef('usher_read_batch(uuid, bigint, jsonb)'::regprocedure)"
        ).fetchall()
        blinded = text.replace("IF p_needs ? 'applied' THEN", "IF false THEN")
        assert blinded != text
        owner.execute(blinded)


async def redeliver(history: History, deployment: Deployment) -> None:
    """Let a worker commit, and Valkey never hear of it: what was applied is taken again. Twice."""
    over = asyncio.Event()
    slow_down(deployment, 0.03)
    async with runs.background(runs.load(history, deployment, "redelivered", over.is_set)) as loading:
        with psycopg.connect(deployment.servers.database.owner, autocommit=True) as owner:

            def logged() -> int:
                [(count,)] = owner.execute("SELECT count(*) FROM change_log").fetchall()
                return int(count)

            async def wait_for_more(changes: int, patience: float = 30) -> None:
                before = logged()
                await until(lambda: logged() > before + changes, patience)

            unheard = 0
            while unheard < 2:
                await wait_for_more(8)
                for pod in deployment.workers:
                    pod.queue.swallow()
                # Its way to PostgreSQL is long, so one is in the middle of it; or nobody had anything to do.
                with contextlib.suppress(TimeoutError):
                    await wait_for_more(0, 1)
                    unheard += 1
                for pod in deployment.workers:
                    pod.queue.cut()
                    pod.queue.heal()
            await wait_for_more(8)
        over.set()
        await loading


def slow_down(deployment: Deployment, delay: float) -> None:
    """Make the workers' way to PostgreSQL long."""
    for pod in deployment.workers:
        pod.database.delay = delay


async def revoke_before_a_slow_worker(history: History, deployment: Deployment) -> None:
    slow_down(deployment, 0.1)
    weights = {"create_user": 10, "activate": 20, "deactivate": 20, "read_user": 50, "list_active": 5}
    end = time.monotonic() + 6
    await runs.load(history, deployment, "fenceless", lambda: time.monotonic() > end, weights)


async def read_what_was_just_made(history: History, deployment: Deployment) -> None:
    slow_down(deployment, 0.1)
    [access] = deployment.tenants
    client = Client(history, str(access.tenant), access.token, deployment.ports, Workload("made"), "made")
    for number in (1, 1, 2, 3):
        made = await client.want(Operation("create_user", name=f"made{number}@x.io", title=f"m{number}"))
        for one in made.seen:
            await client.want(Operation("read_user", one["id"]))
    client.close()


async def lose_what_is_waited_for(history: History, deployment: Deployment) -> None:
    """Empty Valkey while it holds a create that no worker has taken; then let its client insist."""
    [access] = deployment.tenants
    client = Client(history, str(access.tenant), access.token, deployment.ports, Workload("lost"), "lost")
    for pod in deployment.workers:
        pod.queue.swallow()
    asking = asyncio.create_task(client.want(Operation("create_user", name="lost@x.io"), lambda: True))
    with redis.Redis.from_url(deployment.servers.redis_url) as queue:
        await until(lambda: queue.xlen(keys.changes(access.tenant)) == 1, 10)
    async with emptied_valkey(deployment, random.Random()):
        pass
    await asking
    client.close()
    await runs.ask_again(history, deployment, "lost", patience=20)


def test_a_change_that_is_applied_twice_is_found(tmp_path: Path) -> None:
    async def scenario(history: History, deployment: Deployment) -> None:
        forget_what_was_applied(deployment)
        await redeliver(history, deployment)

    violations = judge(tmp_path, scenario)
    assert any("2 rows of one" in one.words for one in violations if one.rule == "answers"), violations[:3]


def test_reads_past_the_fences_are_found(tmp_path: Path) -> None:
    async def scenario(history: History, deployment: Deployment) -> None:
        with psycopg.connect(deployment.servers.database.owner) as owner:
            owner.execute(FENCELESS)
        await revoke_before_a_slow_worker(history, deployment)

    violations = judge(tmp_path, scenario)
    assert any("ACCESS THAT WAS TAKEN AWAY" in one.words for one in violations if one.rule == "reads")
    assert {one.rule for one in violations} == {"reads"}


def test_without_these_faults_the_same_is_right(tmp_path: Path) -> None:
    async def scenario(history: History, deployment: Deployment) -> None:
        await redeliver(history, deployment)
        await revoke_before_a_slow_worker(history, deployment)
        await read_what_was_just_made(history, deployment)
        await lose_what_is_waited_for(history, deployment)

    assert judge(tmp_path, scenario) == []


def test_an_answer_before_the_commit_is_found(tmp_path: Path) -> None:
    violations = judge(tmp_path, read_what_was_just_made, planted("haste"))
    assert {"answers", "reads"} <= {violation.rule for violation in violations}


def test_a_retry_that_waits_for_ever_is_found(tmp_path: Path) -> None:
    violations = judge(tmp_path, lose_what_is_waited_for, planted("hope"))
    assert {one.rule for one in violations} == {"wishes"}
