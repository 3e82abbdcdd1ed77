"""How parts become rows: against brute force where there is one, for more cases than an engine has the time for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import search_queries
from service.money import DECIMALS
from service.search_answers import _first_and_returns, _reached, _share, amount
from service.search_requests import SegmentsRequest, read
from service.search_segments import _decoded, _digest, _encoded, _Place, _segment
from tests import brute_force
from tests.brute_force import Happened

NAMES = ("a", "b", "c")
TIMES = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(NAMES)), max_size=12)


def happened(events: Iterable[tuple[int, str]]) -> list[Happened]:
    """One user's, so many hours after the first."""
    began = datetime(2026, 11, 1, tzinfo=UTC)
    return [
        Happened("u-1", began + timedelta(hours=hour), date(2026, 11, 1), name, True, None, {"events": 1})
        for hour, name in sorted(events)
    ]


@given(events=TIMES, steps=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), window=st.integers(1, 8))
def test_a_funnel_is_as_deep_as_brute_force_says(
    events: list[tuple[int, str]], steps: list[str], window: int
) -> None:
    may = {name: sum(1 << number for number, step in enumerate(steps) if step == name) for name in NAMES}
    packed = sorted(hour << search_queries.STEP_BITS | may[name] for hour, name in events if may[name])

    assert _reached(packed, len(steps), window) == brute_force.depth(
        happened(events), steps, timedelta(hours=window)
    )


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [(0, 0, "0"), (0, 3, "0"), (3, 3, "1"), (1, 3, "0.3333"), (2, 3, "0.6667"), (1, 20_000, "0.0001")],
)
def test_a_share_is_rounded_half_up_to_four_digits(part: int, whole: int, share: str) -> None:
    assert _share(part, whole) == Decimal(share) == brute_force.share(part, whole)


@given(whole=st.integers(1, 10**6), part=st.integers(0, 10**6))
def test_a_share_is_that_of_decimals(whole: int, part: int) -> None:
    assert _share(min(part, whole), whole) == brute_force.share(min(part, whole), whole)


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [(5990, "EUR", "59.9"), (0, "EUR", "0"), (7, "JPY", "7"), (1, "KWD", "0.001")],
)
def test_an_amount_is_in_major_units(minor: int, currency: str, shown: str) -> None:
    assert str(amount(minor, currency)) == shown
    assert amount(minor, currency) == Decimal(minor).scaleb(-DECIMALS[currency])


NEVER = 2**63 - 1


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], (None, set())),
        ([[NEVER, "", {"2026-11-01": 5}]], (None, set())),
        ([[5, "2026-11-01", {"2026-11-01": 5}]], ("2026-11-01", set())),
        ([[5, "2026-11-01", {"2026-11-01": 6}]], ("2026-11-01", {"2026-11-01"})),
        # Of two shards, the first start is in one and a return in the other.
        ([[9, "2026-12-01", {}], [5, "2026-11-01", {}]], ("2026-11-01", set())),
        ([[NEVER, "", {"2026-12-01": 9}], [5, "2026-11-01", {}]], ("2026-11-01", {"2026-12-01"})),
        ([[9, "2026-12-01", {"2026-12-01": 9}], [5, "2026-11-01", {}]], ("2026-11-01", {"2026-12-01"})),
    ],
)
def test_returns_are_after_the_first_start_of_all_shards(parts: list[Any], expected: Any) -> None:
    assert _first_and_returns(parts) == expected


# --- segments ---------------------------------------------------------------------------------------------------------

RANGE = {"from": "2026-11-01", "to": "2026-11-30"}


def segments(**lists: Any) -> SegmentsRequest:
    return read(SegmentsRequest, RANGE | lists)


@pytest.mark.parametrize(
    ("lists", "is_of_everybody"),
    [
        ({"all": [{"event": "x"}]}, False),
        ({"all": [{"event": "x", "min": 0}]}, True),
        ({"all": [{"event": "x"}, {"metric": "orders", "max": 3}]}, False),
        ({"all": [{"metric": "orders", "max": 3}]}, True),
        ({"any": [{"event": "x"}, {"metric": "orders", "max": 3}]}, True),
        ({"any": [{"event": "x"}]}, False),
        ({"none": [{"event": "x"}]}, True),
        ({"none": [{"event": "x", "min": 0}]}, False),
        ({"all": [{"event": "x"}], "none": [{"event": "y"}]}, False),
    ],
)
def test_everybody_is_looked_at_where_somebody_with_nothing_may_hold(
    lists: Any, is_of_everybody: bool
) -> None:
    segment = _segment(segments(**lists), "EUR")

    assert segment.holds(dict.fromkeys(segment.measures, 0)) == is_of_everybody


def test_a_number_is_asked_for_once() -> None:
    twice = [
        {"metric": "revenue", "min": 1},
        {"metric": "revenue", "currency": "EUR", "max": 9},
        {"event": "purchase"},
    ]
    segment = _segment(segments(all=twice, none=[{"event": "Order Completed", "min": 5}]), "EUR")

    assert len(segment.measures) == 2


CONDITION = [{"event": "x"}]


@pytest.mark.parametrize("place", [_Place("u-1", 3, 3), _Place('ü𝔘 "\\', None, 0)])
def test_a_cursor_goes_with_its_search_whatever_the_size_of_pages(place: _Place) -> None:
    digest = _digest(segments(all=CONDITION), "EUR")
    cursor = _encoded(digest, place)

    assert _decoded(cursor, _digest(segments(all=CONDITION, limit=7, cursor="x"), "EUR")) == place
    for other in (
        _digest(segments(any=CONDITION), "EUR"),
        _digest(segments(all=CONDITION), "JPY"),
        _digest(read(SegmentsRequest, RANGE | {"to": "2026-11-29", "all": CONDITION}), "EUR"),
    ):
        with pytest.raises(Exception, match="goes with the same search"):
            _decoded(cursor, other)
