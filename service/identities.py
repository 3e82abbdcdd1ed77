"""The steps by which an anonymous visitor becomes a user. Each is atomic; their order is in `merge`."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pynamodb.expressions.condition import Condition

from . import days, keys
from .days import StoredDay
from .dynamodb import Calls, ConditionFailedError, TransactionFailedError
from .events import epoch_ms
from .models import (
    AliasItem,
    AllOf,
    DayItem,
    ErasedBefore,
    ErasedItem,
    Item,
    PendingItem,
    Raw,
    WayBackItem,
    check_schema,
    erased_at_of,
    stored_day,
)
from .problems import Unavailable
from .settings import AGE_DAYS_MAX
from .store import KEEP_SCHEMA, ROUNDS_MAX, Work, actions, end_of, fits, read_again

MERGING = "merging"
MERGED = "merged"
ERASED = "erased"
MERGE = "merge"
# A seal outlives every event its day can still get, whatever the age limit is set to, and every request under way.
SEAL_DAYS = AGE_DAYS_MAX + 3


@dataclass(frozen=True, slots=True)
class Alias:
    """Whose an anonymous id is, and whether its days have all moved there. `days` is how many did.

    `erased`, it is nobody's, and events until `erased_at` (epoch milliseconds, 0 for never) count nowhere.
    """

    user_id: str | None
    status: str
    started_at: str | None = None
    days: int | None = None
    erased_at: int = 0
    is_erasing: bool = False

    @property
    def is_merged(self) -> bool:
        """Whether its events may go straight to the user."""
        return self.status == MERGED

    @property
    def begun_ms(self) -> int:
        """When the merge into its user began, in epoch milliseconds."""
        assert self.started_at is not None
        return epoch_ms(datetime.fromisoformat(self.started_at))

    @property
    def is_merging(self) -> bool:
        """Whether days may still be on their way to the user."""
        return self.status == MERGING


class ErasedError(Exception):
    """What asks for a merge is of before the time when one of the two was erased, in epoch milliseconds."""

    def __init__(self, erased_at: int) -> None:
        super().__init__("erased")
        self.erased_at = erased_at


class ErasingError(Exception):
    """One of the two is being erased at the moment."""

    def __init__(self, distinct_id: str, erased_at: int) -> None:
        super().__init__("an erasure is under way")
        self.distinct_id = distinct_id
        self.erased_at = erased_at


def alias_of(calls: Calls, anonymous_id: str, *, is_consistent: bool = False) -> Alias | None:
    """Whose this anonymous id is. An eventually consistent answer may be of a moment ago, which is safe: only `merged`
    sends events past the anonymous day, and what an erasure frees is fenced on the days of either."""
    raw = calls.get(keys.alias_key(anonymous_id), is_consistent=is_consistent)
    return _alias(raw) if raw else None


def anonymous_ids_of(calls: Calls, user_id: str, *, is_consistent: bool = False) -> list[str]:
    """The anonymous ids that belong to a user."""
    items = calls.query(keys.user_pk(user_id), keys.every_way_back(), is_consistent=is_consistent)
    return [keys.anonymous_id_of(item[Item.sk.attr_name]["S"]) for item in items]


def aliases_of(calls: Calls, user_id: str, *, is_consistent: bool = False) -> dict[str, Alias]:
    """The anonymous ids that belong to a user, with what says so: a monitor that logs in has thousands."""
    anonymous_ids = anonymous_ids_of(calls, user_id, is_consistent=is_consistent)
    marks = calls.get_all([keys.alias_key(one) for one in anonymous_ids], is_consistent=is_consistent)
    found = {one: _alias(marks.get(keys.alias_key(one), {})) for one in anonymous_ids}
    # A way back that was read a moment ago may lead to an alias that is gone, or somebody else's by now.
    return {one: alias for one, alias in found.items() if alias.user_id == user_id}


def link(work: Work, anonymous_id: str, user_id: str, instant_ms: int) -> Alias:
    """Give the anonymous id to the user unless somebody has it, and answer who has it then.

    `instant_ms` is when whoever asks for it did so. Raises ErasedError, ErasingError.
    """
    started_at = work.now.astimezone(UTC).isoformat(timespec="milliseconds")
    # An erasure that this merge begins after is told by its time from one that ends it, whatever the clocks are.
    before_ms = min(instant_ms, epoch_ms(work.now))
    way_back_pk, way_back_sk = keys.way_back_key(user_id, anonymous_id)
    pending_pk, pending_sk = keys.pending_key(started_at, anonymous_id)
    may_begin = AllOf(AliasItem.erasing.does_not_exist(), ErasedBefore(before_ms))
    try:
        work.calls.transact(
            work.calls.update_action(
                keys.alias_key(anonymous_id),
                [
                    AliasItem.user_id.set(user_id),
                    AliasItem.status.set(MERGING),
                    AliasItem.started_at.set(started_at),
                    KEEP_SCHEMA,
                    AliasItem.expires_at.remove(),
                ],
                AllOf(AliasItem.user_id.does_not_exist(), may_begin),
            ),
            work.calls.put_action(WayBackItem(way_back_pk, way_back_sk)),
            work.calls.put_action(PendingItem(pending_pk, pending_sk, kind=MERGE)),
            work.calls.check_action(keys.erased_key(user_id), may_begin),
        )
    except TransactionFailedError as failed:
        if failed.items[0] is not None:
            alias = _alias(failed.items[0])
            if alias.user_id is not None:
                return alias
        for item, distinct_id in ((failed.items[0], anonymous_id), (failed.items[3], user_id)):
            if item is not None:
                _refuse(item, distinct_id, instant_ms)
        raise
    return Alias(user_id, MERGING, started_at)


def _refuse(mark: Raw, distinct_id: str, instant_ms: int) -> None:
    """Say why this mark stands against a merge."""
    erased_at = erased_at_of(mark)
    if ErasedItem.erasing.attr_name in mark:
        raise ErasingError(distinct_id, erased_at)
    if instant_ms <= erased_at:
        raise ErasedError(erased_at)
    # Erased in a moment that this process's clock has not reached yet.
    raise Unavailable


def seal(work: Work, anonymous_id: str, alias: Alias, day: str, stored: StoredDay | None) -> bool:
    """Close an anonymous day for good: what it holds moves to the user's day, later events are sent there.

    `stored` is the day as last read; it is read again as often as it changed meanwhile. Answers whether the seal
    stands for a day that moved, now or before. Raises Unavailable when the visitor was erased since the merge began.
    """
    target = StoredDay(day)
    for _ in range(ROUNDS_MAX):
        if stored is not None and stored.merged_into:
            return stored.revision is not None
        try:
            if stored is None or stored.revision is None:
                _close(work, anonymous_id, alias, day, stored)
                return False
            _move(work, anonymous_id, alias, stored, target)
        except ConditionFailedError as failed:
            stored = _found(failed.item)
        except TransactionFailedError as failed:
            if failed.items[0] is not None:
                stored = _found(failed.items[0])
            target = read_again(failed.items[1], target)
        else:
            return True
    raise Unavailable


def _found(item: Raw | None) -> StoredDay:
    """The day that was not as read. It was deleted, where there is none any more: by an erasure."""
    if not item:
        raise Unavailable
    return stored_day(item)


def finish(work: Work, anonymous_id: str, alias: Alias, days_moved: int) -> Alias:
    """Let events of the anonymous id go straight to the user; the sweep has nothing to do here any more.

    Raises Unavailable when the visitor was erased since the merge began.
    """
    assert alias.started_at is not None
    try:
        work.calls.transact(
            work.calls.update_action(
                keys.alias_key(anonymous_id),
                [AliasItem.status.set(MERGED), AliasItem.days.set(days_moved)],
                # Another request may have finished it meanwhile, and has moved as many.
                AliasItem.started_at == alias.started_at,
            ),
            work.calls.delete_action(keys.pending_key(alias.started_at, anonymous_id)),
        )
    except TransactionFailedError:
        raise Unavailable from None
    return replace(alias, status=MERGED, days=days_moved)


def _close(work: Work, anonymous_id: str, alias: Alias, day: str, stored: StoredDay | None) -> None:
    """Seal a day on which nothing was counted: there is none, or the fence of an erasure alone."""
    condition: Condition = DayItem.pk.does_not_exist()
    if stored is not None:
        condition = AllOf(DayItem.revision.does_not_exist(), *_is_as_read(alias, stored))
    work.calls.put(_seal_item(work, anonymous_id, alias, stored or StoredDay(day)), condition)


def _is_as_read(alias: Alias, stored: StoredDay) -> tuple[Condition, Condition]:
    """Raises Unavailable for a day that was erased since the merge began: it is no longer this merge's."""
    if stored.is_erased_since(alias.begun_ms):
        raise Unavailable
    erased_at = DayItem.erased_at
    return (
        DayItem.merged_into.does_not_exist(),
        (erased_at == stored.erased_at) if stored.erased_at else erased_at.does_not_exist(),
    )


