"""A Kubernetes API in memory that is strict where kmock is lenient, and the real operator against it.

What a real API server does and kmock 0.8 does not: uid, resourceVersion, generation; 409 for a stale version
or a wrong precondition; 422 for a JSON patch whose test fails; the status kept apart; and nothing allowed to
the operator but the chart's rights.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copy
import dataclasses
import datetime
import json
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp.web
import attrs
import jsonpatch
import kmock
import pytest
import yaml
from kmock._internal import enums, k8s, references, rendering

from usher_core.embedded.databases import DatabaseUrls
from usher_core.testing import identity_providers
from usher_operator import paces, processes, statistics, status_writes

TENANTS = references.resource("usher.dev", "v1alpha1", "scimtenants")
SECRETS = references.resource("", "v1", "secrets")
CONFIG_MAPS = references.resource("", "v1", "configmaps")
EVENTS = references.resource("", "v1", "events")
LEASES = references.resource("coordination.k8s.io", "v1", "leases")
CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"

# The rights that the chart gives to the operator.
RIGHTS = {
    TENANTS: {"LIST", "WATCH", "UPDATE"},
    SECRETS: {"FETCH", "CREATE", "UPDATE", "DELETE"},
    CONFIG_MAPS: {"FETCH"},
    EVENTS: {"CREATE"},
    LEASES: {"FETCH", "CREATE", "UPDATE"},
}

METADATA = identity_providers.metadata()


class Refused(Exception):
    """The API server's answer to a request that can't be."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@attrs.define(kw_only=True)
