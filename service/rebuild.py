"""The search index made anew from the raw events in the table, while events keep coming.

1. Each month whose raw events are all still there gets a fresh index, which nobody searches yet. Those of older months
   have expired in part: they are kept as they are, and only added to.
2. Every raw item is indexed there by the indexer's own code, and every mark is settled in all indices: the stream may
   have lost it, and months that are kept have no other way to learn of it. Meanwhile the stream goes on writing to the
   indices in use; what changes owners and what erases goes to the fresh ones too.
3. All months change over in one call, and with it the old indices are gone. A month of which the table has less than
   the index keeps its old one.
4. What has arrived since the beginning is indexed again, as the stream had put it into the old ones; and so is all that
   is of the months that kept theirs.

Documents have ids made of their events, and are created only where they are missing; so every step may overlap with
the stream, and an interrupted rebuild is repeated as a whole. Of two rebuilds at once the later one goes on: it deletes
the indices that the other is filling, which ends with an OvertakenError. What that one has settled in the indices in
use, or added to months that are kept, is what the table says, and stays.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as clock

from . import indices, keys, raw_events, store
from .attribution import IDS_PER_QUERY
from .events import TIMESTAMP_AHEAD_MAX, epoch_ms
from .index_template import Names, first_kept_month, month_of
from .indexer import Indexer, Item, Target
from .models import EventsItem, Raw
from .opensearch import Engine, EngineRefusedError, EngineUnavailableError, Json
from .problems import Unavailable
from .store import Work

# What is indexed in one go: both bound the memory it takes.
EVENTS_AT_A_TIME = 5_000
ITEMS_AT_A_TIME = 500
# A request may have begun before and put its raw events afterwards; and clocks differ.
OVERLAP = timedelta(hours=1)
# So long a rebuild may take before raw events of its oldest month expire under it.
SLACK = timedelta(days=1)
# An engine that is restarted is back by then.
TRIES_MAX = 30
_PAUSE_SECONDS = 10.0
_COUNT_SECONDS = 60.0
_SWAP_ROUNDS_MAX = 5
_PK, _SK, _EVENTS = (attr.attr_name for attr in (EventsItem.pk, EventsItem.sk, EventsItem.events))


class OvertakenError(Exception):
    """Another rebuild has begun since, and deleted what this one was filling."""

    def __init__(self) -> None:
        super().__init__(
            "Another rebuild has begun and goes on; this one ends, and the indices it was filling are gone."
        )


@dataclass(slots=True)
class Rebuilt:
    """How far it is, and what it came to."""

    step: str = "reading raw events"
    # Of the first reading, which is of all; `expected` is what the old indices hold.
    events: int = 0
    expected: int = 0
    # What could not be indexed, of every reading: what is read a second time and fails again counts twice.
    failed: int = 0
    rebuilt: list[str] = field(default_factory=list)
    # Months whose raw events have expired in part.
    kept: list[str] = field(default_factory=list)
    # Months of which the table holds fewer events than the index does: how many, and how many.
    short: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """Of the whole; None where that is not known, as of a first index."""
        return min(self.events / self.expected, 1.0) if self.expected else None


@dataclass(frozen=True, slots=True)
class _Fresh:
    """An index that is being filled, and the alias by which."""

    name: str
    month: str
    alias: str


@dataclass(slots=True)
class Rebuild:
    """One rebuild: the engine, and the table, whose calls have all the time it takes. With `may_shrink` a month loses
    the documents whose raw events are gone."""

    engine: Engine
    work: Work
    may_shrink: bool = False
    pause: Callable[[float], object] = time.sleep
    _fresh: dict[str, _Fresh] = field(default_factory=dict)

    def run(self) -> Generator[Rebuilt, None, None]:
        """Do it, and say after each step how far it is.

        Raises OvertakenError, Unavailable and EngineRefusedError; the same again begins anew.
        """
        rebuilt = Rebuilt()
        yield rebuilt
        self._begin(rebuilt)
        yield from self._index(rebuilt)
        rebuilt.step = "changing over"
        yield rebuilt
        self._change_over(rebuilt)
        rebuilt.step = "reading what arrived meanwhile"
        yield rebuilt
        yield from self._index(rebuilt, since_ms=epoch_ms(self.work.now - OVERLAP))
        if rebuilt.short:
            rebuilt.step = "adding to the months that were kept"
            yield rebuilt
            yield from self._index(rebuilt, months=rebuilt.short)

    @property
    def _names(self) -> Names:
        return Names(self.engine.prefix)

    @property
    def _first_kept(self) -> str:
        """Months before it are to be deleted, and not made anew."""
        today = self.work.now.astimezone(self.work.settings.timezone).date()
        return first_kept_month(today, self.work.settings.search_retention_days)

    def _begin(self, rebuilt: Rebuilt) -> None:
        zone = self.work.settings.timezone.key
        if store.remembered_timezone(self.work.calls, zone) != zone:
            raise Unavailable(
                "FOOTFALL_TIMEZONE is not the time zone this table's days are in.", code="misconfigured"
            )
        indices.setup(self.engine, self.work.calls.table.name, replicas=self.work.settings.search_replicas)
        names = self._names
        there = self._alone()
        first = first_whole_month(self.work)
        in_use = sorted({index.month for index in there if index.is_in_use(names)})
        for month in (month for month in in_use if month >= self._first_kept):
            if month >= first:
                self._fresh[month] = self._made(month, max(i.number for i in there if i.month == month) + 1)
            else:
                rebuilt.kept.append(month)
        rebuilt.expected = self._count(names.events, {"match_all": {}}) or 0

    def _alone(self) -> list[indices.Index]:
        """The indices that are there, once those of a rebuild that died, or of one that is to end now, are gone."""
        for _ in range(_SWAP_ROUNDS_MAX):
            there = indices.listed(self.engine)
            others = [index for index in there if not index.is_in_use(self._names)]
            if all(indices.abandon(self.engine, index) for index in others):
                return there
        raise Unavailable

    def _made(self, month: str, number: int) -> _Fresh:
        while True:
            name, alias = self._names.index(month, number), self._names.filling(month, number)
            if indices.make(self.engine, name, {"aliases": {alias: {"is_write_index": True}}}):
                return _Fresh(name, month, alias)
            number += 1  # Somebody else's, who has just begun.

    # --- reading ----------------------------------------------------------------------------------------------------

    def _index(
        self, rebuilt: Rebuilt, *, since_ms: int | None = None, months: Collection[str] | None = None
    ) -> Iterator[Rebuilt]:
        """All there is, marks too; or what has arrived since then, or what is of these months."""
        is_all = since_ms is None and months is None
        target = Target(self._alias, self._make, self._first_kept, months)
        indexer = Indexer(self.engine, self.work, target)
        for part, marks in _parts(self._items(since_ms, with_marks=is_all)):
            events, failed = self._until_done(indexer, part, marks)
            rebuilt.failed += failed
            if is_all:
                rebuilt.events += events
            yield rebuilt

    def _items(self, since_ms: int | None, *, with_marks: bool) -> Iterator[Raw]:
        for items, _ in self.work.calls.scan():
            for item in items:
                if keys.distinct_id_of(item[_PK]["S"]) is None:
                    continue
                if keys.is_mark(item[_SK]["S"]):
                    if with_marks:
                        yield item
                elif keys.is_events(item[_SK]["S"]) and (
                    since_ms is None or raw_events.received_ms_of(item) >= since_ms
                ):
                    yield item

    def _until_done(self, indexer: Indexer, part: Sequence[Item], marks: Collection[str]) -> tuple[int, int]:
        """Index these items and settle these ids, also when the engine is away for some minutes. Answers how many
        events they hold, and how many could not be indexed."""
        events = failed = 0
        for attempt in range(TRIES_MAX):
            if attempt:
                self.pause(_PAUSE_SECONDS)
            try:
                indexed = indexer.index_items(part, marks)
            except Unavailable as error:
                if attempt == TRIES_MAX - 1 or error.code == "misconfigured":
                    raise
                continue
            events = max(events, indexed.events)
            failed += indexed.failed
            if not indexed.undone:
                return events, failed
            part = [part[position] for position in sorted(indexed.undone)]
        raise Unavailable

    def _alias(self, month: str) -> str:
        fresh = self._fresh.get(month)
        return self._names.month(month) if fresh is None else fresh.alias

    def _make(self, month: str) -> None:
        if month in self._fresh:
            raise OvertakenError
        indices.make_month(
            self.engine, month, self.work.calls.table.name, replicas=self.work.settings.search_replicas
        )

    # --- changing over ----------------------------------------------------------------------------------------------

    def _change_over(self, rebuilt: Rebuilt) -> None:
        self._leave_out_short(rebuilt)
        for _ in range(_SWAP_ROUNDS_MAX):
            try:
                if actions := self._actions():
                    self.engine.call(
                        "POST", "/_aliases", {"actions": actions}, timeout_seconds=_COUNT_SECONDS
                    )
                break
            except EngineUnavailableError:
                # It may have been done, and its reply lost.
                self.pause(_PAUSE_SECONDS)
            except EngineRefusedError as error:
                # The same, or an index of those has gone since they were listed.
                if error.status != 404:
                    raise
        else:
            raise Unavailable
        rebuilt.rebuilt = sorted(self._fresh)
        # From here on documents go where the stream's do.
        self._fresh = {}

    def _actions(self) -> list[Json]:
        """What is left to do: all of it, or nothing."""
        names = self._names
        there = indices.listed(self.engine)
        by_name = {index.name: index for index in there}
        actions: list[Json] = []
        for fresh in self._fresh.values():
            made = by_name.get(fresh.name)
            if made is not None and made.is_in_use(names):
                continue
            if made is None or fresh.alias not in made.aliases:
                raise OvertakenError
            old = [index for index in there if index.month == fresh.month and index.is_in_use(names)]
            actions += [
                {"remove": {"index": fresh.name, "alias": fresh.alias, "must_exist": True}},
                *({"remove_index": {"index": index.name}} for index in old),
                {"add": {"index": fresh.name, "alias": names.month(fresh.month), "is_write_index": True}},
                {"add": {"index": fresh.name, "alias": names.events}},
            ]
        return actions

    def _leave_out_short(self, rebuilt: Rebuilt) -> None:
        """Raw events may have been kept for less long than they are now, and an index must not lose what only it has.
        What arrived before the beginning is counted, as the rest is still arriving; the fresh one first, as of it too
        nothing but an erasure takes anything away."""
        arrived = _range("receivedAt", lt=epoch_ms(self.work.now - OVERLAP))
        for month, fresh in list(self._fresh.items()):
            now = self._count(fresh.alias, arrived)
            before = self._count(self._names.month(month), arrived) or 0
            if now is None:
                raise OvertakenError
            if now < before and not self.may_shrink and now + self._redated(fresh) < before:
                rebuilt.short[month] = (now, before)
                indices.delete(self.engine, fresh.name)
                del self._fresh[month]

    def _redated(self, fresh: _Fresh) -> int:
        """How many events may have arrived long before, and have a later receipt in the fresh index.

        One that was sent again in other company lies in two raw items with a receipt each, and its document has that of
        the item which was read first: in the order of the stream in one index, of the table in the other. It had
        happened by then, and the index in use does not have it as late. Of one dated ahead that is not so, which keeps
        a month that could be new.
        """
        begun, cut = epoch_ms(self.work.now), epoch_ms(self.work.now - OVERLAP)
        happened = _range("time", lt=cut)
        found = self._count(fresh.alias, _all_of(happened, _range("receivedAt", gte=cut))) or 0
        # Without what has arrived meanwhile, of which the fresh one has read some.
        late = _all_of(happened, _range("receivedAt", gte=cut, lt=begun))
        known = self._count(self._names.month(fresh.month), late) or 0
        return max(0, found - known)

    def _count(self, index: str, query: Json) -> int | None:
        """None where there is no such index."""
        self.engine.call("POST", f"/{index}/_refresh", accept=(404,), timeout_seconds=_COUNT_SECONDS)
        reply = self.engine.call(
            "POST",
            f"/{index}/_count",
            {"query": query},
            params=self.engine.primaries(),
            accept=(404,),
            timeout_seconds=_COUNT_SECONDS,
        )
        return int(reply["count"]) if "count" in reply else None


def _range(field_name: str, **bounds: int) -> Json:
    return {"range": {field_name: bounds}}


def _all_of(*filters: Json) -> Json:
    return {"bool": {"filter": list(filters)}}


def first_whole_month(work: Work) -> str:
    """The first month (YYYY-MM) all of whose raw events are still in the table: none can have arrived so early that
    it has expired."""
    oldest = work.now - timedelta(days=work.settings.raw_ttl_days) + SLACK + TIMESTAMP_AHEAD_MAX
    local = oldest.astimezone(work.settings.timezone)
    first = date(local.year, local.month, 1)
    if datetime.combine(first, clock.min, work.settings.timezone) < oldest:
        first = (first + timedelta(days=31)).replace(day=1)
    return month_of(first.isoformat())


def _parts(found: Iterator[Raw]) -> Iterator[tuple[list[Item], set[str]]]:
    """Raw items in portions; and apart from them the ids of marks, as many as one query takes."""
    part: list[Item] = []
    marks: set[str] = set()
    events = 0
    for raw in found:
        item = Item.of(raw)
        if keys.is_mark(item.key.sk):
            marks.add(item.distinct_id)
            if len(marks) >= IDS_PER_QUERY:
                yield [], marks
                marks = set()
            continue
        part.append(item)
        events += int(raw[_EVENTS]["N"])
        if events >= EVENTS_AT_A_TIME or len(part) >= ITEMS_AT_A_TIME:
            yield part, set()
            part, events = [], 0
    if part or marks:
        yield part, marks
