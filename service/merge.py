"""Anonymous to user: the protocol, as steps of `identities`. Nothing else knows its order.

1. `link`: the alias, the way back and a PENDING row, in one transaction; whoever comes second is told who was first.
2. `seal` every anonymous day that has an item and every day an event may still arrive on. A sealed day sends events on
   to the user. Each is one transaction, so that an id is seen either here or there.
3. `finish`: from now on events go straight to the user.

Only a finished merge is followed: while days are still moving, an event's first copy may sit on an anonymous day, and
following would count its retry on the user's. Every step can be repeated; a merge that died is finished by the next
identify, or by the next event of its anonymous id a minute later. (tests/explorer tries every interleaving.)
"""

from datetime import datetime, timedelta

from . import identities
from .identities import Alias
from .store import Work

# Far longer than a request lives, so that two processes seldom work on one merge; if they do, it is safe.
ABANDONED_AFTER = timedelta(minutes=1)


def join(work: Work, anonymous_id: str, user_id: str, alias: Alias | None) -> Alias:
    """Make the anonymous id the user's and move its days there. Answers whose it is: the first user keeps it.

    `alias` is what was last read of it. When the answer names this user, the merge is finished. Raises Unavailable
    when it is not, and then any of the ways above goes on where this stopped.
    """
    if alias is None:
        alias = identities.link(work, anonymous_id, user_id)
    return finished(work, anonymous_id, alias) if alias.user_id == user_id else alias


def finished(work: Work, anonymous_id: str, alias: Alias) -> Alias:
    """Bring a begun merge to its end, or find it there."""
    if alias.is_merged:
        return alias
    stored = identities.anonymous_days(work.calls, anonymous_id)
    days_moved = 0
    for day in sorted(stored.keys() | set(work.settings.rules(work.now).days())):
        days_moved += identities.seal(work, anonymous_id, alias.user_id, day, stored.get(day))
    return identities.finish(work, anonymous_id, alias, days_moved)


def is_abandoned(alias: Alias, now: datetime) -> bool:
    """Whether a merge has been under way for so long that its process is taken for dead."""
    return not alias.is_merged and now - datetime.fromisoformat(alias.started_at) > ABANDONED_AFTER
