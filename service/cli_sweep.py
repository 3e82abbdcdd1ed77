"""`python -m service sweep`."""

import os
import sys
import time
from datetime import UTC, datetime

import click

from . import dev
from .problems import Unavailable
from .sweep import sweep
from .terminal import Display, one_line, units

# Nobody waits for it: each step has its own timeouts.
DEADLINE_SECONDS = 86_400.0
UNDECIDED_STATUS = 2


class CannotSweepError(Exception):
    """One line that says what to do."""


@click.command("sweep")
def sweep_() -> None:
    """Finish merges and erasures whose process died over a minute ago.

    Reads the table itself, with your AWS credentials; sixteen Queries where there is nothing to do. Its FOOTFALL_
    settings are to be those of the deployment. Ends with 0 when all are finished, 2 when some could not be finished
    now, 1 when it could not begin.

    \b
    FOOTFALL_TABLE=footfall-Table-... python -m service sweep
    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8042 python -m service sweep
    """
    with one_line(dev.CannotStartError, CannotSweepError):
        settings, table = dev.deployment(os.environ)
        calls = table.calls(time.monotonic() + DEADLINE_SECONDS)
        try:
            with Display() as display:
                for swept in sweep(calls, settings, lambda: datetime.now(UTC)):
                    display.show(f"{swept.merges + swept.erasures:,} finished")
        except Unavailable as error:
            cause = error.__cause__ or error.detail
            raise CannotSweepError(f"Table {table.name} cannot be read: {cause}") from None
    for failure in swept.failures:
        click.echo(f"one could not be ended: {failure.__cause__ or failure}", err=True)
    click.echo(
        f"finished {swept.merges:,} merges and {swept.erasures:,} erasures, {swept.undecided:,} left for the next sweep"
    )
    if swept.leftovers:
        click.echo(f"removed {swept.leftovers:,} raw events that arrived while their person was being erased")
    click.echo(
        f"consumed {units(calls.capacity.write_units)} WRU, {units(calls.capacity.read_units)} RRU", err=True
    )
    sys.exit(UNDECIDED_STATUS if swept.undecided else 0)
