"""The routes of one user: metrics, timeline, merge, export, erasure. All need the secret key."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from . import erasure, identities, ids, merge, openapi, person, replies, store, timeline, wire
from .dynamodb import Calls
from .events import epoch_ms
from .parameters import (
    FirstDay,
    Flag,
    LastDay,
    Limit,
    Text,
    UserOnlyPath,
    UserPath,
    day_range,
    distinct_id_of,
    flag_of,
    limit_of,
)
from .problems import IdentityConflict, InvalidRequest, NotEnabled, Unavailable
from .service import Service, json_response
from .store import Work

# Lambda replies with 6 MB, of which the headers are part too; see replies.wire_bytes.
REPLY_BYTES_MAX = 4_500_000

router = APIRouter()


@router.get("/v1/users/{userId}/metrics", **openapi.METRICS)
async def get_metrics(
    request: Request,
    userId: UserPath,  # noqa: N803 - the wire's name
    first: FirstDay = None,
    last: LastDay = None,
    fill: Annotated[
        str, Flag, Query(description="true or 1 includes days without events, as zeros.")
    ] = "false",
) -> Response:
    """What did this user do between these two days? At most 366 days, one DynamoDB Query."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = distinct_id_of(userId)
    first_day, last_day = day_range(service.today(), first, last)
    is_filled = flag_of("fill", fill)
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
    if replies.wire_bytes(body) > REPLY_BYTES_MAX:
        raise InvalidRequest(
            "The answer is too long for one reply. Ask for fewer days.", code="invalid_range"
        )
    return json_response(body)


@router.get("/v1/users/{userId}", **openapi.USER)
async def get_user(request: Request, userId: UserPath) -> Response:  # noqa: N803 - the wire's name
    """A user's anonymous ids, and the first and the last day with events."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = distinct_id_of(userId)
    calls = service.calls(request)
    owner = _owner(service, calls, distinct_id)
    first_day, last_day = store.outer_days(calls, owner)
    return json_response(
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
    return json_response(
        replies.json_body(
            {"userId": user_id, "anonymousId": anonymous_id, "status": alias.status, "days": alias.days}
        )
    )


@router.get("/v1/users/{userId}/events", **openapi.TIMELINE)
async def get_events(
    request: Request,
    userId: UserPath,  # noqa: N803 - the wire's name
    first: FirstDay = None,
    last: LastDay = None,
    cursor: Annotated[
        str | None, Text, Query(description="nextCursor of the page before; absent for the first.")
    ] = None,
    limit: Annotated[
        str, Limit, Query(description=f"How many events at most, 1 to {timeline.EVENTS_MAX}.")
    ] = "100",
) -> Response:
    """What this user did, event by event, the newest first. Needs raw events, which are kept if turned on."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = distinct_id_of(userId)
    if not service.settings.raw_events:
        raise NotEnabled
    first_day, last_day = day_range(service.today(), first, last)
    asked = timeline.Asked(
        first_day, last_day, timeline.after(cursor), limit_of(limit, timeline.EVENTS_MAX), REPLY_BYTES_MAX
    )
    work = Work(service.calls(request), service.settings, service.now())
    owner = _owner(service, work.calls, distinct_id)
    head = {
        **_names(owner, distinct_id),
        "from": first_day.isoformat(),
        "to": last_day.isoformat(),
        "timezone": service.settings.timezone.key,
    }
    return json_response(timeline.body(head, timeline.page(work, owner, asked)))


@router.get("/v1/users/{userId}/export", **openapi.EXPORT)
async def get_export(
    request: Request,
    userId: UserPath,  # noqa: N803 - the wire's name
    cursor: Annotated[
        str | None,
        Text,
        Query(description="Footfall-Next-Cursor of the page before; absent for the first."),
    ] = None,
) -> Response:
    """Everything held on a person, as NDJSON, page by page."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = distinct_id_of(userId)
    work = Work(service.calls(request), service.settings, service.now())
    page = person.page(work, _owner(service, work.calls, distinct_id), cursor, REPLY_BYTES_MAX)
    headers = {"Footfall-Next-Cursor": page.next_cursor} if page.next_cursor else {}
    return Response(page.body, media_type="application/x-ndjson", headers=headers)


@router.delete("/v1/users/{userId}", **openapi.ERASE)
async def delete_user(request: Request, userId: UserPath) -> Response:  # noqa: N803 - the wire's name
    """Remove everything held on a person. Events of until now count nowhere any more, later ones do."""
    service = Service.of(request)
    service.require_secret(request)
    distinct_id = distinct_id_of(userId)
    erased = erasure.erase(Work(service.calls(request), service.settings, service.now()), distinct_id)
    return json_response(
        replies.json_body(
            {
                "userId": distinct_id,
                "erasedAt": erasure.began_at(erased.erased_at),
                "anonymousIds": erased.anonymous_ids,
                "days": erased.days,
                "rawEvents": erased.raw_events,
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
