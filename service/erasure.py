"""Gone when erased: the protocol. Nothing else knows its order.

1. The mark of the id says when, and that it is under way, with a PENDING row in the same transaction: no merge into a
   user begins from then on.
2. Each anonymous id of a user: its days, then, in one transaction, its alias and the way back to it. A merge that is
   still under way meets a fence and ends there; what it moved before lies on the user's own days.
3. Only then the user's own days, so that nothing moves in behind.
4. The mark says that it is done, and the PENDING row goes.

A day of the acceptance window becomes a fence: events of before the erasure are rejected there, whenever they arrive,
and new ones count. The rest is deleted; imports, which alone reach such days, ask for the mark. Every step can be
repeated, and a fence never gives way to an older one, so two erasures of one person do no harm. Fences and marks hold
nothing but the time, and expire when the window has passed. (tests/explorer tries every interleaving.)
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from . import identities, ids, keys, store
from .dynamodb import ConditionFailedError, TransactionFailedError
from .events import epoch_ms
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
from .store import KEEP_SCHEMA, ROUNDS_MAX, Work

ERASURE = "erasure"
# A merge under way may have begun on the day before, when its window began a day earlier.
_MORE_DAYS = (timedelta(days=-1), timedelta(days=1))


@dataclass(slots=True)
class Erased:
    """What a call removed. `erased_at` is in epoch milliseconds."""

    erased_at: int
    anonymous_ids: int = 0
    days: int = 0


def erase(work: Work, distinct_id: str) -> Erased:
    """Remove everything held on a user, or on an anonymous visitor who is nobody's.

    Raises IdentityConflict for an anonymous id that belongs to a user; Unavailable when it could not be ended now, and
    then the same call, the next merge into the user or the sweep goes on where this stopped.
    """
    key = keys.mark_key(distinct_id)
    mark = work.calls.get(key, is_consistent=True)
    for _ in range(ROUNDS_MAX):
        try:
            return _carried_out(work, distinct_id, _begun(work, distinct_id, mark or {}))
        except TransactionFailedError as failed:
            mark = failed.items[0]
    raise Unavailable


def resume(work: Work, distinct_id: str) -> Erased | None:
    """End an erasure that is under way; None when none is."""
    mark = work.calls.get(keys.mark_key(distinct_id), is_consistent=True)
    if mark is None or MarkItem.erasing.attr_name not in mark:
        return None
    check_schema(mark)
    return _carried_out(work, distinct_id, erased_at_of(mark))


def began_at(erased_at: int) -> str:
    """The time of an erasure as its PENDING row's key has it."""
    return datetime.fromtimestamp(erased_at / 1000, UTC).isoformat(timespec="milliseconds")


def _begun(work: Work, distinct_id: str, mark: Raw) -> int:
    """Mark the id, as read. An erasure under way is taken over: what was counted since goes too."""
    check_schema(mark)
    if AliasItem.user_id.attr_name in mark:
        raise IdentityConflict("The anonymous id belongs to a user. Erase the user.")
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
    pending_pk, pending_sk = keys.pending_key(began_at(erased_at), distinct_id)
    taken_over = [work.calls.delete_action(keys.pending_key(began_at(before), distinct_id))] if before else []
    work.calls.transact(
        work.calls.update_action(
            keys.mark_key(distinct_id), actions, AllOf(AliasItem.user_id.does_not_exist(), as_read)
        ),
        work.calls.put_action(PendingItem(pending_pk, pending_sk, kind=ERASURE)),
        *taken_over,
    )
    return erased_at


def _carried_out(work: Work, distinct_id: str, erased_at: int) -> Erased:
    erased = Erased(erased_at)
    if not ids.is_anonymous(distinct_id):
        for anonymous_id in identities.anonymous_ids_of(work.calls, distinct_id, is_consistent=True):
            _erase_anonymous(work, distinct_id, anonymous_id, erased)
    erased.days += _clear(work, distinct_id, erased_at)
    # Where a later erasure has taken over, that one ends it; all of this one is done.
    with contextlib.suppress(TransactionFailedError):
        work.calls.transact(
            work.calls.update_action(
                keys.mark_key(distinct_id),
                [MarkItem.erasing.remove(), MarkItem.expires_at.set(_expires_at(work))],
                MarkItem.erased_at == erased_at,
            ),
            work.calls.delete_action(keys.pending_key(began_at(erased_at), distinct_id)),
        )
    return erased


def _erase_anonymous(work: Work, user_id: str, anonymous_id: str, erased: Erased) -> None:
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    if alias is None or alias.user_id != user_id:
        return  # Another call of the same erasure was quicker.
    assert alias.started_at is not None
    # Later than the merge, whatever the clocks are: by its time a fence tells the merges it ends from later ones.
    erased_at = max(erased.erased_at, (identities.begun_ms(alias.started_at) or 0) + 1)
    removed = _clear(work, anonymous_id, erased_at)
    try:
        work.calls.transact(
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
                AllOf(AliasItem.user_id == user_id, AliasItem.started_at == alias.started_at),
            ),
            work.calls.delete_action(keys.way_back_key(user_id, anonymous_id)),
            work.calls.delete_action(keys.pending_key(alias.started_at, anonymous_id)),
        )
    except TransactionFailedError:
        return
    erased.anonymous_ids += 1
    erased.days += removed


def _clear(work: Work, distinct_id: str, erased_at: int) -> int:
    """Fence the days of the acceptance window, delete the rest. Answers how many days with events there were."""
    stored = store.every_day(work.calls, distinct_id)
    window = {date.fromisoformat(day) for day in work.settings.rules(work.now).days()}
    fenced = {(day + more).isoformat() for day in window for more in _MORE_DAYS}
    removed = 0
    for day in sorted(stored.keys() | fenced):
        found = stored.get(day)
        if found is not None and found.erased_at >= erased_at:
            continue  # What is here was counted since.
        removed += bool(found and found.metrics.counters.get("events"))
        if day in fenced:
            _fence(work, distinct_id, day, erased_at)
        else:
            work.calls.delete(keys.day_key(distinct_id, day))
    return removed


def _fence(work: Work, distinct_id: str, day: str, erased_at: int) -> None:
    pk, sk = keys.day_key(distinct_id, day)
    fence = DayItem(pk, sk, erased_at=erased_at, expires_at=identities.outlives(work.now, day))
    # There may be one already, as late as this.
    with contextlib.suppress(ConditionFailedError):
        work.calls.put(fence, ErasedBefore(erased_at))


def _expires_at(work: Work) -> int:
    return identities.outlives(work.now, work.now.astimezone(work.settings.timezone).date().isoformat())
