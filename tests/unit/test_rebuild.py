"""Which months a rebuild can make anew, in what portions it reads, and how often it tries one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import rebuild
from service.indexer import Indexed
from service.opensearch import EngineUnavailableError
from service.problems import Unavailable
from service.rebuild import TRIES_MAX, OvertakenError, Rebuild, Rebuilt, first_whole_month
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


# --- a portion, until it is done ------------------------------------------------------------------------------------


class Told:
    """An indexer that answers what it is told to, the last of it for ever, and remembers what it was asked."""

    def __init__(self, *answers: Indexed | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[list[str], set[str]]] = []

    def index_items(self, items: Sequence[str], marks: Collection[str] = ()) -> Indexed:
        self.asked.append((list(items), set(marks)))
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


ABC = ["a", "b", "c"]


def tried(told: Told, pauses: list[float]) -> tuple[int, int]:
    nothing: Any = None
    indexer: Any = told
    items: Any = ABC
    return Rebuild(nothing, nothing, pause=pauses.append)._until_done(indexer, items, {"m"})


def test_what_could_not_be_done_is_tried_again_alone_and_counted_once() -> None:
    told, pauses = Told(Indexed(events=3, failed=1, undone={1}), Indexed(events=1, failed=1)), list[float]()

    assert tried(told, pauses) == (3, 2)
    assert told.asked == [(ABC, {"m"}), (["b"], {"m"})]
    assert pauses == [10.0]


def test_positions_are_those_of_what_was_tried_last() -> None:
    told = Told(Indexed(events=3, undone={2, 0}), Indexed(events=2, undone={1}), Indexed(events=1))

    assert tried(told, []) == (3, 0)
    assert [items for items, _ in told.asked] == [ABC, ["a", "c"], ["c"]]


def test_an_engine_that_comes_back_at_the_last_try_is_enough() -> None:
    told = Told(*[EngineUnavailableError()] * (TRIES_MAX - 1), Indexed(events=3))
    pauses: list[float] = []

    assert tried(told, pauses) == (3, 0)
    assert told.asked == [(ABC, {"m"})] * TRIES_MAX
    assert pauses == [10.0] * (TRIES_MAX - 1)


@pytest.mark.parametrize(
    "answer", [EngineUnavailableError(), Indexed(events=3, undone={0})], ids=["away", "full"]
)
def test_an_engine_that_stays_away_ends_it(answer: Indexed | Exception) -> None:
    """At the last try there is nothing to wait for."""
    told, pauses = Told(answer), list[float]()

    with pytest.raises(Unavailable):
        tried(told, pauses)
    assert len(told.asked) == TRIES_MAX
    assert pauses == [10.0] * (TRIES_MAX - 1)


@pytest.mark.parametrize(
    "error",
    [Unavailable("Another table's.", code="misconfigured"), OvertakenError()],
    ids=["misconfigured", "overtaken"],
)
def test_what_no_patience_mends_ends_it_at_once(error: Exception) -> None:
    told, pauses = Told(error), list[float]()

    with pytest.raises(type(error)) as raised:
        tried(told, pauses)
    assert raised.value is error
    assert (len(told.asked), pauses) == (1, [])
