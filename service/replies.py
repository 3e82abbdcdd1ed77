"""The bodies of replies, written by hand for speed and for exact money. `reply_models` has their shapes.

Pure: no I/O, no clock. camelCase on the wire, snake_case here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from . import packing
from .days import Outcome, StoredDay
from .metrics import COUNTERS, Metrics, camel
from .money import decimal_text
from .packing import RawEvent

REJECTED_LISTED_MAX = 100
MESSAGE_ID_CHARACTERS_MAX = 128


def ingest_body(outcome: Outcome) -> bytes:
    """The body of IngestReply."""
    rejected = sorted(outcome.rejected, key=lambda rejection: rejection.index)
    return json_body(
        {
            "success": True,
            "accepted": outcome.accepted,
            "duplicates": outcome.duplicates,
            "rejectedCount": len(rejected),
            "rejected": [
                {
                    "index": rejection.index,
                    "messageId": rejection.message_id and rejection.message_id[:MESSAGE_ID_CHARACTERS_MAX],
                    "code": rejection.code,
                    "reason": rejection.reason,
                }
                for rejection in rejected[:REJECTED_LISTED_MAX]
            ],
        }
    )


def metrics_body(
    head: Mapping[str, Any], first_day: date, last_day: date, stored: Sequence[StoredDay], *, fill: bool
) -> bytes:
    """The body of MetricsReply; `head` is all before the days."""
    totals = Metrics()
    for day in stored:
        totals.merge(day.metrics)
    by_day: Iterable[tuple[str, Metrics]] = ((day.day, day.metrics) for day in stored)
    if fill:
        counted = dict(by_day)
        number_of_days = (last_day - first_day).days + 1
        every_day = ((first_day + timedelta(days=number)).isoformat() for number in range(number_of_days))
        by_day = ((day, counted.get(day) or Metrics()) for day in every_day)
    days = b",".join(_numbers({"day": day}, numbers) for day, numbers in by_day)
    total = _numbers({"activeDays": len(stored)}, totals)
    return b'%b,"days":[%b],"totals":%b}' % (json_body(head)[:-1], days, total)


def day_body(distinct_id: str, stored: StoredDay) -> bytes:
    """One day of one user or anonymous visitor, as a range query has it, with its orders' ids."""
    head = {"userId": distinct_id, "day": stored.day, "orderIds": sorted(stored.metrics.order_ids)}
    return _numbers(head, stored.metrics)


def raw_event_body(raw: RawEvent) -> bytes:
    """An event as it was sent, and when it arrived."""
    return packing.json_text({"receivedAt": raw.received_at, "event": raw.sent}).encode()


def alias_body(anonymous_id: str, user_id: str | None, status: str) -> bytes:
    """Whose an anonymous id is."""
    return json_body({"anonymousId": anonymous_id, "userId": user_id, "status": status})


_COUNTER_NAMES = tuple((camel(name), name) for name in COUNTERS)


def _numbers(head: Mapping[str, Any], metrics: Metrics) -> bytes:
    counters = metrics.counters
    plain = {
        **head,
        "sessions": len(metrics.sessions),
        **{wire_name: counters.get(name, 0) for wire_name, name in _COUNTER_NAMES},
        "byEvent": metrics.by_event,
    }
    return b'%b,"revenue":%b,"refunds":%b}' % (
        json_body(plain)[:-1],
        _money(metrics.revenue_minor),
        _money(metrics.refunds_minor),
    )


def _money(amounts_minor: Mapping[str, int]) -> bytes:
    """Written as text: a binary float would round what passes 2^53 minor units."""
    members = (f'"{code}":{decimal_text(minor, code)}' for code, minor in sorted(amounts_minor.items()))
    return ("{" + ",".join(members) + "}").encode()


def wire_bytes(body: str | bytes) -> int:
    """What a body takes in the function's reply, where it is a JSON string: quotes and backslashes count twice."""
    if isinstance(body, str):
        return len(body) + body.count('"') + body.count("\\")
    return len(body) + body.count(b'"') + body.count(b"\\")


def json_body(value: object) -> bytes:
    """Compact JSON. A lone surrogate, which UTF-8 has not, leaves as the escape it came as."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
