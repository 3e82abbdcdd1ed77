"""Events and items at their largest."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from tests.engine.conftest import NOON
from tests.engine.shop import Json

NOW = NOON.isoformat()
IDS_PER_WRITE = 90
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


def event_of(number: int, name: str, **properties: Any) -> Json:
    """One of this name, at noon, in a session of its own."""
    return {
        "type": "page" if name == "page" else "track",
        "event": name,
        "messageId": f"m-{number}",
        "timestamp": NOW,
        "properties": properties,
        "context": {"sessionId": f"s-{number}"},
    }


def long_names(count: int, first: int = 0) -> Iterator[str]:
    """As long as a name may be, with all that has a meaning in an expression, and characters of four bytes."""
    for number in range(first, first + count):
        yield f"[{number}].#:%25 ".ljust(128, "\N{SHOPPING TROLLEY}")


def money(number: int, currencies: tuple[str, ...] = CURRENCIES) -> list[Json]:
    """An order and a refund in each of these, as large as an amount may be."""
    return [
        event_of(number + place, name, revenue=10**12, currency=currency, products=[{"quantity": 10**6}])
        for place, (name, currency) in enumerate(
            (name, currency) for name in ("Order Completed", "Order Refunded") for currency in currencies
        )
    ]


def ninety_names() -> list[Json]:
    return [event_of(number, name) for number, name in enumerate(long_names(IDS_PER_WRITE))]


def ninety_of_everything() -> list[Json]:
    events = [event_of(number, name, **properties) for number, (name, properties) in enumerate(EVERY_METRIC)]
    events += money(len(events))
    rest = IDS_PER_WRITE - len(events)
    return events + [event_of(len(events) + number, name) for number, name in enumerate(long_names(rest))]


def ninety_orders(currencies: tuple[str, ...] = CURRENCIES) -> list[Json]:
    """Orders with ids, which are claimed."""
    return [
        event_of(
            number,
            "Order Completed",
            orderId=long_text(f"order-{number}"),
            revenue=10**12,
            currency=currencies[number % len(currencies)],
            products=[{"quantity": 10**6}],
        )
        for number in range(IDS_PER_WRITE)
    ]


def eighty_orders_and_ten_names() -> list[Json]:
    names = [event_of(80 + number, name) for number, name in enumerate(long_names(10))]
    return ninety_orders()[:80] + names


def long_text(text: str) -> str:
    """As many bytes as an id may have, and a name."""
    return text.ljust(128, "\N{SHOPPING TROLLEY}")


def item_bytes(item: Json) -> int:
    """By AWS's rules, for the types a day item holds."""

    def size(value: dict[str, Any]) -> int:
        if "N" in value:
            return ceil(len(str(value["N"]).strip("0")) / 2) + 1
        if "BOOL" in value:
            return 1
        members = [*value.get("BS", []), *(text.encode() for text in value.get("SS", []))]
        return sum(map(len, members)) + len(value.get("S", "").encode())

    return sum(len(name.encode()) + size(value) for name, value in item.items())
