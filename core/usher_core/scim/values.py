"""Single values: how each type of RFC 7643 §2.3 is checked, compared and read from what clients send.

A checker is made once for an attribute and called for each value; it returns the value in its stored form or
raises `InvalidValue` naming the attribute's path. `None` never reaches a checker. No error quotes a value.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from usher_core import errors
from usher_core.scim.attributes import Attribute

Checker = Callable[[Any], Any]

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
# Possessive: blanks that either of two parts could take would be tried in every way.
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]*+={0,2}+\s*+", re.ASCII)
# RFC 3986 §2 without the punctuation that no URI has; letters of any script are taken (RFC 3987 §2.2).
_URI = re.compile(r'[^\x00-\x20\x7f-\x9f<>"{}|\\^`]*')
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}
_KEPT_LENGTH: Final = 1024
# The Stream-Safe Text Format of Unicode (UAX 15 §13): no language has more on one letter.
_MOST_MARKS: Final = 30
_TOO_MANY_MARKS = re.compile(rb"[^\0]{%d}" % (_MOST_MARKS + 1))
# Of no class themselves, yet nothing but marks when decomposed.
_COMPOSED_MARKS: Final = (("\u0f73", "\u0f71\u0f72"), ("\u0f75", "\u0f71\u0f74"), ("\u0f81", "\u0f71\u0f80"))


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
    return _fold_kept(value) if len(value) <= _KEPT_LENGTH else _fold(value)


def _fold(value: str) -> str:
    # Twice, as folding may leave a sequence whose decomposition folds further (U+0345, Unicode §3.13 D145).
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", value).casefold()).casefold()
    return unicodedata.normalize("NFC", folded)


# One request asks for the same several times: what is repeated, what is too long, what must be unique.
_fold_kept = functools.lru_cache(maxsize=1024)(_fold)


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


def comparable(attribute: Attribute, value: Any) -> Any:
    """Bring a value to the form in which the relations of filters compare it."""
    if isinstance(value, str):
        moment = date_time(value) if attribute.type == "dateTime" else None
        return moment if moment is not None else fold(attribute, value)
    # What it is written as is what PostgreSQL compares, not the nearest sum of powers of two.
    return decimal.Decimal(repr(value)) if isinstance(value, float) else value


def unstorable(text: str) -> str | None:
    """Name what a string holds that PostgreSQL, UTF-8 or the folding of case can't take; `None`: nothing."""
    if "\0" in text:
        return "a NUL character"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half a character (a lone surrogate)"
    return f"more than {_MOST_MARKS} combining marks in a row" if _has_endless_marks(text) else None


def _has_endless_marks(text: str) -> bool:
    """Whether decomposing the text could take long: sorting a run of marks takes the square of its length."""
    if len(text) <= _MOST_MARKS // 2:
        return False
    for composed, marks in _COMPOSED_MARKS:
        text = text.replace(composed, marks)
    # A run that is too long has a mark at one of these places: most texts have none at all.
    if not any(map(unicodedata.combining, text[:: _MOST_MARKS + 1])):
        return False
    return _TOO_MANY_MARKS.search(bytes(map(unicodedata.combining, text))) is not None


def checker(attribute: Attribute, path: str) -> Checker:
    """Make the checker for single values of an attribute that is not complex."""
    if attribute.type == "reference":
        return _reference(attribute, path)
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
        if not value.isascii() or "\0" in value:
            flaw = unstorable(value)
            if flaw is not None:
                raise errors.InvalidValue(f"{path} holds {flaw}, which can't be stored.")
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
        if not _fits_64_bits(value):
            raise errors.InvalidValue(f"{path} is outside the range of 64-bit integers.")
        return value

    return check


def _fits_64_bits(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _decimal(path: str) -> Checker:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise expected(path, "a number", value)
        if isinstance(value, int) and _fits_64_bits(value):
            return value
        # Beyond that it is a float, as parsers of JSON have it: what was stored may come back as either.
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise errors.InvalidValue(f"{path} must be a finite number.")
        return number

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


def _reference(attribute: Attribute, path: str) -> Checker:
    """RFC 7643 §2.3.7: a URI; what it may point to is told by the attribute's `referenceTypes`."""
    string = _string(path)
    types = attribute.reference_types
    external = "external" in types
    resources = [name for name in types if name not in ("external", "uri")]
    any_uri = not types or "uri" in types
    wanted = " or ".join(
        [f"refer to a resource of type {' or '.join(resources)}"] * bool(resources)
        + ["be an absolute URI"] * external
    )

    def check(value: Any) -> str:
        text: str = string(value)
        if _URI.fullmatch(text) is None:
            raise errors.InvalidValue(f"{path} must be a URI.")
        # An empty one refers to nothing: templates of clients send it for what is not assigned.
        if any_uri or not text or (external and _ABSOLUTE.match(text)):
            return text
        if not (resources and _leads_to(text, attribute.reference_endpoints)):
            raise errors.InvalidValue(f"{path} must {wanted}.")
        return text

    return check


def _leads_to(text: str, endpoints: tuple[str, ...]) -> bool:
    """Whether a reference is the URL of a resource at one of these endpoints, however much of it is given.

    The id alone is taken too, for it can mean nothing else.
    """
    steps = [step for step in re.split(r"[?#]", text, maxsplit=1)[0].split("/") if step]
    if len(steps) == 1:
        return ":" not in text
    return len(steps) > 1 and steps[-2].lower() in endpoints


_CHECKERS: Final[dict[str, Callable[[str], Checker]]] = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer,
    "decimal": _decimal,
    "dateTime": _date_time,
    "binary": _binary,
}
