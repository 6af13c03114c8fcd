"""What the clients of a tenant do next, by chance: few names, so that they meet; all from one seed."""

from __future__ import annotations

import dataclasses
import itertools
import random

from histories import Attempt, Operation

WEIGHTS = {
    "create_user": 18,
    "put_user": 9,
    "set_title": 16,
    "deactivate": 9,
    "activate": 9,
    "delete_user": 6,
    "create_group": 3,
    "add_members": 11,
    "remove_members": 8,
    "replace_members": 3,
    "delete_group": 2,
    "bulk": 2,
    "read_user": 12,
    "read_group": 5,
    "find_user": 9,
    "list_active": 2,
}
NAMES = 24
GROUPS = 5
REMEMBERED = 6
"""So many of the resources that are gone are asked for again, now and then."""


class Workload:
    """The clients of one tenant, and what they have learned of its directory from their answers."""

    def __init__(self, seed: str, weights: dict[str, int] | None = None) -> None:
        self._random = random.Random(seed)
        weights = WEIGHTS if weights is None else weights
        self._kinds, self._weights = list(weights), list(weights.values())
        self._numbers = itertools.count()
        self.users: dict[str, int] = {}
        self.groups: dict[str, set[str]] = {}
        self.gone: list[str] = []
        self._versions: dict[str, int] = {}

    def next(self) -> Operation:
        """Choose the next operation."""
        [kind] = self._random.choices(self._kinds, self._weights)
        return self.make(kind)

    def make(self, kind: str) -> Operation:
        """Make an operation of a kind, or what must come before it."""
        if kind in ("create_user", "find_user", "list_active"):
            return self._without_target(kind)
        if kind == "bulk":
            return Operation("bulk", parts=tuple(self._bulk()))
        if "group" in kind or "members" in kind:
            return self._of_group(kind)
        return self._of_user(kind)

    def learn(self, attempt: Attempt) -> None:
        """Take in what an answer tells."""
        wanted, status = attempt.operation, attempt.status
        if wanted.kind == "bulk" or status is None:
            return
        if status == 404 or (status == 204 and wanted.kind.startswith("delete")):
            self._forget(wanted.target)
        if wanted.kind in ("find_user", "read_user", "create_user", "set_title", "put_user"):
            for one in attempt.seen:
                self._versions[one["id"]] = one["version"]
                if wanted.kind != "set_title" and wanted.kind != "put_user" and status in (200, 201):
                    self.users.setdefault(one["id"], 0)
        elif wanted.kind == "create_group":
            for one in attempt.seen:
                self.groups[one["id"]] = set(wanted.members)
        elif wanted.kind == "read_group":
            for one in attempt.seen:
                self.groups[one["id"]] = set(one["members"])
        elif status == 204 and wanted.kind == "add_members" and wanted.target in self.groups:
            self.groups[wanted.target].update(wanted.members)

    def _forget(self, resource: str) -> None:
        self.users.pop(resource, None)
        self.groups.pop(resource, None)
        self._versions.pop(resource, None)
        if resource:
            self.gone = [*self.gone[-REMEMBERED:], resource]

    def _chance(self, of: float) -> bool:
        return self._random.random() < of

    def _without_target(self, kind: str) -> Operation:
        if kind == "list_active":
            return Operation(kind)
        number = self._random.randrange(NAMES)
        name = f"user{number}@example.com"
        if self._chance(0.2):
            name = name.upper()
        if kind == "find_user":
            return Operation(kind, name=name)
        # Who comes back under the externalId that it had is revived; under another one it is a conflict.
        external = f"ext{number}" if self._chance(0.9) else ""
        return Operation(
            kind,
            name=name,
            external=external,
            title=self._title(),
            active=None if self._chance(0.5) else True,
            later=self._chance(0.03),
        )

    def _of_user(self, kind: str) -> Operation:
        target = self._user()
        if target is None:
            return self._without_target("create_user")
        match kind:
            case "put_user":
                number = self._random.randrange(NAMES)
                return Operation(
                    kind,
                    target,
                    f"user{number}@example.com",
                    f"ext{number}",
                    self._title(),
                    active=self._random.choice((True, False, None)),
                )
            case "set_title":
                versions = None
                if self._chance(0.2):
                    versions = (self._versions.get(target, 1), 2)
                return Operation(
                    kind, target, title=self._title(), versions=versions, later=self._chance(0.05)
                )
            case "deactivate" | "delete_user":
                return Operation(kind, target, later=self._chance(0.05))
            case _:
                return Operation(kind, target)

    def _of_group(self, kind: str) -> Operation:
        if (
            kind == "create_group"
            or not self.groups
            or (kind == "delete_group" and len(self.groups) < GROUPS)
        ):
            if len(self.groups) >= GROUPS + 3:
                kind = "delete_group"
            else:
                return Operation("create_group", name=self._title(), members=self._members(3))
        target = self._random.choice(list(self.groups))
        if self.gone and self._chance(0.02):
            target = self._random.choice(self.gone)
        match kind:
            case "add_members":
                return Operation(kind, target, members=self._members(3) or self._members(1))
            case "remove_members":
                held = list(self.groups.get(target, ())) or list(self.users)
                count = min(len(held), self._random.choice((1, 1, 1, 2)))
                members = tuple(self._random.sample(held, count))
                return (
                    Operation(kind, target, members=members) if members else Operation("read_group", target)
                )
            case "replace_members":
                return Operation(kind, target, members=self._members(6))
            case _:
                return Operation(kind, target)

    def _bulk(self) -> list[Operation]:
        """Some creates with a group of them, and changes of others: nothing that two parts create."""
        parts = [
            dataclasses.replace(self._without_target("create_user"), later=False)
            for _ in range(self._random.randint(1, 3))
        ]
        named = tuple(f"bulkId:{index}" for index in range(len(parts)))
        if self._chance(0.3):
            parts.append(Operation("create_group", name=self._title(), members=named))
        for kind in ("set_title", "deactivate", "delete_user", "remove_members", "activate"):
            target = self._user()
            if target is not None and self._chance(0.4):
                if kind == "remove_members":
                    if self.groups:
                        group = self._random.choice(list(self.groups))
                        parts.append(Operation(kind, group, members=(target,)))
                else:
                    title = self._title() if kind == "set_title" else ""
                    parts.append(Operation(kind, target, title=title))
        return parts

    def _user(self) -> str | None:
        if self.gone and self._chance(0.02):
            return self._random.choice(self.gone)
        return self._random.choice(list(self.users)) if self.users else None

    def _members(self, most: int) -> tuple[str, ...]:
        count = min(len(self.users), self._random.randint(0, most))
        chosen = self._random.sample(list(self.users), count)
        if self.gone and self._chance(0.03):
            chosen.append(self._random.choice(self.gone))
        return tuple(dict.fromkeys(chosen))

    def _title(self) -> str:
        """Make a text that no other operation has, so that no two requests are equal by chance."""
        return f"t{next(self._numbers)}"
