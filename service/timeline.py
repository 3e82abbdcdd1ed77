"""What somebody did, event by event, from raw events: the newest receipt first, and in it the newest event.

Items lie in the order of their first event, and pages are in the order of receipt. The two are never further apart than
the age limit allows, so a page reads that much on either side, and the whole history of nobody. What arrived later than
that, by an import, stands where the age limit would have let it in.
"""

import base64
import binascii
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from time import monotonic
from typing import Any, NamedTuple

from . import keys, packing, raw_events, replies
from .events import IMPORT_EARLIEST, TIMESTAMP_AHEAD_MAX, epoch_ms
from .models import Item, Raw
from .packing import RawEvent
from .problems import InvalidRequest, Unavailable
from .raw_events import Source
from .store import Work

EVENTS_MAX = 1_000
# A Query reads as many at a time: more than most pages need, and at most 13 RRU if they are of a KB each.
_ITEMS_PER_QUERY = 100
_ITEMS_KNOWN_MAX = 8
_DAY_MS = 86_400_000
_AHEAD_MS = TIMESTAMP_AHEAD_MAX // timedelta(milliseconds=1)
# Copies of an event lie in items that begin at most so far before it; its day is as long, and they may differ by that.
_COPIES_MS = 2 * packing.SPAN_MS


class Place(NamedTuple):
    """Where an event stands; the greatest comes first. Times in epoch milliseconds."""

    order_ms: int
    instant_ms: int
    message_hash: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events: of these days, both inclusive, after this place, so many, and of so many bytes."""

    first_day: date
    last_day: date
    after: Place | None
    limit: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some events as JSON, and where the next page begins; None after the last."""

    events: list[str]
    next_cursor: str | None


class _Copy(NamedTuple):
    """Where an event stands, and as which of its item it is kept. Not what was sent: of days, that would be much."""

    place: Place
    received_ms: int
    item: Raw
    number: int


@dataclass(slots=True)
class _Found:
    """The events read so far, each once: as it first arrived."""

    asked: Asked
    age_ms: int
    # Where what is not yet read lies: before this. Nothing there can stand above `horizon_ms`, nor be a copy of it.
    horizon_ms: float = float("inf")
    copies: dict[tuple[str, bytes], _Copy] = field(default_factory=dict)

    def add(self, raw: RawEvent, item: Raw, number: int) -> None:
        """Take in one event of an item."""
        days = self.asked.first_day.isoformat(), self.asked.last_day.isoformat()
        if not days[0] <= raw.key[0] <= days[1]:
            return
        event = raw.event
        order_ms = min(raw.received_ms, raw_events.first_ms_of(item) + self.age_ms)
        known = self.copies.get(raw.key)
        if known is None or raw.received_ms < known.received_ms:
            place = Place(order_ms, event.instant_ms, event.message_hash)
            self.copies[raw.key] = _Copy(place, raw.received_ms, item, number)

    def ready(self) -> list[_Copy]:
        """Those whose place is sure."""
        after = self.asked.after
        return [
            copy
            for copy in self.copies.values()
            if copy.place.order_ms > self.horizon_ms and (after is None or copy.place < after)
        ]


def page(work: Work, owner: str, asked: Asked) -> Page:
    """The events of this user or visitor after the place, as many as fit.

    Raises Unavailable when there was no time for a single one.
    """
    found = _Found(asked, work.settings.max_event_age_days * _DAY_MS)
    is_whole = False
    try:
        is_whole = _read(work, owner, found)
    except Unavailable:
        if not found.ready():
            raise
    ready = sorted(found.ready(), reverse=True, key=_place)
    lines: list[str] = []
    size_bytes = 0
    for raw in _read_again(work, ready[: asked.limit]):
        line = packing.json_text({**raw.sent, "receivedAt": raw.received_at})
        size_bytes += replies.wire_bytes(line)
        if lines and size_bytes > asked.bytes_max:
            break
        lines.append(line)
    is_last = is_whole and len(lines) == len(ready)
    return Page(lines, None if is_last or not lines else _encoded(ready[len(lines) - 1].place))


