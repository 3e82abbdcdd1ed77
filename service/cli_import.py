"""`python -m service import`: what is asked for on the command line, and what came of it."""

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from . import dev
from .checkpoint import Checkpoint, Totals, alone
from .client import CannotReachError, Client, checked_url, is_loopback
from .columns import MappingError
from .importing import KeptBack, Reading, Trial, import_file, try_file
from .mapping import read_mapping
from .records import CannotImportError
from .sources import Source, inner_suffix, require_regular
from .terminal import (
    DEFAULT_URL,
    Display,
    ask_for_key,
    key_option,
    one_line,
    patience_option,
    units,
)

# The rest is in the file of the lines that were kept back.
KEPT_BACK_SHOWN_MAX = 10
KEPT_BACK_STATUS = 2
STOPPED_STATUS = 1


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Where Footfall answers.")
@key_option
@click.option(
    "--mapping",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="How CSV lines become events: docs/import.md.",
)
@click.option(
    "--format", "file_format", type=click.Choice(["ndjson", "csv"]), help="Default: by the file's extension."
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, send nothing.")
@click.option("--restart", is_flag=True, help="Begin at the first line, whatever went in before.")
@patience_option
def import_(  # noqa: PLR0913 - one an option
    *,
    file: Path,
    url: str,
    secret_key: str | None,
    mapping: Path | None,
    file_format: str | None,
    dry_run: bool,
    restart: bool,
    patience: float,
) -> None:
    """Send history from a FILE: a Segment event a line (NDJSON), or CSV with a mapping.

    Running it twice changes nothing, and an import that was interrupted goes on where it was. Lines that did not go
    in are in FILE.rejected.ndjson with their reasons. Ends with 0 when every line went in, 2 when some were kept
    back, 1 when it could not go on.

    \b
    python -m service import events.ndjson
    python -m service import orders.csv --mapping docs/examples/online-retail.toml --dry-run
    FOOTFALL_SECRET_KEY=… python -m service import events.ndjson --url https://shop.example
    """
    with one_line(CannotImportError, CannotReachError, OSError):
        url = checked_url(url)
        require_regular(file)
        source, target = _source(file, file_format, mapping)
        source.check()
        if dry_run:
            status = _try(source)
        else:
            display = Display()
            client = Client(url, secret_key or ask_for_key(url, dev.DEV_SECRET_KEY), patience, display.say)
            with alone(file):
                reading, checkpoint = _begun(source, f"{url}\n{target}", display, is_restarted=restart)
                status = _import(reading, client, checkpoint, display)
    sys.exit(status)


def _source(file: Path, file_format: str | None, mapping: Path | None) -> tuple[Source, str]:
    """The file as events, and the mapping's text."""
    is_csv = file_format == "csv" or (file_format is None and inner_suffix(file) in (".csv", ".tsv"))
    if not is_csv:
        if mapping is not None:
            raise click.UsageError("--mapping is for CSV; --format csv says that the file is.")
        return Source(file), ""
    if mapping is None:
        raise click.UsageError(
            "CSV needs a --mapping: docs/import.md, and docs/examples has one to begin with."
        )
    try:
        text = mapping.read_text(encoding="utf-8-sig")
        return Source(file, read_mapping(text)), text
    except (MappingError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{mapping}: {error}") from None


def _try(source: Source) -> int:
    trial, shown = Trial(), _Shown(Display())
    for kept_back in try_file(source, trial):
        shown.add([kept_back])
    shown.end("Nothing is written of them in a dry run.")
    days = f", {trial.first_day} to {trial.last_day} (UTC)" if trial.first_day else ""
    click.echo(f"would send {sum(trial.events.values()):,} events{days}")
    for name, count in trial.events.most_common(20):
        click.echo(f"  {count:>10,}  {name}")
    click.echo(f"would keep back {trial.kept_back:,}")
    if trial.example:
        click.echo(f"the first one: {trial.example}")
    return KEPT_BACK_STATUS if trial.kept_back else 0


def _begun(
    source: Source, target: str, display: Display, *, is_restarted: bool
) -> tuple[Reading, Checkpoint]:
    """The file, read as far as an import that was interrupted came, and its notes; or from the first line on."""
    new, reading = Checkpoint.of(source.path, target), Reading(source)
    if is_restarted or not new.path.exists():
        return reading, new
    written = new.written()
    if written is None:
        display.say(f"{new.path.name} is of another import: beginning at the first line.")
        return reading, new
    reading.skip(written.records)
    if (reading.count, reading.digest) != (written.records, written.digest):
        display.say(
            f"{source.path.name} was changed above line {written.line:,} since: beginning at the first line."
        )
        return Reading(source), new
    # Nothing tells that such a database is another one by now.
    url = target.partition("\n")[0]
    hint = " if the service lost what was in its memory" if is_loopback(url) else ""
    display.say(f"Going on after line {written.line:,}; --restart begins anew{hint}.")
    return reading, written


def _import(reading: Reading, client: Client, checkpoint: Checkpoint, display: Display) -> int:
    path = reading.source.path
    kept_back_path = path.with_name(path.name + ".rejected.ndjson")
    shown = _Shown(display)
    try:
        with display:
            _show(display, checkpoint)
            for kept_back in import_file(reading, client, checkpoint, kept_back_path):
                shown.add(kept_back)
                _show(display, checkpoint)
    except KeyboardInterrupt:
        click.echo(f"Stopped. {_interrupted(checkpoint)}", err=True)
        return STOPPED_STATUS
    except (CannotImportError, CannotReachError) as error:
        raise CannotImportError(f"{error} {_interrupted(checkpoint)}") from None
    shown.end(f"They are in {kept_back_path}.")
    _summary(checkpoint.totals)
    return KEPT_BACK_STATUS if checkpoint.totals.kept_back else 0


def _show(display: Display, checkpoint: Checkpoint) -> None:
    share = min(1, checkpoint.offset / checkpoint.size) if checkpoint.size else 1
    display.show(f"line {checkpoint.line:,}", share)


def _interrupted(checkpoint: Checkpoint) -> str:
    if not checkpoint.records:
        return "Nothing was sent to its end; the same command begins again."
    return f"Everything up to line {checkpoint.line:,} is in; the same command goes on there."


class _Shown:
    """The first few lines that were kept back, on the error stream."""

    def __init__(self, display: Display) -> None:
        self.count = 0
        self._display = display

    def add(self, kept_back: Iterable[KeptBack]) -> None:
        for one in kept_back:
            self.count += 1
            if self.count <= KEPT_BACK_SHOWN_MAX:
                self._display.say(f"line {one.line}: {one.code}: {one.reason}")

    def end(self, where: str) -> None:
        more = self.count - KEPT_BACK_SHOWN_MAX
        if self.count:
            self._display.say((f"… and {more:,} more. " if more > 0 else "") + where)


def _summary(totals: Totals) -> None:
    resent = (
        f" (some counted by a request that was sent again, {totals.resent:,} times)" if totals.resent else ""
    )
    mark = ", estimated" if totals.is_estimated else ""
    for name, value in (
        ("accepted", f"{totals.accepted:,}"),
        ("duplicates", f"{totals.duplicates:,}{resent}"),
        ("rejected", f"{totals.rejected:,}"),
        ("bad lines", f"{totals.bad_lines:,}"),
        ("consumed", f"{units(totals.wru)} WRU, {units(totals.rru)} RRU{mark}"),
    ):
        click.echo(f"{name:<11} {value}")
