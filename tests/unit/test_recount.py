"""A day beside what its raw events come to: the numbers of both, or why they cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import days, recount
from service.days import NAMES_PER_DAY_MAX, ORDER_IDS_PER_DAY_MAX, StoredDay
from service.events import Event, Rules
from service.metrics import OTHER
from service.packing import RawEvent
from service.recount import Difference, Recounted, compared
from tests.builders import NOON, TODAY, make_event

RULES = Rules(NOON, timedelta(days=7), NOON.tzinfo, "EUR", True, None)  # type: ignore[arg-type]
EVENTS_MAX = 10_000


def raw_event(**fields: Any) -> RawEvent:
    sent = make_event(**fields)
    event = RULES.read(sent, 0, {}, may_be_large=False)
    assert isinstance(event, Event)
    return RawEvent(sent, {}, event, 0)


def by_hash(*raw: RawEvent) -> dict[bytes, RawEvent]:
    return {one.event.message_hash: one for one in raw}


def added(day: StoredDay, write: days.Addition) -> None:
    """What the write leaves in the table."""
    day.metrics.merge(replace(write.metrics, order_ids=write.new_order_ids))
    day.seen |= write.seen
    day.names |= write.new_names
    day.currencies |= write.new_currencies
    day.revision = (day.revision or 0) + 1


def counted(*raw: RawEvent, day: StoredDay | None = None) -> StoredDay:
    """A day on which these were counted, each in a write of its own, as the service counts them."""
    day = day or StoredDay(TODAY)
    for one in raw:
        admission = days.admit([one.event], day, EVENTS_MAX)
        if admission.admitted:
            added(day, days.addition(admission.admitted, day))
    return day


def moved_to(target: StoredDay, source: StoredDay) -> None:
    """A visitor's day becomes part of a user's."""
    write, full = days.moved(source, target, EVENTS_MAX)
    added(target, write)
    target.full |= full


def same(day: StoredDay) -> Recounted:
    return Recounted("u-1", TODAY, recount.SAME, len(day.seen - day.elsewhere))


RAW = st.builds(
    raw_event,
    type=st.sampled_from(["track", "track", "page"]),
    event=st.sampled_from(
        ["Order Completed", "Order Refunded", "Page Left", "Product Viewed", "Letter", "a.b[0]", OTHER]
    ),
    context=st.fixed_dictionaries({}, optional={"sessionId": st.sampled_from(["s-1", "s-2"])}),
    properties=st.fixed_dictionaries(
        {},
        optional={
            "revenue": st.integers(0, 1000),
            "currency": st.sampled_from(["USD", "JPY"]),
            "orderId": st.sampled_from(["o-1", "o-2", "o-3"]),
            "engagedSeconds": st.integers(0, 100),
        },
    ),
)


@given(st.lists(RAW, max_size=12), st.lists(RAW, max_size=5))
def test_what_was_counted_comes_to_what_is_stored(raw: list[RawEvent], others: list[RawEvent]) -> None:
    """Also beside raw events that were not counted here."""
    day = counted(*raw)

    assert compared("u-1", day, by_hash(*raw, *others)) == same(day)


@given(st.lists(RAW, max_size=8), st.lists(RAW, max_size=8), st.lists(RAW, max_size=4))
def test_so_it_does_after_a_merge(own: list[RawEvent], visits: list[RawEvent], later: list[RawEvent]) -> None:
    day = counted(*own)
    moved_to(day, counted(*visits))
    # An order is claimed for the whole shop; here, two days might both have counted one.
    counted(*later, day=day)

    assert compared("u-1", day, by_hash(*own, *visits, *later)) == same(day)


@given(
    st.lists(st.integers(0, 130), max_size=150),
    st.lists(st.integers(90, 220), max_size=150),
    st.lists(st.integers(0, 220), max_size=20),
)
def test_names_that_found_no_room_are_other_on_whichever_day(
    own: list[int], visits: list[int], later: list[int]
) -> None:
    """A name may be counted by itself on the one day and as other on the one that moved there."""

    def named(numbers: list[int]) -> list[RawEvent]:
        return [raw_event(event=f"name-{number}" if number else OTHER) for number in numbers]

    # The names of full days, so that room runs out.
    full = list(range(1, NAMES_PER_DAY_MAX - 3))
    raw = named([*full, *own]), named([*range(101, 101 + NAMES_PER_DAY_MAX - 3), *visits]), named(later)
    day = counted(*raw[0])
    moved_to(day, counted(*raw[1]))
    counted(*raw[2], day=day)

    assert OTHER in day.metrics.by_event
    assert compared("u-1", day, by_hash(*raw[0], *raw[1], *raw[2])) == same(day)


def test_an_event_that_counts_elsewhere_is_not_asked_for() -> None:
    raw = raw_event(), raw_event()
    day = counted(raw[0])
    day.seen.add(raw[1].event.message_hash)
    day.elsewhere.add(raw[1].event.message_hash)

    assert compared("u-1", day, by_hash(*raw)) == same(day)
    assert compared("u-1", day, by_hash(raw[0])) == same(day)
    assert same(day).counted == 1


def test_a_day_without_all_its_raw_events_is_incomplete() -> None:
    raw = [raw_event() for _ in range(5)]
    day = counted(*raw)
    day.metrics.counters["events"] = 7

    assert compared("u-1", day, by_hash(*raw[:3])) == Recounted("u-1", TODAY, recount.INCOMPLETE, 5, 2)
    assert compared("u-1", day, {}) == Recounted("u-1", TODAY, recount.INCOMPLETE, 5, 5)


def test_a_day_that_a_merge_has_filled_is_not_compared() -> None:
    raw = raw_event()
    day = counted(raw)
    day.full = True

    assert compared("u-1", day, {}).status == compared("u-1", day, by_hash(raw)).status == recount.FULL


ORDER = {
    "event": "Order Completed",
    "properties": {"orderId": "o-1", "revenue": 5},
    "context": {"sessionId": "s"},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("events", Difference("events", None, 4, 3)),
        ("items_sold", Difference("items_sold", None, 1, 0)),
        ("revenue", Difference("revenue_minor", "EUR", 501, 500)),
        ("refunds", Difference("refunds_minor", "USD", 1, 0)),
        ("by_event", Difference("by_event", "Letter", 2, 1)),
        ("lost", Difference("page_views", None, 0, 1)),
        ("sessions", Difference("sessions", None, 2, 1)),
        ("other session", Difference("sessions", None, 1, 1)),
        ("order", Difference("order_ids", None, 0, 1)),
    ],
)
def test_a_number_that_is_wrong_is_named_with_both_values(name: str, expected: Difference) -> None:
    raw = raw_event(**ORDER), raw_event(event="Letter"), raw_event(type="page")
    day = counted(*raw)
    stored = day.metrics
    if name in ("events", "items_sold"):
        stored.counters[name] = stored.counters.get(name, 0) + 1
    elif name == "revenue":
        stored.revenue_minor["EUR"] += 1
    elif name == "refunds":
        stored.refunds_minor["USD"] = 1
    elif name == "by_event":
        stored.by_event["Letter"] += 1
    elif name == "lost":
        del stored.counters["page_views"]
    elif name == "sessions":
        stored.sessions.add(b"wrong!")
    elif name == "other session":
        stored.sessions = {b"wrong!"}
    else:
        stored.order_ids.clear()

    assert compared("u-1", day, by_hash(*raw)) == Recounted("u-1", TODAY, recount.DIFFERENT, 3, 0, [expected])


def test_with_other_a_name_that_lost_a_count_is_still_a_difference() -> None:
    """What the name lacks would be among the others, and they have no more than they should."""
    raw = [raw_event(event="Letter"), raw_event(event="Letter"), raw_event(event=OTHER)]
    day = counted(*raw)
    day.metrics.by_event["Letter"] = 1

    found = compared("u-1", day, by_hash(*raw))
    assert (found.status, found.differences) == (recount.DIFFERENT, [Difference("by_event", OTHER, 1, 2)])


@pytest.mark.parametrize(
    ("orders", "status"), [(ORDER_IDS_PER_DAY_MAX, "same"), (ORDER_IDS_PER_DAY_MAX + 5, "same")]
)
def test_orders_of_which_not_all_ids_are_kept_are_no_difference(orders: int, status: str) -> None:
    raw = [
        raw_event(event="Order Completed", properties={"orderId": f"o-{number}"}) for number in range(orders)
    ]
    day = counted(*raw)

    assert len(day.metrics.order_ids) == ORDER_IDS_PER_DAY_MAX
    assert compared("u-1", day, by_hash(*raw)).status == status
    day.metrics.order_ids.pop()
    expected = recount.DIFFERENT if orders == ORDER_IDS_PER_DAY_MAX else recount.SAME
    assert compared("u-1", day, by_hash(*raw)).status == expected


@pytest.mark.parametrize(("sessions", "status"), [(2, recount.DIFFERENT), (3, recount.SAME)])
def test_sessions_that_found_no_room_in_a_merge_are_no_difference(
    monkeypatch: pytest.MonkeyPatch, sessions: int, status: str
) -> None:
    monkeypatch.setattr(recount, "MERGED_DAY_IDS_MAX", 2)
    raw = [raw_event(context={"sessionId": f"s-{number}"}) for number in range(sessions)]
    day = counted(*raw)
    day.metrics.sessions.pop()

    assert compared("u-1", day, by_hash(*raw)).status == status


def test_a_name_that_lost_a_count_is_named_where_there_are_no_others() -> None:
    raw = [raw_event(event="Letter"), raw_event(event="Letter")]
    day = counted(*raw)
    day.metrics.by_event["Letter"] = 1

    assert compared("u-1", day, by_hash(*raw)).differences == [Difference("by_event", "Letter", 1, 2)]


def test_a_name_that_the_day_does_not_know_is_one_of_the_others() -> None:
    raw = raw_event(event="Letter")
    day = counted(raw)
    day.names.clear()
    day.metrics.by_event.clear()

    assert compared("u-1", day, by_hash(raw)).differences == [Difference("by_event", OTHER, 0, 1)]
