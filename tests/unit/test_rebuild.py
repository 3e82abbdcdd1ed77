"""Which months a rebuild can make anew, and in what portions it reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import rebuild
from service.rebuild import Rebuilt, first_whole_month
from service.store import Work
from tests.builders import make_settings


def first_of(now: str, days: int, zone: str = "UTC") -> str:
    settings = make_settings(raw_ttl_days=days, timezone=ZoneInfo(zone))
    calls: Any = None
    return first_whole_month(Work(calls, settings, datetime.fromisoformat(now)))


@pytest.mark.parametrize(
    ("now", "days", "zone", "month"),
    [
        # 90 days ago, and two more for clocks that are ahead and for the time it takes: 3 October.
        ("2026-12-30T00:00:00Z", 90, "UTC", "2026-11"),
        ("2026-12-28T00:00:00Z", 90, "UTC", "2026-10"),
        ("2026-12-28T00:00:01Z", 90, "UTC", "2026-11"),
        ("2026-12-27T23:00:01Z", 90, "Europe/Berlin", "2026-11"),
        ("2026-12-27T21:30:00Z", 90, "Europe/Berlin", "2026-10"),
        ("2026-12-15T00:00:00Z", 1, "UTC", "2027-01"),
        ("2026-01-31T12:00:00Z", 31, "UTC", "2026-02"),
    ],
)
def test_a_month_is_whole_when_none_of_its_raw_events_can_have_expired(
    now: str, days: int, zone: str, month: str
) -> None:
    assert first_of(now, days, zone) == month


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.integers(1, 800))  # noqa: DTZ001 - in UTC below
def test_its_first_event_expires_after_the_rebuild_and_that_of_the_month_before_may_not(
    now: datetime, days: int
) -> None:
    month = first_of(f"{now.isoformat()}Z", days)
    begins = datetime.fromisoformat(f"{month}-01")
    margin = timedelta(days=days - 2)

    assert begins + margin >= now
    assert (begins - timedelta(days=1)).replace(day=1) + margin < now


def test_the_share_is_never_more_than_the_whole() -> None:
    assert Rebuilt(events=5).share is None
    assert [Rebuilt(events=number, expected=10).share for number in (0, 5, 10, 20)] == [0, 0.5, 1, 1]


def test_items_are_read_in_portions_of_both_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "ITEMS_AT_A_TIME", 3)
    monkeypatch.setattr(rebuild, "EVENTS_AT_A_TIME", 10)
    items = [
        {"PK": {"S": "USER#u"}, "SK": {"S": str(n)}, "events": {"N": str(n)}}
        for n in (1, 1, 1, 12, 4, 4, 4, 1)
    ]

    assert [(len(part), marks) for part, marks in rebuild._parts(iter(items))] == [
        (number, set()) for number in (3, 1, 3, 1)
    ]


def test_marks_are_read_by_as_many_as_a_query_takes_and_beside_the_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuild, "IDS_PER_QUERY", 2)
    found = [
        {"PK": {"S": f"USER#{name}"}, "SK": {"S": sk}, "events": {"N": "1"}}
        for name, sk in (("a", "ALIAS"), ("u", "EVENTS#1"), ("v", "ERASED"), ("w", "ERASED"))
    ]

    assert [([item.distinct_id for item in part], marks) for part, marks in rebuild._parts(iter(found))] == [
        ([], {"a", "v"}),
        (["u"], {"w"}),
    ]
    assert list(rebuild._parts(iter([]))) == []
