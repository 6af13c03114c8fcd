"""What Usher is measured against: the same HTTP server and the same document, stored in simpler ways.

`direct`: one INSERT a request, committed before the answer, without row-level security or a queue.
`job`: one RQ job a change, run by RQ's SimpleWorker, which does that INSERT; the request waits for it.
Both validate the document with Usher's own engine and keep a unique userName.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import orjson
import psycopg
import psycopg_pool
import redis
import redis.asyncio
import rq
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from rq.serializers import JSONSerializer

from usher_core import ids
from usher_core.scim import documents, schemas

set_json_dumps(orjson.dumps)
set_json_loads(orjson.loads)

TABLE = """
CREATE TABLE IF NOT EXISTS baseline (
    id uuid PRIMARY KEY, user_name text COLLATE "C" UNIQUE NOT NULL, document jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now())
"""
INSERT = "INSERT INTO baseline (id, user_name, document) VALUES (%s, %s, %s)"
USER = schemas.default().by_name("User")


def prepared(body: bytes) -> tuple[uuid.UUID, str, dict[str, Any]]:
    document = documents.normalise(USER, orjson.loads(body))
    [(_, name)] = documents.unique_values(USER, document)
    return ids.new_uuid(), name, document


def created(new_id: uuid.UUID, document: dict[str, Any]) -> fastapi.Response:
    return fastapi.Response(
        orjson.dumps({"id": str(new_id), **document}), 201, media_type="application/scim+json"
    )


def direct() -> fastapi.FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        async with psycopg_pool.AsyncConnectionPool(
            os.environ["USHER_DATABASE_URL"], min_size=8, max_size=8, kwargs={"autocommit": True}, open=False
        ) as pool:
            app.state.pool = pool
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.post("/iam/scim/v2/Users")
    async def create(request: fastapi.Request) -> fastapi.Response:
        new_id, name, document = prepared(await request.body())
        async with app.state.pool.connection() as connection:
            await connection.execute(INSERT, (new_id, name, Jsonb(document)))
        return created(new_id, document)

    return app


def job() -> fastapi.FastAPI:
    waiting: dict[str, asyncio.Future[None]] = {}
    key = f"baseline:replies:{uuid.uuid4().hex}"

    async def replies(client: redis.asyncio.Redis) -> None:
        while True:
            answer = await client.blmpop(1, 1, key, direction="LEFT", count=256)
            for data in answer[1] if answer else ():
                waiting.pop(data.decode()).set_result(None)

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        client = redis.asyncio.Redis.from_url(os.environ["USHER_REDIS_URL"])
        sync = redis.Redis.from_url(os.environ["USHER_REDIS_URL"])
        app.state.queue = rq.Queue("baseline", connection=sync, serializer=JSONSerializer)
        task = asyncio.create_task(replies(client))
        yield
        task.cancel()

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.post("/iam/scim/v2/Users")
    async def create(request: fastapi.Request) -> fastapi.Response:
        new_id, name, document = prepared(await request.body())
        future = waiting[str(new_id)] = asyncio.get_running_loop().create_future()
        await asyncio.to_thread(
            app.state.queue.enqueue_call,
            "baselines.insert",
            args=(str(new_id), name, document, key),
            result_ttl=0,
        )
        await future
        return created(new_id, document)

    return app


_connections: list[psycopg.Connection[Any]] = []


def insert(new_id: str, name: str, document: dict[str, Any], reply_to: str) -> None:
    """The job: what `direct` does in the request, done by a worker."""
    if not _connections:
        _connections.append(psycopg.connect(os.environ["USHER_DATABASE_URL"], autocommit=True))
    _connections[0].execute(INSERT, (uuid.UUID(new_id), name, Jsonb(document)))
    current = rq.get_current_job()
    assert current is not None
    current.connection.rpush(reply_to, new_id)


def work() -> None:
    """Run the worker of `job`."""
    connection = redis.Redis.from_url(os.environ["USHER_REDIS_URL"])
    queue = rq.Queue("baseline", connection=connection, serializer=JSONSerializer)
    rq.SimpleWorker([queue], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")


if __name__ == "__main__":
    work()
