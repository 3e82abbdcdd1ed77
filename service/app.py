"""The application: routes, errors, and what every reply carries."""

import time
from collections.abc import Callable
from datetime import datetime

from fastapi import FastAPI, Request, Response
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import __version__, logs, openapi, problems, routes, search_routes, user_routes
from .auth import Keys
from .capacity import Capacity
from .dynamodb import Table
from .problems import Problem
from .service import Service, utc_now
from .settings import Settings

_SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"cache-control", b"no-store"),
)


def create_app(settings: Settings, table: Table, now: Callable[[], datetime] = utc_now) -> FastAPI:
    """The service for these settings and this table. Reads no environment and makes no call."""
    app = FastAPI(
        title="Footfall",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.service = Service(settings, table, Keys.of(settings), now)
    app.include_router(routes.router)
    app.include_router(user_routes.router)
    app.include_router(search_routes.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(Envelope)
    return app


class Envelope:
    """Around every reply: security headers, its price, a log line, and a 500 that says nothing it should not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _complete(scope, message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, send_complete)
        except Exception as error:  # noqa: BLE001 - the last stop: whatever it is, the client may send it again
            logs.failure("request failed", error, route=_route(scope))
            if not status:
                response = _response(problems.Unexpected())
                await response(scope, receive, send_complete)
        logs.line("INFO", "request", **_facts(scope, status, time.perf_counter() - started))


def _complete(scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    present = {name for name, _ in headers}
    headers = [*headers, *(header for header in _SECURITY_HEADERS if header[0] not in present)]
    capacity: Capacity | None = scope.get("footfall.capacity")
    if capacity is not None:
        headers.append((b"footfall-capacity", capacity.header().encode()))
    return headers


def _facts(scope: Scope, status: int, duration_seconds: float) -> dict[str, object]:
    facts: dict[str, object] = {
        "method": scope["method"],
        "route": _route(scope),
        "status": status,
        "duration_ms": round(duration_seconds * 1000, 1),
    }
    context = scope.get("aws.context")
    if context is not None:
        facts["request_id"] = getattr(context, "aws_request_id", None)
    capacity: Capacity | None = scope.get("footfall.capacity")
    if capacity is not None:
        facts |= {"wru": capacity.write_units, "rru": capacity.read_units}
    counts: dict[str, object] = scope.get("footfall.counts", {})
    return facts | counts


def _route(scope: Scope) -> str | None:
    """The template, never the path: a path holds a user's id."""
    return getattr(scope.get("route"), "path", None)


def _response(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, headers=problem.headers, media_type=problems.MEDIA_TYPE)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    if isinstance(error, problems.SearchUnavailable):
        logs.failure("search call failed", error.__cause__ or error)
    elif error.__cause__ is not None:
        logs.failure("database call failed", error.__cause__)
    return _response(error)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        problem: Problem = problems.MethodNotAllowed()
        problem.headers["Allow"] = ", ".join(_methods(request))
    elif error.status_code == 404:
        problem = problems.NotFound()
    else:
        problem = problems.InvalidRequest()
    return _response(problem)


def _methods(request: Request) -> list[str]:
    """Those of the path, each of which has a route of its own; the framework names the first one's alone."""
    routes = iter_route_contexts(request.app.routes)
    found = (route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted(set().union(*found))
