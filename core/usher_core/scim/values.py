"""Single values: how each type of RFC 7643 §2.3 is checked, compared and read from what clients send.

A checker is made once for an attribute and called for each value; it returns the value in its stored form or
raises `InvalidValue` naming the attribute's path. `None` never reaches a checker. No error quotes a value.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from usher_core import errors
from usher_core.scim.attributes import Attribute

Checker = Callable[[Any], Any]

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]*={0,2}\s*", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}


def fold(attribute: Attribute, value: str | bool | float) -> str:
    """Bring a value to the form in which it is compared.

    Where the case counts, that is the value as it is. Where it doesn't, it is decomposed, case-folded and
    composed (the canonical caseless match of Unicode, in NFC), so that `É` meets `e` with an accent.
    """
    if not isinstance(value, str):
        return str(value).lower()
    if attribute.case_exact:
        return value
    if value.isascii():
        return value.lower()
    # Twice, as folding may leave a sequence whose decomposition folds further (U+0345, Unicode §3.13 D145).
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", value).casefold()).casefold()
    return unicodedata.normalize("NFC", folded)


def date_time(text: str) -> datetime.datetime | None:
    """Read an xsd:dateTime (RFC 7643 §2.3.5); without an offset it is UTC. `None`: it is none."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    fraction = match[1] or ""
    try:
        moment = datetime.datetime.fromisoformat(
            text.replace(fraction, fraction[:7], 1) if fraction else text
        )
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def unstorable(text: str) -> bool:
    """Whether a string holds a NUL or half a surrogate pair, which PostgreSQL and UTF-8 can't hold."""
    if "\0" in text:
        return True
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def checker(attribute: Attribute, path: str) -> Checker:
    """Make the checker for single values of an attribute that is not complex."""
    return _CHECKERS[attribute.type](path)


def expected(path: str, what: str, value: object) -> errors.InvalidValue:
    """Make the error that says what an attribute must be and what came instead."""
    return errors.InvalidValue(f"{path} must be {what}, not {_kind(value)}.")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def _string(path: str) -> Checker:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise expected(path, "a string", value)
        if "\0" in value or (not value.isascii() and unstorable(value)):
            raise errors.InvalidValue(f"{path} holds a character that can't be stored.")
        return value

    return check


def _boolean(path: str) -> Checker:
    def check(value: Any) -> bool:
        if value is True or value is False:
            return value
        if isinstance(value, str):
            # Entra ID and OneLogin send booleans as strings, in any case.
            known = _BOOLEANS.get(value.strip().lower())
            if known is not None:
                return known
            raise errors.InvalidValue(f"{path} must be true or false.")
        raise expected(path, "a boolean", value)

    return check


def _integer(path: str) -> Checker:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise expected(path, "an integer", value)
        if not -(2**63) <= value < 2**63:
            raise errors.InvalidValue(f"{path} is outside the range of 64-bit integers.")
        return value

    return check


def _decimal(path: str) -> Checker:
    integer = _integer(path)

    def check(value: Any) -> float:
        if not isinstance(value, float):
            return int(integer(value))
        if not math.isfinite(value):
            raise errors.InvalidValue(f"{path} must be a finite number.")
        return value

    return check


def _date_time(path: str) -> Checker:
    string = _string(path)

    def check(value: Any) -> str:
        if date_time(string(value)) is None:
            raise errors.InvalidValue(f"{path} must be a date and time such as 2030-01-31T23:59:59Z.")
        return str(value)

    return check


def _binary(path: str) -> Checker:
    string = _string(path)

    def check(value: Any) -> str:
        # RFC 7643 §2.3.6: base64, whose padding may be left out.
        if _BASE64.fullmatch(string(value)) is None:
            raise errors.InvalidValue(f"{path} must be base64.")
        return str(value)

    return check


_CHECKERS: Final[dict[str, Callable[[str], Checker]]] = {
    "string": _string,
    "reference": _string,
    "boolean": _boolean,
    "integer": _integer,
    "decimal": _decimal,
    "dateTime": _date_time,
    "binary": _binary,
}
