"""What a reply says it cost is what the engine says, and what DynamoDB would."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import httpx
import pytest

from service.dynamodb import Table
from tests import faults
from tests.engine.conftest import NOON
from tests.engine.largest import event_of, item_bytes
from tests.engine.shop import Json, Shop, opened

TODAY = NOON.date().isoformat()


@pytest.fixture
def shop(small_window_shop: Shop) -> Shop:
    return small_window_shop


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
            price["rru" if call.operation in ("GetItem", "Query", "BatchGetItem") else "wru"] += max(
                reported, least
            )
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
    many = [event_of(number, "Product Viewed") | user for number in range(400)]
    prices = []
    for method, path, body in (
        ("POST", "/v1/batch", {"batch": many}),
        ("POST", "/v1/track", event_of(1_000, "Product Viewed") | visitor),
        ("POST", "/v1/identify", visitor | user),
        ("POST", "/v1/track", event_of(1_001, "Product Viewed") | visitor),
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
    events = [event_of(number, "Product Viewed") | {"userId": prefix} for number in range(count)]
    shop.send(*events)
    item = shop.item(f"USER#{prefix}", f"DAY#{TODAY}")
    assert item is not None
    units = ceil(item_bytes(item) / 1024)
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
    events = [event_of(number, "Product Viewed") | {"anonymousId": prefix} for number in range(200)]
    shop.send(*events)
    shop.post(f"/v1/users/{prefix}-first/merge", {"anonymousId": prefix})
    item = shop.item(f"USER#{prefix}-first", f"DAY#{TODAY}")
    assert item is not None
    with faults.injected() as log:
        # Counted for the first user, so the second one's transaction finds it there.
        answer = shop.request("POST", "/v1/track", events[0] | {"userId": f"{prefix}-second"})

    assert log.operations == ["GetItem", "TransactWriteItems"]
    assert json.loads(answer.text)["duplicates"] == 1
    assert {"wru": 2 * (ceil(item_bytes(item) / 1024) + 1), "rru": 0.5} == _price(answer)


# --- raw events -------------------------------------------------------------------------------------------------------

BROWSER = {
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0.0.0 Safari/537.36",
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "library": {"name": "analytics.js", "version": "npm:next-1.75.0"},
    "page": {
        "path": "/products/espresso-machine",
        "referrer": "https://search.example/",
        "search": "?utm_source=newsletter&utm_medium=email",
        "title": "Espresso machine - the example shop",
        "url": "https://shop.example/products/espresso-machine?utm_source=newsletter&utm_medium=email",
    },
    "campaign": {"source": "newsletter", "medium": "email", "name": "autumn"},
}


def _of_a_browser(number: int) -> Json:
    """As its SDK sends it, with a random id."""
    event = event_of(number, "Product Viewed", productId=f"sku-{number}", price=129.9, category="Kitchen")
    message_id = str(uuid.UUID(int=random.Random(number).getrandbits(128), version=4))
    return event | {"messageId": message_id, "context": {**BROWSER, "sessionId": "s"}}


@pytest.fixture
def keeping_shop(table: Table) -> Iterator[Shop]:
    with opened(table, NOON, MAX_EVENT_AGE_DAYS="1", RAW_EVENTS="1") as shop:
        shop.warm_up()
        yield shop


@pytest.mark.parametrize(
    ("count", "views_wru", "browser_wru"), [(1, 2, 2), (10, 2, 2), (20, 2, 3), (90, 3, 5)]
)
def test_raw_events_cost_one_write_more_of_a_unit_for_each_kilobyte(
    keeping_shop: Shop, prefix: str, count: int, views_wru: int, browser_wru: int
) -> None:
    shop = keeping_shop
    for name, make, wru in (
        ("views", lambda number: event_of(number, "page"), views_wru),
        ("browser", _of_a_browser, browser_wru),
    ):
        events = [make(number) | {"userId": f"{prefix}-{name}"} for number in range(count)]
        with _metered(shop) as meter, faults.injected() as log:
            answer = shop.request("POST", "/v1/batch", {"batch": events})
        with faults.injected() as retry_log:
            retry = shop.request("POST", "/v1/batch", {"batch": events})

        assert log.operations == retry_log.operations == ["UpdateItem", "PutItem"]
        assert meter.price(log.calls) == _price(answer)
        assert {"wru": wru, "rru": 0} == _price(answer)
        # What is there already is not written again, and costs what it would.
        assert {"wru": wru, "rru": 0} == _price(retry)