def body(head: Mapping[str, Any], found: Page) -> bytes:
    """The body of TimelineReply; `head` is all before the events."""
    text = packing.json_text(head)[:-1]
    cursor = packing.json_text(found.next_cursor)
    return f'{text},"events":[{",".join(found.events)}],"nextCursor":{cursor}}}'.encode()


def after(cursor: str | None) -> Place | None:
    """The place that a cursor stands for. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        order_ms, instant_ms, message_hash = text.split(" ")
        return Place(int(order_ms), int(instant_ms), bytes.fromhex(message_hash))
    except (UnicodeError, binascii.Error, ValueError):
        raise InvalidRequest(
            "cursor is what nextCursor of the page before said.", code="invalid_cursor"
        ) from None


def _encoded(place: Place) -> str:
    text = f"{place.order_ms} {place.instant_ms} {place.message_hash.hex()}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(work: Work, owner: str, found: _Found) -> bool:
    """Read until the page is full. Answers whether that was all there is."""
    between = _between(work, found.asked)
    if between is None:
        return True
    sources = raw_events.sources(work, owner)
    items = heapq.merge(*(_items(work, source, between) for source in sources), key=_sk, reverse=True)
    look_at = 0
    for items_read, item in enumerate(items):
        found.horizon_ms = raw_events.first_ms_of(item) + found.age_ms + _COPIES_MS
        # Counting takes longer the more there are; an eighth more than needed does no harm.
        if items_read == look_at:
            if len(found.ready()) > found.asked.limit:
                return False
            look_at += max(16, items_read // 8)
        if monotonic() > work.calls.deadline:
            raise Unavailable  # Reading items takes longer than fetching them.
        for number, raw in enumerate(raw_events.read(item, work.settings.timezone)):
            found.add(raw, item, number)
    found.horizon_ms = float("-inf")
    return True


def _between(work: Work, asked: Asked) -> tuple[str, str] | None:
    """The sort keys to read between; None where no event can be."""
    timezone = work.settings.timezone
    # West of Greenwich the year 2000 began a day earlier.
    first_day = max(asked.first_day, IMPORT_EARLIEST.date() - timedelta(days=1))
    last_day = min(asked.last_day, (work.now + TIMESTAMP_AHEAD_MAX).date() + timedelta(days=2))
    if first_day > last_day:
        return None
    first = datetime.combine(first_day, time.min, timezone)
    end = datetime.combine(last_day + timedelta(days=1), time.min, timezone)
    first_ms, last_ms = epoch_ms(first) - packing.SPAN_MS, epoch_ms(end)
    if asked.after is not None:
        last_ms = min(last_ms, asked.after.order_ms + _AHEAD_MS + _COPIES_MS)
    return keys.events_between(first_ms, last_ms) if first_ms <= last_ms else None


def _read_again(work: Work, copies: Sequence[_Copy]) -> Iterator[RawEvent]:
    """The events themselves. Those of an item stand together, but for what other items of their request hold."""
    known: dict[int, list[RawEvent]] = {}
    for copy in copies:
        item = id(copy.item)
        if item not in known:
            if len(known) == _ITEMS_KNOWN_MAX:
                del known[next(iter(known))]
            known[item] = list(raw_events.read(copy.item, work.settings.timezone))
        yield known[item][copy.number]


def _items(work: Work, source: Source, between: tuple[str, str]) -> Iterator[Raw]:
    items = work.calls.query(
        keys.user_pk(source.distinct_id), between, is_ascending=False, limit=_ITEMS_PER_QUERY
    )
    return (item for item in items if not raw_events.is_erased(item, source.erased_at))


def _place(copy: _Copy) -> Place:
    return copy.place


def _sk(item: Raw) -> str:
    return str(item[Item.sk.attr_name]["S"])
