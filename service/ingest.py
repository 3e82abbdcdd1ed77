"""A batch of events, decided one by one: merges first, then counting. Every tracking path comes through here."""

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from . import counting, days, identities, merge, raw_events
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
    admissions = dict(_side_by_side(lambda task: (task[0], _count(work, *task)), tasks, outcome))
    for admission in admissions.values():
        outcome.accepted += len(admission.admitted)
        outcome.duplicates += len(admission.duplicates)
        outcome.rejected += admission.rejections
    if work.origin is not None:
        kept = list(_kept(groups, admissions))
        random.shuffle(kept)
        _side_by_side(lambda task: raw_events.keep(work, *task), kept, outcome)
    return outcome


def _kept(
    groups: Mapping[_GroupKey, _Group], admissions: Mapping[_GroupKey, Admission]
) -> Iterator[tuple[str, list[Event]]]:
    """The raw events to keep, by the id that they are found under: all that count, those of an earlier try too.

    An event with both ids is kept with its visitor's, as a first try without the userId was. An id of which something
    is undecided is left for the retry, which then makes the same key. Days are kept apart: an erasure that is under
    way may let one of them count and not the other.
    """
    kept: dict[tuple[str, _GroupKey], list[Event]] = {}
    undecided: set[str | None] = set()
    for key, group in groups.items():
        _, _, beside = key
        admission = admissions.get(key)
        if admission is None:
            undecided.update(distinct_id for event in group.events for distinct_id in _ids(event))
            continue
        for event in admission.admitted + admission.seen:
            # The visitor is another user's, whose history this is not.
            distinct_id = event.user_id if beside else event.anonymous_id or event.user_id
            assert distinct_id is not None
            kept.setdefault((distinct_id, key), []).append(event)
        for event in admission.seen_beside:
            assert event.anonymous_id is not None
            kept.setdefault((event.anonymous_id, key), []).append(event)
    return (
        (distinct_id, events) for (distinct_id, _), events in kept.items() if distinct_id not in undecided
    )


def _ids(event: Event) -> tuple[str | None, str | None]:
    return event.user_id, event.anonymous_id


def _identities(events: Sequence[Event]) -> dict[str, _Identity]:
    """The anonymous ids whose aliases matter, each with the users it is said to be."""
    wanted: dict[str, _Identity] = {}
    for event in events:
        if anonymous_id := _anonymous_id(event):
            identity = wanted.setdefault(anonymous_id, _Identity(anonymous_id))
            if event.user_id:
                last_ms = identity.user_ids.get(event.user_id, event.instant_ms)
                identity.user_ids[event.user_id] = max(last_ms, event.instant_ms)
            identity.is_linked |= event.type in LINKING_TYPES
    return wanted


def _anonymous_id(event: Event) -> str | None:
    """The one whose alias an event rests on; none, where it says nothing of a user and counts nothing."""
    return (event.previous_id or event.anonymous_id) if event.user_id or event.part else None


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
        and (identity.user_ids or work.is_import or merge.is_over(alias.begun_ms, work.now))
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
    anonymous_id = _anonymous_id(event)
    identity = known.get(anonymous_id) if anonymous_id else _Identity("")
    if identity is None:
        return  # undecided, with its identity
    alias = identity.alias
    if event.user_id in identity.erased or (alias and event.instant_ms <= alias.erased_at):
        # Of before the time when its visitor, or the user it says it was, was erased.
        outcome.rejected.append(days.erased(event))
        return
    other = alias if alias and event.user_id not in (None, alias.user_id) else None
    if event.day is None:
        if other and event.type in LINKING_TYPES:
            outcome.rejected.append(
                Rejection(
                    event.index, event.message_id, "identity_conflict", "the anonymous id is another user's"
                )
            )
        else:
            outcome.accepted += 1
        return
    followed = alias if alias and alias.is_merged and not other else None
    owner = event.user_id or (followed.user_id if followed else event.anonymous_id)
    assert owner is not None
    group = groups.setdefault((owner, event.day, other.user_id if other else None), _Group())
    group.events.append(event)
    if followed:
        group.since_ms = _earliest(group.since_ms, followed)
    if other:
        group.beside_since_ms = _earliest(group.beside_since_ms, other)


def _earliest(since_ms: int | None, alias: Alias) -> int:
    return alias.begun_ms if since_ms is None else min(since_ms, alias.begun_ms)


def _count(work: Work, key: _GroupKey, group: _Group) -> Admission:
    owner, day, beside = key
    return counting.count(
        work,
        Owner(owner, group.since_ms),
        day,
        group.events,
        beside=Owner(beside, group.beside_since_ms) if beside else None,
        follow=functools.partial(_followed, work),
    )


def _followed(work: Work, anonymous_id: str) -> Alias:
    """Whose an anonymous id is by now, its merge ended. Raises Unavailable when it is nobody's any more."""
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    if alias is None or alias.user_id is None:
        raise Unavailable
    return merge.finished(work, anonymous_id, alias)


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
            outcome.undecided = undecided
    return results
