"""What requests are made of, and the people they are about."""

from __future__ import annotations

import dataclasses

from service import erasure, identities, ingest, merge, store
from service.events import Event, epoch_ms
from service.packing import Origin, text_of
from service.problems import IdentityConflict
from tests.explorer.states import NOW, SETTINGS, UNDECIDED, Process

# The days an event may be on. Two are enough to have a day with an item and one without.
WINDOW = ["2026-11-21", "2026-11-22"]
U, V = "u", "v"
# Of a day that no seal and no fence covers.
OLD = "2019-12-24T18:00:00Z"
# After any erasure that is explored.
LATER = "2026-11-22T13:00:00Z"
# The clock of who sends that: no merge under way seems dead by then.
AFTER = 30


def sent(
    name: str, *batch: Event, is_import: bool = False, is_timed: bool = False, seconds: int = 0
) -> Process:
    """A request with these events. Replies with the number accepted."""
    messages = tuple(event.message_id or "" for event in batch)

    def run(work: store.Work) -> str:
        origin = Origin(epoch_ms(work.now), "USD", True) if work.settings.raw_events else None
        outcome = ingest.ingest(dataclasses.replace(work, is_import=is_import, origin=origin), batch)
        return UNDECIDED if outcome.undecided else f"{outcome.accepted} accepted"

    return Process(name, run, is_timed, seconds, messages)


def merging(anonymous_id: str, user_id: str, *, is_timed: bool = False) -> Process:
    """A request to merge. Replies with whose the anonymous id is."""

    def run(work: store.Work) -> str:
        alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
        try:
            return str(merge.join(work, anonymous_id, user_id, alias, epoch_ms(work.now)).user_id)
        except identities.ErasedError:
            return "erased"

    return Process(f"merge {anonymous_id} into {user_id}", run, is_timed)


def erasing(distinct_id: str) -> Process:
    """A request to erase. Replies with what it removed."""

    def run(work: store.Work) -> str:
        try:
            return f"{erasure.erase(work, distinct_id).days} days erased"
        except IdentityConflict:
            return "409"

    return Process(f"erase {distinct_id}", run, is_timed=True)


def page(
    message_id: str,
    *,
    anonymous_id: str | None = None,
    user_id: str | None = None,
    timestamp: str | None = None,
) -> Event:
    """A page view, read as a request would be; an old one as an import would be."""
    return _event({"type": "page", "messageId": message_id}, anonymous_id, user_id, timestamp)


def order(
    message_id: str,
    *,
    anonymous_id: str | None = None,
    user_id: str | None = None,
    timestamp: str | None = None,
) -> Event:
    """The one order there is, as another event each time."""
    raw = {"type": "track", "event": "Order Completed", "properties": {"orderId": "o-1"}}
    return _event({**raw, "messageId": message_id}, anonymous_id, user_id, timestamp)


def _event(
    raw: dict[str, object], anonymous_id: str | None, user_id: str | None, timestamp: str | None
) -> Event:
    raw |= {"anonymousId": anonymous_id, "userId": user_id, "timestamp": timestamp}
    event = SETTINGS.rules(NOW, is_import=timestamp == OLD).read(raw, 0, {}, may_be_large=False)
    assert isinstance(event, Event)
    event.sent = text_of(raw)
    return event
