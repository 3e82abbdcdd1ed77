"""Shops and searches that Hypothesis makes up, and an index with a shop's events as the indexer puts them there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel

from service import indices, packing, search_requests, wire
from service.documents import document
from service.events import Event, Rules, epoch_ms
from service.index_template import Names, month_of
from service.opensearch import Engine
from service.packing import RawEvent
from service.search import Search
from service.search_answers import breakdowns, funnels, retention, timeseries
from service.search_requests import (
    BreakdownsRequest,
    FunnelsRequest,
    RetentionRequest,
    SegmentsRequest,
    TimeseriesRequest,
)
from service.search_segments import segments
from tests import brute_force
from tests.brute_force import Happened, Json, Shop

BERLIN = ZoneInfo("Europe/Berlin")
SHOP = Shop(BERLIN, "EUR")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
# Days around which clocks are moved, months end, and weeks begin.
DAYS = (
    "2026-03-28",
    "2026-03-29",
    "2026-03-30",
    "2026-03-31",
    "2026-04-01",
    "2026-10-24",
    "2026-10-25",
    "2026-11-01",
)
MONTHS = sorted({month_of(day) for day in DAYS} | {"2026-02"})
# In the order of UTF-8, which is not that of UTF-16.
USERS = ("U-1", "u-1", "u-2", "u-10", "ü", "\uff01", "\U0001d518", 'a "b" \\')
VISITORS = ("anon_a", "anon_b", "anon_u-1")
NAMES = (
    *("Product Viewed", "view_item", "PRODUCT VIEWED", "Product Added", "add_to_cart"),
    *("Order Completed", "purchase", "Order Refunded", "refund", "Page Left"),
    *("Newsletter Signed Up", "newsletter signed up", "events"),
)
ASKED = (*NAMES, "Page Viewed", "Screen Viewed", "Never Sent")


@dataclass(frozen=True)
class Made:
    """An event as it was sent, whose it is by now, and whether it came from somebody whose orders count."""

    sent: Json
    sent_as: str
    owner: str
    counts_orders: bool


# --- events -----------------------------------------------------------------------------------------------------------

_product = st.fixed_dictionaries(
    {},
    optional={
        "product_id": st.sampled_from(["sku-1", "sku-2", "ä"]),
        "item_category": st.sampled_from(["Shoes", "shoes"]),
        "price": st.sampled_from([9.99, "0.005", 1, 33.335]),
        "quantity": st.integers(0, 3),
    },
)
_properties = st.fixed_dictionaries(
    {},
    optional={
        "revenue": st.sampled_from([59.9, "0.005", 10**12, 0, 12.3455]),
        "total": st.sampled_from([1, 2.5]),
        "currency": st.sampled_from(["EUR", "JPY", "KWD", "USD"]),
        "products": st.lists(_product, max_size=3),
        "productId": st.sampled_from(["sku-1", "sku-3"]),
        "category": st.sampled_from(["Shoes", "Hats"]),
        "path": st.just("/of/properties"),
        "engagedSeconds": st.integers(0, 90),
    },
)
_context = st.fixed_dictionaries(
    {},
    optional={
        "sessionId": st.sampled_from(["s-1", "s-2", "s-3"]),
        "page": st.fixed_dictionaries(
            {},
            optional={
                "path": st.sampled_from(["/", "/checkout?token=1"]),
                "url": st.just("https://shop.example/from/url?x=1"),
                "referrer": st.sampled_from(["https://Search.Example/q", "https://news.example:8080/"]),
            },
        ),
        "campaign": st.fixed_dictionaries(
            {},
            optional={
                "source": st.sampled_from(["mail", "Mail"]),
                "medium": st.just("cpc"),
                "name": st.just("spring"),
            },
        ),
    },
)
# Few, so that many happen at once; to the microsecond, of which the milliseconds count.
_offsets = st.sampled_from(
    [0, 1, 500, 1_000_000, 3_600_000_000, 5_400_000_000, 7_200_000_000, 80_000_000_000]
)


@st.composite
def _event(draw: st.DrawFn, number: int, owners: dict[str, str]) -> Made:
    sent_as = draw(st.sampled_from([*USERS, *VISITORS]))
    kind = draw(st.sampled_from(["track", "track", "track", "page", "screen"]))
    midnight = datetime.fromisoformat(draw(st.sampled_from(DAYS))).replace(tzinfo=BERLIN)
    instant = midnight.astimezone(UTC) + timedelta(microseconds=draw(_offsets))
    identity = {"anonymousId": sent_as} if sent_as.startswith("anon_") else {"userId": sent_as}
    sent: Json = {"type": kind, "messageId": f"m-{number}", **identity, "timestamp": instant.isoformat()}
    if kind == "track":
        sent["event"] = draw(st.sampled_from(NAMES))
    for name, values in (("properties", _properties), ("context", _context)):
        if value := draw(values):
            sent[name] = value
    counts_orders = draw(st.sampled_from([True, True, True, False]))
    return Made(sent, sent_as, owners.get(sent_as, sent_as), counts_orders)


@st.composite
def shops(draw: st.DrawFn) -> list[Made]:
    """Some events, in the order of their arrival, which is not that of their times."""
    owners = {
        visitor: draw(st.sampled_from(USERS))
        for visitor in draw(st.lists(st.sampled_from(VISITORS), unique=True))
    }
    return [draw(_event(number, owners)) for number in range(draw(st.integers(0, 40)))]


# --- searches ---------------------------------------------------------------------------------------------------------

_days = st.sampled_from([*DAYS, "2026-02-27", "2026-04-15", "2026-10-26", "2026-12-31"])
_range = st.tuples(_days, _days).map(lambda pair: {"from": min(pair), "to": max(pair)})
_name = st.sampled_from(ASKED)
_numbers = st.integers(0, 4)
_of_event = st.fixed_dictionaries(
    {"event": _name}, optional={"min": st.integers(0, 2), "max": st.integers(2, 5)}
)
_of_count = st.fixed_dictionaries(
    {
        "metric": st.sampled_from(
            ["events", "sessions", "pageViews", "productViews", "orders", "itemsSold", "engagedSeconds"]
        ),
        "max": st.integers(2, 9),
    },
    optional={"min": st.sampled_from([0, 1, 2, 1.5])},
)
_of_money = st.fixed_dictionaries(
    {"metric": st.sampled_from(["revenue", "refunds"]), "min": st.sampled_from([0, 0.005, 59.9, 60, 10**12])},
    optional={
        "currency": st.sampled_from(["EUR", "JPY", "KWD"]),
        "max": st.sampled_from([10**12, "2000000000059.91", 10**15]),
    },
)
_conditions = st.lists(st.one_of(_of_event, _of_event, _of_count, _of_money), max_size=2)
_segments = st.fixed_dictionaries({"all": _conditions, "any": _conditions, "none": _conditions}).filter(
    lambda lists: any(lists.values())
)
_funnels = st.fixed_dictionaries(
    {"steps": st.lists(_name, min_size=1, max_size=4)},
    optional={"windowHours": st.sampled_from([1, 2, 24, 8760])},
)
_measured = {"metric": st.sampled_from(["events", "users", "revenue"])}
_of_measured: dict[Any, Any] = {"event": _name}
_breakdowns = st.fixed_dictionaries(
    _measured
    | {
        "by": st.sampled_from(
            [
                *("event", "productId", "category", "path", "referrerHost", "currency", "day"),
                *("campaignSource", "campaignMedium", "campaignName"),
            ]
        )
    },
    optional=_of_measured | {"limit": st.integers(1, 4)},
)
_timeseries = st.fixed_dictionaries(
    _measured | {"interval": st.sampled_from(["hour", "day", "week", "month"])}, optional=_of_measured
)
_retention = st.fixed_dictionaries(
    {"startEvent": _name, "returnEvent": _name, "unit": st.sampled_from(["day", "week", "month"])}
)


def _within_bounds(pair: tuple[str, Json]) -> bool:
    kind, request = pair
    if kind != "timeseries" or request["interval"] != "hour":
        return True
    first, last = (datetime.fromisoformat(request[name]) for name in ("from", "to"))
    return (last - first).days < search_requests.HOURLY_DAYS_MAX


@st.composite
def _search(draw: st.DrawFn) -> tuple[str, Json]:
    kind = draw(st.sampled_from(list(_REQUESTS)))
    request = draw(_range) | draw(_REQUESTS[kind])
    if request.get("metric") == "revenue" and request.get("by") != "currency":
        currency = draw(st.sampled_from([None, "JPY", "KWD"]))
        request = request | ({"currency": currency} if currency else {})
    conditions: list[Any] = []
    for name in ("all", "any", "none"):
        conditions += request.get(name, [])
    for condition in conditions:
        if isinstance(condition.get("max"), str):
            condition["max"] = Decimal(condition["max"])
    return kind, request


_REQUESTS: dict[str, st.SearchStrategy[Json]] = {
    "segments": _segments,
    "funnels": _funnels,
    "breakdowns": _breakdowns,
    "timeseries": _timeseries,
    "retention": _retention,
}
searches = _search().filter(_within_bounds)


# --- the index --------------------------------------------------------------------------------------------------------


def read_back(made: Made, received_ms: int) -> RawEvent:
    """As the raw item has it."""
    own = wire.parsed(packing.json_text(made.sent).encode())
    assert isinstance(own, dict)
    rules = Rules(NOW, timedelta(days=1), BERLIN, SHOP.currency, made.counts_orders, None, is_import=True)
    event = rules.read(own, 0, {}, may_be_large=False)
    assert isinstance(event, Event), event
    return RawEvent(own, {}, event, received_ms)


def fill(engine: Engine, events: Iterable[Made]) -> None:
    """Let these be all that the index holds."""
    names = Names(engine.prefix)
    everything: Json = {"query": {"match_all": {}}}
    engine.call("POST", f"/{names.events}/_delete_by_query", everything, params={"refresh": "true"})
    lines: list[str] = []
    for made in events:
        raw = read_back(made, epoch_ms(NOW))
        doc_id, fields = document(raw, made.sent_as, made.owner, raw.event.instant_ms)
        lines.append(json.dumps({"create": {"_index": names.month(month_of(fields["day"])), "_id": doc_id}}))
        lines.append(json.dumps(fields))
    if lines:
        done = engine.bulk(("\n".join(lines) + "\n").encode(), timeout_seconds=30)
        assert not done["errors"], done
    engine.call("POST", f"/{names.events}/_refresh")


def make_months(engine: Engine) -> None:
    for month in MONTHS:
        indices.make_month(engine, month)


# --- answers ----------------------------------------------------------------------------------------------------------

MODELS: dict[str, type[Any]] = {
    "segments": SegmentsRequest,
    "funnels": FunnelsRequest,
    "breakdowns": BreakdownsRequest,
    "timeseries": TimeseriesRequest,
    "retention": RetentionRequest,
}


def answer(engine: Engine, kind: str, request: Json, *, shop: Shop = SHOP, seconds: float = 20) -> Json:
    """What the API replies, amounts as decimals."""
    document = wire.parsed(packing.json_text(request).encode())
    assert isinstance(document, dict)
    asked: BaseModel = search_requests.read(MODELS[kind], document)
    search = Search(engine, time.monotonic() + seconds, asked.first_day, asked.last_day)  # type: ignore[attr-defined]
    found = {
        "segments": lambda: segments(search, asked, shop.currency),  # type: ignore[arg-type]
        "funnels": lambda: funnels(search, asked),  # type: ignore[arg-type]
        "breakdowns": lambda: breakdowns(search, asked, shop.currency),  # type: ignore[arg-type]
        "timeseries": lambda: timeseries(search, asked, shop.currency, shop.zone),  # type: ignore[arg-type]
        "retention": lambda: retention(search, asked),  # type: ignore[arg-type]
    }[kind]()
    body: Json = json.loads(packing.json_text(found), parse_float=Decimal)
    return body


def all_pages(engine: Engine, request: Json, limit: int, *, shop: Shop = SHOP) -> tuple[Json, list[str]]:
    """The first page, and everybody on all pages."""
    first = page = answer(engine, "segments", request | {"limit": limit}, shop=shop)
    users = [user["userId"] for user in page["users"]]
    while page["nextCursor"] is not None:
        page = answer(engine, "segments", request | {"limit": limit, "cursor": page["nextCursor"]}, shop=shop)
        assert (page["count"], page["countAtLeast"]) == (first["count"], first["countAtLeast"])
        assert len(page["users"]) <= limit
        users += [user["userId"] for user in page["users"]]
    return first, users


def check(
    engine: Engine, events: list[Happened], kind: str, request: Json, limit: int, *, shop: Shop = SHOP
) -> None:
    """The engine's answer is that of brute force."""
    if kind != "segments":
        expected_answer = brute_force.ANSWERS[kind](events, request, shop)
        assert answer(engine, kind, request, shop=shop) == expected_answer, request
        return
    expected = brute_force.segments(events, request, shop)
    first, users = all_pages(engine, request, limit, shop=shop)
    assert users == expected, request
    assert first["count"] == first["countAtLeast"] == len(expected), request


def as_happened(made: Made) -> Happened:
    return brute_force.happened(made.sent, made.owner, SHOP, counts_orders=made.counts_orders)
