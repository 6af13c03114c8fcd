"""Passwords are accepted, and there is nothing left of them: not stored, not answered, not logged.

The test has servers of its own, sends passwords in every way that a client may, and then looks for them in
every byte that PostgreSQL, Valkey, the api and the worker have written.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from psycopg.types.json import Jsonb

from usher_core.scim import messages, schemas
from usher_core.store import migrations
from usher_core.testing import servers, stacks

# All that PostgreSQL is asked, with all parameters, stands in its log: what is nowhere there was never sent.
TALKATIVE = {"log_statement": "all", "log_min_duration_statement": "0", "log_parameter_max_length": "-1"}
NOBODY = str(uuid.UUID(int=7))
PASSWORD = "password"
QUALIFIED = f"{schemas.USER}:password"


@dataclasses.dataclass
class Canaries:
    """Words that stand nowhere else; each begins alike, so that one search finds any of them."""

    root: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    ways: list[str] = dataclasses.field(default_factory=list)

    def new(self, way: str) -> str:
        """Make the password that is sent in one way; what JSON and URLs escape is part of it."""
        self.ways.append(way)
        return f'{self.root}{len(self.ways) - 1:03d}"\\é &'

    @property
    def forms(self) -> list[bytes]:
        """What to look for: as text, in UTF-16, in base64 at each alignment, and in hexadecimal."""
        plain = self.root.encode()
        encoded = []
        for offset in range(3):
            text = base64.b64encode(bytes(offset) + plain)
            # Without the characters that also tell of the neighbours.
            encoded.append(text[-(-offset * 8 // 6) : (offset + len(plain)) * 8 // 6])
        return [plain, plain.upper(), self.root.encode("utf-16-le"), *encoded, plain.hex().encode()]

    def found_in(self, data: bytes) -> list[str]:
        """List the ways whose passwords stand in some bytes."""
        numbers = {int(number) for number in re.findall(rb"(?i)%b(\d{3})" % self.root.encode(), data)}
        if numbers:
            return [self.ways[number] for number in sorted(numbers)]
        return ["a way that can't be told"] if any(form in data for form in self.forms) else []


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Servers]:
    with servers.start_servers(tmp_path_factory.mktemp("canary"), TALKATIVE) as started:
        migrations.upgrade(started.database.owner)
        with redis.Redis.from_url(started.redis_url) as valkey:
            valkey.config_set("rdbcompression", "no")  # what is compressed could not be found
        yield started


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary-logs")


@pytest.fixture(scope="module")
def stack(own_servers: servers.Servers, logs: Path) -> Iterator[stacks.Stack]:
    env = {"USHER_LOG_LEVEL": "debug"}
    with stacks.Stack(own_servers.database.app, own_servers.redis_url, logs, env) as started:
        yield started


def patch(*operations: Any) -> dict[str, Any]:
    return {"schemas": [messages.PATCH_OP_SCHEMA], "Operations": list(operations)}


def bulk(*operations: Any) -> dict[str, Any]:
    return {"schemas": [messages.BULK_REQUEST_SCHEMA], "Operations": list(operations)}


def bodies(canaries: Canaries, user: str) -> Iterator[tuple[str, str, str, Any]]:
    """List ways to send a password in a body: what it is called, method, path and body."""

    def with_password(way: str, name: str = PASSWORD, **more: Any) -> dict[str, Any]:
        return {"userName": f"{len(canaries.ways)}@x.io", name: canaries.new(way)} | more

    yield "409", "POST", "/Users", with_password("409", userName="ada@x.io")
    for name in (PASSWORD, "Password", "PASSWORD", QUALIFIED, QUALIFIED.upper()):
        yield f"POST as {name}", "POST", "/Users", with_password(f"POST as {name}", name)
        yield f"PUT as {name}", "PUT", f"/Users/{user}", with_password(f"PUT as {name}", name)
        for op in ("add", "Replace", "remove"):
            way = f"PATCH, {op} {name}"
            yield way, "PATCH", f"/Users/{user}", patch({"op": op, "path": name, "value": canaries.new(way)})
        way = f"PATCH of {name} without a path"
        yield way, "PATCH", f"/Users/{user}", patch({"op": "replace", "value": {name: canaries.new(way)}})
    for way, body in (
        ("in an extension", {schemas.ENTERPRISE_USER: {PASSWORD: canaries.new("in an extension")}}),
        ("in an unknown schema", {"urn:x": {PASSWORD: canaries.new("in an unknown schema")}}),
        ("in a sub-attribute", {"name": {PASSWORD: canaries.new("in a sub-attribute")}}),
        ("misspelt", {"pasword": canaries.new("misspelt")}),
    ):
        yield way, "POST", "/Users", {"userName": f"{len(way)}@nested.io"} | body
    for way, value in (
        ("in a list", [canaries.new("in a list")]),
        ("in an object", {"value": canaries.new("in an object")}),
        ("as a key", {canaries.new("as a key"): 1}),
        ("with a NUL", canaries.new("with a NUL") + "\0"),
    ):
        yield way, "POST", "/Users", {"userName": "malformed@x.io", PASSWORD: value}
        yield way, "PATCH", f"/Users/{user}", patch({"op": "add", "path": PASSWORD, "value": value})
        yield way, "PATCH", f"/Users/{user}", patch({"op": "add", "value": {PASSWORD: value}})
    yield "no userName", "POST", "/Users", {PASSWORD: canaries.new("no userName")}
    yield "PUT of nobody", "PUT", f"/Users/{NOBODY}", with_password("PUT of nobody")
    yield "a group's", "POST", "/Groups", {"displayName": "Team", PASSWORD: canaries.new("a group's")}
    way = "PATCH that fails at its turn"
    yield way, "PATCH", f"/Users/{user}", patch(
        {"op": "add", "path": PASSWORD, "value": canaries.new(way)},
        {"op": "replace", "path": 'emails[not (type eq "a")].value', "value": "a"},
    )  # fmt: skip
    way = "PATCH of nobody"
    yield way, "PATCH", f"/Users/{NOBODY}", patch({"op": "add", "path": PASSWORD, "value": canaries.new(way)})
    way = "PATCH with a filter"
    yield (
        way,
        "PATCH",
        f"/Users/{user}",
        patch({"op": "add", "path": f'password[value eq "{canaries.new(way)}"]'}),
    )
    way = ".search"
    yield way, "POST", "/Users/.search", {"filter": f'password eq "{canaries.new(way)}"'}
    yield "bulk", "POST", "/Bulk", bulk(
        {"method": "POST", "path": "/Users", "bulkId": "a", "data": with_password("POST in a bulk")},
        {"method": "POST", "path": "/Users", "bulkId": "b", "data": {PASSWORD: canaries.new("a bad bulk")}},
        {"method": "PUT", "path": f"/Users/{user}", "data": with_password("PUT in a bulk")},
        {
            "method": "PATCH",
            "path": f"/Users/{user}",
            "data": patch({"op": "add", "path": PASSWORD, "value": canaries.new("PATCH in a bulk")}),
        },
    )  # fmt: skip


def texts(canaries: Canaries) -> Iterator[tuple[str, str, bytes]]:
    """List bodies that are no good: what it is called, the media type, and the bytes."""

    def whole(way: str) -> bytes:
        return json.dumps({"userName": "text@x.io", PASSWORD: canaries.new(way)}).encode()

    yield "cut off", "application/scim+json", whole("cut off")[:-1]
    yield "cut off within", "application/scim+json", whole("cut off within")[:-3]
    yield "more behind it", "application/scim+json", whole("more behind it") + b"}"
    yield "no UTF-8", "application/scim+json", whole("no UTF-8")[:-1] + b',"x":"\xff"}'
    yield "another type", "text/plain", whole("another type")
    form = f"password={canaries.new('a form')}".encode()
    yield "a form", "application/x-www-form-urlencoded", form


def queries(canaries: Canaries, user: str) -> Iterator[tuple[str, dict[str, str]]]:
    """List reads whose parameters hold a password."""
    for filter_ in ('password eq "{}"', 'Password sw "{}"', 'active eq true and (password eq "{}")',
                    'not (password co "{}")', f'{QUALIFIED} eq "{{}}"', "password eq {}"):  # fmt: skip
        yield "/Users", {"filter": filter_.format(canaries.new(f"filter {filter_}"))}
    yield "", {"filter": f'password eq "{canaries.new("filter at the root")}"'}
    yield "/Users", {PASSWORD: canaries.new("parameter of a list")}
    yield f"/Users/{user}", {PASSWORD: canaries.new("parameter of a user"), "attributes": PASSWORD}
    yield "/Users", {"sortBy": PASSWORD, "cursor": canaries.new("cursor")}
    yield "/ServiceProviderConfig", {PASSWORD: canaries.new("parameter of discovery")}


async def send_all(client: httpx.AsyncClient, canaries: Canaries, user: str) -> list[int]:
    """Send every password; what is answered must hold none."""
    statuses = []

    def judge(way: str, answer: httpx.Response) -> None:
        told = answer.content + repr(answer.headers).encode()
        assert canaries.found_in(told) == [], (way, answer.text)
        assert answer.status_code < 500, (way, answer.text)
        statuses.append(answer.status_code)

    for way, method, path, body in bodies(canaries, user):
        judge(way, await client.request(method, path, json=body))
    for way, media_type, data in texts(canaries):
        judge(way, await client.post("/Users", content=data, headers={"Content-Type": media_type}))
    for path, parameters in queries(canaries, user):
        judge(path, await client.get(path, params=parameters))
    later = {"userName": "later@x.io", PASSWORD: canaries.new("respond-async")}
    judge("later", await client.post("/Users", json=later, headers={"Prefer": "respond-async"}))
    unknown = {"Authorization": "Bearer usher_nobody"}
    body = {"userName": "u@x.io", PASSWORD: canaries.new("without a token")}
    judge("no token", await client.post("/Users", json=body, headers=unknown))
    return statuses


def files(*folders: Path) -> dict[Path, bytes]:
    """Read every file, whatever it is; one that is gone meanwhile was another's scratch."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                try:
                    found[path] = path.read_bytes()
                except FileNotFoundError:
                    continue
    return found


