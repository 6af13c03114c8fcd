"""Bulk requests (RFC 7644 §3.7): the message, and references by `bulkId` among its operations.

The api reads a message here and resolves the references of each operation to the ids that it made for the
creates; `sequences` then says what goes first. A wrong message is refused whole, a wrong operation is that
operation's own error: so what can be wrong with one of them is looked at only when it is its turn.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from usher_core import errors
from usher_core.scim import bodies, messages, references

METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")

_MARK: Final = "bulkid:"
_WHOLE: Final = re.compile(r"(?i:bulkId):(.+)", re.DOTALL)
_LAST_SEGMENT: Final = re.compile(r"(?<=/)(?i:bulkId):([^/]+)$")
# Some clients write no quotes around the values of filters; what stands within quotes is one value.
_VALUE: Final = re.compile(
    r'"(?i:bulkId):(?P<quoted>[^"\\]+)"|"(?:[^"\\]|\\.)*"|(?<=\s)(?i:bulkId):(?P<bare>[^\s()\[\]"]+)',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as it came; only its form as an object was looked at."""

    method: Any
    path: Any
    bulk_id: Any
    version: Any
    data: Any


@dataclass(frozen=True, slots=True)
class Message:
    """A bulk request. After `fail_on_errors` errors no further operation is begun; `None` is without end."""

    operations: tuple[Operation, ...]
    fail_on_errors: int | None


def parse(body: Any, *, max_operations: int) -> Message:
    """Read a bulk request.

    Raises:
        InvalidSyntax: the body is no bulk request.
        InvalidValue: `failOnErrors` is no number of errors, or two creates have the same `bulkId`.
        InvalidVersion: the body is of SCIM 1.x.
        PayloadTooLarge: more operations than are allowed (RFC 7644 §3.7.4).
    """
    if not isinstance(body, dict):
        raise errors.InvalidSyntax("The body must be a JSON object: a bulk request.")
    fields = {key.lower(): value for key, value in body.items()}
    bodies.require_message(fields.get("schemas"), messages.BULK_REQUEST_SCHEMA)
    listed = fields.get("operations")
    if not isinstance(listed, list) or not listed:
        raise errors.InvalidSyntax("Operations must be a list of at least one operation.")
    if len(listed) > max_operations:
        raise errors.PayloadTooLarge(
            f"The bulk request holds {len(listed)} operations, more than maxOperations ({max_operations})."
        )
    if not all(isinstance(item, dict) for item in listed):
        raise errors.InvalidSyntax("Each of the Operations must be an object.")
    accepted = fields.get("failonerrors")
    if accepted is not None and (type(accepted) is not int or accepted < 1):
        raise errors.InvalidValue("failOnErrors must be an integer, of at least 1.")
    operations = tuple(_operation(item) for item in listed)
    _refuse_repeated(operations)
    return Message(operations, accepted)


def _operation(item: Mapping[str, Any]) -> Operation:
    fields = {key.lower(): value for key, value in item.items()}
    method = fields.get("method")
    return Operation(
        method.upper() if isinstance(method, str) else method,
        fields.get("path"),
        fields.get("bulkid"),
        fields.get("version"),
        fields.get("data"),
    )


def _refuse_repeated(operations: Sequence[Operation]) -> None:
    seen: set[str] = set()
    for operation in operations:
        if operation.method == "POST" and isinstance(operation.bulk_id, str):
            if operation.bulk_id in seen:
                # RFC 7644 §3.7: unique within a bulk request
                raise errors.InvalidValue(
                    f"The bulkId {references.shown(operation.bulk_id)} is given to more than one POST."
                )
            seen.add(operation.bulk_id)


@dataclass(frozen=True, slots=True)
class Create:
    """What a `bulkId` stands for: the place of the POST among the operations, and the id it makes."""

    index: int
    resource_id: str


@dataclass(slots=True)
class References:
    """Puts ids in the place of the references of one operation; `needs` lists the places it refers to."""

    creates: Mapping[str, Create]
    needs: dict[int, None] = field(default_factory=dict)

    def in_path(self, path: Any) -> str:
        """Resolve the path of an operation, such as `/Users/bulkId:qwerty`; without its query.

        Raises:
            InvalidValue: it is no path, or refers to what no operation creates.
        """
        if not isinstance(path, str) or not path:
            raise errors.InvalidValue(
                "path is required: /Users to create a user, /Users/ID for any other method."
            )
        text = urllib.parse.unquote(path.partition("?")[0])
        return _LAST_SEGMENT.sub(lambda found: self._id(found[1]), text)

    def in_data(self, data: Any) -> Any:
        """Resolve each reference in the data of an operation, which stays as it is.

        A string is a reference when all of it is one; so is the last segment of a `$ref`.

        Raises:
            InvalidValue: one refers to what no operation creates.
            InvalidSyntax: the data is nested too deep.
        """
        if not isinstance(data, dict | list):
            return data
        bodies.refuse_deep(data)
        # Most refer to nothing, and as JSON that is seen at once.
        return self._resolve(data, "") if _MARK in orjson.dumps(data).decode().lower() else data

    def in_patch(self, data: Any) -> Any:
        """Resolve each reference in a PATCH message, also the values that the filters in its paths compare.

        Raises:
            InvalidValue, InvalidSyntax: as `in_data` does.
        """
        return _with_paths(self.in_data(data), self._in_filter)

    def _resolve(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {
                name: self._resolve(item, name.lower()) if _may_refer(item, name) else item
                for name, item in value.items()
            }
        if isinstance(value, list):
            is_plain = key != "$ref"
            return [
                item
                if is_plain and type(item) is str and item[:7].lower() != _MARK
                else self._resolve(item, key)
                for item in value
            ]
        if not isinstance(value, str):
            return value
        whole = _WHOLE.fullmatch(value)
        if whole is not None:
            return self._id(whole[1])
        return _LAST_SEGMENT.sub(lambda found: self._id(found[1]), value) if key == "$ref" else value

    def _in_filter(self, path: str) -> str:
        def resolved(found: re.Match[str]) -> str:
            if found["quoted"] is not None:
                return f'"{self._id(found["quoted"])}"'
            return found[0] if found["bare"] is None else self._id(found["bare"])

        return _VALUE.sub(resolved, path)

    def _id(self, bulk_id: str) -> str:
        create = self.creates.get(bulk_id)
        if create is None:
            raise errors.InvalidValue(
                f"No POST of this bulk request has the bulkId {references.shown(bulk_id)}."
            )  # RFC 7644 §3.7.2
        self.needs[create.index] = None
        return create.resource_id


def _may_refer(value: Any, key: str) -> bool:
    """Whether a value is worth a closer look: of hundreds of thousands hardly one is."""
    if type(value) is str:
        return value[:7].lower() == _MARK or key.lower() == "$ref"
    return type(value) is dict or type(value) is list


def _with_paths(patch: Any, resolve: Callable[[str], str]) -> Any:
    """Resolve the path of each operation of a PATCH message; whatever is no such message stays as it is."""
    if not isinstance(patch, dict):
        return patch
    return {
        key: [_with_path(item, resolve) for item in value]
        if key.lower() == "operations" and isinstance(value, list)
        else value
        for key, value in patch.items()
    }


def _with_path(item: Any, resolve: Callable[[str], str]) -> Any:
    if not isinstance(item, dict):
        return item
    return {
        key: resolve(value) if key.lower() == "path" and isinstance(value, str) else value
        for key, value in item.items()
    }
