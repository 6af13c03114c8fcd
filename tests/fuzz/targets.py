"""What is fuzzed: filters, paths, searches, documents and PATCH messages, read as the api reads them.

Writes are of our resource types and of a tenant's own, with an attribute of every form; what they lead to is
as a client could have written it. A target takes bytes and yields the name of each part of the way as it
ends, so that each can be timed. What a client would be answered with an error is caught here; whatever else
comes out is a failure.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
from starlette.datastructures import QueryParams

from usher_api import answers, bulks, policies, reads, representations, requests
from usher_core import errors, ids, settings
from usher_core.changes import bulks as change_bulks
from usher_core.changes import policies as change_policies
from usher_core.changes import records, snapshots
from usher_core.scim import (
    documents,
    evaluations,
    filters,
    patches,
    paths,
    projections,
    registries,
    schemas,
    searches,
)
from usher_core.store import cursors, databases, resources
from usher_core.tenants import configs
from usher_core.testing import stores

T = TypeVar("T")

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
FILE = Path(__file__).parents[1] / "schemas" / "lab.json"
LAB = registries.build(registries.parse({FILE.name: FILE.read_bytes()}), 1)
BADGE = "urn:example:lab:1.0:Badge"
TENANT = ids.TenantId(uuid.UUID(int=7))
NOW = datetime.datetime(2030, 1, 31, tzinfo=datetime.UTC)
BASE = "https://scim.example/iam/scim/v2"
READS = reads.Reads(
    settings.Settings(database_url="postgresql://", redis_url="redis://"),
    cast("databases.Database", None),  # nothing is asked of it
    REGISTRY,
    cursors.Keys(),
    TENANT,
    BASE,
)
LENIENT = configs.TenantConfig(user_name_format="Any")
STRICT = configs.TenantConfig(pathless_patch=False, ignore_unknown_attributes=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One kind of input; `most` is the size in bytes up to which inputs are made up."""

    name: str
    form: str
    most: int
    run: Callable[[bytes], Iterator[str]]


def attempt(do: Callable[[], T]) -> T | None:
    """Do what a request does; an answer below 500 is as good as any."""
    try:
        return do()
    except errors.ScimError as exc:
        refusal = exc
    answers.error_body(refusal.status, refusal.scim_type, refusal.detail)
    if refusal.status >= 500:
        raise AssertionError(f"answered {refusal.status}: {refusal.detail}")
    return None


def text_of(data: bytes) -> str:
    # Bytes that are no UTF-8 become lone surrogates, which JSON's escapes could bring.
    return data.decode("utf-8", "surrogateescape")


# Reading


def _query(kinds: Sequence[schemas.ResourceType], search: searches.Search) -> None:
    presenters = {kind.name: READS._presenter(kind, search) for kind in kinds}
    READS._query(kinds, search, presenters)
    if search.cursor:
        cursors.read(b"k", b"q", search.cursor, NOW)


def run_filter(data: bytes) -> Iterator[str]:
    text = text_of(data)
    for kinds in ((USER,), (GROUP,), (USER, GROUP)):
        attempt(lambda kinds=kinds: _query(kinds, searches.Search(filter=text)))
        yield f"select {'/'.join(kind.endpoint for kind in kinds)}"
    wanted = attempt(lambda: filters.parse(text, USER))
    yield "parse"
    if wanted is not None:
        evaluations.matches(wanted, ADA.document)
        yield "evaluate"


def run_search(data: bytes) -> Iterator[str]:
    for kinds in ((USER,), (USER, GROUP)):
        attempt(lambda kinds=kinds: _query(kinds, searches.from_parameters(QueryParams(data))))
        yield "query"
        attempt(lambda kinds=kinds: _query(kinds, searches.from_message(requests.read_json(data))))
        yield "message"


# Writing


def _stored(kind: schemas.ResourceType, number: int, body: dict[str, Any]) -> snapshots.Stored:
    document, _ = documents.split_members(kind, documents.normalise(kind, body))
    document = documents.with_active(kind, document)
    return snapshots.Stored(kind.name, ids.ResourceId(uuid.UUID(int=number)), 1, document, NOW, NOW)


ADA = _stored(
    USER,
    1,
    {
        "userName": "ada@x.io",
        "externalId": "e",
        "active": False,
        "title": "T",
        "name": {"givenName": "Ada", "familyName": "L"},
        "emails": [
            {"value": "ada@x.io", "type": "work", "primary": True},
            {"value": "a@h.org", "type": "home"},
        ],
        "roles": ["r"],
        "addresses": [{"type": "work", "formatted": "f"}],
        schemas.ENTERPRISE_USER: {"employeeNumber": "1", "manager": {"value": "m"}},
    },
)
TEAM = _stored(GROUP, 2, {"displayName": "Team"})
FULL = {
    "level": 1,
    "page": "https://x.io/a",
    "seal": "s",
    "tags": ["a", "b"],
    "chip": {"code": "c", "label": "l", "tags": ["a"]},
    "deputy": {"value": "d", "$ref": "https://h/Users/d"},
    "keys": [{"value": "k", "type": "work", "primary": True, "tags": ["a"]}, {"value": "l", "type": "home"}],
}
EVE = _stored(LAB.by_name("User"), 1, {"userName": "eve@x.io", "addresses": [{"type": "work"}], BADGE: FULL})
FLASK = _stored(
    LAB.by_name("Sample"),
    2,
    {
        "displayName": "Flask",
        "serial": 7,
        "rooms": ["a"],
        "rack": {"value": "r", "type": "work", "tags": ["a"]},
        "doses": [{"value": "d", "type": "work", "given": "2030-01-31T23:59:59Z", "batches": ["b"]}],
        "slots": [{"place": "p", "level": 1, "tags": ["a"]}, {"page": "https://x.io/a"}],
        BADGE: FULL,
    },
)
NEW = ids.ResourceId(uuid.UUID(int=3))
POLICY = change_policies.Policy(email_names=False)
DIRECTORIES = (
    stores.Store(REGISTRY, POLICY, {ADA.id: ADA, TEAM.id: TEAM}, {TEAM.id: {}}),
    stores.Store(LAB, POLICY, {EVE.id: EVE, FLASK.id: FLASK}),
)


