"""One event as a client sent it, read into what the service needs of it, or refused with a reason.

Pure: no I/O; the clock is an argument. Field names: the Segment HTTP Tracking API.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from . import ids, metrics, money

EVENT_BYTES_MAX = 32 * 1024
# Six bytes tell 2,000 ids a day apart with a chance of 7e-9 that any two meet, and cost 6 of the 1,024 bytes that
# one write unit covers.
HASH_BYTES = 6
TIMESTAMP_AHEAD_MAX = timedelta(hours=24)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
IMPORT_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

COUNTED_TYPES = frozenset({"track", "page", "screen"})
LINKING_TYPES = frozenset({"identify", "alias"})
TYPES = COUNTED_TYPES | LINKING_TYPES | {"group"}

# Crawlers that run scripts and name themselves. `cubot` is a telephone.
_CRAWLERS = ("crawler", "spider", "slurp", "facebookexternalhit", "mediapartners-google")
_BOT = re.compile(r"(?<!cu)bot\b")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an event is not counted and never will be. `index` is its place in the batch."""

    index: int
    message_id: str | None
    code: str
    reason: str


# Python takes an offset of 60 minutes and more for hours.
_IMPOSSIBLE_OFFSET = re.compile(r"[+-]\d{2}:?[6-9]\d(:?\d{2})?$", re.ASCII)
# The seconds of a time, whatever parts it from its date.
_LEAP_SECOND = re.compile(r"^(\d{4}-?\d{2}-?\d{2}.\d{2}:?\d{2}:?)60", re.ASCII)


class _RefusedError(Exception):
    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason


@dataclass(slots=True, eq=False)
class Event:
    """What the service needs of an event. `day` and `part` are None for identify, alias and group."""

    index: int
    type: str
    message_id: str | None
    message_hash: bytes
    user_id: str | None
    anonymous_id: str | None
    previous_id: str | None
    day: str | None = None
    part: metrics.Contribution | None = None
    # Epoch milliseconds of its timestamp; the time of receipt where it has none.
    instant_ms: int = 0
    # Its JSON, where raw events are kept.
    sent: str = "{}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides whether an event is accepted. A function of the event and these alone."""

    now: datetime
    age_max: timedelta
    timezone: tzinfo
    currency: str
    counts_orders: bool
    identity_secret: bytes | None
    # History from elsewhere: any day since 2000, and every event says when it was.
    is_import: bool = False
    # How long a day is kept; for ever, if it is not set. An older one would be gone at once, with what it has seen.
    kept_days: int | None = None

    def read(
        self, raw: object, index: int, context: Mapping[str, Any], *, may_be_large: bool
    ) -> Event | Rejection:
        """Read one event of a batch whose outer context is `context`.

        `may_be_large` says that the event's size is not yet known to be under the limit.
        """
        message_id: str | None = None
        if not isinstance(raw, dict):
            return Rejection(index, None, "invalid_event", "an event is an object")
        try:
            message_id = _message_id(raw.get("messageId"))
            if may_be_large:
                _check_size(raw)
            return self._read(raw, index, context, message_id)
        except _RefusedError as refused:
            return Rejection(index, message_id, refused.code, refused.reason)
        except ids.InvalidIdError as error:
            return Rejection(index, message_id, "invalid_id", str(error))
        except money.InvalidAmountError as error:
            return Rejection(index, message_id, "invalid_amount", str(error))
        except metrics.InvalidEventError as error:
            return Rejection(index, message_id, "invalid_event", str(error))

    def _read(
        self, raw: Mapping[str, Any], index: int, outer_context: Mapping[str, Any], message_id: str | None
    ) -> Event:
        kind = raw.get("type")
        if not isinstance(kind, str) or kind not in TYPES:
            raise _RefusedError("invalid_event", "type is one of " + ", ".join(sorted(TYPES)))
        own_context = _object(raw, "context")
        event = Event(
            index=index,
            type=kind,
            message_id=message_id,
            message_hash=short_hash(
                message_id.encode("utf-8", "surrogatepass") if message_id else _canonical(raw)
            ),
            user_id=ids.user_id(raw.get("userId")),
            anonymous_id=ids.anonymous_id(raw.get("anonymousId")),
            previous_id=ids.anonymous_id(raw.get("previousId")) if kind == "alias" else None,
        )
        if event.previous_id:
            event.anonymous_id = (
                None  # an alias says whose the previous id is, and nothing of the present one
            )

        def context(name: str) -> object:
            value = own_context.get(name)
            return outer_context.get(name) if value is None else value

        self._check_identity(event, context("userToken"))
        agent = context("userAgent")
        if isinstance(agent, str) and _names_crawler(agent):
            raise _RefusedError("bot", "context.userAgent names a crawler")
        if kind in COUNTED_TYPES:
            instant = self._instant(raw)
            event.instant_ms = epoch_ms(instant)
            event.day = instant.astimezone(self.timezone).date().isoformat()
            if kind == "track":
                name = raw.get("event")
                event.part = metrics.track(
                    raw.get("name") if name is None else name,
                    _object(raw, "properties"),
                    currency=self.currency,
                    counts_orders=self.counts_orders,
                )
            else:
                event.part = metrics.page_view()
            event.part.session = _session(context("sessionId"))
        else:
            event.instant_ms = self._said_at_ms(raw)
        return event

    def _check_identity(self, event: Event, token: object) -> None:
        if event.user_id is None and event.anonymous_id is None:
            raise _RefusedError("invalid_id", "an event has a userId or an anonymousId")
        if event.type == "alias" and not (event.user_id and (event.previous_id or event.anonymous_id)):
            raise _RefusedError("invalid_id", "an alias has a previousId and a userId")
        if event.user_id is None or self.identity_secret is None:
            return
        expected = hmac.new(self.identity_secret, event.user_id.encode(), hashlib.sha256).hexdigest()
        # Compared as bytes: compare_digest raises on text outside ASCII.
        given = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b""
        if not hmac.compare_digest(given, expected.encode()):
            raise _RefusedError("identity_unverified", "context.userToken does not prove this userId")

    def _said_at_ms(self, raw: Mapping[str, Any]) -> int:
        """When an event that is not counted was made. No such event is refused for its time."""
        try:
            return epoch_ms(timestamp(_timestamp(raw)))
        except (_RefusedError, OverflowError):
            return epoch_ms(self.now)

    def _instant(self, raw: Mapping[str, Any]) -> datetime:
        """When it happened: a function of the event alone, so that a retry after midnight meets the same day."""
        value = _timestamp(raw)
        if value is None:
            if self.is_import:
                raise _RefusedError("invalid_event", "an imported event has a timestamp")
            return self.now
        instant = timestamp(value)
        earliest, since = self._earliest()
        # Years outside these cannot be accepted, and the first and last ones cannot be shifted to another zone.
        if not 1970 <= instant.year <= 9000 or not earliest <= instant <= self.now + TIMESTAMP_AHEAD_MAX:
            raise _RefusedError(
                "timestamp_out_of_range",
                f"accepted from {since} to {TIMESTAMP_AHEAD_MAX.days * 24} hours ahead",
            )
        return instant

    def _earliest(self) -> tuple[datetime, str]:
        """The first instant an event may be of, and the same in words."""
        if not self.is_import:
            return self.now - self.age_max, f"{self.age_max.days} days back"
        if self.kept_days is not None:
            kept_since = self.now - timedelta(days=self.kept_days)
            if kept_since > IMPORT_EARLIEST:
                return kept_since, f"{self.kept_days} days back, as long as days are kept"
        return IMPORT_EARLIEST, "the year 2000"

    def days(self) -> list[str]:
        """Every day an accepted event can be on, padded by one on each side."""
        first = (self.now - self.age_max).astimezone(self.timezone).date() - timedelta(days=1)
        last = (self.now + TIMESTAMP_AHEAD_MAX).astimezone(self.timezone).date() + timedelta(days=1)
        return [date.fromordinal(day).isoformat() for day in range(first.toordinal(), last.toordinal() + 1)]


