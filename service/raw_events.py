"""Raw events in the table: kept beside the days that counted them, read back, removed.

They lie in the partition of the identity they were sent with, and stay there: the ways back tell who became whom. What
is kept once stays, but for events dated ahead of their receipt: those may count again after an erasure.
"""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import NamedTuple

from . import identities, ids, keys, packing
from .dynamodb import BATCH_ITEMS_MAX, ConditionFailedError
from .events import Event
from .models import EventsItem, Raw, check_schema, erased_at_of
from .packing import RawEvent
from .store import Work

_RECEIVED_AT = EventsItem.received_at.attr_name
_PAYLOAD = EventsItem.payload.attr_name
_EVENTS = EventsItem.events.attr_name
_SK = EventsItem.sk.attr_name


class Source(NamedTuple):
    """An id under which raw events of a person lie. Those of before `erased_at` (epoch milliseconds, 0 for never) are
    left over from an erasure, and nobody's."""

    distinct_id: str
    erased_at: int


def sources(work: Work, owner: str, *, is_consistent: bool = False) -> list[Source]:
    """The ids of a user, or of an anonymous visitor who is nobody's."""
    mark = work.calls.get(keys.mark_key(owner), is_consistent=is_consistent) or {}
    found = [Source(owner, erased_at_of(mark))]
    if ids.is_anonymous(owner):
        return found
    aliases = identities.aliases_of(work.calls, owner, is_consistent=is_consistent)
    return found + [Source(anonymous_id, alias.erased_at) for anonymous_id, alias in aliases.items()]


def keep(work: Work, distinct_id: str, events: Sequence[Event]) -> None:
    """Keep these events, which count, unless an earlier try has. One write, 1 WRU per KB compressed.

    Raises Unavailable; what is sent again then has the same key.
    """
    origin = work.origin
    assert origin is not None
    expires_at = origin.received_ms // 1000 + work.settings.raw_ttl_days * 86_400
    for pack in packing.packed(events, origin):
        pk, sk = keys.events_key(distinct_id, pack.first_ms, pack.digest)
        item = EventsItem(
            pk,
            sk,
            received_at=origin.received_ms,
            events=pack.events,
            payload=pack.payload,
            expires_at=expires_at,
        )
        # Dated ahead, it may have been received before an erasure and count after it: then the later receipt tells.
        is_older = EventsItem.received_at < min(pack.first_ms, origin.received_ms)
        try:
            work.calls.put(item, EventsItem.pk.does_not_exist() | is_older)
        except ConditionFailedError:
            continue  # A retry: the first receipt stays.


def read(item: Raw, timezone: tzinfo) -> Iterator[RawEvent]:
    """The events of one item."""
    check_schema(item)
    return packing.unpacked(bytes(item[_PAYLOAD]["B"]), received_ms_of(item), timezone)


def received_ms_of(item: Raw) -> int:
    """When an item's events arrived, in epoch milliseconds."""
    return int(item[_RECEIVED_AT]["N"])


def first_ms_of(item: Raw) -> int:
    """When the first of an item's events happened, in epoch milliseconds."""
    return keys.first_ms_of(item[_SK]["S"])


def is_erased(item: Raw, erased_at: int) -> bool:
    """Whether it is of before an erasure, in epoch milliseconds, 0 for none: made before it, or received before it."""
    return min(received_ms_of(item), first_ms_of(item)) <= erased_at


def remove(work: Work, distinct_id: str, erased_at: int) -> int:
    """Delete the raw events of before an erasure. Answers how many events they were.

    As a rule no condition is asked for: an item that this may delete never becomes one that has to stay. Events dated
    ahead may; they are rare, and deleted one by one.
    """
    removed = 0
    found: list[keys.Key] = []
    pk = keys.user_pk(distinct_id)
    for item in work.calls.query(pk, keys.every_events(), is_consistent=True):
        if is_erased(item, erased_at):
            removed += int(item[_EVENTS]["N"])
            key = keys.Key(pk, item[_SK]["S"])
            if received_ms_of(item) < first_ms_of(item):
                _delete_as_read(work, key, received_ms_of(item))
            else:
                found.append(key)
        if len(found) == BATCH_ITEMS_MAX:
            # At once, so that what comes after a timeout has less to do.
            work.calls.delete_all(found)
            found = []
    work.calls.delete_all(found)
    return removed


def _delete_as_read(work: Work, key: keys.Key, received_ms: int) -> None:
    # An item that is gone fails the condition too.
    with contextlib.suppress(ConditionFailedError):
        work.calls.delete(key, EventsItem.received_at == received_ms)
