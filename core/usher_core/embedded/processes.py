"""The parent's side of a keeper: start a command that can't outlive us, know its pid, stop it.

The embedded servers and the supervisor's commands are kept this way. The invariant: the command runs only
while this process lives, and `stop` returns only when command and keeper are gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from usher_core import errors
from usher_core.embedded import accounts

_KEEPER_GRACE = 5.0


class KeptProcess:
    """A command that runs from now on, under a keeper.

    `output` takes what it prints. `grace` is the time in seconds from `stop_signal` to SIGKILL. The
    descriptors in `hold` stay open in the keeper and in the command: that is how they hold a lock.

    Raises:
        ConfigurationInvalid: the command can't be run.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        output: IO[bytes] | int,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10.0,
        account: accounts.Account | None = None,
        hold: Sequence[int] = (),
    ) -> None:
        account = account or accounts.Account()
        self._grace = grace
        reading, writing = os.pipe()
        # -P: a module of the working folder must not stand in for one of ours.
        keeper = [sys.executable, "-P", "-m", "usher_core.embedded.keepers"]
        options = [f"--report={writing}", f"--stop-signal={int(stop_signal)}", f"--grace={grace}"]
        options += [f"--hold={descriptor}" for descriptor in hold]
        if account.uid is not None:
            options += [f"--uid={account.uid}", f"--gid={account.gid}"]
        with os.fdopen(reading, "rb") as report:
            try:
                self._keeper = subprocess.Popen(  # noqa: S603 - our own command
                    [*keeper, *options, "--", *account.prefix, *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                    pass_fds=(writing, *hold),
                )
            finally:
                os.close(writing)
            told = report.readline().decode(errors="replace").strip()
        if not told.isdigit():
            self.stop()
            raise errors.ConfigurationInvalid(f"can't run {command[0]}: {told or 'its keeper failed'}")
        self.pid = int(told)

    @property
    def running(self) -> bool:
        """Whether the command still runs, as far as its keeper has noticed."""
        return self._keeper.poll() is None

    def wait(self) -> int:
        """Wait until the command has ended, and answer its status (128 + the signal that ended it)."""
        return self._keeper.wait()

    def kill(self) -> None:
        """Send SIGKILL to the command itself, at once and without order."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the command in order and wait until it is gone; one that is gone already is fine."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        try:
            self._keeper.wait(self._grace + _KEEPER_GRACE)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
