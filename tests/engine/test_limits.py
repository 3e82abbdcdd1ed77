"""What only an engine with DynamoDB's limits can tell: expressions, sets and items at their largest; and the price."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from math import ceil
from typing import Any

import httpx
import pytest

import service.days
from service.dynamodb import Table
from tests import faults
from tests.engine.conftest import NOON
from tests.engine.facts import Fact, report
from tests.engine.shop import Json, Shop, opened

TODAY = NOON.date().isoformat()
NOW = NOON.isoformat()
IDS_PER_WRITE = 90
NAMES_MAX = 100
# Of two, none, three and four decimals.
CURRENCIES = ("EUR", "USD", "JPY", "KRW", "BHD", "KWD", "CLF", "GBP")
OTHER_CURRENCIES = ("CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY")
EVERY_METRIC: tuple[tuple[str, Json], ...] = (
    ("page", {}),
    ("Products Searched", {}),
    ("Product List Viewed", {}),
    ("Product Viewed", {}),
    ("Promotion Clicked", {}),
    ("Product Added", {}),
    ("Product Removed", {}),
    ("Cart Viewed", {}),
    ("Product Added to Wishlist", {}),
    ("Checkout Started", {}),
    ("Order Cancelled", {}),
    ("Page Left", {"engagedSeconds": 7}),
)


def _event(number: int, name: str, **properties: Any) -> Json:
    return {
        "type": "page" if name == "page" else "track",
        "event": name,
        "messageId": f"m-{number}",
        "timestamp": NOW,
        "properties": properties,
        "context": {"sessionId": f"s-{number}"},
    }


def _names(count: int, first: int = 0) -> Iterator[str]:
    """As long as a name may be, with all that has a meaning in an expression, and characters of four bytes."""
    for number in range(first, first + count):
        yield f"[{number}].#:%25 ".ljust(128, "\N{SHOPPING TROLLEY}")


def _money(number: int, currencies: tuple[str, ...] = CURRENCIES) -> list[Json]:
    return [
        _event(number + place, name, revenue=10**12, currency=currency, products=[{"quantity": 10**6}])
        for place, (name, currency) in enumerate(
            (name, currency) for name in ("Order Completed", "Order Refunded") for currency in currencies
        )
    ]


def _ninety_names() -> list[Json]:
    return [_event(number, name) for number, name in enumerate(_names(IDS_PER_WRITE))]


def _ninety_of_everything() -> list[Json]:
    events = [_event(number, name, **properties) for number, (name, properties) in enumerate(EVERY_METRIC)]
    events += _money(len(events))
    rest = IDS_PER_WRITE - len(events)
    return events + [_event(len(events) + number, name) for number, name in enumerate(_names(rest))]


@pytest.fixture
def shop(small_window_shop: Shop) -> Shop:
    return small_window_shop


@contextmanager
def _capped(table: Table, events_max: int) -> Iterator[Shop]:
    with opened(table, NOON, MAX_EVENT_AGE_DAYS="1", MAX_EVENTS_PER_USER_DAY=str(events_max)) as shop:
        shop.warm_up()
        yield shop


def _send(shop: Shop, identity: Json, events: list[Json]) -> Json:
    return shop.send(*(event | identity for event in events))


def _item_bytes(item: Json) -> int:
    """By AWS's rules, for the types a day item holds."""

    def size(value: dict[str, Any]) -> int:
        if "N" in value:
            return ceil(len(str(value["N"]).strip("0")) / 2) + 1
        if "BOOL" in value:
            return 1
        members = [*value.get("BS", []), *(text.encode() for text in value.get("SS", []))]
        return sum(map(len, members)) + len(value.get("S", "").encode())

    return sum(len(name.encode()) + size(value) for name, value in item.items())


# --- expressions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [_ninety_names, _ninety_of_everything])
@pytest.mark.parametrize("is_new", [True, False], ids=["a new day", "a day with events"])
def test_ninety_events_fit_in_one_update_whatever_they_are(
    shop: Shop, prefix: str, make: Callable[[], list[Json]], is_new: bool
) -> None:
    events = make()
    if not is_new:
        _send(shop, {"userId": prefix}, [_event(1_000, "Newsletter Signed Up")])
    with faults.injected() as log:
        reply = _send(shop, {"userId": prefix}, events)
    totals = shop.metrics(prefix, TODAY, TODAY)["totals"]

    assert log.operations == ["UpdateItem"]
    assert (reply["accepted"], reply["rejectedCount"]) == (IDS_PER_WRITE, 0)
    assert IDS_PER_WRITE + (not is_new) == totals["events"]
    assert totals["events"] == totals["sessions"]
    if make is _ninety_of_everything:
        every_currency = dict.fromkeys(CURRENCIES, Decimal(10**12))
        assert (every_currency, every_currency) == (totals["revenue"], totals["refunds"])
        assert len(CURRENCIES) * 10**6 == totals["itemsSold"]
        assert not [name for name, number in totals.items() if number == 0]


