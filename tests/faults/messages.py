"""Operations as SCIM requests, and what their answers show; `clients` sends them, over `wires`."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from typing import Any

import orjson
from histories import Operation

BASE = "/iam/scim/v2"
PATCH = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]
BULK = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"]
USER = ["urn:ietf:params:scim:schemas:core:2.0:User"]
GROUP = ["urn:ietf:params:scim:schemas:core:2.0:Group"]
METHODS = {"create": "POST", "put": "PUT", "delete": "DELETE"}
TAG = re.compile(r'W/"(\d+)(\.fenced)?"')


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire; the path begins behind the base URL's host."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def request(wanted: Operation) -> Request:
    """Write an operation as a request."""
    match wanted.kind:
        case "read_user" | "read_group":
            return Request("GET", BASE + _path(wanted))
        case "find_user":
            asked = urllib.parse.quote(f'userName eq "{wanted.name}"')
            return Request("GET", f"{BASE}/Users?filter={asked}")
        case "list_active":
            return Request(
                "GET", f"{BASE}/Users?filter=active%20eq%20true&count=200&excludedAttributes=groups"
            )
        case "bulk":
            parts = [_part(index, part) for index, part in enumerate(wanted.parts)]
            return Request("POST", f"{BASE}/Bulk", orjson.dumps({"schemas": BULK, "Operations": parts}))
    headers = []
    if wanted.versions is not None:
        headers.append(("If-Match", ", ".join(f'W/"{version}"' for version in wanted.versions)))
    if wanted.later:
        headers.append(("Prefer", "respond-async"))
    body = _body(wanted)
    data = b"" if body is None else orjson.dumps(body)
    return Request(_method(wanted), BASE + _path(wanted), data, tuple(headers))


def seen(wanted: Operation, status: int, headers: dict[str, str], body: bytes) -> list[dict[str, Any]]:
    """Read what an answer shows, in the form in which `replays.State` shows the same."""
    document = orjson.loads(body) if body else {}
    if status >= 300 or status == 202:
        return []
    match wanted.kind:
        case "bulk":
            return [{"status": int(part["status"])} for part in document["Operations"]]
        case "read_user":
            return [user(document)]
        case "read_group":
            return [group(document)]
        case "find_user":
            return [user(one) for one in document.get("Resources", ())]
        case "list_active":
            return [
                {"id": one["id"], "version": tag(one["meta"]["version"])[0], "active": one["active"]}
                for one in document.get("Resources", ())
            ]
    if "etag" not in headers:
        return []
    shown: dict[str, Any] = {"version": tag(headers["etag"])[0]}
    if "userName" in document:
        shown = {**user(document), **shown}
        # Of these the answer tells how they are by now, and not how the change left them.
        del shown["fenced"], shown["groups"]
    elif document:
        shown["id"] = document["id"]
    return [shown]


def user(document: dict[str, Any]) -> dict[str, Any]:
    """Take out of a user what the model knows of one."""
    version, is_fenced = tag(document["meta"]["version"])
    return {
        "id": document["id"],
        "version": version,
        "fenced": is_fenced,
        "name": document["userName"],
        "external": document.get("externalId", ""),
        "title": document.get("title", ""),
        "active": document["active"],
        "groups": sorted(one["value"] for one in document.get("groups", ())),
    }


def group(document: dict[str, Any]) -> dict[str, Any]:
    """Take out of a group what the model knows of one."""
    version, is_fenced = tag(document["meta"]["version"])
    return {
        "id": document["id"],
        "version": version,
        "fenced": is_fenced,
        "name": document["displayName"],
        "members": sorted(one["value"] for one in document.get("members", ())),
    }


def tag(text: str) -> tuple[int, bool]:
    """Read an entity tag: the version, and whether something reads as taken away before its turn."""
    found = TAG.fullmatch(text)
    assert found is not None, text
    return int(found[1]), found[2] is not None


def _part(index: int, wanted: Operation) -> dict[str, Any]:
    part: dict[str, Any] = {"method": _method(wanted), "path": _path(wanted)}
    if part["method"] == "POST":
        part["bulkId"] = str(index)
    body = _body(wanted)
    return part if body is None else part | {"data": body}


def _method(wanted: Operation) -> str:
    return METHODS.get(wanted.kind.partition("_")[0], "PATCH")


def _path(wanted: Operation) -> str:
    endpoint = "Groups" if "group" in wanted.kind or "members" in wanted.kind else "Users"
    return f"/{endpoint}/{wanted.target}" if wanted.target else f"/{endpoint}"


def _body(wanted: Operation) -> dict[str, Any] | None:
    members = [{"value": member} for member in wanted.members]
    match wanted.kind:
        case "create_user" | "put_user":
            body: dict[str, Any] = {"schemas": USER, "userName": wanted.name}
            more = {"externalId": wanted.external, "title": wanted.title}
            body |= {name: value for name, value in more.items() if value}
            return body if wanted.active is None else body | {"active": wanted.active}
        case "create_group":
            return {"schemas": GROUP, "displayName": wanted.name, "members": members}
        case "set_title":
            return _patch("replace", "title", wanted.title)
        case "activate" | "deactivate":
            return _patch("replace", "active", wanted.kind == "activate")
        case "add_members":
            return _patch("add", "members", members)
        case "replace_members":
            return _patch("replace", "members", members)
        case "remove_members" if len(members) == 1:
            # Okta names whom it means by a filter, Entra by a list.
            return _patch("remove", f'members[value eq "{wanted.members[0]}"]')
        case "remove_members":
            return _patch("remove", "members", members)
        case _:
            return None


def _patch(op: str, path: str, value: Any = None) -> dict[str, Any]:
    operation = {"op": op, "path": path}
    return {"schemas": PATCH, "Operations": [operation if value is None else operation | {"value": value}]}
