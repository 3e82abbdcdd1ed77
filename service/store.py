"""What the service asks of its table, in its own words: count on a day, read days, remember the time zone.

Each function is one step that is atomic in the table. The order of steps, on which exactly-once rests, is in `ingest`
and `merge`; the steps of identities are in `identities`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pynamodb.attributes import Attribute
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from . import days, keys
from .days import Addition, Admission, StoredDay
from .dynamodb import Calls, ConditionFailedError, TransactionFailedError
from .events import Event
from .metrics import Metrics
from .models import (
    COUNTER_ATTRIBUTES,
    SCHEMA,
    Add,
    AliasItem,
    AllOf,
    DayItem,
    Keep,
    NoneIn,
    Raw,
    SettingsItem,
    Size,
    stored_day,
)
from .problems import Unavailable
from .settings import Settings

# A write whose day changes each time between reading and writing again; four writers at once need two rounds.
ROUNDS_MAX = 20
# A newer number stays: an older version may write during a deployment.
_KEEP_SCHEMA = Keep(DayItem.schema, SCHEMA)


Follow = Callable[[str], str]
"""Ends the merge of an anonymous id and answers with its user."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one request works with: its database calls, the settings, its moment, and whether it brings history."""

    calls: Calls
    settings: Settings
    now: datetime
    is_import: bool = False


class LinkedError(Exception):
    """The anonymous id belongs to a user by now."""


@dataclass(slots=True)
class Counted:
    """What became of the events of one day, and whose day it turned out to be."""

    owner: str
    admission: Admission = field(default_factory=Admission)
    follow: Follow | None = None


def count(
    work: Work, owner: str, day: str, events: Sequence[Event], *, follow: Follow | None = None
) -> Counted:
    """Count each event once on this day, or on the day it was merged into.

    With `follow`, each write also checks that the owner, an anonymous id, belongs to nobody; when it does by now,
    `follow` ends its merge and names the user, who gets the rest. So are days counted that no seal covers.

    Raises Unavailable; events already counted then are found to be duplicates when sent again.
    """
    result = Counted(owner, follow=follow)
    waiting = _first_of_each(events, result.admission)
    for start in range(0, len(waiting), days.IDS_PER_WRITE_MAX):
        _count_chunk(work, result, day, waiting[start : start + days.IDS_PER_WRITE_MAX])
    return result


def _count_chunk(work: Work, result: Counted, day: str, chunk: list[Event]) -> None:
    events_max = work.settings.max_events_per_user_day
    stored = StoredDay(day)
    is_read = False
    for _ in range(ROUNDS_MAX):
        key = keys.day_key(result.owner, day)
        decided = days.admit(chunk, stored, events_max)
        if decided.rejections and not is_read:
            # Nothing is refused on a guess: what looks too much may hold duplicates.
            stored, is_read = _read(work, result.owner, day), True
            if stored.merged_into:
                result.owner, stored, is_read = stored.merged_into, StoredDay(day), False
            continue
        if decided.admitted:
            write = days.addition(decided.admitted, stored)
            try:
                _write(work, result, key, actions(work.settings, day, write), _may_count(write, events_max))
            except LinkedError:
                assert result.follow is not None
                result.owner, result.follow = result.follow(result.owner), None
                stored, is_read = StoredDay(day), False
                continue
            except ConditionFailedError as failed:
                stored = stored_day(failed.item) if failed.item else StoredDay(day)
                is_read = True
                if stored.merged_into:
                    result.owner, stored, is_read = stored.merged_into, StoredDay(day), False
                continue
        result.admission.admitted += decided.admitted
        result.admission.duplicates += decided.duplicates
        result.admission.rejections += decided.rejections
        return
    raise Unavailable


def _write(work: Work, result: Counted, key: keys.Key, additions: list[Action], condition: Condition) -> None:
    """One write to a day. Raises ConditionFailedError; LinkedError where the owner must belong to nobody."""
    if result.follow is None:
        work.calls.update(key, additions, condition)
        return
    try:
        work.calls.transact(
            work.calls.check_action(keys.alias_key(result.owner), AliasItem.pk.does_not_exist()),
            work.calls.update_action(key, additions, condition),
        )
    except TransactionFailedError as failed:
        if failed.items[0] is not None:
            raise LinkedError from None
        raise ConditionFailedError(failed.items[1] or None) from None


def count_beside(work: Work, owner: str, day: str, events: Sequence[Event], other_owner: str) -> Counted:
    """Count events for `owner` whose first copy may be, or may yet arrive, on `other_owner`'s day.

    That day's `seen` takes the ids in the same transaction, without counting them: a first try still on its way there
    is a duplicate from then on. (Reading that day first and writing then counts twice when the first try lands between:
    docs/design/0003-first-copy-elsewhere.md.)
    """
    result = Counted(owner)
    waiting = _first_of_each(events, result.admission)
    for start in range(0, len(waiting), days.IDS_PER_WRITE_MAX):
        _count_chunk_beside(work, result, day, waiting[start : start + days.IDS_PER_WRITE_MAX], other_owner)
    return result


def _count_chunk_beside(work: Work, result: Counted, day: str, chunk: list[Event], other_owner: str) -> None:
    events_max = work.settings.max_events_per_user_day
    own, other, is_read = StoredDay(day), StoredDay(day), False
    for _ in range(ROUNDS_MAX):
        decided = days.admit_beside(chunk, own, other, events_max)
        if decided.rejections and not is_read:
            # Nothing is refused on a guess.
            own, other, is_read = _read(work, result.owner, day), _read(work, other_owner, day), True
            continue
        room = events_max - len(other.seen)
        if 0 < room < len(decided.admitted):
            middle = chunk.index(decided.admitted[room])
            for part in (chunk[:middle], chunk[middle:]):
                _count_chunk_beside(work, result, day, part, other_owner)
            return
        try:
            if decided.admitted:
                # Without room the other day counts nothing any more: no first copy can still arrive there.
                _write_beside(work, result.owner, own, decided.admitted, other_owner if room > 0 else None)
        except TransactionFailedError as failed:
            *others, mine = failed.items
            other, own = read_again(others[0] if others else None, other), read_again(mine, own)
            continue
        result.admission.admitted += decided.admitted
        result.admission.duplicates += decided.duplicates
        result.admission.rejections += decided.rejections
        return
    raise Unavailable


