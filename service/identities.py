"""The steps by which an anonymous visitor becomes a user. Each is atomic; their order is in `merge`."""

from dataclasses import dataclass
from datetime import UTC

from . import days, keys
from .days import StoredDay
from .dynamodb import Calls, ConditionFailedError, TransactionFailedError
from .models import AliasItem, AllOf, DayItem, Item, PendingItem, Raw, WayBackItem, check_schema, stored_day
from .problems import Unavailable
from .settings import AGE_DAYS_MAX
from .store import ROUNDS_MAX, Work, actions, end_of, fits, read_again

MERGING = "merging"
MERGED = "merged"
# A seal outlives every event its day can still get, whatever the age limit is set to, and every request under way.
SEAL_DAYS = AGE_DAYS_MAX + 3


@dataclass(frozen=True, slots=True)
class Alias:
    """Whose an anonymous id is, and whether its days have all moved there. `days` is how many did."""

    user_id: str
    status: str
    started_at: str
    days: int | None = None

    @property
    def is_merged(self) -> bool:
        """Whether its events may go straight to the user."""
        return self.status == MERGED


def alias_of(calls: Calls, anonymous_id: str, *, is_consistent: bool = False) -> Alias | None:
    """Whose this anonymous id is. An eventually consistent answer may be of a moment ago, which is safe: an alias
    never changes its user, and only `merged` sends events past the anonymous day."""
    raw = calls.get(keys.alias_key(anonymous_id), is_consistent=is_consistent)
    return _alias(raw) if raw else None


def anonymous_ids_of(calls: Calls, user_id: str) -> list[str]:
    """The anonymous ids that belong to a user."""
    items = calls.query(keys.user_pk(user_id), keys.every_way_back())
    return [keys.anonymous_id_of(item[Item.sk.attr_name]["S"]) for item in items]


def link(work: Work, anonymous_id: str, user_id: str) -> Alias:
    """Give the anonymous id to the user unless somebody has it, and answer who has it then."""
    started_at = work.now.astimezone(UTC).isoformat(timespec="milliseconds")
    alias_pk, alias_sk = keys.alias_key(anonymous_id)
    way_back_pk, way_back_sk = keys.way_back_key(user_id, anonymous_id)
    pending_pk, pending_sk = keys.pending_key(started_at, anonymous_id)
    try:
        work.calls.transact(
            work.calls.put_action(
                AliasItem(alias_pk, alias_sk, user_id=user_id, status=MERGING, started_at=started_at),
                AliasItem.pk.does_not_exist(),
            ),
            work.calls.put_action(WayBackItem(way_back_pk, way_back_sk)),
            work.calls.put_action(PendingItem(pending_pk, pending_sk, kind="merge")),
        )
    except TransactionFailedError as failed:
        return _alias(failed.items[0])
    return Alias(user_id, MERGING, started_at)


def anonymous_days(calls: Calls, anonymous_id: str) -> dict[str, StoredDay]:
    """Every day item of an anonymous id, sealed ones too, as of now."""
    items = calls.query(keys.user_pk(anonymous_id), keys.every_day(), is_consistent=True)
    return {day.day: day for day in map(stored_day, items)}


def seal(work: Work, anonymous_id: str, user_id: str, day: str, stored: StoredDay | None) -> bool:
    """Close an anonymous day for good: what it holds moves to the user's day, later events are sent there.

    `stored` is the day as last read; it is read again as often as it changed meanwhile. Answers whether the seal
    stands for a day that moved, now or before.
    """
    target = StoredDay(day)
    for _ in range(ROUNDS_MAX):
        if stored is not None and stored.merged_into:
            return stored.revision is not None
        try:
            if stored is None:
                work.calls.put(
                    _seal_item(work, anonymous_id, user_id, day, None), DayItem.pk.does_not_exist()
                )
                return False
            _move(work, anonymous_id, user_id, stored, target)
        except ConditionFailedError as failed:
            stored = stored_day(failed.item) if failed.item else None
        except TransactionFailedError as failed:
            if failed.items[0] is not None:
                stored = stored_day(failed.items[0]) if failed.items[0] else None
            target = read_again(failed.items[1], target)
        else:
            return True
    raise Unavailable


def finish(work: Work, anonymous_id: str, alias: Alias, days_moved: int) -> Alias:
    """Let events of the anonymous id go straight to the user; the sweep has nothing to do here any more."""
    try:
        work.calls.transact(
            work.calls.update_action(
                keys.alias_key(anonymous_id),
                [AliasItem.status.set(MERGED), AliasItem.days.set(days_moved)],
                (AliasItem.status == MERGING) & (AliasItem.user_id == alias.user_id),
            ),
            work.calls.delete_action(keys.pending_key(alias.started_at, anonymous_id)),
        )
    except TransactionFailedError as failed:
        # Somebody else has finished it meanwhile.
        return _alias(failed.items[0])
    return Alias(alias.user_id, MERGED, alias.started_at, days_moved)


def _move(work: Work, anonymous_id: str, user_id: str, source: StoredDay, target: StoredDay) -> None:
    events_max = work.settings.max_events_per_user_day
    ids_max = days.merged_ids_max(events_max)
    write, is_full = days.moved(source, target, events_max)
    additions = actions(work.settings, source.day, write)
    # No bound on currencies: money that was counted is never lost, and ISO 4217 bounds them.
    conditions = [
        *fits(DayItem.seen, write.seen, ids_max),
        *fits(DayItem.sessions, write.metrics.sessions, days.MERGED_DAY_IDS_MAX),
        *fits(DayItem.names, write.new_names, days.NAMES_PER_DAY_MAX),
    ]
    if is_full:
        additions.append(DayItem.full.set(True))
    else:
        conditions.append(DayItem.full.does_not_exist())
    work.calls.transact(
        work.calls.put_action(
            _seal_item(work, anonymous_id, user_id, source.day, source.revision),
            (DayItem.revision == source.revision) & DayItem.merged_into.does_not_exist(),
        ),
        work.calls.update_action(
            keys.day_key(user_id, source.day), additions, AllOf(*conditions) if conditions else None
        ),
    )


def _seal_item(work: Work, anonymous_id: str, user_id: str, day: str, revision: int | None) -> DayItem:
    pk, sk = keys.day_key(anonymous_id, day)
    lives_until = max(end_of(day, SEAL_DAYS), int(work.now.timestamp()) + 2 * 86_400)
    return DayItem(pk, sk, merged_into=user_id, revision=revision, expires_at=lives_until)


def _alias(raw: Raw | None) -> Alias:
    assert raw is not None  # an alias is never deleted
    check_schema(raw)
    item = AliasItem.from_raw_data(dict(raw))
    return Alias(item.user_id, item.status, item.started_at, None if item.days is None else int(item.days))
