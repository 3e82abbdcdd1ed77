"""What a stored day lets in, and what a merge moves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import days
from service.days import StoredDay
from service.events import Event
from service.metrics import Amount, Contribution, Metrics
from tests.builders import TODAY

CODES = ["AED", "AUD", "CAD", "CHF", "CNY", "EUR", "GBP", "JPY", "SEK", "USD"]


def message_hash(number: int) -> bytes:
    return number.to_bytes(6, "big")


def event(
    number: int,
    name: str | None = None,
    revenue: Amount | None = None,
    order_id: str | None = None,
) -> Event:
    """The event of so many milliseconds after 1970, and one more."""
    part = Contribution({"events": 1}, revenue=revenue, name=name, order_id=order_id)
    return Event(
        number, "track", f"m-{number}", message_hash(number), "u-1", None, None, TODAY, part, number + 1
    )


def stored(seen: int = 0, **fields: Any) -> StoredDay:
    return StoredDay(TODAY, seen={message_hash(number) for number in range(seen)}, **fields)


def indexes(events: list[Event]) -> list[int]:
    return [event.index for event in events]


def test_what_was_seen_is_a_duplicate_and_the_rest_is_admitted() -> None:
    result = days.admit([event(1), event(5), event(2)], stored(seen=3), 100)

    assert indexes(result.duplicates) == [1, 2]
    assert indexes(result.admitted) == [5]
    assert result.rejections == []


def test_duplicates_are_decided_before_room() -> None:
    result = days.admit([event(0), event(9)], stored(seen=4), 4)

    assert indexes(result.duplicates) == [0]
    assert [(rejection.index, rejection.code) for rejection in result.rejections] == [(9, "day_full")]


def test_a_full_day_still_knows_its_duplicates() -> None:
    result = days.admit([event(0), event(9)], stored(seen=1, full=True), 100)

    assert (indexes(result.duplicates), indexes(result.admitted)) == ([0], [])
    assert [rejection.code for rejection in result.rejections] == ["day_full"]


def test_a_day_takes_events_up_to_the_cap() -> None:
    result = days.admit([event(number) for number in range(10, 15)], stored(seen=7), 10)

    assert indexes(result.admitted) == [10, 11, 12]
    assert [rejection.index for rejection in result.rejections] == [13, 14]


def test_a_merged_day_over_the_cap_takes_nothing_more() -> None:
    result = days.admit([event(99)], stored(seen=20), 10)

    assert [rejection.code for rejection in result.rejections] == ["day_full"]


def test_a_day_takes_eight_currencies() -> None:
    events = [event(number, revenue=Amount(code, 1)) for number, code in enumerate(CODES)]
    events.append(event(50, revenue=Amount(CODES[0], 1)))
    result = days.admit(events, stored(), 100)

    assert indexes(result.admitted) == [*range(8), 50]
    assert [(rejection.index, rejection.code) for rejection in result.rejections] == [
        (8, "day_full"),
        (9, "day_full"),
    ]


def test_currencies_already_there_count_towards_the_eight() -> None:
    day = stored(currencies=set(CODES[:8]))
    result = days.admit(
        [event(1, revenue=Amount(CODES[0], 1)), event(2, revenue=Amount(CODES[9], 1)), event(3)], day, 100
    )

    assert indexes(result.admitted) == [1, 3]
    assert [rejection.index for rejection in result.rejections] == [2]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.none() | st.sampled_from(CODES)), unique_by=lambda pair: pair[0]
    ),
    st.integers(0, 15),
    st.integers(1, 20),
    st.sets(st.sampled_from(CODES), max_size=8),
    st.booleans(),
)
def test_every_event_is_decided_once_and_the_day_stays_within_its_bounds(
    sent: list[tuple[int, str | None]], seen: int, events_max: int, currencies: set[str], full: bool
) -> None:
    events = [event(number, revenue=Amount(code, 1) if code else None) for number, code in sent]
    day = stored(seen=seen, currencies=currencies, full=full)
    result = days.admit(events, day, events_max)
    write = days.addition(result.admitted, day)

    decided = indexes(result.admitted) + indexes(result.duplicates)
    decided += [rejection.index for rejection in result.rejections]
    assert sorted(decided) == sorted(number for number, _ in sent)
    assert {number for number, _ in sent if number < seen} == set(indexes(result.duplicates))
    assert not result.admitted or len(day.seen | write.seen) <= events_max
    assert len(day.currencies | write.new_currencies) <= 8
    assert not (full and result.admitted)


def test_the_first_hundred_names_are_kept_and_the_rest_is_other() -> None:
    day = stored(names={f"old {number}" for number in range(98)})
    events = [
        event(number, name)
        for number, name in enumerate(["old 5", "new 1", "new 2", "new 3", "new 1", "new 4"])
    ]
    write = days.addition(events, day)

    assert write.metrics.by_event == {"old 5": 1, "new 1": 2, "new 2": 1, "other": 2}
    assert write.new_names == {"new 1", "new 2"}


def test_an_event_called_other_takes_no_room() -> None:
    write = days.addition([event(1, "other"), event(2, "x")], stored(names={str(n) for n in range(100)}))

    assert write.metrics.by_event == {"other": 2}
    assert write.new_names == set()


@given(
    st.lists(st.integers(0, 150).map(str), max_size=90), st.sets(st.integers(0, 150).map(str), max_size=100)
)
def test_folding_names_keeps_the_bound_and_loses_no_event(sent: list[str], names: set[str]) -> None:
    write = days.addition([event(number, name) for number, name in enumerate(sent)], stored(names=names))

    assert len(sent) == sum(write.metrics.by_event.values())
    assert len(names | write.new_names) <= 100
    assert not names & write.new_names
    assert set(write.metrics.by_event) <= names | write.new_names | {"other"}
    assert all(sent.count(name) == count for name, count in write.metrics.by_event.items() if name != "other")
    if len(names | set(sent)) <= 100:
        assert "other" not in write.metrics.by_event


def test_an_addition_sums_what_was_admitted() -> None:
    write = days.addition(
        [event(1, "a", Amount("EUR", 5)), event(2, "a", Amount("EUR", 7))], stored(currencies={"USD"})
    )

    assert write.metrics.counters == {"events": 2}
    assert write.metrics.revenue_minor == {"EUR": 12}
    assert write.seen == {message_hash(1), message_hash(2)}
    assert write.new_currencies == {"EUR"}


def source_day(events: int, **fields: Any) -> StoredDay:
    day = stored(seen=events, **fields)
    day.metrics.counters["events"] = events
    return day


def target_day(events: int, **fields: Any) -> StoredDay:
    day = StoredDay(TODAY, seen={message_hash(10_000 + number) for number in range(events)}, **fields)
    day.metrics.counters["events"] = events
    return day


def test_a_merge_takes_counters_and_ids() -> None:
    source = source_day(3, names={"a"}, currencies={"EUR"})
    source.metrics.by_event["a"] = 2
    source.metrics.revenue_minor["EUR"] = 500
    source.metrics.sessions.add(b"s")
    write, is_full = days.moved(source, target_day(2, currencies={"USD"}), 10)

    assert not is_full
    assert source.metrics == write.metrics
    assert source.seen == write.seen
    assert (write.new_names, write.new_currencies) == ({"a"}, {"EUR"})


def test_a_merge_takes_a_day_to_five_times_the_cap_and_marks_it_full_beyond() -> None:
    write, is_full = days.moved(source_day(10), target_day(40), 10)
    assert not is_full
    assert len(write.seen) == 10

    write, is_full = days.moved(source_day(11), target_day(40), 10)
    assert is_full
    assert write.seen == set()
    assert write.metrics.counters == {"events": 11}


def test_ids_that_both_days_have_need_no_room() -> None:
    source = source_day(10)
    target = StoredDay(TODAY, seen=source.seen | {message_hash(20_000 + number) for number in range(40)})
    _, is_full = days.moved(source, target, 10)

    assert not is_full


def test_a_full_day_stays_full_whichever_side_it_is_on() -> None:
    for source, target in (
        (source_day(1, full=True), target_day(1)),
        (source_day(1), target_day(1, full=True)),
    ):
        write, is_full = days.moved(source, target, 10)

        assert is_full
        assert (write.seen, write.metrics.counters) == (set(), {"events": 1})


def test_a_merge_folds_the_names_that_find_no_room() -> None:
    source = source_day(3)
    source.metrics.by_event = {"kept": 1, "new": 2, "other": 4}
    target = target_day(1, names={"kept", *(f"name {number}" for number in range(99))})
    write, _ = days.moved(source, target, 10)

    assert write.metrics.by_event == {"kept": 1, "other": 6}


def test_a_merge_changes_neither_of_the_days_as_read() -> None:
    source, target = source_day(3), target_day(1, names={str(number) for number in range(100)})
    source.metrics.by_event = {"new": 2}
    days.moved(source, target, 10)

    assert source.metrics == Metrics(counters={"events": 3}, by_event={"new": 2})
    assert target.metrics == Metrics(counters={"events": 1})


# --- orders ----------------------------------------------------------------------------------------------------------


def test_an_order_that_was_claimed_or_comes_twice_is_a_duplicate() -> None:
    events = [event(number, order_id=order_id) for number, order_id in enumerate(["a", "b", "b", None, None])]
    result = days.admit(events, stored(), 100, orders={"a"})

    assert indexes(result.duplicates) == [0, 2]
    assert indexes(result.admitted) == [1, 3, 4]


def test_a_refused_order_does_not_stand_in_for_the_next_one() -> None:
    currencies = {f"C{number}" for number in range(8)}
    events = [event(1, revenue=Amount("EUR", 1), order_id="a"), event(2, order_id="a")]
    result = days.admit(events, stored(currencies=currencies), 100)

    assert [rejection.code for rejection in result.rejections] == ["day_full"]
    assert indexes(result.admitted) == [2]


def test_the_first_hundred_order_ids_are_kept_and_every_order_counts() -> None:
    day = stored(metrics=Metrics(order_ids={f"o-{number:03}" for number in range(95)}))
    write = days.addition([event(number, order_id=f"n-{number:02}") for number in range(20)], day)

    assert write.new_order_ids == {f"n-{number:02}" for number in range(5)}
    assert write.metrics.counters == {"events": 20}
    assert days.addition([event(1, order_id="o-001")], day).new_order_ids == set()


def test_a_merge_keeps_as_many_order_ids_as_find_room() -> None:
    source, target = (
        stored(metrics=Metrics(order_ids={f"{name}-{number:02}" for number in range(60)})) for name in "st"
    )
    write, _ = days.moved(source, target, 100)

    assert write.new_order_ids == {f"s-{number:02}" for number in range(40)}


# --- erasures --------------------------------------------------------------------------------------------------------


def test_events_until_an_erasure_are_refused_and_later_ones_are_not() -> None:
    for result in (
        days.admit([event(7), event(8), event(9)], stored(erased_at=9), 100),
        days.admit([event(7), event(8), event(9)], stored(erased_at=3), 100, erased_at=9),
    ):
        assert [(rejection.index, rejection.code) for rejection in result.rejections] == [
            (7, "erased"),
            (8, "erased"),
        ]
        assert indexes(result.admitted) == [9]


def test_what_was_counted_since_stays_a_duplicate_whatever_its_time() -> None:
    result = days.admit([event(0)], stored(seen=1, erased_at=100), 100)

    assert (indexes(result.duplicates), result.rejections) == ([0], [])


def test_an_erasure_of_either_day_refuses_what_may_have_been_there() -> None:
    for own, other in ((stored(), stored(erased_at=9)), (stored(erased_at=9), stored())):
        result = days.admit_beside([event(8), event(9)], own, other, 100)

        assert [rejection.code for rejection in result.rejections] == ["erased"]
        assert indexes(result.admitted) == [9]


def test_of_each_duplicate_it_is_said_which_day_has_counted_it() -> None:
    """One that neither has is known to the other day alone, as one that counted where it no longer is known."""
    own = stored(seen=1)
    other = stored(seen=3, elsewhere={message_hash(2)})
    result = days.admit_beside([event(0), event(1), event(2)], own, other, 100)

    assert indexes(result.duplicates) == [0, 1, 2]
    assert (indexes(result.seen), indexes(result.seen_beside)) == ([0], [1])


def test_a_refund_in_a_ninth_currency_finds_no_room_either() -> None:
    refund = event(1)
    assert refund.part is not None
    refund.part.refund = Amount("USD", 100)
    result = days.admit([refund], stored(currencies=set(CODES[:8])), 100)

    assert [rejection.code for rejection in result.rejections] == ["day_full"]


def test_a_day_that_counts_none_any_more_need_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes to it later is refused: it holds as many as it may."""
    monkeypatch.setattr(days, "ELSEWHERE_IDS_MAX", 2)
    other = stored(seen=5, elsewhere={message_hash(0), message_hash(1)})

    assert indexes(days.admit_beside([event(9)], stored(), other, 5).admitted) == [9]
    assert days.admit_beside([event(9)], stored(), other, 6).admitted == []


def test_as_many_sessions_as_a_merged_day_may_hold_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "MERGED_DAY_IDS_MAX", 3)
    source, target = stored(seen=1), stored()
    source.metrics.sessions, target.metrics.sessions = {b"a", b"b"}, {b"c"}

    assert days.moved(source, target, 100)[0].metrics.sessions == {b"a", b"b"}
    target.metrics.sessions.add(b"d")
    assert days.moved(source, target, 100)[0].metrics.sessions == set()


def test_a_day_with_more_order_ids_than_it_may_have_gets_no_more() -> None:
    day = stored()
    day.metrics.order_ids = {f"o-{number}" for number in range(days.ORDER_IDS_PER_DAY_MAX + 1)}
    new = event(1, order_id="new-1"), event(2, order_id="new-2")

    assert days.addition(new, day).new_order_ids == set()
