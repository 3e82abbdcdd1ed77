"""What happened in a shop, and what the API must say of it afterwards: a model that is no more than sets of facts.

Nothing here comes from the service: the names of events and metrics are written out again, sums are Python's.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

COUNTERS = (
    "events",
    "pageViews",
    "searches",
    "listViews",
    "productViews",
    "promotionClicks",
    "cartAdds",
    "cartRemoves",
    "cartViews",
    "wishlistAdds",
    "checkouts",
    "orders",
    "refundedOrders",
    "cancelledOrders",
    "itemsSold",
    "engagedSeconds",
)
# The name on the wire, and the metric it feeds; a page has no name, and an event fed by none counts by its name.
EVENTS: dict[str, str | None] = {
    "page": "pageViews",
    "Product Viewed": "productViews",
    "add_to_cart": "cartAdds",
    "Order Completed": "orders",
    "Order Refunded": "refundedOrders",
    "Page Left": None,
    "Newsletter Signed Up": None,
}
CURRENCIES = ("EUR", "USD", "GBP")


@dataclass(frozen=True)
class Fact:
    """One thing that happened, whoever did it. Two copies of it are equal."""

    message_id: str
    timestamp: str
    name: str
    session: str | None = None
    amount: Decimal | None = None
    currency: str = "EUR"
    quantity: int = 0
    seconds: int = 0

    @property
    def day(self) -> str:
        """In UTC, in which every test keeps its timestamps."""
        return self.timestamp[:10]

    def event(self, *, user_id: str | None = None, anonymous_id: str | None = None) -> dict[str, Any]:
        """The event that reports it."""
        event: dict[str, Any] = {
            "type": "page" if self.name == "page" else "track",
            "event": None if self.name == "page" else self.name,
            "messageId": self.message_id,
            "timestamp": self.timestamp,
            "userId": user_id,
            "anonymousId": anonymous_id,
            "properties": self._properties(),
            "context": {"sessionId": self.session},
        }
        return {name: value for name, value in event.items() if value}

    def _properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        if self.amount is not None:
            properties |= {"revenue": str(self.amount), "currency": self.currency}
        if self.quantity:
            properties["products"] = [{"sku": "sku-1", "quantity": self.quantity}]
        if self.seconds:
            properties["engagedSeconds"] = self.seconds
        return properties


def random_fact(rng: random.Random, message_id: str, timestamp: str) -> Fact:
    """Any kind of fact, of one of a few sessions."""
    name = rng.choice(tuple(EVENTS))
    is_money = name in ("Order Completed", "Order Refunded")
    return Fact(
        message_id,
        timestamp,
        name,
        session=rng.choice((None, "s-1", "s-2", "s-3")),
        amount=Decimal(rng.randint(1, 99_999)) / 100 if is_money else None,
        currency=rng.choice(CURRENCIES),
        quantity=rng.randint(1, 9) if name == "Order Completed" else 0,
        seconds=rng.randint(1, 600) if name == "Page Left" else 0,
    )


def numbers(facts: Iterable[Fact]) -> dict[str, Any]:
    """Every metric of these facts, each counted once."""
    result: dict[str, Any] = dict.fromkeys(COUNTERS, 0) | {"byEvent": {}, "revenue": {}, "refunds": {}}
    sessions = set()
    for fact in set(facts):
        result["events"] += 1
        result["itemsSold"] += fact.quantity
        result["engagedSeconds"] += fact.seconds
        metric = EVENTS.get(fact.name)
        if metric:
            result[metric] += 1
        elif fact.name != "Page Left":
            result["byEvent"][fact.name] = result["byEvent"].get(fact.name, 0) + 1
        if fact.amount is not None:
            sums = result["revenue" if fact.name == "Order Completed" else "refunds"]
            sums[fact.currency] = sums.get(fact.currency, Decimal(0)) + fact.amount
        if fact.session:
            sessions.add(fact.session)
    return result | {"sessions": len(sessions)}


def report(facts: Iterable[Fact]) -> dict[str, Any]:
    """`days` and `totals` of a range query over all of them."""
    counted = set(facts)
    days = sorted({fact.day for fact in counted})
    return {
        "days": [{"day": day} | numbers(fact for fact in counted if fact.day == day) for day in days],
        "totals": numbers(counted) | {"activeDays": len(days)},
    }
