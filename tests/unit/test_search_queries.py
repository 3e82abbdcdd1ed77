"""What the engine is asked: nothing but filters, composites, histograms, and scripts that no request changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from service import metrics, search_queries
from service.index_template import Names, template
from service.search_queries import Walk

FIRST, LAST = date(2026, 10, 1), date(2026, 11, 30)
QUOTE = "\"'; return 1; //"


def bodies(text: str) -> list[dict[str, Any]]:
    """One of each kind, with this as the name of an event."""
    walks = [
        search_queries.funnel(FIRST, LAST, [text, "x"]),
        search_queries.retention(FIRST, LAST, text, "x"),
        Walk(search_queries.query(FIRST, LAST, search_queries.named(text)), "path"),
        *(
            Walk(
                search_queries.query(FIRST, LAST),
                "user",
                {
                    "c0": search_queries.of_metric(name, "EUR").aggregation,
                    "c1": search_queries.of_event(text).aggregation,
                },
            )
            for name in ("revenue", "refunds", "sessions", "orders", "itemsSold")
        ),
        Walk(search_queries.query(FIRST, LAST), "user", {"of": search_queries.distinct_slots(900_000)}),
        Walk(search_queries.query(FIRST, LAST), "user", {"of": search_queries.distinct("path")}),
    ]
    singles = [
        search_queries.slots(search_queries.query(FIRST, LAST), 900_000, search_queries.money_sum("revenue")),
        search_queries.count(search_queries.query(FIRST, LAST, search_queries.has("path"))),
    ]
    return [walk.body(text, 10) for walk in walks] + singles


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name with its value, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


def scripts(body: Any) -> set[str]:
    return {
        inner if isinstance(inner, str) else inner["source"]
        for name, inner in members(body)
        if name.endswith("_script")
    }


def test_a_request_is_in_no_script() -> None:
    for ours, theirs in zip(bodies("x"), bodies(QUOTE), strict=True):
        assert scripts(ours) == scripts(theirs)
    assert not any(QUOTE in script for body in bodies(QUOTE) for script in scripts(body))


def test_nothing_is_approximate_and_nothing_is_parsed() -> None:
    for body in bodies("x"):
        names = {name for name, _ in members(body)}
        assert not names & {
            "cardinality",
            "query_string",
            "simple_query_string",
            "wildcard",
            "regexp",
            "script",
        }
        for name, inner in members(body):
            # As an aggregation, `terms` is a source of a composite alone.
            if name == "aggs":
                assert not any("terms" in aggregation for aggregation in inner.values())


def test_what_each_bucket_carries_over_the_wire_is_short() -> None:
    """A reduce script and an aggregation's own params are sent with every bucket of every shard."""
    for body in bodies("x"):
        for name, inner in members(body):
            if name == "reduce_script":
                assert len(inner) < 40
            if name == "scripted_metric":
                assert "params" not in inner


def test_every_field_is_one_of_the_mapping() -> None:
    mapped = set(template(Names("x"))["template"]["mappings"]["properties"])
    for body in bodies("x"):
        for name, inner in members(body):
            if name == "field":
                assert inner in mapped
            if name in ("term", "range"):
                assert set(inner) <= mapped


def test_an_order_is_one_that_counts() -> None:
    """Every name of an order, and no other, asks for the counter too."""
    by_counter = {
        name: counter for name, counter in metrics._COUNTER_OF_EVENT.items() if name in metrics._ORDER_EVENTS
    }
    for known, counter in by_counter.items():
        assert counter is not None
        name = metrics.event_name(known)
        assert {"term": {"metrics": metrics.camel(counter)}} in search_queries.named(name)["bool"]["filter"]
    assert search_queries.named("Product Viewed") == {"term": {"event": "Product Viewed"}}


@pytest.mark.parametrize(
    ("first", "last", "months"),
    [
        ("2026-11-01", "2026-11-30", ["2026-11"]),
        ("2025-12-31", "2026-02-01", ["2025-12", "2026-01", "2026-02"]),
        ("9999-12-31", "9999-12-31", ["9999-12"]),
        ("0001-01-01", "0001-02-01", ["0001-01", "0001-02"]),
    ],
)
def test_a_search_goes_to_the_months_of_its_range(first: str, last: str, months: list[str]) -> None:
    path = search_queries.target("shop", date.fromisoformat(first), date.fromisoformat(last))

    assert path == "/" + ",".join(f"shop-events-{month}" for month in months) + "/_search"


def test_many_numbers_a_bucket_make_fewer_buckets_a_page() -> None:
    aggregations = {f"c{number}": search_queries.of_event("x").aggregation for number in range(30)}

    assert Walk({}, "user").page_buckets == search_queries.PAGE_BUCKETS
    assert Walk({}, "user", aggregations).page_buckets == 2_000


def test_amounts_are_added_up_beyond_what_a_long_holds() -> None:
    parts = {"value": [[9_000_000_000_000, 999_999_999], None, [9_000_000_000_000, 1]]}

    assert search_queries.amount_of(parts) == 18_000_000_000_001 * 10**9
    assert search_queries.amount_of({"value": None}) == 0
    assert json.dumps(search_queries.distinct_of({"value": [["a"], ["a"], None]}), default=sorted) == '["a"]'
