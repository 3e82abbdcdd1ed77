"""Everything held on one person, page by page, as NDJSON: whose the anonymous ids are, then the days.

The lines of `python -m service export`, for one user: {"anonymousId", "userId", "status"}, and a day as a range query
has it with "userId" and "orderIds" beside.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from . import identities, ids, keys, merge, replies
from .models import Item, Raw, stored_day
from .problems import InvalidRequest, Unavailable
from .store import Work

_SK = Item.sk.attr_name


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, and where the next page begins; None after the last."""

    body: bytes
    next_cursor: str | None


def page(work: Work, owner: str, cursor: str | None, bytes_max: int) -> Page:
    """The lines of this person after the cursor, as many as fit in `bytes_max` and in the time that is left.

    Raises InvalidRequest for a cursor that is none; Unavailable when there is no time for a single line.
    """
    after = None if cursor is None else _decoded(cursor)
    lines: list[bytes] = []
    size_bytes = 0
    try:
        for item in _items(work, owner, after):
            line = _line(work, owner, item)
            if lines and after is not None and size_bytes + len(line) > bytes_max:
                return Page(b"".join(lines), _encoded(after))
            after = item[_SK]["S"]
            lines.append(line)
            size_bytes += len(line)
    except Unavailable:
        if not lines or after is None:
            raise
        return Page(b"".join(lines), _encoded(after))
    return Page(b"".join(lines), None)


def _items(work: Work, owner: str, after: str | None) -> Iterator[Raw]:
    """The ways back, and the days as they are once those have been read: the merges they lead to have ended by then."""
    for first, last in (keys.every_way_back(), keys.every_day()):
        start = first if after is None else max(first, keys.following(after))
        if start <= last:
            yield from work.calls.query(keys.user_pk(owner), (start, last), is_consistent=True)


def _line(work: Work, owner: str, item: Raw) -> bytes:
    """Empty for a fence, which holds nothing."""
    sk = item[_SK]["S"]
    if keys.is_day(sk):
        day = stored_day(item)
        return replies.day_body(owner, day) + b"\n" if day.metrics.counters.get("events") else b""
    anonymous_id = keys.anonymous_id_of(sk)
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    if alias is not None and alias.is_merging:
        # Its days come later, once they have all moved here.
        alias = merge.finished(work, anonymous_id, alias)
    return b"" if alias is None else replies.alias_body(anonymous_id, alias.user_id, alias.status) + b"\n"


def _encoded(sk: str) -> str:
    return base64.urlsafe_b64encode(sk.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> str:
    try:
        sk = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
    except (UnicodeError, binascii.Error, ValueError):
        sk = ""
    first, last = keys.person()
    if not first <= sk <= last or len(sk) > 2 * ids.ID_CHARACTERS_MAX:
        raise InvalidRequest(
            "cursor is what Footfall-Next-Cursor of the page before said.", code="invalid_cursor"
        )
    return sk
