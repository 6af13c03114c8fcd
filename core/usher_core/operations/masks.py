"""Hiding personal values in what is shown to people: the structure stays, the values go.

Everything that a client sent is a personal value, but for ids of ours, the words of the protocol, and the few
attributes that say nothing of a person. A mask tells neither length nor beginning. `reports` calls this
unless `--reveal` was given. Invariant: what is not known to be harmless is masked.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any, Final

MASK: Final = "•••"

# Attributes and keys whose values say nothing of a person; in lower case.
_HARMLESS: Final = frozenset({"schemas", "active", "type", "primary"})
_OPS: Final = frozenset({"add", "remove", "replace"})
# Keys that hold the ids of resources; anything else that stands there is masked.
_IDS: Final = frozenset({"id", "value", "members"})

# A version, which is no value; a comparison with its literal; or else anything quoted.
_LITERAL: Final = re.compile(
    r"""W/"[0-9]*"|(?P<name>[\w.$:-]+)(?P<operator>\s+(?:eq|ne|co|sw|ew|gt|ge|lt|le)\s+)"""
    r"""(?P<literal>"(?:\\.|[^"\\])*"?|[^\s()\[\]"]+)"""
    r"""|(?P<quoted>"(?:\\.|[^"\\])*"?|(?<!\w)'(?:\\.|[^'\\])*'(?!\w))""",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"""[^\s@"'<>()\[\],;:]+@[^\s@"'<>()\[\],;:]*[^\s@"'<>()\[\],;:.]""")

_FRAMES: Final = "Traceback (most recent call last):"
_BETWEEN: Final = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_RAISED: Final = re.compile(r"[\w.]+(?=:|$)")


def body(held: Any) -> Any:
    """Mask what came in: a document, the operations of a patch, or whatever else a change may hold."""
    if isinstance(held, list):
        return [_operation(item) for item in held]
    return _masked(held, "")


def value(where: str, held: Any) -> Any:
    """Mask the value of an attribute, given its path."""
    return _masked(held, _last_name(where))


def path(text: str) -> str:
    """Mask what the filter in a path compares with: names stay, and ids of ours."""
    return _ADDRESS.sub(MASK, _LITERAL.sub(_masked_literal, text))


def detail(text: str) -> str:
    """Mask what an error may quote of a request."""
    told, named, rest = text.partition("with the id ")
    if named and not _is_id(rest.split(" ")[0].rstrip(".")):
        rest = f"{MASK}."
    return path(told) + named + path(rest)


def traceback(text: str) -> str:
    """Mask the messages in a traceback: they may quote anything. Frames and the names of errors stay."""
    return "\n".join(_masked_lines(text.splitlines()))


def _operation(held: Any) -> Any:
    if not isinstance(held, dict) or not isinstance(held.get("path"), str):
        return _masked(held, "")
    shown = {"op": held["op"] if held.get("op") in _OPS else MASK, "path": path(held["path"])}
    rest = {key: item for key, item in held.items() if key not in shown}
    name = _last_name(held["path"])
    return shown | {key: _masked(item, name if key == "value" else "") for key, item in rest.items()}


def _masked(held: Any, name: str) -> Any:
    if isinstance(held, dict):
        return {key: _masked(item, key) for key, item in held.items()}
    if isinstance(held, list):
        return [_masked(item, name) for item in held]
    return held if held is None or _is_harmless(held, name.lower()) else MASK


def _is_harmless(held: Any, name: str) -> bool:
    if name in _HARMLESS:
        return True
    return name in _IDS and isinstance(held, str) and _is_id(held)


def _last_name(text: str) -> str:
    """Tell the name of the attribute that a path ends with: what its value is a value of."""
    tail = text.rpartition("]")[2] or text.partition("[")[0]
    return tail.rpartition(":")[2].rpartition(".")[2]


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _masked_literal(match: re.Match[str]) -> str:
    if match["quoted"] is not None:
        return match[0] if _is_id(match[0].strip("\"'")) else _quoted_mask(match[0])
    if match["literal"] is None:
        return match[0]
    name, operator, literal = match["name"], match["operator"], match["literal"]
    bare = literal.strip('"')
    if _is_harmless(bare, _last_name(name).lower()) or _is_id(bare):
        return match[0]
    return f"{name}{operator}{_quoted_mask(literal)}"


def _quoted_mask(literal: str) -> str:
    mark = literal[0] if literal[0] in "\"'" else ""
    return f"{mark}{MASK}{mark}"


def _masked_lines(lines: list[str]) -> Iterator[str]:
    in_frames = False
    for line in lines:
        if line == _FRAMES:
            in_frames = True
            yield line
        elif line in _BETWEEN or not line:
            in_frames = False
            yield line
        elif in_frames and line.startswith("  ") and not line.lstrip().startswith(("|", "+")):
            yield line
        elif in_frames:
            # The first line of the message; what follows it is masked whole.
            in_frames = False
            raised = _RAISED.match(line)
            yield MASK if raised is None else raised[0] + (f": {MASK}" if raised.end() < len(line) else "")
        else:
            yield MASK
