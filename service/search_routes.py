"""The routes that search: segments, funnels, breakdowns, time series, retention. All need the secret key.

What they are made of is imported with the first search: events are counted by processes that have never searched.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request, Response

from . import openapi, packing, wire
from .service import Service, deadline_of, json_response

if TYPE_CHECKING:
    from .search import Search
    from .search_requests import Ranged

router = APIRouter(prefix="/v1/search")
_Asked = TypeVar("_Asked", bound="Ranged")


@router.post("/segments", **openapi.SEGMENTS)
async def post_segments(request: Request) -> Response:
    """Which users hold these conditions, page by page, and how many they are."""
    from .search_requests import SegmentsRequest
    from .search_segments import segments

    currency = Service.of(request).settings.currency
    return await _answered(request, SegmentsRequest, lambda search, asked: segments(search, asked, currency))


@router.post("/funnels", **openapi.FUNNELS)
async def post_funnels(request: Request) -> Response:
    """How many users went through these steps in order, and how far the others came."""
    from .search_answers import funnels
    from .search_requests import FunnelsRequest

    return await _answered(request, FunnelsRequest, funnels)


@router.post("/breakdowns", **openapi.BREAKDOWNS)
async def post_breakdowns(request: Request) -> Response:
    """The largest rows of events, users or revenue by one of their fields."""
    from .search_answers import breakdowns
    from .search_requests import BreakdownsRequest

    currency = Service.of(request).settings.currency
    return await _answered(
        request, BreakdownsRequest, lambda search, asked: breakdowns(search, asked, currency)
    )


@router.post("/timeseries", **openapi.TIMESERIES)
async def post_timeseries(request: Request) -> Response:
    """Events, users or revenue for each hour, day, week or month of the shop's zone."""
    from .search_answers import timeseries
    from .search_requests import TimeseriesRequest

    settings = Service.of(request).settings
    return await _answered(
        request,
        TimeseriesRequest,
        lambda search, asked: timeseries(search, asked, settings.currency, settings.timezone),
    )


@router.post("/retention", **openapi.RETENTION)
async def post_retention(request: Request) -> Response:
    """Of those who began in a day, week or month, how many came back in each one after."""
    from .search_answers import retention
    from .search_requests import RetentionRequest

    return await _answered(request, RetentionRequest, retention)


async def _answered(
    request: Request, kind: type[_Asked], answer: Callable[["Search", _Asked], dict[str, Any]]
) -> Response:
    from .search import Search
    from .search_requests import read

    service = Service.of(request)
    service.require_secret(request)
    engine = service.search_engine()
    body = await service.body(request)
    document, _ = wire.json_object(body, request.headers.get("content-encoding"))
    asked = read(kind, document)
    if not service.is_timezone_checked:
        service.calls(request)
    deadline = deadline_of(request)
    if not service.is_index_checked:
        service.check_index(deadline)
    search = Search(engine, deadline, asked.first_day, asked.last_day)
    return json_response(packing.json_text(answer(search, asked)).encode())
