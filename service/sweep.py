"""Finish what died on the way: merges and erasures begun over a minute ago, found by their PENDING rows.

Sixteen Queries, no Scan; what is found is ended by the same steps that began it, so a sweep may run beside anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC

from . import erasure, identities, ids, keys, merge
from .models import Item
from .store import Work


@dataclass(slots=True)
class Swept:
    """What a sweep came to. What met a failure is left for the next one."""

    merges: int = 0
    erasures: int = 0
    failures: list[Exception] = field(default_factory=list)

    @property
    def undecided(self) -> int:
        """How many are left."""
        return len(self.failures)


def sweep(work: Work) -> Iterator[Swept]:
    """End them one by one, and say after each how many it were. Raises Unavailable when they cannot be found."""
    swept = Swept()
    yield swept
    for key in _begun(work):
        started_at, distinct_id = keys.pending_of(key.sk)
        try:
            if _merged(work, distinct_id, started_at):
                swept.merges += 1
            elif erasure.resume(work, distinct_id) is not None:
                swept.erasures += 1
            else:
                work.calls.delete(key)  # What it stood for has ended.
        except Exception as error:  # noqa: BLE001 - one that cannot be ended must not keep the others from it
            swept.failures.append(error)
        yield swept


def _begun(work: Work) -> list[keys.Key]:
    """The rows of what is over or dead by now."""
    latest = (work.now - merge.ABANDONED_AFTER).astimezone(UTC).isoformat(timespec="milliseconds")
    return [
        keys.Key(pk, item[Item.sk.attr_name]["S"])
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
