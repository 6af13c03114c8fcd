"""Play the conversations of two identity providers against a fresh Usher, and check what came of them.

Run it with `make demo`. It starts `usher dev` on a free port with fresh data, speaks to it over HTTP as
Okta and Entra ID do, prints a line a step, and ends with the directory and the way of each change.
Exit status 0 means that every answer and the final directory are what they must be.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).parent
CORE = "urn:ietf:params:scim:schemas:core:2.0"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

console = Console(width=118, highlight=False)
wrong: list[str] = []


@contextlib.contextmanager
def usher() -> Iterator[dict[str, Any]]:
    """Run `usher dev` in a temporary folder; yields what its ready file says."""
    with tempfile.TemporaryDirectory(prefix="usher-demo-") as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "log")
        command = [sys.executable, "-m", "usher_core.commands", "dev", "--listen", "127.0.0.1:0",
                   "--data", f"{folder}/data", "--tenants", str(EXAMPLES / "acme.yaml"),
                   "--ready-file", str(ready)]  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            for _ in range(600):
                if ready.exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            if not ready.exists():
                sys.exit(f"usher dev did not start:\n{log.read_text()[-4000:]}")
            yield json.loads(ready.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            if process.wait(60):
                sys.exit(f"usher dev ended with an error:\n{log.read_text()[-4000:]}")


def expect(what: str, found: object, wanted: object) -> None:
    """Note what is not as it must be."""
    if found != wanted:
        wrong.append(f"{what}: {found!r} instead of {wanted!r}")


class Provider:
    """An identity provider: it sends requests in its own manner and prints each."""

    def __init__(self, name: str, tenant: dict[str, str], headers: dict[str, str]) -> None:
        console.print(f"\n[bold]{name}[/bold]")
        self._name = name
        self._base = tenant["base_url"]
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {tenant['token']}"} | headers, timeout=60
        )

    def send(
        self,
        step: str,
        method: str,
        path: str,
        status: int,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send one request, print its line, and return the answer's document."""
        started = time.perf_counter()
        content = None if body is None else json.dumps(body)
        answer = self._client.request(method, self._base + path, content=content, headers=headers)
        took = (time.perf_counter() - started) * 1000
        mark = "[green]ok[/green]" if answer.status_code == status else f"[red]not {status}[/red]"
        shown = path if len(path) < 58 else path[:55] + "..."
        console.print(f"  {step:<26} {method:<6} {shown:<58} {answer.status_code} {took:8.1f} ms {mark}")
        expect(f"{self._name}, {step}", answer.status_code, status)
        return answer.json() if answer.content else None


