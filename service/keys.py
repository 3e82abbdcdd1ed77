"""The only place that builds and parses the table's keys. Pure: no I/O, no clock.

    PK                   SK                    holds
    USER#<distinct id>   DAY#YYYY-MM-DD        the day item
    USER#<anonymous id>  ALIAS                 the user this anonymous id belongs to
    USER#<user id>       ALIAS#<anonymous id>  the way back
    PENDING#<0-f>        <startedAt>#<id>      a merge begun and not ended
    SETTINGS             SETTINGS              what the table remembers of its configuration

A distinct id is a user id or an anonymous id. It may contain `#`, so a key is always split at the first one.
"""

import hashlib
from typing import NamedTuple

_USER = "USER#"
_DAY = "DAY#"
_WAY_BACK = "ALIAS#"
_PENDING = "PENDING#"


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


def alias_key(anonymous_id: str) -> Key:
    """The item that says whose an anonymous id is."""
    return Key(user_pk(anonymous_id), "ALIAS")


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
    """The row a sweep finds an unfinished merge by. Sixteen partitions, so that none is hot."""
    shard = hashlib.sha256(distinct_id.encode()).hexdigest()[0]
    return Key(_PENDING + shard, f"{started_at}#{distinct_id}")


def settings_key() -> Key:
    """The one item that describes the table itself."""
    return Key("SETTINGS", "SETTINGS")
