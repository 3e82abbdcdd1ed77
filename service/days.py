"""What of a write a stored day lets in: duplicates dropped, room kept, names folded. Pure: no I/O, no clock."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from .events import Event, Rejection
from .metrics import OTHER, Metrics
from .problems import Unavailable

# DynamoDB takes 300 operators in an expression: with the other conditions 90 ids fit, 95 do not.
IDS_PER_WRITE_MAX = 90
NAMES_PER_DAY_MAX = 100
CURRENCIES_PER_DAY_MAX = 8
# Kept for export and recount; beyond, orders count and their ids are not kept. 100 of 512 bytes are 50 KB.
ORDER_IDS_PER_DAY_MAX = 100
# Ids of events that counted on another user's day. Nobody gets there; 1,500 are 9,000 bytes.
ELSEWHERE_IDS_MAX = 1_500
# A merge may take a day's ids to this many times the cap on events, and its ids and its sessions to this many at all;
# beyond, only counters move. 13,500 of each and the sessions of 10,000 events more are 222,000 bytes; 100 names of 512
# bytes, each twice, 104,000; 100 order ids 51,000; 1,500 ids of events elsewhere 9,000; with every counter and currency
# at its largest 396,650: of 409,600 (tests/engine/test_limits.py).
MERGED_DAY_FACTOR = 5
MERGED_DAY_IDS_MAX = 13_500


@dataclass(slots=True)
class StoredDay:
    """A day item as read. `revision` is None where nothing was ever counted."""

    day: str
    metrics: Metrics = field(default_factory=Metrics)
    seen: set[bytes] = field(default_factory=set)
    # Of those, the ones that count on another user's day.
    elsewhere: set[bytes] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    currencies: set[str] = field(default_factory=set)
    revision: int | None = None
    merged_into: str | None = None
    # When that merge began, in epoch milliseconds.
    merge_began_ms: int | None = None
    full: bool = False
    # Epoch milliseconds, 0 for never; events of before do not count.
    erased_at: int = 0

    def counted(self, event: Event) -> bool:
        """Whether it is among the events counted here."""
        return event.message_hash in self.seen and event.message_hash not in self.elsewhere

    def is_erased_since(self, began_ms: int) -> bool:
        """Whether an erasure ended the merge that began then, in epoch milliseconds: its time is after that of every
        merge it ends."""
        return self.erased_at > began_ms


@dataclass(slots=True)
class Addition:
    """One write to a day: what it adds, and the room its condition asks for."""

    metrics: Metrics
    seen: set[bytes]
    new_names: set[str]
    new_currencies: set[str]
    new_order_ids: set[str]


@dataclass(slots=True)
class Admission:
    """What became of the events of one write."""

    admitted: list[Event] = field(default_factory=list)
    duplicates: list[Event] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    # Of the duplicates, those that this day has counted, and those that the day beside it has.
    seen: list[Event] = field(default_factory=list)
    seen_beside: list[Event] = field(default_factory=list)

    def add(self, more: "Admission") -> None:
        """Take in what became of others."""
        self.admitted += more.admitted
        self.duplicates += more.duplicates
        self.rejections += more.rejections
        self.seen += more.seen
        self.seen_beside += more.seen_beside


@dataclass(slots=True)
class Outcome:
    """What became of a batch. `accepted + duplicates + len(rejected)` is its size when nothing is undecided."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    # Why some events could not be decided; None when all were.
    undecided: Unavailable | None = None


def admit(
    events: Iterable[Event],
    stored: StoredDay,
    events_max: int,
    *,
    orders: Collection[str] = (),
    erased_at: int = 0,
) -> Admission:
    """Decide each event against the day as stored. Duplicates are decided before room.

    `orders` are those counted already, anywhere; events until `erased_at`, in epoch milliseconds, are erased ones.
    The stored day may have changed since it was read; what is admitted is written under a condition that holds only
    if it still fits, and what is refused stays refused: a day's sets only grow, until an erasure.
    """
    result = Admission()
    room = events_max - len(stored.seen)
    currencies = set(stored.currencies)
    orders = set(orders)
    erased_at = max(erased_at, stored.erased_at)
    for event in events:
        part = event.part
        assert part is not None
        amount = part.revenue or part.refund
        if event.message_hash in stored.seen or part.order_id in orders:
            result.duplicates.append(event)
        elif event.instant_ms <= erased_at:
            result.rejections.append(erased(event))
        elif stored.full or len(result.admitted) >= room:
            result.rejections.append(_day_full(event, f"this day holds {events_max} events"))
        elif amount and amount.currency not in currencies and len(currencies) >= CURRENCIES_PER_DAY_MAX:
            result.rejections.append(_day_full(event, f"this day holds {CURRENCIES_PER_DAY_MAX} currencies"))
        else:
            if amount:
                currencies.add(amount.currency)
            if part.order_id is not None:
                orders.add(part.order_id)
            result.admitted.append(event)
    result.seen = [event for event in result.duplicates if stored.counted(event)]
    return result


