"""The metric table: what each event adds to its user's day. Pure: no I/O, no clock.

Metrics are sums of their parts, or sets whose union is taken; so two writers may add to one day without reading it.
Sources: Segment e-commerce spec v2 for the names; Google Analytics 4's recommended events for their synonyms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from . import ids, money

NAME_CHARACTERS_MAX = 128
QUANTITY_MAX = 1_000_000
ENGAGED_SECONDS_MAX = 86_400
OTHER = "other"

# In the order of replies. `sessions`, the money and the events by name are no plain counters.
COUNTERS = (
    "events",
    "page_views",
    "searches",
    "list_views",
    "product_views",
    "promotion_clicks",
    "cart_adds",
    "cart_removes",
    "cart_views",
    "wishlist_adds",
    "checkouts",
    "orders",
    "refunded_orders",
    "cancelled_orders",
    "items_sold",
    "engaged_seconds",
)

ORDER_COMPLETED = "order completed"
ORDER_REFUNDED = "order refunded"
ORDER_CANCELLED = "order cancelled"
PAGE_LEFT = "page left"

_COUNTER_OF_EVENT = {
    "products searched": "searches",
    "product list viewed": "list_views",
    "product viewed": "product_views",
    "promotion clicked": "promotion_clicks",
    "product added": "cart_adds",
    "product removed": "cart_removes",
    "cart viewed": "cart_views",
    "product added to wishlist": "wishlist_adds",
    "checkout started": "checkouts",
    ORDER_COMPLETED: "orders",
    ORDER_REFUNDED: "refunded_orders",
    ORDER_CANCELLED: "cancelled_orders",
    PAGE_LEFT: None,
}
_SEGMENT_NAME_OF_GA4 = {
    "search": "products searched",
    "view_search_results": "products searched",
    "view_item_list": "product list viewed",
    "view_item": "product viewed",
    "select_promotion": "promotion clicked",
    "add_to_cart": "product added",
    "remove_from_cart": "product removed",
    "view_cart": "cart viewed",
    "add_to_wishlist": "product added to wishlist",
    "begin_checkout": "checkout started",
    "purchase": ORDER_COMPLETED,
    "refund": ORDER_REFUNDED,
}
_ORDER_EVENTS = frozenset({ORDER_COMPLETED, ORDER_REFUNDED, ORDER_CANCELLED})
# In Segment's own spelling.
_SPELLED = {known: known.title().replace(" To ", " to ") for known in _COUNTER_OF_EVENT}


class Amount(NamedTuple):
    """Money in a currency's minor unit."""

    currency: str
    minor: int


class InvalidEventError(ValueError):
    """The event has no name or a malformed property; the message never repeats the value."""


@dataclass(slots=True)
class Contribution:
    """What one event adds to a day."""

    counters: dict[str, int]
    revenue: Amount | None = None
    refund: Amount | None = None
    name: str | None = None
    session: bytes | None = None
    order_id: str | None = None


@dataclass(slots=True)
class Metrics:
    """Summed contributions: of a write, of a stored day, of a range. Sessions are short hashes, so that a union
    over days is exact."""

    counters: dict[str, int] = field(default_factory=dict)
    revenue_minor: dict[str, int] = field(default_factory=dict)
    refunds_minor: dict[str, int] = field(default_factory=dict)
    by_event: dict[str, int] = field(default_factory=dict)
    sessions: set[bytes] = field(default_factory=set)
    order_ids: set[str] = field(default_factory=set)

    def count(self, part: Contribution) -> None:
        """Add one event."""
        _add(self.counters, part.counters)
        for sums, amount in ((self.revenue_minor, part.revenue), (self.refunds_minor, part.refund)):
            if amount is not None:
                sums[amount.currency] = sums.get(amount.currency, 0) + amount.minor
        if part.name is not None:
            self.by_event[part.name] = self.by_event.get(part.name, 0) + 1
        if part.session is not None:
            self.sessions.add(part.session)
        if part.order_id is not None:
            self.order_ids.add(part.order_id)

    def merge(self, other: "Metrics") -> None:
        """Add another sum."""
        _add(self.counters, other.counters)
        _add(self.revenue_minor, other.revenue_minor)
        _add(self.refunds_minor, other.refunds_minor)
        _add(self.by_event, other.by_event)
        self.sessions |= other.sessions
        self.order_ids |= other.order_ids

    @property
    def currencies(self) -> set[str]:
        """Every currency an amount is in."""
        return self.revenue_minor.keys() | self.refunds_minor.keys()


