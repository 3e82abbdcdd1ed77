"""What must hold of raw events: the service's own recount, and the table's items taken apart without the service."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from service import person, recount, store, timeline
from service.settings import Settings
from service.sweep import sweep
from tests.explorer.table import Engine

SETTINGS = Settings(raw_events=True)
# When no request of before is left, and the sweep removes what one may have put behind an erasure.
LATER_SECONDS = 7_200
_EVERY_DAY = timeline.Asked(date(2019, 1, 1), date(2026, 11, 24), None, 1_000, 10**6)

Items = Collection[Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Kept:
    """A raw event as it lies there. Times in epoch milliseconds."""

    distinct_id: str
    message_id: str
    received_ms: int
    instant_ms: int


@dataclass(frozen=True)
class Table:
    """The facts of a content: who has counted what, what is kept, whose whom is, who was erased and when."""

    counted: Mapping[str, Collection[str]]
    kept: Collection[Kept]
    owners: Mapping[str, str]
    erased_ms: Mapping[str, int]
    # Partitions that an erasure is about to clear.
    leaving: Collection[str]
    # What counts under another user than the one whose day knows of it too.
    elsewhere: Collection[str]

    @classmethod
    def of(cls, items: Items, messages: Collection[str]) -> Table:
        """Of the messages there are, each hash names one."""
        names = {hashlib.sha256(message.encode()).digest()[:6]: message for message in messages}
        counted: dict[str, set[str]] = {}
        kept: list[Kept] = []
        owners: dict[str, str] = {}
        erased_ms: dict[str, int] = {}
        leaving: set[str] = set()
        elsewhere: set[str] = set()
        for item in items:
            prefix, _, distinct_id = item["PK"]["S"].partition("#")
            kind = item["SK"]["S"].partition("#")[0]
            if prefix != "USER":
                continue
            elsewhere.update(names[found] for found in _members(item, "elsewhere"))
            if kind == "DAY" and "events" in item:
                hashes = _members(item, "seen") - _members(item, "elsewhere")
                counted.setdefault(distinct_id, set()).update(names[found] for found in hashes)
            elif kind == "EVENTS":
                kept += _kept(distinct_id, item)
            elif item["SK"]["S"] == "ALIAS" and "userId" in item:
                owners[distinct_id] = item["userId"]["S"]
            if item["SK"]["S"] in ("ALIAS", "ERASED") and "erasedAt" in item:
                erased_ms[distinct_id] = int(item["erasedAt"]["N"])
            if "erasing" in item:
                leaving.add(distinct_id)
        return cls(counted, kept, owners, erased_ms, leaving, elsewhere)

    def found_by(self, owner: str) -> Iterator[Kept]:
        """Those under an id of this owner, and not of before the erasure of that id."""
        for one in self.kept:
            is_own = owner in (one.distinct_id, self.owners.get(one.distinct_id))
            if is_own and not self.is_of_before(one):
                yield one

    def is_of_before(self, one: Kept) -> bool:
        """Whether its person was erased since."""
        return min(one.received_ms, one.instant_ms) <= self.erased_ms.get(one.distinct_id, 0)

    def may_outlive(self, one: Kept) -> bool:
        """Whether it may have been counted during an erasure and gone with it, though it is of after its beginning."""
        return one.distinct_id in self.erased_ms or self.owners.get(one.distinct_id) in self.erased_ms


def _members(item: Mapping[str, Mapping[str, Any]], name: str) -> set[bytes]:
    return set(item[name]["BS"]) if name in item else set()


def _kept(distinct_id: str, item: Mapping[str, Mapping[str, Any]]) -> Iterator[Kept]:
    for event in json.loads(zlib.decompress(item["payload"]["B"]))["events"]:
        instant = datetime.fromisoformat(event["timestamp"]) if event["timestamp"] else None
        received_ms = int(item["receivedAt"]["N"])
        instant_ms = received_ms if instant is None else int(instant.timestamp() * 1000)
        yield Kept(distinct_id, event["messageId"], received_ms, instant_ms)


def wrong_now(table: Table, acknowledged: Collection[str], accepted: Collection[str]) -> str | None:
    """What was acknowledged and counts is kept, from the reply on, and found under whom it counts for.

    Whoever sends it as another user's than it counts for does not know for whom, and leaves it to who does.
    """
    for owner, messages in table.counted.items():
        if owner in table.leaving:
            continue
        left_to_others = set(table.elsewhere) - set(accepted)
        expected = (set(messages) & set(acknowledged)) - left_to_others
        missing = expected - {one.message_id for one in table.found_by(owner)}
        if missing:
            return f"acknowledged, counted for {owner} and not kept: {sorted(missing)}"
    return None


def wrong_at_end(
    engine: Engine, content: int, messages: Collection[str], now: datetime, *, is_cleared: bool
) -> str | None:
    """When everything has been decided, and again when the sweep has gone over it.

    `is_cleared` says that no request beside an erasure could leave anything for the sweep.
    """
    with engine.holding(content):

        def work() -> store.Work:
            calls = engine.table.calls(time.monotonic() + 3_600)
            return store.Work(calls, SETTINGS, now + timedelta(seconds=LATER_SECONDS))

        fault = _wrong(engine, work(), messages, is_swept=is_cleared)
        if fault is None:
            later = work()
            *_, swept = sweep(later.calls, SETTINGS, lambda: later.now)
            fault = f"a sweep fails: {swept.failures}" if swept.failures else None
            items = engine.items()
            if any(item["PK"]["S"].startswith("PENDING") for item in items):
                fault = "a sweep leaves a row"
            fault = fault or _wrong(engine, work(), messages, is_swept=True)
            fault = None if fault is None else f"after a sweep: {fault}"
        return fault


def _wrong(engine: Engine, work: store.Work, messages: Collection[str], *, is_swept: bool) -> str | None:
    table = Table.of(engine.items(), messages)
    copies = Counter((one.distinct_id, one.message_id) for one in table.kept)
    if max(copies.values(), default=1) > 1:
        return f"kept twice: {copies}"
    left = [one for one in table.kept if table.is_of_before(one)]
    if is_swept and left:
        return f"of before an erasure, and there: {left}"
    for owner in recount.everybody(work):
        for day in recount.person(work, owner, pause=lambda _: None):
            if day.status != recount.SAME:
                return f"a recount says: {day}"
    ids = {one.distinct_id for one in table.kept} | table.counted.keys() | set(table.owners.values())
    for distinct_id in ids - table.owners.keys():
        fault = _wrong_of_person(table, work, distinct_id)
        if fault:
            return fault
    return None


def _wrong_of_person(table: Table, work: store.Work, owner: str) -> str | None:
    """What the timeline and the export show, which is each event once that counts."""
    counted = set(table.counted.get(owner, ()))
    extra = {one.message_id for one in table.found_by(owner) if table.may_outlive(one)}
    told = [json.loads(line)["messageId"] for line in timeline.page(work, owner, _EVERY_DAY).events]
    lines = [json.loads(line) for line in person.page(work, owner, None, 10**6).body.splitlines()]
    exported = [line["event"]["messageId"] for line in lines if "event" in line]
    for name, found in (("timeline", told), ("export", exported)):
        if len(set(found)) < len(found):
            return f"the {name} of {owner} repeats itself: {found}"
        if not counted <= set(found) <= counted | extra:
            return f"the {name} of {owner} is {found}, and counted is {counted}"
    return None
