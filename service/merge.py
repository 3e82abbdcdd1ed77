"""Anonymous to user: the protocol, as steps of `identities`. Nothing else knows its order.

1. `link`: the alias, the way back and a PENDING row, in one transaction; whoever comes second is told who was first.
2. `seal` every anonymous day that has an item and every day an event may still arrive on. A sealed day sends events on
   to the user. Each is one transaction, so that an id is seen either here or there.
3. `finish`: from now on events go straight to the user.

Only a finished merge is followed: while days are still moving, an event's first copy may sit on an anonymous day, and
following would count its retry on the user's. Every step can be repeated; a merge that died is finished by the next
identify, by the next event of its anonymous id a minute later, or by the sweep. (tests/explorer tries every
interleaving.)
"""

from dataclasses import replace
from datetime import datetime, timedelta

from . import erasure, identities, store
from .events import epoch_ms
from .identities import Alias
from .problems import Unavailable
from .store import Work

# Far longer than a request lives, so that two processes seldom work on one merge; if they do, it is safe.
ABANDONED_AFTER = timedelta(minutes=1)


def join(work: Work, anonymous_id: str, user_id: str, alias: Alias | None, instant_ms: int) -> Alias:
    """Make the anonymous id the user's and move its days there. Answers whose it is: the first user keeps it.

    `alias` is what was last read of it, `instant_ms` when it was asked for. When the answer names this user, the merge
    is finished. Raises Unavailable when it is not, and then any of the ways above goes on where this stopped;
    identities.ErasedError when it was asked for before one of the two was erased.
    """
    if alias is None or alias.user_id is None:
        alias = _linked(work, anonymous_id, user_id, instant_ms)
    return finished(work, anonymous_id, alias) if alias.user_id == user_id else alias


def _linked(work: Work, anonymous_id: str, user_id: str, instant_ms: int) -> Alias:
    for _ in range(store.ROUNDS_MAX):
        try:
            return identities.link(work, anonymous_id, user_id, instant_ms)
        except identities.ErasingError as erasing:
            if not is_over(erasing.erased_at, work.now):
                raise Unavailable from None
            # Its process has died, and nothing but this would end it before the sweep.
            erasure.resume(work, erasing.distinct_id)
    raise Unavailable


def finished(work: Work, anonymous_id: str, alias: Alias) -> Alias:
    """Bring a begun merge to its end, or find it there. Raises Unavailable when an erasure ended it."""
    if alias.is_merged:
        return alias
    stored = store.every_day(work.calls, anonymous_id)
    erased_at = max((day.erased_at for day in stored.values()), default=0)
    days_moved = 0
    for day in sorted(stored.keys() | set(work.settings.rules(work.now).days())):
        days_moved += identities.seal(work, anonymous_id, alias, day, stored.get(day))
    return identities.finish(work, anonymous_id, replace(alias, erased_at=erased_at), days_moved)


def is_over(begun_ms: int, now: datetime) -> bool:
    """Whether what began then, in epoch milliseconds, is done or dead by now."""
    return epoch_ms(now - ABANDONED_AFTER) > begun_ms