def play_okta(tenant: dict[str, str]) -> None:
    """Okta: test, look up, create, update by GET and PUT, push a group, rename it, deactivate."""
    okta = Provider("Okta", tenant, {
        "User-Agent": "Okta SCIM Client 1.0.0",
        "Accept": "application/scim+json",
        "Content-Type": "application/scim+json; charset=utf-8",
    })  # fmt: skip
    page = okta.send("test the connection", "GET", "/Users?startIndex=1&count=2", 200)
    expect("Okta, a fresh directory", page["totalResults"], 0)
    people: dict[str, dict[str, Any]] = {}
    for number, (given, family) in enumerate([("Ada", "Lovelace"), ("Grace", "Hopper"), ("Alan", "Turing")]):
        name = f"{given.lower()}@acme.example.com"
        found = okta.send(
            f"look {given} up",
            "GET",
            f"/Users?filter=userName%20eq%20%22{name}%22&startIndex=1&count=100",
            200,
        )
        expect(f"Okta, {given} before her creation", found["Resources"], [])
        people[given] = okta.send(f"create {given}", "POST", "/Users", 201, {
            "schemas": [f"{CORE}:User"], "userName": name, "externalId": f"00u{number}acme",
            "name": {"givenName": given, "familyName": family}, "displayName": f"{given} {family}",
            "emails": [{"primary": True, "value": name, "type": "work"}],
            "locale": "en-US", "groups": [], "password": "kN0w-0nly-to-0kta", "active": True,
        })  # fmt: skip
    okta.send("create Ada again", "POST", "/Users", 409, {"userName": "ADA@acme.example.com"})
    ada = people["Ada"]["id"]
    profile = okta.send("read Ada", "GET", f"/Users/{ada}", 200)
    profile["title"] = "Countess"
    updated = okta.send("update her profile", "PUT", f"/Users/{ada}", 200, profile)
    expect("Okta, Ada's title", updated.get("title"), "Countess")
    okta.send(
        "look the group up",
        "GET",
        "/Groups?filter=displayName%20eq%20%22Analysts%22&startIndex=1&count=100",
        200,
    )
    group = okta.send(
        "push the group", "POST", "/Groups", 201,
        {"schemas": [f"{CORE}:Group"], "displayName": "Analysts", "members": []},
    )  # fmt: skip
    okta.send("push memberships", "PATCH", f"/Groups/{group['id']}", 204, {"schemas": [PATCH], "Operations": [
        {"op": "add", "path": "members", "value": [{"value": person["id"]} for person in people.values()]}]})  # fmt: skip
    okta.send("remove Alan from it", "PATCH", f"/Groups/{group['id']}", 204, {"schemas": [PATCH], "Operations": [
        {"op": "remove", "path": f'members[value eq "{people["Alan"]["id"]}"]'}]})  # fmt: skip
    okta.send("rename it", "PATCH", f"/Groups/{group['id']}", 204, {"schemas": [PATCH], "Operations": [
        {"op": "replace", "value": {"id": group["id"], "displayName": "Analytical Engine"}}]})  # fmt: skip
    okta.send("deactivate Grace", "PATCH", f"/Users/{people['Grace']['id']}", 200, {
        "schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": False}}]})  # fmt: skip
    okta.send("with a bad token", "GET", "/Users", 401, headers={"Authorization": "Bearer usher_nonsense"})
    okta.send("with Basic", "GET", "/Users", 401, headers={"Authorization": "Basic b2t0YTpzZWNyZXQ="})


