"""`python -m service recount`."""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from . import dev, identities, ids, merge, recount
from .metrics import camel
from .problems import Unavailable
from .recount import Difference, Recounted
from .store import Work
from .terminal import Display, one_line, units

# Nobody waits for it: each step has its own timeouts.
DEADLINE_SECONDS = 30 * 86_400.0
DIFFERENT_STATUS = 2


class CannotRecountError(Exception):
    """One line that says what to do."""


@dataclass
class _Totals:
    """What was recounted, in days, and how many events were on those."""

    people: int = 0
    days: int = 0
    events: int = 0
    different: int = 0
    repaired: int = 0
    skipped: int = 0

    def add(self, one: Recounted) -> None:
        """Count a day."""
        self.days += 1
        self.events += one.counted
        self.different += one.status == recount.DIFFERENT
        self.repaired += one.status == recount.REPAIRED
        self.skipped += one.status in (recount.INCOMPLETE, recount.FULL)


@click.command("recount")
@click.argument("user", required=False)
@click.option("--all", "is_all", is_flag=True, help="Everybody in the table.")
@click.option("--repair", "is_repairing", is_flag=True, help="Write what was recounted where it differs.")
def recount_(*, user: str | None, is_all: bool, is_repairing: bool) -> None:
    """Rebuild days from raw events, and print each number that differs from the stored one.

    Reads the table itself, with your AWS credentials; its FOOTFALL_ settings are to be those of the deployment. May
    run while events arrive. Days without all their raw events, because those have expired or were not kept yet, are
    named and skipped. Ends with 0 when nothing differs any more, 2 when something does, 1 when it could not begin.

    \b
    FOOTFALL_TABLE=footfall-Table-... python -m service recount u-42
    FOOTFALL_TABLE=footfall-Table-... python -m service recount --all --repair
    """
    if (user is None) is not is_all:
        raise click.UsageError("Name a user, or say --all.")
    with one_line(dev.CannotStartError, CannotRecountError):
        settings, table = dev.deployment(os.environ)
        calls = table.calls(time.monotonic() + DEADLINE_SECONDS)
        work = Work(calls, settings, datetime.now(UTC))
        totals = _Totals()
        try:
            with Display() as display:
                for owner in recount.everybody(work) if user is None else [_owner(work, user)]:
                    totals.people += 1
                    _person(work, owner, totals, display, is_repairing=is_repairing)
                display.clear()
        except Unavailable as error:
            cause = error.__cause__ or error.detail
            raise CannotRecountError(f"Table {table.name} cannot be read: {cause}") from None
    click.echo(
        f"recounted {totals.days:,} days of {totals.people:,} users and visitors, {totals.events:,} events: "
        f"{totals.different:,} days differ, {totals.repaired:,} repaired, {totals.skipped:,} skipped"
    )
    click.echo(
        f"consumed {units(calls.capacity.write_units)} WRU, {units(calls.capacity.read_units)} RRU", err=True
    )
    sys.exit(DIFFERENT_STATUS if totals.different else 0)


def _owner(work: Work, user: str) -> str:
    """Whose days to recount: those of the user that a merged anonymous id became."""
    try:
        distinct_id = ids.distinct_id(user)
    except ids.InvalidIdError as error:
        raise CannotRecountError(f"USER: {error}.") from None
    if distinct_id is None:
        raise CannotRecountError("USER names somebody.")
    if ids.is_anonymous(distinct_id):
        alias = identities.alias_of(work.calls, distinct_id, is_consistent=True)
        if alias is not None and alias.user_id is not None:
            return merge.finished(work, distinct_id, alias).user_id or distinct_id
    return distinct_id


def _person(work: Work, owner: str, totals: _Totals, display: Display, *, is_repairing: bool) -> None:
    for one in recount.person(work, owner, is_repairing=is_repairing):
        totals.add(one)
        for line in _lines(work, one):
            display.clear()
            click.echo(line)
        display.show(f"{totals.people:,} users and visitors, {totals.days:,} days")


def _lines(work: Work, one: Recounted) -> Iterable[str]:
    head = f"{one.distinct_id}  {one.day}"
    if one.status == recount.FULL:
        yield f"{head}  skipped: a merge filled this day, and which events it holds is no longer known"
    elif one.status == recount.INCOMPLETE:
        yield (
            f"{head}  skipped: {one.missing:,} of {one.counted:,} events have no raw event; "
            f"they are kept for {work.settings.raw_ttl_days} days, from when they are turned on"
        )
    for difference in one.differences:
        verb = ", repaired" if one.status == recount.REPAIRED else ""
        yield f"{head}  {_name(difference)}: stored {difference.stored}, recounted {difference.recounted}{verb}"


def _name(difference: Difference) -> str:
    """As replies have it; money is in minor units."""
    name = camel(difference.metric)
    # As JSON: a client chose it, and a terminal obeys control characters.
    return name if difference.of is None else f"{name} {json.dumps(difference.of)}"
