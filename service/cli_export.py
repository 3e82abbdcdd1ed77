"""`python -m service export`: where it is written to, and how much it was."""

import os
import sys
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import BinaryIO

import click

from . import dev
from .client import CannotReachError, Client, Consumed, checked_url
from .dynamodb import Table
from .export_api import person
from .exporting import CannotExportError, Export, Totals
from .terminal import DEFAULT_URL, Display, ask_for_key, key_option, one_line, patience_option, units


@dataclass(frozen=True)
class _Person:
    """Whom to ask the service for."""

    client: Client
    user: str


@dataclass(frozen=True)
class _Everybody:
    """What to read, and the shop's zone where raw events are asked for."""

    table: Table
    raw_events_in: tzinfo | None


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, whole or not at all. Default: the standard output.",
)
@click.option("--user", metavar="ID", help="One user, with their anonymous ids, instead of everybody.")
@click.option("--raw-events", "has_raw_events", is_flag=True, help="Of everybody: raw events too.")
@click.option("--url", help=f"With --user: where Footfall answers.  [default: {DEFAULT_URL}]")
@key_option
@patience_option
def export(
    *,
    out: Path | None,
    user: str | None,
    has_raw_events: bool,
    url: str | None,
    secret_key: str | None,
    patience: float,
) -> None:
    """Write everything that is counted as NDJSON: every user's days, and whose the anonymous ids are.

    Reads the whole table itself, with the credentials and the region that AWS's own tools find (AWS_PROFILE,
    AWS_REGION). With --user it asks the service instead, with the secret key; raw events are among the
    lines where they are kept.

    \b
    FOOTFALL_TABLE=footfall-Table-... AWS_REGION=eu-central-1 python -m service export --out footfall.ndjson
    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8042 python -m service export --out footfall.ndjson
    FOOTFALL_SECRET_KEY=… python -m service export --user u-42 --url https://shop.example
    """
    if user is None and url is not None:
        raise click.UsageError("--url is for --user; the whole table is read with AWS credentials.")
    with one_line(CannotExportError, CannotReachError, dev.CannotStartError, OSError):
        source: _Everybody | _Person
        if user is None:
            settings, table = dev.deployment(os.environ)
            source = _Everybody(table, settings.timezone if has_raw_events else None)
        else:
            url = checked_url(url or DEFAULT_URL)
            key = secret_key or ask_for_key(url, dev.DEV_SECRET_KEY)
            source = _Person(Client(url, key, patience, Display().say), user)
        if out is None:
            totals, price = _export(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            partial = out.with_name(out.name + ".partial")
            try:
                with partial.open("wb") as file:
                    totals, price = _export(source, file)
                partial.replace(out)
            finally:
                partial.unlink(missing_ok=True)
    more = f", {totals.raw_events:,} raw events" if totals.raw_events else ""
    click.echo(f"{totals.days:,} days, {totals.aliases:,} anonymous ids{more} ({price})", err=True)


def _export(source: _Everybody | _Person, file: BinaryIO) -> tuple[Totals, str]:
    """What was written, and what that cost."""
    if isinstance(source, _Person):
        consumed = Consumed()
        totals = person(source.client, source.user, file.write, consumed)
        return totals, _price(consumed.rru, is_estimated=consumed.is_estimated)
    exported = Export.of(source.table, file.write, raw_events_in=source.raw_events_in)
    # On one terminal with the lines themselves there is no place for it.
    is_shown = file is not sys.stdout.buffer or not sys.stdout.isatty()
    with Display() as display:
        for totals in exported.everything():
            if is_shown:
                display.show(f"{totals.days:,} days")
        display.clear()
    capacity = exported.capacity
    return exported.totals, _price(capacity.read_units, is_estimated=capacity.is_estimated)


def _price(read_units: float, *, is_estimated: bool) -> str:
    return f"{units(read_units)} RRU" + (", estimated" if is_estimated else "")
