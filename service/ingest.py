"""A batch of events, decided one by one: merges first, then counting. Every tracking path comes through here."""

import functools
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from . import identities, ids, merge, store
from .days import Outcome
from .events import LINKING_TYPES, Event, Rejection
from .identities import Alias
from .problems import Unavailable
from .store import Counted, Work

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Writes of one request under way at once. A batch seldom has more than a few users and days.
WRITERS_MAX = 8
_writers = ThreadPoolExecutor(WRITERS_MAX, thread_name_prefix="writer")


@dataclass(slots=True)
class _Identity:
    """One anonymous id of a batch: the users its events name, and what the merges came to."""

    anonymous_id: str
    user_ids: list[str] = field(default_factory=list)
    alias: Alias | None = None


def ingest(work: Work, events: Sequence[Event]) -> Outcome:
    """Decide every event. What DynamoDB could not decide leaves the outcome undecided: sent again, it counts once."""
    outcome = Outcome()
    wanted = _identities(events)
    resolved = _side_by_side(lambda identity: _resolve(work, identity), list(wanted.values()), outcome)
    known = {identity.anonymous_id: identity.alias for identity in resolved}
    groups: dict[tuple[str, str, str | None], list[Event]] = {}
    for event in events:
        _sort_in(event, known, groups, outcome)
    tasks = list(groups.items())
    # In another order at each attempt, so that what the deadline cuts off differs and retries make progress.
    random.shuffle(tasks)
    for counted in _side_by_side(lambda task: _count(work, *task), tasks, outcome):
        outcome.accepted += len(counted.admission.admitted)
        outcome.duplicates += len(counted.admission.duplicates)
        outcome.rejected += counted.admission.rejections
    return outcome


def _identities(events: Sequence[Event]) -> dict[str, _Identity]:
    """The anonymous ids whose aliases matter, each with the users it is said to be."""
    wanted: dict[str, _Identity] = {}
    for event in events:
        for anonymous_id in (event.previous_id, event.anonymous_id):
            if anonymous_id is None or not (event.user_id or event.part):
                continue
            identity = wanted.setdefault(anonymous_id, _Identity(anonymous_id))
            if event.user_id and event.user_id not in identity.user_ids:
                identity.user_ids.append(event.user_id)
    return wanted


def _resolve(work: Work, identity: _Identity) -> _Identity:
    """Finish the merges the batch asks for, and those of processes that died."""
    anonymous_id = identity.anonymous_id
    alias = identities.alias_of(work.calls, anonymous_id)
    if identity.user_ids:
        alias = merge.join(work, anonymous_id, identity.user_ids[0], alias)
    if alias and (identity.user_ids or work.is_import or merge.is_abandoned(alias, work.now)):
        # Somebody else's merge too: events with both ids look for their first copy where it leads.
        alias = merge.finished(work, anonymous_id, alias)
    identity.alias = alias
    return identity


def _sort_in(
    event: Event,
    known: dict[str, Alias | None],
    groups: dict[tuple[str, str, str | None], list[Event]],
    outcome: Outcome,
) -> None:
    """Put an event to the others of its owner and day; accept or reject what is not counted."""
    anonymous_ids = [
        a for a in (event.previous_id, event.anonymous_id) if a and (event.user_id or event.part)
    ]
    if any(anonymous_id not in known for anonymous_id in anonymous_ids):
        return  # undecided, with its identity
    aliases = [known[anonymous_id] for anonymous_id in anonymous_ids]
    others = [
        alias.user_id for alias in aliases if alias and event.user_id and alias.user_id != event.user_id
    ]
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
    owner, beside = event.user_id, others[0] if others else None
    if owner is None:
        assert event.anonymous_id is not None
        alias = known[event.anonymous_id]
        owner = alias.user_id if alias and alias.is_merged else event.anonymous_id
    groups.setdefault((owner, event.day, beside), []).append(event)


def _count(work: Work, group: tuple[str, str, str | None], events: Sequence[Event]) -> Counted:
    owner, day, beside = group
    if beside is None:
        # Seals cover the days of the acceptance window alone, and an import brings others.
        follow = functools.partial(_owner_of, work) if work.is_import and ids.is_anonymous(owner) else None
        return store.count(work, owner, day, events, follow=follow)
    return store.count_beside(work, owner, day, events, beside)


def _owner_of(work: Work, anonymous_id: str) -> str:
    """The user of an anonymous id that has one, its merge ended."""
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    assert alias is not None  # it was there, and is never deleted
    return merge.finished(work, anonymous_id, alias).user_id


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
