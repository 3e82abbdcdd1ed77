"""Days rebuilt from raw events, and compared with what is stored: the proof that the counters are right, or the repair.

A stored day is taken as read; of the raw events those are counted that it has counted, each once, its names folded as
it has folded them. So events that arrive meanwhile make no difference, and a repair writes under the condition that
none has arrived since.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as clock
from typing import Any, NamedTuple

from pynamodb.attributes import Attribute
from pynamodb.expressions.update import Action

from . import keys, packing, raw_events, store
from .days import MERGED_DAY_IDS_MAX, ORDER_IDS_PER_DAY_MAX, StoredDay
from .dynamodb import ConditionFailedError
from .events import epoch_ms
from .metrics import COUNTERS, OTHER, Metrics
from .models import COUNTER_ATTRIBUTES, Add, AllOf, DayItem, Item, stored_day
from .packing import RawEvent
from .store import Work

SAME, DIFFERENT, REPAIRED, INCOMPLETE, FULL = "same", "different", "repaired", "incomplete", "full"

# Days whose raw events are in memory at a time.
DAYS_AT_A_TIME = 7
# A request between its day and its raw events is over in milliseconds.
_ROUNDS_MAX = 5
_ROUND_SECONDS = 0.3

_Numbers = dict[str, int]


class Difference(NamedTuple):
    """One number of a day; `of` is the currency or the event's name, where there is one."""

    metric: str
    of: str | None
    stored: int
    recounted: int


@dataclass(slots=True)
class Recounted:
    """What a day came to. `missing` of its `counted` events have no raw event."""

    distinct_id: str
    day: str
    status: str
    counted: int
    missing: int = 0
    differences: list[Difference] = field(default_factory=list)


