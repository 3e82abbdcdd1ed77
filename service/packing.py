"""Raw events as they are kept: compressed JSON of what was sent, and the same read back into what was counted.

Pure: no I/O, no clock. Of what was sent, keys are left out: the write key, and the token that proves a userId.
"""

import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from typing import Any

from . import wire
from .events import EVENT_BYTES_MAX, IMPORT_EARLIEST, Event, Rejection, Rules, moment

# DynamoDB's items have at most 409,600 bytes. What does not compress at all leaves this much for the keys.
PAYLOAD_BYTES_MAX = 300_000
# Events of one item are at most so far apart. So whoever looks for a day looks at most this much before it.
SPAN_MS = 86_400_000
# 9 makes the payload of ten events 1 % smaller than 6, and takes as long.
_LEVEL = 6
_SECRET_FIELDS = frozenset({"writeKey"})
_SECRET_CONTEXT = frozenset({"userToken"})
# What json.dumps writes for a decimal, until the text is whole. No client can send it: NaN is no JSON, and a quote
# inside a string has a backslash before it.
_DECIMAL = re.compile(r'\[NaN,"(-?\d+(?:\.\d+)?(?:E[+-]?\d+)?)"\]', re.ASCII)
# An event lies two levels deeper in an item than in a request of its own, and must never be too deep to be read back.
# Python's own limit depends on its version and on who asks; nobody nests deeper than this.
NESTING_MAX = 100


class _RefusedError(Exception):
    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request's events arrived: what they are read by a second time, whatever the settings are then."""

    received_ms: int
    currency: str
    counts_orders: bool
    # The batch's context as JSON.
    context: str = "{}"


