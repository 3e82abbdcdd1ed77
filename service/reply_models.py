"""The shapes of replies, as the description of the API has them; `replies` writes the bodies.

Only /openapi.json needs them, and a cold start does not import them. What is always there has no default, and so is
`required`; what may be absent is never null, unless it says so.
"""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from .replies import MESSAGE_ID_CHARACTERS_MAX, REJECTED_LISTED_MAX


class _Reply(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RejectedEvent(_Reply):
    """An event that is not counted and never will be."""

    index: int = Field(description="Position in the batch, from 0.")
    message_id: str | None = Field(
        description=f"As sent, cut after {MESSAGE_ID_CHARACTERS_MAX} characters; null where there was none."
    )
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
            "erased",
            "bot",
        ],
    )
    reason: str = Field(description="What to mend; never repeats what was sent.")


class IngestReply(_Reply):
    """Every event is decided: accepted + duplicates + rejectedCount is their number."""

    success: bool = Field(description="Always true: what could not be decided is a 503.")
    accepted: int = Field(description="Counted by this request; identify, alias and group events too.")
    duplicates: int = Field(description="Already counted, or twice in this batch.")
    rejected_count: int = Field(description="Not counted, and never will be.")
    rejected: list[RejectedEvent] = Field(description=f"The first {REJECTED_LISTED_MAX} of the rejected.")


class _Numbers(_Reply):
    """Every metric of the table."""

    events: int = Field(description="Every counted event: track, page, screen.")
    sessions: int = Field(description="Distinct context.sessionId; over a range a union, not a sum.")
    page_views: int = Field(description="page and screen events.")
    searches: int = Field(description="Products Searched / search, view_search_results.")
    list_views: int = Field(description="Product List Viewed / view_item_list.")
    product_views: int = Field(description="Product Viewed / view_item.")
    promotion_clicks: int = Field(description="Promotion Clicked / select_promotion.")
    cart_adds: int = Field(description="Product Added / add_to_cart: events, not quantities.")
    cart_removes: int = Field(description="Product Removed / remove_from_cart: events, not quantities.")
    cart_views: int = Field(description="Cart Viewed / view_cart.")
    wishlist_adds: int = Field(description="Product Added to Wishlist / add_to_wishlist.")
    checkouts: int = Field(description="Checkout Started / begin_checkout.")
    orders: int = Field(description="Order Completed / purchase; the same order id counts once.")
    refunded_orders: int = Field(description="Order Refunded / refund.")
    cancelled_orders: int = Field(description="Order Cancelled.")
    items_sold: int = Field(description="Quantities of the products of Order Completed / purchase.")
    engaged_seconds: int = Field(description="engagedSeconds of Page Left.")
    revenue: dict[str, float] = Field(
        description="Amounts of Order Completed / purchase by ISO 4217 currency, an exact decimal."
    )
    refunds: dict[str, float] = Field(
        description="Amounts of Order Refunded / refund by ISO 4217 currency, an exact decimal; not subtracted from "
        "`revenue`."
    )
    by_event: dict[str, int] = Field(
        description="Every other track event by its name; beyond 100 names a day, `other`."
    )


class DayMetrics(_Numbers):
    """One day in the shop's zone. Events are named as Segment names them / as Google Analytics 4 does."""

    day: date = Field(description="YYYY-MM-DD.")


class TotalMetrics(_Numbers):
    """The whole range. Events are named as Segment names them / as Google Analytics 4 does."""

    active_days: int = Field(description="Days with events.")


class _Asked(_Reply):
    user_id: str = Field(description="Whose days these are.")
    requested_id: str | SkipJsonSchema[None] = Field(
        None, description="The anonymous id asked for, when it belongs to a user by now; else absent."
    )


class MetricsReply(_Asked):
    """A user's metrics between two days, both inclusive."""

    first_day: date = Field(alias="from", description="As asked for, or 29 days before `to`.")
    last_day: date = Field(alias="to", description="As asked for, or today.")
    timezone: str = Field(description="IANA name of the zone the days are in.")
    days: list[DayMetrics] = Field(description="Days without events are left out, unless fill=true.")
    totals: TotalMetrics = Field(description="Over the whole range.")


class UserReply(_Asked):
    """What is known of a user."""

    anonymous_ids: list[str] = Field(description="Those merged into the user, each with its `anon_`.")
    first_day: date | None = Field(description="The first day with events; null when there is none.")
    last_day: date | None = Field(description="The last day with events; null when there is none.")


class MergeReply(_Reply):
    """The anonymous id is the user's, and its days are."""

    user_id: str = Field(description="Whose it is.")
    anonymous_id: str = Field(description="With its `anon_`.")
    status: str = Field(description="Always merged: what has not ended is a 503.", examples=["merged"])
    days: int = Field(description="Days that moved, by this request or before.")


class ErasureReply(_Reply):
    """What was removed by this call. Another one finds nothing more, and does no harm."""

    user_id: str = Field(description="Who was erased, user or anonymous visitor.")
    erased_at: datetime = Field(
        description="Events of until then are rejected as `erased`, whenever they arrive."
    )
    anonymous_ids: int = Field(description="Anonymous ids that belonged to the user, and are nobody's now.")
    days: int = Field(description="Days with events, of the user and of those anonymous ids.")
    raw_events: int = Field(description="Raw events, of the user and of those anonymous ids.")


