"""What commands show of changes, dead letters and the queue, as text for people; made of `reports`' JSON.

Pure. Invariant: what a client sent moves no cursor and breaks no line.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from usher_core.operations import moments, reports, tables

# So many differences are written out; JSON has all.
MOST_SHOWN: Final = 100

HEAD: Final = ("ACCEPTED", "CHANGE", "STATE", "STATUS", "OPERATION", "RESOURCE", "TOKEN", "APPLIED AFTER")
LETTERS_HEAD: Final = ("TENANT", "CHANGE", "FIRST", "LAST", "ATTEMPTS", "REASON", "OPERATION", "RESOURCE")
QUEUE_HEAD: Final = ("TENANT", "PENDING", "OLDEST", "APPLIED/S", "DEAD LETTERS", "DRAIN")


def _change_row(shown: Mapping[str, Any]) -> tuple[object, ...]:
    """Make the line of a change in a table."""
    age = shown["ageSeconds"]
    return (
        shown["acceptedAt"][:23] + "Z",
        shown["change"],
        shown["state"],
        shown["status"],
        shown["operation"],
        _resource(shown),
        _token_text(shown["token"]),
        None if age is None else moments.age(age),
    )


def changes(listed: Sequence[Mapping[str, Any]]) -> str:
    """Make the table of changes."""
    return tables.render(HEAD, map(_change_row, listed), right=(3, 7))


def change_line(shown: Mapping[str, Any]) -> str:
    """Make one line of a change, in columns that fit without knowing the others."""
    accepted, change, state, status, operation, resource, token, age = _change_row(shown)
    cells = tables.cells((accepted, change, state, status, operation, resource, token, age))
    widths = (24, 36, 7, 3, 8, 42, 12, 0)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def letters(listed: Sequence[Mapping[str, Any]]) -> str:
    """Make the table of dead letters."""
    rows = [
        (
            one["tenant"],
            one["change"],
            one["firstFailedAt"][:19] + "Z",
            one["lastFailedAt"][:19] + "Z",
            one["attempts"],
            one["reason"],
            one["operation"],
            _resource(one),
        )
        for one in listed
    ]
    return tables.render(LETTERS_HEAD, rows, right=(4,))


def change(shown: Mapping[str, Any]) -> str:
    """Write a change out."""
    applied = shown["appliedAt"]
    lines = [
        ("change", shown["change"]),
        ("tenant", shown["tenant"]),
        ("state", _state_text(shown)),
        ("accepted", shown["acceptedAt"]),
        ("by token", _token_text(shown["token"], whole=True)),
        ("request", shown["requestId"]),
        ("operation", shown["operation"]),
        ("resource", _resource(shown)),
        ("of bulk", shown["bulk"] and "{change}, operation {index}".format_map(shown["bulk"])),
        ("status", " ".join(str(one) for one in (shown["status"], shown["scimType"]) if one is not None)),
        ("detail", shown["detail"]),
        ("version", shown["version"]),
        ("applied", applied and f"{applied}, {moments.age(shown['ageSeconds'])} after its acceptance"),
        ("position", shown["position"]),
    ]
    parts = [_fields(lines), f"What came in:\n{_indented(_json_text(shown['body']))}", "What it did:"]
    parts[-1] += "".join(f"\n  {line}" for line in _differences(shown))
    if shown.get("operations"):
        parts.append(f"Its operations:\n{_indented(changes(shown['operations']))}")
    return "\n\n".join(parts)


def letter(shown: Mapping[str, Any]) -> str:
    """Write a dead letter out."""
    lines = [
        ("change", shown["change"]),
        ("tenant", shown["tenant"]),
        ("accepted", shown["acceptedAt"]),
        ("by token", _token_text(shown["token"], whole=True)),
        ("request", shown["requestId"]),
        ("operation", shown["operation"]),
        ("resource", _resource(shown)),
        ("reason", shown["reason"]),
        ("attempts", shown["attempts"]),
        ("first time", shown["firstFailedAt"]),
        ("last time", shown["lastFailedAt"]),
    ]
    return "\n\n".join(
        (
            _fields(lines),
            f"What came in:\n{_indented(_json_text(shown['body']))}",
            f"Why it failed:\n{_indented(shown['traceback'].rstrip())}",
        )
    )


def queue(shown: Mapping[str, Any]) -> str:
    """Write the queue as a table under a line about the workers."""
    tenants = shown["tenants"]
    pending = sum(one["pending"] for one in tenants)
    letters = sum(one["deadLetters"] for one in tenants)
    head = (
        f"{shown['at'][:19]}Z  workers {shown['workers']} ({shown['busyWorkers']} busy)"
        f"  queued jobs {shown['queuedJobs']}  pending {pending}  dead letters {letters}"
    )
    if not tenants:
        return f"{head}\nNothing waits, nothing was applied in the last minute, and there is no dead letter."
    rows = [
        (
            one["tenant"] or f"{one['id']} (gone)",
            one["pending"],
            None if one["oldestSeconds"] is None else moments.age(one["oldestSeconds"]),
            f"{one['appliedPerSecond']:.1f}",
            one["deadLetters"],
            one["drain"],
        )
        for one in tenants
    ]
    return f"{head}\n\n{tables.render(QUEUE_HEAD, rows, right=(1, 2, 3, 4))}"


def _differences(shown: Mapping[str, Any]) -> list[str]:
    listed = shown["differences"] or []
    lines = []
    for one in listed[:MOST_SHOWN]:
        before, after = (orjson.dumps(one[key]).decode() for key in ("before", "after"))
        if one["before"] is None:
            lines.append(f"+ {one['path']}  {after}")
        elif one["after"] is None:
            lines.append(f"- {one['path']}  {before}")
        else:
            lines.append(f"~ {one['path']}  {before} → {after}")
    if len(listed) > MOST_SHOWN:
        lines.append(f"… and {len(listed) - MOST_SHOWN} more; --json shows all")
    return lines + ([shown["note"]] if shown["note"] else [])


def _state_text(shown: Mapping[str, Any]) -> str:
    state = str(shown["state"])
    if state == "dead":
        return f"dead; see: usher dead-letters show {shown['change']}"
    if state == "pending" and shown["waitingBefore"] is not None:
        waited = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(shown["acceptedAt"])
        age = moments.age(max(waited.total_seconds(), 0.0))
        return f"pending for {age}, behind {shown['waitingBefore']} others"
    return state


def _resource(shown: Mapping[str, Any]) -> str | None:
    return f"{shown['resourceType']} {shown['resourceId']}" if shown["resourceType"] else None


def _token_text(token: Mapping[str, Any] | None, *, whole: bool = False) -> str | None:
    if token is None:
        return "none" if whole else None
    name = token["name"]
    return f"{name} ({token['id']})" if whole and name else name or token["id"]


def _fields(lines: Sequence[tuple[str, object]]) -> str:
    return "\n".join(
        f"{name:<11}{tables.cells((value,))[0]}" for name, value in lines if value is not None and value != ""
    )


def _json_text(value: Any) -> str:
    return "nothing" if value is None else reports.as_json(value)


def _indented(text: str) -> str:
    # Line by line, and nothing that moves the cursor: a traceback may quote what a client sent.
    return "\n".join(f"  {tables.cells((line,))[0] if line else ''}" for line in text.split("\n"))
