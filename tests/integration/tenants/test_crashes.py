"""The process dies at every step of a token's life: each time the next one ends with one token that works."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from usher_core.store import databases, tenants
from usher_core.tenants import definitions, manifests, reconciliations, renewals, tokens, vaults

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACME = manifests.tenant_id("identity", "acme")
REF = vaults.TokenRef("identity", "acme", "okta", "scim-okta", "token")


class Killed(BaseException):
    """The process dies at this point."""


class Steps:
    """Counts what is done to the store and the vault, and dies before or after one of it."""

    def __init__(self, fatal: int | None, *, after: bool) -> None:
        self.done = 0
        self._fatal = fatal
        self._after = after

    def before(self) -> None:
        if self.done == self._fatal and not self._after:
            raise Killed

    def after(self) -> None:
        self.done += 1
        if self.done - 1 == self._fatal:
            raise Killed


class MortalDatabase:
    """The store, as far as a process lives to use it."""

    def __init__(self, database: databases.Database, steps: Steps) -> None:
        self._database = database
        self._steps = steps

    async def fetch(self, *words: Any) -> Any:
        self._steps.before()
        found = await self._database.fetch(*words)
        self._steps.after()
        return found


class MortalVault(vaults.FileVault):
    """The vault, as far as a process lives to write it."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        super().__init__(folder)
        self._steps = steps

    async def write_token(self, *words: Any, **named: Any) -> None:
        self._steps.before()
        await super().write_token(*words, **named)
        self._steps.after()

    async def delete_token(self, *words: Any) -> None:
        self._steps.before()
        await super().delete_token(*words)
        self._steps.after()


def manifest(*names: str) -> manifests.ScimTenant:
    return manifests.parse(
        {
            "apiVersion": "usher.dev/v1alpha1",
            "kind": "ScimTenant",
            "metadata": {"name": "acme", "namespace": "identity"},
            "spec": {
                "tokens": [
                    {
                        "name": name,
                        "ttl": "2400h",
                        "renewBefore": "240h",
                        "secretRef": {"name": f"scim-{name}"},
                    }
                    for name in names
                ],
                "sso": {"mode": "Optional"},
            },
        }
    )


class World:
    def __init__(self, database: databases.Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.now = NOW

    async def run(
        self, steps: Steps | None = None, *, names: tuple[str, ...] = ("okta",), rotate: Any = None
    ) -> None:
        alive = steps or Steps(None, after=False)
        await reconciliations.reconcile(
            manifest(*names), manifests.Bundle((), {}, {}), MortalVault(self.folder, alive),
            MortalDatabase(self.database, alive),  # type: ignore[arg-type]
            "https://scim.example.com", definitions.Channel("operator"), self.now, rotate,
        )  # fmt: skip

    async def begin(self) -> None:
        """Take all there is away."""
        await reconciliations.remove(
            "identity", "acme", "Delete", vaults.FileVault(self.folder), self.database, self.now
        )
        self.now = NOW

    async def text(self) -> str | None:
        stored = await vaults.FileVault(self.folder).read_token(REF, base_url=None)
        return stored.text if stored else None

    async def alive(self) -> list[tenants.TokenRow]:
        rows = await tenants.list_tokens(self.database, ACME)
        return [row for row in rows if renewals.is_alive(row, self.now)]


async def issue(world: World) -> dict[str, Any]:
    return {}


async def renew(world: World) -> dict[str, Any]:
    await world.run()
    world.now += 2160 * HOUR
    return {}


async def rotate(world: World) -> dict[str, Any]:
    await world.run()
    world.now += HOUR
    return {"rotate": {"okta": world.now}}


async def lose(world: World) -> dict[str, Any]:
    await world.run()
    world.now += HOUR
    await vaults.FileVault(world.folder).delete_token(REF)
    return {}


async def drop_another(world: World) -> dict[str, Any]:
    await world.run(names=("okta", "entra"))
    return {}


@pytest.mark.parametrize("after", [pytest.param(False, id="before"), pytest.param(True, id="after")])
@pytest.mark.parametrize(
    ("prepare", "living"),
    [
        pytest.param(issue, 1, id="issue"),
        pytest.param(renew, 2, id="renewal"),
        pytest.param(rotate, 2, id="rotation"),
        pytest.param(lose, 2, id="lost-secret"),
        pytest.param(drop_another, 1, id="token-gone-from-the-spec"),
    ],
)
async def test_a_death_at_any_step_ends_with_one_token_and_no_orphan(
    database: databases.Database, tmp_path: Path, prepare: Any, living: int, after: bool
) -> None:
    """With the one before it, where there was one, and no more, however often it died."""
    world = World(database, tmp_path / "secrets")
    for fatal in itertools.count():
        await world.begin()
        wanted = await prepare(world)
        try:
            await world.run(Steps(fatal, after=after), **wanted)
        except Killed:
            world.now += timedelta(minutes=1)
        else:
            break
        await world.run(**wanted)
        alive = await world.alive()
        text = await world.text()
        assert text is not None
        held = [row for row in alive if tokens.matches(tokens.parse(text).digest, row)]
        assert len(held) == 1, f"died at step {fatal}"
        assert len(alive) == living, f"died at step {fatal}"
        assert held == alive[-1:]
        await world.run(**wanted)
        assert (await world.text(), await world.alive()) == (text, alive)
    assert fatal >= 8
