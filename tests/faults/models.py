"""What a directory is, said once more and as simply as can be: one operation after another, nothing else.

It knows nothing of batches, streams or fences, and shares no code with what it judges. `timelines` feeds it
the operations that clients sent, in the order in which the change log says they were applied, and compares.
"""

from __future__ import annotations

import dataclasses

from histories import Operation

NO_SUCH, TAKEN, BAD_MEMBER, OTHER_VERSION = 404, 409, 400, 412


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    name: str
    external: str
    title: str
    active: bool
    version: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    name: str
    members: frozenset[str] = frozenset()
    version: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What becomes of an operation: its status in the change log, the resource's version, which resource."""

    status: int
    version: int | None = None
    about: str = ""
    changed: bool = False


class Directory:
    """Users and groups of one tenant, by their ids; names of users are unique, whatever their case."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.holders: dict[str, str] = {}

    def apply(self, wanted: Operation, fresh: str, made: dict[int, str | None] | None = None) -> Expected:
        """Do it, or refuse it and change nothing.

        `fresh` is the id that a create gets. `made` tells within a bulk what its parts have created.
        """
        members = []
        for member in wanted.members:
            if member.startswith("bulkId:"):
                found = (made or {}).get(int(member.removeprefix("bulkId:")))
                if found is None:
                    return Expected(TAKEN)
                member = found
            members.append(member)
        match wanted.kind:
            case "create_user":
                return self._create_user(wanted, fresh)
            case "create_group":
                if not self._are_there(members):
                    return Expected(BAD_MEMBER)
                self.groups[fresh] = Group(wanted.name, frozenset(members))
                return Expected(201, 1, fresh, changed=True)
            case "put_user" | "set_title" | "activate" | "deactivate" | "delete_user":
                return self._change_user(wanted)
            case _:
                return self._change_group(wanted, frozenset(members))

    def _create_user(self, wanted: Operation, fresh: str) -> Expected:
        active = wanted.active is not False
        made = User(wanted.name, wanted.external, wanted.title, active)
        holder = self.holders.get(wanted.name.casefold())
        if holder is None:
            self.users[fresh] = made
            self.holders[wanted.name.casefold()] = fresh
            return Expected(201, 1, fresh, changed=True)
        before = self.users[holder]
        if before.active or not wanted.external or wanted.external != before.external:
            return Expected(TAKEN)
        # Who is inactive and created again is the same user, in no group.
        self._leave_groups(holder)
        self.users[holder] = dataclasses.replace(made, version=before.version + 1)
        return Expected(201, before.version + 1, holder, changed=True)

    def _change_user(self, wanted: Operation) -> Expected:
        before = self.users.get(wanted.target)
        if before is None:
            return Expected(NO_SUCH)
        if wanted.versions is not None and before.version not in wanted.versions:
            return Expected(OTHER_VERSION)
        match wanted.kind:
            case "delete_user":
                self._leave_groups(wanted.target)
                del self.users[wanted.target], self.holders[before.name.casefold()]
                return Expected(204, about=wanted.target, changed=True)
            case "put_user":
                active = before.active if wanted.active is None else wanted.active
                after = User(wanted.name, wanted.external, wanted.title, active, before.version)
                if self.holders.get(wanted.name.casefold(), wanted.target) != wanted.target:
                    return Expected(TAKEN)
                del self.holders[before.name.casefold()]
                self.holders[wanted.name.casefold()] = wanted.target
            case "set_title":
                after = dataclasses.replace(before, title=wanted.title)
            case _:
                after = dataclasses.replace(before, active=wanted.kind == "activate")
        changed = after != before
        version = before.version + changed
        self.users[wanted.target] = dataclasses.replace(after, version=version)
        return Expected(200, version, wanted.target, changed)

    def _change_group(self, wanted: Operation, members: frozenset[str]) -> Expected:
        before = self.groups.get(wanted.target)
        if before is None:
            return Expected(NO_SUCH)
        if wanted.kind == "delete_group":
            del self.groups[wanted.target]
            return Expected(204, about=wanted.target, changed=True)
        if wanted.kind != "remove_members" and not self._are_there(members):
            return Expected(BAD_MEMBER)
        after = {
            "add_members": before.members | members,
            "remove_members": before.members - members,
            "replace_members": members,
        }[wanted.kind]
        changed = after != before.members
        version = before.version + changed
        self.groups[wanted.target] = Group(before.name, after, version)
        return Expected(200, version, wanted.target, changed)

    def _are_there(self, members: list[str] | frozenset[str]) -> bool:
        return all(member in self.users for member in members)

    def _leave_groups(self, user: str) -> None:
        for group, held in self.groups.items():
            if user in held.members:
                self.groups[group] = Group(held.name, held.members - {user}, held.version + 1)


Fence = tuple[str, str]
"""Who reads as taken away, and of which group; an empty group means as a user."""


def takes_away(wanted: Operation) -> list[Fence]:
    """List what is gone as soon as the operation is accepted."""
    if wanted.versions is not None:
        return []
    if wanted.kind in ("deactivate", "delete_user") or (wanted.kind == "put_user" and wanted.active is False):
        return [(wanted.target, "")]
    if wanted.kind == "remove_members":
        return [(member, wanted.target) for member in dict.fromkeys(wanted.members)]
    return []


def gives(wanted: Operation) -> bool:
    """Tell whether the operation may give access to somebody, or is a bulk that holds one that may."""
    return (
        wanted.kind in ("create_user", "activate", "create_group", "add_members", "replace_members")
        or (wanted.kind == "put_user" and wanted.active is not False)
        or any(gives(part) for part in wanted.parts)
    )
