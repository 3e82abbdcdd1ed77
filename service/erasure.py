"""Gone when erased: the protocol. Nothing else knows its order.

1. The mark of the id says when, and that it is under way, with a PENDING row in the same transaction: no merge into a
   user begins from then on. Its time is later than that of every merge into the user.
2. Each anonymous id of a user: its days, then, in one transaction, its alias and the way back to it. A merge that is
   still under way meets a fence and ends there; what it moved before lies on the user's own days.
3. Only then the user's own days, so that nothing moves in behind.
4. The mark says that it is done, and the PENDING row goes.

Raw events of before go with the days of their id. What a request under way puts beside them afterwards is removed once
no such request can be left: a PENDING row of each id stays behind for the sweep, where raw events are kept.

A day on which an event may still arrive becomes a fence: events of before the erasure are rejected there, whenever
they arrive, and new ones count. The rest is deleted; imports, which alone reach such days, ask for the mark. Every step
can be repeated, and those that are not fences ask that the mark still says so: a process that was overtaken does no
harm. Fences and marks hold nothing but the time, and expire when no event of before can arrive any more.
(tests/explorer tries every interleaving.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pynamodb.expressions.condition import Condition

from . import identities, ids, keys, raw_events, store
from .dynamodb import ConditionFailedError, TransactionFailedError
from .events import epoch_ms
from .identities import Alias
from .models import (
    AliasItem,
    AllOf,
    DayItem,
    ErasedBefore,
    MarkItem,
    PendingItem,
    Raw,
    check_schema,
    erased_at_of,
)
from .problems import IdentityConflict, Unavailable
from .settings import AGE_DAYS_MAX
from .store import KEEP_SCHEMA, ROUNDS_MAX, Work

ERASURE = "erasure"
LEFTOVERS = "leftovers"
# A merge under way may have begun on the day before, when its window began a day earlier.
_MORE_DAYS = (timedelta(days=-1), timedelta(days=1))
# A transaction is about 4 MB of items at most, and a day is of up to 400 KB.
_DELETES_MAX = 9


class _OvertakenError(Exception):
    """The mark no longer says that this erasure is under way; `mark` is what it says."""

    def __init__(self, mark: Raw) -> None:
        super().__init__("overtaken")
        self.mark = mark


@dataclass(slots=True)
class Erased:
    """What a call removed. `erased_at` is in epoch milliseconds."""

    erased_at: int
    anonymous_ids: int = 0
    days: int = 0
    raw_events: int = 0


def erase(work: Work, distinct_id: str) -> Erased:
    """Remove everything held on a user, or on an anonymous visitor who is nobody's.

    One that is under way is ended first. Raises IdentityConflict for an anonymous id that belongs to a user;
    Unavailable when it could not be ended now, and then the same call, the next merge into the user or the sweep goes
    on where this stopped.
    """
    total = Erased(0)
    for _ in range(ROUNDS_MAX):
        mark = work.calls.get(keys.mark_key(distinct_id), is_consistent=True) or {}
        check_schema(mark)
        if AliasItem.user_id.attr_name in mark:
            raise IdentityConflict("The anonymous id belongs to a user. Erase the user.")
        try:
            is_ended_first = _is_erasing(mark)
            erased_at = erased_at_of(mark) if is_ended_first else _begun(work, distinct_id, mark)
        except TransactionFailedError:
            continue  # Somebody else was quicker.
        erased = _carried_out(work, distinct_id, erased_at)
        total = Erased(
            erased.erased_at,
            total.anonymous_ids + erased.anonymous_ids,
            total.days + erased.days,
            total.raw_events + erased.raw_events,
        )
        if not is_ended_first:
            return total
    raise Unavailable


def resume(work: Work, distinct_id: str) -> Erased | None:
    """End an erasure that is under way; None when none is."""
    mark = work.calls.get(keys.mark_key(distinct_id), is_consistent=True)
    if mark is None or not _is_erasing(mark):
        return None
    check_schema(mark)
    return _carried_out(work, distinct_id, erased_at_of(mark))


def began_at(erased_at: int) -> str:
    """The time of an erasure as its PENDING row's key has it."""
    return datetime.fromtimestamp(erased_at / 1000, UTC).isoformat(timespec="milliseconds")


