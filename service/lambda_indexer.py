"""The indexer's door on Lambda: `handler` takes batches of the table's stream.

What it answers tells Lambda where to begin again; what it raises makes Lambda try the whole batch again, and in halves.
"""

import os
import time
from datetime import UTC, datetime
from typing import Any

from . import indices, logs, store
from .dynamodb import Calls, Table, connect
from .indexer import Indexer, Target
from .opensearch import Engine, EngineRefusedError, EngineUnavailableError
from .problems import Unavailable
from .settings import Settings, load_settings
from .store import Work

# What is left of the function's time for the last call under way.
MARGIN_SECONDS = 5.0


class NoSearchError(Exception):
    """The function was deployed without what it is for."""


class _Deployment:
    """What an execution environment has from its start to its end."""

    def __init__(self, settings: Settings) -> None:
        if settings.opensearch_url is None:
            raise NoSearchError("FOOTFALL_OPENSEARCH_URL is not set")
        self.settings = settings
        self.table = Table(connect(), settings.table)
        self.engine = Engine.connect(settings.opensearch_url)
        self.is_checked = False

    def handle(self, records: list[dict[str, Any]], seconds: float) -> list[str]:
        """The sequence numbers to begin again at. Raises Unavailable."""
        calls = self.table.calls(time.monotonic() + seconds)
        if not self.is_checked:
            self._check(calls)
            self.is_checked = True
        work = Work(calls, self.settings, datetime.now(UTC))
        return Indexer(self.engine, work, Target.in_use(self.engine, work)).index_records(records)

    def _check(self, calls: Calls) -> None:
        """Raises Unavailable where this table's events would go wrong."""
        # Days of another zone would be other days than those that were counted.
        if store.remembered_timezone(calls, self.settings.timezone.key) != self.settings.timezone.key:
            raise Unavailable("FOOTFALL_TIMEZONE is not the time zone this table's days are in.")
        try:
            indices.check_table(self.engine, self.table.name)
        except indices.AnotherTableError as error:
            logs.line("ERROR", error.detail)
            raise
        except EngineRefusedError as error:
            raise EngineUnavailableError(error) from error


_deployment = _Deployment(load_settings(os.environ))


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Index a batch. Raises Unavailable when none of it is sure to be done."""
    seconds = context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
    try:
        failed = _deployment.handle(event["Records"], seconds)
    except Exception as error:
        logs.failure("a batch could not be indexed", error, records=len(event["Records"]))
        raise
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
