"""Count events on a day, each once: the one write on which exactly-once rests.

As a rule it is one conditional UpdateItem. It becomes a transaction where more than the day decides: an order is
claimed for the whole shop; another user's day must know an event too; an import reaches days that no seal and no fence
covers. Either way it happens whole or not at all, and what it met decides how it is tried again.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pynamodb.expressions.condition import Condition

from . import days, keys
from .days import Addition, Admission, StoredDay
from .dynamodb import ConditionFailedError, TransactionFailedError
from .events import Event, epoch_ms
from .identities import Alias
from .metrics import Metrics
from .models import (
    Add,
    AliasItem,
    AllOf,
    DayItem,
    ErasedBefore,
    NoneIn,
    OrderItem,
    Raw,
    erased_at_of,
    stored_day,
)
from .problems import Unavailable
from .store import ROUNDS_MAX, Work, actions, fits

# A second order with the same id, after so long, is another order. Longer than any return or refund takes.
CLAIM_DAYS = 400

Follow = Callable[[str], Alias]
"""Ends the merge of an anonymous id and answers whose it is. Raises Unavailable when it is nobody's any more."""


class Owner(NamedTuple):
    """Whose day events go to. `since_ms` is when the merge began by which they do; none where they name it.

    A day that was erased after that belongs to nobody who could still be followed there.
    """

    distinct_id: str
    since_ms: int | None = None


def count(
    work: Work,
    owner: Owner,
    day: str,
    events: Sequence[Event],
    *,
    beside: Owner | None = None,
    follow: Follow | None = None,
) -> Admission:
    """Count each event once on this day, or on the day it was merged into.

    `beside` is another user on whose day a first copy of the events may be, or may yet arrive. That day's `seen` takes
    their ids in the same transaction, without counting them: a first try still on its way there is a duplicate from
    then on. (Reading that day first and writing then counts twice when the first try lands between:
    docs/design/0003-first-copy-elsewhere.md.)

    `follow` is what an import does when the owner, an anonymous id, is somebody's by now; that user gets the rest.

    Raises Unavailable; events already counted then are found to be duplicates when sent again.
    """
    admission = Admission()
    waiting: dict[bytes, Event] = {}
    for event in events:
        if event.message_hash in waiting:
            admission.duplicates.append(event)
        else:
            waiting[event.message_hash] = event
    first_of_each = list(waiting.values())
    target = _Target(work, owner, day, beside, follow)
    for start in range(0, len(first_of_each), days.IDS_PER_WRITE_MAX):
        target.count(first_of_each[start : start + days.IDS_PER_WRITE_MAX], admission)
    return admission


_Part = tuple[Callable[[Raw], None], dict[str, Any]]
"""An action of a transaction, and what to make of the item its condition failed on."""


