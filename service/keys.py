"""The only place that builds and parses the table's keys. Pure: no I/O, no clock.

    PK                   SK                    holds
    USER#<distinct id>   DAY#YYYY-MM-DD        the day item
    USER#<anonymous id>  ALIAS                 the user this anonymous id belongs to
    USER#<user id>       ALIAS#<anonymous id>  the way back
    USER#<user id>       ERASED                when the user was erased
    ORDER#<hash>         ORDER                 which event an order was counted by
    PENDING#<0-f>        <startedAt>#<id>      a merge or an erasure begun and not ended
    SETTINGS             SETTINGS              what the table remembers of its configuration

A distinct id is a user id or an anonymous id. It may contain `#`, so a key is always split at the first one.
"""

import hashlib
from typing import NamedTuple

from . import ids

_USER = "USER#"
_DAY = "DAY#"
_WAY_BACK = "ALIAS#"
_PENDING = "PENDING#"
_ORDER = "ORDER#"


class Key(NamedTuple):
    """Partition key and sort key of one item."""

    pk: str
    sk: str


def user_pk(distinct_id: str) -> str:
    """The partition of a user or of an anonymous visitor."""
    return _USER + distinct_id


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


def person() -> tuple[str, str]:
    """The sort keys between which all that is held on a person lies: the ways back, then the days."""
    return _WAY_BACK, "DAY$"


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
