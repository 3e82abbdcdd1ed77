"""The grammar of searches. What it refuses, and in which words: tests/contract/test_search.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from service import metrics
from service.problems import InvalidRequest
from service.search_requests import (
    BreakdownsRequest,
    FunnelsRequest,
    MetricCondition,
    RetentionRequest,
    SegmentsRequest,
    TimeseriesRequest,
    read,
)
from service.wire import parsed

RANGE = {"from": "2026-11-01", "to": "2026-11-30"}
MODELS: dict[type[BaseModel], dict[str, Any]] = {
    SegmentsRequest: RANGE | {"all": [{"event": "x"}, {"metric": "revenue", "min": 1}]},
    FunnelsRequest: RANGE | {"steps": ["x", "y"]},
    BreakdownsRequest: RANGE | {"by": "event", "metric": "revenue", "currency": "EUR"},
    TimeseriesRequest: RANGE | {"metric": "events", "interval": "day"},
    RetentionRequest: RANGE | {"startEvent": "x", "returnEvent": "y", "unit": "day"},
}


def metric(text: str) -> MetricCondition:
    condition = parsed(text.encode())
    (found,) = read(SegmentsRequest, RANGE | {"all": [condition]}).all
    assert isinstance(found, MetricCondition)
    return found


def test_names_are_those_that_events_are_searched_by() -> None:
    steps = ["purchase", "ORDER COMPLETED", "view_item", "Ordered", "ordered", "Page Viewed"]
    asked = read(FunnelsRequest, RANGE | {"steps": steps})

    assert asked.steps == [
        "Order Completed",
        "Order Completed",
        "Product Viewed",
        "Ordered",
        "ordered",
        "Page Viewed",
    ]
    assert asked.window_hours == 168


def test_what_is_left_out() -> None:
    asked = read(SegmentsRequest, RANGE | {"none": [{"event": "x"}]})

    assert (asked.all, asked.any, asked.limit, asked.cursor) == ([], [], 100, None)
    (condition,) = asked.none
    assert (condition.least, condition.most) == (1, None)
    assert read(BreakdownsRequest, RANGE | {"by": "day", "metric": "users"}).limit == 20


@pytest.mark.parametrize("name", [*metrics.COUNTERS, "sessions", "revenue", "refunds"])
def test_every_metric_of_a_range_query_can_be_a_condition(name: str) -> None:
    words = name.split("_")
    camel = words[0] + "".join(word.capitalize() for word in words[1:])

    assert metric(f'{{"metric": "{camel}", "min": 1}}').metric == camel


@pytest.mark.parametrize(
    ("bounds", "decimals", "expected"),
    [
        ('"min": 100', 2, (10_000, None)),
        ('"min": 59.9, "max": 59.901', 2, (5_990, 5_990)),
        ('"min": 0.005', 2, (1, None)),
        ('"min": 0.5', 0, (1, None)),
        ('"max": 0.5', 0, (0, 0)),
        ('"max": 999999999999999999.999', 3, None),
        ('"max": 999999999999999.99999999999999999999', 4, (0, 9_999_999_999_999_999_999)),
        ('"min": 1e3', 2, (100_000, None)),
        ('"min": 0', 2, (0, None)),
    ],
)
def test_bounds_of_money_are_exact(bounds: str, decimals: int, expected: Any) -> None:
    found = metric(f'{{"metric": "revenue", {bounds}}}').bounds(decimals)

    assert found == (expected or (0, 999_999_999_999_999_999_999))


@given(
    least=st.decimals(0, 10**18, allow_nan=False, places=6),
    value=st.integers(0, 10**22),
    decimals=st.integers(0, 4),
)
def test_a_bound_in_minor_units_holds_for_the_same_amounts(least: Decimal, value: int, decimals: int) -> None:
    (condition,) = read(
        SegmentsRequest, RANGE | {"all": [{"metric": "revenue", "min": least, "max": 10**18}]}
    ).all
    assert isinstance(condition, MetricCondition)
    whole, _ = condition.bounds(decimals)

    # As whole numbers of millionths.
    assert (value >= whole) == (value * 10 ** (6 - decimals) >= int(least.scaleb(6)))


@pytest.mark.parametrize(
    "number", ["1e400", "1" + "0" * 5000, "1e999999999999999999999", "-1", "1e19", '"x"']
)
def test_no_number_is_too_large_to_be_refused(number: str) -> None:
    for field in ('"metric": "revenue", "min"', '"event": "x", "min"'):
        condition = parsed(f"{{{field}: {number}}}".encode())
        with pytest.raises(InvalidRequest, match=r"all\[0\]\.min is a"):
            read(SegmentsRequest, RANGE | {"all": [condition]})


@pytest.mark.parametrize("model", MODELS)
def test_a_range_has_400_days(model: type[BaseModel]) -> None:
    read(model, MODELS[model] | {"from": "2026-01-01", "to": "2027-02-04"})
    with pytest.raises(InvalidRequest) as refused:
        read(model, MODELS[model] | {"from": "2026-01-01", "to": "2027-02-05"})
    assert refused.value.code == "invalid_range"


@pytest.mark.parametrize("first", ["0001-01-01", "0001-12-31", "9999-01-01", "9999-12-31"])
def test_hours_are_of_years_with_days_around_them(first: str) -> None:
    hourly = MODELS[TimeseriesRequest] | {"interval": "hour"}
    with pytest.raises(InvalidRequest, match="2 to 9998") as refused:
        read(TimeseriesRequest, hourly | {"from": first, "to": first})
    assert refused.value.code == "invalid_range"
    for model, document in MODELS.items():
        read(model, document | {"from": first, "to": first})
    read(TimeseriesRequest, hourly | {"from": "0002-01-01", "to": "0002-02-10"})
    read(TimeseriesRequest, hourly | {"from": "9998-11-21", "to": "9998-12-31"})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.text()
    | st.sampled_from(["event", "EUR", "day"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["event", "metric", "min", "max", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = sorted(
    {field for document in MODELS.values() for field in document} | {"any", "none", "limit", "cursor", "x"}
)


@pytest.mark.parametrize("model", MODELS)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
def test_whatever_is_sent_is_read_or_refused(model: type[BaseModel], changes: dict[str, Any]) -> None:
    said = "."
    try:
        read(model, MODELS[model] | changes)
    except InvalidRequest as refused:
        said = refused.detail
    assert said.endswith(".")
    assert len(said) < 600
    assert "<" not in said