def admit_beside(
    events: Sequence[Event],
    own: StoredDay,
    other: StoredDay,
    events_max: int,
    *,
    orders: Collection[str] = (),
    erased_at: int = 0,
) -> Admission:
    """Decide events whose first copy may be on another user's day. Duplicates of either day are decided first.

    A full day no longer knows what it has counted, and so refuses what may be among it; so does one that was erased.
    """
    result = admit(
        [event for event in events if event.message_hash not in other.seen],
        own,
        events_max,
        orders=orders,
        erased_at=max(erased_at, other.erased_at),
    )
    for event in events:
        if event.message_hash in other.seen:
            result.duplicates.append(event)
            if own.counted(event):
                result.seen.append(event)
            elif other.counted(event):
                result.seen_beside.append(event)
    room = _room_elsewhere(other, events_max)
    if room is not None:
        result.rejections += [
            _day_full(event, "the day of its first copy is full") for event in result.admitted[room:]
        ]
        result.admitted = result.admitted[:room]
    return result


def _room_elsewhere(other: StoredDay, events_max: int) -> int | None:
    """How many events a day can still be told not to count; None for any number, as it counts none any more."""
    if other.full:
        return 0
    return ELSEWHERE_IDS_MAX - len(other.elsewhere) if len(other.seen) < events_max else None


def addition(events: Sequence[Event], stored: StoredDay) -> Addition:
    """The write that counts these events, each admitted."""
    total = Metrics()
    for event in events:
        assert event.part is not None
        total.count(event.part)
    return _fitted(total, {event.message_hash for event in events}, stored)


def merged_ids_max(events_max: int) -> int:
    """How many ids a merge may take a day to."""
    return min(MERGED_DAY_FACTOR * events_max, MERGED_DAY_IDS_MAX)


def moved(source: StoredDay, target: StoredDay, events_max: int) -> tuple[Addition, bool]:
    """The write that moves an anonymous day onto a user's, and whether the user's day is full from then on.

    A full day's ids are no longer kept: it counts nothing any more, so none of them can count twice. Sessions that
    find no room are lost to the day's `sessions`.
    """
    ids_max = merged_ids_max(events_max)
    full = source.full or target.full or len(source.seen | target.seen) > ids_max
    total = Metrics()
    total.merge(source.metrics)
    if len(total.sessions | target.metrics.sessions) > MERGED_DAY_IDS_MAX:
        total.sessions = set()
    return _fitted(total, set() if full else source.seen, target), full


def _fitted(total: Metrics, seen: set[bytes], stored: StoredDay) -> Addition:
    """Fold the names that find no room among the day's stored ones, and leave out the order ids that find none."""
    room = NAMES_PER_DAY_MAX - len(stored.names)
    new_names: set[str] = set()
    by_event: dict[str, int] = {}
    for name, count in total.by_event.items():
        kept = name
        if name != OTHER and name not in stored.names:
            if len(new_names) < room:
                new_names.add(name)
            else:
                kept = OTHER
        by_event[kept] = by_event.get(kept, 0) + count
    total.by_event = by_event
    order_room = max(0, ORDER_IDS_PER_DAY_MAX - len(stored.metrics.order_ids))
    new_order_ids = sorted(total.order_ids - stored.metrics.order_ids)[:order_room]
    return Addition(total, seen, new_names, total.currencies - stored.currencies, set(new_order_ids))


def erased(event: Event) -> Rejection:
    """Why an event of before an erasure is not counted."""
    return Rejection(
        event.index, event.message_id, "erased", "it is of before the time when its person was erased"
    )


def _day_full(event: Event, reason: str) -> Rejection:
    return Rejection(event.index, event.message_id, "day_full", reason)
