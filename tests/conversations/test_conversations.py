"""Each identity provider is answered as it must be, and the directory ends as it said.

README.md tells the form of the files. The requests go out by http.client, which leaves paths and headers as
they are written.
"""

from __future__ import annotations

import functools
import http.client
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.types.json import Jsonb

from usher_core.testing import stacks

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
PATIENCE = 5.0  # seconds: Keycloak's plugins wait no longer
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
NAME = re.compile(r"<([a-z][a-z ]*)>")
ABSENT, ANY = "<absent>", "<any>"
PART = re.compile(r"<\.\.\.(.+)\.\.\.>")


class Loader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict[str, Any]:
    conversation: dict[str, Any] = yaml.load(path.read_text(), Loader)
    return conversation


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """List where what was found lacks something that is wanted."""
    match wanted:
        case _ if wanted == ABSENT:
            return [f"{where} is there: {found!r}"]
        case _ if wanted == ANY:
            return []
        case str() if part := PART.fullmatch(wanted):
            is_there = isinstance(found, str) and part[1] in found
            return [] if is_there else [f"{where}: {part[1]!r} is not in {found!r}"]
        case dict() if isinstance(found, dict):
            listed = []
            for key, value in wanted.items():
                if key in found:
                    listed += differences(found[key], value, f"{where}/{key}")
                elif value != ABSENT:
                    listed.append(f"{where}/{key} is not there")
            return listed
        case list() if isinstance(found, list) and len(found) == len(wanted):
            pairs = enumerate(zip(found, wanted, strict=True))
            return [one for index, pair in pairs for one in differences(*pair, f"{where}/{index}")]
        case _:
            # True == 1 in Python, not on the wire.
            same = found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
            return [] if same else [f"{where}: {found!r} instead of {wanted!r}"]


def at(document: Any, pointer: str) -> str:
    """Read the value that a JSON pointer (RFC 6901) names."""
    return str(functools.reduce(lambda held, key: held[key], pointer.split("/")[1:], document))


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text) if self.text else None


@dataclass
class Provider:
    """One identity provider, on one connection; `names` are what it has kept of the answers."""

    access: stacks.Access
    port: int
    headers: list[str]
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.names |= {"token": self.access.token, "base": self.access.base_url, "any": ANY, "absent": ABSENT}

    def close(self) -> None:
        self._connection.close()

    def filled(self, value: Any) -> Any:
        """Put the kept values in the place of their names."""
        match value:
            case str():
                return NAME.sub(lambda name: self.names[name[1]], value)
            case list():
                return [self.filled(item) for item in value]
            case dict():
                return {self.filled(key): self.filled(item) for key, item in value.items()}
            case _:
                return value

    def send(self, request: str, headers: list[str] | None = None, body: str | None = None) -> Answer:
        method, path = self.filled(request).split(" ", 1)
        self._connection.putrequest(method, f"/iam/scim/v2{path}", skip_host=True, skip_accept_encoding=True)
        self._connection.putheader("Host", f"127.0.0.1:{self.port}")
        for header in self.headers if headers is None else headers:
            name, _, value = self.filled(header).partition(": ")
            self._connection.putheader(name, value)
        content = None if body is None else self.filled(body).encode()
        if content is not None:
            self._connection.putheader("Content-Length", str(len(content)))
        self._connection.endheaders(content)
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read().decode())

    def take(self, step: dict[str, Any]) -> None:
        """Send one step and insist on its answer."""
        started = time.monotonic()
        answer = self.send(step["send"], step.get("headers"), step.get("body"))
        took = time.monotonic() - started
        told = f"{step['does']}: {step['send']} was answered {answer.status} {answer.text[:2000]}"
        assert answer.status == step["status"], told
        found = differences(answer.body, self.filled(step.get("answer", {}))) if "answer" in step else []
        found += differences(answer.headers, step.get("answer_headers", {}), "header ")
        assert not found, f"{told}\n" + "\n".join(found)
        self._insist_on_manners(answer, step.get("headers") or self.headers, told)
        assert took < PATIENCE, told
        self.names |= {name: at(answer.body, pointer) for name, pointer in step.get("keep", {}).items()}

    def _insist_on_manners(self, answer: Answer, headers: list[str], told: str) -> None:
        plain = any(header.lower() == "accept: application/json" for header in headers)
        if answer.text:
            wanted = "application/json" if plain else "application/scim+json"
            assert answer.headers["content-type"] == wanted, told
            assert answer.headers["content-length"] == str(len(answer.text.encode())), told
        for secret in ('"password":', "kN0w", self.access.token):
            assert secret not in answer.text, told
        if answer.status == 201:
            assert answer.body["schemas"], told
            assert isinstance(answer.body["id"], str), told
            assert answer.headers["location"] == answer.body["meta"]["location"], told
        if answer.status >= 400:
            assert answer.body["schemas"] == [ERROR], told
            assert answer.body["status"] == str(answer.status), told
            assert answer.body["detail"], told

    def everything(self, endpoint: str) -> list[dict[str, Any]]:
        """Read all resources, page by page."""
        listed: list[dict[str, Any]] = []
        while True:
            page = self.send(f"GET /{endpoint}?startIndex={len(listed) + 1}&count=3").body
            listed += page["Resources"]
            if not page["Resources"]:
                assert len(listed) == page["totalResults"]
                return listed


