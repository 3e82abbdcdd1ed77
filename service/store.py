"""What the service asks of its table, in its own words: read days, add to a day, remember the time zone.

Counting is in `counting`, the steps of identities are in `identities`; the order of steps, on which exactly-once
rests, is in `ingest`, `merge` and `erasure`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pynamodb.attributes import Attribute
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from . import keys
from .days import Addition, StoredDay
from .dynamodb import Calls, ConditionFailedError
from .models import (
    COUNTER_ATTRIBUTES,
    SCHEMA,
    Add,
    DayItem,
    Fits,
    Item,
    Keep,
    Raw,
    SettingsItem,
    stored_day,
)
from .packing import Origin
from .settings import Settings

# A write whose item changes each time between reading and writing again; four writers at once need two rounds.
ROUNDS_MAX = 20
# A newer number stays: an older version may write during a deployment.
KEEP_SCHEMA = Keep(Item.schema, SCHEMA)
_NEVER_EXPIRE = DayItem.expires_at.remove()
# Days without events, such as fences, that are looked at in one Query.
DAYS_PER_QUERY = 64


@dataclass(frozen=True, slots=True)
class Work:
    """What one request works with: its database calls, the settings, its moment, and whether it brings history.

    `origin` is what its raw events are kept with; None where they are not.
    """

    calls: Calls
    settings: Settings
    now: datetime
    is_import: bool = False
    origin: Origin | None = None


# --- reading --------------------------------------------------------------------------------------------------------


def days_between(calls: Calls, distinct_id: str, first_day: str, last_day: str) -> list[StoredDay]:
    """The days with events from `first_day` to `last_day`, both inclusive, in order. One Query."""
    items = calls.query(keys.user_pk(distinct_id), keys.day_range(first_day, last_day))
    stored = (stored_day(item, with_ids=False) for item in items)
    return [day for day in stored if day.metrics.counters.get("events")]


def every_day(calls: Calls, distinct_id: str) -> dict[str, StoredDay]:
    """Every day item of a user or an anonymous id as of now, sealed and fenced ones too."""
    items = calls.query(keys.user_pk(distinct_id), keys.every_day(), is_consistent=True)
    return {day.day: day for day in map(stored_day, items)}


def outlines(calls: Calls, distinct_id: str) -> dict[str, StoredDay]:
    """Every day item, with no more than its counter of events and when it was erased: some hundred bytes each.

    All of hundreds of full days would be more than the function has time and memory for.
    """
    only = (DayItem.pk, DayItem.sk, DayItem.schema, COUNTER_ATTRIBUTES["events"], DayItem.erased_at)
    items = calls.query(keys.user_pk(distinct_id), keys.every_day(), is_consistent=True, only=only)
    return {day.day: day for day in map(stored_day, items)}


def outer_days(calls: Calls, distinct_id: str) -> tuple[str | None, str | None]:
    """The first and the last day with events; None where there is none.

    Two Queries, of an item each as a rule; more for a month after an erasure, whose fences lie at either end.
    """
    return _outer_day(calls, distinct_id, is_ascending=True), _outer_day(
        calls, distinct_id, is_ascending=False
    )


def _outer_day(calls: Calls, distinct_id: str, *, is_ascending: bool) -> str | None:
    for limit in (1, DAYS_PER_QUERY):
        items = calls.query(
            keys.user_pk(distinct_id), keys.every_day(), is_ascending=is_ascending, limit=limit
        )
        for day in map(stored_day, items):
            if day.metrics.counters.get("events"):
                return day.day
            if limit == 1:
                break
    return None


def read_again(item: Raw | None, known: StoredDay) -> StoredDay:
    """The day a transaction's condition failed on; what was known of it where the condition held."""
    return known if item is None else stored_day(item)


# --- writing --------------------------------------------------------------------------------------------------------


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
        (DayItem.order_ids, write.new_order_ids),
    ):
        if members:
            actions.append(Add(attribute, members))
    actions += [Add(DayItem.revision, 1), KEEP_SCHEMA]
    if settings.day_ttl_days is None:
        # A fence expires; what is counted on it does not.
        actions.append(_NEVER_EXPIRE)
    else:
        actions.append(DayItem.expires_at.set(end_of(day, settings.day_ttl_days)))
    return actions


def fits(attribute: Attribute[Any], members: Collection[Any], members_max: int) -> list[Condition]:
    """Room for these members in a set; no condition without members."""
    return [Fits(attribute, len(members), members_max)] if members else []


def end_of(day: str, days_after: int) -> int:
    """Epoch seconds of the end of a day, in any zone, so many days later."""
    end = date.fromisoformat(day) + timedelta(days=days_after + 2)
    return int(datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp())


# --- the table itself -----------------------------------------------------------------------------------------------


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