def page_view() -> Contribution:
    """What a `page` or `screen` event adds."""
    return Contribution({"events": 1, "page_views": 1})


def camel(name: str) -> str:
    """As replies and documents name a metric: page_views is pageViews."""
    first, *words = name.split("_")
    return first + "".join(word.title() for word in words)


def event_name(name: str) -> str:
    """What an event of this name is searched by: a known one, GA4's synonyms too, by Segment's spelling of it; any
    other by the name as sent."""
    known = name.casefold()
    return _SPELLED.get(_SEGMENT_NAME_OF_GA4.get(known, known), name)


def track(name: object, properties: Mapping[str, Any], *, currency: str, counts_orders: bool) -> Contribution:
    """What a `track` event adds.

    `currency` is the one an amount without a currency is in. Without `counts_orders` an order event is an ordinary
    event, counted by its name. Raises InvalidEventError, money.InvalidAmountError and ids.InvalidIdError.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        raise InvalidEventError(f"a track event has a name of 1 to {NAME_CHARACTERS_MAX} characters")
    known = name.casefold()
    known = _SEGMENT_NAME_OF_GA4.get(known, known)
    if known not in _COUNTER_OF_EVENT or (known in _ORDER_EVENTS and not counts_orders):
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise InvalidEventError("the name holds a lone surrogate, which is no character")
        return Contribution({"events": 1}, name=name)

    part = Contribution({"events": 1})
    counter = _COUNTER_OF_EVENT[known]
    if counter is not None:
        part.counters[counter] = 1
    if known == ORDER_COMPLETED:
        part.revenue = _amount(properties, currency)
        part.counters["items_sold"] = _items_sold(properties)
        part.order_id = _order_id(properties)
    elif known == ORDER_REFUNDED:
        part.refund = _amount(properties, currency)
    elif known == PAGE_LEFT:
        part.counters["engaged_seconds"] = _engaged_seconds(properties)
    return part


def _add(sums: dict[str, int], parts: Mapping[str, int]) -> None:
    for name, part in parts.items():
        sums[name] = sums.get(name, 0) + part


def _amount(properties: Mapping[str, Any], default_currency: str) -> Amount | None:
    for field_name in ("revenue", "total", "value"):
        value = properties.get(field_name)
        if value is not None:
            code = money.currency(properties.get("currency"), default_currency)
            return Amount(code, money.minor(value, code))
    return None


def _order_id(properties: Mapping[str, Any]) -> str | None:
    """Segment's name, as its clients and its specification spell it; GA4's."""
    for field_name in ("orderId", "order_id", "transaction_id"):
        order_id = ids.order_id(properties.get(field_name))
        if order_id is not None:
            return order_id
    return None


def _items_sold(properties: Mapping[str, Any]) -> int:
    products = properties.get("products")
    if products is None:
        products = properties.get("items")
    if products is None:
        return 0
    if not isinstance(products, list) or not all(isinstance(product, dict) for product in products):
        raise InvalidEventError("products is a list of objects")
    return sum(_quantity(product.get("quantity")) for product in products)


def _quantity(value: object) -> int:
    if value is None:
        return 1
    quantity = money.number(value)
    if not 0 <= quantity <= QUANTITY_MAX:
        raise money.InvalidAmountError(f"a quantity lies between 0 and {QUANTITY_MAX}")
    # What is sold by weight or length counts as the nearest whole number of items.
    return int(quantity.quantize(Decimal(1), ROUND_HALF_UP))


def _engaged_seconds(properties: Mapping[str, Any]) -> int:
    value = properties.get("engagedSeconds")
    if value is None:
        return 0
    seconds = money.number(value)
    if not 0 <= seconds <= ENGAGED_SECONDS_MAX:
        raise money.InvalidAmountError(f"engagedSeconds lies between 0 and {ENGAGED_SECONDS_MAX}")
    return int(seconds.quantize(Decimal(1), ROUND_FLOOR))
