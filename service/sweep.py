"""Finish what died on the way: merges and erasures begun over a minute ago, found by their PENDING rows.

Sixteen Queries, no Scan; what is found is ended by the same steps that began it, so a sweep may run beside anything.
Each begins elsewhere, so that one row on which the time runs out does not keep the same others waiting every time.
Where raw events are kept, it also removes what a request that was under way during an erasure has put there since.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from . import erasure, identities, keys, merge, raw_events
from .dynamodb import Calls, ConditionFailedError
from .events import epoch_ms
from .keys import Key
from .models import Item, PendingItem
from .settings import Settings
from .store import Work

# A request has 29 s. The row says when the work at it began, which may be as long before the fences as it may take.
_NO_REQUEST_LEFT_AFTER = timedelta(minutes=15)
ROW_SECONDS_MAX = 600.0


class _Row(NamedTuple):
    """A PENDING row: what it stands for, and of LEFTOVERS when the id was fenced, in epoch milliseconds."""

    key: Key
    kind: str
    fenced_at: int


@dataclass(slots=True)
class Swept:
    """What a sweep came to. What met a failure is left for the next one."""

    merges: int = 0
    erasures: int = 0
    # Raw events of before an erasure that arrived after it.
    leftovers: int = 0
    failures: list[Exception] = field(default_factory=list)

    @property
    def undecided(self) -> int:
        """How many are left."""
        return len(self.failures)


def sweep(calls: Calls, settings: Settings, now: Callable[[], datetime]) -> Iterator[Swept]:
    """End them one by one, and say after each how many it were. Raises Unavailable when they cannot be found.

    `now` tells the time anew for each, as all of them may take hours.
    """
    swept = Swept()
    yield swept
    rows = _begun(Work(calls, settings, now()))
    random.Random(epoch_ms(now())).shuffle(rows)  # noqa: S311 - an order
    for row in rows:
        deadline = min(calls.deadline, time.monotonic() + ROW_SECONDS_MAX)
        work = Work(replace(calls, deadline=deadline), settings, now())
        started_at, distinct_id = keys.pending_of(row.key.sk)
        try:
            if row.kind == erasure.LEFTOVERS:
                swept.leftovers += _removed(work, row)
            elif _merged(work, distinct_id, started_at):
                swept.merges += 1
            elif erasure.resume(work, distinct_id) is not None:
                swept.erasures += 1
            else:
                _forget(work, row)  # What it stood for has ended.
        except Exception as error:  # noqa: BLE001 - one that cannot be ended must not keep the others from it
            swept.failures.append(error)
        yield swept


def _begun(work: Work) -> list[_Row]:
    """The rows of what is over or dead by now."""
    latest = (work.now - merge.ABANDONED_AFTER).astimezone(UTC).isoformat(timespec="milliseconds")
    return [
        _Row(
            Key(pk, item[Item.sk.attr_name]["S"]),
            item[PendingItem.kind.attr_name]["S"],
            int(item.get(PendingItem.fenced_at.attr_name, {"N": "0"})["N"]),
        )
        for pk in keys.pending_pks()
        for item in work.calls.query(pk, keys.pending_until(latest))
    ]


def _merged(work: Work, distinct_id: str, started_at: str) -> bool:
    """Whether it was this merge, and is ended."""
    alias = identities.alias_of(work.calls, distinct_id, is_consistent=True)
    if alias is None or not alias.is_merging or alias.started_at != started_at:
        return False
    merge.finished(work, distinct_id, alias)
    return True


def _forget(work: Work, row: _Row) -> None:
    """Delete the row, unless it stands for something else by now: an erasure that ends puts its leftovers there."""
    with contextlib.suppress(ConditionFailedError):
        work.calls.delete(row.key, PendingItem.kind == row.kind)


def _removed(work: Work, row: _Row) -> int:
    """How many raw events were left of before this erasure; none is, once the row is gone."""
    if epoch_ms(work.now - _NO_REQUEST_LEFT_AFTER) <= row.fenced_at:
        return 0
    erased_at, distinct_id = keys.pending_of(row.key.sk)
    removed = raw_events.remove(work, distinct_id, epoch_ms(datetime.fromisoformat(erased_at)))
    _forget(work, row)
    return removed
