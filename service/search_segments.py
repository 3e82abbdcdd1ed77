"""Segments: which users hold a combination of conditions, page by page, and how many they are.

The engine says each user's numbers, in the order of user ids; which of them hold is decided here. A cursor is where a
page ended, bound to what was asked; it carries the count, so that a later page need not count again.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import search_queries as queries
from .money import DECIMALS
from .opensearch import EngineUnavailableError
from .problems import InvalidRequest
from .search import Search
from .search_queries import USER, Json, Measure, Walk
from .search_requests import MONEY_METRICS, EventCondition, MetricCondition, SegmentsRequest

# A later page asks for few users at first, as most of the time they are enough.
_BUCKETS_AT_FIRST = 1_000


@dataclass(frozen=True, slots=True)
class _Bound:
    """A condition: its number and what it may be. Where a request says it twice, the number is asked for once."""

    measure: str
    least: int
    most: int | None

    def holds(self, values: Mapping[str, int]) -> bool:
        value = values[self.measure]
        return self.least <= value and (self.most is None or value <= self.most)


@dataclass(frozen=True, slots=True)
class _Segment:
    measures: Mapping[str, Measure]
    all: Sequence[_Bound]
    any: Sequence[_Bound]
    none: Sequence[_Bound]

    def holds(self, values: Mapping[str, int]) -> bool:
        return (
            all(bound.holds(values) for bound in self.all)
            and (not self.any or any(bound.holds(values) for bound in self.any))
            and not any(bound.holds(values) for bound in self.none)
        )

    def walk(self, search: Search) -> Walk:
        """Over everybody with an event in the range; or, where nobody can hold without an event that is counted by
        some condition, over those who have one."""
        filters: list[Json] = []
        if not self.holds(dict.fromkeys(self.measures, 0)):
            filters = [queries.either([measure.relevant for measure in self.measures.values()])]
        aggregations = {name: measure.aggregation for name, measure in self.measures.items()}
        has_lists = any(measure.kind == "distinct" for measure in self.measures.values())
        return Walk(search.query(*filters), USER, aggregations, has_lists=has_lists)

    def members(self, buckets: Sequence[Json]) -> Iterator[str]:
        for bucket in buckets:
            if self.holds({name: measure.value(bucket[name]) for name, measure in self.measures.items()}):
                yield bucket["key"]["key"]


class _Place(NamedTuple):
    """Where the page before ended, and what it knew of the number of all."""

    after: str
    known: int | None
    at_least: int


def segments(search: Search, request: SegmentsRequest, currency: str) -> Json:
    """A page of those who hold, in the order of their ids, and how many they are.

    Where the time suffices for some of the users and not for all, the count is null, and at least so many.
    """
    segment = _segment(request, currency)
    digest = _digest(request, currency)
    place = _decoded(request.cursor, digest)
    walk = segment.walk(search)
    users: list[str] = []
    count = examined = 0
    size = min(_BUCKETS_AT_FIRST, walk.first_buckets) if place else None
    last, is_whole = (place.after if place else None), False
    try:
        for page in search.pages(walk, last, size):
            members = list(segment.members(page.buckets))
            count += len(members)
            examined += len(page.buckets)
            users += members[: request.limit + 1 - len(users)]
            last, is_whole = page.after, page.after is None
            if place and len(users) > request.limit:
                break
    except EngineUnavailableError:
        if not examined or not search.is_late:
            raise
    shown = users[: request.limit]
    if place:
        known, at_least = place.known, max(place.at_least, len(shown))
    else:
        known, at_least = (count if is_whole else None), count
    following = shown[-1] if len(users) > request.limit else last
    return {
        "count": known,
        "countAtLeast": at_least,
        "users": [{"userId": user} for user in shown],
        "nextCursor": None if following is None else _encoded(digest, _Place(following, known, at_least)),
    }


def _segment(request: SegmentsRequest, currency: str) -> _Segment:
    names: dict[tuple[str, str], str] = {}
    measures: dict[str, Measure] = {}

    def bound(condition: EventCondition | MetricCondition) -> _Bound:
        of, least, most = _read(condition, currency)
        key = (of.kind, json.dumps(of.relevant))
        if key not in names:
            names[key] = f"c{len(names)}"
            measures[names[key]] = of
        return _Bound(names[key], least, most)

    lists = [[bound(condition) for condition in conditions] for conditions in _conditions(request)]
    return _Segment(measures, *lists)


def _conditions(request: SegmentsRequest) -> tuple[Sequence[EventCondition | MetricCondition], ...]:
    return request.all, request.any, request.none


def _read(condition: EventCondition | MetricCondition, currency: str) -> tuple[Measure, int, int | None]:
    if isinstance(condition, EventCondition):
        return queries.of_event(condition.event), condition.least, condition.most
    code = condition.currency or currency
    is_money = condition.metric in MONEY_METRICS
    return queries.of_metric(condition.metric, code), *condition.bounds(DECIMALS[code] if is_money else 0)


# --- the cursor -----------------------------------------------------------------------------------------------------


def _digest(request: SegmentsRequest, currency: str) -> str:
    """Of what was asked, but for the size of pages."""
    asked: dict[str, Any] = request.model_dump(mode="json", exclude={"limit", "cursor"})
    text = json.dumps([asked, currency], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encoded(digest: str, place: _Place) -> str:
    text = json.dumps([digest, *place], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str | None, digest: str) -> _Place | None:
    """Raises InvalidRequest for what is no cursor of this search."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        of, after, count, at_least = json.loads(text)
        if of == digest and _is_place(after, count, at_least):
            return _Place(after, count, at_least)
    except (UnicodeError, binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise InvalidRequest(
        "cursor is what nextCursor of the page before said, and goes with the same search.",
        code="invalid_cursor",
    )


def _is_place(after: object, count: object, at_least: object) -> bool:
    is_text = isinstance(after, str) and not any("\ud800" <= character <= "\udfff" for character in after)
    return is_text and type(at_least) is int and (count is None or type(count) is int)
