"""Filters: the grammar of RFC 7644 §3.4.2.2, read into a frozen tree whose names are resolved.

The api parses a filter before it asks the store, which compiles the tree to SQL; `evaluations` runs it on a
document. A tree holds only attributes that the schema knows and comparisons that make sense, with values of
the attribute's type. `parse` raises nothing but `InvalidFilter`, whatever the text, and never recurses deeper
than `MAX_DEPTH` groups.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NoReturn, cast

from usher_core import errors
from usher_core.scim import conditions, references, values
from usher_core.scim.conditions import And as And
from usher_core.scim.conditions import Comparison as Comparison
from usher_core.scim.conditions import Filter as Filter
from usher_core.scim.conditions import Not as Not
from usher_core.scim.conditions import Operator as Operator
from usher_core.scim.conditions import Or as Or
from usher_core.scim.conditions import Presence as Presence
from usher_core.scim.conditions import ValuePath as ValuePath
from usher_core.scim.references import AttributeReference as AttributeReference
from usher_core.scim.schemas import ResourceType

MAX_LENGTH: Final = 8192
MAX_NODES: Final = 100
MAX_DEPTH: Final = 20

_TOKEN = re.compile(r'(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[()\[\]])|(?P<word>[^\s()\[\]"]+)', re.DOTALL)
_SPACE = re.compile(r"\s*")
_ALIASES: Final = {"email": "emails.value"}  # PingFederate


def parse(text: str, resource_type: ResourceType) -> Filter:
    """Read a filter.

    Raises:
        InvalidFilter: it breaks the grammar or a limit, names no known attribute, or compares what can't be
            compared; the detail says which.
    """
    return _Parser(text, resource_type, None).read()


def parse_inside(text: str, scope: AttributeReference, resource_type: ResourceType) -> Filter:
    """Read what stands between the brackets of a value path on `scope`; raises as `parse` does."""
    return _Parser(text, resource_type, scope).read()


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise errors.InvalidFilter(f"The filter is longer than {MAX_LENGTH} characters.")
    flaw = values.unstorable(text)
    if flaw is not None:
        raise errors.InvalidFilter(f"The filter holds {flaw}, which no value can hold.")
    tokens: list[_Token] = []
    position = _end_of_space(text, 0)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise errors.InvalidFilter(f"The string that starts at character {position + 1} has no end.")
        tokens.append(_Token(str(match.lastgroup), match[0], position + 1))
        position = _end_of_space(text, match.end())
    return tokens


def _end_of_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


class _Parser:
    """Recursive descent over the tokens: `or` binds least, then `and`, then `not` (RFC 7644 §3.4.2.2)."""

    def __init__(self, text: str, resource_type: ResourceType, scope: AttributeReference | None) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._resource_type = resource_type
        self._scope = scope
        self._nodes = 0
        self._depth = 0

    def read(self) -> Filter:
        result = self._either()
        if self._peek() is not None:
            self._fail("a filter ends, or `and` or `or` follows")
        return result

    # The tokens.

    def _peek(self, offset: int = 0) -> _Token | None:
        index = self._next + offset
        return self._tokens[index] if index < len(self._tokens) else None

    def _is(self, text: str, offset: int = 0) -> bool:
        token = self._peek(offset)
        return token is not None and token.kind != "string" and token.text.lower() == text

    def _take(self, text: str) -> bool:
        found = self._is(text)
        self._next += found
        return found

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(f"{text} is expected")

    def _fail(self, wanted: str) -> NoReturn:
        token = self._peek()
        if token is None:
            raise errors.InvalidFilter(f"The filter ends where {wanted}.")
        where = f"{references.shown(token.text)} stands at character {token.position}"
        raise errors.InvalidFilter(f"In the filter, {where} where {wanted}.")

    # The grammar.

    def _node(self, node: Filter) -> Filter:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise errors.InvalidFilter(f"The filter has more than {MAX_NODES} conditions and connectives.")
        return node

    def _either(self) -> Filter:
        left = self._both()
        while self._take("or"):
            left = self._node(Or(left, self._both()))
        return left

    def _both(self) -> Filter:
        left = self._condition()
        while self._take("and"):
            left = self._node(And(left, self._condition()))
        return left

    def _condition(self) -> Filter:
        if self._is("not") and self._is("(", 1):
            self._next += 1
            return self._node(Not(self._group("(", ")")))
        if self._is("("):
            return self._group("(", ")")
        token = self._peek()
        if token is None or token.kind != "word":
            self._fail("the name of an attribute is expected")
        self._next += 1
        if self._is("["):
            return self._value_path(token.text)
        return self._expression(self._resolve(token.text))

    def _group(self, opening: str, closing: str) -> Filter:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise errors.InvalidFilter(f"The filter is nested deeper than {MAX_DEPTH} groups.")
        self._expect(opening)
        inner = self._either()
        self._expect(closing)
        self._depth -= 1
        return inner

    def _value_path(self, name: str) -> Filter:
        if self._scope is not None:
            self._fail("a comparison is expected, as value paths can't be nested")
        scope = self._resolve(name)
        require_elements(scope, errors.InvalidFilter)
        self._scope = scope
        inner = self._group("[", "]")
        token = self._peek()
        if token is not None and token.kind == "word" and token.text.startswith("."):
            # Entra ID: emails[type eq "work"].value eq "a@x" is one condition on one and the same element.
            self._next += 1
            inner = self._node(And(inner, self._expression(self._resolve(token.text[1:]))))
        self._scope = None
        return self._node(ValuePath(scope, inner))

    def _resolve(self, name: str) -> AttributeReference:
        if self._scope is not None:
            return _resolve_inside(name, self._scope)
        reference = references.resolve(name, self._resource_type)
        if reference is None and name.lower() in _ALIASES:
            reference = references.resolve(_ALIASES[name.lower()], self._resource_type)
        if reference is None:
            raise errors.InvalidFilter(references.describe_unknown(name, self._resource_type))
        if reference.target.hidden or reference.attribute.hidden:
            raise errors.InvalidFilter(f"{reference.path} can't be used in a filter.")
        return reference

    def _expression(self, reference: AttributeReference) -> Filter:
        if self._take("pr"):
            return self._node(Presence(reference))
        token = self._peek()
        operator = token.text.lower() if token is not None and token.kind == "word" else ""
        if operator not in conditions.OPERATORS:
            self._fail(f"an operator ({', '.join(sorted(conditions.OPERATORS))} or pr) is expected")
        self._next += 1
        token = self._peek()
        if token is None or token.kind == "mark":
            self._fail("a value is expected")
        self._next += 1
        target = conditions.comparable(reference)
        return self._node(conditions.compare(target, cast(Operator, operator), token.text))


def require_elements(
    reference: AttributeReference, error: type[errors.InvalidFilter] | type[errors.InvalidPath]
) -> None:
    """Refuse a value path on what has no values to choose from: a sub-attribute, or a simple single value."""
    attribute = reference.attribute
    if reference.sub_attribute is not None or not (attribute.multi_valued or attribute.type == "complex"):
        raise error(f"{reference.path} has no values to choose from: [ ] can't follow it.")
    if reference.is_extension:
        raise error(f"{reference.path} is a schema: [ ] can't follow it.")


def _resolve_inside(name: str, scope: AttributeReference) -> AttributeReference:
    sub = scope.attribute.sub_attribute(name)
    if sub is not None:
        if sub.hidden:
            raise errors.InvalidFilter(f"{scope.path}.{sub.name} can't be used in a filter.")
        return AttributeReference(scope.urn, scope.attribute, sub)
    if scope.attribute.type != "complex" and name.lower() == "value":
        return scope
    # What is not complex is itself the value.
    known = [sub.name for sub in scope.attribute.sub_attributes.values() if not sub.hidden] or ["value"]
    raise errors.InvalidFilter(references.describe_unknown_among(name, known, scope.path))
