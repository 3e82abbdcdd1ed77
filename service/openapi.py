"""The description of the API: what each route takes and answers, for /openapi.json and /docs.

Models are named here, and made when somebody asks for the document: a cold start does without them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from . import examples, problems, replies, wire

_DESCRIPTION = """
Per-user e-commerce analytics. Post events as the Segment HTTP Tracking API takes them; read what a user did between
two days. Every event counts once, however often it is sent; every reply that touched DynamoDB says what it consumed
in `Footfall-Capacity`.

Bodies are JSON whatever their Content-Type, and may be gzip. Fields that are not described are accepted and ignored;
null is the same as absent. Errors are RFC 9457 problems; `code` says which.
"""

_SCHEMA = "#/components/schemas/{model}"
_EXAMPLE = "#/components/examples/{name}"

# When each problem is answered, by its example's name.
_WHEN = {
    "invalid_json": f"the body is no JSON, or no gzip of at most {wire.GZIP_MEMBERS_MAX} members where it says so.",
    "unauthorized": "no valid key; the same for all causes.",
    "forbidden": "a write key where the secret one is needed.",
    "identity_conflict": "the anonymous id belongs to another user, who keeps it.",
    "identity_conflict_of_erasure": "the anonymous id belongs to a user. Erase the user.",
    "body_too_large": f"over {wire.BODY_BYTES_MAX // 1024} KB, inflated. Send less at once.",
    "batch_too_large": f"over {wire.BATCH_EVENTS_MAX:,} events. Send smaller batches.",
    "unsupported_encoding": "a Content-Encoding other than gzip.",
    "invalid_request": "the body is JSON, and not what this route takes.",
    "invalid_parameter": "a parameter is none of the words it may be.",
    "invalid_id": "an id that cannot be one.",
    "invalid_range": "`from` or `to` is no day, `from` is after `to`, or the range or the answer is too long.",
    "invalid_cursor": "`cursor` is not from a page before.",
    "invalid_cursor_of_timeline": "`cursor` is not from a page before.",
    "invalid_cursor_of_segments": "`cursor` is not from a page before of the same search.",
    "invalid_limit": "`limit` is no whole number from 1 to 1000.",
    "raw_events_off": "this deployment keeps no raw events; the answer says how it would.",
    "search_off": "this deployment has no search; the answer says how it would.",
    "internal_error": "our own mistake. Sending the same again is safe.",
    "unavailable": "not everything could be decided now. Send the same again, after Retry-After seconds.",
    "misconfigured": "the deployment does not fit its table.",
    "search_unavailable": "the search engine is down or too slow. Nothing else needs it.",
}
_RETRY_AFTER = {
    "description": "Seconds to wait before the same is sent again.",
    "schema": {"type": "integer", "example": problems.RETRY_AFTER_SECONDS},
}
_CAPACITY = {
    "description": "DynamoDB request units consumed: `wru=1, rru=0.5`; with `estimated=1` where the engine reports too "
    "little or nothing.",
    "schema": {"type": "string"},
}
_NEXT_CURSOR = {
    "description": "What `cursor` of the next page is; absent on the last.",
    "schema": {"type": "string"},
}


def _reference(model: str) -> dict[str, str]:
    return {"$ref": _SCHEMA.format(model=model)}


def _json(model: str, example: object) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(model), "example": example}}


def _problem(names: Sequence[str]) -> dict[str, Any]:
    """The answer with a status that these problems share."""
    shown = {examples.PROBLEMS[name].code: {"$ref": _EXAMPLE.format(name=name)} for name in names}
    when = (f"`{examples.PROBLEMS[name].code}`: {_WHEN[name]}" for name in names)
    answer: dict[str, Any] = {
        "description": " ".join(when),
        "content": {problems.MEDIA_TYPE: {"schema": _reference("ProblemReply"), "examples": shown}},
    }
    if any("Retry-After" in examples.PROBLEMS[name].headers for name in names):
        answer["headers"] = {"Retry-After": _RETRY_AFTER}
    return answer


def _problems(names: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for name in names:
        by_status.setdefault(examples.PROBLEMS[name].status, []).append(name)
    return {status: _problem(found) for status, found in sorted(by_status.items())}


def _route(
    summary: str,
    tag: str,
    content: Mapping[str, Any],
    refusals: tuple[str, ...],
    *,
    security: tuple[str, ...] = (),
    takes: tuple[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """`refusals` are the names of the problems it may answer with, beside those that any request can meet."""
    extra: dict[str, Any] = {"security": [{scheme: []} if scheme else {} for scheme in security]}
    if takes:
        extra["requestBody"] = {"required": True, "content": _json(*takes)}
    answer: dict[str, Any] = {"description": "Done.", "content": dict(content)}
    if "unavailable" in refusals:
        answer["headers"] = {"Footfall-Capacity": _CAPACITY}
    return {
        "summary": summary,
        "tags": [tag],
        "responses": {200: answer, **_problems(refusals)},
        "openapi_extra": extra,
    }


_ANY_KEY = ("writeKey", "secretKey")
_SECRET_KEY = ("secretKey",)
_OF_A_BODY = ("invalid_json", "unsupported_encoding", "body_too_large", "invalid_request")
_OF_THE_SECRET_KEY = ("unauthorized", "forbidden")
_OF_THE_TABLE = ("unavailable", "misconfigured")

INGEST_BATCH = _route(
    "Post events; /v1/b is the same",
    "events",
    _json("IngestReply", examples.BATCH_INGESTED),
    ("unauthorized", *_OF_A_BODY, "batch_too_large", *_OF_THE_TABLE),
    security=_ANY_KEY,
    takes=("BatchRequest", examples.BATCH),
)
IMPORT = _route(
    "Import history",
    "events",
    _json("IngestReply", examples.INGESTED),
    (*_OF_THE_SECRET_KEY, *_OF_A_BODY, "batch_too_large", *_OF_THE_TABLE),
    security=_SECRET_KEY,
    takes=("ImportRequest", examples.IMPORT),
)
PROJECT_SETTINGS = _route(
    "Settings for analytics-next",
    "events",
    _json("ProjectSettingsReply", examples.SETTINGS),
    ("unauthorized",),
)
METRICS = _route(
    "What a user did between two days",
    "users",
    _json("MetricsReply", examples.METRICS),
    (*_OF_THE_SECRET_KEY, "invalid_id", "invalid_range", "invalid_parameter", *_OF_THE_TABLE),
    security=_SECRET_KEY,
)
USER = _route(
    "What is known of a user",
    "users",
    _json("UserReply", examples.USER),
    (*_OF_THE_SECRET_KEY, "invalid_id", *_OF_THE_TABLE),
    security=_SECRET_KEY,
)
MERGE = _route(
    "Make an anonymous visitor a user",
    "users",
    _json("MergeReply", examples.MERGED),
    (*_OF_THE_SECRET_KEY, *_OF_A_BODY, "invalid_id", "identity_conflict", *_OF_THE_TABLE),
    security=_SECRET_KEY,
    takes=("MergeRequest", examples.MERGE),
)
ERASE = _route(
    "Erase a person",
    "users",
    _json("ErasureReply", examples.ERASED),
    (*_OF_THE_SECRET_KEY, "invalid_id", "identity_conflict_of_erasure", *_OF_THE_TABLE),
    security=_SECRET_KEY,
) | {
    "description": "Removes everything held on a user and on the anonymous ids that were merged into the user, or on "
    "an anonymous visitor who is nobody's. Events of until then are rejected as `erased`, whenever they arrive; later "
    "ones count, as somebody new's. After a 503 the same call goes on where it stopped."
}
TIMELINE = _route(
    "What a user did, event by event",
    "users",
    _json("TimelineReply", examples.TIMELINE),
    (
        *_OF_THE_SECRET_KEY,
        "invalid_id",
        "invalid_range",
        "invalid_cursor_of_timeline",
        "invalid_limit",
        "raw_events_off",
        *_OF_THE_TABLE,
    ),
    security=_SECRET_KEY,
) | {
    "description": "From raw events, which are kept where `FOOTFALL_RAW_EVENTS` is on; where it is off, a 501 says how "
    "to turn it on. Events of the anonymous ids that became the user are among them. The newest receipt comes first, "
    "and in it the newest event; one that arrived more than once is there once, as it first arrived. Ask again with "
    "`nextCursor` as `cursor` until it is null. A page may hold fewer events than `limit`."
}
EXPORT = _route(
    "Everything held on a person",
    "users",
    {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": examples.EXPORTED,
        }
    },
    (*_OF_THE_SECRET_KEY, "invalid_id", "invalid_cursor", *_OF_THE_TABLE),
    security=_SECRET_KEY,
) | {
    "description": "Everything held on a user, or on an anonymous visitor who is nobody's, as lines of JSON. As long "
    "as the reply has a `Footfall-Next-Cursor`, ask again with it as `cursor`: a page ends at 4.5 MB, or when its "
    "time is up. For a merged anonymous id the answer is the user's."
}
EXPORT["responses"][200]["description"] = (
    "A JSON object a line: first the anonymous ids, each an ExportedAnonymousId, then the days, each an ExportedDay, "
    "then the raw events, each an ExportedRawEvent, where they are kept. Empty for a person never seen."
)
EXPORT["responses"][200]["headers"]["Footfall-Next-Cursor"] = _NEXT_CURSOR


def _search(
    summary: str, example: Mapping[str, Any], reply: Mapping[str, Any], kind: str, *refusals: str
) -> dict[str, Any]:
    of_a_search = ("invalid_range", *refusals, "search_off", *_OF_THE_TABLE, "search_unavailable")
    return _route(
        summary,
        "search",
        _json(f"{kind}Reply", reply),
        (*_OF_THE_SECRET_KEY, *_OF_A_BODY, *of_a_search),
        security=_SECRET_KEY,
        takes=(f"{kind}Request", example),
    )


SEGMENTS = _search(
    "Who holds some conditions",
    examples.SEGMENTS,
    examples.SEGMENTED,
    "Segments",
    "invalid_cursor_of_segments",
) | {
    "description": "Of all users, and visitors who are nobody's, with an event in the range: who holds each condition "
    "of `all`, at least one of `any`, and none of `none`. They come in the order of their ids (UTF-8); ask again with "
    "`nextCursor` as `cursor` until it is null. A page may hold fewer than `limit`. Where the time does not suffice to "
    "look at everybody, `count` is null."
}
FUNNELS = _search("How many come how far", examples.FUNNELS, examples.FUNNEL, "Funnels") | {
    "description": "A user has reached a step who has an event of each step up to it, each strictly later than the one "
    "before, all in the range, and all within `windowHours` of the first."
}
BREAKDOWNS = _search("Which are the most", examples.BREAKDOWNS, examples.BREAKDOWN, "Breakdowns") | {
    "description": "Rows by value, the greatest first, then by key. An event without the field is in no row; one with "
    "several products is in the row of each. `total` counts each event and each user once."
}
TIMESERIES = _search("How it went over time", examples.TIMESERIES, examples.SERIES, "Timeseries") | {
    "description": "A row for every hour, day, week or month of the range, also for those with nothing. The first and "
    "the last week or month have the days of the range alone."
}
RETENTION = _search("Who comes back", examples.RETENTION, examples.RETAINED, "Retention") | {
    "description": "A user belongs to the cohort of the unit with the first `startEvent` of the range. `returned` has "
    "for that unit, and for each later one of the range, how many of them had a `returnEvent` in it, later than that "
    "first `startEvent`."
}
HEALTH = _route(
    "Whether the service answers",
    "service",
    _json("HealthReply", examples.HEALTH),
    (*_OF_THE_SECRET_KEY, "invalid_parameter", *_OF_THE_TABLE),
    security=("", *_SECRET_KEY),
)


def ingest_event(kind: str) -> dict[str, Any]:
    """The route that takes one event of this type."""
    short = next(path for path, of in wire.TYPE_OF_PATH.items() if of == kind and path != kind)
    return _route(
        f"Post one {kind} event; /v1/{short} is the same",
        "events",
        _json("IngestReply", examples.INGESTED),
        ("unauthorized", *_OF_A_BODY, *_OF_THE_TABLE),
        security=_ANY_KEY,
        takes=(f"{kind.capitalize()}Request", examples.EVENTS[kind]),
    )


def operation_id(route: APIRoute) -> str:
    """camelCase, as generated clients name their functions: postBatch, getMetrics."""
    return to_camel(route.name)


@lru_cache(maxsize=1)
def document(app: FastAPI) -> bytes:
    """The OpenAPI document, as JSON."""
    from .schemas import schemas

    content = app.openapi()
    content["info"]["description"] = _DESCRIPTION.strip()
    for operations in content["paths"].values():
        for operation in operations.values():
            _complete(operation["responses"])
    content["components"] = {
        "schemas": schemas(_SCHEMA),
        "examples": {
            name: {"value": json.loads(problem.body())} for name, problem in examples.PROBLEMS.items()
        },
        "securitySchemes": {
            "writeKey": {
                "type": "http",
                "scheme": "basic",
                "description": "The write key as user name, no password.",
            },
            "secretKey": {"type": "http", "scheme": "bearer", "description": "The secret key."},
        },
    }
    return replies.json_body(content)


def _complete(responses: dict[str, Any]) -> None:
    """Add what any request can meet; take away what FastAPI adds of its own, and this service never sends."""
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    of_success = responses["200"]["content"]
    if of_success.get("application/json") == {"schema": {}}:
        del of_success["application/json"]
    responses["429"] = {
        "description": "Too many requests, answered by the gateway in its own words. Nothing was counted.",
        "content": _json("ThrottledReply", {"message": "Too Many Requests"}),
    }
    responses["500"] = _problem(["internal_error"])