def _timestamp(raw: Mapping[str, Any]) -> object:
    value = raw.get("timestamp")
    return raw.get("originalTimestamp") if value is None else value


def epoch_ms(instant: datetime) -> int:
    """Whole milliseconds since 1970, rounded down."""
    return (instant - _EPOCH) // _MILLISECOND


def moment(instant_ms: int) -> datetime:
    """The instant of these milliseconds since 1970."""
    return _EPOCH + instant_ms * _MILLISECOND


def timestamp(value: object) -> datetime:
    """An ISO 8601 instant; without offset it is UTC. A leap second is the second before it."""
    if isinstance(value, str) and len(value) <= 64 and not _IMPOSSIBLE_OFFSET.search(value):
        for text in (value, _LEAP_SECOND.sub(r"\g<1>59", value)):
            try:
                instant = datetime.fromisoformat(text.upper())
            except ValueError:
                continue
            return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    raise _RefusedError("invalid_event", "timestamp is an ISO 8601 string")


def short_hash(data: bytes) -> bytes:
    """What stands for a messageId or a session id in a set of the day item."""
    return hashlib.sha256(data).digest()[:HASH_BYTES]


def _check_size(raw: Mapping[str, Any]) -> None:
    decimals: list[str] = []

    def noted(number: object) -> str:
        decimals.append(str(number))
        return decimals[-1]

    # Without the quotes that a decimal gets here and had not when it was sent.
    if len(_canonical(raw, noted)) - 2 * len(decimals) > EVENT_BYTES_MAX:
        raise _RefusedError("event_too_large", f"an event has at most {EVENT_BYTES_MAX} bytes")


def _message_id(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 426:
        return str(value)
    if isinstance(value, str):
        return value
    raise _RefusedError("invalid_id", "messageId is a string")


def _canonical(raw: Mapping[str, Any], decimal_text: Callable[[object], str] = str) -> bytes:
    """The event as sent, whatever the order of its keys."""
    try:
        text = json.dumps(
            raw, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=decimal_text
        )
    except (RecursionError, ValueError):
        raise _RefusedError(
            "invalid_event", "the event is nested too deeply or holds an endless number"
        ) from None
    return text.encode("utf-8", "surrogatepass")


def _object(raw: Mapping[str, Any], field_name: str) -> Mapping[str, Any]:
    value = raw.get(field_name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _RefusedError("invalid_event", f"{field_name} is an object")
    return value


def _session(value: object) -> bytes | None:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 426:
        value = str(value)
    return short_hash(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) and value else None


def _names_crawler(agent: str) -> bool:
    """By plain searches: a regular expression that ignores case costs ten times as much on every browser's name."""
    text = agent.lower()
    return any(word in text for word in _CRAWLERS) or ("bot" in text and _BOT.search(text) is not None)