def directory_differences(provider: Provider, wanted: dict[str, Any]) -> list[str]:
    """Compare the directory with what must stand in the end, and its two views with each other."""
    users, groups = provider.everything("Users"), provider.everything("Groups")
    names = {user["id"]: user["userName"] for user in users} | {g["id"]: g["displayName"] for g in groups}
    memberships = {(group["id"], member["value"]) for group in groups for member in group.get("members", [])}
    seen = {(group["value"], user["id"]) for user in users for group in user.get("groups", [])}
    of_users = {one for one in memberships if one[1] in {user["id"] for user in users}}
    found = [] if seen == of_users else [f"the users' groups: {seen} instead of {of_users}"]
    for group in groups:
        group["members"] = sorted(names[member] for owner, member in memberships if owner == group["id"])
    for kind, listed, key in (("users", users, "userName"), ("groups", groups, "displayName")):
        by_name = {one[key]: one for one in listed}
        if len(by_name) != len(listed) or by_name.keys() != wanted[kind].keys():
            found.append(f"{kind}: {sorted(one[key] for one in listed)}")
        found += differences(by_name, wanted[kind], kind)
    return found


def configure(stack: stacks.Stack, access: stacks.Access, config: dict[str, Any]) -> None:
    """Give the tenant its configuration, before its first request."""
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, true)", (str(access.tenant),))
        app.execute("UPDATE tenants SET config = %s", (Jsonb(config),))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_provider_is_answered_and_its_directory_kept(
    stack: stacks.Stack, acme: stacks.Access, path: Path
) -> None:
    conversation = load(path)
    configure(stack, acme, conversation.get("tenant", {}))
    provider = Provider(acme, stack.port, conversation["headers"])
    try:
        for step in conversation["steps"]:
            provider.take(step)
        found = directory_differences(provider, provider.filled(conversation["directory"]))
    finally:
        provider.close()
    assert not found, "\n".join(found)


KEYS = {"does", "send", "headers", "body", "status", "answer", "answer_headers", "keep"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_nothing_that_is_not_read(path: Path) -> None:
    conversation = load(path)
    assert conversation.keys() - {"tenant"} == {"provider", "headers", "steps", "directory"}
    assert conversation["directory"].keys() == {"users", "groups"}
    told = [step["does"] for step in conversation["steps"]]
    assert len(told) == len(set(told)), "two steps have one name"
    for step in conversation["steps"]:
        assert not step.keys() - KEYS, step
        assert {"does", "send", "status"} <= step.keys(), step


@pytest.mark.parametrize(
    ("found", "wanted", "told"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, 0, id="more than wanted is fine"),
        pytest.param({"a": 1}, {"a": True}, 1, id="a number is no boolean"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, 1, id="a list matches whole"),
        pytest.param({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, 0, id="its elements match in part"),
        pytest.param({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 3}, {"b": 4}]}, 2, id="each one is told"),
        pytest.param({"a": 1}, {"a": ABSENT}, 1, id="there though it must not be"),
        pytest.param({}, {"a": ABSENT}, 0, id="not there as it must not be"),
        pytest.param({}, {"a": ANY}, 1, id="nothing where anything would do"),
        pytest.param({"a": "xyz"}, {"a": "<...y...>"}, 0, id="a part"),
        pytest.param({"a": "xyz"}, {"a": "<...q...>"}, 1, id="no such part"),
        pytest.param(None, {"a": 1}, 1, id="no body"),
    ],
)
def test_what_is_not_as_wanted_is_told(found: Any, wanted: Any, told: int) -> None:
    assert len(differences(found, wanted)) == told