def _is_erasing(mark: Raw) -> bool:
    return MarkItem.erasing.attr_name in mark


def _begun(work: Work, distinct_id: str, mark: Raw) -> int:
    """Mark the id, as read. Raises TransactionFailedError when it changed meanwhile."""
    before = erased_at_of(mark)
    erased_at = max(epoch_ms(work.now), before + 1)
    actions = [
        MarkItem.erased_at.set(erased_at),
        MarkItem.erasing.set(True),
        MarkItem.expires_at.remove(),
        KEEP_SCHEMA,
    ]
    if ids.is_anonymous(distinct_id):
        actions.append(AliasItem.status.set(identities.ERASED))
    as_read = MarkItem.erased_at == before if before else MarkItem.erased_at.does_not_exist()
    # Nor is it being erased, which would have changed its time.
    is_free = AllOf(AliasItem.user_id.does_not_exist(), as_read)
    work.calls.transact(
        work.calls.update_action(keys.mark_key(distinct_id), actions, is_free),
        _pending(work, distinct_id, erased_at),
    )
    return erased_at


def _carried_out(work: Work, distinct_id: str, erased_at: int) -> Erased:
    erased = Erased(erased_at)
    aliases: dict[str, Alias] = {}
    if not ids.is_anonymous(distinct_id):
        # None joins them any more, as the mark says.
        aliases = identities.aliases_of(work.calls, distinct_id, is_consistent=True)
    try:
        erased.erased_at = erased_at = _after_every_merge(work, distinct_id, erased_at, aliases)
        for anonymous_id, alias in aliases.items():
            erased.days += _clear(work, anonymous_id, distinct_id, erased_at)
            erased.raw_events += raw_events.remove(work, anonymous_id, erased_at)
            erased.anonymous_ids += _freed(work, anonymous_id, alias, distinct_id, erased_at)
        erased.days += _clear(work, distinct_id, distinct_id, erased_at)
        erased.raw_events += raw_events.remove(work, distinct_id, erased_at)
        _end(work, distinct_id, erased_at)
    except _OvertakenError as overtaken:
        if _is_erasing(overtaken.mark):
            raise Unavailable from None
        # Another process has ended it meanwhile.
    return erased


def _after_every_merge(work: Work, distinct_id: str, erased_at: int, aliases: Mapping[str, Alias]) -> int:
    """Put the erasure's time after the merges', whatever the clocks are: by it a fence tells them from later ones."""
    last_ms = max((alias.begun_ms for alias in aliases.values()), default=0)
    if last_ms < erased_at:
        return erased_at
    mark = work.calls.update_action(
        keys.mark_key(distinct_id), [MarkItem.erased_at.set(last_ms + 1)], _is_under_way(erased_at)
    )
    old = work.calls.delete_action(keys.pending_key(began_at(erased_at), distinct_id))
    _transact(work, mark, _pending(work, distinct_id, last_ms + 1), old)
    return last_ms + 1


def _freed(work: Work, anonymous_id: str, alias: Alias, user_id: str, erased_at: int) -> bool:
    """Let an anonymous id be nobody's. Answers whether it was this call that did."""
    assert alias.started_at is not None
    try:
        _transact(
            work,
            _check(work, user_id, erased_at),
            work.calls.update_action(
                keys.alias_key(anonymous_id),
                [
                    AliasItem.status.set(identities.ERASED),
                    AliasItem.erased_at.set(erased_at),
                    AliasItem.expires_at.set(_expires_at(work)),
                    AliasItem.user_id.remove(),
                    AliasItem.started_at.remove(),
                    AliasItem.days.remove(),
                ],
                # Nobody can be this user's again before the erasure ends.
                AliasItem.user_id == user_id,
            ),
            work.calls.delete_action(keys.way_back_key(user_id, anonymous_id)),
            work.calls.delete_action(keys.pending_key(alias.started_at, anonymous_id)),
            *([_leftovers(work, anonymous_id, erased_at)] if work.settings.raw_events else []),
        )
    except TransactionFailedError:
        return False  # Another process at the same erasure was quicker.
    return True