class TimelineReply(_Asked):
    """What a user did between two days, both inclusive, event by event."""

    first_day: date = Field(alias="from", description="As asked for, or 29 days before `to`.")
    last_day: date = Field(alias="to", description="As asked for, or today.")
    timezone: str = Field(description="IANA name of the zone the days are in.")
    events: list[dict[str, Any]] = Field(
        description="Each as it was sent, with the batch's `context` in its own, and with `receivedAt`; without the "
        "write key and `context.userToken`."
    )
    next_cursor: str | None = Field(description="The `cursor` of the next page; null after the last.")


class ExportedRawEvent(_Reply):
    """A line of an export: one raw event."""

    received_at: datetime = Field(description="When it arrived.")
    event: dict[str, Any] = Field(description="As it was sent.")


class ExportedDay(_Numbers):
    """A line of an export: one day. Events are named as Segment names them / as Google Analytics 4 does."""

    user_id: str = Field(description="Whose day it is, user or anonymous visitor.")
    day: date = Field(description="YYYY-MM-DD.")
    order_ids: list[str] = Field(description="Of the day's orders; the first 100 that came with one.")


class ExportedAnonymousId(_Reply):
    """A line of an export: whose an anonymous id is."""

    anonymous_id: str = Field(description="With its `anon_`.")
    user_id: str | None = Field(description="Whose it is; null when it is nobody's any more.")
    status: str = Field(
        description="merged: its days are the user's. merging: they are on their way. erased: it is nobody's.",
        examples=["merged", "merging", "erased"],
    )


class SegmentUser(_Reply):
    """One who holds."""

    user_id: str = Field(description="A user id, or an anonymous id with its `anon_`.")


class SegmentsReply(_Reply):
    """A page of those who hold."""

    count: int | None = Field(
        description="How many hold, on the first page; null where the time did not suffice. Later pages repeat it."
    )
    count_at_least: int = Field(description="The same where it is known; else how many were found in time.")
    users: list[SegmentUser] = Field(description="In the order of their ids.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null after the last.")


class FunnelStep(_Reply):
    """A step, and who reached it."""

    event: str = Field(description="As Segment names it.")
    users: int = Field(description="How many reached this step.")
    conversion: float = Field(
        description="Of those who reached the first, to four digits; 0 where nobody did."
    )


class FunnelsReply(_Reply):
    """How many came how far."""

    steps: list[FunnelStep] = Field(description="As asked for.")


class BreakdownRow(_Reply):
    """One value of the field."""

    key: str = Field(description="The value.")
    value: float = Field(description="Events, users, or revenue as an exact decimal.")


class BreakdownsReply(_Reply):
    """The largest rows."""

    rows: list[BreakdownRow] = Field(description="The greatest first; of equal ones the first by key.")
    total: float | None = Field(
        description="Of all rows, those not shown too; null for revenue by currency, which has no sum."
    )
    other_rows: int = Field(description="How many rows are not shown.")


class TimeseriesRow(_Reply):
    """One hour, day, week or month."""

    start: str = Field(
        description="Of a day, week or month its first day, YYYY-MM-DD; of an hour ISO 8601 with the offset.",
        examples=["2026-11-22", "2026-11-22T13:00:00+01:00"],
    )
    value: float = Field(description="Events, users, or revenue as an exact decimal.")


class TimeseriesReply(_Reply):
    """How it went over time."""

    rows: list[TimeseriesRow] = Field(description="All of the range, in order.")


class RetentionCohort(_Reply):
    """Those who began in one unit."""

    start: date = Field(description="The unit's first day.")
    users: int = Field(description="How many began in it.")
    returned: list[int] = Field(
        description="How many of them came back: in this unit after they began, and in each one after it."
    )


class RetentionReply(_Reply):
    """Who came back."""

    cohorts: list[RetentionCohort] = Field(description="One for every unit of the range.")


class HealthReply(_Reply):
    """The service answers."""

    status: str = Field(description="Always ok.", examples=["ok"])
    version: str = Field(description="Of the service.", examples=["0.1.0"])


class SegmentDestination(_Reply):
    """Where analytics-next is to post."""

    api_key: str = Field(description="The write key.")
    api_host: str = Field(description="Host and path, without the protocol.")
    protocol: str = Field(description="http or https.")


class Integrations(BaseModel):
    """The destinations of analytics-next: this service alone."""

    segment: SegmentDestination = Field(alias="Segment.io", description="This service.")


class ClientMetrics(_Reply):
    """What analytics-next reports of itself."""

    sample_rate: int = Field(description="Always 0: nothing.")


class ProjectSettingsReply(_Reply):
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
            "invalid_cursor",
            "internal_error",
            "raw_events_off",
            "search_off",
            "unavailable",
            "misconfigured",
            "search_unavailable",
        ],
    )
    message: str = Field(description="The same as detail: what Segment's clients read.")


class ThrottledReply(BaseModel):
    """Of the gateway, which has not asked the service."""

    message: str = Field(description="In the gateway's words.", examples=["Too Many Requests"])


REPLIES: tuple[type[BaseModel], ...] = (
    IngestReply,
    MetricsReply,
    UserReply,
    MergeReply,
    ErasureReply,
    TimelineReply,
    ExportedDay,
    ExportedAnonymousId,
    ExportedRawEvent,
    SegmentsReply,
    FunnelsReply,
    BreakdownsReply,
    TimeseriesReply,
    RetentionReply,
    HealthReply,
    ProjectSettingsReply,
    ProblemReply,
    ThrottledReply,
)