def leaks(canaries: Canaries, kept: dict[Path, bytes]) -> dict[str, list[str]]:
    return {path.name: ways for path, data in kept.items() if (ways := canaries.found_in(data))}


def flush(own_servers: servers.Servers) -> None:
    """Let both servers write what they hold into their files."""
    with psycopg.connect(own_servers.database.admin, autocommit=True) as admin:
        admin.execute("CHECKPOINT")
    with redis.Redis.from_url(own_servers.redis_url) as valkey:
        valkey.save()


async def test_of_a_password_nothing_is_left_anywhere(
    own_servers: servers.Servers, stack: stacks.Stack, logs: Path
) -> None:
    passwords, names = Canaries(), Canaries()
    lenient, strict = await stack.make_tenant(), await stack.make_tenant("strict")
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(strict.tenant),))
        app.execute("UPDATE tenants SET config = %s", (Jsonb({"ignore_unknown_attributes": False}),))
    statuses: set[int] = set()
    for tenant in (lenient, strict):
        async with httpx.AsyncClient(base_url=tenant.base_url, headers=tenant.headers, timeout=40) as client:
            request_id = names.new("request id")[:35]
            ada = {"userName": "ada@x.io", "displayName": names.new("display name")}
            made = await client.post("/Users", json=ada, headers={"X-Request-Id": request_id})
            assert made.status_code == 201, made.text
            statuses |= set(await send_all(client, passwords, made.json()["id"]))
    assert {200, 201, 400, 401, 404, 409} <= statuses

    postgres, valkey = own_servers.postgres.data, own_servers.valkey.data
    # The append-only file still has every command; what a snapshot has stands beside it.
    flush(own_servers)
    kept = {"postgres": files(postgres), "valkey": files(valkey), "usher": files(logs)}
    # A look that finds nothing must be one that could: each of these holds what may be kept.
    for name, held in kept.items():
        assert leaks(names, held), name
    data = {path: held for path, held in kept["postgres"].items() if path.name != "server.log"}
    assert leaks(names, data)
    assert any("pg_wal" in path.parts for path in data)
    assert {path.suffix for path in kept["valkey"]} >= {".aof", ".rdb"}
    for name, held in kept.items():
        assert leaks(passwords, held) == {}, name


def test_a_look_for_a_word_finds_it_in_each_form() -> None:
    canaries = Canaries()
    word = canaries.new("here")
    assert canaries.found_in(word.encode()) == ["here"]
    assert canaries.found_in(json.dumps(word).upper().encode()) == ["here"]
    for data in (
        word.encode("utf-16-le"),
        word.encode("utf-16-be"),
        *(base64.b64encode(b"x" * before + word.encode()) for before in range(6)),
        *(base64.urlsafe_b64encode(b"x" * before + word.encode()) for before in range(6)),
        word.encode().hex().encode(),
    ):
        assert canaries.found_in(b"before" + data) == ["a way that can't be told"]
    assert canaries.found_in(uuid.uuid4().hex.encode() * 100) == []
