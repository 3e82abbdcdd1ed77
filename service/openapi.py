"""The description of the API: what each route takes and answers, for /openapi.json and /docs.

The models of events describe and do not validate: `events` reads what real clients send, one event at a time.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from . import problems, replies, wire
from .events import EVENT_BYTES_MAX
from .money import AMOUNT_MAX

_DESCRIPTION = """
Per-user e-commerce analytics. Post events as the Segment HTTP Tracking API takes them; read what a user did between
two days. Every event counts once, however often it is sent; every reply that touched DynamoDB says what it consumed
in `Footfall-Capacity`.

Bodies are JSON whatever their Content-Type, and may be gzip. Fields that are not described are accepted and ignored;
null is the same as absent. Errors are RFC 9457 problems; `code` says which.
"""

Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        description="1 to 128 characters; no control characters, no /. An integer is taken as its digits. Placeholders "
        "such as null, undefined, 0 or guest are refused.",
    ),
]


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

    quantity: float | None = Field(None, ge=0, description="1 when absent; feeds `itemsSold`.")


class Properties(_Wire):
    """Properties of an event; those that feed metrics are named here, all others are accepted."""

    revenue: float | str | None = Field(
        None,
        ge=0,
        le=float(AMOUNT_MAX),
        description="Else `total`, else `value`. A number or a numeric string.",
    )
    total: float | str | None = Field(None, description="In place of `revenue`.")
    value: float | str | None = Field(None, description="In place of `revenue` and `total`.")
    currency: str | None = Field(
        None, description="ISO 4217; the deployment's own when absent.", examples=["EUR"]
    )
    products: list[Product] | None = Field(None, description="Or `items`, as Google Analytics 4 names them.")
    engaged_seconds: float | None = Field(None, ge=0, le=86_400, description="Of a Page Left event.")


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


class TrackEvent(_Event):
    """Something a visitor did. An event with both ids also says that they are one person."""

    type: Literal["track"]
    event: str = Field(
        min_length=1,
        max_length=128,
        description="A name of Segment's e-commerce spec or of Google Analytics 4 feeds its metric; any other is "
        "counted under `byEvent`.",
        examples=["Product Viewed", "Order Completed", "purchase"],
    )
    properties: Properties | None = Field(None, description="What the event says beside its name.")


class PageEvent(_Event):
    """A page view."""

    type: Literal["page"]


class ScreenEvent(_Event):
    """A page view of an app."""

    type: Literal["screen"]


class IdentifyEvent(_Event):
    """Says who an anonymous visitor is, and merges."""

    type: Literal["identify"]


class AliasEvent(_Event):
    """Says the same of a previous id, which is taken as an anonymous one."""

    type: Literal["alias"]
    previous_id: Id
    user_id: Id


class GroupEvent(_Event):
    """Accepted, not counted."""

    type: Literal["group"]


AnyEvent = Annotated[
    TrackEvent | PageEvent | ScreenEvent | IdentifyEvent | AliasEvent | GroupEvent,
    Field(discriminator="type"),
]


class BatchRequest(_Wire):
    """Events of any users and days."""

    batch: list[AnyEvent] = Field(
        max_length=wire.BATCH_EVENTS_MAX,
        description=f"Up to {wire.BATCH_EVENTS_MAX:,} events of up to {EVENT_BYTES_MAX // 1024} KB each. A larger or a "
        "faulty event is rejected alone.",
    )
    context: Context | None = Field(None, description="The default for each event's context.")
    sent_at: str | None = Field(
        None, description="Accepted and ignored: it differs from one attempt to the next."
    )
    write_key: str | None = Field(
        None, description="In place of the Authorization header: no CORS preflight."
    )


class MergeRequest(_Wire):
    """Whom the user was before."""

    anonymous_id: Id


_EVENT_MODELS: dict[str, type[BaseModel]] = {
    "track": TrackEvent,
    "page": PageEvent,
    "screen": ScreenEvent,
    "identify": IdentifyEvent,
    "alias": AliasEvent,
    "group": GroupEvent,
}
_REQUESTS: tuple[type[BaseModel], ...] = (BatchRequest, MergeRequest, *_EVENT_MODELS.values())
_ANONYMOUS = {"anonymousId": "4f1c9a52-6d0e-4c7c-9f0e-2b8f5d1c7a33"}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "track": {
        "type": "track",
        "event": "Order Completed",
        "messageId": "order-1001",
        "userId": "u-42",
        "properties": {
            "revenue": 59.9,
            "currency": "EUR",
            "products": [{"productId": "sku-9", "quantity": 2}],
        },
    },
    "page": {"type": "page", "messageId": "page-1", **_ANONYMOUS, "context": {"sessionId": "s-1"}},
    "screen": {"type": "screen", "messageId": "screen-1", "userId": "u-42"},
    "identify": {"type": "identify", "messageId": "identify-1", "userId": "u-42", **_ANONYMOUS},
    "alias": {
        "type": "alias",
        "messageId": "alias-1",
        "userId": "u-42",
        "previousId": _ANONYMOUS["anonymousId"],
    },
    "group": {"type": "group", "messageId": "group-1", "userId": "u-42"},
}
_REFERENCE = "#/components/schemas/{model}"

_TEXT = {
    400: "The body is no JSON, or no gzip of at most 16 members where it says so.",
    401: "No valid key; the same for all causes.",
    403: "A write key where the secret one is needed.",
    409: "The anonymous id belongs to another user, who keeps it.",
    413: "Over 500 KB, inflated, or over 2,500 events. Send smaller batches.",
    415: "A Content-Encoding other than gzip.",
    422: "Readable, and not what this route takes.",
    503: "Not everything could be decided now. Send the same again, after Retry-After seconds.",
}
# The codes a status comes with, the common one first.
_CODES: dict[int, tuple[str, ...]] = {
    400: ("invalid_json",),
    401: ("unauthorized",),
    403: ("forbidden",),
    409: ("identity_conflict",),
    413: ("body_too_large", "batch_too_large"),
    415: ("unsupported_encoding",),
    422: ("invalid_request", "invalid_id", "invalid_range"),
    503: ("unavailable", "misconfigured"),
}
_RETRY_AFTER = {
    "description": "Seconds to wait before the same is sent again.",
    "schema": {"type": "integer", "example": problems.RETRY_AFTER_SECONDS},
}
# What any request can meet.
_GENERAL: dict[str, dict[str, Any]] = {
    "429": {
        "description": "Too many requests, answered by the gateway in its own words. Nothing was counted.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "500": {
        "description": "Our own mistake: `internal_error`. Sending the same again is safe.",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemReply"}}},
    },
}
_CAPACITY = {
    "Footfall-Capacity": {
        "description": "DynamoDB request units consumed: `wru=1, rru=0.5`; with `estimated=1` where the engine "
        "reports too little or nothing.",
        "schema": {"type": "string"},
    }
}
_INGEST_PROBLEMS = (400, 401, 413, 415, 422, 503)
_READ_PROBLEMS = (401, 403, 422, 503)


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _route(
    summary: str,
    tag: str,
    reply: type[BaseModel],
    statuses: tuple[int, ...],
    *,
    security: tuple[str, ...] = (),
    takes: tuple[type[BaseModel], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": _reference(replies.ProblemReply)}}
    answers: dict[int | str, Any] = {
        200: {
            "description": "Done.",
            "headers": _CAPACITY,
            "content": {"application/json": {"schema": _reference(reply)}},
        }
    }
    answers |= {
        status: {
            "description": f"{_TEXT[status]} Codes: {', '.join(_CODES[status])}.",
            "content": problem,
            **({"headers": {"Retry-After": _RETRY_AFTER}} if status == 503 else {}),
        }
        for status in statuses
    }
    extra: dict[str, Any] = {"security": [{scheme: []} if scheme else {} for scheme in security]}
    if takes:
        request, example = takes
        extra["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(request), "example": example}},
        }
    return {"summary": summary, "tags": [tag], "responses": answers, "openapi_extra": extra}


_ANY_KEY = ("writeKey", "secretKey")
INGEST_BATCH = _route(
    "Post events; /v1/b is the same",
    "events",
    replies.IngestReply,
    _INGEST_PROBLEMS,
    security=_ANY_KEY,
    takes=(BatchRequest, {"batch": [_EXAMPLES["page"], _EXAMPLES["track"], _EXAMPLES["identify"]]}),
)
IMPORT = _route(
    "Import history",
    "events",
    replies.IngestReply,
    (400, 401, 403, 413, 415, 422, 503),
    security=("secretKey",),
    takes=(BatchRequest, {"batch": [_EXAMPLES["track"] | {"timestamp": "2019-12-24T18:00:00Z"}]}),
)
PROJECT_SETTINGS = _route("Settings for analytics-next", "events", replies.ProjectSettingsReply, (401,))
METRICS = _route(
    "What a user did between two days", "users", replies.MetricsReply, _READ_PROBLEMS, security=("secretKey",)
)
USER = _route("What is known of a user", "users", replies.UserReply, _READ_PROBLEMS, security=("secretKey",))
MERGE = _route(
    "Make an anonymous visitor a user",
    "users",
    replies.MergeReply,
    (400, 401, 403, 409, 413, 415, 422, 503),
    security=("secretKey",),
    takes=(MergeRequest, _ANONYMOUS),
)
HEALTH = _route(
    "Whether the service answers",
    "service",
    replies.HealthReply,
    (401, 403, 503),
    security=("", "secretKey"),
)


def ingest_event(kind: str) -> dict[str, Any]:
    """The route that takes one event of this type."""
    short = next(path for path, of in wire.TYPE_OF_PATH.items() if of == kind and path != kind)
    return _route(
        f"Post one {kind} event; /v1/{short} is the same",
        "events",
        replies.IngestReply,
        _INGEST_PROBLEMS,
        security=_ANY_KEY,
        takes=(_EVENT_MODELS[kind], _EXAMPLES[kind]),
    )


def operation_id(route: APIRoute) -> str:
    """camelCase, as generated clients name their functions: postBatch, getMetrics."""
    return to_camel(route.name)


@lru_cache(maxsize=1)
def document(app: FastAPI) -> bytes:
    """The OpenAPI document, as JSON."""
    content = app.openapi()
    schemas = content.setdefault("components", {}).setdefault("schemas", {})
    # Posting takes no field that may not be absent; replies always have theirs.
    requests: list[Any] = [(model, "validation") for model in _REQUESTS]
    answers: list[Any] = [(model, "serialization") for model in _REPLIES]
    for models in (requests, answers):
        schemas |= models_json_schema(models, ref_template=_REFERENCE)[1]["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for operations in content["paths"].values():
        for operation in operations.values():
            operation["responses"] |= _GENERAL
            answer = operation["responses"].get("422", {})
            if "application/json" in answer.get("content", {}):
                # FastAPI's own, which this service never sends; the problem of a bad parameter is the same as others.
                answer["description"] = f"{_TEXT[422]} Codes: {', '.join(_CODES[422])}."
                answer["content"] = {problems.MEDIA_TYPE: {"schema": _reference(replies.ProblemReply)}}
    content["info"]["description"] = _DESCRIPTION.strip()
    content["components"]["securitySchemes"] = {
        "writeKey": {
            "type": "http",
            "scheme": "basic",
            "description": "The write key as user name, no password.",
        },
        "secretKey": {"type": "http", "scheme": "bearer", "description": "The secret key."},
    }
    return replies.json_body(content)


_REPLIES: tuple[type[BaseModel], ...] = (
    replies.IngestReply,
    replies.ProjectSettingsReply,
    replies.MetricsReply,
    replies.UserReply,
    replies.MergeReply,
    replies.HealthReply,
    replies.ProblemReply,
)
