"""What the search engine is asked: a request becomes filters, composite aggregations, and scripts that are ours alone.

Pure: no I/O, no clock. Every answer is exact. A composite aggregation counts each bucket on every shard and adds up,
page by page; `cardinality` and `terms` over several shards do neither, and are not used. Texts and numbers of a request
come into a body as values: of a term, of a range, or of a script's params.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from .index_template import Names

Json = dict[str, Any]

# Buckets of a page: a reply of some megabyte, and on every shard as many in memory.
PAGE_BUCKETS = 10_000
_CELLS_PER_PAGE = 60_000
# Of a page whose buckets bring lists: how long those are is not known before.
_LISTS_AT_FIRST = 500
USER = "user"
# Longs end at 9.2 * 10^18, and one amount may have 10^16 minor units: it is added up in two parts.
MONEY_PART = 10**9

# An order's name that does not count as one, where only those of the shop's own server do, is another event.
_COUNTER_OF_ORDER = {
    "Order Completed": "orders",
    "Order Refunded": "refundedOrders",
    "Order Cancelled": "cancelledOrders",
}
_FIELD_OF_MONEY = {"revenue": "revenueMinor", "refunds": "refundMinor"}


@dataclass(frozen=True, slots=True)
class Walk:
    """A composite aggregation, which is read page by page."""

    query: Json
    # The keyword by whose values the buckets are made, and in whose order they come.
    source: str
    aggregations: Json = field(default_factory=dict)
    # Whether each bucket brings lists, as long as what somebody has done.
    has_lists: bool = False

    @property
    def first_buckets(self) -> int:
        """How many buckets the first page should have."""
        return min(_LISTS_AT_FIRST, self.page_buckets) if self.has_lists else self.page_buckets

    @property
    def page_buckets(self) -> int:
        """How many buckets a page may have: fewer, where each holds many numbers."""
        return min(PAGE_BUCKETS, _CELLS_PER_PAGE // max(1, len(self.aggregations)))

    def body(self, after: str | None, size: int) -> Json:
        """The body of a search for the page after this key."""
        composite: Json = {"size": size, "sources": [{"key": {"terms": {"field": self.source}}}]}
        if after is not None:
            composite["after"] = {"key": after}
        pages: Json = {"composite": composite}
        if self.aggregations:
            pages["aggs"] = self.aggregations
        return {"size": 0, "track_total_hits": False, "query": self.query, "aggs": {"pages": pages}}


def target(prefix: str, first_day: date, last_day: date) -> str:
    """The path of a search: the aliases of the range's months, of which some may not be there."""
    names = Names(prefix)
    months: list[str] = []
    for number in range(first_day.year * 12 + first_day.month - 1, last_day.year * 12 + last_day.month):
        months.append(names.month(f"{number // 12:04d}-{number % 12 + 1:02d}"))
    return "/" + ",".join(months) + "/_search"


# --- filters --------------------------------------------------------------------------------------------------------


def query(first_day: date, last_day: date, *filters: Json) -> Json:
    """Events of these days, both inclusive, that pass every filter."""
    days = {"range": {"day": {"gte": first_day.isoformat(), "lte": last_day.isoformat()}}}
    return {"bool": {"filter": [days, *filters]}}


def named(event: str) -> Json:
    """Events of this name."""
    term = {"term": {"event": event}}
    counter = _COUNTER_OF_ORDER.get(event)
    return term if counter is None else {"bool": {"filter": [term, {"term": {"metrics": counter}}]}}


def either(filters: Sequence[Json]) -> Json:
    """What passes at least one filter."""
    return {"bool": {"should": list(filters), "minimum_should_match": 1}}


def has(field_name: str) -> Json:
    """What has this field."""
    return {"exists": {"field": field_name}}


def has_amount(metric: str, currency: str | None) -> list[Json]:
    """What has revenue or refunds, in this currency where one is given."""
    filters = [has(_FIELD_OF_MONEY[metric])]
    if currency is not None:
        filters.append({"term": {"currency": currency}})
    return filters


# --- numbers of a bucket --------------------------------------------------------------------------------------------

# Scripts are typed where they can be, as `def` costs more; not the time, which has another class in OpenSearch 2. What
# a reduce script would do is left to Python: each bucket of each shard carries that script and its params over the
# wire, and a kilobyte of them made ten thousand buckets six times as slow.
_STATES = "return states"
_SUM_MAP = f"""
    long amount = (long) doc[(String) params.field].value;
    state.high = (long) state.high + amount / {MONEY_PART}L;
    state.low = (long) state.low + amount % {MONEY_PART}L;
"""
_VALUES_MAP = """
    for (String value : (List) doc[(String) params.field]) { ((HashSet) state.values).add(value); }
"""
_SLOTS_MAP = """
    long time = doc['time'].value.toInstant().toEpochMilli();
    ((HashSet) state.values).add(time - time % ((Number) params.slot).longValue());
"""


def _scripted(init: str, map_: str, combine: str, params: Json) -> Json:
    """A metric whose value is the list of what each shard combines; null where it has nothing."""
    return {
        "scripted_metric": {
            "init_script": init,
            "map_script": {"source": map_, "params": params},
            "combine_script": combine,
            "reduce_script": _STATES,
        }
    }


def parts_of(aggregation: Mapping[str, Any]) -> list[Any]:
    """What the shards have said."""
    return [part for part in aggregation.get("value") or () if part is not None]


def money_sum(metric: str) -> Json:
    """Adds up the revenue or the refunds, in minor units; read by `amount_of`. Of documents that have such alone."""
    params = {"field": _FIELD_OF_MONEY[metric]}
    return _scripted("state.high = 0L; state.low = 0L;", _SUM_MAP, "return [state.high, state.low];", params)