def _move(work: Work, anonymous_id: str, alias: Alias, source: StoredDay, target: StoredDay) -> None:
    assert alias.user_id is not None
    events_max = work.settings.max_events_per_user_day
    ids_max = days.merged_ids_max(events_max)
    write, is_full = days.moved(source, target, events_max)
    additions = actions(work.settings, source.day, write)
    # No bound on currencies: money that was counted is never lost, and ISO 4217 bounds them.
    conditions = [
        *fits(DayItem.seen, write.seen - target.seen, ids_max),
        *fits(DayItem.sessions, write.metrics.sessions - target.metrics.sessions, days.MERGED_DAY_IDS_MAX),
        *fits(DayItem.names, write.new_names, days.NAMES_PER_DAY_MAX),
        *fits(DayItem.order_ids, write.new_order_ids, days.ORDER_IDS_PER_DAY_MAX),
    ]
    if is_full:
        additions.append(DayItem.full.set(True))
    else:
        conditions.append(DayItem.full.does_not_exist())
    work.calls.transact(
        work.calls.put_action(
            _seal_item(work, anonymous_id, alias, source),
            AllOf(DayItem.revision == source.revision, *_is_as_read(alias, source)),
        ),
        work.calls.update_action(
            keys.day_key(alias.user_id, source.day), additions, AllOf(*conditions) if conditions else None
        ),
    )


def _seal_item(work: Work, anonymous_id: str, alias: Alias, source: StoredDay) -> DayItem:
    pk, sk = keys.day_key(anonymous_id, source.day)
    return DayItem(
        pk,
        sk,
        merged_into=alias.user_id,
        started_at=alias.started_at,
        revision=source.revision,
        erased_at=source.erased_at or None,
        expires_at=outlives(work.now, source.day),
    )


def outlives(now: datetime, day: str) -> int:
    """Epoch seconds at which no event can arrive on a day any more, and no request that may touch it is under way."""
    return max(end_of(day, SEAL_DAYS), epoch_ms(now) // 1000 + 2 * 86_400)


def _alias(raw: Raw) -> Alias:
    check_schema(raw)
    item = AliasItem.from_raw_data(dict(raw))
    return Alias(
        item.user_id,
        item.status,
        item.started_at,
        None if item.days is None else int(item.days),
        int(item.erased_at or 0),
        bool(item.erasing),
    )
