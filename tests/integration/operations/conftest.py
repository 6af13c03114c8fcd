"""A tenant, its worker and the commands, on real servers."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from click.testing import CliRunner, Result

from usher_core import ids, settings
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.operations import commands
from usher_core.queues import keys
from usher_core.scim import documents, patches, schemas
from usher_core.tenants import commands as token_commands
from usher_worker import drains, processes

REGISTRY = schemas.default()
TENANT = ids.TenantId(uuid.UUID(int=1))


@dataclasses.dataclass
class Acme:
    """The tenant: changes go onto its stream, and a drain applies them when it is told to."""

    urls: DatabaseUrls
    redis_url: str
    process: processes.Process
    tenant: ids.TenantId = TENANT

    def change(self, operation: Any, resource: uuid.UUID, body: Any = None, **more: Any) -> records.Change:
        kind = more.pop("kind", "User")
        resource_type = REGISTRY.by_name(kind)
        if operation in ("create", "replace"):
            body = documents.normalise(resource_type, body)
        elif operation == "patch" and isinstance(body, list):
            body = patches.dump(patches.parse({"schemas": [], "Operations": body}, resource_type))
        made = records.Change(
            ids.ChangeId(ids.new_uuid()),
            records.now(),
            operation,
            kind,
            ids.ResourceId(resource),
            body,
            None,
            "t1",
            "request-1",
            "",
        )
        return dataclasses.replace(made, **more)

    def queue(self, *changes: records.Change) -> list[ids.ChangeId]:
        """Put changes onto the stream, as the api would, but wake nobody."""
        for change in changes:
            self.process.redis.xadd(keys.changes(TENANT), {"c": change.encode()})
            self.process.redis.sadd(keys.PENDING, str(TENANT))
        return [change.change_id for change in changes]

    def drain(self) -> None:
        drains.Drain(self.process, TENANT).run()

    def apply(self, *changes: records.Change) -> list[ids.ChangeId]:
        queued = self.queue(*changes)
        while self.ask("SELECT count(*) FROM change_log WHERE change_id = ANY(%s)", queued) != [
            (len(queued),)
        ]:
            self.drain()  # where the fixture `worker` drains too, it may be the quicker one
        return queued

    def bury(self, resource: uuid.UUID | None = None, **more: Any) -> ids.ChangeId:
        """Make a dead letter: a patch of a form that nothing can apply."""
        broken = self.change("patch", resource or ids.new_uuid(), "Ada's nonsense", **more)
        return self.apply(broken)[0]

    def mend(self, change_id: ids.ChangeId, **fields: Any) -> None:
        """Take away the cause of a dead letter: give it a content that can be applied."""
        with psycopg.connect(self.urls.owner) as owner:
            [(content,)] = owner.execute(
                "SELECT change FROM dead_letters WHERE change_id = %s", (change_id,)
            ).fetchall()
            change = dataclasses.replace(records.Change.decode(orjson.dumps(content)), **fields)
            owner.execute(
                "UPDATE dead_letters SET change = %s::jsonb WHERE change_id = %s",
                (change.encode().decode(), change_id),
            )

    def fence(self, user: uuid.UUID, change_id: ids.ChangeId) -> None:
        """Let a user read as inactive for the sake of a change, as its acceptance would."""
        self.ask(
            "INSERT INTO fences VALUES (%s, %s, %s, %s, now()) RETURNING 1",
            self.tenant, user, uuid.UUID(int=0), change_id,
        )  # fmt: skip

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.urls.owner) as owner:
            return owner.execute(statement.encode(), values).fetchall()


@pytest.fixture
def acme(database_urls: DatabaseUrls, redis_url: str) -> Iterator[Acme]:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))
        now = records.now()
        owner.execute(
            "INSERT INTO tokens (tenant, token_id, name, digest, role, issued_at, expires_at)"
            " VALUES (%s, 't1', 'okta', %s, 'administrator', %s, %s)",
            (TENANT, b"0" * 32, now, now + datetime.timedelta(days=1)),
        )
    config = settings.Settings(
        database_url=database_urls.app, redis_url=redis_url, drain_linger=0.0, alone_attempts=2
    )
    process = processes.Process(config)
    yield Acme(database_urls, redis_url, process)
    process.close()


@pytest.fixture
def worker(acme: Acme) -> Iterator[None]:
    """Drain the tenant again and again, as long as the test runs, in a process state of its own."""
    stop = threading.Event()
    process = processes.Process(acme.process.settings)

    def work() -> None:
        while not stop.wait(0.05):
            drains.Drain(process, TENANT).run()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()
    process.close()


class Usher:
    """Runs commands as a person would; `away` names a backend by a wrong address."""

    def __init__(self, acme: Acme) -> None:
        self.env = {
            "USHER_DATABASE_URL": acme.urls.app,
            "USHER_REDIS_URL": acme.redis_url,
            "USHER_APPLY_WAIT": "10",
        }

    def __call__(self, *words: object, **env: str) -> Result:
        command = {
            "changes": commands.changes,
            "dead-letters": commands.dead_letters,
            "queue": commands.queue,
            "tokens": token_commands.tokens,
        }[str(words[0])]
        runner = CliRunner(env=self.env | env)
        return runner.invoke(command, [str(word) for word in words[1:]])

    def json(self, *words: object) -> Any:
        done = self(*words, "--json")
        assert done.exit_code == 0, done.output
        return orjson.loads(done.stdout)


@pytest.fixture
def usher(acme: Acme) -> Usher:
    return Usher(acme)
