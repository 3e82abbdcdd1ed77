"""What is explored: some requests under way at once."""

from __future__ import annotations

from collections.abc import Sequence

from service.models import AliasItem
from tests.explorer.processes import AFTER, LATER, OLD, U, V, erasing, merging, order, page, sent
from tests.explorer.raw_scenarios import raw_scenarios
from tests.explorer.states import A, Scenario


def scenarios() -> list[Scenario]:
    """What is explored."""
    return [*_merges(), *_imports(), *_orders(), *_erasures(), *_after_erasures(), *raw_scenarios()]


_TO_U, _TO_EITHER = frozenset({U}), frozenset({U, V})
_INTO_U = merging(A, U)
_EVENT = sent("event of a", page("m", anonymous_id=A))
_RETRY = sent("the event with both ids", page("m", anonymous_id=A, user_id=U))
_OLD_EVENT = sent("import of a", page("m", anonymous_id=A, timestamp=OLD), is_import=True)


def _merges() -> list[Scenario]:
    two = sent("two events of a", page("m", anonymous_id=A), page("n", anonymous_id=A))
    another = sent("another event of a", page("n", anonymous_id=A))
    return [
        Scenario("two ingests of one event, a merge", [_EVENT, _EVENT, _INTO_U], 1, 1, _TO_U),
        Scenario("an ingest, a merge, two crashes", [_EVENT, _INTO_U], 2, 1, _TO_U),
        Scenario("an ingest, merges to two users", [_EVENT, _INTO_U, merging(A, V)], 1, 1, _TO_EITHER),
        Scenario("an ingest, the same merge twice", [_EVENT, _INTO_U, _INTO_U], 1, 1, _TO_U),
        Scenario("an event, its retry with both ids, two crashes", [_EVENT, _RETRY], 2, 1, _TO_U),
        Scenario("an event, its retry with both ids, the same merge", [_EVENT, _RETRY, _INTO_U], 0, 1, _TO_U),
        Scenario(
            "an event, its retry with both ids, a merge to another",
            [_EVENT, _RETRY, merging(A, V)],
            1,
            1,
            _TO_EITHER,
        ),
        Scenario(
            "two events in one request, one of them again, a merge", [two, _EVENT, _INTO_U], 1, 2, _TO_U
        ),
        Scenario("two events, a merge", [_EVENT, another, _INTO_U], 1, 2, _TO_U),
    ]


def _imports() -> list[Scenario]:
    old_both = sent(
        "the import with both ids", page("m", anonymous_id=A, user_id=U, timestamp=OLD), is_import=True
    )
    return [
        Scenario("two imports of one old event, a merge", [_OLD_EVENT, _OLD_EVENT, _INTO_U], 0, 1, _TO_U),
        Scenario(
            "an import of an old event, merges to two users",
            [_OLD_EVENT, _INTO_U, merging(A, V)],
            1,
            1,
            _TO_EITHER,
        ),
        Scenario("an old event, its import with both ids, two crashes", [_OLD_EVENT, old_both], 2, 1, _TO_U),
    ]


def _orders() -> list[Scenario]:
    of_a = sent("the order of a", order("m", anonymous_id=A))
    of_u = sent("the order of u", order("n", user_id=U))
    yesterday = sent(
        "the order of v, of yesterday, and a page",
        order("n", user_id=V, timestamp="2026-11-21T12:00:00Z"),
        page("p", user_id=V, timestamp="2026-11-21T12:00:00Z"),
    )
    both = sent("the order with both ids", order("m", anonymous_id=A, user_id=U))
    anyone = frozenset({A, U, V})
    return [
        Scenario("an order of two visitors, two crashes", [of_a, of_u], 2, 1, anyone),
        Scenario("an order of two visitors, a merge", [of_a, of_u, _INTO_U], 1, 1, anyone),
        Scenario(
            "an order of two days, an event beside it, its retry", [of_u, yesterday, of_u], 1, 2, anyone
        ),
        Scenario(
            "an order, its retry with both ids, a merge to another", [of_a, both, merging(A, V)], 0, 1, anyone
        ),
    ]


