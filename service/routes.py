"""The API at a glance: one short function a route, read → decide → answer.

`async def` throughout although DynamoDB is called blocking: an execution environment of Lambda serves one request at a
time, and a `def` route costs it a hop to another thread (twice the CPU of the whole request, measured).
"""

import re
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import WithJsonSchema

from . import (
    __version__,
    assets,
    erasure,
    identities,
    ids,
    ingest,
    merge,
    openapi,
    person,
    replies,
    store,
    wire,
)
from .days import Outcome
from .dynamodb import Calls
from .events import Event, Rejection, Rules, epoch_ms
from .problems import Forbidden, IdentityConflict, InvalidRequest, Unauthorized, Unavailable
from .service import Service
from .store import Work

RANGE_DAYS_MAX = 366
RANGE_DAYS_DEFAULT = 30
# Lambda replies with 6 MB, in which the body is a JSON string and its quotes are escaped.
REPLY_BYTES_MAX = 4_500_000

# Parameters are text, and read below: FastAPI, which would repeat a bad one in its answer, has none to refuse.
UserPath = Annotated[
    str, Path(description="A user id, or an anonymous id with its `anon_`, percent-encoded.")
]
UserOnlyPath = Annotated[
    str, Path(description="A user id, percent-encoded; an anonymous one is refused as `invalid_id`.")
]
Day = WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-22"]})
Flag = WithJsonSchema({"type": "string", "enum": ["true", "false", "1", "0"]})

router = APIRouter()


# --- tracking -------------------------------------------------------------------------------------------------------


@router.post("/v1/batch", **openapi.INGEST_BATCH)
@router.post("/v1/b", include_in_schema=False)
async def post_batch(request: Request) -> Response:
    """Events of any users and days. Always safe to send again: what was counted is not counted twice."""
    service = Service.of(request)
    body = await service.body(request)
    document, size_bytes = wire.json_object(body, request.headers.get("content-encoding"))
    return _ingest(request, service, wire.batch(document, size_bytes))


@router.post("/v1/import", **openapi.IMPORT)
async def post_import(request: Request) -> Response:
    """History from elsewhere: like a batch, with the secret key, and events of any day since 2000."""
    service = Service.of(request)
    body = await service.body(request)
    document, size_bytes = wire.json_object(body, request.headers.get("content-encoding"))
    return _ingest(request, service, wire.batch(document, size_bytes), is_import=True)


async def post_event(request: Request) -> Response:
    """One event as the body. `type` comes from the path when absent."""
    service = Service.of(request)
    body = await service.body(request)
    document, size_bytes = wire.json_object(body, request.headers.get("content-encoding"))
    type_of_path = wire.TYPE_OF_PATH[request.url.path.rpartition("/")[2]]
    return _ingest(request, service, wire.single(document, type_of_path, size_bytes))


for _path, _type in wire.TYPE_OF_PATH.items():
    router.add_api_route(
        f"/v1/{_path}",
        post_event,
        methods=["POST"],
        name=f"post_{_path}",
        include_in_schema=_path == _type,
        **(openapi.ingest_event(_type) if _path == _type else {}),
    )


def _ingest(request: Request, service: Service, batch: wire.Batch, *, is_import: bool = False) -> Response:
    caller = service.caller(request, batch.write_key)
    if is_import and not caller.is_trusted:
        raise Forbidden
    now = service.now()
    rules = service.settings.rules(now, is_trusted=caller.is_trusted, is_import=is_import)
    outcome = Outcome()
    events = _readable(rules, batch, outcome.rejected)
    if events:
        work = Work(service.calls(request), service.settings, now, is_import)
        decided = ingest.ingest(work, events)
        if decided.undecided:
            raise decided.undecided
        outcome = Outcome(decided.accepted, decided.duplicates, outcome.rejected + decided.rejected)
    request.scope["footfall.counts"] = {
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "rejected": len(outcome.rejected),
    }
    return _json(replies.ingest_body(outcome))


def _readable(rules: Rules, batch: wire.Batch, rejected: list[Rejection]) -> list[Event]:
    events: list[Event] = []
    for index, raw in enumerate(batch.events):
        event = rules.read(raw, index, batch.context, may_be_large=batch.may_hold_large_events)
        if isinstance(event, Rejection):
            rejected.append(event)
        else:
            events.append(event)
    return events