def play_entra(tenant: dict[str, str]) -> None:
    """Entra ID: test for nobody, create, PATCH with capitals and strings, members, disable, delete."""
    entra = Provider(
        "Microsoft Entra ID", tenant, {"User-Agent": "", "Content-Type": "application/scim+json"}
    )
    nobody = entra.send(
        "test with a random guid", "GET", f"/Users?filter=userName+eq+%22{uuid.uuid4()}%22", 200
    )
    expect("Entra, nobody", nobody["totalResults"], 0)
    ids = []
    for name in ("katherine", "dorothy"):
        entra.send(f"match {name}", "GET", f"/Users?filter=userName+eq+%22{name}@acme.example.com%22", 200)
        created = entra.send(f"create {name}", "POST", "/Users", 201, {
            "schemas": [f"{CORE}:User", ENTERPRISE], "externalId": str(uuid.uuid4()),
            "userName": f"{name}@acme.example.com", "active": True, "displayName": name.title(),
            "emails": [{"primary": True, "type": "work", "value": f"{name}@acme.example.com"}],
            "meta": {"resourceType": "User"}, "name": {"formatted": name.title(), "givenName": name.title()},
            "roles": [], "title": None, ENTERPRISE: {"department": "Computing"},
        })  # fmt: skip
        ids.append(created["id"])
    katherine, dorothy = ids
    changed = entra.send("change Katherine", "PATCH", f"/Users/{katherine}", 200, {"schemas": [PATCH], "Operations": [
        {"op": "Replace", "path": "displayName", "value": "Katherine Johnson"},
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "k.johnson@acme.example.com"},
        {"op": "Add", "path": f"{ENTERPRISE}:manager", "value": dorothy},
        {"op": "Replace", "path": "active", "value": "True"}]})  # fmt: skip
    expect("Entra, Katherine's email", changed["emails"][0]["value"], "k.johnson@acme.example.com")
    expect("Entra, Katherine's manager", changed[ENTERPRISE]["manager"]["value"], dorothy)
    entra.send(
        "look the group up",
        "GET",
        "/Groups?excludedAttributes=members&filter=displayName+eq+%22Flight%22",
        200,
    )
    group = entra.send("create the group", "POST", "/Groups", 201, {
        "schemas": [f"{CORE}:Group", "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
        "externalId": str(uuid.uuid4()), "displayName": "Flight", "meta": {"resourceType": "Group"},
    })  # fmt: skip
    for op in ("Add", "Remove", "Add"):
        entra.send(f"{op.lower()} Katherine", "PATCH", f"/Groups/{group['id']}", 204, {"schemas": [PATCH], "Operations": [
            {"op": op, "path": "members", "value": [{"$ref": None, "value": katherine}]}]})  # fmt: skip
    entra.send("read the group", "GET", f"/Groups/{group['id']}?excludedAttributes=members", 200)
    entra.send("disable Dorothy", "PATCH", f"/Users/{dorothy}", 200, {"schemas": [PATCH], "Operations": [
        {"op": "Replace", "path": "active", "value": "False"}]})  # fmt: skip
    entra.send("delete Dorothy", "DELETE", f"/Users/{dorothy}", 204)
    entra.send("read Dorothy", "GET", f"/Users/{dorothy}", 404)


def show_directory(tenant: dict[str, str]) -> None:
    """Print the directory as it now stands, and check it."""
    client = httpx.Client(base_url=tenant["base_url"], headers={"Authorization": f"Bearer {tenant['token']}"})
    users = {one["id"]: one for one in client.get("/Users").json()["Resources"]}
    groups = client.get("/Groups").json()["Resources"]
    table = Table(title="\nThe directory", title_justify="left")
    for column in ("user", "active", "title", "groups"):
        table.add_column(column)
    for user in users.values():
        names = ", ".join(group["display"] for group in user.get("groups", []))
        table.add_row(user["userName"], str(user["active"]), user.get("title", ""), names)
    console.print(table)
    standing = {user["userName"].partition("@")[0]: user["active"] for user in users.values()}
    expect("the users", standing, {"ada": True, "grace": False, "alan": True, "katherine": True})
    membership = {
        group["displayName"]: sorted(
            users[member["value"]]["userName"].partition("@")[0] for member in group.get("members", [])
        )
        for group in groups
    }
    expect("the groups", membership, {"Analytical Engine": ["ada", "grace"], "Flight": ["katherine"]})
    expect("a password in an answer", "kN0w" in json.dumps(list(users.values())), False)


def show_changes(database_url: str) -> None:
    """Print where each change went, from the change log."""
    table = Table(title="\nWhere each change went", title_justify="left")
    for column in ("change", "stream position", "what", "status", "applied in"):
        table.add_column(column, justify="right" if column == "applied in" else "left")
    with psycopg.connect(database_url) as connection:
        [(tenant,)] = connection.execute("SELECT tenant FROM usher_tenants()").fetchall()
        connection.execute("SELECT set_config('usher.tenant', %s, true)", (str(tenant),))
        rows = connection.execute(
            "SELECT change_id, stream_id, operation || ' ' || resource_type, status,"
            " extract(epoch FROM applied_at - accepted_at) * 1000 FROM change_log ORDER BY stream_id"
        ).fetchall()
    for change, position, what, status, took in rows:
        table.add_row(str(change), position, what, str(status), f"{took:.1f} ms")
    console.print(table)
    expect("the number of changes", len(rows), 19)


def main() -> None:
    """Run the demonstration."""
    console.print("Starting PostgreSQL, Valkey, the api and a worker on this machine ...")
    started = time.perf_counter()
    with usher() as ready:
        tenant = ready["tenants"]["acme"]
        console.print(f"Usher serves {tenant['base_url']} after {time.perf_counter() - started:.1f} s.")
        play_okta(tenant)
        play_entra(tenant)
        show_directory(tenant)
        show_changes(ready["database_url"])
    if wrong:
        console.print("\n[red]Not as it must be:[/red]", *wrong, sep="\n  ")
        sys.exit(1)
    console.print(
        "\n[green]Every answer and the final directory are what they must be.[/green]\n\n"
        "To stay up: [bold]make dev[/bold], then, with the token that it prints or keeps in .usher/secrets:\n"
        "  curl -H \"Authorization: Bearer $TOKEN\" 'http://127.0.0.1:8080/iam/scim/v2/Users?count=2'"
    )


if __name__ == "__main__":
    main()
