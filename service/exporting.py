"""`python -m service export`: everything that is counted, as NDJSON, read from the table itself.

A line is a user's or an anonymous visitor's day as the API answers it, or whose an anonymous id is, or, if asked for, a
raw event.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from . import keys, raw_events, replies
from .capacity import Capacity
from .dynamodb import Calls, Table
from .models import AliasItem, Item, MarkItem, Raw, erased_at_of, stored_day
from .problems import Unavailable

# Days of work, if need be: a page has its own timeouts.
DEADLINE_SECONDS = 30 * 86_400.0
PAGE_ATTEMPTS_MAX = 6

_PK, _SK = Item.pk.attr_name, Item.sk.attr_name
_USER = keys.user_pk("")
_ALIAS_SK = keys.alias_key("").sk


class CannotExportError(Exception):
    """One line that says what to do."""


@dataclass
class Totals:
    """What was written."""

    days: int = 0
    aliases: int = 0
    raw_events: int = 0


@dataclass
class Export:
    """One export. `write` takes lines."""

    table: Table
    write: Callable[[bytes], object]
    totals: Totals
    capacity: Capacity
    # The shop's zone, where raw events are asked for.
    timezone: tzinfo | None = None
    # When whose partition is being read was erased; the mark comes before the raw events there.
    _erased: tuple[str, int] = ("", 0)

    @classmethod
    def of(
        cls, table: Table, write: Callable[[bytes], object], *, raw_events_in: tzinfo | None = None
    ) -> "Export":
        """One that has not begun."""
        capacity = Capacity(is_estimated=table.is_estimated)
        return cls(table, write, Totals(), capacity, raw_events_in)

    def everything(self) -> Iterator[Totals]:
        """Write the whole table, and say after each page how much it was. Raises CannotExportError."""
        for items in self._pages():
            for raw in items:
                self._item(raw)
            yield self.totals

    def _item(self, raw: Raw) -> None:
        pk, sk = raw[_PK]["S"], raw[_SK]["S"]
        if not pk.startswith(_USER):
            return
        distinct_id = pk.removeprefix(_USER)
        if MarkItem.erased_at.attr_name in raw and not keys.is_day(sk):
            self._erased = pk, erased_at_of(raw)
        if keys.is_events(sk):
            self._raw_events(raw, self._erased[1] if self._erased[0] == pk else 0)
        elif keys.is_day(sk):
            day = stored_day(raw)
            # Seals and fences count nothing.
            if day.metrics.counters.get("events"):
                self.write(replies.day_body(distinct_id, day) + b"\n")
                self.totals.days += 1
        elif sk == _ALIAS_SK:
            # Nobody's, when it was erased.
            user_id = raw.get(AliasItem.user_id.attr_name)
            status = raw[AliasItem.status.attr_name]["S"]
            self.write(replies.alias_body(distinct_id, user_id["S"] if user_id else None, status) + b"\n")
            self.totals.aliases += 1

    def _raw_events(self, item: Raw, erased_at: int) -> None:
        if self.timezone is None or raw_events.is_erased(item, erased_at):
            return
        for raw in raw_events.read(item, self.timezone):
            self.write(replies.raw_event_body(raw) + b"\n")
            self.totals.raw_events += 1

    def _pages(self) -> Iterator[Sequence[Raw]]:
        """Page after page. One that does not come is asked for again a while later."""
        after: Raw | None = None
        failures = 0
        while True:
            try:
                for items, key in self._calls().scan(after=after):
                    after, failures = key, 0
                    yield items
            except Unavailable as error:
                failures += 1
                # An export that has not begun has nothing to save.
                if failures == PAGE_ATTEMPTS_MAX or after is None:
                    raise self._cannot(error) from None
                time.sleep(2**failures * random.uniform(0.5, 1))  # noqa: S311 - jitter
            else:
                return

    def _calls(self) -> Calls:
        return Calls(self.table, time.monotonic() + DEADLINE_SECONDS, self.capacity)

    def _cannot(self, error: Unavailable) -> CannotExportError:
        return CannotExportError(f"Table {self.table.name} cannot be read: {error.__cause__ or error.detail}")
