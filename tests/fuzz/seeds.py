"""What fuzzing begins with: requests of the recorded conversations, and the words of SCIM.

`targets` says of which form its inputs are: `text` (a filter or a path), `query` (the parameters of a URL),
`json` (a body) or `bulk` (a body that holds others).
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import urllib.parse
from pathlib import Path

import yaml

from usher_core.scim import messages, registries, schemas

CONVERSATIONS = Path(__file__).parents[1] / "conversations"
LAB = Path(__file__).parents[1] / "schemas" / "lab.json"
BADGE = "urn:example:lab:1.0:Badge"
NAME = re.compile(r"<[a-z][a-z ]*>")
SOMEBODY = "00000000-0000-0000-0000-000000000001"


def _names() -> list[str]:
    found = {"schemas": None, "id": None, "externalId": None, "meta": None, "meta.created": None}
    for kind in registries.build(registries.parse({LAB.name: LAB.read_bytes()}), 1).resource_types:
        for schema in kind.schemas:
            prefix = "" if schema is kind.schema else f"{schema.id}:"
            for attribute in schema.attributes.values():
                found[f"{prefix}{attribute.name}"] = None
                found[attribute.name] = None
                for sub in attribute.sub_attributes.values():
                    found[f"{attribute.name}.{sub.name}"] = found[sub.name] = None
    return list(found)


WORDS = [
    *_names(),
    *(schemas.USER, schemas.GROUP, schemas.ENTERPRISE_USER, messages.PATCH_OP_SCHEMA, "urn:", "URN:IETF:"),
    *(" eq ", " ne ", " co ", " sw ", " ew ", " gt ", " ge ", " lt ", " le ", " pr", " and ", " or "),
    *("not (", "(", ")", "[", "]", "].", ".", ":", '"', "\\", " ", "\t", "\n", "=", "&", "+", "%00"),
    *('"work"', '"a@x.io"', '""', "null", "true", "False", '"true"', "0", "-1", "1e308", "9" * 30),
    *('"2030-01-31T23:59:59Z"', '"2030-01-31T23:59:59.999999999+23:59"', "%F0%9F%98%80"),
    *('"method":"PATCH"', '"bulkId":"1"', "bulkId:1", "/Users/bulkId:1", '"failOnErrors":1'),
    *(r'"\u0000"', r'"\ud800"', r'"\uD83D\uDE00"', '"op":"add"', '"op":"Replace"', '"op":"remove"'),
    *('"path":', '"value":', '"Operations":[', '{"value":"x"}', "managerId", "displayname", SOMEBODY),
    *('emails[type eq "work"]', 'emails[type eq "work"].value', 'members[value eq "u"]', "manager[value pr]"),
    *("filter=", "sortBy=", "sortOrder=descending", "startIndex=", "count=", "cursor=", "attributes="),
    *("excludedAttributes=", "https://x.io/a", "YQ==", "é", "e\u0301", "\u0301\u0316", "\u0f73", "ß", "İ"),
    *("ﬁ", "\u212a", "日", "😀", "\0", "\x7f", "\u2028"),
]  # fmt: skip


@functools.cache
def of_form(form: str) -> tuple[bytes, ...]:
    """List the seeds of one form."""
    make = {"text": _texts, "query": _queries, "json": _bodies, "bulk": _bulks}[form]
    return tuple(dict.fromkeys(make()))


def _conversations() -> list[list[dict[str, str]]]:
    return [yaml.safe_load(file.read_text())["steps"] for file in sorted(CONVERSATIONS.glob("*.yaml"))]


def _steps() -> list[dict[str, str]]:
    return [step for steps in _conversations() for step in steps]


def _bulks() -> list[bytes]:
    """Make a bulk of the writes of each conversation; what it has created is referred to by its bulkId."""
    found = []
    for steps in _conversations():
        operations = []
        for number, step in enumerate(steps):
            method, _, path = step["send"].partition(" ")
            if method in ("POST", "PUT", "PATCH", "DELETE") and ".search" not in path:
                with contextlib.suppress(ValueError):
                    data = json.loads(NAME.sub(f"bulkId:{number}", step.get("body") or "null"))
                    path = NAME.sub(f"bulkId:{number}", path)
                    operations.append({"method": method, "path": path, "bulkId": f"{number}", "data": data})
        message = {"schemas": [messages.BULK_REQUEST_SCHEMA], "failOnErrors": 3, "Operations": operations}
        found.append(json.dumps(message).encode())
    return found


# Writes to what is of a tenant's own, for no conversation is about that.
OWN = [
    {"userName": "a@x.io", BADGE: {"level": 1, "tags": ["a"], "chip": {"code": "d", "tags": ["b"]}}},
    {"displayName": "d", "rooms": ["b"], "serial": 8, "slots": [{"place": "p", "tags": ["b"]}]},
    {
        "Operations": [
            {"op": "remove", "path": f"{BADGE}:level"},
            {"op": "add", "path": "rack.tags", "value": "b"},
        ]
    },
    {"Operations": [{"op": "replace", "path": f"{BADGE}:keys[type pr].value", "value": "m"}]},
    {"Operations": [{"op": "add", "path": 'slots[tags eq "b"].level', "value": 2}]},
    {"Operations": [{"op": "replace", "path": 'slots[page eq "x y"].tags', "value": ["a"]}]},
    {"Operations": [{"op": "replace", "path": 'slots[place eq "p"].place', "value": "q"}]},
    {"Operations": [{"op": "remove", "path": 'doses[given ge "2030-01-01T00:00:00Z"].type'}]},
    {
        "Operations": [
            {"op": "add", "value": {BADGE: {"keys": [{"value": "k", "tags": ["b"]}], "chip": None}}}
        ]
    },
]


def _bodies() -> list[bytes]:
    sent = [NAME.sub(SOMEBODY, step["body"]).encode() for step in _steps() if step.get("body")]
    return [*sent, *(json.dumps(body).encode() for body in OWN)]


def _queries() -> list[bytes]:
    sent = (NAME.sub(SOMEBODY, step["send"]).partition("?")[2] for step in _steps())
    return [query.encode() for query in sent if query]


def _texts() -> list[bytes]:
    filters = [
        value
        for query in _queries()
        for name, value in urllib.parse.parse_qsl(query.decode())
        if name == "filter"
    ]
    return [text.encode() for text in (*filters, *_paths(), *_names())]


def _paths() -> list[str]:
    found = []
    for body in _bodies():
        try:
            message = json.loads(body)
        except ValueError:
            continue
        if isinstance(message, dict):
            found += [
                one["path"] for one in message.get("Operations", ()) if isinstance(one.get("path"), str)
            ]
    return found
