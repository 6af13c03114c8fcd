"""The heaviest inputs within the limits: what a client can send that takes longest, as far as we know.

Fuzzing makes small inputs. Many of these took seconds, or a processor for good, before there was a limit or
another algorithm: they stand here so that they never do again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from usher_core.scim import messages, schemas

MOST = 1_048_576  # bytes of a body
MARKS = "\u0301\u0316"  # in the wrong order, so that they must be sorted


def inputs() -> Iterator[tuple[str, str, bytes]]:
    """List the name of a target, what the input is, and the input."""
    for name, text in _texts():
        yield "filter", name, text.encode()
    for name, text in _paths():
        yield "path", name, text.encode()
    for name, body in _documents():
        yield "document", name, body
    for name, body in _patches():
        yield "patch", name, body
    for name, body in _bulks():
        yield "bulk", name, body
    yield "search", "names of attributes without end", _fit(lambda n: {"attributes": ["id"] * n})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _fit(make: Callable[[int], Any], most: int = MOST) -> bytes:
    """Make the largest body that is no larger than `most`."""
    number, body = 1000, b""
    while len(body) < 0.97 * most or len(body) > most:
        body = _json(make(number))
        number = int(number * 0.985 * most / len(body))
    return body


def _texts() -> Iterator[tuple[str, str]]:
    yield "50 comparisons", " or ".join(['emails.value co "x"'] * 50)
    yield "20 groups", "(" * 20 + "title pr" + ")" * 20
    yield "open groups", "(" * 8192
    yield "marks", f'userName eq "a{MARKS * 4000}"'
    yield "marks that are allowed", f'userName eq "{("a" + MARKS * 15) * 260}"'
    yield "letters that grow", f'userName eq "{"ΐ" * 8000}"'
    yield "an unknown name", "nameemail" * 900 + " pr"
    yield "blanks", " " * 8192
    yield "backslashes", '"' + "\\" * 8000
    yield "digits", "meta.created gt " + "9" * 8000
    yield "a fraction", f'meta.created gt "2030-01-31T00:00:00.{"9" * 8000}Z"'


def _paths() -> Iterator[tuple[str, str]]:
    yield "50 comparisons", f"emails[{' or '.join(['value pr'] * 50)}]"
    yield "brackets", "emails[" * 1000
    yield "blanks", "emails[" + " " * 8000 + "]"


def _user(**more: Any) -> dict[str, Any]:
    return {"userName": "a", "displayName": "d"} | more


def _documents() -> Iterator[tuple[str, bytes]]:
    yield "unknown attributes", _fit(lambda n: _user(**{f"k{i:x}": 1 for i in range(n)}))
    yield (
        "unknown attributes of an extension",
        _fit(lambda n: _user(**{schemas.ENTERPRISE_USER: {f"k{i:x}": 1 for i in range(n)}})),
    )
    yield (
        "unknown sub-attributes",
        _fit(lambda n: _user(emails=[{f"k{i:x}": 1 for i in range(n // 1000)}] * 1000)),
    )
    yield "numbers", _fit(lambda n: _user(x=[1] * n))
    yield "empty lists", _fit(lambda n: _user(x=[[]] * n))
    yield "as many empty lists as may be", _json(_user(x=[[]] * 59_990))
    yield "deep lists", _fit(lambda n: _user(x=[[[[[[[[]]]]]]]] * n))
    yield "schemas", _fit(lambda n: _user(schemas=["a"] * n))
    yield "roles", _fit(lambda n: _user(roles=["a"] * n))
    yield "1000 roles in JSON", _json(_user(roles=[json.dumps({"value": f"{i}" * 90}) for i in range(1000)]))
    yield "1000 emails", _json(_user(emails=[{"value": f"é{i}@x.io", "type": f"t{i}"} for i in range(1000)]))
    yield "1000 long emails", _json(_user(emails=[{"value": "é" * 510 + f"{i}"[:2]} for i in range(990)]))
    yield "1000 emails that are too long", _fit(lambda n: _user(emails=[{"value": "é" * (n // 1000)}] * 1000))
    yield "a blank certificate", _fit(lambda n: _user(x509Certificates=[{"value": " " * n + "!"}]))
    yield "a long certificate", _fit(lambda n: _user(x509Certificates=[{"value": "A" * n}]))
    yield "a long photo", _fit(lambda n: _user(photos=[{"value": "https://x/" + "%20" * n}]))
    yield "a long title", _fit(lambda n: _user(title="é" * n))
    yield "a long userName", _fit(lambda n: _user(userName="ΐ" * n))
    yield "a title of marks", _fit(lambda n: _user(title="a" + MARKS * n))
    yield "a title of composed marks", _fit(lambda n: _user(title="a" + "\u0f73" * n))
    yield "a title of marks that are allowed", _fit(lambda n: _user(title=("a" + MARKS * 15) * n))
    yield "a userName of marks", _fit(lambda n: _user(userName="a" + MARKS * n))
    yield "members", _fit(lambda n: _user(members=[{"value": f"{i:036}", "type": "u"} for i in range(n)]))
    yield "short members", _fit(lambda n: _user(members=[f"{i:x}" for i in range(n)]))


def _message(*operations: Any) -> dict[str, Any]:
    return {"Operations": list(operations)}


def _patches() -> Iterator[tuple[str, bytes]]:
    def adding(path: str, value: Any) -> dict[str, Any]:
        return {"op": "add", "path": path, "value": value}

    yield (
        "unknown attributes",
        _fit(lambda n: _message({"op": "add", "value": {f"k{i:x}": 1 for i in range(n)}})),
    )
    yield (
        "spellings of a name",
        _fit(
            lambda n: _message(
                {"op": "add", "value": {_spelt(f"{schemas.USER}:emails", i): "a" for i in range(n)}}
            )
        ),
    )
    yield "1000 emails", _json(_message(adding("emails", [{"value": f"{i}@x.io"} for i in range(1000)])))
    yield "emails without end", _fit(lambda n: _message(adding("emails", [f"{i}@x.io" for i in range(n)])))
    yield (
        "many lists of the same",
        _fit(lambda n: _message(*[adding("roles", ["a"] * (n // 300)) for _ in range(300)])),
    )
    yield (
        "500 filters",
        _json(_message(*[adding(f'emails[value eq "{i:020}"].type', "a") for i in range(500)])),
    )
    yield (
        "500 long filters",
        _fit(
            lambda n: _message(
                *[
                    adding(f"emails[{' or '.join(['value pr'] * (n // 500))}].type", f"{i}")
                    for i in range(500)
                ]
            )
        ),
    )
    yield (
        "filters of one list that grows",
        _json(
            _message(
                adding("emails", [{"value": f"{i}@x.io", "type": "w"} for i in range(1000)]),
                *[adding(f'emails[type eq "w" and value co "{i}"].display', "d") for i in range(400)],
            )
        ),
    )
    yield (
        "additions to one list",
        _json(
            _message(
                adding("emails", [{"value": f"{i}@x.io"} for i in range(1000)]),
                *[adding("emails", [{"value": f"{i}@x.io", "display": "d"}]) for i in range(499)],
            )
        ),
    )
    yield (
        "values to remove",
        _json(
            _message(
                adding("emails", [{"value": f"{i}@x.io"} for i in range(1000)]),
                *[
                    {
                        "op": "remove",
                        "path": "emails",
                        "value": [{"display": f"{i}"}, {"value": f"{n}"}, {"type": "t"}],
                    }
                    for n in range(400)
                    for i in [n]
                ],
            )
        ),
    )
    yield (
        "additions to lists within a list",
        _json(
            _message(
                adding(
                    "slots", [{"place": f"{i}", "tags": [f"é{n}" for n in range(77)]} for i in range(120)]
                ),
                *[adding("slots.tags", [f"é{n}"]) for n in range(400)],
            )
        ),
    )
    yield (
        "additions to a list within a value",
        _json(
            _message(
                adding("rack.tags", [f"é{n}" for n in range(999)]),
                *[adding("rack", {"tags": [f"é{n}"]}) for n in range(400)],
            )
        ),
    )
    yield (
        "malformed members to remove",
        _fit(
            lambda n: _message(
                *[{"op": "remove", "path": "members", "value": [1] * (n // 25)} for _ in range(25)]
            )
        ),
    )
    yield (
        "members",
        _json(_message(adding("members", [{"value": f"{i:x}", "type": "g"} for i in range(22_000)]))),
    )
    yield "a schema without end", _fit(lambda n: _message(adding("title", "a")) | {"schemas": ["a"] * n})


def _bulks() -> Iterator[tuple[str, bytes]]:
    def bulk(*operations: Any) -> dict[str, Any]:
        return {"schemas": [messages.BULK_REQUEST_SCHEMA], "Operations": list(operations)}

    def post(number: int, path: str = "/Users", **data: Any) -> dict[str, Any]:
        return {"method": "POST", "path": path, "bulkId": f"{number}", "data": data}

    def patch(*operations: Any) -> dict[str, Any]:
        path = "/Users/00000000-0000-0000-0000-000000000001"
        return {"method": "PATCH", "path": path, "data": _message(*operations)}

    yield (
        "1000 users",
        _json(bulk(*[post(n, userName=f"{n}@x.io", emails=[f"{n}@x.io"]) for n in range(1000)])),
    )
    yield (
        "groups that hold each other",
        _json(
            bulk(
                *[
                    post(n, "/Groups", displayName="d", members=[f"bulkId:{m}" for m in range(250)])
                    for n in range(250)
                ]
            )
        ),
    )
    yield (
        "a chain backwards",
        _json(
            bulk(
                *[post(n, "/Groups", displayName="d", members=[f"bulkId:{n + 1}"]) for n in range(999)],
                post(999),
            )
        ),
    )
    yield "one operation of many texts", _fit(lambda n: bulk(post(0, **_user(x=["a:"] * n))))
    yield "many texts and a reference", _fit(lambda n: bulk(post(0, **_user(x=["a:"] * n, y="bulkId:0"))))
    yield (
        "one operation of many names",
        _fit(lambda n: bulk(post(0, **_user(x={f"{i:x}": ":" for i in range(n)})))),
    )
    yield (
        "references to nobody",
        _fit(lambda n: bulk(*[post(i, x=["bulkId:x"] * (n // 900)) for i in range(900)])),
    )
    long = f"emails[{' or '.join(['value pr'] * 50)}]"
    yield (
        "long filters",
        _json(bulk(*[patch(*[{"op": "remove", "path": long} for _ in range(50)]) for _ in range(30)])),
    )
    yield "paths of quotes", _fit(lambda n: bulk(patch({"op": "remove", "path": '"bulkId:' * n})))
    yield "operations that are none", _fit(lambda n: bulk(*[{"method": "x" * (n // 1000)}] * 1000))


def _spelt(name: str, number: int) -> str:
    """Spell a name in one of the many ways that differ in case."""
    letters = [place for place, letter in enumerate(name) if letter.isalpha()]
    capitals = {place for bit, place in enumerate(letters) if number >> bit & 1}
    return "".join(
        letter.upper() if place in capitals else letter for place, letter in enumerate(name.lower())
    )
