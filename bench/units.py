"""Request units of DynamoDB: what the replies' own Footfall-Capacity tells, and what AWS would bill by its rules.

The second is counted here, call by call and item by item, because the engine under test reports other figures than AWS:
DynamoDB Local counts a transaction as one write of two units however many items it has, and a query that finds nothing
as free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bench import shop
from bench.shop import Identity, Reply, Shop
from service.capacity import TRANSACTION_FACTOR, item_bytes, read_units, write_units
from service.models import Item

# Events of one user-day, and what one of them may cost up to there.
TARGETS: dict[int, float | None] = {10: 0.10, 100: 0.10, 300: 0.16, 1000: None}
REQUEST_EVENTS = 10

MakeEvent = Callable[[Identity, datetime, int], dict[str, Any]]


@dataclass(frozen=True)
class Price:
    """What a request consumed: by its reply's header, and by AWS's rules."""

    name: str
    wru: float
    rru: float
    aws_wru: float
    aws_rru: float


class Meter:
    """Counts a client's calls by AWS's rules, beside the service and not through it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.wru = 0.0
        self.rru = 0.0
        self._before: list[Any] = []
        self._least_read = 0.0
        client.meta.events.register("before-parameter-build.dynamodb", self._look)
        client.meta.events.register("after-call.dynamodb", self._count)
        self._is_reading = False

    def _look(self, params: dict[str, Any], **_: Any) -> None:
        if self._is_reading:
            return
        self._least_read = read_units([], is_consistent=params.get("ConsistentRead", False))
        actions = [next(iter(action.values())) for action in params.get("TransactItems", [])]
        self._before = [(action, self._size(action)) for action in actions]

    def _count(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        if self._is_reading:
            return
        if model.name == "TransactWriteItems":
            sizes = [(before, self._size(action)) for action, before in self._before]
            self.wru += sum(TRANSACTION_FACTOR * write_units(*pair) for pair in sizes)
        elif model.name == "BatchWriteItem":
            self.wru += sum(part["CapacityUnits"] for part in parsed["ConsumedCapacity"])
        elif model.name in ("Query", "GetItem"):
            self.rru += max(self._least_read, parsed["ConsumedCapacity"]["CapacityUnits"])
        elif "Error" in parsed:
            # A failed condition is billed by the size of the item it met.
            self.wru += write_units(item_bytes(parsed.get("Item", {})))
        else:
            self.wru += parsed["ConsumedCapacity"]["CapacityUnits"]

    def _size(self, action: dict[str, Any]) -> int:
        key = action.get("Key") or {
            name: action["Item"][name] for name in (Item.pk.attr_name, Item.sk.attr_name)
        }
        self._is_reading = True
        try:
            found = self.client.get_item(TableName=action["TableName"], Key=key, ConsistentRead=True)
        finally:
            self._is_reading = False
        return item_bytes(found.get("Item", {}))


def per_event(footfall: Shop, identity: Identity, make: MakeEvent) -> dict[int, float]:
    """WRU per event up to so many events of one user-day, sent in requests of 10."""
    spent = 0.0
    averages: dict[int, float] = {}
    for start in range(0, max(TARGETS), REQUEST_EVENTS):
        numbers = range(start, start + REQUEST_EVENTS)
        spent += footfall.send([make(identity, footfall.now, number) for number in numbers]).wru
        if (sent := start + REQUEST_EVENTS) in TARGETS:
            averages[sent] = spent / sent
    return averages


def prices(footfall: Shop, reader_id: str) -> list[Price]:
    """What one request of each kind consumes; `reader_id` has a year of days of 10 to 100 events."""
    meter = Meter(footfall.table.client)
    rows: list[Price] = []

    def price(name: str, ask: Callable[[], Reply]) -> None:
        meter.wru = meter.rru = 0
        reply = ask()
        rows.append(Price(name, reply.wru, reply.rru, meter.wru, meter.rru))

    def send(name: str, events: list[dict[str, Any]]) -> None:
        price(name, lambda: footfall.send(events))

    user: Identity = {"userId": shop.new_id("user", "prices")}
    send("10 events with a userId", _visit(footfall, user, 0))
    send("the same 10 again: a retry", _visit(footfall, user, 0))
    send("100 events of one user and day", _visit(footfall, _user("batch"), 0, 100))
    send("100 events of ten users", [e for n in range(10) for e in _visit(footfall, _user("ten", n), 0)])

    both: Identity = {**user, "anonymousId": shop.new_id("browser", "prices")}
    anonymous: Identity = {"anonymousId": both["anonymousId"]}
    send("10 anonymous events", _visit(footfall, anonymous, 0))
    send("first merge, one day moves", [_identify(both, 1)])
    send("10 events with both ids, merged", _visit(footfall, both, 20))
    send("10 late anonymous events, merged", _visit(footfall, anonymous, 10))
    send("a merge that is already finished", [_identify(both, 2)])

    newcomer = {**_user("newcomer"), "anonymousId": shop.new_id("browser", "newcomer")}
    send("first merge, nothing to move", [_identify(newcomer, 3)])
    regular = {"anonymousId": shop.new_id("browser", "regular")}
    footfall.live(regular, 30, lambda _: 10)
    user_id = _user("regular")["userId"]
    price("first merge, 30 days move", lambda: footfall.merge(user_id, regular["anonymousId"]))

    buyer = _user("buyer")
    send("an order", [_order(footfall, buyer, 0)])
    send("the same order in another event", [_order(footfall, buyer, 0, copy=1)])
    send("9 events and an order", [*_visit(footfall, buyer, 0, 9), _order(footfall, buyer, 1)])
    history = [shop.plain_event(_user("history"), footfall.now - timedelta(days=99), n) for n in range(10)]
    price("import of 10 events of a user and day", lambda: footfall.bring(history))
    footfall.now += timedelta(seconds=1)  # a person is erased later than merged
    price("erasure, one day", lambda: footfall.erase(buyer["userId"]))
    price("erasure, 30 days and an anonymous id", lambda: footfall.erase(user_id))

    price("range query, 30 days", lambda: _range(footfall, reader_id, 30))
    price("range query, 366 days", lambda: _range(footfall, reader_id, 366))
    price("range query, 30 days, nobody", lambda: _range(footfall, _user("nobody")["userId"], 30))
    _price_raw_events(Shop(footfall.table, footfall.now, has_raw_events=True), price)
    return rows


def _price_raw_events(keeping: Shop, price: Callable[[str, Callable[[], Reply]], None]) -> None:
    """The same where raw events are kept."""
    for count in (1, 10, 20):
        lean, rich = (_user("keeping", kind, count) for kind in ("lean", "rich"))
        views = [shop.plain_event(lean, keeping.now, number) for number in range(count)]
        # Without the order among them, which has a price of its own.
        numbers = [
            number for number in range(count + 1) if shop.VISIT[number % len(shop.VISIT)] != "purchase"
        ]
        visit = [shop.visit_event(rich, keeping.now, number) for number in numbers[:count]]
        events = "event" if count == 1 else "events"
        price(f"{count} {events} kept raw, page views", partial(keeping.send, views))
        price(f"{count} {events} kept raw, browser", partial(keeping.send, visit))
    price("the same 20 again: a retry", partial(keeping.send, visit))
    price("timeline of these 20", partial(keeping.get, f"/v1/users/{rich['userId']}/events"))
    price("erasure, one day and its raw events", partial(keeping.erase, rich["userId"]))


def _user(*parts: object) -> Identity:
    return {"userId": shop.new_id("user", "prices", *parts)}


def _visit(footfall: Shop, identity: Identity, first: int, count: int = 10) -> list[dict[str, Any]]:
    return [shop.visit_event(identity, footfall.now, number) for number in range(first, first + count)]


def _order(footfall: Shop, buyer: Identity, number: int, *, copy: int = 0) -> dict[str, Any]:
    order = {"orderId": shop.new_id("order", *buyer.values(), number), "revenue": 129.9, "currency": "EUR"}
    event = shop.plain_event(buyer, footfall.now, 1000 * (copy + 1) + number)
    return {**event, "type": "track", "event": "Order Completed", "properties": order}


def _identify(both: Identity, number: int) -> dict[str, Any]:
    return {"type": "identify", **both, "messageId": f"identify-{number}"}


def _range(footfall: Shop, user_id: str, days: int) -> Reply:
    last = footfall.now.date()
    span = {"from": (last - timedelta(days=days - 1)).isoformat(), "to": last.isoformat()}
    return footfall.get(f"/v1/users/{user_id}/metrics", **span)