def _none_of_erased(aliases: Sequence[AliasItem]) -> range:
    """Nothing of a visitor who was the user's. Of one who became theirs afterwards, what had arrived until then."""
    if any(alias.erased_at for alias in aliases):
        return range(1)
    return range(2) if aliases else range(1, 2)


def _all_or_erased(aliases: Sequence[AliasItem]) -> range:
    """Nothing of a visitor who was the user's, all of one who became theirs afterwards, or never."""
    return range(1) if any(alias.erased_at for alias in aliases) else range(1, 2)


def _none(_: Sequence[AliasItem]) -> range:
    return range(1)


def _at_most_one(_: Sequence[AliasItem]) -> range:
    return range(2)


def _erasures() -> list[Scenario]:
    into_u = merging(A, U, is_timed=True)
    by_user = sent("event of u", page("m", user_id=U))
    old_of_user = sent("import of u", page("m", user_id=U, timestamp=OLD), is_import=True)
    anyone, u_too = frozenset({A, U, V}), frozenset({A, U})
    erase_u = erasing(U)
    later = sent("later event of a", page("l", anonymous_id=A, timestamp=LATER), seconds=AFTER)
    return [
        Scenario(
            "an ingest, a merge, an erasure", [_EVENT, into_u, erase_u], 0, 1, u_too, [], _none_of_erased
        ),
        Scenario("a merge, an erasure, a crash", [into_u, erase_u], 1, 1, u_too, [_EVENT], _all_or_erased),
        Scenario(
            "a merge, an erasure, a later event",
            [into_u, erase_u, later],
            0,
            1,
            anyone,
            [],
            _at_most_one,
        ),
        Scenario("two erasures", [erasing(A), erasing(A)], 0, 1, u_too, [_EVENT], _none),
        Scenario(
            "an erasure, a late retry, two crashes", [erase_u, _EVENT], 2, 1, u_too, [_EVENT, _INTO_U], _none
        ),
        Scenario("an event of the user, an erasure, two crashes", [by_user, erase_u], 2, 1, u_too, [], _none),
        Scenario(
            "an import of the user, an erasure, two crashes", [old_of_user, erase_u], 2, 1, u_too, [], _none
        ),
        Scenario(
            "an import of a merged visitor, an erasure", [_OLD_EVENT, erase_u], 1, 1, u_too, [_INTO_U], _none
        ),
        Scenario(
            "an import of a visitor, an erasure, two crashes",
            [_OLD_EVENT, erasing(A)],
            2,
            1,
            u_too,
            [],
            _none,
        ),
        Scenario(
            "an event of a visitor, an erasure, a merge",
            [_EVENT, erasing(A), into_u],
            0,
            1,
            anyone,
            [],
            _at_most_one,
        ),
        Scenario(
            "a later event twice, an erasure",
            [later, later, erase_u],
            0,
            1,
            u_too,
            [_INTO_U],
            _at_most_one,
        ),
    ]


def _after_erasures() -> list[Scenario]:
    """The erasure is over; what is later counts once, what was before not at all."""
    later = sent("later event of a", page("l", anonymous_id=A, timestamp=LATER), seconds=AFTER)
    both = sent(
        "later event with both ids", page("l", anonymous_id=A, user_id=U, timestamp=LATER), is_timed=True
    )
    back, to_v = merging(A, U, is_timed=True), merging(A, V, is_timed=True)
    before = [_EVENT, _INTO_U, erasing(U)]
    anyone = frozenset({A, U, V})
    return [
        Scenario("after an erasure, a later event twice", [later, later], 1, 1, anyone, before),
        Scenario(
            "after an erasure, a later event twice, a merge", [later, later, back], 0, 1, anyone, before
        ),
        Scenario(
            "after an erasure, a later event twice, another's merge",
            [later, later, to_v],
            0,
            1,
            anyone,
            before,
        ),
        Scenario(
            "after an erasure, a later event, its retry with both ids", [later, both], 1, 1, anyone, before
        ),
        Scenario(
            "after an erasure, a late retry, another's merge", [_EVENT, to_v], 1, 1, anyone, before, _none
        ),
        Scenario("after an erasure, a late retry, a merge", [_EVENT, back], 1, 1, anyone, before, _none),
        Scenario(
            "after an erasure, the late retry with both ids", [_RETRY, _EVENT], 1, 1, anyone, before, _none
        ),
    ]