@router.get("/v1/projects/{writeKey}/settings", **openapi.PROJECT_SETTINGS)
async def get_project_settings(
    request: Request,
    writeKey: Annotated[str, Path(description="The write key.")],  # noqa: N803 - the wire's name
) -> Response:
    """What analytics-next asks at its start: this service is its only destination, and wants no client metrics."""
    if Service.of(request).keys.caller(writeKey).is_trusted:
        raise Unauthorized  # a secret key has no business in a path, which logs keep
    url = request.url
    destination = {"apiKey": writeKey, "apiHost": f"{url.netloc}/v1", "protocol": url.scheme}
    return _json(
        replies.json_body({"integrations": {"Segment.io": destination}, "metrics": {"sampleRate": 0}})
    )


# --- users ----------------------------------------------------------------------------------------------------------


@router.get("/v1/users/{userId}/metrics", **openapi.METRICS)
async def get_metrics(
    request: Request,
    userId: UserPath,  # noqa: N803 - the wire's name
    first: Annotated[
        str | None,
        Day,
        Query(alias="from", description="First day, YYYY-MM-DD; default 29 days before `to`."),
    ] = None,
    last: Annotated[
        str | None, Day, Query(alias="to", description="Last day, YYYY-MM-DD, inclusive; default today.")
    ] = None,
    fill: Annotated[
        str, Flag, Query(description="true or 1 includes days without events, as zeros.")
    ] = "false",
) -> Response:
    """What did this user do between these two days? At most 366 days, one DynamoDB Query."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = _distinct_id(userId)
    first_day, last_day = _range(service, first, last)
    is_filled = _flag("fill", fill)
    calls = service.calls(request)
    owner = _owner(service, calls, distinct_id)
    stored = store.days_between(calls, owner, first_day.isoformat(), last_day.isoformat())
    head = {
        **_names(owner, distinct_id),
        "from": first_day.isoformat(),
        "to": last_day.isoformat(),
        "timezone": service.settings.timezone.key,
    }
    body = replies.metrics_body(head, first_day, last_day, stored, fill=is_filled)
    if len(body) > REPLY_BYTES_MAX:
        raise InvalidRequest(
            "The answer is too long for one reply. Ask for fewer days.", code="invalid_range"
        )
    return _json(body)


@router.get("/v1/users/{userId}", **openapi.USER)
async def get_user(request: Request, userId: UserPath) -> Response:  # noqa: N803 - the wire's name
    """A user's anonymous ids, and the first and the last day with events."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = _distinct_id(userId)
    calls = service.calls(request)
    owner = _owner(service, calls, distinct_id)
    first_day, last_day = store.outer_days(calls, owner)
    return _json(
        replies.json_body(
            {
                **_names(owner, distinct_id),
                "anonymousIds": identities.anonymous_ids_of(calls, owner),
                "firstDay": first_day,
                "lastDay": last_day,
            }
        )
    )


@router.post("/v1/users/{userId}/merge", **openapi.MERGE)
async def post_merge(request: Request, userId: UserOnlyPath) -> Response:  # noqa: N803 - the wire's name
    """Make an anonymous visitor this user: the same merge as identify, for the shop's own backend."""
    service = Service.of(request)
    service.require_secret(request)
    document, _ = wire.json_object(await service.body(request), request.headers.get("content-encoding"))
    try:
        user_id, anonymous_id = ids.user_id(userId), ids.anonymous_id(document.get("anonymousId"))
    except ids.InvalidIdError as error:
        raise InvalidRequest(f"{error}.".capitalize(), code="invalid_id") from None
    if user_id is None or anonymous_id is None:
        raise InvalidRequest("The body names an anonymousId.", code="invalid_id")
    work = Work(service.calls(request), service.settings, service.now())
    alias = identities.alias_of(work.calls, anonymous_id, is_consistent=True)
    try:
        alias = merge.join(work, anonymous_id, user_id, alias, epoch_ms(work.now))
    except identities.ErasedError:
        raise Unavailable from None  # by another process, whose clock is a little ahead
    if alias.user_id != user_id:
        raise IdentityConflict
    return _json(
        replies.json_body(
            {"userId": user_id, "anonymousId": anonymous_id, "status": alias.status, "days": alias.days}
        )
    )


