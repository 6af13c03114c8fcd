"""Projections: which attributes of a resource an answer holds (RFC 7644 §3.9, RFC 7643 §7 `returned`).

The api parses `attributes` and `excludedAttributes` once a request, asks with `wants` what need not be
loaded, and applies the projection to each resource. A projection is a tree of names compiled from the schema,
so that applying it is one look-up for each attribute; what no schema knows is not shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from usher_core import errors
from usher_core.scim import references
from usher_core.scim.attributes import COMMON_ATTRIBUTES
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import Attribute, ResourceType

# Of either parameter; what is compiled of them is kept.
MAX_LENGTH: Final = 8192

# By canonical name: `None` shows all of it, a mapping shows those of its sub-attributes.
_Plan = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Projection:
    """What to show of a resource of one type."""

    plan: _Plan
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(name.lower() for name in self.plan))

    def wants(self, name: str) -> bool:
        """Whether any part of a top-level attribute is shown; the name in any case."""
        return name.lower() in self._names

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Make the resource that is answered; it shares what it shows with the document."""
        return _project(self.plan, document)


def parse(attributes: str | None, excluded_attributes: str | None, resource_type: ResourceType) -> Projection:
    """Read the two query parameters; names that are not known are ignored, as clients send them.

    Raises:
        InvalidValue: both are given (RFC 7644 §3.9), or one is longer than any list of names.
    """
    if attributes and excluded_attributes:
        raise errors.InvalidValue("attributes and excludedAttributes can't be used together.")
    for name, listed in (("attributes", attributes), ("excludedAttributes", excluded_attributes)):
        if listed is not None and len(listed) > MAX_LENGTH:
            raise errors.InvalidValue(f"{name} is longer than {MAX_LENGTH} characters.")
    return _compiled(attributes or "", excluded_attributes or "", resource_type)


@functools.lru_cache(maxsize=512)
def _compiled(attributes: str, excluded: str, resource_type: ResourceType) -> Projection:
    listed = _Listed(_references(attributes or excluded, resource_type), only=bool(attributes))
    plan: dict[str, Any] = {}
    for attribute in COMMON_ATTRIBUTES.values():
        _add(plan, listed, AttributeReference(None, attribute))
    for schema in resource_type.schemas:
        core = schema is resource_type.schema
        inner = plan if core else {}
        for attribute in schema.attributes.values():
            if not core or attribute.name not in plan:
                _add(inner, listed, AttributeReference(None if core else schema.id, attribute))
        if not core and inner:
            plan[schema.id] = inner
    return Projection(plan)


def _references(names: str, resource_type: ResourceType) -> Iterable[AttributeReference]:
    core = resource_type.schema
    for name in map(str.strip, names.split(",")):
        reference = references.resolve(name, resource_type)
        if reference is not None:
            yield reference
        elif name.lower() == core.id.lower():
            # Like the URN of an extension, it stands for all that the schema has.
            yield from (AttributeReference(None, attribute) for attribute in core.attributes.values())


class _Listed:
    """The attributes that the client named: the only ones it wants, or those that it does not want."""

    def __init__(self, named: Iterable[AttributeReference], *, only: bool) -> None:
        self._paths = {reference.path for reference in named}
        self._parents = {path.rpartition(".")[0] for path in self._paths}
        self._only = only

    def named(self, reference: AttributeReference) -> bool:
        return reference.path in self._paths or reference.urn in self._paths

    def whole(self, reference: AttributeReference, *, inherited: bool = False) -> bool:
        """Whether the attribute is shown, as far as the client has a say in it."""
        named = self.named(reference) or inherited
        match reference.target.returned:
            case "always":
                return True
            case "never":
                return False
            case "request":  # RFC 7643 §7: only when asked for by name
                return self._only and named
            case "default":
                return named if self._only else not named

    def partly(self, reference: AttributeReference) -> bool:
        """Whether the client wants a sub-attribute of it."""
        return self._only and reference.path in self._parents


def _add(plan: dict[str, Any], listed: _Listed, reference: AttributeReference) -> None:
    attribute = reference.attribute
    if attribute.returned == "never":
        return
    whole = listed.whole(reference)
    if not attribute.sub_attributes:
        if whole:
            plan[attribute.name] = None
        return
    if not whole and not listed.partly(reference):
        return
    subs = [
        sub.name for sub in attribute.sub_attributes.values() if _shows(listed, reference, sub, whole=whole)
    ]
    if len(subs) == len(attribute.sub_attributes):
        plan[attribute.name] = None
    elif subs:
        plan[attribute.name] = dict.fromkeys(subs)


def _shows(listed: _Listed, parent: AttributeReference, sub: Attribute, *, whole: bool) -> bool:
    reference = AttributeReference(parent.urn, parent.attribute, sub)
    if parent.attribute.returned == "always" and sub.returned == "default":
        return True
    return listed.whole(reference, inherited=whole and listed.named(parent))


def _project(plan: _Plan, document: Mapping[str, Any]) -> dict[str, Any]:
    result = {}
    for name, value in document.items():
        if name not in plan:
            continue
        inner = plan[name]
        if inner is not None and value is not None:
            if isinstance(value, list):
                value = [shown for item in value if (shown := _part(inner, item))]
            else:
                value = _part(inner, value)
            if not value:
                continue
        result[name] = value
    return result


def _part(plan: _Plan, value: Any) -> Any:
    return _project(plan, value) if isinstance(value, dict) else value
