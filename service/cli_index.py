"""`python -m service index`."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from . import dev, indices
from .opensearch import Engine, EngineRefusedError
from .problems import Unavailable
from .rebuild import OvertakenError, Rebuild, Rebuilt
from .settings import Settings, SettingsError, load_settings
from .store import Work
from .terminal import Display, one_line, units

# Nobody waits for it: each step has its own timeouts.
DEADLINE_SECONDS = 30 * 86_400.0
INCOMPLETE_STATUS = 2


class CannotIndexError(Exception):
    """One line that says what to do."""


@click.group("index")
def index() -> None:
    """The search index: make it, make it anew, delete what is too old.

    Speaks with the cluster of FOOTFALL_OPENSEARCH_URL itself; the FOOTFALL_ settings are to be those of the deployment.
    """


@index.command()
def setup() -> None:
    """Tell the cluster the mapping of the indices to come, and those there are what is new in it. May be repeated.

    The indexer does the same before it makes its first index. Say it again before an upgrade that says so.

    \b
    FOOTFALL_RAW_EVENTS=1 FOOTFALL_OPENSEARCH_URL=http://127.0.0.1:9242 python -m service index setup
    """
    with _errors():
        settings, engine = _engine()
        found = indices.setup(engine, settings.table, replicas=settings.search_replicas)
    click.echo(
        f"{found['distribution']} {found['number']} at {engine.url} is set up for {engine.prefix}-events-*"
    )
    if found["stale"]:
        click.echo(f"the mapping of these months is another one until a rebuild: {_months(found['stale'])}")


@index.command()
@click.option("--shrink", "may_shrink", is_flag=True, help="Also where documents have no raw event any more.")
def rebuild(*, may_shrink: bool) -> None:
    """Make the index anew from the raw events in the table, while events keep coming.

    Reads the table twice, with your AWS credentials. Searches are answered from the indices there are until all months
    change over at once. Months of before FOOTFALL_RAW_TTL_DAYS are kept, and named; so is one of which the table holds
    fewer events than the index, unless you say --shrink. Interrupted, nothing is lost: run it again. Ends with 0 when
    every month that can be is new, 2 when one was kept because it would lose documents, 1 when it could not be done.

    \b
    FOOTFALL_RAW_EVENTS=1 FOOTFALL_OPENSEARCH_URL=https://... FOOTFALL_TABLE=footfall-Table-... \\
        python -m service index rebuild
    """
    with _errors():
        settings, engine = _engine()
        table = dev.deployment(os.environ)[1]
        calls = table.calls(time.monotonic() + DEADLINE_SECONDS)
        work = Work(calls, settings, datetime.now(UTC))
        rebuilt = Rebuilt()
        with Display() as display:
            for rebuilt in Rebuild(engine, work, may_shrink=may_shrink).run():
                display.show(f"{rebuilt.step}: {rebuilt.events:,} events", rebuilt.share)
    for line in _lines(rebuilt):
        click.echo(line)
    click.echo(f"consumed {units(calls.capacity.read_units)} RRU", err=True)
    sys.exit(INCOMPLETE_STATUS if rebuilt.short else 0)


@index.command()
def retire() -> None:
    """Delete the months that are wholly older than FOOTFALL_SEARCH_RETENTION_DAYS, as the hourly sweep does.

    \b
    FOOTFALL_RAW_EVENTS=1 FOOTFALL_OPENSEARCH_URL=http://127.0.0.1:9242 python -m service index retire
    """
    with _errors():
        settings, engine = _engine()
        today = datetime.now(settings.timezone).date()
        gone = indices.retire(engine, today, settings.search_retention_days, settings.table)
    click.echo(f"deleted {len(gone):,} months" + (f": {', '.join(gone)}" if gone else ""))


def _lines(rebuilt: Rebuilt) -> Iterator[str]:
    yield f"indexed {rebuilt.events:,} events; {len(rebuilt.rebuilt):,} months are new: {_months(rebuilt.rebuilt)}"
    if rebuilt.kept:
        yield f"kept and added to, as raw events of theirs have expired: {_months(rebuilt.kept)}"
    for month, (now, before) in rebuilt.short.items():
        held = f"whose index held {before:,} events and the table {now:,}"
        yield f"kept and added to: {month}, {held}; --shrink replaces it"
    if rebuilt.failed:
        yield f"{rebuilt.failed:,} could not be indexed: the index of failures says why"


def _months(months: list[str]) -> str:
    return ", ".join(months) or "none"


def _engine() -> tuple[Settings, Engine]:
    settings = load_settings(os.environ)
    if settings.opensearch_url is None:
        raise CannotIndexError("Which cluster? Set FOOTFALL_OPENSEARCH_URL, and FOOTFALL_RAW_EVENTS=1.")
    return settings, Engine.connect(settings.opensearch_url)


@contextmanager
def _errors() -> Iterator[None]:
    with one_line(dev.CannotStartError, SettingsError, CannotIndexError, indices.TooOldError, OvertakenError):
        try:
            yield
        except indices.AnotherTableError as error:
            raise CannotIndexError(error.detail) from None
        except Unavailable as error:
            raise CannotIndexError(f"Not now: {error.__cause__ or error.detail}") from None
        except EngineRefusedError as error:
            raise CannotIndexError(f"The cluster refuses this: {error}") from None
