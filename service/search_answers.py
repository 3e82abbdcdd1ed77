"""Funnels, breakdowns, time series and retention: what is asked of the engine, and how its parts become rows.

An answer is what the reply says, amounts as decimals.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, tzinfo
from decimal import Decimal
from itertools import chain, groupby
from typing import Any, TypeVar

from . import money
from . import search_queries as queries
from .documents import line
from .search import Search
from .search_queries import USER, Json, Walk
from .search_requests import BreakdownsRequest, FunnelsRequest, RetentionRequest, TimeseriesRequest
from .search_units import Hours, hours, unit_of, units

_HOUR_MS = 3_600_000
# What an event may have several of; all else it has one of.
_IN_LINES = ("productId", "category")

_Row = TypeVar("_Row")


def amount(minor: int, currency: str) -> Decimal:
    """In major units, without trailing zeros."""
    return Decimal(money.decimal_text(minor, currency))


# --- funnels --------------------------------------------------------------------------------------------------------


def funnels(search: Search, request: FunnelsRequest) -> Json:
    """How many users reached each step."""
    window_ms = request.window_hours * _HOUR_MS
    reached: Counter[int] = Counter()
    for bucket in search.buckets(queries.funnel(search.first_day, search.last_day, request.steps)):
        events = sorted(chain.from_iterable(queries.parts_of(bucket["of"])))
        reached[_reached(events, len(request.steps), window_ms)] += 1
    users = [sum(reached[more] for more in range(step, len(request.steps) + 1)) for step in _steps(request)]
    return {
        "steps": [
            {"event": event, "users": number, "conversion": _share(number, users[0])}
            for event, number in zip(request.steps, users, strict=True)
        ]
    }


def _steps(request: FunnelsRequest) -> range:
    return range(1, len(request.steps) + 1)


def _reached(events: Sequence[int], steps: int, window_ms: int) -> int:
    """How many steps, each later than the one before, lie within the window. `events` in order.

    `began[s]` is when the latest chain of s steps began; one with an earlier beginning gets no further. What happened
    in the same millisecond is taken together, so that nothing there comes after another.
    """
    began: list[int | None] = [None] * (steps + 1)
    reached = 0
    for time_ms, same in groupby(events, key=lambda event: event >> queries.STEP_BITS):
        may = 0
        for event in same:
            may |= event
        for step in range(min(steps, reached + 1), 0, -1):
            if not may >> (step - 1) & 1:
                continue
            before = time_ms if step == 1 else began[step - 1]
            if before is None or time_ms - before > window_ms:
                continue
            known = began[step]
            began[step] = before if known is None else max(known, before)
            reached = max(reached, step)
    return reached


def _share(part: int, whole: int) -> Decimal:
    """Rounded half up to four digits."""
    return Decimal((20_000 * part + whole) // (2 * whole) if whole else 0) / 10_000


# --- breakdowns -----------------------------------------------------------------------------------------------------


def breakdowns(search: Search, request: BreakdownsRequest, shop_currency: str) -> Json:
    """The largest rows, what all rows have together, and how many are not shown."""
    currency = request.currency or shop_currency
    filters = [queries.named(request.event)] if request.event is not None else []
    largest = _Largest(request.limit)
    total: Any
    if request.metric == "users":
        users, total = _users_by(search, request.by, filters)
        largest.of(users.items())
    elif request.metric == "events":
        largest.of(_events_by(search, request.by, filters))
        total = search.count(*filters, queries.has(request.by))
    elif request.by == "currency":
        largest.of((code, amount(minor, code)) for code, minor in _revenue_by(search, request.by, filters))
        total = None
    else:
        largest.of(_revenue_by(search, request.by, filters, currency))
        total = amount(largest.sum, currency)
        largest.rows = [(key, amount(minor, currency)) for key, minor in largest.rows]
    return {
        "rows": [{"key": key, "value": value} for key, value in largest.rows],
        "total": total,
        "otherRows": largest.seen - len(largest.rows),
    }


@dataclass(slots=True)
class _Largest:
    """The largest of rows whose keys come once each, of which no others are held: how many there were, and their
    sum."""

    limit: int
    rows: list[tuple[str, Any]] = field(default_factory=list)
    seen: int = 0
    sum: Any = 0

    def of(self, rows: Iterable[tuple[str, Any]]) -> None:
        self.rows = heapq.nsmallest(self.limit, self._counted(rows), key=lambda row: (-row[1], row[0]))

    def _counted(self, rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for row in rows:
            self.seen += 1
            self.sum += row[1]
            yield row


def _events_by(search: Search, by: str, filters: Sequence[Json]) -> Iterator[tuple[str, int]]:
    for bucket in search.buckets(Walk(search.query(*filters), by)):
        yield bucket["key"]["key"], bucket["doc_count"]


def _users_by(search: Search, by: str, filters: Sequence[Json]) -> tuple[Counter[str], int]:
    query = search.query(*filters, queries.has(by))
    rows: Counter[str] = Counter()
    users = 0
    for bucket in search.buckets(Walk(query, USER, {"of": queries.distinct(by)}, has_lists=True)):
        rows.update(queries.distinct_of(bucket["of"]))
        users += 1
    return rows, users


def _revenue_by(
    search: Search, by: str, filters: Sequence[Json], currency: str | None = None
) -> Iterator[tuple[str, int]]:
    """Minor units of each key: by productId and category what the orders' lines say, else what the orders do."""
    query = search.query(*filters, *queries.has_amount("revenue", currency))
    if by not in _IN_LINES:
        for bucket in search.buckets(Walk(query, by, {"of": queries.money_sum("revenue")})):
            yield bucket["key"]["key"], queries.amount_of(bucket["of"])
        return
    # Several lines have one key.
    rows: Counter[str] = Counter()
    for bucket in search.buckets(Walk(query, "lines")):
        sold = line(bucket["key"]["key"])
        key = sold.product_id if by == "productId" else sold.category
        if key is not None:
            rows[key] += sold.minor * bucket["doc_count"]
    yield from rows.items()


