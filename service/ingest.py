"""A batch of events, decided one by one: merges first, then counting. Every tracking path comes through here."""

import functools
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from . import counting, days, identities, merge
from .counting import Owner
from .days import Admission, Outcome
from .events import LINKING_TYPES, Event, Rejection
from .identities import Alias
from .problems import Unavailable
from .store import Work

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Writes of one request under way at once. A batch seldom has more than a few users and days.
WRITERS_MAX = 8
_writers = ThreadPoolExecutor(WRITERS_MAX, thread_name_prefix="writer")


@dataclass(slots=True)
class _Identity:
    """One anonymous id of a batch: the users its events name and when they last do, and what the merges came to."""

    anonymous_id: str
    user_ids: dict[str, int] = field(default_factory=dict)
    # Whether a merge is all that one of its events asks for: no fence stops what rests on an alias of a moment ago.
    is_linked: bool = False
    alias: Alias | None = None
    # Users that were erased after the last event that says it is they.
    erased: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Group:
    """Events of one owner and day. The times are those of Owner.since_ms."""

    events: list[Event] = field(default_factory=list)
    since_ms: int | None = None
    beside_since_ms: int | None = None


_GroupKey = tuple[str, str, str | None]


def ingest(work: Work, events: Sequence[Event]) -> Outcome:
    """Decide every event. What DynamoDB could not decide leaves the outcome undecided: sent again, it counts once."""
    outcome = Outcome()
    wanted = _identities(events)
    resolved = _side_by_side(lambda identity: _resolve(work, identity), list(wanted.values()), outcome)
    known = {identity.anonymous_id: identity for identity in resolved}
    groups: dict[_GroupKey, _Group] = {}
    for event in events:
        _sort_in(event, known, groups, outcome)
    tasks = list(groups.items())
    # In another order at each attempt, so that what the deadline cuts off differs and retries make progress.
    random.shuffle(tasks)
    for admission in _side_by_side(lambda task: _count(work, *task), tasks, outcome):
        outcome.accepted += len(admission.admitted)
        outcome.duplicates += len(admission.duplicates)
        outcome.rejected += admission.rejections
    return outcome


def _identities(events: Sequence[Event]) -> dict[str, _Identity]:
    """The anonymous ids whose aliases matter, each with the users it is said to be."""
    wanted: dict[str, _Identity] = {}
    for event in events:
        for anonymous_id in _anonymous_ids(event):
            identity = wanted.setdefault(anonymous_id, _Identity(anonymous_id))
            if event.user_id:
                last_ms = identity.user_ids.get(event.user_id, event.instant_ms)
                identity.user_ids[event.user_id] = max(last_ms, event.instant_ms)
            identity.is_linked |= event.type in LINKING_TYPES
    return wanted


def _anonymous_ids(event: Event) -> list[str]:
    """Those whose alias an event rests on."""
    if event.anonymous_id is None and event.previous_id is None:
        return []  # the common case of a server's events
    return [a for a in (event.previous_id, event.anonymous_id) if a and (event.user_id or event.part)]


def _resolve(work: Work, identity: _Identity) -> _Identity:
    """Finish the merges the batch asks for, and those of processes that died."""
    anonymous_id = identity.anonymous_id
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=identity.is_linked)
    for user_id, instant_ms in identity.user_ids.items():
        try:
            alias = merge.join(work, anonymous_id, user_id, alias, instant_ms)
            break  # It has an owner now; the first user keeps it.
        except identities.ErasedError:
            identity.erased.add(user_id)
    if (
        alias
        and alias.is_merging
        and (identity.user_ids or work.is_import or merge.is_abandoned(alias, work.now))
    ):
        # Somebody else's merge too: events with both ids look for their first copy where it leads.
        alias = merge.finished(work, anonymous_id, alias)
    identity.alias = alias
    return identity


def _sort_in(
    event: Event,
    known: dict[str, _Identity],
    groups: dict[_GroupKey, _Group],
    outcome: Outcome,
) -> None:
    """Put an event to the others of its owner and day; accept or reject what is not counted."""
    anonymous_ids = _anonymous_ids(event)
    if any(anonymous_id not in known for anonymous_id in anonymous_ids):
        return  # undecided, with its identity
    identities_of = [known[anonymous_id] for anonymous_id in anonymous_ids]
    if any(_is_erased(event, identity) for identity in identities_of):
        outcome.rejected.append(days.erased(event))
        return
    aliases = [identity.alias for identity in identities_of if identity.alias and identity.alias.user_id]
    others = [alias for alias in aliases if event.user_id and alias.user_id != event.user_id]
    if event.day is None:
        if others and event.type in LINKING_TYPES:
            outcome.rejected.append(
                Rejection(
                    event.index, event.message_id, "identity_conflict", "the anonymous id is another user's"
                )
            )
        else:
            outcome.accepted += 1
        return
    followed = [alias for alias in aliases if alias not in others and alias.is_merged]
    owner = event.user_id or (followed[0].user_id if followed else event.anonymous_id)
    assert owner is not None
    group = groups.setdefault((owner, event.day, others[0].user_id if others else None), _Group())
    group.events.append(event)
    if aliases:
        group.since_ms = _earliest(group.since_ms, followed)
        group.beside_since_ms = _earliest(group.beside_since_ms, others)


def _is_erased(event: Event, identity: _Identity) -> bool:
    """Whether it is of before the time when its visitor, or the user it says it was, was erased."""
    is_before = identity.alias is not None and event.instant_ms <= identity.alias.erased_at
    return is_before or event.user_id in identity.erased


def _earliest(since_ms: int | None, aliases: Sequence[Alias]) -> int | None:
    begun = [alias.begun_ms for alias in aliases]
    return min(begun if since_ms is None else [since_ms, *begun], default=None)


def _count(work: Work, key: _GroupKey, group: _Group) -> Admission:
    owner, day, beside = key
    return counting.count(
        work,
        Owner(owner, group.since_ms),
        day,
        group.events,
        beside=Owner(beside, group.beside_since_ms) if beside else None,
        follow=functools.partial(_alias_of, work) if work.is_import else None,
    )


def _alias_of(work: Work, anonymous_id: str) -> Alias | None:
    """Whose an anonymous id is by now, its merge ended."""
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    return merge.finished(work, anonymous_id, alias) if alias and alias.is_merging else alias


def _side_by_side(
    work: Callable[[_Task], _Result], tasks: Sequence[_Task], outcome: Outcome
) -> list[_Result]:
    """The results of the tasks that could be decided; the others leave the outcome undecided, and nothing else."""
    if len(tasks) == 1:
        # The common case, spared the hop to another thread.
        attempts: list[Callable[[], _Result]] = [lambda: work(tasks[0])]
    else:
        futures: list[Future[_Result]] = [_writers.submit(work, task) for task in tasks]
        # All of them, before anything is raised: no write may go on behind a reply.
        wait(futures)
        attempts = [future.result for future in futures]
    results: list[_Result] = []
    for attempt in attempts:
        try:
            results.append(attempt())
        except Unavailable as undecided:
            outcome.undecided = outcome.undecided or undecided
    return results
