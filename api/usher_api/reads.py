"""Searches answered from the store: a list by index, or page by page with sealed cursors.

The routes hand over what was asked and the resource types that it is asked of: one, or all of them at the
root. What a search can't mean is refused in words, never answered with an empty list.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from usher_api import representations
from usher_core import errors, ids, settings
from usher_core.scim import conditions, filters, messages, projections, references, roots, schemas
from usher_core.scim.searches import Search
from usher_core.store import cursors, databases, orders, predicates, resources

Presenters = Mapping[str, representations.Presenter]


@dataclasses.dataclass(frozen=True, slots=True)
class Reads:
    """Reads what one tenant has; `base_url` is where its endpoints lie, without a slash at the end."""

    settings: settings.Settings
    database: databases.Database
    registry: schemas.Registry
    keys: cursors.Keys
    tenant: ids.TenantId
    base_url: str

    async def search(self, kinds: Sequence[schemas.ResourceType], search: Search) -> dict[str, Any]:
        """Answer a search among resources of these types with a ListResponse.

        Raises:
            InvalidFilter: the filter can't be read, or can't be asked of the store.
            InvalidValue: nothing can be sorted so.
            InvalidCursor: the cursor does not belong to this search.
            ExpiredCursor: the cursor is too old.
            StoreUnavailable: PostgreSQL is away.
        """
        presenters = {kind.name: self._presenter(kind, search) for kind in kinds}
        query = self._query(kinds, search, presenters)
        if search.cursor is not None:
            return await self._by_cursor(search, query, presenters)
        page = await resources.page(
            self.database, self.tenant, query, offset=search.start_index - 1, limit=self._limit(search)
        )
        return messages.list_response(_shown(page, presenters), page.total, search.start_index)

    async def _by_cursor(
        self, search: Search, query: resources.Query, presenters: Presenters
    ) -> dict[str, Any]:
        key = await self.keys.of(self.database, self.tenant)
        now = datetime.datetime.now(datetime.UTC)
        # What must stay the same from page to page; how much is shown of each, and how many, may change.
        bound = orjson.dumps([query.types, search.filter, search.sort_by, search.descending])
        start = cursors.read(key, bound, search.cursor, now) if search.cursor else None
        page = await resources.page_from(self.database, self.tenant, query, start, self._limit(search))

        def sealed(at: int, *, backward: bool) -> str:
            return cursors.write(key, bound, cursors.Cursor(page.positions[at], backward), now)

        backward = start is not None and start.backward
        has_next = bool(page.positions) and (page.more or backward)
        has_previous = bool(page.positions) and (page.more if backward else start is not None)
        return messages.cursor_response(
            _shown(page, presenters),
            page.total,
            sealed(-1, backward=False) if has_next else None,
            sealed(0, backward=True) if has_previous else None,
        )

    def _limit(self, search: Search) -> int:
        count = self.settings.default_page_size if search.count is None else search.count
        return min(max(count, 0), self.settings.max_page_size)

    def _presenter(self, kind: schemas.ResourceType, search: Search) -> representations.Presenter:
        projection = projections.parse(search.attributes, search.excluded_attributes, kind)
        return representations.Presenter(self.registry, kind, self.base_url, projection)

    def _query(
        self, kinds: Sequence[schemas.ResourceType], search: Search, presenters: Presenters
    ) -> resources.Query:
        relations = [presenter.relations for presenter in presenters.values()]
        return resources.Query(
            tuple(presenters),
            predicates.over(self.tenant, self._filters(kinds, search.filter)),
            search.filter is not None,
            resources.Relations(
                groups=any(one.groups for one in relations), members=any(one.members for one in relations)
            ),
            self._order(kinds, search),
        )

    def _filters(
        self, kinds: Sequence[schemas.ResourceType], text: str | None
    ) -> dict[schemas.ResourceType, filters.Filter | None]:
        if text is None:
            return dict.fromkeys(kinds)
        if len(kinds) == 1:
            return {kinds[0]: filters.parse(text, kinds[0])}
        return roots.narrow(filters.parse(text, roots.everything(self.registry)), kinds)

    def _order(self, kinds: Sequence[schemas.ResourceType], search: Search) -> orders.Order:
        if search.sort_by is None:
            return orders.BY_ID if len(kinds) == 1 else orders.BY_TYPE_AND_ID
        by: dict[schemas.ResourceType, references.AttributeReference | None]
        if len(kinds) == 1:
            by = {kinds[0]: _sorted_by(search.sort_by, kinds[0])}
        else:
            reference = _sorted_by(search.sort_by, roots.everything(self.registry))
            by = {kind: roots.narrow_reference(reference, kind) for kind in kinds}
        return orders.by_attribute(by, descending=search.descending)


def _sorted_by(name: str, kind: schemas.ResourceType) -> references.AttributeReference:
    reference = references.resolve(name, kind)
    if reference is None:
        raise errors.InvalidValue(f"sortBy: {references.describe_unknown(name, kind)}")
    if reference.attribute.hidden or reference.target.hidden:
        raise errors.InvalidValue(f"sortBy: nothing is sorted by {reference.path}.")
    try:
        return conditions.comparable(reference)
    except errors.InvalidFilter:
        raise errors.InvalidValue(
            f"sortBy: {reference.path} is complex: name one of its sub-attributes."
        ) from None


def _shown(page: resources.Page, presenters: Presenters) -> list[dict[str, Any]]:
    return [presenters[one.stored.type].represent(one) for one in page.resources]
