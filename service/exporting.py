"""`python -m service export`: everything that is counted, as NDJSON, read from the table itself.

A line is a user's or an anonymous visitor's day as the API answers it, or whose an anonymous id is.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from . import identities, ids, keys, replies
from .capacity import Capacity
from .dynamodb import Calls, Table
from .models import AliasItem, Item, Raw, stored_day
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


@dataclass
class Export:
    """One export. `write` takes lines."""

    table: Table
    write: Callable[[bytes], object]
    totals: Totals
    capacity: Capacity

    @classmethod
    def of(cls, table: Table, write: Callable[[bytes], object]) -> "Export":
        """One that has not begun."""
        return cls(table, write, Totals(), Capacity(is_estimated=table.is_estimated))

    def everything(self) -> Iterator[Totals]:
        """Write the whole table, and say after each page how much it was. Raises CannotExportError."""
        for items in self._pages():
            for raw in items:
                self._item(raw)
            yield self.totals

    def person(self, text: str) -> None:
        """Write one user, or the user that an anonymous id became. Raises CannotExportError."""
        try:
            distinct_id = ids.distinct_id(text)
        except ids.InvalidIdError as error:
            raise CannotExportError(f"--user: {error}.") from None
        if distinct_id is None:
            raise CannotExportError("--user names somebody.")
        calls = self._calls()
        try:
            self._person(calls, distinct_id)
        except Unavailable as error:
            raise self._cannot(error) from None

    def _person(self, calls: Calls, distinct_id: str) -> None:
        alias = (
            identities.alias_of(calls, distinct_id, is_consistent=True)
            if ids.is_anonymous(distinct_id)
            else None
        )
        owner = alias.user_id if alias else distinct_id
        self._days(owner, calls.query(keys.user_pk(owner), keys.every_day(), is_consistent=True))
        for anonymous_id in identities.anonymous_ids_of(calls, owner):
            raw = calls.get(keys.alias_key(anonymous_id), is_consistent=True)
            if raw is None:
                continue
            # What a merge under way has not moved yet.
            self._days(
                anonymous_id, calls.query(keys.user_pk(anonymous_id), keys.every_day(), is_consistent=True)
            )
            self._item(raw)

    def _days(self, distinct_id: str, items: Iterable[Raw]) -> None:
        for raw in items:
            day = stored_day(raw)
            # Seals and fences count nothing.
            if day.metrics.counters.get("events"):
                self.write(replies.day_body(distinct_id, day) + b"\n")
                self.totals.days += 1

    def _item(self, raw: Raw) -> None:
        pk, sk = raw[_PK]["S"], raw[_SK]["S"]
        if not pk.startswith(_USER):
            return
        distinct_id = pk.removeprefix(_USER)
        first_day, last_day = keys.every_day()
        if first_day <= sk <= last_day:
            self._days(distinct_id, [raw])
        elif sk == _ALIAS_SK:
            alias = {"anonymousId": distinct_id}
            for name, attribute in (("userId", AliasItem.user_id), ("status", AliasItem.status)):
                if (typed := raw.get(attribute.attr_name)) is not None:
                    alias[name] = typed["S"]
            self.write(replies.json_body(alias) + b"\n")
            self.totals.aliases += 1

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
