"""A folder's lock stands as long as anyone to whom it was handed lives, and says who took it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from usher_core import errors
from usher_core.embedded.locks import FolderLock

TAKING = """
import sys, time
from pathlib import Path
from usher_core.embedded.locks import FolderLock
lock = FolderLock(Path(sys.argv[1]), "test").take()
print("taken", flush=True)
time.sleep(60)
"""


def test_who_comes_second_is_told_what_runs_and_its_pid(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TAKING, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "taken\n"
            told = rf"usher dev already runs on {tmp_path} \(process {holder.pid}\)"
            with pytest.raises(errors.ConfigurationInvalid, match=told):
                FolderLock(tmp_path / "lock", "usher dev").take()
        finally:
            holder.kill()
    FolderLock(tmp_path / "lock", "usher dev").take().close()


def test_a_lock_that_was_handed_to_a_child_stands_until_the_child_is_gone(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "lock", "first").take() as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock.descriptor])
    with pytest.raises(errors.ConfigurationInvalid, match=f"process {os.getpid()}"):
        FolderLock(tmp_path / "lock", "second").take(patience=0.1)
    child.kill()
    child.wait()
    FolderLock(tmp_path / "lock", "second").take().close()


def test_whoever_has_patience_gets_the_lock_once_it_is_free(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "lock", "first").take() as lock:
        child = subprocess.Popen(["sleep", "0.3"], pass_fds=[lock.descriptor])
    FolderLock(tmp_path / "lock", "second").take(patience=10).close()
    assert child.wait() == 0
