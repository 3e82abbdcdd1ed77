"""What is answered: the shapes, for the API description, and the bodies, for speed and for exact money.

Pure: no I/O, no clock. camelCase on the wire, snake_case here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from .days import Outcome, StoredDay
from .metrics import COUNTERS, Metrics
from .money import decimal_text

REJECTED_LISTED_MAX = 100
MESSAGE_ID_CHARACTERS_MAX = 128


class Reply(BaseModel):
    """A body in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RejectedEvent(Reply):
    """An event that is not counted and never will be."""

    index: int = Field(description="Position in the batch, from 0.")
    message_id: str | None = Field(description="As sent; cut after 128 characters.")
    code: str = Field(
        description="Which fault; more may come with later versions.",
        examples=[
            "invalid_event",
            "invalid_id",
            "invalid_amount",
            "timestamp_out_of_range",
            "event_too_large",
            "day_full",
            "identity_conflict",
            "identity_unverified",
            "bot",
        ],
    )
    reason: str = Field(description="What to mend; never repeats what was sent.")


class IngestReply(Reply):
    """Every event is decided: accepted + duplicates + rejectedCount is their number."""

    success: bool = Field(True, description="Always true: what could not be decided is a 503.")
    accepted: int = Field(description="Counted by this request; identify, alias and group events too.")
    duplicates: int = Field(description="Already counted, or twice in this batch.")
    rejected_count: int = Field(description="Not counted, and never will be.")
    rejected: list[RejectedEvent] = Field(description="The first 100 of the rejected.")


class MetricNumbers(Reply):
    """Every metric of the table, over a day or a range."""

    events: int = Field(description="Every counted event: track, page, screen.")
    sessions: int = Field(description="Distinct context.sessionId; over a range a union, not a sum.")
    page_views: int
    searches: int
    list_views: int
    product_views: int
    promotion_clicks: int
    cart_adds: int
    cart_removes: int
    cart_views: int
    wishlist_adds: int
    checkouts: int
    orders: int
    refunded_orders: int
    cancelled_orders: int
    items_sold: int
    engaged_seconds: int
    revenue: dict[str, float] = Field(description="By ISO 4217 currency, an exact decimal.")
    refunds: dict[str, float] = Field(description="By ISO 4217 currency, an exact decimal.")
    by_event: dict[str, int] = Field(
        description="Every other event by its name; beyond 100 names a day, `other`."
    )


class DayMetrics(MetricNumbers):
    """One day in the shop's zone."""

    day: date


class TotalMetrics(MetricNumbers):
    """The whole range."""

    active_days: int = Field(description="Days with events.")


class MetricsReply(Reply):
    """A user's metrics between two days, both inclusive."""

    user_id: str = Field(description="Whose days these are.")
    requested_id: str | None = Field(
        None, description="The anonymous id asked for, when it belongs to a user by now."
    )
    first_day: date = Field(alias="from", description="As asked for, or 29 days before `to`.")
    last_day: date = Field(alias="to", description="As asked for, or today.")
    timezone: str = Field(description="IANA name of the zone the days are in.")
    days: list[DayMetrics] = Field(description="Days without events are left out, unless fill=true.")
    totals: TotalMetrics = Field(description="Over the whole range.")


class UserReply(Reply):
    """What is known of a user."""

    user_id: str = Field(description="Whose days these are.")
    requested_id: str | None = Field(
        None, description="The anonymous id asked for, when it belongs to a user by now."
    )
    anonymous_ids: list[str] = Field(description="Those merged into the user, each with its `anon_`.")
    first_day: date | None = Field(description="The first day with events; null when there is none.")
    last_day: date | None = Field(description="The last day with events; null when there is none.")


class MergeReply(Reply):
    """The anonymous id is the user's, and its days are."""

    user_id: str = Field(description="Whose it is.")
    anonymous_id: str = Field(description="With its `anon_`.")
    status: str = Field("merged", description="Always merged: what has not ended is a 503.")
    days: int = Field(description="Days that moved, by this request or before.")


class HealthReply(Reply):
    """The service answers."""

    status: str = Field("ok", description="Always ok.")
    version: str = Field(description="Of the service.", examples=["0.1.0"])


class SegmentDestination(Reply):
    """Where analytics-next is to post."""

    api_key: str = Field(description="The write key.")
    api_host: str = Field(description="Host and path, without the protocol.")
    protocol: str = Field(description="http or https.")


class Integrations(BaseModel):
    """The destinations of analytics-next: this service alone."""

    segment: SegmentDestination = Field(alias="Segment.io", description="This service.")


class ClientMetrics(Reply):
    """What analytics-next reports of itself."""

    sample_rate: int = Field(description="Always 0: nothing.")


class ProjectSettingsReply(Reply):
    """What analytics-next asks for at its start."""

    integrations: Integrations = Field(description="Where to post.")
    metrics: ClientMetrics = Field(description="What to report of itself.")


class ProblemReply(BaseModel):
    """RFC 9457 problem details. Never repeats what was sent."""

    type: str = Field(description="The code as a URN.", examples=["urn:footfall:problem:unauthorized"])
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The same as the reply's.")
    detail: str = Field(description="What to do about it.")
    code: str = Field(
        description="Which problem; more may come with later versions.",
        examples=[
            "unauthorized",
            "forbidden",
            "not_found",
            "method_not_allowed",
            "identity_conflict",
            "body_too_large",
            "batch_too_large",
            "unsupported_encoding",
            "invalid_json",
            "invalid_request",
            "invalid_id",
            "invalid_range",
            "internal_error",
            "unavailable",
            "misconfigured",
        ],
    )
    message: str = Field(description="The same as detail: what Segment's clients read.")


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
    """One day of one user or anonymous visitor, as a range query has it."""
    return _numbers({"userId": distinct_id, "day": stored.day}, stored.metrics)


_COUNTER_NAMES = tuple((to_camel(name), name) for name in COUNTERS)


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


def json_body(value: object) -> bytes:
    """Compact JSON. A lone surrogate, which UTF-8 has not, leaves as the escape it came as."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