def amount_of(aggregation: Mapping[str, Any]) -> int:
    """What `money_sum` found."""
    return sum(high * MONEY_PART + low for high, low in parts_of(aggregation))


def distinct(field_name: str) -> Json:
    """The different values of a keyword. Read by `distinct_of`."""
    return _distinct(_VALUES_MAP, {"field": field_name})


def distinct_slots(slot_ms: int) -> Json:
    """The different slots of time, by the epoch milliseconds of their starts. Read by `distinct_of`."""
    return _distinct(_SLOTS_MAP, {"slot": slot_ms})


def _distinct(map_: str, params: Json) -> Json:
    combine = "return new ArrayList((HashSet) state.values);"
    return _scripted("state.values = new HashSet();", map_, combine, params)


def distinct_of(aggregation: Mapping[str, Any]) -> set[Any]:
    """What `distinct` found."""
    return set().union(*parts_of(aggregation))


def _among(filters: Sequence[Json], aggregation: Json | None = None) -> Json:
    found: Json = {"filter": {"bool": {"filter": list(filters)}}}
    return found if aggregation is None else found | {"aggs": {"of": aggregation}}


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of each user: what it is counted from, how it is asked for, and how it is read."""

    relevant: Json
    aggregation: Json
    kind: str

    def value(self, found: Mapping[str, Any]) -> int:
        """What the engine says for a bucket."""
        if self.kind == "documents":
            return int(found["doc_count"])
        if found["doc_count"] == 0:
            return 0
        if self.kind == "amount":
            return amount_of(found["of"])
        if self.kind == "distinct":
            return len(distinct_of(found["of"]))
        # Sums are doubles, and these stay below 2^53: 2,500 products of 10^6 in an event, a million such events.
        return int(found["of"]["value"] or 0)


def of_event(event: str) -> Measure:
    """How many events of this name."""
    return Measure(named(event), _among([named(event)]), "documents")


def of_metric(metric: str, currency: str) -> Measure:
    """A metric as a range query has it; money in minor units of this currency."""
    if metric in _FIELD_OF_MONEY:
        filters = has_amount(metric, currency)
        return Measure({"bool": {"filter": filters}}, _among(filters, money_sum(metric)), "amount")
    if metric == "sessions":
        return Measure(has("session"), _among([has("session")], distinct("session")), "distinct")
    if metric in ("itemsSold", "engagedSeconds"):
        return Measure(has(metric), _among([has(metric)], {"sum": {"field": metric}}), "number")
    counted = {"term": {"metrics": metric}}
    return Measure(counted, _among([counted]), "documents")


# --- funnels --------------------------------------------------------------------------------------------------------

# An event is its time in milliseconds, and in the ten bits below it the steps it may be.
STEP_BITS = 10
_FUNNEL_MAP = f"""
    long time = doc['time'].value.toInstant().toEpochMilli();
    long steps = ((Number) ((Map) params.steps).get((String) doc['event'].value)).longValue();
    ((List) state.events).add((time << {STEP_BITS}) | steps);
"""


def funnel(first_day: date, last_day: date, steps: Sequence[str]) -> Walk:
    """For each user the events that may be steps, in `of`: lists of times with their steps, in no order."""
    may: dict[str, int] = {}
    for number, step in enumerate(steps):
        may[step] = may.get(step, 0) | 1 << number
    scripted = _scripted(
        "state.events = new ArrayList();", _FUNNEL_MAP, "return state.events;", {"steps": may}
    )
    events = query(first_day, last_day, either([named(step) for step in may]))
    return Walk(events, USER, {"of": scripted}, has_lists=True)


# --- retention ------------------------------------------------------------------------------------------------------

# Days are texts: what day an event counted on is known, and need not be told from its time. Of each day with events to
# return by, the last one's time.
_RETENTION_INIT = "state.first = Long.MAX_VALUE; state.day = ''; state.returned = new HashMap();"
_RETENTION_MAP = """
    long time = doc['time'].value.toInstant().toEpochMilli();
    String day = (String) doc['day'].value;
    String event = (String) doc['event'].value;
    if (event.equals((String) params.start) && time < (long) state.first) {
      state.first = time;
      state.day = day;
    }
    if (event.equals((String) params.back)) {
      Map returned = (Map) state.returned;
      if (!returned.containsKey(day) || (long) returned.get(day) < time) { returned.put(day, time); }
    }
"""


def retention(first_day: date, last_day: date, start_event: str, return_event: str) -> Walk:
    """For each user, in `of`, parts of `[time of the first start, its day or "", {day: the last return's time}]`."""
    params = {"start": start_event, "back": return_event}
    combine = "return [state.first, state.day, state.returned];"
    return Walk(
        query(first_day, last_day, either([named(start_event), named(return_event)])),
        USER,
        {"of": _scripted(_RETENTION_INIT, _RETENTION_MAP, combine, params)},
        has_lists=True,
    )


# --- single searches ------------------------------------------------------------------------------------------------


def slots(query_of_events: Json, slot_ms: int, aggregation: Json | None) -> Json:
    """The body of a search for events by slots of time, in `slots`. A composite of time alone fails in OpenSearch 3.8
    with an index out of bounds; a histogram adds up over shards as exactly."""
    histogram: Json = {
        "date_histogram": {"field": "time", "fixed_interval": f"{slot_ms}ms", "min_doc_count": 1}
    }
    if aggregation is not None:
        histogram["aggs"] = {"of": aggregation}
    return {"size": 0, "track_total_hits": False, "query": query_of_events, "aggs": {"slots": histogram}}


def count(query_of_events: Json) -> Json:
    """The body of a search for how many events there are, in `hits`."""
    return {"size": 0, "track_total_hits": True, "query": query_of_events}
