"""The ready file has the agreed shape, for us alone, and is there whole or not at all."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from usher_core.dev import ready_files
from usher_core.dev.ready_files import Pids, Ready, ReadyTenant

READY = Ready(
    tenants={"acme": ReadyTenant("http://127.0.0.1:8080/iam/scim/v2", "t0ken")},
    database_url="postgresql://usher_app:x@127.0.0.1:20000/usher",
    redis_url="redis://:x@127.0.0.1:20001/0",
    pids=Pids(api=1, worker=(2,), postgres=3, valkey=None),
)


def test_the_file_has_the_agreed_shape_and_is_for_us_alone(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    ready_files.write(file, READY)
    assert json.loads(file.read_text()) == {
        "tenants": {"acme": {"base_url": "http://127.0.0.1:8080/iam/scim/v2", "token": "t0ken"}},
        "database_url": "postgresql://usher_app:x@127.0.0.1:20000/usher",
        "redis_url": "redis://:x@127.0.0.1:20001/0",
        "pids": {"api": 1, "worker": [2], "postgres": 3, "valkey": None},
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_open_keeps_what_it_said_when_it_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    file.write_text("before")
    with file.open() as reader:
        ready_files.write(file, READY)
        assert reader.read() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cant_be_put_in_its_place_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ready.json").mkdir()
    with pytest.raises(IsADirectoryError):
        ready_files.write(tmp_path / "ready.json", READY)
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]