def _clear(work: Work, distinct_id: str, marked_id: str, erased_at: int) -> int:
    """Fence the days on which events may arrive, delete the rest. Answers how many days with events there were."""
    stored = store.outlines(work.calls, distinct_id)
    fenced = _window(work)
    removed, deleted = 0, []
    for day in sorted(stored.keys() | fenced):
        found = stored.get(day)
        if found is not None and found.erased_at >= erased_at:
            continue  # What is here was counted since.
        if day not in fenced:
            deleted.append(work.calls.delete_action(keys.day_key(distinct_id, day)))
        elif not _fence(work, distinct_id, day, erased_at):
            continue  # Another process at the same erasure was quicker.
        removed += bool(found and found.metrics.counters.get("events"))
    for start in range(0, len(deleted), _DELETES_MAX):
        _transact(work, _check(work, marked_id, erased_at), *deleted[start : start + _DELETES_MAX])
    return removed


def _window(work: Work) -> set[str]:
    """Every day an event may arrive on, also when the age limit is set higher later."""
    rules = replace(work.settings.rules(work.now), age_max=timedelta(days=AGE_DAYS_MAX))
    accepted = {date.fromisoformat(day) for day in rules.days()}
    return {(day + more).isoformat() for day in accepted for more in _MORE_DAYS}


def _fence(work: Work, distinct_id: str, day: str, erased_at: int) -> bool:
    """False where there is one already, as late as this."""
    pk, sk = keys.day_key(distinct_id, day)
    fence = DayItem(pk, sk, erased_at=erased_at, expires_at=identities.outlives(work.now, day))
    try:
        work.calls.put(fence, ErasedBefore(erased_at))
    except ConditionFailedError:
        return False
    return True


def _end(work: Work, distinct_id: str, erased_at: int) -> None:
    actions = [MarkItem.erasing.remove(), MarkItem.expires_at.set(_expires_at(work))]
    if work.settings.raw_events:
        row = _leftovers(work, distinct_id, erased_at)
    else:
        row = work.calls.delete_action(keys.pending_key(began_at(erased_at), distinct_id))
    _transact(
        work, work.calls.update_action(keys.mark_key(distinct_id), actions, _is_under_way(erased_at)), row
    )


def _is_under_way(erased_at: int) -> Condition:
    return AllOf(MarkItem.erasing.exists(), MarkItem.erased_at == erased_at)


def _check(work: Work, marked_id: str, erased_at: int) -> dict[str, Any]:
    return work.calls.check_action(keys.mark_key(marked_id), _is_under_way(erased_at))


def _pending(work: Work, distinct_id: str, erased_at: int) -> dict[str, Any]:
    pk, sk = keys.pending_key(began_at(erased_at), distinct_id)
    return work.calls.put_action(PendingItem(pk, sk, kind=ERASURE))


def _leftovers(work: Work, distinct_id: str, erased_at: int) -> dict[str, Any]:
    """For the sweep. It may be long after the erasure began: until now a request could count."""
    pk, sk = keys.pending_key(began_at(erased_at), distinct_id)
    return work.calls.put_action(PendingItem(pk, sk, kind=LEFTOVERS, fenced_at=epoch_ms(work.now)))


def _transact(work: Work, mark: dict[str, Any], *others: dict[str, Any]) -> None:
    """Raises _OvertakenError when it is the mark's condition that failed, TransactionFailedError for another's."""
    try:
        work.calls.transact(mark, *others)
    except TransactionFailedError as failed:
        if failed.items[0] is not None:
            raise _OvertakenError(failed.items[0]) from None
        raise


def _expires_at(work: Work) -> int:
    return identities.outlives(work.now, work.now.astimezone(work.settings.timezone).date().isoformat())