def _write_beside(
    work: Work, owner: str, own: StoredDay, events: Sequence[Event], other_owner: str | None
) -> None:
    """Raises TransactionFailedError about the other day, if there is one, and the own, in this order."""
    write = days.addition(events, own)
    fence = Addition(Metrics(), write.seen, set(), set())
    parts = [(owner, write)] if other_owner is None else [(other_owner, fence), (owner, write)]
    work.calls.transact(
        *(
            work.calls.update_action(
                keys.day_key(whose, own.day),
                actions(work.settings, own.day, added),
                _may_count(added, work.settings.max_events_per_user_day),
            )
            for whose, added in parts
        )
    )


def _read(work: Work, owner: str, day: str) -> StoredDay:
    raw = work.calls.get(keys.day_key(owner, day), is_consistent=True)
    return stored_day(raw) if raw else StoredDay(day)


def days_between(calls: Calls, distinct_id: str, first_day: str, last_day: str) -> list[StoredDay]:
    """The days with events from `first_day` to `last_day`, both inclusive, in order. One Query."""
    items = calls.query(keys.user_pk(distinct_id), keys.day_range(first_day, last_day))
    stored = (stored_day(item, with_ids=False) for item in items)
    return [day for day in stored if day.metrics.counters.get("events")]


def outer_days(calls: Calls, distinct_id: str) -> tuple[str | None, str | None]:
    """The first and the last day with events; None where there is none. Two Queries, of an item each as a rule."""
    found: list[str | None] = []
    for is_ascending in (True, False):
        items = calls.query(keys.user_pk(distinct_id), keys.every_day(), is_ascending=is_ascending, limit=1)
        counted = (day.day for day in map(stored_day, items) if day.metrics.counters.get("events"))
        found.append(next(counted, None))
    return found[0], found[1]


def _first_of_each(events: Sequence[Event], admission: Admission) -> list[Event]:
    """One event a messageId: the first wins."""
    waiting: dict[bytes, Event] = {}
    for event in events:
        if event.message_hash in waiting:
            admission.duplicates.append(event)
        else:
            waiting[event.message_hash] = event
    return list(waiting.values())


def actions(settings: Settings, day: str, write: Addition) -> list[Action]:
    """What a write adds. ADD of a set is a union and needs no read."""
    total = write.metrics
    actions: list[Action] = [Add(COUNTER_ATTRIBUTES[name], count) for name, count in total.counters.items()]
    for family, sums in (
        (DayItem.revenue, total.revenue_minor),
        (DayItem.refunds, total.refunds_minor),
        (DayItem.by_event, total.by_event),
    ):
        actions += [Add(family[member], amount) for member, amount in sums.items()]
    for attribute, members in (
        (DayItem.seen, write.seen),
        (DayItem.sessions, total.sessions),
        (DayItem.names, write.new_names),
        (DayItem.currencies, write.new_currencies),
    ):
        if members:
            actions.append(Add(attribute, members))
    actions += [Add(DayItem.revision, 1), _KEEP_SCHEMA]
    if settings.day_ttl_days is not None:
        actions.append(DayItem.expires_at.set(end_of(day, settings.day_ttl_days)))
    return actions


def _may_count(write: Addition, events_max: int) -> Condition:
    """None of the ids is there, the day takes them all, and it is neither merged away nor full."""
    return AllOf(
        NoneIn(DayItem.seen, sorted(write.seen)),
        DayItem.merged_into.does_not_exist(),
        DayItem.full.does_not_exist(),
        *fits(DayItem.seen, write.seen, events_max),
        *fits(DayItem.names, write.new_names, days.NAMES_PER_DAY_MAX),
        *fits(DayItem.currencies, write.new_currencies, days.CURRENCIES_PER_DAY_MAX),
    )


def fits(attribute: Attribute[Any], members: Collection[Any], members_max: int) -> list[Condition]:
    """Room for these members in a set; no condition without members."""
    return [attribute.does_not_exist() | (Size(attribute) <= members_max - len(members))] if members else []


def end_of(day: str, days_after: int) -> int:
    """Epoch seconds of the end of a day, in any zone, so many days later."""
    end = date.fromisoformat(day) + timedelta(days=days_after + 2)
    return int(datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp())


def read_again(item: Raw | None, known: StoredDay) -> StoredDay:
    """The day a transaction's condition failed on; what was known of it where the condition held."""
    if item is None:
        return known
    return stored_day(item) if item else StoredDay(known.day)


def remembered_timezone(calls: Calls, timezone: str) -> str:
    """The zone the table's days are in; `timezone` from now on if it has none yet."""
    key = keys.settings_key()
    raw = calls.get(key)
    if raw is None:
        try:
            calls.put(SettingsItem(key.pk, key.sk, timezone=timezone), SettingsItem.pk.does_not_exist())
        except ConditionFailedError as failed:
            raw = failed.item
        else:
            return timezone
    assert raw is not None  # this item is never deleted
    return str(SettingsItem.from_raw_data(dict(raw)).timezone)


def ping(calls: Calls) -> None:
    """One read, which raises Unavailable when the table does not answer."""
    calls.get(keys.settings_key())
