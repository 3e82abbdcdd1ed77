"""Documents of the search index: what an event becomes, by example, and that whatever is accepted fits the mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from service import documents, index_template, metrics, money, packing
from service.documents import Line, document
from service.events import Event, epoch_ms
from service.index_template import Names, first_kept_month
from service.packing import RawEvent
from tests.builders import at, make_event
from tests.unit.test_packing import (
    CONTEXTS,
    EVENTS,
    NOW,
    NUMBERS,
    TEXTS,
    VALUES,
    ZONES,
    packed,
    read_back,
    rules,
    written,
)

Json = dict[str, Any]
TERM_BYTES_MAX = 32_766
FIELDS: Json = index_template.template(Names("p"))["template"]["mappings"]["properties"]


def raw_events(body: bytes, **overrides: Any) -> list[RawEvent]:
    """What the table keeps of a posted batch, read back."""
    return read_back(packed(body, rules(**overrides))[1])


def one(sent: Json, context: Json | None = None, **overrides: Any) -> RawEvent:
    (raw,) = raw_events(json.dumps({"batch": [sent], "context": context or {}}).encode(), **overrides)
    return raw


def fields(
    properties: Json | None = None, context: Json | None = None, overrides: Json | None = None, **event: Any
) -> Json:
    """The document of one event."""
    sent = make_event(properties=properties or {}, context=context or {}, **event)
    raw = one(sent, **(overrides or {}))
    return document(raw, "anon_a", "u-1", raw.event.instant_ms)[1]


# --- by example -------------------------------------------------------------------------------------------------------


def test_a_whole_document() -> None:
    sent = make_event(
        event="purchase",
        messageId="m-1",
        anonymousId="a",
        userId=...,
        timestamp=at(hours=-1),
        properties={
            "transaction_id": "o-1",
            "value": "59.905",
            "currency": "eur",
            "items": [
                {"item_id": "sku-1", "item_category": "shoes", "price": 10.005, "quantity": 3},
                {"item_id": "sku-1", "item_category": "shoes", "price": "1"},
                {"item_id": 17, "price": 0.5, "quantity": 2},
                {"item_category": "hats", "price": -1},
                {"price": 5},
            ],
        },
        context={
            "sessionId": "s",
            "page": {"path": "/thanks?order=1", "referrer": "https://WWW.Shop.example:8443/cart"},
            "campaign": {"source": "mail", "medium": "news", "name": "autumn"},
        },
    )
    raw = one(sent, {"page": {"path": "/batch"}})
    doc_id, doc = document(raw, "anon_a", "u-1", raw.event.instant_ms - 5)

    assert re.fullmatch("[0-9a-f]{40}", doc_id)
    assert doc.pop("properties")["value"] == "59.905"
    assert doc.pop("session") == raw.event.part.session.hex()  # type: ignore[union-attr]
    assert doc == {
        "user": "u-1",
        "sentAs": "anon_a",
        "messageId": "m-1",
        "day": "2026-11-22",
        "time": raw.event.instant_ms,
        "receivedAt": epoch_ms(NOW),
        "earliest": raw.event.instant_ms - 5,
        "type": "track",
        "event": "Order Completed",
        "metrics": ["events", "orders"],
        "itemsSold": 8,
        "revenueMinor": 5991,
        "currency": "EUR",
        "orderId": "o-1",
        "productId": ["sku-1", "17"],
        "category": ["shoes", "hats"],
        "lines": ['["sku-1","shoes",3102]', '["17",null,100]'],
        "path": "/thanks",
        "referrerHost": "www.shop.example",
        "campaignSource": "mail",
        "campaignMedium": "news",
        "campaignName": "autumn",
    }
    assert list(map(documents.line, doc["lines"])) == [Line("sku-1", "shoes", 3102), Line("17", None, 100)]


@pytest.mark.parametrize(
    ("sent", "name", "counters"),
    [
        ({"type": "page", "event": ...}, "Page Viewed", ["events", "pageViews"]),
        ({"type": "screen", "event": ...}, "Screen Viewed", ["events", "pageViews"]),
        ({"event": "PRODUCT ADDED to wishlist"}, "Product Added to Wishlist", ["events", "wishlistAdds"]),
        ({"event": "Add_To_Cart"}, "Product Added", ["events", "cartAdds"]),
        ({"event": ..., "name": "view_item"}, "Product Viewed", ["events", "productViews"]),
        ({"event": "Page Left"}, "Page Left", ["events"]),
        ({"event": "refund"}, "Order Refunded", ["events", "refundedOrders"]),
        ({"event": "newsletter Signed up"}, "newsletter Signed up", ["events"]),
    ],
)
def test_an_event_is_found_by_the_name_and_the_metrics_it_counts_by(
    sent: Json, name: str, counters: list[str]
) -> None:
    doc = fields(**sent)

    assert (doc["event"], doc["metrics"]) == (name, counters)


def test_an_order_that_does_not_count_is_an_event_by_its_name() -> None:
    sent = {
        "event": "order completed",
        "properties": {"revenue": 5, "orderId": "o", "products": [{"price": 1}]},
    }
    doc = fields(sent["properties"], event=sent["event"], overrides={"counts_orders": False})  # type: ignore[arg-type]

    assert (doc["event"], doc["metrics"]) == ("order completed", ["events"])
    assert not {"revenueMinor", "currency", "orderId", "lines", "itemsSold"} & doc.keys()


def test_known_names_are_spelled_as_segment_does() -> None:
    known = {
        "Products Searched",
        "Product List Viewed",
        "Product Viewed",
        "Promotion Clicked",
        "Product Added",
        "Product Removed",
        "Cart Viewed",
        "Product Added to Wishlist",
        "Checkout Started",
        "Order Completed",
        "Order Refunded",
        "Order Cancelled",
        "Page Left",
    }

    assert {metrics.event_name(name.upper()) for name in known} == known
    assert metrics.event_name("Add_To_wishlist") == "Product Added to Wishlist"
    assert metrics.event_name("page viewed") == "page viewed"


def test_metrics_are_named_as_replies_name_them() -> None:
    assert [metrics.camel(name) for name in metrics.COUNTERS] == list(map(to_camel, metrics.COUNTERS))


def test_an_order_without_an_amount_has_no_lines() -> None:
    """Its products would have sold for more than it."""
    products = [{"productId": "p", "price": 5}]

    assert "lines" not in fields({"products": products}, event="Order Completed")
    assert "lines" not in fields({"revenue": 5, "products": products}, event="Order Refunded")
    doc = fields({"revenue": 0, "products": products}, event="Order Completed")
    assert (doc["revenueMinor"], doc["lines"]) == (0, ['["p",null,500]'])


def test_what_is_not_there_is_left_out() -> None:
    doc = fields(messageId=..., timestamp=...)
    expected = {"user", "sentAs", "day", "time", "receivedAt", "earliest", "type", "event", "metrics"}

    assert doc.keys() == expected


@pytest.mark.parametrize(
    ("properties", "page", "path", "host"),
    [
        ({"path": "/a#b"}, {}, "/a", None),
        ({"path": "/a"}, {"path": "/b"}, "/b", None),
        ({}, {"url": "https://shop.example/p/1?q=secret#x"}, "/p/1", None),
        ({"url": "https://shop.example/p/2", "referrer": "http://A.b/c"}, {}, "/p/2", "a.b"),
        ({"referrer": "https://[::1"}, {"url": "https://[::1"}, None, None),
        ({"path": "", "referrer": ""}, {"path": None, "url": 5}, None, None),
        ({}, {"url": "https://shop.example", "referrer": "android-app://com.shop/x"}, None, "com.shop"),
        ({"path": "?only"}, {}, None, None),
    ],
)
def test_where_a_visit_was_and_came_from(
    properties: Json, page: Json, path: str | None, host: str | None
) -> None:
    doc = fields(properties, {"page": page}, type="page", event=...)

    assert (doc.get("path"), doc.get("referrerHost")) == (path, host)


def test_the_id_is_the_orders_or_the_events_where_it_was_sent() -> None:
    order = {"event": "Order Completed", "properties": {"orderId": "o", "revenue": 1}}
    orders = [one(make_event(**order, messageId=name)) for name in ("a", "b")]
    events = [
        one(make_event(messageId=name, timestamp=moment))
        for name, moment in (("a", at()), ("b", at()), ("a", at(hours=-24)), ("a", at(hours=1)))
    ]

    def ids(raw: list[RawEvent], sent_as: str = "u") -> list[str]:
        return [documents.document_id(event, sent_as) for event in raw]

    assert len(set(ids(orders))) == 1
    assert ids(orders) == ids(orders, "another")
    first, other, another_day, same_day = ids(events)
    assert len({first, other, another_day, *ids(events[:1], "another")}) == 4
    assert first == same_day


def test_months_are_kept_as_long_as_one_of_their_days() -> None:
    assert first_kept_month(date(2026, 3, 1), 1) == "2026-02"
    assert first_kept_month(date(2026, 3, 31), 30) == "2026-03"
    assert first_kept_month(date(2026, 3, 31), 31) == "2026-02"


def test_names_are_told_apart() -> None:
    names = Names("shop")

    assert names.of_index(names.index("2026-11", 12)) == ("2026-11", 12)
    for other in (names.events, names.month("2026-11"), names.failed, names.filling("2026-11", 1)):
        assert names.of_index(other) is None
    assert names.of_index("another-shop-events-2026-11-000001") is None


# --- by property: whatever is accepted --------------------------------------------------------------------------------

LONG_TEXTS = st.builds(lambda text, times: text * times, TEXTS, st.sampled_from([1, 30, 600]))
IDS = st.tuples(LONG_TEXTS) | NUMBERS | st.sampled_from(["null", "true", "[]"])
PRODUCTS = st.fixed_dictionaries(
    {},
    optional={
        "product_id": IDS,
        "productId": IDS,
        "sku": IDS,
        "item_id": IDS,
        "category": IDS,
        "item_category": IDS,
        "price": NUMBERS | st.sampled_from([("1.005",), "0.335", "2.675", "1000000000000", "-1", "null"]),
        "quantity": st.sampled_from(["1", "2", "0", "3.5", "0.333", ("7",), "1000000", "null"]),
    },
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "revenue": NUMBERS | st.sampled_from([("12.30",), "1000000000000"]),
        "currency": st.sampled_from([("USD",), ("JPY",), ("KWD",), ("nix",)]),
        "orderId": st.tuples(TEXTS) | st.just("1001"),
        "engagedSeconds": st.sampled_from(["0", "17.9", "86400"]),
        "products": st.lists(PRODUCTS, max_size=4) | VALUES,
        "items": st.lists(PRODUCTS, max_size=4),
        "product_id": IDS,
        "category": IDS,
        "path": IDS,
        "url": IDS | st.sampled_from([("https://shop.example/a?b#c",), ("https://[::1",), ("//\u2100.com",)]),
        "referrer": IDS
        | st.sampled_from([("https://A.example/x",), ("http://a:b@c:d/",), ("https://\u2100.com/",)]),
        "any": VALUES,
        "a.b": VALUES,
        "a": VALUES,
        "long": st.tuples(LONG_TEXTS),
    },
) | st.dictionaries(TEXTS, VALUES, max_size=4)
RICH_CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "sessionId": IDS,
        "page": st.fixed_dictionaries({}, optional={"path": IDS, "url": IDS, "referrer": IDS}) | VALUES,
        "campaign": st.fixed_dictionaries({}, optional={"source": IDS, "medium": IDS, "name": IDS}) | VALUES,
    },
)
NAMES = st.sampled_from(["Order Completed", "purchase", "Order Refunded", "Page Left", "view_item", "other"])
RICH_EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from([("track",), ("track",), ("page",), ("screen",)]),
        "event": st.tuples(NAMES | TEXTS),
        "userId": st.sampled_from([("u-1",), ("ü",), "17"]),
        "properties": PROPERTIES,
    },
    optional={"messageId": IDS, "context": RICH_CONTEXTS, "timestamp": st.just((NOW.isoformat(),))},
)
RICH_BODIES = st.builds(
    lambda events, context: written({"batch": events, "context": context}).encode(),
    st.lists(RICH_EVENTS | EVENTS, min_size=1, max_size=6),
    CONTEXTS | RICH_CONTEXTS,
)
DEEPEST = packing.NESTING_MAX - 4
NASTY = [
    make_event(properties={"a": json.loads("[" * DEEPEST + "]" * DEEPEST)}),
    make_event(properties=json.loads('{"k":' * DEEPEST + "1" + "}" * DEEPEST)),
    make_event(properties=json.loads('{"%s":' % ("💶" * 300) * 20 + '"%s"' % ("💶" * 1100) + "}" * 20)),
    make_event(properties={"x" * 15_000: {"y" * 15_000: 1}}),
    make_event(properties={"x" * 300: 1, "x" * 301: 2, chr(0xD800): 3, chr(0xD801): 4, "\0": 5}),
    make_event(properties={str(number): number for number in range(2_500)}),
    make_event(properties={"": {"": {".": {"..": [[], [[]], {}, None, [None]]}}}, " ": True, "a=b": "c=d"}),
    make_event(event="Order Completed", properties={"revenue": 1, "products": [{}] * 9_000}),
]


def digits(text: str) -> bytes:
    """An event with a number as it is on the wire."""
    return (
        b'{"batch": [%s]}'
        % json.dumps(make_event(properties={"a": "NUMBER"})).replace('"NUMBER"', text).encode()
    )


WIRE_NUMBERS = [
    "9" * 4_300,
    "9" * 20_000,
    "-" + "1" * 30_000,
    "1e400",
    "1e9999999999999999999",
    "0." + "1" * 20_000,
]
NASTY_BODIES = [json.dumps({"batch": [event]}).encode() for event in NASTY] + [
    digits(text) for text in WIRE_NUMBERS
]


def terms(value: Any, path: str = "properties") -> Iterator[str]:
    """What a flat field makes of a value: each with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from terms(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from terms(inner, path)
    else:
        yield f"{path}={value}"


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def check(doc: Json) -> None:
    """That the strict mapping takes it, and that an update by query leaves it as it is."""
    assert doc.keys() <= FIELDS.keys()
    text = json.dumps(doc, ensure_ascii=False)
    text.encode()  # no lone surrogate
    assert json.loads(text) == doc
    for name, value in doc.items():
        kind = FIELDS[name]["type"]
        if kind == "keyword":
            for member in value if isinstance(value, list) else [value]:
                assert isinstance(member, str)
                assert member
                assert len(member.encode()) <= TERM_BYTES_MAX
        elif kind == "flat_object":
            assert depth(value) <= documents.PROPERTY_DEPTH_MAX
            assert (
                max(len(term.encode()) for term in terms(value)) <= TERM_BYTES_MAX
                if any(terms(value))
                else True
            )
        else:
            assert isinstance(value, int)
            assert -(2**63) <= value < 2**63


def check_numbers(value: Any) -> None:
    """Java has no other than these."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            check_numbers(inner)
    else:
        assert value is None or isinstance(value, str | bool) or -(2**63) <= value < 2**63
        assert not isinstance(value, float)


@given(RICH_BODIES, st.sampled_from(ZONES), st.booleans(), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_whatever_is_accepted_gives_a_document_of_the_mapping(
    body: bytes, timezone: Any, counts_orders: bool, currency: str
) -> None:
    events, packs = packed(body, rules(timezone=timezone, counts_orders=counts_orders, currency=currency))
    found = read_back(packs, timezone)
    for raw in found:
        doc_id, doc = document(raw, "u-1", "u-2", raw.event.instant_ms)
        check(doc)
        check_numbers(doc.get("properties"))
        agrees(raw.event, doc)
        assert documents.document_id(raw, "u-1") == doc_id
    assert len(found) == len(events)


@pytest.mark.parametrize("body", NASTY_BODIES)
def test_the_nastiest_that_is_accepted_gives_one_too(body: bytes) -> None:
    (raw,) = raw_events(body)
    check(document(raw, "u-1", "u-2", 0)[1])
    check_numbers(document(raw, "u-1", "u-2", 0)[1])


def agrees(event: Event, doc: Json) -> None:
    """The document says what the counters do."""
    part = event.part
    assert part is not None
    added = {**dict.fromkeys(doc["metrics"], 1)}
    added |= {name: doc[name] for name in ("itemsSold", "engagedSeconds") if name in doc}
    assert added == {metrics.camel(name): count for name, count in part.counters.items()}
    assert doc.get("revenueMinor") == (part.revenue.minor if part.revenue else None)
    assert doc.get("refundMinor") == (part.refund.minor if part.refund else None)
    amount = part.revenue or part.refund
    assert doc.get("currency") == (amount.currency if amount else None)
    assert doc.get("session") == (part.session.hex() if part.session else None)
    assert (doc["day"], doc["time"], doc.get("orderId")) == (event.day, event.instant_ms, part.order_id)
    if part.name is not None:
        assert doc["event"] == part.name


@given(
    st.decimals(0, money.AMOUNT_MAX, allow_nan=False, places=None) | st.integers(0, 10**12),
    st.decimals(0, 1000, allow_nan=False, places=3),
    st.sampled_from(["EUR", "JPY", "KWD"]),
)
@example(Decimal("0.005"), Decimal(1), "EUR")
@example(Decimal("1." + "0" * 40 + "499" + "9" * 40), Decimal(1), "JPY")
@example(Decimal("0.49999999999999999999999999999999999999"), Decimal("1.000"), "JPY")
def test_a_line_is_rounded_once(price: Decimal | int, quantity: Decimal, currency: str) -> None:
    body = written(
        {
            "type": ("track",),
            "event": ("Order Completed",),
            "userId": ("u",),
            "properties": {
                "revenue": "1",
                "currency": (currency,),
                "products": [{"sku": ("s",), "price": f"{price:f}", "quantity": f"{quantity:f}"}],
            },
        }
    )
    (raw,) = raw_events(f'{{"batch":[{body}]}}'.encode())
    (text,) = document(raw, "u", "u", 0)[1]["lines"]
    scaled = Fraction(price) * Fraction(quantity) * 10 ** money.DECIMALS[currency]

    assert documents.line(text).minor == int(scaled + Fraction(1, 2))


def test_the_engines_numbers_are_the_texts_they_were_sent_as() -> None:
    text = '{"a": 59.90, "b": 17, "c": 9223372036854775807, "d": 9223372036854775808, "e": 1e400, "f": true, "g": -0.0}'
    (raw,) = raw_events(digits(text))
    sent = {"a": "59.90", "b": 17, "c": 2**63 - 1, "d": str(2**63), "e": "1E+400", "f": True, "g": "-0.0"}

    assert document(raw, "u", "u", 0)[1]["properties"] == {"a": sent}
