"""What is explored: some requests under way at once."""

from __future__ import annotations

import dataclasses

from service import identities, ingest, merge, store
from service.events import Event
from tests.explorer.states import NOW, SETTINGS, A, Process, Scenario

# The days an event may be on. Two are enough to have a day with an item and one without.
WINDOW = ["2026-11-21", "2026-11-22"]
U, V = "u", "v"


def sent(name: str, *batch: Event, is_import: bool = False) -> Process:
    """A request with these events. Replies with the number accepted."""

    def run(work: store.Work) -> str:
        work = dataclasses.replace(work, is_import=is_import)
        outcome = ingest.ingest(work, batch)
        assert outcome.undecided is None, "nothing is undecided where nothing fails"
        return f"{outcome.accepted} accepted"

    return Process(name, run)


def merging(anonymous_id: str, user_id: str) -> Process:
    """A request to merge. Replies with whose the anonymous id is."""

    def run(work: store.Work) -> str:
        alias = identities.alias_of(work.calls, anonymous_id)
        return merge.join(work, anonymous_id, user_id, alias).user_id

    return Process(f"merge {anonymous_id} into {user_id}", run)


def page(
    message_id: str,
    *,
    anonymous_id: str | None = None,
    user_id: str | None = None,
    timestamp: str | None = None,
) -> Event:
    """A page view, read as a request would be; one with a timestamp as an import would be."""
    raw = {
        "type": "page",
        "messageId": message_id,
        "anonymousId": anonymous_id,
        "userId": user_id,
        "timestamp": timestamp,
    }
    event = SETTINGS.rules(NOW, is_import=timestamp is not None).read(raw, 0, {}, may_be_large=False)
    assert isinstance(event, Event)
    return event


def scenarios() -> list[Scenario]:
    """What is explored."""
    anonymous = page("m", anonymous_id=A)
    both = page("m", anonymous_id=A, user_id=U)
    into_u = merging(A, U)
    ingest_a = sent("event of a", anonymous)
    retry = sent("the event with both ids", both)
    # Of a day that no seal covers.
    old = sent("import of a", page("m", anonymous_id=A, timestamp="2019-12-24T18:00:00Z"), is_import=True)
    old_both = sent(
        "the import with both ids",
        page("m", anonymous_id=A, user_id=U, timestamp="2019-12-24T18:00:00Z"),
        is_import=True,
    )
    to_u, to_either = frozenset({U}), frozenset({U, V})
    return [
        Scenario("two ingests of one event, a merge", [ingest_a, ingest_a, into_u], 1, 1, to_u),
        Scenario("an ingest, a merge, two crashes", [ingest_a, into_u], 2, 1, to_u),
        Scenario("an ingest, merges to two users", [ingest_a, into_u, merging(A, V)], 1, 1, to_either),
        Scenario("an ingest, the same merge twice", [ingest_a, into_u, into_u], 1, 1, to_u),
        Scenario("an event, its retry with both ids, two crashes", [ingest_a, retry], 2, 1, to_u),
        Scenario("an event, its retry with both ids, the same merge", [ingest_a, retry, into_u], 0, 1, to_u),
        Scenario(
            "an event, its retry with both ids, a merge to another",
            [ingest_a, retry, merging(A, V)],
            1,
            1,
            to_either,
        ),
        Scenario(
            "two events in one request, one of them again, a merge",
            [sent("two events of a", anonymous, page("n", anonymous_id=A)), ingest_a, into_u],
            1,
            2,
            to_u,
        ),
        Scenario(
            "two events, a merge",
            [ingest_a, sent("another event of a", page("n", anonymous_id=A)), into_u],
            1,
            2,
            to_u,
        ),
        Scenario("two imports of one old event, a merge", [old, old, into_u], 0, 1, to_u),
        Scenario(
            "an import of an old event, merges to two users", [old, into_u, merging(A, V)], 1, 1, to_either
        ),
        Scenario("an old event, its import with both ids, two crashes", [old, old_both], 2, 1, to_u),
    ]
