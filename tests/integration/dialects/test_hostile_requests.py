"""Whatever is sent, the answer is SCIM and below 500, and the service goes on.

The requests go out as bytes on a socket: no client library would send most of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import urllib.parse
import uuid
from typing import Any

import fastapi.routing
import psycopg
import pytest
import pytest_asyncio
from psycopg.types.json import Jsonb

from usher_api import routes
from usher_core.scim import messages
from usher_core.testing import stacks

BASE = b"/iam/scim/v2"
NOBODY = str(uuid.UUID(int=5)).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm(stack: stacks.Stack) -> stacks.Access:
    """A tenant for all tests that leave nothing behind."""
    return await stack.make_tenant("calm")


def exchange(stack: stacks.Stack, request: bytes, *, cut: bool = False) -> tuple[int, str, bytes] | None:
    """Send bytes and read an answer: status, media type, body; `None` when the connection just ends.

    With `cut` the client ends its side of the connection once all is sent.
    """
    method = "HEAD" if request.startswith(b"HEAD ") else None  # which has no body to wait for
    with socket.create_connection(("127.0.0.1", stack.port), 20) as connection:
        # What is refused early is answered before all of it was taken.
        with contextlib.suppress(OSError):
            connection.sendall(request)
            if cut:
                connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection, method=method)
        try:
            answer.begin()
            return answer.status, answer.getheader("content-type", ""), answer.read()
        except (ConnectionError, http.client.BadStatusLine):
            return None


def framed(
    access: stacks.Access, method: bytes, target: bytes, body: bytes | None, headers: tuple[bytes, ...] = ()
) -> bytes:
    """Frame a request as a decent client does; `headers` come on top, and stand first."""
    lines = [
        method + b" " + target + b" HTTP/1.1",
        *headers,
        b"Host: 127.0.0.1",
        b"Authorization: Bearer " + access.token.encode(),
        b"Content-Type: application/scim+json",
    ]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def insist_on_scim_error(answer: tuple[int, str, bytes] | None, *statuses: int) -> None:
    assert answer is not None, "no answer"
    status, media_type, body = answer
    assert status in statuses, answer
    assert media_type == "application/scim+json", answer
    told = json.loads(body)
    assert told["schemas"] == [messages.ERROR_SCHEMA]
    assert told["status"] == str(status)
    assert told["detail"]
    assert len(body) < 2000, "an answer that grows with the request"


def insist_on_health(stack: stacks.Stack, access: stacks.Access) -> None:
    answer = exchange(stack, framed(access, b"GET", BASE + b"/Users?count=1", None))
    assert answer is not None
    assert answer[0] == 200
    for process in ("api", "worker-0"):
        log = stack.log(process)
        assert "request.failed" not in log
        assert "Traceback" not in log
        assert "exc_info" not in log


def user(**more: Any) -> bytes:
    return json.dumps({"userName": "a@x.io"} | more).encode()


def operations(*listed: Any) -> bytes:
    return json.dumps({"schemas": [messages.PATCH_OP_SCHEMA], "Operations": list(listed)}).encode()


BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b" ", id="blank"),
    pytest.param(b"null", id="null"),
    pytest.param(b'"userName"', id="a string"),
    pytest.param(b"{", id="cut off"),
    pytest.param(b'{"userName":"a@x.io"}{}', id="two documents"),
    pytest.param(b'{"userName":"a@x.io",}', id="a comma too many"),
    pytest.param(b'{"userName":NaN}', id="NaN"),
    pytest.param(b'{"userName":1e400}', id="beyond all floats"),
    pytest.param(b'{"userName":' + b"9" * 5000 + b"}", id="5,000 digits"),
    pytest.param(b'{"userName":"a@x.io","active":1e999}', id="an infinite boolean"),
    pytest.param(b'{"userName":"a@x.io","active":"yes"}', id="a boolean that is none"),
    pytest.param(b'{"userName":' + b"[" * 100_000 + b"}", id="100,000 brackets"),
    pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100,000 objects"),
    pytest.param(b'{"userName":"a@x.io","x":' + b"[" * 40 + b"]" * 40 + b"}", id="40 levels"),
    pytest.param(b'{"userName":"a\\u0000b@x.io"}', id="NUL"),
    pytest.param(b'{"userName":"a@x.io","name":{"givenName":"\\u0000"}}', id="NUL inside"),
    pytest.param(b'{"userName":"a\x00b@x.io"}', id="a bare NUL"),
    pytest.param(b'{"userName":"a\x1fb@x.io"}', id="a bare control character"),
    pytest.param(b'{"userName":"\\ud800@x.io"}', id="half a surrogate pair"),
    pytest.param(b'{"userName":"\\udc00\\ud800@x.io"}', id="a surrogate pair the wrong way round"),
    pytest.param(b'{"\\ud800":1,"userName":"a@x.io"}', id="half a surrogate pair as key"),
    pytest.param(b'{"userName":"\xff@x.io"}', id="no UTF-8"),
    pytest.param(b'{"userName":"\xc0\xae@x.io"}', id="overlong UTF-8"),
    pytest.param(b'{"userName":"\xed\xa0\x80@x.io"}', id="a surrogate in UTF-8"),
    pytest.param('{"userName":"a@x.io"}'.encode("utf-16"), id="UTF-16"),
    pytest.param(b"\xef\xbb\xbf" + user(), id="a byte order mark"),
    pytest.param(b"\x1f\x8b\x08\x00" + b"\x00" * 20, id="gzip"),
    pytest.param(b"<user><userName>a@x.io</userName></user>", id="XML"),
    pytest.param(b"userName=a%40x.io", id="a form"),
    pytest.param(user(userName={"value": "a@x.io"}), id="an object for a string"),
    pytest.param(user(userName="a" * 1000 + "@x.io"), id="a userName of 1,000 characters"),
    pytest.param(user(name=[1, 2]), id="a list for an object"),
    pytest.param(user(emails=[[["a@x.io"]]]), id="lists in a list"),
    pytest.param(user(emails=[{"value": one, "primary": True} for one in "ab"]), id="two primaries"),
    pytest.param(user(schemas=[1]), id="a number among the schemas"),
    pytest.param(user(schemas="x" * 10_000, name=3), id="schemas of 10,000 characters"),
    pytest.param(user(title="x" * 1_048_576), id="a megabyte and more"),
]


@pytest.mark.parametrize("body", BODIES)
def test_a_hostile_body_is_refused(stack: stacks.Stack, calm: stacks.Access, body: bytes) -> None:
    answer = exchange(stack, framed(calm, b"POST", BASE + b"/Users", body))
    insist_on_scim_error(answer, 400, 413)
    insist_on_health(stack, calm)


NOISE = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(200))  # no compression

TOLERATED = [
    pytest.param(b'{"userName":"b@x.io","userName":"a@x.io"}', {"userName": "a@x.io"}, id="a key twice"),
    pytest.param(b'{"USERNAME":"a@x.io"}', {"userName": "a@x.io"}, id="a key in capitals"),
    pytest.param(user(x={"y": [1e300, None, {}]}), {"x": None}, id="unknown numbers"),
    pytest.param(user(x=10**40), {"x": None}, id="an unknown number of 40 digits"),
    pytest.param(user(title="'; DROP TABLE x; --"), {"title": "'; DROP TABLE x; --"}, id="SQL"),
    pytest.param(user(title="\u202e\U0001f600\u0301"), {"title": "\u202e\U0001f600\u0301"}, id="odd Unicode"),
    pytest.param(user(title="x" * 900_000), {"title": "x" * 900_000}, id="a title of 900,000 characters"),
    pytest.param(user(__proto__={"active": False}), {"__proto__": None}, id="a prototype"),
    pytest.param(user(**{"name.givenName": "G", "": 1}), {"name": None}, id="a path and nothing as keys"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), TOLERATED)
def test_an_odd_body_is_read_as_far_as_it_means_something(
    stack: stacks.Stack, acme: stacks.Access, body: bytes, wanted: dict[str, Any]
) -> None:
    answer = exchange(stack, framed(acme, b"POST", BASE + b"/Users", body))
    assert answer is not None
    assert answer[0] == 201, answer
    made = json.loads(answer[2])
    assert {key: made.get(key) for key in wanted} == wanted
    insist_on_health(stack, acme)


LONG = "\u00e9" * 512  # as many bytes as an indexed value may have


@pytest.mark.parametrize("value", [pytest.param(NOISE, id="12,800"), pytest.param(LONG, id="1,024")])
@pytest.mark.parametrize("attribute", ["userName", "externalId", "displayName", "emails"])
def test_a_value_is_stored_or_too_long_for_an_index(
    stack: stacks.Stack, acme: stacks.Access, attribute: str, value: str
) -> None:
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, true)", (str(acme.tenant),))
        app.execute("UPDATE tenants SET config = %s", (Jsonb({"user_name_format": "Any"}),))
    body = user(**{attribute: [{"value": value}] if attribute == "emails" else value})
    answer = exchange(stack, framed(acme, b"POST", BASE + b"/Users", body))
    if value == LONG:
        assert answer is not None
        assert answer[0] == 201, answer
    else:
        insist_on_scim_error(answer, 400)
    insist_on_health(stack, acme)


GUID = str(uuid.UUID(int=9))
PATCHES = [
    pytest.param(operations(), id="no operations"),
    pytest.param(operations(7), id="a number"),
    pytest.param(operations({"op": "move", "path": "title", "value": "x"}), id="an operation of another RFC"),
    pytest.param(operations({"op": ["add"], "path": "title", "value": "x"}), id="op in a list"),
    pytest.param(operations({"op": "add", "path": 7, "value": "x"}), id="a path that is a number"),
    pytest.param(operations({"op": "add", "path": "x" * 100_000, "value": "x"}), id="an endless path"),
    pytest.param(operations({"op": "add", "path": "title\0", "value": "x"}), id="NUL in a path"),
    pytest.param(operations({"op": "add", "path": "emails[", "value": "x"}), id="an open bracket"),
    pytest.param(operations({"op": "add", "path": "emails[]", "value": "x"}), id="empty brackets"),
    pytest.param(operations({"op": "add", "path": "emails[[[[", "value": "x"}), id="brackets in brackets"),
    pytest.param(operations({"op": "add", "path": "emails[type eq]", "value": "x"}), id="half a filter"),
    pytest.param(operations({"op": "add", "path": 'emails[a[b eq "c"]]', "value": "x"}), id="nested paths"),
    pytest.param(operations({"op": "add", "path": f"emails[{'(' * 5000}]", "value": 1}), id="5,000 groups"),
    pytest.param(operations({"op": "add", "path": "__class__.__init__", "value": "x"}), id="names of Python"),
    pytest.param(operations({"op": "add", "path": "../title", "value": "x"}), id="a path of a file system"),
    pytest.param(operations({"op": "remove"}), id="a remove of nothing"),
    pytest.param(operations({"op": "remove", "path": "userName"}), id="a remove of what is required"),
    pytest.param(operations({"op": "replace", "path": "id", "value": GUID}), id="another id"),
    pytest.param(operations({"op": "replace", "path": "meta.version", "value": "x"}), id="another version"),
    pytest.param(operations({"op": "replace", "value": "x"}), id="a string for an object"),
    pytest.param(operations({"op": "replace", "value": [{"title": "x"}]}), id="a list for an object"),
    pytest.param(operations({"op": "add", "path": "title", "value": {"a": 1}}), id="an object for a string"),
    pytest.param(operations({"op": "add", "path": "title", "value": "\0"}), id="NUL in a value"),
    pytest.param(b'{"Operations":[{"op":"add","path":"title","value":"\\ud800"}]}', id="half a surrogate"),
    pytest.param(b'{"Operations":{"op":"add"}}', id="one operation without a list"),
    pytest.param(b'{"schemas":["urn:x"],"Operations":[{"op":"remove","path":"title"}]}', id="no message"),
]  # fmt: skip


@pytest.mark.parametrize("body", PATCHES)
def test_a_hostile_patch_is_refused_and_changes_nothing(
    stack: stacks.Stack, acme: stacks.Access, body: bytes
) -> None:
    made = exchange(stack, framed(acme, b"POST", BASE + b"/Users", user(title="before")))
    assert made is not None
    target = BASE + b"/Users/" + json.loads(made[2])["id"].encode()
    insist_on_scim_error(exchange(stack, framed(acme, b"PATCH", target, body)), 400)
    after = exchange(stack, framed(acme, b"GET", target, None))
    assert after is not None
    assert json.loads(after[2]) == json.loads(made[2])
    insist_on_health(stack, acme)


def test_an_endless_list_of_operations_is_refused_or_applied(
    stack: stacks.Stack, acme: stacks.Access
) -> None:
    made = exchange(stack, framed(acme, b"POST", BASE + b"/Users", user()))
    assert made is not None
    target = BASE + b"/Users/" + json.loads(made[2])["id"].encode()
    many = operations(*({"op": "add", "path": "title", "value": str(n)} for n in range(15_000)))
    answer = exchange(stack, framed(acme, b"PATCH", target, many))
    assert answer is not None
    assert answer[0] in (200, 400, 413), answer
    insist_on_health(stack, acme)


def quoted(text: str) -> bytes:
    return urllib.parse.quote(text).encode()


REFUSED_QUERIES = [
    pytest.param(b"filter=" + quoted('userName eq "' + "x" * 9000 + '"'), id="a filter of 9,000 characters"),
    pytest.param(b"filter=" + quoted("(" * 21 + "active pr" + ")" * 21), id="21 groups"),
    pytest.param(b"filter=" + quoted("(" * 4000), id="4,000 open groups"),
    pytest.param(b"filter=" + quoted("not (" * 1000), id="1,000 negations"),
    pytest.param(b"filter=" + quoted(" or ".join(["active pr"] * 102)), id="102 conditions"),
    pytest.param(b"filter=" + quoted(" and " * 1000), id="1,000 connectives"),
    pytest.param(b"filter=" + quoted('userName eq "'), id="a string without an end"),
    pytest.param(b"filter=" + quoted('userName eq "' + "\\" * 4001), id="4,001 backslashes"),
    pytest.param(b"filter=" + quoted('userName eq "\\x"'), id="an escape that is none"),
    pytest.param(b"filter=" + quoted('userName eq "\\ud800"'), id="half a surrogate pair"),
    pytest.param(b"filter=" + quoted('userName eq "\\u0000"'), id="an escaped NUL"),
    pytest.param(b"filter=userName%20eq%20%22%00%22", id="a NUL"),
    pytest.param(b"filter=", id="nothing"),
    pytest.param(b"filter=%20", id="a blank"),
    pytest.param(b"filter=userName", id="a name alone"),
    pytest.param(b"filter=userName%20eq", id="no value"),
    pytest.param(b"filter=userName%20is%20x", id="an operator that is none"),
    pytest.param(b"filter=" + quoted("1 eq 1"), id="two numbers"),
    pytest.param(b"filter=" + quoted("userName eq userName or 1=1"), id="SQL"),
    pytest.param(b"filter=" + quoted("emails[type eq"), id="an open bracket"),
    pytest.param(b"filter=" + quoted('emails[type eq "a"]]'), id="a bracket too many"),
    pytest.param(b"filter=" + quoted('emails[emails[type eq "a"]]'), id="nested value paths"),
    pytest.param(b"filter=" + quoted('password eq "x"'), id="the password"),
    pytest.param(b"filter=" + quoted('meta.created gt "yesterday"'), id="a date that is none"),
    pytest.param(b"filter=" + quoted("active gt true"), id="an order of booleans"),
    pytest.param(b"filter=" + quoted("active eq 1e999"), id="a number for a boolean"),
    pytest.param(b"filter=" + b"%F0%9F%98%80" * 100, id="100 smileys"),
    pytest.param(b"count=many", id="a count that is no number"),
    pytest.param(b"count=1.5", id="half a count"),
    pytest.param(b"count=" + b"9" * 5000, id="a count of 5,000 digits"),
    pytest.param(b"startIndex=0x10", id="a hexadecimal start"),
    pytest.param(b"startIndex=%00", id="NUL for a start"),
]


@pytest.mark.parametrize("query", REFUSED_QUERIES)
@pytest.mark.parametrize("endpoint", [b"/Users", b"/Groups"])
def test_a_hostile_query_is_refused(
    stack: stacks.Stack, calm: stacks.Access, endpoint: bytes, query: bytes
) -> None:
    answer = exchange(stack, framed(calm, b"GET", BASE + endpoint + b"?" + query, None))
    insist_on_scim_error(answer, 400)
    insist_on_health(stack, calm)


ANSWERED_QUERIES = [
    pytest.param(b"startIndex=99999999999999999999999999", id="a start beyond all integers"),
    pytest.param(b"startIndex=-99999999999999999999999999", id="a start below all integers"),
    pytest.param(b"count=99999999999999999999999999", id="a count beyond all integers"),
    pytest.param(b"count=-1", id="a negative count"),
    pytest.param(b"filter=" + quoted('userName eq "' + "x" * 8000 + '"'), id="a value of 8,000 characters"),
    pytest.param(b"filter=" + quoted('userName eq "%" or userName eq "_"'), id="wildcards of SQL"),
    pytest.param(b"filter=" + quoted("userName eq \"' OR ''='\""), id="quotes of SQL"),
    pytest.param(b"filter=" + quoted('userName eq "\\uD83D\\uDE00"'), id="an escaped smiley"),
    pytest.param(b"filter=" + quoted("(" * 20 + 'id eq "x"' + ")" * 20), id="20 groups"),
    pytest.param(b"filter=" + quoted(" and ".join(['id eq "x"'] * 50)), id="50 conditions"),
    pytest.param(b"filter=userName%20eq%20%22%FF%22", id="no UTF-8"),
    pytest.param(b"&&&=&;&%&%zz", id="nothing but marks"),
    pytest.param(b"x=1&" * 10_000, id="10,000 parameters"),
]


@pytest.mark.parametrize("query", ANSWERED_QUERIES)
def test_an_odd_query_is_answered_with_nobody(stack: stacks.Stack, calm: stacks.Access, query: bytes) -> None:
    answer = exchange(stack, framed(calm, b"GET", BASE + b"/Users?" + query, None))
    assert answer is not None
    assert answer[0] == 200, answer
    assert json.loads(answer[2])["Resources"] == []
    insist_on_health(stack, calm)


PATHS = [
    pytest.param(b"/Users/%2e%2e/%2e%2e/%2e%2e/healthz", 404, id="encoded dots"),
    pytest.param(b"/Users/../../../metrics", 404, id="dots"),
    pytest.param(b"/Users/..%2f..%2fmetrics", 404, id="encoded slashes"),
    pytest.param(b"/Users/..;/Groups", 404, id="dots and a semicolon"),
    pytest.param(b"/Users;v=1", 404, id="a parameter of the path"),
    pytest.param(b"/Users/" + NOBODY + b";v=1", 404, id="a parameter of the id"),
    pytest.param(b"/Users/%00", 404, id="NUL"),
    pytest.param(b"/Users%00", 404, id="NUL behind the endpoint"),
    pytest.param(b"/Users/" + NOBODY + b"%00", 404, id="NUL behind an id"),
    pytest.param(b"/Users/" + NOBODY + b"%0a", 404, id="a new line behind an id"),
    pytest.param(b"/Users/%0d%0aX-Injected:%201", 404, id="a header in the path"),
    pytest.param(b"/Users/%ff%fe", 404, id="no UTF-8"),
    pytest.param(b"/Users/%ed%a0%80", 404, id="a surrogate in UTF-8"),
    pytest.param(b"/Users/%zz", 404, id="a percent sign that encodes nothing"),
    pytest.param(b"/Users/" + b"a" * 50_000, 404, id="an id of 50,000 characters"),
    pytest.param(b"/Users/{" + NOBODY + b"}", 404, id="an id in braces"),
    pytest.param(b"/Users/urn:uuid:" + NOBODY, 404, id="an id as URN"),
    pytest.param(b"/Users/" + NOBODY.replace(b"-", b""), 404, id="an id without dashes"),
    pytest.param(b"/Users/%E2%82%AC%F0%9F%98%80", 404, id="an id of odd characters"),
    pytest.param(b"/users", 404, id="an endpoint in small letters"),
    pytest.param(b"/" + b"x/" * 10_000, 404, id="10,000 folders"),
    pytest.param(b"/Schemas/" + b"urn:" * 5000, 404, id="an endless URN"),
    pytest.param(b"/ResourceTypes/__class__", 404, id="a name of Python"),
    pytest.param(b"/Users\\" + NOBODY, 404, id="a backslash"),
]


@pytest.mark.parametrize(("path", "status"), PATHS)
def test_a_trick_of_the_path_finds_nothing(
    stack: stacks.Stack, calm: stacks.Access, path: bytes, status: int
) -> None:
    insist_on_scim_error(exchange(stack, framed(calm, b"GET", BASE + path, None)), status)
    insist_on_health(stack, calm)


CREDENTIALS = [
    pytest.param(b"Bearer \xff\xfe", id="odd bytes"),
    pytest.param(b"Bearer usher_" + b"a" * 30_000, id="an endless token"),
    pytest.param(b"", id="nothing"),
    pytest.param(b"Bearer", id="a scheme alone"),
    pytest.param(b"Bearer " + b" " * 1000, id="blanks"),
    pytest.param(b"Negotiate YII=", id="another scheme"),
    pytest.param(b"Basic " + b"=" * 1000, id="Basic of no base64"),
    pytest.param(b"Bearer a b c", id="three words"),
]


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_hostile_credentials_are_refused(
    stack: stacks.Stack, calm: stacks.Access, credentials: bytes
) -> None:
    # The first counts, and the good ones come second.
    header = (b"Authorization: " + credentials,)
    insist_on_scim_error(exchange(stack, framed(calm, b"GET", BASE + b"/Users", None, header)), 401)
    insist_on_health(stack, calm)


HEADERS = [
    pytest.param((b"Content-Length: -1",), (400,), id="a negative length"),
    pytest.param((b"Content-Length: 5", b"Content-Length: 6"), (400,), id="two lengths"),
    pytest.param((b"Content-Length: 1e3",), (400,), id="a length that is none"),
    pytest.param((b"Content-Length: 99999999999999999999999999",), (400, 413), id="a length beyond all"),
    pytest.param((b"Transfer-Encoding: chunked", b"Content-Length: 5"), (400,), id="two framings"),
    pytest.param((b"Transfer-Encoding: gzip",), (400,), id="an unknown framing"),
    pytest.param((b'If-Match: "1\x00"',), (400,), id="NUL in a header"),
    pytest.param((b"Bad Header: 1",), (400,), id="a space in a name"),
    pytest.param((b": no name",), (400,), id="no name"),
    pytest.param((b"no colon",), (400,), id="no colon"),
]


@pytest.mark.parametrize(("headers", "statuses"), HEADERS)
def test_a_hostile_header_is_refused(
    stack: stacks.Stack, calm: stacks.Access, headers: tuple[bytes, ...], statuses: tuple[int, ...]
) -> None:
    request = framed(calm, b"POST", BASE + b"/Users", None, headers) + b"{}"
    insist_on_scim_error(exchange(stack, request, cut=True), *statuses)
    insist_on_health(stack, calm)


ODD_HEADERS = [
    pytest.param((b"Accept: " + b"text/html," * 500,), id="an endless Accept"),
    pytest.param((b"Accept: \xff/\xff;q=zz",), id="an Accept of odd bytes"),
    pytest.param((b"If-None-Match: \"x\", W/, *, \"99999999999999999999\"",), id="odd versions"),
    pytest.param((b"X-Request-Id: " + b"a" * 10_000,), id="an endless request id"),
    pytest.param((b"X-Request-Id: a\xffb\tc",), id="a request id of odd bytes"),
    pytest.param((b"Host: evil.example:99999",), id="another host"),
    pytest.param((b"Host: a, b@[::",), id="a host that is none"),
    pytest.param((b"X-Forwarded-Host: evil.example", b"X-Forwarded-Proto: gopher"), id="another proxy"),
    pytest.param((b"Expect: 100-continue",), id="an expectation"),
    pytest.param((b"Upgrade: websocket", b"Connection: Upgrade"), id="an upgrade"),
    pytest.param((b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAA"), id="h2c"),
    pytest.param(tuple(b"X-%d: %d" % (n, n) for n in range(500)), id="500 headers"),
    pytest.param((b"Range: bytes=0-0,1-1,2-2", b"TE: trailers", b"Trailer: X"), id="ranges and trailers"),
]  # fmt: skip


@pytest.mark.parametrize("headers", ODD_HEADERS)
def test_an_odd_header_harms_nobody(
    stack: stacks.Stack, calm: stacks.Access, headers: tuple[bytes, ...]
) -> None:
    answer = exchange(stack, framed(calm, b"GET", BASE + b"/Users", None, headers))
    assert answer is not None
    if answer[0] != 200:
        insist_on_scim_error(answer, 400, 401)
    assert b"evil.example" not in answer[2]
    insist_on_health(stack, calm)


STREAMS = [
    pytest.param(b"NONSENSE\r\n\r\n", id="no HTTP"),
    pytest.param(b"GET\r\n\r\n", id="no path"),
    pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="another version"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, id="TLS"),
    pytest.param(b"GET /iam/scim/v2/Us ers HTTP/1.1\r\nHost: x\r\n\r\n", id="a space in the path"),
    pytest.param(b"GET /iam/scim/v2/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", id="NUL in the path"),
    pytest.param(b"G\xffT / HTTP/1.1\r\nHost: x\r\n\r\n", id="an odd method"),
    pytest.param(b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", id="a URL without a host"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", id="an asterisk"),
    pytest.param(b"GET http://evil.example/iam/scim/v2/Users HTTP/1.1\r\nHost: x\r\n\r\n", id="a whole URL"),
    pytest.param(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", id="CONNECT"),
    pytest.param(b"GET /iam/scim/v2/Users HTTP/1.0\r\n\r\n", id="HTTP/1.0 without a host"),
    pytest.param(b"GET /iam/scim/v2/Users HTTP/1.1\r\n\r\n", id="no host"),
    pytest.param(b"GET /iam/scim/v2 HTTP/1.1\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", id="an endless header"),
    pytest.param(b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="an endless path"),
]  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS)
def test_what_is_hardly_http_is_refused(stack: stacks.Stack, calm: stacks.Access, stream: bytes) -> None:
    insist_on_scim_error(exchange(stack, stream, cut=True), 400, 401, 404, 405, 431)
    insist_on_health(stack, calm)


CHUNKED = (b"Transfer-Encoding: chunked",)
FIRST = b"1a\r\n" + b'{"userName":"cut@x.io","x":' + b"\r\n"
CUT = [
    pytest.param(CHUNKED, FIRST, id="chunks without an end"),
    pytest.param(CHUNKED, b"ff\r\n{", id="half a chunk"),
    pytest.param(CHUNKED, FIRST + b"zz\r\n", id="a size that is none"),
    pytest.param(CHUNKED, b"FFFFFFFFFFFFFFFFF\r\n{", id="a size beyond all"),
    pytest.param(CHUNKED, b"-1\r\n{", id="a negative size"),
    pytest.param((b"Content-Length: 1000",), b'{"userName":"cut@x.io"', id="less than its length"),
]


@pytest.mark.parametrize(("headers", "sent"), CUT)
def test_a_body_that_is_cut_off_creates_nobody(
    stack: stacks.Stack, acme: stacks.Access, headers: tuple[bytes, ...], sent: bytes
) -> None:
    request = framed(acme, b"POST", BASE + b"/Users", None, headers) + sent
    answer = exchange(stack, request, cut=True)
    if answer is not None:  # nobody waits for one
        insist_on_scim_error(answer, 400)
    found = exchange(stack, framed(acme, b"GET", BASE + b"/Users", None))
    assert found is not None
    assert json.loads(found[2])["totalResults"] == 0
    insist_on_health(stack, acme)


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MERGE")
USER = "urn:ietf:params:scim:schemas:core:2.0:User"


def all_routes() -> dict[str, set[str]]:
    """List every path that the api serves, with its methods; each endpoint's are those of the two types."""
    found: dict[str, set[str]] = {}
    for route in routes.router.routes:
        assert isinstance(route, fastapi.routing.APIRoute)
        for endpoint in ("Users", "Groups"):
            path = route.path.format(endpoint=endpoint, resource_id=NOBODY.decode(), name="User", urn=USER)
            found.setdefault(path, set()).update(route.methods or ())
    return found