@router.get("/v1/users/{userId}/export", **openapi.EXPORT)
async def get_export(
    request: Request,
    userId: UserPath,  # noqa: N803 - the wire's name
    cursor: Annotated[
        str | None,
        WithJsonSchema({"type": "string"}),
        Query(description="Footfall-Next-Cursor of the page before; absent for the first."),
    ] = None,
) -> Response:
    """Everything held on a person, as NDJSON, page by page."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = _distinct_id(userId)
    work = Work(service.calls(request), service.settings, service.now())
    page = person.page(work, _owner(service, work.calls, distinct_id), cursor, REPLY_BYTES_MAX)
    headers = {"Footfall-Next-Cursor": page.next_cursor} if page.next_cursor else {}
    return Response(page.body, media_type="application/x-ndjson", headers=headers)


@router.delete("/v1/users/{userId}", **openapi.ERASE)
async def delete_user(request: Request, userId: UserPath) -> Response:  # noqa: N803 - the wire's name
    """Remove everything held on a person. Events of until now count nowhere any more, later ones do."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = _distinct_id(userId)
    erased = erasure.erase(Work(service.calls(request), service.settings, service.now()), distinct_id)
    return _json(
        replies.json_body(
            {
                "userId": distinct_id,
                "erasedAt": erasure.began_at(erased.erased_at),
                "anonymousIds": erased.anonymous_ids,
                "days": erased.days,
            }
        )
    )


def _owner(service: Service, calls: Calls, distinct_id: str) -> str:
    """Whose days to read: a merged anonymous id's user. A merge under way is finished first."""
    if not ids.is_anonymous(distinct_id):
        return distinct_id
    alias = identities.alias_of(calls, distinct_id, is_consistent=True)
    if alias is None or alias.user_id is None:
        return distinct_id
    alias = merge.finished(Work(calls, service.settings, service.now()), distinct_id, alias)
    return alias.user_id or distinct_id


def _names(owner: str, distinct_id: str) -> dict[str, str]:
    return {"userId": owner} if owner == distinct_id else {"userId": owner, "requestedId": distinct_id}


def _distinct_id(text: str) -> str:
    try:
        distinct_id = ids.distinct_id(text)
    except ids.InvalidIdError as error:
        raise InvalidRequest(f"{error}.".capitalize(), code="invalid_id") from None
    if distinct_id is None:
        raise InvalidRequest("The path names a user.", code="invalid_id")
    return distinct_id


def _range(service: Service, first: str | None, last: str | None) -> tuple[date, date]:
    today = service.now().astimezone(service.settings.timezone).date()
    last_day = _day("to", last) if last is not None else today
    if first is not None:
        first_day = _day("from", first)
    elif last_day.toordinal() >= RANGE_DAYS_DEFAULT:
        first_day = last_day - timedelta(days=RANGE_DAYS_DEFAULT - 1)
    else:
        first_day = date.min
    if first_day > last_day:
        raise InvalidRequest("from is not after to.", code="invalid_range")
    if (last_day - first_day).days >= RANGE_DAYS_MAX:
        raise InvalidRequest(f"A range has at most {RANGE_DAYS_MAX} days.", code="invalid_range")
    return first_day, last_day


def _day(name: str, text: str) -> date:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidRequest(f"{name} is a day, YYYY-MM-DD.", code="invalid_range")


def _flag(name: str, text: str) -> bool:
    if text not in ("true", "false", "1", "0"):
        raise InvalidRequest(f"{name} is true or false.")
    return text in ("true", "1")


# --- the service itself ---------------------------------------------------------------------------------------------


@router.get("/health", **openapi.HEALTH)
async def get_health(
    request: Request,
    deep: Annotated[
        str, Flag, Query(description="true or 1 reads the table too, and needs the secret key.")
    ] = "0",
) -> Response:
    """Whether the service answers. Touches no database unless asked to."""
    if _flag("deep", deep):
        service = Service.of(request)
        service.require_secret(request)
        store.ping(service.calls(request))
    return _json(replies.json_body({"status": "ok", "version": __version__}))


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request) -> Response:
    """The description of this API."""
    return _json(openapi.document(request.app))


@router.get("/docs", include_in_schema=False)
async def get_docs() -> Response:
    """The description as a page, from this service alone."""
    return assets.page("index.html", None)


@router.get("/docs/{asset}", include_in_schema=False)
async def get_docs_asset(request: Request, asset: str) -> Response:
    """A script or style of that page."""
    return assets.page(asset, request.headers.get("accept-encoding"))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