def test_ninety_duplicates_of_everything_are_found_in_one_update_and_no_more(shop: Shop, prefix: str) -> None:
    events = _ninety_of_everything()
    _send(shop, {"userId": prefix}, events)
    with faults.injected() as log:
        reply = _send(shop, {"userId": prefix}, events)

    assert log.operations == ["UpdateItem"]
    assert (reply["accepted"], reply["duplicates"]) == (0, IDS_PER_WRITE)


def test_the_engine_refuses_an_update_as_large_as_dynamodb_would_refuse(
    shop: Shop, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without this the two tests above would prove nothing.
    monkeypatch.setattr(service.days, "IDS_PER_WRITE_MAX", 110)
    events = [_event(number, "Product Viewed") | {"userId": prefix} for number in range(110)]

    assert shop.request("POST", "/v1/batch", {"batch": events}).status_code == 500
    assert shop.item(f"USER#{prefix}", f"DAY#{TODAY}") is None


def test_the_largest_days_merge(shop: Shop, prefix: str) -> None:
    user, visitor = {"userId": prefix}, {"anonymousId": prefix}
    mine = [_event(number, name) for number, name in enumerate(_names(NAMES_MAX))]
    theirs = [_event(2_000 + number, name) for number, name in enumerate(_names(NAMES_MAX, NAMES_MAX))]
    _send(shop, user, mine + _money(1_000))
    _send(shop, visitor, theirs + _money(3_000, OTHER_CURRENCIES))
    reply = shop.post(f"/v1/users/{prefix}/merge", {"anonymousId": prefix})
    totals = shop.metrics(prefix, TODAY, TODAY)["totals"]
    other = _send(shop, user, [_event(4_000, "Order Completed", revenue=1, currency="AUD")])
    known = _send(shop, user, [_event(4_001, "Order Completed", revenue=1, currency="TRY")])

    assert (reply["status"], reply["days"]) == ("merged", 1)
    # The user's own names stay, the visitor's are counted together.
    assert dict.fromkeys(_names(NAMES_MAX), 1) | {"other": NAMES_MAX} == totals["byEvent"]
    every_currency = dict.fromkeys(CURRENCIES + OTHER_CURRENCIES, Decimal(10**12))
    assert (every_currency, every_currency) == (totals["revenue"], totals["refunds"])
    assert 2 * (NAMES_MAX + 16) == totals["events"] == totals["sessions"]
    # Money that was counted is never lost; new currencies find no room.
    assert [rejected["code"] for rejected in other["rejected"]] == ["day_full"]
    assert known["accepted"] == 1


@pytest.mark.parametrize("way", ["sent", "merged"])
def test_names_find_the_room_that_is_left(shop: Shop, prefix: str, way: str) -> None:
    mine = [_event(number, f"mine {number}") for number in range(60)]
    theirs = [_event(100 + number, f"theirs {number}") for number in range(60)]
    common = [_event(200, "mine 7"), _event(201, "mine 8")]
    _send(shop, {"userId": prefix}, mine)
    if way == "sent":
        _send(shop, {"userId": prefix}, theirs + common)
    else:
        _send(shop, {"anonymousId": prefix}, theirs + common)
        shop.post(f"/v1/users/{prefix}/merge", {"anonymousId": prefix})
    by_event = shop.metrics(prefix, TODAY, TODAY)["totals"]["byEvent"]

    assert (by_event["mine 7"], by_event["mine 8"], by_event["other"]) == (2, 2, 20)
    assert len(by_event) == NAMES_MAX + 1
    assert sum(by_event.values()) == 122


# --- how much a day holds ---------------------------------------------------------------------------------------------


def _facts(prefix: str, count: int) -> list[Fact]:
    return [
        Fact(f"{prefix}-{number}", NOW, "Order Completed", f"{prefix}-{number}", Decimal("0.01"), quantity=1)
        for number in range(count)
    ]


def test_a_full_day_refuses_what_is_new_and_knows_what_is_not(table: Table, prefix: str) -> None:
    facts = _facts(prefix, 12)
    with _capped(table, 10) as shop:
        first = shop.send(*(fact.event(user_id=prefix) for fact in facts[:8]))
        # Eight of these are no news, two fit, two do not.
        second = shop.send(*(fact.event(user_id=prefix) for fact in facts))
        third = shop.send(*(fact.event(user_id=prefix) for fact in reversed(facts)))
        metrics = shop.metrics(prefix, TODAY, TODAY)

    assert (first["accepted"], second["accepted"], second["duplicates"]) == (8, 2, 8)
    assert [(r["index"], r["code"]) for r in second["rejected"]] == [(10, "day_full"), (11, "day_full")]
    assert (third["accepted"], third["duplicates"], third["rejectedCount"]) == (0, 10, 2)
    assert report(facts[:10]) == metrics


def test_merges_beyond_five_times_the_cap_keep_the_numbers_and_close_the_day(
    table: Table, prefix: str
) -> None:
    cap, people = 10, 7
    facts = {f"{prefix}-{number}": _facts(f"{prefix}-{number}", cap) for number in range(people)}
    everything = [fact for group in facts.values() for fact in group]
    with _capped(table, cap) as shop:
        for visitor, group in facts.items():
            shop.send(*(fact.event(anonymous_id=visitor) for fact in group))
        is_full = []
        for visitor in facts:
            reply = shop.post(f"/v1/users/{prefix}/merge", {"anonymousId": visitor})
            assert (reply["status"], reply["days"]) == ("merged", 1)
            is_full.append("full" in (shop.item(f"USER#{prefix}", f"DAY#{TODAY}") or {}))
        metrics = shop.metrics(prefix, TODAY, TODAY)
        late = [Fact(f"{prefix}-late-{number}", NOW, "Product Viewed") for number in range(3)]
        answers = [
            shop.send(late[0].event(user_id=prefix)),
            shop.send(late[1].event(anonymous_id=f"{prefix}-0")),
            shop.send(late[2].event(anonymous_id=f"{prefix}-6", user_id=prefix)),
        ]
        again = [
            shop.send(*(fact.event(anonymous_id=visitor) for fact in group))
            for visitor, group in facts.items()
        ]

        assert is_full == [False] * 5 + [True] * 2
        assert report(everything) == metrics
        assert [[r["code"] for r in answer["rejected"]] for answer in answers] == [["day_full"]] * 3
        # Those whose ids are no longer kept cannot be told from new ones; none of them counts.
        assert [0] * people == [answer["accepted"] for answer in again]
        assert metrics == shop.metrics(prefix, TODAY, TODAY)


def test_a_day_of_two_thousand_events_is_far_from_the_limit_of_an_item(shop: Shop, prefix: str) -> None:
    facts = _facts(prefix, 2_000)
    events = [
        {name: value for name, value in fact.event(user_id=prefix).items() if name != "properties"}
        for fact in facts
    ]
    for start in (0, 1_000):
        assert shop.send(*events[start : start + 1_000])["accepted"] == 1_000
    more = shop.send(_event(1, "Product Viewed") | {"userId": prefix})
    item = shop.item(f"USER#{prefix}", f"DAY#{TODAY}")

    assert item is not None
    assert 2_000 == len(item["seen"]["BS"]) == len(item["sessions"]["BS"])
    assert _item_bytes(item) < 25 * 1024
    assert [rejected["code"] for rejected in more["rejected"]] == ["day_full"]


def _hashes(count: int, first: int = 0) -> Json:
    return {"BS": [number.to_bytes(6, "big") for number in range(first, first + count)]}


def _stored_day(
    shop: Shop, distinct_id: str, *, events: int, seen: Json, sessions: Json, **more: Json
) -> None:
    """A day as many requests would leave it."""
    shop.table.client.put_item(
        TableName=shop.table.name,
        Item={
            "PK": {"S": f"USER#{distinct_id}"},
            "SK": {"S": f"DAY#{TODAY}"},
            "events": {"N": str(events)},
            "productViews": {"N": str(events)},
            "seen": seen,
            "sessions": sessions,
            "revision": {"N": "1"},
            **more,
        },
    )


@pytest.mark.parametrize(
    ("cap", "events", "seen", "more"),
    [
        # A full day, and a visitor with another.
        (10_000, 10_000, 10_000, {}),
        # Twenty-nine on a day that is closed since the sixth, and a thirtieth.
        (2_000, 58_000, 10_000, {"full": {"BOOL": True}}),
    ],
    ids=["at the greatest cap", "at the default cap, the day closed"],
)
def test_a_merge_fits_in_an_item_also_when_every_event_has_a_session_of_its_own(
    table: Table, prefix: str, cap: int, events: int, seen: int, more: Json
) -> None:
    with _capped(table, cap) as shop:
        _stored_day(shop, prefix, events=events, seen=_hashes(seen), sessions=_hashes(events), **more)
        _stored_day(
            shop, f"anon_{prefix}", events=cap, seen=_hashes(cap, 100_000), sessions=_hashes(cap, 100_000)
        )
        answer = shop.request("POST", f"/v1/users/{prefix}/merge", {"anonymousId": prefix})

        assert answer.status_code == 200, answer.text
        assert events + cap == shop.metrics(prefix, TODAY, TODAY)["totals"]["events"]


# --- what it costs ----------------------------------------------------------------------------------------------------


class Meter:
    """What the engine says each call consumed, as it says it."""

    def __init__(self) -> None:
        self.reported: list[float] = []

    def read(self, parsed: Json, **_: Any) -> None:
        consumed = parsed["ConsumedCapacity"]
        parts = consumed if isinstance(consumed, list) else [consumed]
        self.reported.append(sum(part["CapacityUnits"] for part in parts))

    def price(self, calls: list[faults.Call]) -> dict[str, float]:
        """The sum. DynamoDB takes two units at least for each write of a transaction, and DynamoDB Local forgets
        all but the first: then the price says that it is reckoned."""
        price = {"wru": 0.0, "rru": 0.0}
        for call, reported in zip(calls, self.reported, strict=True):
            least = 2.0 * len(call.request.get("TransactItems", []))
            price["rru" if call.operation in ("GetItem", "Query") else "wru"] += max(reported, least)
            if reported < least:
                price["estimated"] = 1
        return price


@contextmanager
def _metered(shop: Shop) -> Iterator[Meter]:
    meter = Meter()
    events = shop.table.client.meta.events
    events.register("after-call.dynamodb", meter.read)
    try:
        yield meter
    finally:
        events.unregister("after-call.dynamodb", meter.read)


def _price(answer: httpx.Response) -> dict[str, float]:
    return {
        name: float(units)
        for name, units in (
            part.split("=") for part in answer.headers["Footfall-Capacity"].replace(" ", "").split(",")
        )
    }


def test_the_price_of_a_reply_is_what_the_engine_reported(shop: Shop, prefix: str) -> None:
    visitor, user = {"anonymousId": prefix}, {"userId": prefix}
    many = [_event(number, "Product Viewed") | user for number in range(400)]
    prices = []
    for method, path, body in (
        ("POST", "/v1/batch", {"batch": many}),
        ("POST", "/v1/track", _event(1_000, "Product Viewed") | visitor),
        ("POST", "/v1/identify", visitor | user),
        ("POST", "/v1/track", _event(1_001, "Product Viewed") | visitor),
        ("GET", f"/v1/users/{prefix}/metrics?from={TODAY}&to={TODAY}", None),
        ("GET", f"/v1/users/{prefix}", None),
        ("GET", "/health", None),
    ):
        with _metered(shop) as meter, faults.injected() as log:
            answer = shop.request(method, path, body)
        assert answer.status_code == 200
        if log.calls:
            prices.append(_price(answer))
            assert meter.price(log.calls) == prices[-1]
        else:
            assert "Footfall-Capacity" not in answer.headers

    # The day grows beyond one unit's kilobyte, and beyond the four of a read, which need not be consistent.
    assert prices[0]["wru"] > 5
    assert [prices[1], prices[4]] == [{"wru": 1, "rru": 0.5}, {"wru": 0, "rru": 1}]
    assert ["estimated" in price for price in prices] == [False, False, True, False, False, False]


@pytest.mark.parametrize("count", [1, 90, 200, 500])
def test_a_failed_condition_costs_what_a_write_to_that_item_costs(
    shop: Shop, prefix: str, count: int
) -> None:
    events = [_event(number, "Product Viewed") | {"userId": prefix} for number in range(count)]
    shop.send(*events)
    item = shop.item(f"USER#{prefix}", f"DAY#{TODAY}")
    assert item is not None
    units = ceil(_item_bytes(item) / 1024)
    duplicate = shop.request("POST", "/v1/track", events[0])
    # As the engine itself reckons for a write that leaves the item as large as it is.
    written = shop.table.client.update_item(
        TableName=shop.table.name,
        Key={"PK": item["PK"], "SK": item["SK"]},
        UpdateExpression="SET events = :events",
        ExpressionAttributeValues={":events": item["events"]},
        ReturnConsumedCapacity="TOTAL",
    )

    assert {"wru": units, "rru": 0} == _price(duplicate)
    assert units == written["ConsumedCapacity"]["CapacityUnits"]


def test_a_cancelled_transaction_costs_twice_what_its_writes_would(shop: Shop, prefix: str) -> None:
    events = [_event(number, "Product Viewed") | {"anonymousId": prefix} for number in range(200)]
    shop.send(*events)
    shop.post(f"/v1/users/{prefix}-first/merge", {"anonymousId": prefix})
    item = shop.item(f"USER#{prefix}-first", f"DAY#{TODAY}")
    assert item is not None
    with faults.injected() as log:
        # Counted for the first user, so the second one's transaction finds it there.
        answer = shop.request("POST", "/v1/track", events[0] | {"userId": f"{prefix}-second"})

    assert log.operations == ["GetItem", "TransactWriteItems"]
    assert json.loads(answer.text)["duplicates"] == 1
    assert {"wru": 2 * (ceil(_item_bytes(item) / 1024) + 1), "rru": 0.5} == _price(answer)
