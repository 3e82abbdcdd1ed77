"""Everything held on one person, page by page, as NDJSON: whose the anonymous ids are, the days, the raw events.

The lines of `python -m service export`, for one user: {"anonymousId", "userId", "status"}, and a day as a range query
has it with "userId" and "orderIds" beside. Where raw events are kept, also {"receivedAt", "event"} for each.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from . import identities, keys, merge, raw_events, replies
from .identities import Alias
from .models import Item, Raw, erased_at_of, stored_day
from .problems import InvalidRequest, Unavailable
from .raw_events import Source
from .store import Work

_SK = Item.sk.attr_name


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, and where the next page begins; None after the last."""

    body: bytes
    next_cursor: str | None


class _Line(NamedTuple):
    """A line, and where it stands: in whose partition, in which item, as which line of it."""

    distinct_id: str
    sk: str
    number: int
    text: bytes = b""


def page(work: Work, owner: str, cursor: str | None, bytes_max: int) -> Page:
    """The lines of this person after the cursor, as many as fit in `bytes_max` and in the time that is left.

    Raises InvalidRequest for a cursor that is none; Unavailable when there is no time for a single line.
    """
    last = None if cursor is None else _decoded(cursor)
    texts: list[bytes] = []
    size_bytes = 0
    try:
        for line in _lines(work, owner, last):
            line_bytes = replies.wire_bytes(line.text)
            if size_bytes and line_bytes and last is not None and size_bytes + line_bytes > bytes_max:
                return Page(b"".join(texts), _encoded(last))
            last = line
            texts.append(line.text)
            size_bytes += line_bytes
    except Unavailable:
        if not texts or last is None:
            raise
        return Page(b"".join(texts), _encoded(last))
    return Page(b"".join(texts), None)


def _lines(work: Work, owner: str, last: _Line | None) -> Iterator[_Line]:
    """The ways back, and the days as they are once those have been read: the merges they lead to have ended by then.
    Then the raw events, under each id in turn."""
    # Whose events the page before ended with, if it got beyond the owner's.
    visitor = None if last is None or last.distinct_id == owner else last.distinct_id
    visitors: list[Source] = []
    if visitor is None:
        for item in _items(work, owner, keys.every_way_back(), last):
            anonymous_id = keys.anonymous_id_of(item[_SK]["S"])
            alias = _alias_at_rest(work, anonymous_id)
            if alias is not None and alias.user_id == owner:
                visitors.append(Source(anonymous_id, alias.erased_at))
            yield _Line(owner, item[_SK]["S"], 0, _alias_line(anonymous_id, alias))
        for item in _items(work, owner, keys.every_day(), last):
            yield _Line(owner, item[_SK]["S"], 0, _day_line(owner, item))
    for source in _sources(work, owner, visitors if last is None else None):
        # The owner's come first, whatever the name, then those of the anonymous ids in their order.
        if visitor is not None and (source.distinct_id == owner or source.distinct_id < visitor):
            continue
        here = last if last is not None and last.distinct_id == source.distinct_id else None
        # No line, but a place to go on from: of thousands of ids without events a page gets through some.
        if here is None:
            yield _Line(source.distinct_id, keys.every_events()[0], 0)
        yield from _raw_lines(work, source, here)


def _sources(work: Work, owner: str, visitors: list[Source] | None) -> list[Source]:
    """Where raw events lie; what this page has read of it is not read again."""
    if visitors is None:
        return raw_events.sources(work, owner, is_consistent=True)
    mark = work.calls.get(keys.mark_key(owner), is_consistent=True) or {}
    return [Source(owner, erased_at_of(mark)), *visitors]


def _raw_lines(work: Work, source: Source, last: _Line | None) -> Iterator[_Line]:
    for item in _items(work, source.distinct_id, keys.every_events(), last):
        if raw_events.is_erased(item, source.erased_at):
            continue
        sk = item[_SK]["S"]
        for number, raw in enumerate(raw_events.read(item, work.settings.timezone)):
            if last is None or (sk, number) > (last.sk, last.number):
                yield _Line(source.distinct_id, sk, number, replies.raw_event_body(raw) + b"\n")


def _items(work: Work, distinct_id: str, bounds: tuple[str, str], last: _Line | None) -> Iterable[Raw]:
    """What lies between the bounds, from the item of the last line on; that one too, if it has several lines."""
    first, end = bounds
    if last is not None:
        first = max(first, last.sk if keys.is_events(last.sk) else keys.following(last.sk))
    if first > end:
        return ()
    return work.calls.query(keys.user_pk(distinct_id), (first, end), is_consistent=True)


def _alias_at_rest(work: Work, anonymous_id: str) -> Alias | None:
    """Whose it is, the merge ended: its days come later, once they have all moved here."""
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    return merge.finished(work, anonymous_id, alias) if alias is not None and alias.is_merging else alias


def _alias_line(anonymous_id: str, alias: Alias | None) -> bytes:
    return b"" if alias is None else replies.alias_body(anonymous_id, alias.user_id, alias.status) + b"\n"


def _day_line(owner: str, item: Raw) -> bytes:
    """Empty for a fence, which holds nothing."""
    day = stored_day(item)
    return replies.day_body(owner, day) + b"\n" if day.metrics.counters.get("events") else b""


def _encoded(line: _Line) -> str:
    text = f"{line.distinct_id}\n{line.sk}\n{line.number}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> _Line:
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
        distinct_id, sk, number = text.split("\n")
        is_key = max(len(distinct_id.encode()), len(sk.encode())) <= keys.SORT_KEY_BYTES_MAX
        if distinct_id and is_key and keys.is_exported(sk):
            return _Line(distinct_id, sk, int(number))
    except (UnicodeError, binascii.Error, ValueError):
        pass
    raise InvalidRequest(
        "cursor is what Footfall-Next-Cursor of the page before said.", code="invalid_cursor"
    )
