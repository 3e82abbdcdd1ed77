"""The door on Lambda: `handler` takes API Gateway's HTTP API events, payload 2.0, and the sweep's schedule.

Everything is made while the execution environment starts, when Lambda gives it a whole processor.
"""

import os
import time
from typing import Any

from . import logs
from .app import create_app
from .dynamodb import Table, connect
from .gateway import as_lambda
from .problems import Unavailable
from .service import MARGIN_SECONDS, Service, utc_now
from .settings import load_settings
from .sweep import sweep

_settings = load_settings(os.environ)
_table = Table(connect(), _settings.table)
_app = create_app(_settings, _table)
_http = as_lambda(_app)
# What template.yaml lets the schedule send in place of a request.
SWEEP_EVENT = {"task": "sweep"}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request, or sweep."""
    return _sweep(context) if event == SWEEP_EVENT else _http(event, context)


def _sweep(context: Any) -> dict[str, Any]:
    """What the time does not allow is left for the next one, an hour later."""
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
    calls = _table.calls(deadline)
    try:
        *_, swept = sweep(calls, _settings, utc_now)
    except Unavailable as error:
        logs.failure("sweep failed", error)
        raise
    for failure in swept.failures:
        logs.failure("a merge or an erasure could not be ended", failure)
    facts = {"merges": swept.merges, "erasures": swept.erasures, "undecided": swept.undecided}
    logs.line("INFO", "sweep", **facts, wru=calls.capacity.write_units, rru=calls.capacity.read_units)
    if _settings.opensearch_url is not None:
        facts["monthsRetired"] = _retire(_settings.opensearch_url, deadline)
    return facts


def _retire(url: str, deadline: float) -> int:
    """How many months of the search index were too old. What fails is left for the next sweep too."""
    # Not at the top: a request that searches nothing needs none of it.
    from . import indices
    from .opensearch import Engine, EngineRefusedError

    today = utc_now().astimezone(_settings.timezone).date()
    engine = Engine.connect(url).until(deadline)
    try:
        gone = indices.retire(engine, today, _settings.search_retention_days, _table.name)
    except (Unavailable, EngineRefusedError) as error:
        logs.failure("the search index could not be looked through for old months", error)
        return 0
    logs.line("INFO", "search index", monthsRetired=len(gone))
    return len(gone)


def _warm_up(service: Service) -> None:
    """One read: the first connection, and the table's time zone. A failure here is met again by the first request."""
    try:
        service.check_timezone(service.table.calls(time.monotonic() + 5))
    except Unavailable as error:
        logs.failure("the table did not answer while starting", error)


_warm_up(_app.state.service)