@dataclass(frozen=True, slots=True)
class Pack:
    """The events of one item. `digest` is of their messageIds alone, so that a retry makes the same key."""

    first_ms: int
    digest: str
    events: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One event read back, and the context of its batch, which many share."""

    own: Mapping[str, Any]
    batch_context: Mapping[str, Any]
    event: Event
    received_ms: int

    @property
    def sent(self) -> Mapping[str, Any]:
        """As the client made it, the batch's context merged in."""
        context = self.own.get("context") or {}
        given = {name: value for name, value in context.items() if value is not None}
        merged = {**self.batch_context, **given}
        return {**self.own, "context": merged} if merged else self.own

    @property
    def received_at(self) -> str:
        """When it arrived, ISO 8601."""
        return moment(self.received_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def key(self) -> tuple[str, bytes]:
        """What it counts by, once."""
        assert self.event.day is not None
        return self.event.day, self.event.message_hash


def with_text(
    sent: Sequence[object], context: Mapping[str, Any], events: Sequence[Event], rejected: list[Rejection]
) -> tuple[str, list[Event]]:
    """The batch's context as JSON, and the events, each with its own from where it stands in what was sent.

    What cannot be kept is rejected; with a context that cannot be, all that are counted.
    """
    refused: _RefusedError | None = None
    context_json = "{}"
    try:
        context_json = _context_text(context)
    except _RefusedError as error:
        refused = error
    kept: list[Event] = []
    for event in events:
        raw = sent[event.index]
        assert isinstance(raw, dict)
        if event.day is None:
            kept.append(event)  # It is not counted, and so not kept.
            continue
        try:
            if refused is not None:
                raise refused
            event.sent = text_of(raw)
        except _RefusedError as error:
            rejected.append(Rejection(event.index, event.message_id, error.code, error.reason))
        else:
            kept.append(event)
    return context_json, kept


def text_of(raw: Mapping[str, Any]) -> str:
    """An event's JSON, numbers as they were sent."""
    kept = {name: value for name, value in raw.items() if name not in _SECRET_FIELDS}
    if isinstance(raw.get("context"), dict):
        kept["context"] = _without_secrets(raw["context"])
    return _bounded_text(kept)


def _context_text(context: Mapping[str, Any]) -> str:
    text = _bounded_text(_without_secrets(context))
    if len(text) > EVENT_BYTES_MAX:
        # Each identity of the batch keeps it, and a write costs by its size.
        raise _RefusedError("event_too_large", f"the batch's context has at most {EVENT_BYTES_MAX} bytes")
    return text


def _bounded_text(value: Mapping[str, Any]) -> str:
    try:
        text = json_text(value)
    except RecursionError:
        text = ""
    # So many brackets are few enough; only a text with more is looked at.
    if not text or (text.count("[") + text.count("{") > NESTING_MAX and _is_deep(value)):
        raise _RefusedError("invalid_event", f"the event is nested more than {NESTING_MAX} levels deep")
    return text


def _is_deep(value: object) -> bool:
    """Level by level, as Python's own stack is what must not run out."""
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [
            member
            for outer in level
            for member in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(member, dict | list)
        ]
        if not level:
            return False
    return True


def packed(events: Sequence[Event], origin: Origin) -> Iterator[Pack]:
    """These events of one identity, each with its `sent` text, in as few packs as the bounds allow."""
    span: list[Event] = []
    for event in sorted(events, key=_by_time):
        if span and event.instant_ms - span[0].instant_ms >= SPAN_MS:
            yield from _fitting(span, origin)
            span = []
        span.append(event)
    if span:
        yield from _fitting(span, origin)


def unpacked(payload: bytes, received_ms: int, timezone: tzinfo) -> Iterator[RawEvent]:
    """The events of one item. One that a newer version's rules refuse is left out."""
    document = wire.parsed(zlib.decompress(payload))
    assert isinstance(document, dict)
    context = document.get("context", {})
    hashes = document.get("hashes", {})
    rules = _as_then(document, received_ms, timezone)
    for index, sent in enumerate(document["events"]):
        event = rules.read(sent, index, context, may_be_large=False)
        if isinstance(event, Rejection):
            continue
        if (text := hashes.get(str(index))) is not None:
            event.message_hash = bytes.fromhex(text)
        yield RawEvent(sent, context, event, received_ms)


def _as_then(document: Mapping[str, Any], received_ms: int, timezone: tzinfo) -> Rules:
    received = moment(received_ms)
    return Rules(
        now=received,
        # It was accepted; how old an event may be by now is another question.
        age_max=received - IMPORT_EARLIEST,
        timezone=timezone,
        currency=document["currency"],
        counts_orders=document["countsOrders"],
        identity_secret=None,
    )


def _by_time(event: Event) -> tuple[int, bytes]:
    return event.instant_ms, event.message_hash


def _fitting(events: Sequence[Event], origin: Origin) -> Iterator[Pack]:
    """One pack, or as many halves as it takes."""
    payload = _payload(events, origin)
    # Of one event and its context it never is: they have 64 KB together.
    if len(payload) > PAYLOAD_BYTES_MAX:
        middle = len(events) // 2
        yield from _fitting(events[:middle], origin)
        yield from _fitting(events[middle:], origin)
        return
    digest = hashlib.sha256(b"".join(sorted(event.message_hash for event in events))).hexdigest()[:16]
    yield Pack(events[0].instant_ms, digest, len(events), payload)


def _payload(events: Sequence[Event], origin: Origin) -> bytes:
    head: dict[str, Any] = {"currency": origin.currency, "countsOrders": origin.counts_orders}
    # What an event without messageId is known by is of the event with its keys, which are not kept.
    hashes = {
        str(index): event.message_hash.hex() for index, event in enumerate(events) if event.message_id is None
    }
    if hashes:
        head["hashes"] = hashes
    texts = ",".join([event.sent for event in events])
    text = f'{json_text(head)[:-1]},"context":{origin.context},"events":[{texts}]}}'
    return zlib.compress(text.encode(), _LEVEL)


def json_text(value: object) -> str:
    """Plain ASCII, so that half a surrogate pair stays what it is. Decimals keep the digits they came with."""
    return _DECIMAL.sub(r"\1", json.dumps(value, separators=(",", ":"), default=_decimal))


def _decimal(number: Decimal) -> tuple[float, str]:
    return math.nan, str(number)


def _without_secrets(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if name not in _SECRET_CONTEXT}
