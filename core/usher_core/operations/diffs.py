"""What changed between two documents, attribute by attribute; pure.

`replays` makes the two documents, `reports` shows the differences. Elements of a multi-valued attribute have
no names, so an element is known again by its `value`, else by its `type`. Invariant: what is equal in both
is in no difference, and each difference stands in one of them, or differently in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_MISSING: Final = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One attribute, or one element of one; `before` is `None` where it came, `after` where it went."""

    path: str
    before: Any
    after: Any

    @property
    def sign(self) -> str:
        """`+` for what came, `-` for what went, `~` for what is another."""
        if self.before is None:
            return "+"
        return "-" if self.after is None else "~"


def compare(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    """List what makes one document into the other; `None` stands for a resource that is not there."""
    found: list[Difference] = []
    old, new = before or {}, after or {}
    for name in sorted({**old, **new}):
        # What an extension holds is named as paths name it: after a colon.
        joint = ":" if name.lower().startswith("urn:") else "."
        found += _compared(name, old.get(name, _MISSING), new.get(name, _MISSING), joint)
    return found


def _members(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any], joint: str
) -> Iterator[Difference]:
    for name in sorted({**before, **after}):
        inside = f"{path}{joint}{name}" if name else path
        yield from _compared(inside, before.get(name, _MISSING), after.get(name, _MISSING))


def _compared(path: str, before: Any, after: Any, joint: str = ".") -> Iterator[Difference]:
    if before == after and type(before) is type(after):
        return
    if isinstance(before, dict) or isinstance(after, dict):
        yield from _members(path, _opened(before), _opened(after), joint)
    elif _is_listed(before) and _is_listed(after):
        yield from _elements(path, _listed(before), _listed(after))
    else:
        yield Difference(path, *(None if value is _MISSING else value for value in (before, after)))


def _opened(value: Any) -> Any:
    return {} if value is _MISSING else value if isinstance(value, dict) else {"": value}


def _is_listed(value: Any) -> bool:
    return isinstance(value, list) or value is _MISSING


def _listed(value: Any) -> list[Any]:
    return [] if value is _MISSING else list(value)


def _elements(path: str, before: list[Any], after: list[Any]) -> Iterator[Difference]:
    gone = [element for element in before if element not in after]
    come = [element for element in after if element not in before]
    for name in ("value", "type"):
        for element in list(gone):
            match = _known_again(element, come, gone, name)
            if match is not None:
                gone.remove(element)
                come.remove(match)
                yield from _compared(_named(path, element, name), element, match)
    yield from (Difference(path, element, None) for element in gone)
    yield from (Difference(path, None, element) for element in come)
    if not gone and not come and [e for e in before if e in after] != [e for e in after if e in before]:
        yield Difference(path, before, after)  # the same elements in another order, or another number


def _known_again(element: Any, come: Sequence[Any], gone: Sequence[Any], name: str) -> Any:
    """Find the one element that came in place of one that went; `None` unless there is exactly one."""
    if not isinstance(element, dict) or element.get(name) is None:
        return None
    same = [other for other in come if isinstance(other, dict) and other.get(name) == element[name]]
    own = [other for other in gone if isinstance(other, dict) and other.get(name) == element[name]]
    return same[0] if len(same) == len(own) == 1 else None


def _named(path: str, element: Mapping[str, Any], name: str) -> str:
    # By its type where it has one: that reads as providers write it.
    known = "type" if element.get("type") is not None else name
    return f'{path}[{known} eq "{element[known]}"]'
