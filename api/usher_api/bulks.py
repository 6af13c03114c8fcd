"""Bulk requests (RFC 7644 §3.7): each operation is read as if it came alone, then all go as one change.

The route hands over the body, sends what `Bulks.read` made of it, and answers with `Bulks.answer`. What is
wrong with one operation refuses no other: it travels along as the outcome of that one, and counts as an error
at its turn.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any

from usher_api import answers, policies, representations, requests
from usher_core import errors, ids
from usher_core.changes import bulks, records, snapshots
from usher_core.scim import bulks as scim_bulks
from usher_core.scim import messages, patches, references, schemas, sequences
from usher_core.tenants import configs

# Most operations are read in a tenth of a millisecond, the largest take 50 ms: other requests have their turn
# after so many seconds.
LONGEST_TURN = 0.005

DISCOVERY = frozenset({"ResourceTypes", "Schemas", "ServiceProviderConfig"})


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A bulk request on its way: its operations as they came, and what they were made into."""

    operations: tuple[scim_bulks.Operation, ...]
    bulk: bulks.Bulk
    change: records.Change


@dataclasses.dataclass(frozen=True, slots=True)
class Bulks:
    """Reads and answers the bulk requests of one tenant; `base_url` ends without a slash."""

    registry: schemas.Registry
    config: configs.TenantConfig
    base_url: str

    async def read(self, body: Any, *, token_id: str, request_id: str, max_operations: int) -> Prepared:
        """Read a bulk request, and make the ids of what it creates.

        Raises:
            ScimError: what `scim.bulks.parse` raises; the mistakes of single operations are their outcomes.
        """
        message = scim_bulks.parse(body, max_operations=max_operations)
        own = records.Change(
            ids.ChangeId(ids.new_uuid()),
            records.now(),
            "bulk",
            "",
            snapshots.NO_RESOURCE,
            None,
            None,
            token_id,
            request_id,
            "",
            schemas_version=self.registry.version,
        )
        creates = {
            operation.bulk_id: scim_bulks.Create(index, str(ids.new_uuid()))
            for index, operation in enumerate(message.operations)
            if operation.method == "POST" and isinstance(operation.bulk_id, str)
        }
        parts = []
        began = time.perf_counter()
        for index, operation in enumerate(message.operations):
            if time.perf_counter() - began > LONGEST_TURN:
                await asyncio.sleep(0)
                began = time.perf_counter()
            parts.append(self._part(own, index, operation, creates))
        steps = sequences.arrange([_node(part) for part in parts])
        bulk = bulks.Bulk(
            own.change_id,
            message.fail_on_errors,
            tuple(tuple(parts[index] for index in step) for step in steps),
        )
        return Prepared(message.operations, bulk, dataclasses.replace(own, body=bulk.pack()))

    def answer(self, prepared: Prepared, outcomes: Mapping[int, records.Outcome]) -> dict[str, Any]:
        """Tell what became of the operations that were processed, in their order (RFC 7644 §3.7.3)."""
        contents = {part.index: part.content for step in prepared.bulk.steps for part in step}
        return messages.bulk_response(
            [
                self._told(prepared.operations[index], contents[index], outcomes[index])
                for index in sorted(outcomes)
            ]
        )

    def _part(
        self,
        own: records.Change,
        index: int,
        operation: scim_bulks.Operation,
        creates: Mapping[str, scim_bulks.Create],
    ) -> bulks.Part:
        found = scim_bulks.References(creates)
        try:
            action, kind, resource_id, body = self._read(operation, found)
            if_match = _versions(operation.version)
        except errors.ScimError as exc:
            return bulks.Part(index, bulks.refusal(exc.status, exc.scim_type, exc.detail))
        change = dataclasses.replace(
            own,
            change_id=ids.ChangeId(ids.new_uuid()),
            operation=action,
            resource_type=kind.name,
            resource_id=resource_id,
            body=body,
            if_match=if_match,
            part_of=(own.change_id, index),
        )
        return bulks.Part(index, change, tuple(sorted(found.needs)))

    def _read(
        self, operation: scim_bulks.Operation, found: scim_bulks.References
    ) -> tuple[records.Operation, schemas.ResourceType, ids.ResourceId, Any]:
        """Read one operation; what is wrong with it is told as if it had come alone, in the same order."""
        method = operation.method
        if method not in scim_bulks.METHODS:
            raise errors.InvalidValue("method must be POST, PUT, PATCH or DELETE.")
        made_for = _made_for(operation, found) if method == "POST" else None
        kind, id_text = self._target(method, found.in_path(operation.path))
        if method == "DELETE":
            policies.admit_delete(self.config, kind)
            return "delete", kind, requests.resource_id(id_text, kind.name), None
        if made_for is not None:
            policies.admit_create(self.config, kind)
            data = found.in_data(operation.data)
            body = policies.read_document(self.config, kind, data, is_new=True)
            return "create", kind, made_for, body
        if method == "PUT":
            policies.admit_change(self.config, kind)
            target = requests.resource_id(id_text, kind.name)
            data = found.in_data(operation.data)
            return "replace", kind, target, policies.read_document(self.config, kind, data, is_new=False)
        target = requests.resource_id(id_text, kind.name)
        steps = policies.read_patch(self.config, kind, found.in_patch(operation.data))
        policies.admit_change(self.config, kind, steps)
        return "patch", kind, target, patches.dump(steps)

    def _target(self, method: str, path: str) -> tuple[schemas.ResourceType, str]:
        """Find what a path leads to: a type, and the id of one of its resources, empty for a POST."""
        if "://" in path or f"{path}/".startswith(f"{answers.BASE_PATH}/"):
            raise errors.InvalidValue("path must be relative to the base URL, like /Users or /Users/ID.")
        endpoint, *rest = [segment for segment in path.split("/") if segment] or [""]
        if endpoint == "Me":
            raise errors.NotImplementedYet(answers.NOBODY_IS_ME)
        if endpoint == "Bulk" or any(segment.startswith(".") for segment in (endpoint, *rest)):
            raise errors.InvalidValue(
                "An operation creates, changes or deletes one resource: path can't be this."
            )
        shown = references.shown(f"{answers.BASE_PATH}/{'/'.join((endpoint, *rest))}")
        if endpoint in DISCOVERY or (len(rest) < 2 and (method == "POST") != (not rest)):
            raise errors.MethodNotAllowed(f"{method} is not allowed on {shown}.")
        if len(rest) > 1:
            raise errors.NotFound(f"There is nothing at {shown}; SCIM 2.0 is at {answers.BASE_PATH}.")
        return self.registry.by_endpoint(endpoint), rest[0] if rest else ""

    def _told(
        self,
        operation: scim_bulks.Operation,
        content: records.Change | records.Outcome,
        outcome: records.Outcome,
    ) -> dict[str, Any]:
        told: dict[str, Any] = {}
        is_create = operation.method == "POST"
        status = outcome.status
        if isinstance(content, records.Change):
            kind = self.registry.by_name(content.resource_type)
            if outcome.succeeded or not is_create:
                about = outcome.resource_id or content.resource_id
                told["location"] = f"{self.base_url}/{kind.endpoint}/{about}"
            if outcome.succeeded and content.operation == "patch":
                status = policies.patch_status(self.config, kind)
        elif not is_create and isinstance(operation.path, str):
            told["location"] = f"{self.base_url}/{urllib.parse.quote(operation.path.lstrip('/'), safe='/:')}"
        if isinstance(operation.method, str):
            told["method"] = operation.method
        if isinstance(operation.bulk_id, str):
            told["bulkId"] = operation.bulk_id
        if outcome.succeeded and outcome.version is not None:
            told["version"] = representations.etag(outcome.version)
        told["status"] = str(status)
        if not outcome.succeeded:
            told["response"] = messages.error(outcome.status, outcome.scim_type, outcome.detail)
        return told


def _node(part: bulks.Part) -> sequences.Node:
    if isinstance(part.content, records.Outcome):
        return sequences.Node()
    is_create = part.content.operation == "create"
    return sequences.Node(part.needs, None if is_create else part.content.resource_id)


def _made_for(operation: scim_bulks.Operation, found: scim_bulks.References) -> ids.ResourceId:
    """Tell the id that was made for what a POST creates."""
    if not isinstance(operation.bulk_id, str) or not operation.bulk_id:
        raise errors.InvalidValue("bulkId is required for a POST: a text of your own.")  # RFC 7644 §3.7
    return ids.ResourceId(uuid.UUID(found.creates[operation.bulk_id].resource_id))


def _versions(version: Any) -> tuple[int, ...] | None:
    """Read `version`, which is to an operation what If-Match is to a request (RFC 7644 §3.7)."""
    if version is not None and not isinstance(version, str):
        raise errors.InvalidValue('version must be a string, like W/"1".')
    return requests.versions(version)