@dataclass(slots=True)
class _Target:
    """Where events are counted, as far as it is known."""

    work: Work
    owner: Owner
    day: str
    beside: Owner | None
    follow: Follow | None
    own: StoredDay = field(init=False)
    other: StoredDay = field(init=False)
    # Whether both days are as read, not as assumed.
    is_read: bool = False
    # When the owner, or one this owner was before, was erased.
    erased_at: int = 0
    # Orders that were claimed before.
    orders: set[str] = field(default_factory=set)
    # Ids that the last write has asked this day for.
    asked: set[bytes] = field(default_factory=set)

    def count(self, chunk: Sequence[Event], admission: Admission) -> None:
        """Decide at most IDS_PER_WRITE_MAX events."""
        self.own, self.other, self.is_read = StoredDay(self.day), StoredDay(self.day), False
        self.asked = set()
        events_max = self.work.settings.max_events_per_user_day
        for _ in range(ROUNDS_MAX):
            decided = days.admit_beside(
                chunk, self.own, self.other, events_max, orders=self.orders, erased_at=self.erased_at
            )
            if not self.is_read and (decided.rejections or self._may_have_seen(decided)):
                # Nothing is refused on a guess: what looks too much may hold duplicates.
                self._read()
                continue
            room = self._room_beside()
            if 0 < room < len(decided.admitted):
                middle = chunk.index(decided.admitted[room])
                for part in (chunk[:middle], chunk[middle:]):
                    self.count(part, admission)
                return
            if decided.admitted and not self._write(decided.admitted):
                continue
            admission.add(decided)
            return
        raise Unavailable

    def _may_have_seen(self, decided: Admission) -> bool:
        """Whether a duplicate, known by its order alone, may be of this day: then its raw event is this request's."""
        return self.work.origin is not None and any(
            event.message_hash not in self.asked for event in decided.duplicates
        )

    def _room_beside(self) -> int:
        """How many events more the other day may know of; all, where there is none."""
        return self.work.settings.max_events_per_user_day - len(self.other.seen)

    def _write(self, admitted: Sequence[Event]) -> bool:
        """Whether it was written; if not, what stood against it is known now."""
        if max(self.own.erased_at, self.other.erased_at) >= epoch_ms(self.work.now):
            raise Unavailable  # Dated ahead, and erased by another process in this very moment.
        write = days.addition(admitted, self.own)
        self.asked = write.seen
        oldest_ms = min(event.instant_ms for event in admitted)
        parts = self._parts(admitted, write, oldest_ms)
        calls, key = self.work.calls, keys.day_key(self.owner.distinct_id, self.day)
        additions = actions(self.work.settings, self.day, write)
        condition = self._may_count(self.owner, write, oldest_ms)
        try:
            if parts:
                parts.append((self._met, calls.update_action(key, additions, condition)))
                calls.transact(*(action for _, action in parts))
            else:
                calls.update(key, additions, condition)
        except ConditionFailedError as failed:
            self.is_read = True
            self._met(failed.item)
        except TransactionFailedError as failed:
            for (met, _), item in zip(parts, failed.items, strict=True):
                if item is not None:
                    met(item)
        else:
            return True
        return False

    def _parts(self, admitted: Sequence[Event], write: Addition, oldest_ms: int) -> list[_Part]:
        """All of the write but the day itself."""
        work, owners = self.work, [self.owner]
        parts: list[_Part] = []
        if self.beside is not None and self._room_beside() > 0:
            # Without room the other day counts nothing any more: no first copy can still arrive there.
            owners.append(self.beside)
            fence = Addition(Metrics(), write.seen, set(), set(), set())
            action = work.calls.update_action(
                keys.day_key(self.beside.distinct_id, self.day),
                [*actions(work.settings, self.day, fence), Add(DayItem.elsewhere, fence.seen)],
                AllOf(
                    self._may_count(self.beside, fence, oldest_ms),
                    *fits(DayItem.elsewhere, fence.seen, days.ELSEWHERE_IDS_MAX),
                ),
            )
            parts.append((self._met_other, action))
        if work.is_import:
            # Seals and fences cover the days of the acceptance window alone, and an import brings others.
            for owner in owners:
                condition = AliasItem.user_id.does_not_exist() & ErasedBefore(oldest_ms)
                parts.append(
                    (self._met_mark, work.calls.check_action(keys.mark_key(owner.distinct_id), condition))
                )
        for event in admitted:
            assert event.part is not None
            if event.part.order_id is not None:
                met = functools.partial(self._met_claim, event.part.order_id)
                parts.append((met, _claim(work, event.part.order_id, event.message_hash)))
        return parts

    def _may_count(self, owner: Owner, write: Addition, oldest_ms: int) -> Condition:
        """None of the ids is there, the day takes all, and it is neither merged away nor full, nor erased since."""
        events_max = self.work.settings.max_events_per_user_day
        # What counts after an erasure was received after it as well, whatever its clock says.
        before_ms = min(oldest_ms, epoch_ms(self.work.now))
        if owner.since_ms is not None:
            before_ms = min(before_ms, owner.since_ms)
        return AllOf(
            NoneIn(DayItem.seen, sorted(write.seen)),
            DayItem.merged_into.does_not_exist(),
            DayItem.full.does_not_exist(),
            ErasedBefore(before_ms),
            *fits(DayItem.seen, write.seen, events_max),
            *fits(DayItem.names, write.new_names, days.NAMES_PER_DAY_MAX),
            *fits(DayItem.currencies, write.new_currencies, days.CURRENCIES_PER_DAY_MAX),
            *fits(DayItem.order_ids, write.new_order_ids, days.ORDER_IDS_PER_DAY_MAX),
        )

    def _read(self) -> None:
        self.is_read = True
        key = keys.day_key(self.owner.distinct_id, self.day)
        self._met(self.work.calls.get(key, is_consistent=True))
        if self.beside is not None:
            key = keys.day_key(self.beside.distinct_id, self.day)
            self._met_other(self.work.calls.get(key, is_consistent=True))

    def _met(self, item: Raw | None) -> None:
        self.own = self._current(self.owner, item)
        if self.own.merged_into:
            self.owner = Owner(self.own.merged_into, self.own.merge_began_ms)
            # What was erased before the merge does not come back through it.
            self._not_before(self.own.erased_at)
            self.own, self.is_read = StoredDay(self.day), False
            self.asked = set()

    def _met_other(self, item: Raw | None) -> None:
        assert self.beside is not None
        self.other = self._current(self.beside, item)

    def _current(self, owner: Owner, item: Raw | None) -> StoredDay:
        stored = stored_day(item) if item else StoredDay(self.day)
        if owner.since_ms is not None and stored.is_erased_since(owner.since_ms):
            # The alias or seal that led here was read before the erasure. Sent again, it leads elsewhere.
            raise Unavailable
        return stored

    def _met_mark(self, item: Raw) -> None:
        self._not_before(erased_at_of(item))
        if AliasItem.user_id.attr_name in item:
            assert self.follow is not None
            alias = self.follow(self.owner.distinct_id)
            assert alias.user_id is not None
            self.owner = Owner(alias.user_id, alias.begun_ms)
            self._not_before(alias.erased_at)
            self.own, self.is_read = StoredDay(self.day), False
            self.asked = set()

    def _not_before(self, erased_at: int) -> None:
        self.erased_at = max(self.erased_at, erased_at)

    def _met_claim(self, order_id: str, _: Raw) -> None:
        self.orders.add(order_id)
        # By an event of this day, perhaps, which may be here too: its raw event is then this request's as well.
        self.is_read = False


def _claim(work: Work, order_id: str, message_hash: bytes) -> dict[str, Any]:
    """Nobody has claimed the order, or so long ago that DynamoDB is about to delete the claim."""
    pk, sk = keys.order_key(order_id)
    now_seconds = epoch_ms(work.now) // 1000
    item = OrderItem(pk, sk, message_hash=message_hash, expires_at=now_seconds + CLAIM_DAYS * 86_400)
    return work.calls.put_action(item, OrderItem.pk.does_not_exist() | (OrderItem.expires_at < now_seconds))