def person(
    work: Work,
    owner: str,
    *,
    is_repairing: bool = False,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[Recounted]:
    """Recount every day of this user, or of this visitor who is nobody's. Raises Unavailable."""
    days = [day.day for day in store.every_day(work.calls, owner).values() if _has_counted(day)]
    for start in range(0, len(days), DAYS_AT_A_TIME):
        waiting = days[start : start + DAYS_AT_A_TIME]
        before: dict[str, Recounted] = {}
        for number in range(1, _ROUNDS_MAX + 1):
            recounted = _recounted(work, owner, waiting, is_repairing=is_repairing)
            again = {
                one.day: one for one in recounted if _may_change(work, one, before, is_repairing=is_repairing)
            }
            if number == _ROUNDS_MAX:
                again = {}
            yield from (one for one in recounted if one.day not in again)
            if not again:
                break
            waiting, before = sorted(again), again
            pause(_ROUND_SECONDS)


def everybody(work: Work) -> Iterator[str]:
    """Everyone who has days, in the table's order. Raises Unavailable."""
    last: str | None = None
    for items, _ in work.calls.scan():
        for item in items:
            if not keys.is_day(item[Item.sk.attr_name]["S"]):
                continue
            distinct_id = keys.distinct_id_of(item[Item.pk.attr_name]["S"])
            assert distinct_id is not None
            if distinct_id != last and _has_counted(stored_day(item, with_ids=False)):
                last = distinct_id
                yield distinct_id


def _has_counted(day: StoredDay) -> bool:
    """Whether there is something to recount: not on a seal or a fence, whatever the counters say."""
    return day.revision is not None and day.merged_into is None


def _may_change(work: Work, one: Recounted, before: Mapping[str, Recounted], *, is_repairing: bool) -> bool:
    """Whether to look again: something came between, or a request may be on its way from its day to its raw events."""
    if one.status == DIFFERENT:
        return is_repairing
    if one.status != INCOMPLETE:
        return False
    if one.day in before:
        known = before[one.day]
        return (one.counted, one.missing) != (known.counted, known.missing)
    # A day with none at all is of before they were kept, unless it has just begun.
    yesterday = (work.now.astimezone(work.settings.timezone) - timedelta(days=1)).date().isoformat()
    return one.missing < one.counted or one.day >= yesterday


def _recounted(work: Work, owner: str, days: Sequence[str], *, is_repairing: bool) -> list[Recounted]:
    # The days first: what is counted afterwards is not among the ids they have seen.
    between = keys.day_range(days[0], days[-1])
    items = work.calls.query(keys.user_pk(owner), between, is_consistent=True)
    stored = {day.day: day for day in map(stored_day, items) if _has_counted(day)}
    raw = _raw_events(work, owner, days)
    found: list[Recounted] = []
    for name in days:
        if (day := stored.get(name)) is None:
            continue  # Moved or erased meanwhile.
        one = compared(owner, day, raw.get(name, {}))
        if one.status == DIFFERENT and is_repairing and _repaired(work, owner, day, raw.get(name, {})):
            one.status = REPAIRED
        found.append(one)
    return found


def _raw_events(work: Work, owner: str, days: Sequence[str]) -> dict[str, dict[bytes, RawEvent]]:
    """The raw events of these days, each once, as it first arrived."""
    timezone = work.settings.timezone
    first = datetime.combine(date.fromisoformat(days[0]), clock.min, timezone)
    end = datetime.combine(date.fromisoformat(days[-1]) + timedelta(days=1), clock.min, timezone)
    between = keys.events_between(epoch_ms(first) - packing.SPAN_MS, epoch_ms(end))
    copies: list[RawEvent] = []
    for source in raw_events.sources(work, owner, is_consistent=True):
        pk = keys.user_pk(source.distinct_id)
        for item in work.calls.query(pk, between, is_consistent=True):
            if not raw_events.is_erased(item, source.erased_at):
                copies += raw_events.read(item, timezone)
    found: dict[str, dict[bytes, RawEvent]] = {}
    for raw in sorted(copies, key=_received_ms, reverse=True):
        day, message_hash = raw.key
        found.setdefault(day, {})[message_hash] = raw
    return found


def _received_ms(raw: RawEvent) -> int:
    return raw.received_ms


def compared(owner: str, day: StoredDay, raw: Mapping[bytes, RawEvent]) -> Recounted:
    """What a day holds beside what its raw events come to. Pure."""
    counted = day.seen - day.elsewhere
    if day.full:
        # A merge moved more ids here than a day may hold, and left out which events those are.
        return Recounted(owner, day.day, FULL, len(counted))
    missing = len(counted - raw.keys())
    if missing:
        return Recounted(owner, day.day, INCOMPLETE, len(counted), missing)
    differences = list(_differences(day, _sum(day, raw)))
    return Recounted(owner, day.day, DIFFERENT if differences else SAME, len(counted), 0, differences)


def _sum(day: StoredDay, raw: Mapping[bytes, RawEvent]) -> Metrics:
    total = Metrics()
    for message_hash in day.seen - day.elsewhere:
        part = raw[message_hash].event.part
        assert part is not None
        total.count(part)
    total.by_event = _folded(total.by_event, day)
    if len(total.order_ids) > ORDER_IDS_PER_DAY_MAX:
        total.order_ids = day.metrics.order_ids
    if len(total.sessions) > MERGED_DAY_IDS_MAX:
        total.sessions = day.metrics.sessions
    return total


def _folded(by_event: _Numbers, day: StoredDay) -> _Numbers:
    """The names as the day has them: `other` holds those that found no room, on this day or on one that moved here."""
    folded = {OTHER: 0}
    for name, count in by_event.items():
        kept = count if name in day.names else 0
        if OTHER in day.metrics.by_event:
            kept = min(kept, day.metrics.by_event.get(name, 0))
        folded[name] = folded.get(name, 0) + kept
        folded[OTHER] += count - kept
    return folded


def _differences(day: StoredDay, recounted: Metrics) -> Iterator[Difference]:
    stored = day.metrics
    for name in COUNTERS:
        pair = stored.counters.get(name, 0), recounted.counters.get(name, 0)
        if pair[0] != pair[1]:
            yield Difference(name, None, *pair)
    for family in ("revenue_minor", "refunds_minor", "by_event"):
        one, other = getattr(stored, family), getattr(recounted, family)
        for member in sorted(one.keys() | other.keys()):
            if one.get(member, 0) != other.get(member, 0):
                yield Difference(family, member, one.get(member, 0), other.get(member, 0))
    if stored.sessions != recounted.sessions:
        yield Difference("sessions", None, len(stored.sessions), len(recounted.sessions))
    if stored.order_ids != recounted.order_ids:
        yield Difference("order_ids", None, len(stored.order_ids), len(recounted.order_ids))


_FAMILIES = {"revenue_minor": DayItem.revenue, "refunds_minor": DayItem.refunds, "by_event": DayItem.by_event}


def _repaired(work: Work, owner: str, day: StoredDay, raw: Mapping[bytes, RawEvent]) -> bool:
    """Write the numbers that differ, if nothing has changed since they were read."""
    recounted = _sum(day, raw)
    actions: list[Action] = [Add(DayItem.revision, 1)]
    for difference in _differences(day, recounted):
        actions.append(_correction(difference, recounted))
    erased_at = DayItem.erased_at
    is_as_read = AllOf(
        DayItem.revision == day.revision,
        DayItem.merged_into.does_not_exist(),
        # A day that was erased begins again, and its revision too.
        (erased_at == day.erased_at) if day.erased_at else erased_at.does_not_exist(),
    )
    try:
        work.calls.update(keys.day_key(owner, day.day), actions, is_as_read)
    except ConditionFailedError:
        return False
    return True


def _correction(difference: Difference, recounted: Metrics) -> Action:
    attribute: Attribute[Any]
    value: Any = difference.recounted
    if difference.metric in COUNTER_ATTRIBUTES:
        attribute = COUNTER_ATTRIBUTES[difference.metric]
    elif difference.of is not None:
        attribute = _FAMILIES[difference.metric][difference.of]
    else:
        attribute = DayItem.sessions if difference.metric == "sessions" else DayItem.order_ids
        value = getattr(recounted, difference.metric)
    return attribute.set(value) if value else attribute.remove()
