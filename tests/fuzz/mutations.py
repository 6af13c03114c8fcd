"""Changes made to an input at random, of the kind that keeps most of it readable.

Bytes that are flipped blindly are hardly ever JSON: here a value is moved, repeated, nested or put in place
of another. All comes from the `Random` that is given, so what was found can be found again.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import seeds

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\s+|[\w.:@$+-]+|.', re.DOTALL)
ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 2**64, 1.5, 1e308, "", " ", "True", "a" * 1100, "\u0301" * 31,
    [], {}, [[]], [None], {"value": None}, {"": ""},
]  # fmt: skip


def mutate(form: str, data: bytes, random: Random, most: int) -> bytes:
    """Change an input of a form once or several times; `most` bytes at most."""
    changed = data
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        changed = _once(form, changed, random)[:most]
    return changed


def _once(form: str, data: bytes, random: Random) -> bytes:
    if form in ("json", "bulk") and random.random() < 0.8:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = json.loads(random.choice(seeds.of_form(form)))
        return json.dumps(_changed(value, random), ensure_ascii=random.random() < 0.5).encode(
            "utf-8", "replace"
        )
    if random.random() < 0.1:
        return _flipped(data, random)
    text = _retold(data.decode("utf-8", "replace"), random)
    return text.encode("utf-8", "replace")


def _flipped(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    width = random.choice((0, 1, 1, 4))
    return data[:place] + random.randbytes(random.choice((0, 1, 1, 3))) + data[place + width :]


def _retold(text: str, random: Random) -> str:
    tokens = TOKEN.findall(text)
    place = random.randrange(len(tokens) + 1)
    match random.randrange(6):
        case 0:
            tokens[place:place] = [random.choice(seeds.WORDS)]
        case 1:
            tokens[place : place + 1] = [random.choice(seeds.WORDS)]
        case 2:
            del tokens[place : place + random.choice((1, 1, 3))]
        case 3:
            tokens[place:place] = tokens[place : place + 5] * random.choice((1, 2, 30))
        case 4:
            tokens[place : place + 1] = [token.swapcase() for token in tokens[place : place + 1]]
        case _:
            tokens += [
                random.choice((" and ", " or ", "&", " ")),
                random.choice(seeds.of_form("text")).decode(),
            ]
    return "".join(tokens)


def _changed(value: Any, random: Random) -> Any:
    """Change something somewhere in a JSON value."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        return _changed_member(value, key, random)
    if isinstance(value, list) and value and random.random() < 0.8:
        index = random.randrange(len(value))
        inner = [_changed(value[index], random)]
        return (
            value[:index]
            + inner * random.choice((1, 1, 1, 2, 40))
            + value[index + random.choice((0, 1, 1)) :]
        )
    if isinstance(value, str) and random.random() < 0.7:
        return _retold(value, random)
    return _other(value, random)


def _changed_member(value: dict[str, Any], key: str, random: Random) -> dict[str, Any]:
    rest = {name: item for name, item in value.items() if name != key}
    match random.randrange(8):
        case 0:
            return rest
        case 1:
            return rest | {_key(key, random): value[key]}
        case 2:
            return value | {_key(key, random): _other(value[key], random)}
        case 3 if isinstance(value[key], dict):
            return rest | value[key]
        case _:
            return rest | {key: _changed(value[key], random)}


def _key(key: str, random: Random) -> str:
    return random.choice((key.upper(), key.swapcase(), f"{key} ", random.choice(seeds.WORDS)))


def _other(value: Any, random: Random) -> Any:
    match random.randrange(7):
        case 0:
            return [value] * random.choice((1, 2, 50))
        case 5:
            return random.choice(seeds.of_form("text")).decode()
        case 1:
            return {random.choice(seeds.WORDS): value}
        case 2:
            return random.choice(seeds.WORDS)
        case 3:
            return json.dumps(value)
        case 4:
            return json.loads(random.choice(seeds.of_form("json")))
        case _:
            return random.choice(ODD)
