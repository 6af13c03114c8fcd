"""The process that keeps one server: `python -m usher_core.embedded.keepers … -- command`.

`processes.KeptProcess` starts it. It runs the command as its child and stops it when it is asked to
(SIGTERM) or when its standard input ends, which is a pipe that the parent holds: however the parent dies,
the kernel closes it. It ends when the command ends, with its status. It never restarts anything.

It stands in a session of its own: Ctrl-C in the terminal reaches the supervisor alone, which then stops
its children in order.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STDIN = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; answers the status to exit with."""
    parser = argparse.ArgumentParser(prog="python -m usher_core.embedded.keepers")
    parser.add_argument("--report", type=int, required=True, help="descriptor that is told the child's pid")
    parser.add_argument("--hold", type=int, action="append", default=[], help="descriptor for the child")
    parser.add_argument("--stop-signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace", type=float, default=10.0, help="seconds from the stop signal to SIGKILL")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    signals = _signals()
    try:
        child = subprocess.Popen(  # noqa: S603 - running the given command is what a keeper is for
            options.command,
            stdin=subprocess.DEVNULL,
            pass_fds=options.hold,
            process_group=0,
            user=options.uid,
            group=options.gid,
            extra_groups=None if options.gid is None else [],
            preexec_fn=_die_with_keeper(),
        )
    except (OSError, subprocess.SubprocessError) as exc:
        os.write(options.report, f"{options.command[0]}: {exc}\n".encode())
        return 127
    os.write(options.report, f"{child.pid}\n".encode())
    os.close(options.report)
    _keep(child, signals, signal.Signals(options.stop_signal), options.grace)
    # Whatever the command started and left behind in its group goes with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _signals() -> int:
    """Turn the signals that concern us into bytes of a pipe, so that one `select` waits for everything."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # A handler that does nothing, not SIG_IGN: the child would inherit that one.
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reading


def _keep(child: subprocess.Popen[bytes], signals: int, stop_signal: signal.Signals, grace: float) -> None:
    """Wait for the end of `child`, hastening it once we are asked to."""
    deadline: float | None = None
    watched = [signals, _STDIN]
    while child.poll() is None:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], remaining)
        asked = signals in ready and signal.SIGTERM in os.read(signals, 512)
        if _STDIN in ready and os.read(_STDIN, 512) == b"":
            watched.remove(_STDIN)
            asked = True
        if asked and deadline is None:
            deadline = time.monotonic() + grace
            child.send_signal(stop_signal)
            # A child that was stopped (SIGSTOP) takes no other signal before it goes on.
            child.send_signal(signal.SIGCONT)
        elif deadline is not None and time.monotonic() >= deadline:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _die_with_keeper() -> Callable[[], None] | None:
    """Make what the child calls before exec so that the kernel kills it when the keeper dies.

    A keeper that is itself killed with SIGKILL can stop nothing any more, and its parent's pipe means
    nothing to the server. Linux alone has this call; elsewhere such a server is left, and its folder's
    lock tells the next start of it.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    keeper = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != keeper:  # it died before the call above
            os._exit(1)

    return before_exec


if __name__ == "__main__":
    sys.exit(main())
