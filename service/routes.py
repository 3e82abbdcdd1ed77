"""The API at a glance: one short function a route, read → decide → answer.

`async def` throughout although DynamoDB is called blocking: an execution environment of Lambda serves one request at a
time, and a `def` route costs it a hop to another thread (twice the CPU of the whole request, measured).
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from . import __version__, assets, ingest, openapi, packing, replies, store, wire
from .days import Outcome
from .events import Event, Rejection, Rules, epoch_ms, moment
from .parameters import Flag, flag_of
from .problems import Forbidden, Unauthorized
from .service import Service, json_response
from .store import Work

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
    # Raw events are read again by the moment of their receipt, which they keep in milliseconds.
    now = moment(epoch_ms(service.now()))
    rules = service.settings.rules(now, is_trusted=caller.is_trusted, is_import=is_import)
    outcome = Outcome()
    events = _readable(rules, batch, outcome.rejected)
    origin = None
    if service.settings.raw_events:
        context, events = packing.with_text(batch.events, batch.context, events, outcome.rejected)
        origin = packing.Origin(epoch_ms(now), rules.currency, rules.counts_orders, context)
    if events:
        work = Work(service.calls(request), service.settings, now, is_import, origin)
        decided = ingest.ingest(work, events)
        if decided.undecided:
            raise decided.undecided
        outcome = Outcome(decided.accepted, decided.duplicates, outcome.rejected + decided.rejected)
    request.scope["footfall.counts"] = {
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "rejected": len(outcome.rejected),
    }
    return json_response(replies.ingest_body(outcome))


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
    return json_response(
        replies.json_body({"integrations": {"Segment.io": destination}, "metrics": {"sampleRate": 0}})
    )


# --- the service itself ---------------------------------------------------------------------------------------------


@router.get("/health", **openapi.HEALTH)
async def get_health(
    request: Request,
    deep: Annotated[
        str, Flag, Query(description="true or 1 reads the table too, and needs the secret key.")
    ] = "0",
) -> Response:
    """Whether the service answers. Touches no database unless asked to."""
    if flag_of("deep", deep):
        service = Service.of(request)
        service.require_secret(request)
        store.ping(service.calls(request))
    return json_response(replies.json_body({"status": "ok", "version": __version__}))


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request) -> Response:
    """The description of this API."""
    return json_response(openapi.document(request.app))


@router.get("/docs", include_in_schema=False)
async def get_docs() -> Response:
    """The description as a page, from this service alone."""
    return assets.page("index.html", None)


@router.get("/docs/{asset}", include_in_schema=False)
async def get_docs_asset(request: Request, asset: str) -> Response:
    """A script or style of that page."""
    return assets.page(asset, request.headers.get("accept-encoding"))


@router.get("/sdk/{asset}", include_in_schema=False)
async def get_sdk_asset(request: Request, asset: str) -> Response:
    """The browser SDK: `footfall.js`, the same under its version's name, and `footfall.json`, which has its hash."""
    headers = request.headers
    return assets.sdk(asset, headers.get("accept-encoding"), headers.get("if-none-match"))