# --- time series ----------------------------------------------------------------------------------------------------


def timeseries(search: Search, request: TimeseriesRequest, shop_currency: str, timezone: tzinfo) -> Json:
    """A row for each hour, day, week or month of the range."""
    currency = request.currency or shop_currency
    filters = [queries.named(request.event)] if request.event is not None else []
    if request.metric == "revenue":
        filters += queries.has_amount("revenue", currency)
    values: Counter[Any] = Counter()
    rows: dict[Any, str]
    if request.interval == "hour":
        found = hours(search.first_day, search.last_day, timezone)
        rows = dict(enumerate(found.texts))
        for number, value in _by_slot(search, request.metric, filters, found):
            values[number] += value
    else:
        rows = {
            start: start.isoformat() for start in units(search.first_day, search.last_day, request.interval)
        }
        for day, value in _by_day(search, request, filters):
            values[day] += value
    is_money = request.metric == "revenue"
    return {
        "rows": [
            {"start": text, "value": amount(values[row], currency) if is_money else values[row]}
            for row, text in rows.items()
        ]
    }


def _by_day(search: Search, request: TimeseriesRequest, filters: list[Json]) -> Iterator[tuple[date, int]]:
    """What adds to the day, week or month that begins then."""

    def unit(day: str) -> date:
        return unit_of(date.fromisoformat(day), request.interval)

    query = search.query(*filters)
    if request.metric == "users":
        yield from _once_a_row(
            search, Walk(query, USER, {"of": queries.distinct("day")}, has_lists=True), unit
        )
        return
    for bucket in search.buckets(Walk(query, "day", _of(request.metric))):
        yield unit(bucket["key"]["key"]), _value(request.metric, bucket)


def _by_slot(search: Search, metric: str, filters: list[Json], found: Hours) -> Iterator[tuple[int, int]]:
    """What adds to the hour of this number."""
    if metric == "users":
        slots = queries.distinct_slots(found.slot_ms)
        walk = Walk(search.query(*filters), USER, {"of": slots}, has_lists=True)
        yield from _once_a_row(search, walk, found.of)
        return
    for bucket in search.slots(filters, found.slot_ms, _of(metric).get("of")):
        yield found.of(int(bucket["key"])), _value(metric, bucket)


def _once_a_row(search: Search, walk: Walk, row_of: Callable[[Any], _Row]) -> Iterator[tuple[_Row, int]]:
    """Each user, in each row that has something of theirs."""
    for bucket in search.buckets(walk):
        yield from ((row, 1) for row in {row_of(part) for part in queries.distinct_of(bucket["of"])})


def _of(metric: str) -> Json:
    return {"of": queries.money_sum("revenue")} if metric == "revenue" else {}


def _value(metric: str, bucket: Json) -> int:
    return queries.amount_of(bucket["of"]) if metric == "revenue" else int(bucket["doc_count"])


# --- retention ------------------------------------------------------------------------------------------------------


def retention(search: Search, request: RetentionRequest) -> Json:
    """For each unit who began in it, and how many of them came back in it and in each one after it."""
    starts = units(search.first_day, search.last_day, request.unit)
    number_of = {start: number for number, start in enumerate(starts)}

    def unit(day: str) -> int:
        return number_of[unit_of(date.fromisoformat(day), request.unit)]

    users = [0] * len(starts)
    returned = [[0] * (len(starts) - number) for number in range(len(starts))]
    walk = queries.retention(search.first_day, search.last_day, request.start_event, request.return_event)
    for bucket in search.buckets(walk):
        day, days = _first_and_returns(queries.parts_of(bucket["of"]))
        if day is None:
            continue
        cohort = unit(day)
        users[cohort] += 1
        for number in {unit(later) - cohort for later in days}:
            returned[cohort][number] += 1
    return {
        "cohorts": [
            {"start": start.isoformat(), "users": users[number], "returned": returned[number]}
            for number, start in enumerate(starts)
        ]
    }


def _first_and_returns(parts: Sequence[Any]) -> tuple[str | None, set[str]]:
    """The day of a user's first start, None for none, and the days with a return after it."""
    first_ms, day = min(((time_ms, day) for time_ms, day, _ in parts), default=(0, ""))
    if not day:
        return None, set()
    return day, {later for _, _, last_of in parts for later, last_ms in last_of.items() if last_ms > first_ms}
