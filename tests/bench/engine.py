"""The protocol engine against scim2-models on the same documents: `make bench`.

One thread, in turns, the median of several rounds; figures in microseconds, written to `build/bench.json`
beside the others. What is compared, each from and to plain JSON values:

- `validate_user_us`: an Okta user with enterprise data, as it comes in a POST;
- `serialise_user_us`: the stored user as it goes out, with its meta;
- `list_100_us`: a page of a hundred of them as bytes;
- `patch_member_us`: one member added to a group of 10,000, from the PATCH's body to the result.
"""

from __future__ import annotations

import datetime
import json
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

import load
import orjson
import reports
from rich.console import Console
from rich.table import Table
from scim2_models import Context, EnterpriseUser, Group, ListResponse, PatchOp, User

from usher_api import representations
from usher_core import ids
from usher_core.changes import records, snapshots, units
from usher_core.scim import documents, messages, patches, projections, schemas
from usher_core.store import resources

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
BASE = "https://scim.example.com/iam/scim/v2"
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
GOALS = {"validate_user_us": 3, "serialise_user_us": 3, "list_100_us": 5, "patch_member_us": 10}
MEMBERS = 10_000

Subject = tuple[Callable[[], Any], Callable[[], Any]]


def user_body() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(load.BODY % {"n": "ada"})
    return body


def subjects() -> dict[str, Subject]:
    """What is timed: ours and scim2-models', by the name of the figure."""
    body = user_body()
    full_user = User[EnterpriseUser]

    stored = snapshots.Stored(
        "User", ids.ResourceId(uuid.uuid4()), 1, documents.normalise(USER, body), NOW, NOW
    )
    resource = resources.Resource(stored, None, None)
    presenter = representations.Presenter(REGISTRY, USER, BASE, projections.parse(None, None, USER))
    shown = presenter.represent(resource)
    page = [resource] * 100
    theirs = full_user.model_validate(shown)
    their_page = ListResponse[full_user](  # type: ignore[valid-type]
        total_results=100, start_index=1, items_per_page=100, resources=[theirs] * 100
    )

    def dump_theirs(value: Any) -> Any:
        return value.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)

    return {
        "validate_user_us": (
            lambda: documents.normalise(USER, body),
            lambda: full_user.model_validate(body, scim_ctx=Context.RESOURCE_CREATION_REQUEST),
        ),
        "serialise_user_us": (lambda: presenter.represent(resource), lambda: dump_theirs(theirs)),
        "list_100_us": (
            lambda: orjson.dumps(messages.list_response([presenter.represent(one) for one in page], 100, 1)),
            lambda: orjson.dumps(dump_theirs(their_page)),
        ),
        "patch_member_us": member_subjects(),
    }


def member_subjects() -> Subject:
    present = [str(uuid.UUID(int=number)) for number in range(1, MEMBERS + 1)]
    fresh = ids.ResourceId(uuid.UUID(int=MEMBERS + 1))
    body = {
        "schemas": [messages.PATCH_OP_SCHEMA],
        "Operations": [{"op": "add", "path": "members", "value": [{"value": str(fresh)}]}],
    }
    group_id = ids.ResourceId(uuid.uuid4())
    header = snapshots.Stored("Group", group_id, 1, {"schemas": [], "displayName": "G"}, NOW, NOW)

    def ours() -> Any:
        # The group's members are rows: neither the document nor the unit of work holds them.
        operations = patches.dump(patches.parse(body, GROUP))
        change = records.Change(
            ids.ChangeId(fresh), NOW, "patch", "Group", group_id, operations, None, "t", "r", ""
        )
        needs = snapshots.Needs()
        snapshots.ask(needs, REGISTRY, change)
        snapshot = snapshots.Snapshot(NOW, resources={group_id: header}, targets={fresh: "User"})
        unit = units.Unit(REGISTRY, snapshot)
        outcome = unit.apply(change)
        assert outcome.status == 200, outcome
        return unit.writes()

    group = Group.model_validate(
        {"displayName": "G", "members": [{"value": one, "type": "User"} for one in present]}
    )

    def theirs() -> Any:
        operation = PatchOp[Group].model_validate(body, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
        operation.patch(group)
        group.members.pop()  # type: ignore[union-attr]

    return ours, theirs


def microseconds(work: Callable[[], Any], at_least: float) -> float:
    """Time one call, over as many as fill `at_least` seconds."""
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < at_least:
        work()
        calls += 1
    return elapsed / calls * 1e6


def measure(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, (ours, theirs) in subjects().items():
        ours(), theirs()  # compile what is compiled at first use
        pairs = [(microseconds(ours, seconds), microseconds(theirs, seconds)) for _ in range(rounds)]
        times_as_fast = round(statistics.median(other / one for one, other in pairs), 1)
        found[name] = {
            "usher": round(statistics.median(one for one, _ in pairs), 2),
            "scim2_models": round(statistics.median(other for _, other in pairs), 2),
            "times_as_fast": times_as_fast,
            "goal": GOALS[name],
            "met": times_as_fast >= GOALS[name],
        }
    return found


def show(found: dict[str, dict[str, float]]) -> None:
    table = Table(title="The engine against scim2-models, one thread")
    for column in ("what", "Usher, us", "scim2-models, us", "times as fast", "goal", "met"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, row in found.items():
        figures = f"{row['usher']:.1f}", f"{row['scim2_models']:.1f}", f"{row['times_as_fast']:.1f}"
        table.add_row(name, *figures, str(row["goal"]), "yes" if row["met"] else "NO")
    Console(width=100).print(table)


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one timing (default 0.3)")
    args = parser.parse_args()
    found = measure(args.rounds, args.seconds)
    show(found)
    reports.write(found, args.out)


if __name__ == "__main__":
    main()