def _subjects() -> Iterator[tuple[str, stores.Store, schemas.ResourceType, snapshots.Stored]]:
    """List what is written to: what to call it, where it is, its type, and what there is of it."""
    for directory in DIRECTORIES:
        for held in directory.resources.values():
            name = held.type if directory.registry is REGISTRY else f"{held.type} of a tenant's own"
            yield name, directory, directory.registry.by_name(held.type), held


def _apply(
    before: stores.Store,
    kind: schemas.ResourceType,
    operation: records.Operation,
    target: ids.ResourceId,
    body: Any,
) -> None:
    """Let a change travel, be applied and be answered."""
    change = records.Change(
        ids.ChangeId(uuid.UUID(int=9)), NOW, operation, kind.name, target, body, None, "t", "r", "",
        schemas_version=before.registry.version,
    )  # fmt: skip
    directory = before.copy()
    [outcome] = directory.apply([records.Change.decode(change.encode())], NOW)
    assert outcome.status < 500, outcome
    back = records.Outcome.decode(outcome.encode())
    if back.document is not None:
        stored = directory.resources[back.resource_id or target]
        assert documents.normalise(kind, stored.document) == stored.document
        projection = projections.parse(None, None, kind)
        presenter = representations.Presenter(directory.registry, kind, BASE, projection)
        orjson.dumps(presenter.represent(resources.Resource(stored, None, None)))


def run_document(data: bytes) -> Iterator[str]:
    for name, directory, kind, held in _subjects():
        for config, operation in ((STRICT, "replace"), (LENIENT, "create"), (LENIENT, "replace")):
            read = attempt(
                lambda kind=kind, config=config, operation=operation: policies.read_document(
                    config, kind, requests.read_json(data), is_new=operation == "create"
                )
            )
            yield f"read a {name}"
            if read is not None:
                _apply(directory, kind, operation, NEW if operation == "create" else held.id, read)
                yield f"apply the {operation} of a {name}"


def run_patch(data: bytes) -> Iterator[str]:
    for name, directory, kind, held in _subjects():
        for config in (STRICT, LENIENT):
            read = attempt(
                lambda kind=kind, config=config: policies.read_patch(config, kind, requests.read_json(data))
            )
            yield f"read a PATCH of a {name}"
            if read is not None:
                _apply(directory, kind, "patch", held.id, patches.dump(read))
                yield f"apply a PATCH of a {name}"


def run_path(data: bytes) -> Iterator[str]:
    text = text_of(data)
    for kind in (USER, GROUP):
        path = attempt(lambda kind=kind: paths.parse(text, kind))
        yield "parse"
        if path is not None:
            assert paths.parse(path.text, kind) == path
            yield "parse again"
    for name, directory, kind, held in _subjects():
        for op in ("add", "replace", "remove"):
            message = {"Operations": [{"op": op, "path": text, "value": "a"}]}
            read = attempt(lambda kind=kind, message=message: patches.parse(message, kind))
            if read is not None:
                _apply(directory, kind, "patch", held.id, patches.dump(read))
            yield f"{op} of a {name}"


def run_bulk(data: bytes) -> Iterator[str]:
    desk = bulks.Bulks(REGISTRY, LENIENT, BASE)
    body = attempt(lambda: requests.read_json(data))
    yield "read the JSON of a bulk"
    reading = desk.read(body, token_id="t", request_id="r", max_operations=1000)
    prepared = None
    while True:
        # As the event loop does: between two steps others have their turn.
        try:
            attempt(lambda: reading.send(None))
        except StopIteration as done:
            prepared = done.value
            break
        yield "read a bulk, for a turn"
        if inspect.getcoroutinestate(reading) == inspect.CORO_CLOSED:
            return  # it was refused
    yield "read a bulk, the last turn"
    change = records.Change.decode(prepared.change.encode())
    assert change_bulks.unpack(change).steps == prepared.bulk.steps
    yield "apply: unpack a bulk"


TARGETS = {
    target.name: target
    for target in (
        Target("filter", "text", 16_384, run_filter),
        Target("path", "text", 16_384, run_path),
        Target("search", "query", 16_384, run_search),
        Target("document", "json", 65_536, run_document),
        Target("patch", "json", 65_536, run_patch),
        Target("bulk", "bulk", 65_536, run_bulk),
    )
}
