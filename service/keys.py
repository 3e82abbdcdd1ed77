"""The only place that builds and parses the table's keys. Pure: no I/O, no clock.

    PK                   SK                    holds
    USER#<distinct id>   DAY#YYYY-MM-DD        the day item
    USER#<anonymous id>  ALIAS                 the user this anonymous id belongs to
    USER#<user id>       ALIAS#<anonymous id>  the way back
    USER#<user id>       ERASED                when the user was erased
    USER#<distinct id>   EVENTS#<first>#<hash> raw events of one request; the time of the first, and of which they are
    ORDER#<hash>         ORDER                 which event an order was counted by
    PENDING#<0-f>        <startedAt>#<id>      a merge or an erasure begun and not ended
    SETTINGS             SETTINGS              what the table remembers of its configuration

A distinct id is a user id or an anonymous id. It may contain `#`, so a key is always split at the first one.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from . import ids
from .events import epoch_ms, moment

_USER = "USER#"
_DAY = "DAY#"
_WAY_BACK = "ALIAS#"
_PENDING = "PENDING#"
_ORDER = "ORDER#"
_EVENTS = "EVENTS#"
# Those three as a filter of the stream says it (Lambda Developer Guide, event filtering).
MARKS_AND_EVENTS = {"SK": {"S": ["ALIAS", "ERASED", {"prefix": _EVENTS}]}}


# DynamoDB's own limit is 1,024 bytes; `following` takes one. The longest of ours, with an id of 128 characters, is 528.
SORT_KEY_BYTES_MAX = 1_023


class Key(NamedTuple):
    """Partition key and sort key of one item."""

    pk: str
    sk: str


def of_item(attributes: Mapping[str, Any]) -> Key:
    """Of an item as DynamoDB gives it, or of a stream's record's `Keys`. Raises KeyError and TypeError where they are
    not there."""
    return Key(attributes["PK"]["S"], attributes["SK"]["S"])


def user_pk(distinct_id: str) -> str:
    """The partition of a user or of an anonymous visitor."""
    return _USER + distinct_id


def distinct_id_of(pk: str) -> str | None:
    """Whose a partition is; None for one that is nobody's."""
    return pk.removeprefix(_USER) if pk.startswith(_USER) else None


def day_key(distinct_id: str, day: str) -> Key:
    """The day item; `day` is YYYY-MM-DD."""
    return Key(user_pk(distinct_id), _DAY + day)


def day_of(sk: str) -> str:
    """The YYYY-MM-DD of a day item's sort key."""
    return sk.removeprefix(_DAY)


def day_range(first_day: str, last_day: str) -> tuple[str, str]:
    """The sort keys between which the days from `first_day` to `last_day` lie, both inclusive."""
    return _DAY + first_day, _DAY + last_day


def every_day() -> tuple[str, str]:
    """The sort keys between which all day items of a partition lie. `$` follows `#` in ASCII."""
    return _DAY, "DAY$"


def is_day(sk: str) -> bool:
    """Whether a sort key is a day item's."""
    return sk.startswith(_DAY)


def is_exported(sk: str) -> bool:
    """Whether a sort key is that of what an export of a person shows: ways back, days, raw events."""
    return sk.startswith((_WAY_BACK, _DAY, _EVENTS))


def following(sk: str) -> str:
    """The least sort key after this one."""
    return sk + "\x00"


def alias_key(anonymous_id: str) -> Key:
    """The item that says whose an anonymous id is."""
    return Key(user_pk(anonymous_id), "ALIAS")


def erased_key(user_id: str) -> Key:
    """The item that says when a user was erased."""
    return Key(user_pk(user_id), "ERASED")


def mark_key(distinct_id: str) -> Key:
    """The item that speaks of the whole id, not of a day: an anonymous id's alias, a user's erasure."""
    return alias_key(distinct_id) if ids.is_anonymous(distinct_id) else erased_key(distinct_id)


def is_mark(sk: str) -> bool:
    """Whether a sort key is that of an item that speaks of the whole id."""
    return sk in ("ALIAS", "ERASED")


def events_key(distinct_id: str, first_ms: int, digest: str) -> Key:
    """Raw events of one request; `first_ms` is the earliest one's time, `digest` tells which they are."""
    return Key(user_pk(distinct_id), f"{_EVENTS}{_instant(first_ms)}#{digest}")


def events_between(first_ms: int, last_ms: int) -> tuple[str, str]:
    """The sort keys between which raw events lie whose first is of these times, both inclusive. `$` follows `#`."""
    return _EVENTS + _instant(first_ms), f"{_EVENTS}{_instant(last_ms)}$"


def every_events() -> tuple[str, str]:
    """The sort keys between which all raw events of a partition lie."""
    return _EVENTS, "EVENTS$"


def is_events(sk: str) -> bool:
    """Whether a sort key is that of raw events."""
    return sk.startswith(_EVENTS)


def first_ms_of(sk: str) -> int:
    """When the first of an item's raw events happened."""
    text = sk.removeprefix(_EVENTS).partition("#")[0]
    return epoch_ms(datetime.fromisoformat(text))


def _instant(instant_ms: int) -> str:
    """Of one length, so that times sort as text: 2026-11-22T10:00:00.000Z."""
    return moment(instant_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def order_key(order_id: str) -> Key:
    """The claim on an order, whoever placed it. Of the id only a SHA-256 digest is kept here."""
    return Key(_ORDER + hashlib.sha256(order_id.encode()).hexdigest(), "ORDER")


def way_back_key(user_id: str, anonymous_id: str) -> Key:
    """The item by which a user's anonymous ids are found."""
    return Key(user_pk(user_id), _WAY_BACK + anonymous_id)


def every_way_back() -> tuple[str, str]:
    """The sort keys between which the anonymous ids of a user lie."""
    return _WAY_BACK, "ALIAS$"


def anonymous_id_of(sk: str) -> str:
    """The anonymous id that a way back leads to."""
    return sk.removeprefix(_WAY_BACK)


def pending_key(started_at: str, distinct_id: str) -> Key:
    """The row a sweep finds an unfinished merge or erasure by. Sixteen partitions, so that none is hot."""
    shard = hashlib.sha256(distinct_id.encode()).hexdigest()[0]
    return Key(_PENDING + shard, f"{started_at}#{distinct_id}")


def pending_pks() -> list[str]:
    """The partitions of those rows."""
    return [_PENDING + shard for shard in "0123456789abcdef"]


def pending_until(started_at: str) -> tuple[str, str]:
    """The sort keys between which the rows begun before a moment lie. Times of one length sort as text."""
    return "0", started_at


def pending_of(sk: str) -> tuple[str, str]:
    """When it began, and the id."""
    started_at, _, distinct_id = sk.partition("#")
    return started_at, distinct_id


def settings_key() -> Key:
    """The one item that describes the table itself."""
    return Key("SETTINGS", "SETTINGS")
