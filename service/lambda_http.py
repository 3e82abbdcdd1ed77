"""The HTTP door on Lambda: `handler` takes API Gateway's HTTP API events, payload 2.0.

Everything is made while the execution environment starts, when Lambda gives it a whole processor.
"""

import os
import time

from . import logs
from .app import create_app
from .dynamodb import Table, connect
from .gateway import as_lambda
from .problems import Unavailable
from .service import Service
from .settings import load_settings

_settings = load_settings(os.environ)
_app = create_app(_settings, Table(connect(), _settings.table))
handler = as_lambda(_app)


def _warm_up(service: Service) -> None:
    """One read: the first connection, and the table's time zone. A failure here is met again by the first request."""
    try:
        service.check_timezone(service.table.calls(time.monotonic() + 5))
    except Unavailable as error:
        logs.failure("the table did not answer while starting", error)


_warm_up(_app.state.service)
