"""Every answer of the search API once more, in plain Python over the events as they were sent: no index, no queries,
nothing of the service but what its replies look like.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

Json = dict[str, Any]

DECIMALS = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}
# By lower-case name: how it is searched for, and the metric it adds 1 to.
KNOWN: dict[str, tuple[str, str | None]] = {
    "products searched": ("Products Searched", "searches"),
    "search": ("Products Searched", "searches"),
    "view_search_results": ("Products Searched", "searches"),
    "product list viewed": ("Product List Viewed", "listViews"),
    "view_item_list": ("Product List Viewed", "listViews"),
    "product viewed": ("Product Viewed", "productViews"),
    "view_item": ("Product Viewed", "productViews"),
    "promotion clicked": ("Promotion Clicked", "promotionClicks"),
    "select_promotion": ("Promotion Clicked", "promotionClicks"),
    "product added": ("Product Added", "cartAdds"),
    "add_to_cart": ("Product Added", "cartAdds"),
    "product removed": ("Product Removed", "cartRemoves"),
    "remove_from_cart": ("Product Removed", "cartRemoves"),
    "cart viewed": ("Cart Viewed", "cartViews"),
    "view_cart": ("Cart Viewed", "cartViews"),
    "product added to wishlist": ("Product Added to Wishlist", "wishlistAdds"),
    "add_to_wishlist": ("Product Added to Wishlist", "wishlistAdds"),
    "checkout started": ("Checkout Started", "checkouts"),
    "begin_checkout": ("Checkout Started", "checkouts"),
    "order completed": ("Order Completed", "orders"),
    "purchase": ("Order Completed", "orders"),
    "order refunded": ("Order Refunded", "refundedOrders"),
    "refund": ("Order Refunded", "refundedOrders"),
    "order cancelled": ("Order Cancelled", "cancelledOrders"),
    "page left": ("Page Left", None),
}
ORDERS = ("Order Completed", "Order Refunded", "Order Cancelled")


def searched_as(name: str) -> str:
    """What an event of this name is searched by."""
    return KNOWN.get(name.lower(), (name, None))[0]


@dataclass(frozen=True)
class Happened:
    """One event as it counts. `metrics` has whole numbers, and money by (metric, currency)."""

    user: str
    time: datetime
    day: date
    name: str
    # False of an order that does not count as one.
    is_known: bool
    session: str | None
    metrics: dict[Any, Any]
    keys: dict[str, list[str]] = field(default_factory=dict)
    lines: list[tuple[str | None, str | None, Decimal]] = field(default_factory=list)

    @property
    def revenue(self) -> dict[str, Decimal]:
        return {
            key[1]: value
            for key, value in self.metrics.items()
            if isinstance(key, tuple) and key[0] == "revenue"
        }


@dataclass(frozen=True)
class Shop:
    """What is known of it beside its events."""

    zone: ZoneInfo
    currency: str


def happened(sent: Json, owner: str, shop: Shop, *, counts_orders: bool = True) -> Happened:
    """Read an event as it was sent. `owner` is whose it is by now."""
    instant = datetime.fromisoformat(sent["timestamp"])
    instant = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    properties, context = sent.get("properties", {}), sent.get("context", {})
    name, counter, is_known = named_as(sent, counts_orders=counts_orders)
    metrics: dict[Any, Any] = Counter(events=1)
    if counter is not None:
        metrics[counter] = 1
    revenue = None
    products = properties.get("products") or properties.get("items") or []
    if is_known and name in ("Order Completed", "Order Refunded"):
        money = next((properties[key] for key in ("revenue", "total", "value") if key in properties), None)
        if money is not None:
            currency = properties.get("currency", shop.currency)
            kind = "revenue" if name == "Order Completed" else "refunds"
            metrics[kind, currency] = rounded(Decimal(str(money)), currency)
            revenue = currency if kind == "revenue" else None
    if is_known and name == "Order Completed":
        metrics["itemsSold"] = sum(product.get("quantity", 1) for product in products)
    if is_known and name == "Page Left":
        metrics["engagedSeconds"] = properties.get("engagedSeconds", 0)
    found = Happened(
        owner,
        instant,
        instant.astimezone(shop.zone).date(),
        name,
        is_known,
        context.get("sessionId"),
        metrics,
    )
    found.keys.update(keys_of(properties, context, products))
    found.keys["event"], found.keys["day"] = [name], [found.day.isoformat()]
    found.keys["currency"] = [key[1] for key in metrics if isinstance(key, tuple)]
    for product in products if revenue else ():
        if "price" in product:
            price = Decimal(str(product["price"])) * Decimal(str(product.get("quantity", 1)))
            found.lines.append((product_id(product), category(product), rounded(price, revenue or "")))
    return found


def named_as(sent: Json, *, counts_orders: bool) -> tuple[str, str | None, bool]:
    """What it is searched by, the metric it adds 1 to, and whether it is what its name says."""
    if sent["type"] != "track":
        return f"{sent['type'].title()} Viewed", "pageViews", True
    name, counter = KNOWN.get(sent["event"].lower(), (sent["event"], None))
    if name in ORDERS and not counts_orders:
        return sent["event"], None, False
    return name, counter, True


def keys_of(properties: Json, context: Json, products: Sequence[Json]) -> dict[str, list[str]]:
    page, campaign = context.get("page", {}), context.get("campaign", {})
    url = page.get("url") or properties.get("url") or ""
    path = page.get("path") or properties.get("path") or urlsplit(url).path
    referrer = page.get("referrer") or properties.get("referrer") or ""
    everything = [properties, *products]
    found: dict[str, Iterable[str | None]] = {
        "productId": map(product_id, everything),
        "category": map(category, everything),
        "path": [path.partition("?")[0]],
        "referrerHost": [urlsplit(referrer).hostname],
        "campaignSource": [campaign.get("source")],
        "campaignMedium": [campaign.get("medium")],
        "campaignName": [campaign.get("name")],
    }
    return {name: sorted({value for value in values if value}) for name, values in found.items()}


def product_id(product: Json) -> str | None:
    return next(
        (product[key] for key in ("product_id", "productId", "sku", "item_id") if key in product), None
    )


def category(product: Json) -> str | None:
    return next((product[key] for key in ("category", "item_category") if key in product), None)


def rounded(amount: Decimal, currency: str) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-DECIMALS[currency]), ROUND_HALF_UP)


# --- the range --------------------------------------------------------------------------------------------------------


def in_range(events: Iterable[Happened], request: Json) -> list[Happened]:
    first, last = date.fromisoformat(request["from"]), date.fromisoformat(request["to"])
    return [event for event in events if first <= event.day <= last]


def named(events: Iterable[Happened], name: str | None) -> list[Happened]:
    if name is None:
        return list(events)
    wanted = searched_as(name)
    return [event for event in events if event.name == wanted and (event.is_known or wanted not in ORDERS)]


def by_user(events: Iterable[Happened]) -> dict[str, list[Happened]]:
    users: dict[str, list[Happened]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.time):
        users[event.user].append(event)
    return users


def unit_start(day: date, unit: str) -> date:
    if unit == "week":
        return day - timedelta(days=day.isoweekday() - 1)
    return date(day.year, day.month, 1) if unit == "month" else day


def unit_starts(request: Json, unit: str) -> list[date]:
    day, last = date.fromisoformat(request["from"]), date.fromisoformat(request["to"])
    found: list[date] = []
    while day <= last:
        if unit_start(day, unit) not in found[-1:]:
            found.append(unit_start(day, unit))
        day += timedelta(days=1)
    return found


# --- answers ----------------------------------------------------------------------------------------------------------


def segments(events: Sequence[Happened], request: Json, shop: Shop) -> list[str]:
    """Everybody who holds, in order."""
    users = by_user(in_range(events, request))

    def holds(own: list[Happened], condition: Json) -> bool:
        if "event" in condition:
            value: Any = len(named(own, condition["event"]))
            least = condition.get("min", 1)
        else:
            value, least = metric_of(own, condition, shop), condition.get("min", 0)
        most = condition.get("max")
        return bool(least <= value and (most is None or value <= most))

    return sorted(
        (
            user
            for user, own in users.items()
            if all(holds(own, condition) for condition in request.get("all", []))
            and (not request.get("any") or any(holds(own, condition) for condition in request["any"]))
            and not any(holds(own, condition) for condition in request.get("none", []))
        ),
        key=lambda user: user.encode(),
    )


def metric_of(own: list[Happened], condition: Json, shop: Shop) -> Any:
    metric = condition["metric"]
    if metric == "sessions":
        return len({event.session for event in own} - {None})
    if metric in ("revenue", "refunds"):
        metric = metric, condition.get("currency", shop.currency)
    return sum(event.metrics[metric] for event in own)


def funnels(events: Sequence[Happened], request: Json, _: Shop) -> Json:
    window = timedelta(hours=request.get("windowHours", 168))
    steps = request["steps"]
    reached = Counter(depth(own, steps, window) for own in by_user(in_range(events, request)).values())
    users = [sum(number for depth, number in reached.items() if depth > step) for step in range(len(steps))]
    return {
        "steps": [
            {"event": searched_as(step), "users": number, "conversion": share(number, users[0])}
            for step, number in zip(steps, users, strict=True)
        ]
    }


def depth(own: list[Happened], steps: list[str], window: timedelta) -> int:
    """From every first event, take the earliest next one."""
    times = [[event.time for event in named(own, step)] for step in steps]
    deepest = 0
    for first in times[0]:
        at, number = first, 1
        for later in times[1:]:
            place = bisect.bisect_right(later, at)
            if place == len(later) or later[place] - first > window:
                break
            at, number = later[place], number + 1
        deepest = max(deepest, number)
    return deepest


def share(part: int, whole: int) -> Decimal:
    return (Decimal(part) / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP) if whole else Decimal(0)


def breakdowns(events: Sequence[Happened], request: Json, shop: Shop) -> Json:
    by, metric = request["by"], request["metric"]
    chosen = [event for event in named(in_range(events, request), request.get("event")) if event.keys[by]]
    rows: dict[str, Any] = Counter()
    total: Any = None
    if metric == "users":
        rows = Counter(key for key, _ in {(key, event.user) for event in chosen for key in event.keys[by]})
        total = len({event.user for event in chosen})
    elif metric == "events":
        rows = Counter(key for event in chosen for key in event.keys[by])
        total = len(chosen)
    else:
        sold = revenue_rows(named(in_range(events, request), request.get("event")), request, shop)
        for key, value in sold:
            rows[key] += value
        total = None if by == "currency" else sum(rows.values())
    ranked = sorted(rows.items(), key=lambda row: (-row[1], row[0].encode()))
    limit = request.get("limit", 20)
    return {
        "rows": [{"key": key, "value": value} for key, value in ranked[:limit]],
        "total": total,
        "otherRows": len(ranked[limit:]),
    }


def revenue_rows(events: list[Happened], request: Json, shop: Shop) -> Iterable[tuple[str, Decimal]]:
    by, currency = request["by"], request.get("currency", shop.currency)
    for event in events:
        if by == "currency":
            yield from event.revenue.items()
        elif currency in event.revenue and by in ("productId", "category"):
            for of_product, of_category, amount in event.lines:
                key = of_product if by == "productId" else of_category
                if key is not None:
                    yield key, amount
        elif currency in event.revenue:
            yield from ((key, event.revenue[currency]) for key in event.keys[by])


def timeseries(events: Sequence[Happened], request: Json, shop: Shop) -> Json:
    interval = request["interval"]
    row_of: Callable[[Happened], str]
    if interval == "hour":
        starts = hour_starts(request, shop.zone)
        names = [start.isoformat() for start in starts]

        def row_of(event: Happened) -> str:
            return names[bisect.bisect_right(starts, event.time) - 1]

    else:
        names = [start.isoformat() for start in unit_starts(request, interval)]

        def row_of(event: Happened) -> str:
            return unit_start(event.day, interval).isoformat()

    chosen = named(in_range(events, request), request.get("event"))
    rows: dict[str, Any] = dict.fromkeys(names, 0)
    if request["metric"] == "users":
        for row, _ in {(row_of(event), event.user) for event in chosen}:
            rows[row] += 1
    else:
        for event in chosen:
            if request["metric"] == "events":
                rows[row_of(event)] += 1
            else:
                rows[row_of(event)] += event.revenue.get(request.get("currency", shop.currency), 0)
    return {"rows": [{"start": name, "value": value} for name, value in rows.items()]}


def hour_starts(request: Json, zone: ZoneInfo) -> list[datetime]:
    """In a zone whose offsets are whole hours: from midnight to midnight, hour by hour of UTC."""
    start, end = (
        datetime.combine(date.fromisoformat(day), time.min, zone).astimezone(UTC)
        for day in (
            request["from"],
            (date.fromisoformat(request["to"]) + timedelta(days=1)).isoformat(),
        )
    )
    found: list[datetime] = []
    while start < end:
        found.append(start.astimezone(zone))
        start += timedelta(hours=1)
    return found


def retention(events: Sequence[Happened], request: Json, _: Shop) -> Json:
    unit = request["unit"]
    starts = unit_starts(request, unit)
    users = Counter[date]()
    returned = Counter[tuple[date, date]]()
    for own in by_user(in_range(events, request)).values():
        began = named(own, request["startEvent"])
        if not began:
            continue
        first = min(event.time for event in began)
        cohort = unit_start(next(event.day for event in began if event.time == first), unit)
        users[cohort] += 1
        back = {
            unit_start(event.day, unit) for event in named(own, request["returnEvent"]) if event.time > first
        }
        returned.update((cohort, later) for later in back)
    return {
        "cohorts": [
            {
                "start": start.isoformat(),
                "users": users[start],
                "returned": [returned[start, later] for later in starts[number:]],
            }
            for number, start in enumerate(starts)
        ]
    }


ANSWERS: dict[str, Callable[[Sequence[Happened], Json, Shop], Json]] = {
    "funnels": funnels,
    "breakdowns": breakdowns,
    "timeseries": timeseries,
    "retention": retention,
}
