"""The metric table: which event feeds which metric."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import metrics
from service.metrics import Amount, Contribution, Metrics
from service.money import InvalidAmountError

COUNTER_OF_EVENT = {
    "Products Searched": "searches",
    "Product List Viewed": "list_views",
    "Product Viewed": "product_views",
    "Promotion Clicked": "promotion_clicks",
    "Product Added": "cart_adds",
    "Product Removed": "cart_removes",
    "Cart Viewed": "cart_views",
    "Product Added to Wishlist": "wishlist_adds",
    "Checkout Started": "checkouts",
    "Order Completed": "orders",
    "Order Refunded": "refunded_orders",
    "Order Cancelled": "cancelled_orders",
    # Google Analytics 4's names for the same.
    "search": "searches",
    "view_search_results": "searches",
    "view_item_list": "list_views",
    "view_item": "product_views",
    "select_promotion": "promotion_clicks",
    "add_to_cart": "cart_adds",
    "remove_from_cart": "cart_removes",
    "view_cart": "cart_views",
    "add_to_wishlist": "wishlist_adds",
    "begin_checkout": "checkouts",
    "purchase": "orders",
    "refund": "refunded_orders",
}
COMPLETED = ["Order Completed", "purchase", "ORDER COMPLETED"]
REFUNDED = ["Order Refunded", "refund"]


def track(name: object, counts_orders: bool = True, /, **properties: Any) -> Contribution:
    return metrics.track(name, properties, currency="USD", counts_orders=counts_orders)


@pytest.mark.parametrize(("name", "counter"), COUNTER_OF_EVENT.items())
def test_an_event_feeds_its_metric_whatever_its_letter_case(name: str, counter: str) -> None:
    for spelling in (name, name.upper(), name.lower(), name.swapcase()):
        part = track(spelling)
        counted = {metric for metric, count in part.counters.items() if count}

        assert counted == {"events", counter}
        assert (part.counters["events"], part.counters[counter]) == (1, 1)
        assert part.name is None


def test_every_counter_is_fed_by_something() -> None:
    fed = {"events", "page_views", "items_sold", "engaged_seconds", *COUNTER_OF_EVENT.values()}

    assert fed == set(metrics.COUNTERS)


def test_page_left_counts_seconds_and_no_metric_of_its_own() -> None:
    assert track("Page Left", engagedSeconds=30).counters == {"events": 1, "engaged_seconds": 30}
    assert track("page left").counters == {"events": 1, "engaged_seconds": 0}


@pytest.mark.parametrize(
    ("sent", "counted"), [(0, 0), (86_400, 86_400), ("12", 12), (Decimal("12.0"), 12), (None, 0)]
)
def test_engaged_seconds_are_whole_and_at_most_a_day(sent: object, counted: int) -> None:
    assert counted == track("Page Left", engagedSeconds=sent).counters["engaged_seconds"]


@pytest.mark.parametrize("sent", [-1, 86_401, "long", True, [1], Decimal("86400.5"), Decimal("-0.5")])
def test_other_engaged_seconds_are_refused(sent: object) -> None:
    with pytest.raises(InvalidAmountError):
        track("Page Left", engagedSeconds=sent)


def test_engaged_seconds_of_another_event_are_nobodys() -> None:
    assert track("Product Viewed", engagedSeconds=30).counters == {"events": 1, "product_views": 1}


def test_a_page_or_screen_is_a_page_view() -> None:
    assert metrics.page_view().counters == {"events": 1, "page_views": 1}


def test_any_other_event_is_counted_by_its_name_as_sent() -> None:
    for name in (
        "Newsletter Signed Up",
        "newsletter signed up",
        " Product Viewed ",
        "x" * 128,
        "a.b[0]",
        "other",
    ):
        part = track(name)

        assert part.counters == {"events": 1}
        assert name == part.name


@pytest.mark.parametrize("name", [None, "", "x" * 129, 5, ["Order Completed"], "\ud800"])
def test_a_track_event_without_a_proper_name_is_refused(name: object) -> None:
    with pytest.raises(metrics.InvalidEventError):
        track(name)


@pytest.mark.parametrize("name", COMPLETED)
@pytest.mark.parametrize(
    ("properties", "minor"),
    [
        ({"revenue": "1", "total": "2", "value": "3"}, 100),
        ({"total": "2", "value": "3"}, 200),
        ({"value": "3"}, 300),
        ({"revenue": None, "total": None, "value": 3}, 300),
        ({"revenue": 0, "total": 2}, 0),
    ],
)
def test_revenue_is_revenue_else_total_else_value(name: str, properties: dict[str, Any], minor: int) -> None:
    assert Amount("USD", minor) == track(name, **properties).revenue
    assert track(name, **properties).refund is None


@pytest.mark.parametrize("name", REFUNDED)
def test_a_refund_is_kept_apart_from_revenue(name: str) -> None:
    part = track(name, value=Decimal("5.05"), currency="eur")

    assert Amount("EUR", 505) == part.refund
    assert part.revenue is None


def test_an_order_without_an_amount_is_an_order() -> None:
    assert track("Order Completed").counters == {"events": 1, "orders": 1, "items_sold": 0}
    assert track("Order Completed").revenue is None


def test_a_cancelled_order_moves_no_money() -> None:
    part = track("Order Cancelled", revenue="nonsense")

    assert (part.revenue, part.refund) == (None, None)


@pytest.mark.parametrize(
    "properties", [{"revenue": "-1"}, {"revenue": "x"}, {"total": True}, {"value": 10**13}]
)
def test_a_bad_amount_is_refused(properties: dict[str, Any]) -> None:
    for name in COMPLETED + REFUNDED:
        with pytest.raises(InvalidAmountError):
            track(name, **properties)


def test_a_bad_currency_is_refused_only_where_there_is_an_amount() -> None:
    with pytest.raises(InvalidAmountError):
        track("Order Completed", revenue=1, currency="ABC")
    assert track("Order Completed", currency="ABC").revenue is None


@pytest.mark.parametrize("field", ["products", "items"])
@pytest.mark.parametrize("name", COMPLETED)
def test_items_sold_is_the_sum_of_quantities(name: str, field: str) -> None:
    lines = [
        {"quantity": 2},
        {"quantity": "3"},
        {},
        {"quantity": None},
        {"quantity": 0},
        {"quantity": Decimal(4)},
    ]

    assert track(name, **{field: lines}).counters["items_sold"] == 11


def test_products_come_before_items() -> None:
    assert track("purchase", products=[{}], items=[{}, {}]).counters["items_sold"] == 1


@pytest.mark.parametrize("products", ["x", 5, {"quantity": 1}, [1], [None], [[]]])
def test_products_that_are_no_list_of_objects_are_refused(products: object) -> None:
    with pytest.raises(metrics.InvalidEventError):
        track("Order Completed", products=products)


@pytest.mark.parametrize("quantity", [-1, "many", True, 1_000_001, [], Decimal("1e400")])
def test_a_bad_quantity_is_refused(quantity: object) -> None:
    with pytest.raises(InvalidAmountError):
        track("Order Completed", products=[{"quantity": quantity}])


@pytest.mark.parametrize(
    "name", ["Order Completed", "purchase", "Order Refunded", "refund", "Order Cancelled"]
)
def test_where_only_the_server_reports_revenue_a_public_order_is_an_ordinary_event(name: str) -> None:
    part = track(name, False, revenue="whatever", products="none")

    assert part.counters == {"events": 1}
    assert (part.revenue, part.refund) == (None, None)
    assert name == part.name


def test_other_events_feed_their_metrics_also_where_only_the_server_reports_revenue() -> None:
    assert track("Checkout Started", False).counters == {"events": 1, "checkouts": 1}


PARTS = st.builds(
    Contribution,
    st.dictionaries(st.sampled_from(metrics.COUNTERS), st.integers(0, 100)),
    st.none() | st.builds(Amount, st.sampled_from(["EUR", "JPY"]), st.integers(0, 10**17)),
    st.none() | st.builds(Amount, st.sampled_from(["EUR", "JPY"]), st.integers(0, 10**17)),
    st.none() | st.sampled_from(["a", "b"]),
    st.none() | st.binary(min_size=1, max_size=1),
)


def summed(parts: list[Contribution]) -> Metrics:
    total = Metrics()
    for part in parts:
        total.count(part)
    return total


@given(st.lists(PARTS, max_size=8), st.lists(PARTS, max_size=8))
def test_a_sum_of_sums_is_the_sum_of_all(one: list[Contribution], other: list[Contribution]) -> None:
    total = summed(one)
    total.merge(summed(other))

    assert summed(one + other) == total
    assert summed(other + one) == total


@given(st.lists(PARTS, max_size=8))
def test_currencies_are_those_of_every_amount(parts: list[Contribution]) -> None:
    amounts = [amount for part in parts for amount in (part.revenue, part.refund) if amount]

    assert {amount.currency for amount in amounts} == summed(parts).currencies


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"orderId": "a"}, "a"),
        ({"order_id": "a"}, "a"),
        ({"transaction_id": 7}, "7"),
        ({"orderId": "a", "order_id": "b", "transaction_id": "c"}, "a"),
        ({"orderId": "", "order_id": None, "transaction_id": "c"}, "c"),
        ({"order_ID": "a"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("name", ["Order Completed", "purchase"])
def test_a_completed_order_has_an_id(name: str, properties: dict[str, Any], expected: str | None) -> None:
    part = metrics.track(name, properties, currency="USD", counts_orders=True)

    assert expected == part.order_id


@pytest.mark.parametrize("name", ["Order Refunded", "Order Cancelled", "refund", "Checkout Started", "Own"])
def test_no_other_event_claims_an_order(name: str) -> None:
    part = metrics.track(name, {"orderId": "null"}, currency="USD", counts_orders=True)

    assert part.order_id is None


def test_where_only_the_server_reports_revenue_a_public_orders_id_is_not_read() -> None:
    part = metrics.track("Order Completed", {"orderId": "null"}, currency="USD", counts_orders=False)

    assert (part.order_id, part.name) == (None, "Order Completed")