class StrictKubernetes(k8s.KubernetesEmulator):
    """kmock's emulator with the rules of a real API server."""

    forbidden: list[str] = attrs.field(factory=list)
    faults: list[Callable[[rendering.Request], Awaitable[int | None]]] = attrs.field(factory=list)
    retry_after: int = 1
    _version: int = 0
    _log: list[tuple[int, references.resource, dict[str, Any]]] = attrs.field(factory=list)
    _logged: asyncio.Condition = attrs.field(factory=asyncio.Condition)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.resources[TENANTS] = {
            "kind": "ScimTenant", "namespaced": True, "subresources": {"status"},
            "verbs": {"get", "list", "watch", "patch"}, "singular": "scimtenant",
        }  # fmt: skip
        kinds = ((SECRETS, "Secret"), (CONFIG_MAPS, "ConfigMap"), (EVENTS, "Event"), (LEASES, "Lease"))
        for resource, kind in kinds:
            verbs = {"get", "list", "watch", "patch", "create", "update", "delete"}
            self.resources[resource] = {"kind": kind, "namespaced": True, "verbs": verbs}
        # Every API server tells of these; the operator may do nothing with them.
        for name, kind in (("v1/namespaces", "Namespace"), (CRDS, "CustomResourceDefinition")):
            self.resources[name] = {"kind": kind, "namespaced": False, "verbs": {"get", "list", "watch"}}

    async def _handle(self, request: rendering.Request) -> aiohttp.web.StreamResponse:
        try:
            for fault in list(self.faults):
                self._fail(await fault(request))
            self._authorize(request)
            if request.method is not enums.method.PUT and request.action not in (
                enums.action.CREATE,
                enums.action.UPDATE,
                enums.action.DELETE,
            ):
                return await super()._handle(request)
            async with self._lock:
                return aiohttp.web.json_response(await self._change(request))
        except Refused as exc:
            body = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "code": exc.status,
            }
            headers = {"Retry-After": str(self.retry_after)} if exc.status == 429 else {}
            return aiohttp.web.json_response(
                {**body, "message": str(exc)}, status=exc.status, headers=headers
            )

    def _fail(self, status: int | None) -> None:
        if status is not None:
            raise Refused(status, "as the test wants it")

    def _authorize(self, request: rendering.Request) -> None:
        if request.headers.get("Authorization", "").lower() != "bearer operator-token":
            raise Refused(401, "who are you?")
        action = request.action
        if request.method is enums.method.PUT:
            action = enums.action.UPDATE  # which kmock knows as PATCH alone
        if request.resource is None or action is None or request.resource.plural is None:
            return  # discovery
        if action.value not in RIGHTS.get(request.resource, set()):
            self.forbidden.append(f"{action.value} {request.resource}")
            raise Refused(403, "forbidden")

    async def _change(self, request: rendering.Request) -> dict[str, Any]:
        assert request.resource is not None
        if request.action is enums.action.CREATE:
            return await self.create(request.resource, request.namespace, request.data)
        key = (request.resource, request.namespace, request.name)
        if key not in self._objects or self._objects[key].deleted:
            raise Refused(404, "not found")
        before = copy.deepcopy(self._objects[key].raw)
        if request.action is enums.action.DELETE:
            return await self._delete(key, before, json.loads(request.body or b"{}"))
        return await self._replace(key, before, _patched(before, request))

    async def create(self, resource: references.resource, namespace: str | None, data: Any) -> dict[str, Any]:
        made = copy.deepcopy(data)
        metadata = made.setdefault("metadata", {})
        metadata["name"] = metadata.get("name") or metadata["generateName"] + uuid.uuid4().hex[:5]
        metadata["namespace"] = namespace
        key = (resource, namespace, metadata["name"])
        if key in self._objects and not self._objects[key].deleted:
            raise Refused(409, "already exists")
        metadata |= {
            "uid": str(uuid.uuid4()), "resourceVersion": self._next_version(), "generation": 1,
            "creationTimestamp": "2026-11-24T12:00:00Z",
        }  # fmt: skip
        if resource == TENANTS:
            made.pop("status", None)
        if key not in self._objects:
            self._objects[key] = made
        else:
            self._objects[key].create(made)
        await self._tell(resource, "ADDED", made)
        return made

    async def _replace(self, key: Any, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        if after == before:
            return before
        metadata = after["metadata"]
        metadata["resourceVersion"] = self._next_version()
        if after.get("spec") != before.get("spec"):
            metadata["generation"] = before["metadata"]["generation"] + 1
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._objects[key].delete()
            await self._tell(key[0], "DELETED", after)
        else:
            self._objects[key].create(after)
            await self._tell(key[0], "MODIFIED", after)
        return after

    async def _delete(self, key: Any, before: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        wanted = options.get("preconditions") or {}
        if any(before["metadata"][field] != value for field, value in wanted.items()):
            raise Refused(409, "precondition failed")
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        after = copy.deepcopy(before)
        after["metadata"].setdefault("deletionTimestamp", now)
        return await self._replace(key, before, after)

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    async def _tell(self, resource: references.resource, kind: str, made: dict[str, Any]) -> None:
        async with self._logged:
            self._log.append((self._version, resource, {"type": kind, "object": copy.deepcopy(made)}))
            self._logged.notify_all()

    async def _serve_list(self, request: rendering.Request) -> rendering.Payload:
        listed: Any = await super()._serve_list(request)
        return {**listed, "metadata": {"resourceVersion": str(self._version)}}

    async def _serve_watch(self, request: rendering.Request) -> AsyncIterator[rendering.Payload]:
        """Send every event after the version that was listed: none twice, none left out."""
        yield b""
        since, sent = int(request.params["resourceVersion"]), 0
        while True:
            async with self._logged:
                while len(self._log) == sent:
                    await self._logged.wait()
                news, sent = self._log[sent:], len(self._log)
            for version, resource, event in news:
                namespaces = (None, event["object"]["metadata"]["namespace"])
                if version > since and resource == request.resource and request.namespace in namespaces:
                    yield event


def _patched(before: dict[str, Any], request: rendering.Request) -> dict[str, Any]:
    """Replace a Lease, or apply a merge patch or a JSON patch to the status or to all but the status."""
    content_type = request.headers.get("Content-Type", "")
    if content_type == "application/json-patch+json":
        try:
            after = jsonpatch.apply_patch(before, json.loads(request.body))
        except jsonpatch.JsonPatchException as exc:
            raise Refused(422, "the patch does not apply") from exc
    elif content_type == "application/merge-patch+json":
        after = _merged(before, json.loads(request.body))
    elif request.resource == LEASES:
        after = json.loads(request.body)
        after["metadata"] = {**before["metadata"], **after["metadata"]}
    else:
        raise Refused(415, content_type)
    if after["metadata"]["uid"] != before["metadata"]["uid"]:
        raise Refused(409, "another object has the name")
    if after["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
        raise Refused(409, "the object has been modified")
    if request.resource == TENANTS and request.subresource == "status":
        return {**copy.deepcopy(before), "status": after.get("status")}
    if request.resource == TENANTS:
        after.pop("status", None)
        return after | ({"status": before["status"]} if "status" in before else {})
    return after


def _merged(target: Any, patch: Any) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


@dataclasses.dataclass
class Cluster:
    """The API server as the test's own administrator sees it."""

    api: StrictKubernetes

    def get(
        self, resource: references.resource, name: str, namespace: str = "identity"
    ) -> dict[str, Any] | None:
        found = self.api.objects._objects.get((resource, namespace, name))
        return None if found is None or found.deleted else copy.deepcopy(found.raw)

    def all(self, resource: references.resource) -> list[dict[str, Any]]:
        return [
            obj.raw for (kind, _, _), obj in self.api.objects.items() if kind == resource and not obj.deleted
        ]

    async def create(
        self, resource: references.resource, body: Any, namespace: str = "identity"
    ) -> dict[str, Any]:
        async with self.api._lock:
            return await self.api.create(resource, namespace, body)

    async def patch(self, resource: references.resource, name: str, patch: Any) -> None:
        key = (resource, "identity", name)
        async with self.api._lock:
            before = copy.deepcopy(self.api._objects[key].raw)
            await self.api._replace(key, before, _merged(before, patch))

    async def delete(self, resource: references.resource, name: str) -> None:
        key = (resource, "identity", name)
        async with self.api._lock:
            await self.api._delete(key, copy.deepcopy(self.api._objects[key].raw), {})

    async def until(self, condition: Callable[[], Any], what: str = "", patience: float = 20) -> Any:
        """Wait until the condition holds, and return what it found."""
        try:
            async with asyncio.timeout(patience):
                while not (found := condition()):  # noqa: ASYNC110 - the API server has no event for us
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what or condition}: {self.all(TENANTS)}") from None
        return found

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        tenant = self.get(TENANTS, name) or {}
        conditions = (tenant.get("status") or {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == type_), {})

    async def until_ready(self, name: str = "acme", reason: str = "Ready") -> dict[str, Any]:
        """Wait until the tenant's last generation has been seen and Ready has this reason."""

        def seen() -> dict[str, Any] | None:
            tenant = self.get(TENANTS, name) or {}
            ready = self.condition(name, "Ready")
            current = ready.get("observedGeneration") == tenant["metadata"]["generation"]
            return tenant if current and ready.get("reason") == reason else None

        return await self.until(seen, f"{name} is {reason}")

    def changes(self) -> list[rendering.Request]:
        """List the writing requests that the operator made, but for events."""
        writes = (enums.action.CREATE, enums.action.UPDATE, enums.action.DELETE)
        return [
            request
            for request in self.api._requests
            if request.action in writes and request.resource != EVENTS
        ]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """An API server with the CRD and the metadata of one identity provider."""
    async with StrictKubernetes() as api, kmock.Server(api) as server:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "operator"}}],
                    "clusters": [{"name": "test", "cluster": {"server": str(server.url).rstrip("/")}}],
                    "users": [{"name": "operator", "user": {"token": "operator-token"}}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        made = Cluster(api)
        await made.create(CONFIG_MAPS, {"metadata": {"name": "saml"}, "data": {"metadata.xml": METADATA}})
        yield made
        assert api.forbidden == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the operator look again, and try again, after a moment."""
    monkeypatch.setattr(paces, "LOOK_AGAIN", 0.2)
    monkeypatch.setattr(paces, "LOOK_SOON", 0.2)
    monkeypatch.setattr(paces, "LOOK_AT_WRONG", 0.2)
    monkeypatch.setattr(paces, "LONGEST_RETRY", 0.2)
    monkeypatch.setattr(status_writes, "SELDOM", 0.1)
    monkeypatch.setattr(statistics, "EVERY", 0.2)


class Operator:
    """The operator in a thread and an event loop of its own: kopf cancels whatever else is in its loop."""

    def __init__(self, options: processes.Options) -> None:
        self.options = options
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    def start(self) -> None:
        started: concurrent.futures.Future[None] = concurrent.futures.Future()

        async def serve() -> None:
            task = asyncio.current_task()
            assert task is not None
            loop = asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
            started.set_result(None)
            with contextlib.suppress(asyncio.CancelledError):
                await processes.serve(self.options)

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), name="operator")
        self._thread.start()
        started.result(timeout=10)

    async def stop(self) -> None:
        if self._thread is not None:
            self._stop()
            # The API server runs in this loop: it has to go on while the operator ends.
            await asyncio.to_thread(self._thread.join, 30)
            assert not self._thread.is_alive()
            self._thread = None


@pytest.fixture
async def operator(cluster: Cluster, database_urls: DatabaseUrls) -> AsyncIterator[Operator]:
    """The operator on that cluster and on a store of this test's own, running."""
    options = processes.Options(
        database_urls.app, "https://scim.example.com", (), free_port(), metrics_port=free_port()
    )
    made = Operator(options)
    made.start()
    yield made
    await made.stop()
