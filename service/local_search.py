"""`make run SEARCH=1`: what search needs on this machine, started and filled by the process that serves.

What the environment points to is used, and what it does not is started: DynamoDB Local, as the embedded engine has no
stream, and one OpenSearch node. The stream is read by a thread that calls the function's own handler.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from . import indices
from .dynamodb import Table
from .opensearch import Engine, EngineRefusedError
from .problems import Unavailable
from .settings import Settings
from .stream import Poller

SEARCH = "SEARCH"
OPENSEARCH = "FOOTFALL_OPENSEARCH_URL"
RAW_EVENTS = "FOOTFALL_RAW_EVENTS"
# A node that has just been started takes a while until it takes an index.
SETUP_SECONDS = 60

Say = Callable[[str], object]


class NoEngineError(Exception):
    """One line that says what is missing."""


def is_asked_for(environ: MutableMapping[str, str]) -> bool:
    """Whether to serve with search."""
    return environ.get(SEARCH, "").lower() in ("1", "true") or environ.get(OPENSEARCH, "") not in ("", "0")


@contextlib.contextmanager
def engines(environ: MutableMapping[str, str], endpoint: str, say: Say) -> Iterator[None]:
    """Start those that the environment does not name, and name them there. Raises NoEngineError."""
    try:
        from engines import dynamodb, install, opensearch
        from engines.errors import EngineError
    except ModuleNotFoundError:
        raise NoEngineError(
            "Search on this machine needs the project's own folder, where `engines` is."
        ) from None
    with contextlib.ExitStack() as stack:
        for name, module, variable in (
            ("DynamoDB Local", dynamodb, endpoint),
            ("OpenSearch", opensearch, OPENSEARCH),
        ):
            if environ.get(variable, "") not in ("", "0"):
                continue
            fetched = "" if install.CACHE.exists() else " (Maven fetches it, this once, with 150 MB for both)"
            say(f"starting {name}{fetched}…")
            began = time.monotonic()
            try:
                engine = stack.enter_context(module.running())
            except EngineError as error:
                raise NoEngineError(str(error)) from None
            say(f"  {engine.url}, after {time.monotonic() - began:.1f} s")
            environ[variable] = engine.url
        environ[RAW_EVENTS] = environ.get(RAW_EVENTS) or "1"
        yield


@contextlib.contextmanager
def indexing(settings: Settings, table: Table, streams: Any, region: str, say: Say) -> Iterator[None]:
    """Make the index, and fill it from the table's stream until the end. Raises NoEngineError."""
    assert settings.opensearch_url is not None
    where = without_password(settings.opensearch_url)
    say(f"preparing the index in {where}…")
    _set_up(Engine.connect(settings.opensearch_url), table.name, where)
    described = table.client.describe_table(TableName=table.name)["Table"]
    # Not at the top: it reads the environment, which is complete by now.
    from .lambda_indexer import handler

    poller = Poller(streams, described["LatestStreamArn"], region, handler)
    poller.start()
    try:
        yield
    finally:
        poller.stop()


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _set_up(engine: Engine, table: str, where: str) -> None:
    deadline = time.monotonic() + SETUP_SECONDS
    while True:
        try:
            indices.setup(engine, table)
        except indices.AnotherTableError as error:
            raise NoEngineError(error.detail) from None
        except Unavailable:
            if time.monotonic() > deadline:
                raise NoEngineError(f"OpenSearch does not answer at {where}. Is it running there?") from None
            time.sleep(0.5)
        except (EngineRefusedError, indices.TooOldError) as error:
            raise NoEngineError(f"OpenSearch at {where}: {error}") from None
        else:
            return
