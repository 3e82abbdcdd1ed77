"""What may be posted, as the description of the API has it. Nothing is validated by these models: `events` reads what
real clients send, one event at a time. Only /openapi.json needs them, and a cold start does not import them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from .events import EVENT_BYTES_MAX
from .metrics import ENGAGED_SECONDS_MAX, NAME_CHARACTERS_MAX, QUANTITY_MAX
from .money import AMOUNT_MAX
from .wire import BATCH_EVENTS_MAX

Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        description="1 to 128 characters; no control characters, no /. An integer is taken as its digits. Placeholders "
        "such as null, undefined, 0 or guest are refused.",
    ),
]
# A string is taken for the number it spells.
Amount = Annotated[float, Field(ge=0, le=float(AMOUNT_MAX))] | str


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


class Context(_Wire):
    """What is known of the circumstances."""

    session_id: str | None = Field(None, description="Feeds `sessions`.")
    user_agent: str | None = Field(None, description="A crawler's is rejected as `bot`.")
    user_token: str | None = Field(
        None, description="Hex HMAC-SHA256(FOOTFALL_IDENTITY_SECRET, userId), where that secret is set."
    )


class Product(_Wire):
    """A line of an order."""

    quantity: Annotated[float, Field(ge=0, le=QUANTITY_MAX)] | str | None = Field(
        None, description="1 when absent; feeds `itemsSold`. A number or a numeric string."
    )


class Properties(_Wire):
    """Properties of an event; those that feed metrics are named here, all others are accepted."""

    order_id: Id | None = Field(
        None,
        description="Of an Order Completed: the same order id counts once for the whole shop within 400 days, the rest "
        "are duplicates. Or `order_id`, or `transaction_id`, as Google Analytics 4 names it.",
    )
    revenue: Amount | None = Field(
        None, description="Else `total`, else `value`. A number or a numeric string.", examples=[59.9]
    )
    total: Amount | None = Field(None, description="In place of `revenue`.")
    value: Amount | None = Field(None, description="In place of `revenue` and `total`.")
    currency: str | None = Field(
        None, description="ISO 4217; the deployment's own when absent.", examples=["EUR"]
    )
    products: list[Product] | None = Field(None, description="Or `items`, as Google Analytics 4 names them.")
    engaged_seconds: Annotated[float, Field(ge=0, le=ENGAGED_SECONDS_MAX)] | str | None = Field(
        None, description="Of a Page Left event; feeds `engagedSeconds`. A number or a numeric string."
    )


class _Event(_Wire):
    message_id: str | None = Field(
        None,
        description="Made by the client, once per event; what makes a retry count once. Else a hash of the event.",
    )
    anonymous_id: Id | None = Field(None, description="The server adds `anon_` in front unless it is there.")
    user_id: Id | None = Field(None, description="The shop's own id; may not begin with `anon_`.")
    timestamp: str | None = Field(
        None,
        description="ISO 8601, UTC without an offset; decides the day. 7 days back to 24 hours ahead unless configured "
        "otherwise. The time of receipt when absent.",
        examples=["2026-11-22T09:30:00Z"],
    )
    original_timestamp: str | None = Field(None, description="In place of `timestamp`, where that is absent.")
    context: Context | None = Field(
        None, description="Of this event; where a batch has a context, over that one."
    )


class _Track(_Event):
    event: str = Field(
        min_length=1,
        max_length=NAME_CHARACTERS_MAX,
        description="A name of Segment's e-commerce spec or of Google Analytics 4 feeds its metric; any other is "
        "counted under `byEvent`.",
        examples=["Product Viewed", "Order Completed", "purchase"],
    )
    properties: Properties | None = Field(None, description="What the event says beside its name.")


class _Alias(_Event):
    previous_id: Id = Field(description="Taken as an anonymous id.")
    user_id: Id = Field(description="Whose it is; may not begin with `anon_`.")


# --- one of a batch -------------------------------------------------------------------------------------------------


class TrackEvent(_Track):
    """Something a visitor did. An event with both ids also says that they are one person."""

    type: Literal["track"]


class PageEvent(_Event):
    """A page view."""

    type: Literal["page"]


class ScreenEvent(_Event):
    """A page view of an app."""

    type: Literal["screen"]


class IdentifyEvent(_Event):
    """Says who an anonymous visitor is, and merges."""

    type: Literal["identify"]


class AliasEvent(_Alias):
    """Says the same of a previous id, which is taken as an anonymous one."""

    type: Literal["alias"]


class GroupEvent(_Event):
    """Accepted, not counted."""

    type: Literal["group"]


class _Batch(_Wire):
    context: Context | None = Field(None, description="The default for each event's context.")
    sent_at: str | None = Field(
        None, description="Accepted and ignored: it differs from one attempt to the next."
    )


class BatchRequest(_Batch):
    """Events of any users and days."""

    batch: list[
        Annotated[
            TrackEvent | PageEvent | ScreenEvent | IdentifyEvent | AliasEvent | GroupEvent,
            Field(discriminator="type"),
        ]
    ] = Field(
        max_length=BATCH_EVENTS_MAX,
        description=f"Up to {BATCH_EVENTS_MAX:,} events of up to {EVENT_BYTES_MAX // 1024} KB each. A larger or a "
        "faulty event is rejected alone.",
    )
    write_key: str | None = Field(
        None, description="In place of the Authorization header: no CORS preflight."
    )


# --- one of an import -----------------------------------------------------------------------------------------------


class _Imported(_Event):
    timestamp: str = Field(
        description="ISO 8601, UTC without an offset; decides the day, any since 2000. An event without is rejected.",
        examples=["2019-12-24T18:00:00Z"],
    )


class ImportedTrackEvent(_Imported, _Track):
    """A track event of any day since 2000."""

    type: Literal["track"]


class ImportedPageEvent(_Imported):
    """A page view of any day since 2000."""

    type: Literal["page"]


class ImportedScreenEvent(_Imported):
    """A page view of an app, of any day since 2000."""

    type: Literal["screen"]


class ImportRequest(_Batch):
    """Events of any users, and of any days since 2000."""

    batch: list[
        Annotated[
            ImportedTrackEvent
            | ImportedPageEvent
            | ImportedScreenEvent
            | IdentifyEvent
            | AliasEvent
            | GroupEvent,
            Field(discriminator="type"),
        ]
    ] = Field(
        max_length=BATCH_EVENTS_MAX,
        description=f"Up to {BATCH_EVENTS_MAX:,} events of up to {EVENT_BYTES_MAX // 1024} KB each. A larger or a "
        "faulty event is rejected alone.",
    )


# --- on a path of its own -------------------------------------------------------------------------------------------

_FROM_PATH = "As the path says when absent."


class _Single(_Event):
    write_key: str | None = Field(
        None, description="In place of the Authorization header: no CORS preflight."
    )


class TrackRequest(_Track, _Single):
    """Something a visitor did. An event with both ids also says that they are one person."""

    type: Literal["track"] | None = Field(None, description=_FROM_PATH)


class PageRequest(_Single):
    """A page view."""

    type: Literal["page"] | None = Field(None, description=_FROM_PATH)


class ScreenRequest(_Single):
    """A page view of an app."""

    type: Literal["screen"] | None = Field(None, description=_FROM_PATH)


class IdentifyRequest(_Single):
    """Says who an anonymous visitor is, and merges."""

    type: Literal["identify"] | None = Field(None, description=_FROM_PATH)


class AliasRequest(_Alias, _Single):
    """Says the same of a previous id, which is taken as an anonymous one."""

    type: Literal["alias"] | None = Field(None, description=_FROM_PATH)


class GroupRequest(_Single):
    """Accepted, not counted."""

    type: Literal["group"] | None = Field(None, description=_FROM_PATH)


class MergeRequest(_Wire):
    """Whom the user was before."""

    anonymous_id: Id = Field(description="With or without its `anon_`.")


REQUESTS: tuple[type[BaseModel], ...] = (
    BatchRequest,
    ImportRequest,
    TrackRequest,
    PageRequest,
    ScreenRequest,
    IdentifyRequest,
    AliasRequest,
    GroupRequest,
    MergeRequest,
)