ROUTES = all_routes()


def test_the_table_of_routes_is_whole() -> None:
    assert len(ROUTES) >= 9
    assert ROUTES["/iam/scim/v2/Groups"] == {"GET", "HEAD", "POST"}
    assert ROUTES[f"/iam/scim/v2/Users/{NOBODY.decode()}"] == {"GET", "HEAD", "PUT", "PATCH", "DELETE"}


@pytest.mark.parametrize("route", ROUTES)
def test_a_method_that_a_route_does_not_have_is_refused(
    stack: stacks.Stack, calm: stacks.Access, route: str
) -> None:
    for method in METHODS:
        if method not in ROUTES[route]:
            answer = exchange(stack, framed(calm, method.encode(), route.encode(), b"{}"))
            insist_on_scim_error(answer, 405)
    insist_on_health(stack, calm)


@pytest.mark.parametrize("route", [*ROUTES, "/iam/scim/v2/Gadgets", "/iam/scim/v2/Gadgets/1"])
def test_no_route_answers_without_a_token(stack: stacks.Stack, calm: stacks.Access, route: str) -> None:
    for method in ROUTES.get(route, {"GET"}) - {"HEAD"}:
        bare = f"{method} {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}"
        insist_on_scim_error(exchange(stack, bare.encode()), 401)
    insist_on_health(stack, calm)
