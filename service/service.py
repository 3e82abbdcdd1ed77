"""What a request needs of its deployment: settings, keys, the table, the clock and its deadline."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from fastapi import Request, Response

from . import logs, store, wire
from .auth import Caller, Keys
from .dynamodb import Calls, Table
from .problems import Unavailable, search_off
from .settings import Settings

if TYPE_CHECKING:
    from .opensearch import Engine

# What is left of the function's time for the last calls under way and the reply.
MARGIN_SECONDS = 3
# Where no function has a deadline: the time the template gives it.
REQUEST_SECONDS = 20
# What API Gateway lets through. A larger body is cut off, a smaller one is read to its end and answered.
BODY_BYTES_READ_MAX = 10 * 1024 * 1024


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@dataclass
class Service:
    """One deployment."""

    settings: Settings
    table: Table
    keys: Keys
    now: Callable[[], datetime] = utc_now
    is_timezone_checked: bool = False
    is_index_checked: bool = False
    # Where it is not given, the one of the settings is connected to when somebody searches.
    engine: "Engine | None" = None

    @staticmethod
    def of(request: Request) -> "Service":
        """The deployment a request came to."""
        service: Service = request.app.state.service
        return service

    def calls(self, request: Request) -> Calls:
        """The database calls of this request, whose price its reply will name."""
        calls = self.table.calls(deadline_of(request))
        request.scope["footfall.capacity"] = calls.capacity
        if not self.is_timezone_checked:
            self.check_timezone(calls)
        return calls

    def check_timezone(self, calls: Calls) -> None:
        """Refuse to mix days of two zones in one table. Raises Unavailable, so that clients keep their events."""
        remembered = store.remembered_timezone(calls, self.settings.timezone.key)
        if remembered != self.settings.timezone.key:
            logs.line(
                "ERROR",
                f"the table's days are in {remembered}: set FOOTFALL_TIMEZONE to it, or use another table",
            )
            raise Unavailable(
                "FOOTFALL_TIMEZONE is not the time zone this table's days are in.", code="misconfigured"
            )
        self.is_timezone_checked = True

    def search_engine(self) -> "Engine":
        """The search engine. Raises NotEnabled without one."""
        if self.engine is None:
            if self.settings.opensearch_url is None:
                raise search_off()
            from .opensearch import Engine

            self.engine = Engine.connect(self.settings.opensearch_url)
        return self.engine

    def check_index(self, deadline: float) -> None:
        """Refuse to answer from the index of another deployment's table, whose users its keys are not for.

        What nobody has set up yet, or for no table, is looked at again. Raises Unavailable, NotEnabled.
        """
        from . import indices
        from .opensearch import EngineRefusedError, EngineUnavailableError

        engine = self.search_engine().until(deadline)
        try:
            self.is_index_checked = indices.check_table(engine, self.table.name) is not None
        except indices.AnotherTableError as error:
            logs.line("ERROR", error.detail)
            raise
        except EngineRefusedError as error:
            raise EngineUnavailableError(error) from error

    def today(self) -> date:
        """The day it is in the shop."""
        return self.now().astimezone(self.settings.timezone).date()

    def caller(self, request: Request, key_of_body: str | None) -> Caller:
        """Who posts events: by the header, or where there is none by the body. Raises Unauthorized."""
        key = wire.key_of_authorization(request.headers.get("authorization"))
        return self.keys.caller(key_of_body if key is None else key)

    def require_secret(self, request: Request) -> None:
        """Raises Unauthorized or Forbidden."""
        self.keys.require_secret(wire.key_of_authorization(request.headers.get("authorization")))

    async def body(self, request: Request) -> bytes:
        """The body as sent, up to the cap. Raises TooLarge, after reading on so that the client sees the answer;
        Unauthorized at once for a header with an unknown key."""
        if "authorization" in request.headers:
            self.caller(request, None)
        parts: list[bytes] = []
        size_bytes = 0
        async for part in request.stream():
            size_bytes += len(part)
            if size_bytes > BODY_BYTES_READ_MAX:
                break
            if size_bytes <= wire.BODY_BYTES_MAX:
                parts.append(part)
        if size_bytes > wire.BODY_BYTES_MAX:
            raise wire.too_large()
        return b"".join(parts)


def deadline_of(request: Request) -> float:
    """Until when a request may make calls, by the monotonic clock."""
    context = request.scope.get("aws.context")
    seconds = context.get_remaining_time_in_millis() / 1000 if context else REQUEST_SECONDS
    return time.monotonic() + seconds - MARGIN_SECONDS


def json_response(body: bytes) -> Response:
    """A reply whose body is written already."""
    return Response(body, media_type="application/json")
