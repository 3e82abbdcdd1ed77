"""What is explored with raw events kept: fewer requests at once, as each makes a call more."""

from __future__ import annotations

from tests.explorer.processes import LATER, OLD, U, V, erasing, merging, order, page, sent
from tests.explorer.states import A, Process, Scenario

# Less than a day before the other, so that the two could lie in one item.
YESTERDAY = "2026-11-21T18:00:00Z"
_ANYONE = frozenset({A, U, V})
_EVENT = sent("event of a", page("m", anonymous_id=A))
_RETRY = sent("the event with both ids", page("m", anonymous_id=A, user_id=U))
_TIMED = sent("event of a", page("m", anonymous_id=A), is_timed=True)
_INTO_U, _INTO_V = merging(A, U), merging(A, V)


def raw_scenarios() -> list[Scenario]:
    """Each named so that --only raw finds it."""
    return [*_counted(), *_orders(), *_erased(), *_after_erasures()]


def _scenario(
    name: str, processes: list[Process], faults: int, *prelude: Process, at_most: int = -1
) -> Scenario:
    """In which each message sent counts once, or so many at most."""
    sent_ids = {message for process in [*prelude, *processes] for message in process.messages}
    counted = None if at_most < 0 else lambda _: range(at_most + 1)
    return Scenario(f"raw: {name}", processes, faults, len(sent_ids), _ANYONE, list(prelude), counted, True)


def _counted() -> list[Scenario]:
    old = sent("import of a", page("m", anonymous_id=A, timestamp=OLD), is_import=True)
    two = sent("two events of a", page("m", anonymous_id=A), page("n", anonymous_id=A))
    return [
        _scenario("an event twice, a crash", [_TIMED, _TIMED], 1),
        _scenario("two events in one request, a merge, a crash", [two, _INTO_U], 1),
        _scenario("an event, its retry with both ids, a crash", [_EVENT, _RETRY], 1),
        _scenario("an event with both ids twice", [_RETRY, _RETRY], 0),
        _scenario("an event, its retry with both ids, another's visitor", [_EVENT, _RETRY], 2, _INTO_V),
        _scenario("an event, its retry with both ids, another's merge", [_EVENT, _RETRY, _INTO_V], 0),
        _scenario("an import of an old event, a merge, a crash", [old, _INTO_U], 1),
    ]


def _orders() -> list[Scenario]:
    of_a = sent("the order of a", order("m", anonymous_id=A))
    of_u = sent("the order of u", order("n", user_id=U))
    both = sent("the order of a twice in a request", order("m", anonymous_id=A), order("n", anonymous_id=A))
    return [
        _scenario_of_one_order("an order of two visitors, two crashes", [of_a, of_u], 2),
        _scenario_of_one_order("an order, a merge, a crash", [of_a, _INTO_U], 1),
        _scenario_of_one_order(
            "an order twice, by requests of one and of two",
            [sent("the order of a again", order("n", anonymous_id=A)), both],
            1,
        ),
    ]


def _scenario_of_one_order(name: str, processes: list[Process], faults: int) -> Scenario:
    return Scenario(f"raw: {name}", processes, faults, 1, _ANYONE, has_raw_events=True)


def _erased() -> list[Scenario]:
    of_user = sent("event of u", page("m", user_id=U))
    old = sent("import of u", page("m", user_id=U, timestamp=OLD), is_import=True)
    # It reads the alias first, so that there may be an erasure between its clock and its write.
    of_a = sent("event of a, dated ahead", page("l", anonymous_id=A, timestamp=LATER), is_timed=True)
    ahead = sent("event of u, dated ahead", page("l", user_id=U, timestamp=LATER), is_timed=True)
    two_days = sent(
        "events of u of two days",
        page("m", user_id=U, timestamp=YESTERDAY),
        page("l", user_id=U, timestamp=LATER),
        is_timed=True,
    )
    erase_u = erasing(U)
    return [
        _scenario("an event of the user, an erasure, a crash", [of_user, erase_u], 1, at_most=0),
        _scenario(
            "an event of a merged visitor, an erasure, a crash", [_EVENT, erase_u], 1, _INTO_U, at_most=0
        ),
        _scenario("an import of the user, an erasure, a crash", [old, erase_u], 1, at_most=0),
        _scenario("a retry with both ids, an erasure", [_RETRY, erase_u], 0, _EVENT, at_most=1),
        _scenario("a merge, an erasure", [merging(A, U, is_timed=True), erase_u], 0, _EVENT, at_most=1),
        _scenario("an event of the user dated ahead, an erasure, a crash", [ahead, erase_u], 1, at_most=1),
        _scenario("an event of a visitor dated ahead, an erasure", [of_a, erasing(A)], 0, at_most=1),
        _scenario("events of two days, an erasure", [two_days, erase_u], 0, at_most=1),
    ]


def _after_erasures() -> list[Scenario]:
    """Of a visitor who was somebody's."""
    later = sent("later event of a", page("l", anonymous_id=A, timestamp=LATER), seconds=30)
    before = (_EVENT, _INTO_U, erasing(U))
    to_v = merging(A, V, is_timed=True)
    return [
        _scenario("after an erasure, a late retry, another's merge", [_EVENT, to_v], 1, *before, at_most=0),
        _scenario(
            "after an erasure, a late retry and a later event", [_EVENT, later, to_v], 0, *before, at_most=1
        ),
    ]
