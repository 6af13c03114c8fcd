"""Lists are filtered, sorted and paged as asked, by GET or by `.search`, of one type or of all."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.scim import messages, schemas
from usher_core.store import cursors, orders
from usher_core.testing import stacks

PATCH = messages.PATCH_OP_SCHEMA
SEARCH = {"schemas": [messages.SEARCH_REQUEST_SCHEMA]}
PEOPLE: list[dict[str, Any]] = [
    {"userName": "ada@x.io", "displayName": "Ada", "title": "50% Countess", "active": True,
     "nickName": "Élan", "name": {"givenName": "Ada"},
     schemas.ENTERPRISE_USER: {"department": "Engines", "manager": {"value": "7"}},
     "emails": [{"value": "ada@home.io", "type": "home"},
                {"value": "ada@x.io", "type": "work", "primary": True}]},
    {"userName": "bob@x.io", "displayName": "bob", "title": "50 Counts", "active": False,
     "emails": [{"value": "bob@x.io", "type": "home"}]},
    {"userName": "eve@x.io", "displayName": "Eve", "externalId": "E-1", "active": True,
     "emails": [{"value": "Eve@home.io", "type": "work"}]},
]  # fmt: skip


@pytest.fixture
async def made(client: httpx.AsyncClient) -> dict[str, str]:
    """Three users and two groups; their ids by name."""
    found = {}
    for person in PEOPLE:
        answer = await client.post("/Users", json=person)
        found[person["userName"].partition("@")[0]] = answer.json()["id"]
    for name, members in (("Team", ("ada", "bob")), ("Crew", ("eve",))):
        body = {"displayName": name, "members": [{"value": found[one]} for one in members]}
        found[name] = (await client.post("/Groups", json=body)).json()["id"]
    return found


def refused(answer: httpx.Response, scim_type: str | None, status: int = 400) -> bool:
    body = answer.json()
    told = (answer.status_code, body.get("scimType"), body["schemas"])
    return told == (status, scim_type, [messages.ERROR_SCHEMA]) and bool(body["detail"])


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [
        one["userName"].partition("@")[0] if "userName" in one else one["displayName"]
        for one in answer.json()["Resources"]
    ]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        pytest.param('/Users?filter=userName sw "A"', ["ada"], id="sw, in any case"),
        pytest.param('/Users?filter=title co "50%"', ["ada"], id="a percent sign is one"),
        pytest.param('/Users?filter=nickName eq "e\u0301lan"', ["ada"], id="beyond ASCII"),
        pytest.param("/Users?filter=title pr", ["ada", "bob"], id="pr"),
        pytest.param("/Users?filter=title eq null", ["eve"], id="null"),
        pytest.param("/Users?filter=phoneNumbers eq null and emails ne null", ["ada", "bob", "eve"],
                     id="null means the values"),
        pytest.param("/Users?filter=not (name pr)", ["bob", "eve"], id="what is complex and is not there"),
        pytest.param("/Users?filter=active eq false", ["bob"], id="a boolean; the inactive are found too"),
        pytest.param('/Users?filter=title ne "50 Counts"', ["ada", "eve"], id="ne holds for what has none"),
        pytest.param('/Users?filter=userName gt "ada@x.io" and userName lt "eve"', ["bob"], id="gt and lt"),
        pytest.param("/Users?filter=not (title pr) or externalId eq \"e-1\"", ["eve"], id="not, or"),
        pytest.param('/Users?filter=emails[type eq "work" and value co "HOME"]', ["eve"], id="a value path"),
        pytest.param('/Users?filter=emails[type eq "work"].value eq "ada@x.io"', ["ada"], id="Entra's email"),
        pytest.param('/Users?filter=department eq "engines"', ["ada"], id="an extension's bare name"),
        pytest.param(f'/Users?filter={schemas.ENTERPRISE_USER}:manager.value eq "7"', ["ada"], id="its URN"),
        pytest.param(f'/Users?filter={schemas.USER}:name.givenName eq "ada"', ["ada"], id="the core's URN"),
        pytest.param('/Users?filter=meta.lastModified gt "2020-01-01T00:00:00%2B02:00"',
                     ["ada", "bob", "eve"], id="a moment"),
        pytest.param('/Users?filter=meta.created lt "2020-01-01T00:00:00Z"', [], id="an earlier moment"),
        pytest.param('/Users?filter=groups.display eq "team"', ["ada", "bob"], id="groups of users"),
        pytest.param('/Groups?filter=members.display pr', [], id="members without a name"),
        pytest.param('/Groups?filter=meta.version eq "W/\\"1\\""', ["Team", "Crew"], id="a version"),
        pytest.param("/Users?sortBy=userName&sortOrder=descending", ["eve", "bob", "ada"], id="descending"),
        pytest.param("/Users?sortBy=DISPLAYNAME", ["ada", "bob", "eve"], id="sorted without regard to case"),
        pytest.param("/Users?sortBy=emails", ["ada", "bob", "eve"], id="sorted by the primary email"),
        pytest.param("/Users?sortBy=title", ["bob", "ada", "eve"], id="what has no value is last"),
        pytest.param("/Users?sortBy=title&sortOrder=descending", ["eve", "ada", "bob"], id="or first"),
        pytest.param("/Users?sortBy=title&startIndex=2&count=1", ["ada"], id="sorted and paged"),
        pytest.param("/Users?sortOrder=descending", ["ada", "bob", "eve"], id="an order of nothing"),
        pytest.param("/Users?cursor&hue=red&sortBy=&count=9", ["ada", "bob", "eve"], id="unknown parameters"),
        pytest.param("?sortBy=meta.created", ["ada", "bob", "eve", "Team", "Crew"], id="everything by age"),
        pytest.param('?filter=displayName co "E"', ["Team", "Crew", "eve"], id="everything of that name"),
        pytest.param('?filter=userName eq "bob@x.io"', ["bob"], id="a name that only users have"),
        pytest.param('?filter=not (userName pr)', ["Team", "Crew"], id="what groups do not have"),
        pytest.param('?filter=meta.resourceType eq "Group"&startIndex=2', ["Crew"], id="of one kind"),
        pytest.param("?cursor&count=1&filter=title pr", ["ada"], id="everything by cursor"),
    ],
)  # fmt: skip
async def test_lists_are_what_was_asked_for(
    client: httpx.AsyncClient, made: dict[str, str], path: str, found: list[str]
) -> None:
    assert names(await client.get(path)) == found


@pytest.mark.parametrize(
    "form", ["members eq", "members.value eq", 'members[type eq "User" and value eq', 'members[value sw']
)  # fmt: skip
async def test_groups_are_found_by_their_members(
    client: httpx.AsyncClient, made: dict[str, str], form: str
) -> None:
    closing = "]" if "[" in form else ""
    path = f'/Groups?filter={form} "{made["ada"]}"{closing}&attributes=id'
    answer = await client.get(path)
    assert [one["id"] for one in answer.json()["Resources"]] == [made["Team"]]
    assert set(answer.json()["Resources"][0]) == {"schemas", "id"}
    check = f'/Groups?filter=id eq "{made["Crew"]}" and {form} "{made["ada"]}"{closing}&attributes=id'
    assert (await client.get(check)).json()["totalResults"] == 0


@pytest.mark.parametrize(
    ("path", "scim_type"),
    [
        pytest.param("/Users?filter=active gt true", "invalidFilter", id="booleans have no order"),
        pytest.param('/Users?filter=name eq "x"', "invalidFilter", id="a complex attribute without a value"),
        pytest.param("/Users?filter=name eq null", "invalidFilter", id="null, as complex"),
        pytest.param("/Users?filter=addresses eq null", "invalidFilter", id="null, as many and complex"),
        pytest.param("/Users?filter=password pr", "invalidFilter", id="a password"),
        pytest.param(
            '/Users?filter=meta.location co "x"', "invalidFilter", id="what is made for each answer"
        ),
        pytest.param('?filter=userNam eq "x"', "invalidFilter", id="nobody has it"),
        pytest.param("/Users?sortBy=name", "invalidValue", id="sorted by what is complex"),
        pytest.param("/Users?sortBy=password", "invalidValue", id="sorted by a password"),
        pytest.param("/Users?sortBy=nothing", "invalidValue", id="sorted by nothing known"),
        pytest.param("/Users?sortBy=title&sortOrder=up", "invalidValue", id="no order"),
        pytest.param("/Users?startIndex=first", "invalidValue", id="no index"),
        pytest.param("/Users?count=1.5", "invalidCount", id="half a resource"),
        pytest.param("/Users?cursor&count=0", "invalidCount", id="a page by cursor of none"),
        pytest.param("/Users?cursor=AAAA", "invalidCursor", id="a cursor made up"),
        pytest.param("/Users?cursor=%00%C3%A9!", "invalidCursor", id="a cursor of odd characters"),
        pytest.param("/Users?attributes=id&excludedAttributes=meta", "invalidValue", id="both projections"),
    ],
)
async def test_what_can_not_be_asked_is_refused_in_words(
    client: httpx.AsyncClient, path: str, scim_type: str
) -> None:
    assert refused(await client.get(path), scim_type)


@pytest.mark.parametrize("query", ["filter=foo eq 1", "sortBy=foo", "filter=emails[foo eq 1]"])
async def test_whatever_is_not_known_the_nearest_name_is_told(client: httpx.AsyncClient, query: str) -> None:
    detail = (await client.get(f"/Users?{query}")).json()["detail"]
    assert "foo is no attribute of" in detail
    assert "; the nearest name is " in detail


async def test_cursors_lead_to_the_end_and_back(client: httpx.AsyncClient, made: dict[str, str]) -> None:
    asked = {"filter": "active pr", "sortBy": "userName", "sortOrder": "descending", "count": "1"}
    pages = [(await client.get("/Users", params=asked | {"cursor": ""})).json()]
    while "nextCursor" in pages[-1]:
        answer = await client.get("/Users", params=asked | {"cursor": pages[-1]["nextCursor"]})
        pages.append(answer.json())
    assert [page["Resources"][0]["userName"] for page in pages] == ["eve@x.io", "bob@x.io", "ada@x.io"]
    assert all((page["totalResults"], page["itemsPerPage"]) == (3, 1) for page in pages)
    assert ["previousCursor" in page for page in pages] == [False, True, True]
    assert not any("startIndex" in page for page in pages)
    back = (await client.get("/Users", params=asked | {"cursor": pages[2]["previousCursor"]})).json()
    assert back["Resources"] == pages[1]["Resources"]
    first = (await client.get("/Users", params=asked | {"cursor": back["previousCursor"]})).json()
    assert first["Resources"] == pages[0]["Resources"]
    assert "previousCursor" not in first
    # How much is shown of how many may change from page to page.
    rest = {"cursor": pages[0]["nextCursor"], "count": "50", "attributes": "userName"}
    assert names(await client.get("/Users", params=asked | rest)) == ["bob", "ada"]


@pytest.mark.parametrize("sort", ["", "&sortBy=userName&sortOrder=descending", "&sortBy=title"])
async def test_who_is_there_throughout_is_seen_once_while_others_are_written(
    client: httpx.AsyncClient, sort: str
) -> None:
    async def create(name: str) -> str:
        answer = await client.post("/Users", json={"userName": f"{name}@x.io", "title": name[::-1]})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    steady = await asyncio.gather(*(create(f"{number}steady") for number in range(20)))
    leaving = await asyncio.gather(*(create(f"{number}leaving") for number in range(20)))

    async def write(turn: int) -> None:
        await create(f"{turn}new")
        body = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "nickName", "value": f"{turn}"}]}
        assert (await client.patch(f"/Users/{steady[turn]}", json=body)).status_code == 200
        assert (await client.delete(f"/Users/{leaving[turn]}")).status_code == 204

    seen: list[str] = []
    cursor, turn = "", 0
    while turn == 0 or cursor:
        # While a page is read, others are written.
        asked = f"/Users?count=4&attributes=userName&cursor={cursor}{sort}"
        answer, _ = await asyncio.gather(client.get(asked), write(turn))
        page = answer.json()
        seen += [one["id"] for one in page["Resources"]]
        cursor, turn = page.get("nextCursor", ""), turn + 1
    assert sorted(one for one in seen if one in steady) == sorted(steady)
    assert turn > 5


async def test_a_cursor_serves_the_tenant_and_the_query_that_it_was_made_for(
    client: httpx.AsyncClient, stack: stacks.Stack, made: dict[str, str]
) -> None:
    cursor = (await client.get("/Users?cursor&count=1")).json()["nextCursor"]
    assert names(await client.get(f"/Users?count=1&cursor={cursor}")) == ["bob"]
    for other in ("/Users?filter=title pr&", "/Users?sortBy=title&", "/Groups?", "?"):
        assert refused(await client.get(f"{other}count=1&cursor={cursor}"), "invalidCursor")
    assert refused(await client.get(f"/Users?cursor={cursor[:-2]}AA"), "invalidCursor")
    stranger = await stack.make_tenant("globex")
    answer = await client.get(f"/Users?count=1&cursor={cursor}", headers=stranger.headers)
    assert refused(answer, "invalidCursor")


async def test_an_old_cursor_has_expired(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack, made: dict[str, str]
) -> None:
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("SELECT set_config('usher.tenant', %s, true)", (str(acme.tenant),))
        [(key,)] = connection.execute("SELECT cursor_key FROM tenants").fetchall()
    position = orders.Position("User", acme.tenant)  # type: ignore[arg-type]
    now = datetime.datetime.now(datetime.UTC)
    ages = [(datetime.timedelta(minutes=59), 200), (datetime.timedelta(minutes=61), 400)]
    for age, status in ages:
        query = b'[["User"],null,null,false]'
        text = cursors.write(key, query, cursors.Cursor(position, backward=False), now - age)
        answer = await client.get(f"/Users?cursor={text}")
        assert answer.status_code == status
    assert refused(answer, "expiredCursor")


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        pytest.param("/Users/.search", {"filter": 'userName sw "e"'}, ["eve"], id="a filter"),
        pytest.param("/Users/.search", {"sortBy": "userName", "sortOrder": "descending", "startIndex": 2},
                     ["bob", "ada"], id="a sorted page"),
        pytest.param("/Users/.search", {"FILTER": "title pr", "Count": 1}, ["ada"], id="names in any case"),
        pytest.param("/Groups/.search", {"count": "1", "filter": None}, ["Team"], id="quotes, null"),
        pytest.param("/.search", {"filter": 'displayName co "e"', "count": 2}, ["Team", "Crew"], id="all"),
        pytest.param("/.search", {"count": 1, "cursor": ""}, ["Team"], id="a cursor"),
    ],
)  # fmt: skip
async def test_a_search_by_post_is_a_query(
    client: httpx.AsyncClient, made: dict[str, str], path: str, body: dict[str, Any], found: list[str]
) -> None:
    answer = await client.post(path, json=SEARCH | body)
    assert names(answer) == found
    assert answer.json()["schemas"] == [messages.LIST_RESPONSE_SCHEMA]


async def test_a_search_shows_what_was_asked_of_each_type(
    client: httpx.AsyncClient, made: dict[str, str]
) -> None:
    answer = await client.post("/.search", json=SEARCH | {"attributes": ["userName", "members.value"]})
    shown = {frozenset(one) for one in answer.json()["Resources"]}
    assert shown == {frozenset({"schemas", "id", "userName"}), frozenset({"schemas", "id", "members"})}
    answer = await client.post("/Users/.search", json=SEARCH | {"excludedAttributes": ["emails", "meta"]})
    assert not any("emails" in one or "meta" in one for one in answer.json()["Resources"])
    listed = (await client.get('?filter=meta.resourceType eq "Group"')).json()["Resources"]
    assert listed[0] == (await client.get(f"/Groups/{listed[0]['id']}")).json()


async def test_pages_by_post_go_on_by_get(client: httpx.AsyncClient, made: dict[str, str]) -> None:
    first = (await client.post("/Users/.search", json=SEARCH | {"cursor": "", "count": 2})).json()
    assert names(await client.get(f"/Users?cursor={first['nextCursor']}")) == ["eve"]


@pytest.mark.parametrize(
    ("path", "body", "status", "scim_type"),
    [
        pytest.param("/Users/.search", [], 400, "invalidSyntax", id="no object"),
        pytest.param("/Users/.search", {"schemas": ["urn:foo"]}, 400, "invalidSyntax", id="another message"),
        pytest.param("/Users/.search", {"filter": 7}, 400, "invalidValue", id="a filter that is no text"),
        pytest.param("/Users/.search", {"attributes": [7]}, 400, "invalidValue", id="names that are none"),
        pytest.param("/Users/.search", {"count": True}, 400, "invalidCount", id="a count that is none"),
        pytest.param(
            "/Users/.search", {"schemas": ["urn:scim:schemas:core:1.0"]}, 400, "invalidVers", id="SCIM 1.x"
        ),
        pytest.param("/Gadgets/.search", {}, 404, None, id="no endpoint"),
        pytest.param("/Schemas/.search", {}, 405, None, id="discovery"),
        pytest.param("/Me", {}, 501, None, id="Me"),
    ],
)
async def test_a_search_that_can_not_be_is_refused_in_words(
    client: httpx.AsyncClient, path: str, body: Any, status: int, scim_type: str | None
) -> None:
    assert refused(await client.post(path, json=body), scim_type, status)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_nobody_is_me(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/Me")
    assert refused(answer, None, 501)
    assert "token" in answer.json()["detail"]


async def test_a_reader_may_search(client: httpx.AsyncClient, stack: stacks.Stack) -> None:
    reader = await stack.make_tenant("readers", role="reader")
    assert (await client.post("/.search", json=SEARCH, headers=reader.headers)).status_code == 200
    assert (await client.post("/.search", json=SEARCH, headers={"Authorization": "x"})).status_code == 401


async def test_discovery_tells_how_lists_can_be_asked_for_and_is_no_list_itself(
    client: httpx.AsyncClient,
) -> None:
    config = (await client.get("/ServiceProviderConfig")).json()
    assert (config["filter"]["supported"], config["sort"]["supported"]) == (True, True)
    assert config["pagination"] == {
        "cursor": True, "index": True, "defaultPaginationMethod": "index",
        "defaultPageSize": 100, "maxPageSize": 200, "cursorTimeout": 3600,
    }  # fmt: skip
    for path in ("/Schemas", "/ResourceTypes", "/ServiceProviderConfig"):
        assert refused(await client.get(f"{path}?filter=id pr"), None, 403)
