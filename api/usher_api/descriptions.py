"""What each operation takes and answers, by the name of its handler; `specifications` makes a document of it.

Routes need not know of their descriptions, but a test insists that each has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from usher_api import shapes
from usher_core import errors

_SEARCHING: Final = (
    errors.InvalidFilter,
    errors.InvalidValue,
    errors.InvalidCount,
    errors.InvalidCursor,
    errors.ExpiredCursor,
)
_WITH_BODY: Final = (
    errors.InvalidValue,
    errors.InvalidVersion,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
)
_ON_RESOURCE: Final = (errors.NotFound, errors.PreconditionFailed)
_SEARCH: Final = tuple(shapes.SEARCH)
_PROJECTION: Final = ("attributes", "excludedAttributes")
_ON_NEW: Final = ("get{name}", "replace{name}", "patch{name}", "delete{name}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: `shape` names what the body holds, `{name}` in it the resource type."""

    words: str
    shape: str | None = None
    headers: tuple[str, ...] = ()
    # Operations that the answer's resource can go on with, by their ids.
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """What one operation takes and answers.

    In `operation_id` and the names of shapes, `{name}` and `{endpoint}` stand for the resource type and
    `{method}` for the method.
    """

    operation_id: str
    answers: Mapping[int, Answer] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    body: str | None = None
    refusals: tuple[type[errors.ScimError], ...] = ()


# By the name of the handler.
DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "service_provider_config": Description(
        "getServiceProviderConfig", {200: Answer("What the service can do.", "ServiceProviderConfig")}
    ),
    "resource_types": Description(
        "listResourceTypes", {200: Answer("All resource types.", "ResourceTypeList")}
    ),
    "resource_type": Description(
        "getResourceType",
        {200: Answer("The resource type.", "ResourceType")},
        refusals=(errors.NotFound,),
    ),
    "all_schemas": Description("listSchemas", {200: Answer("All schemas.", "SchemaList")}),
    "one_schema": Description(
        "getSchema", {200: Answer("The schema.", "Schema")}, refusals=(errors.NotFound,)
    ),
    "me": Description("{method}Me", refusals=(errors.NotImplementedYet,)),
    "query_all": Description(
        "queryAll",
        {200: Answer("What the filter matches; perhaps nothing.", "ListResponse")},
        parameters=_SEARCH,
        refusals=_SEARCHING,
    ),
    "search_all": Description(
        "searchAll",
        {200: Answer("What the filter matches; perhaps nothing.", "ListResponse")},
        body="SearchRequest",
        refusals=(*_SEARCHING, *_WITH_BODY),
    ),
    "query": Description(
        "query{endpoint}",
        {200: Answer("What the filter matches; perhaps nothing.", "{name}List")},
        parameters=_SEARCH,
        refusals=_SEARCHING,
    ),
    "search": Description(
        "search{endpoint}",
        {200: Answer("What the filter matches; perhaps nothing.", "{name}List")},
        body="SearchRequest",
        refusals=(*_SEARCHING, *_WITH_BODY),
    ),
    "retrieve": Description(
        "get{name}",
        {
            200: Answer("The resource.", "{name}", ("ETag",)),
            304: Answer("It is still at the version that If-None-Match names.", None, ("ETag",)),
        },
        parameters=("If-None-Match", *_PROJECTION),
        refusals=(errors.InvalidValue, errors.NotFound),
    ),
    "create": Description(
        "create{name}",
        {201: Answer("The new resource.", "{name}", ("ETag", "Location"), _ON_NEW)},
        parameters=_PROJECTION,
        body="{name}Input",
        refusals=(*_WITH_BODY, errors.NotFound, errors.UniquenessViolated),
    ),
    "replace": Description(
        "replace{name}",
        {200: Answer("The resource as it is now.", "{name}", ("ETag",))},
        parameters=("If-Match", *_PROJECTION),
        body="{name}Input",
        refusals=(*_WITH_BODY, *_ON_RESOURCE, errors.MutabilityViolated, errors.UniquenessViolated),
    ),
    "patch": Description(
        "patch{name}",
        {
            200: Answer("The resource as it is now.", "{name}", ("ETag",)),
            204: Answer(
                "Changed; where the tenant has it so, unless attributes are asked for.", None, ("ETag",)
            ),
        },
        parameters=("If-Match", *_PROJECTION),
        body="PatchOp",
        refusals=(
            *_WITH_BODY,
            *_ON_RESOURCE,
            errors.InvalidFilter,
            errors.InvalidPath,
            errors.NoTarget,
            errors.MutabilityViolated,
            errors.UniquenessViolated,
        ),
    ),
    "bulk": Description(
        "bulk",
        {200: Answer("What became of each operation.", "BulkResponse")},
        body="BulkRequest",
        refusals=_WITH_BODY,
    ),
    "delete": Description(
        "delete{name}",
        {204: Answer("Deleted.")},
        parameters=("If-Match",),
        refusals=_ON_RESOURCE,
    ),
}
