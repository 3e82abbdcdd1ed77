"""Finish what died on the way: merges and erasures begun over a minute ago, found by their PENDING rows.

Sixteen Queries, no Scan; what is found is ended by the same steps that began it, so a sweep may run beside anything.
Where raw events are kept, it also removes what a request that was under way during an erasure has put there since.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from . import erasure, identities, ids, keys, merge, raw_events
from .events import epoch_ms
from .models import Item, PendingItem
from .store import Work

# AWS lets no invocation of a function take longer.
_NO_REQUEST_LEFT_AFTER = timedelta(minutes=15)


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


def sweep(work: Work) -> Iterator[Swept]:
    """End them one by one, and say after each how many it were. Raises Unavailable when they cannot be found."""
    swept = Swept()
    yield swept
    for key, kind in _begun(work):
        started_at, distinct_id = keys.pending_of(key.sk)
        try:
            if kind == erasure.LEFTOVERS:
                swept.leftovers += _removed(work, key)
            elif _merged(work, distinct_id, started_at):
                swept.merges += 1
            elif erasure.resume(work, distinct_id) is not None:
                swept.erasures += 1
            else:
                work.calls.delete(key)  # What it stood for has ended.
        except Exception as error:  # noqa: BLE001 - one that cannot be ended must not keep the others from it
            swept.failures.append(error)
        yield swept


def _begun(work: Work) -> list[tuple[keys.Key, str]]:
    """The rows of what is over or dead by now, and what they stand for."""
    latest = (work.now - merge.ABANDONED_AFTER).astimezone(UTC).isoformat(timespec="milliseconds")
    return [
        (keys.Key(pk, item[Item.sk.attr_name]["S"]), item[PendingItem.kind.attr_name]["S"])
        for pk in keys.pending_pks()
        for item in work.calls.query(pk, keys.pending_until(latest))
    ]


def _merged(work: Work, distinct_id: str, started_at: str) -> bool:
    """Whether it was this merge, and is ended."""
    if not ids.is_anonymous(distinct_id):
        return False
    alias = identities.alias_of(work.calls, distinct_id, is_consistent=True)
    if alias is None or not alias.is_merging or alias.started_at != started_at:
        return False
    merge.finished(work, distinct_id, alias)
    return True


def _removed(work: Work, key: keys.Key) -> int:
    """How many raw events were left of before this erasure; none is, once the row is gone."""
    erased_at, distinct_id = keys.pending_of(key.sk)
    instant = datetime.fromisoformat(erased_at)
    if work.now - instant <= _NO_REQUEST_LEFT_AFTER:
        return 0
    removed = raw_events.remove(work, distinct_id, epoch_ms(instant))
    work.calls.delete(key)
    return removed
