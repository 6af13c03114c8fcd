"""Under whose name an embedded server runs: PostgreSQL refuses to be root, or somebody without a name.

The servers ask before they start. As an ordinary user everything runs directly. As root a user namespace
makes the server an ordinary user in its own eyes while the kernel still sees root as the files' owner,
so a data folder below a closed home works and no permission is changed; likewise for a user id that the
machine doesn't know, which containers like to use. Where namespaces are refused
(a container's seccomp profile, say) the server gets an unprivileged account that exists, and its own
folder is given to it. Nothing outside of that folder is ever touched.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from usher_core import errors


@dataclass(frozen=True)
class Account:
    """How to run a command unprivileged: a command line before it, or ids to change to; or neither."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def give(self, folder: Path) -> None:
        """Make the account the owner of `folder` and all that is in it, where it isn't already."""
        if self.uid is None or self.gid is None:
            return
        for place, _, names in os.walk(folder):
            for path in (Path(place), *(Path(place, name) for name in names)):
                if path.lstat().st_uid != self.uid:
                    os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose(folder: Path) -> Account:
    """Choose the account for a server whose data is, or will be, in the existing `folder`.

    A folder that belongs to an ordinary account already is served under that one: what the first start
    chose stays.

    Raises:
        ConfigurationInvalid: we are root and there is no unprivileged way.
    """
    if os.geteuid() != 0:
        return Account() if _has_name(os.geteuid()) else Account(prefix=_namespace())
    status = folder.stat()
    if status.st_uid != 0:
        return Account(uid=status.st_uid, gid=status.st_gid)
    prefix = _namespace()
    if prefix:
        return Account(prefix=prefix)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise errors.ConfigurationInvalid(
        "PostgreSQL refuses to run as root, user namespaces are not allowed here, and there is neither an"
        " account `postgres` nor `nobody`: run as an ordinary user, or set USHER_DATABASE_URL"
    )


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _namespace() -> tuple[str, ...]:
    """Answer the command line that makes us an ordinary user in a namespace; empty where that's refused."""
    unshare = shutil.which("unshare")
    # initdb looks its user up, so it must be one that the machine knows; which one is all the same. Not
    # 65534, though: in a namespace the files of everybody else seem to be his.
    known = [entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid not in (0, 65534)]
    if unshare is None or not known:
        return ()
    prefix = (unshare, "--user", f"--map-user={min(known)}", "--")
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)  # noqa: S603 - our own words
    return prefix if tried.returncode == 0 else ()
