"""The command line: `python -m service --help`."""

import contextlib
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import click

from . import __version__, dev
from .columns import MappingError, read_mapping
from .dynamodb import Table
from .exporting import CannotExportError, Export
from .importing import (
    LOOPBACK,
    Api,
    CannotImportError,
    Checkpoint,
    KeptBack,
    Progress,
    Source,
    Totals,
    Trial,
    import_file,
    try_file,
)

# Where there is no terminal to draw a bar on.
PROGRESS_LINE_SECONDS = 5
# The rest is in the file of the lines that were kept back.
KEPT_BACK_SHOWN_MAX = 10
KEPT_BACK_STATUS = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="footfall")
def main() -> None:
    """Per-user e-commerce analytics that costs nothing while nobody shops."""


@main.command()
def run() -> None:
    """Serve on this machine, with a database in memory.

    \b
    PORT=8001 python -m service run
    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8042 python -m service run
    """
    try:
        dev.run(os.environ)
    except dev.CannotStartError as error:
        raise click.ClickException(str(error)) from None


@main.command()
def table() -> None:
    """Make the table, unless it is there.

    \b
    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8042 python -m service table
    """
    try:
        click.echo(dev.table(os.environ))
    except dev.CannotStartError as error:
        raise click.ClickException(str(error)) from None


@main.command()
def key() -> None:
    """Make a write key and a secret key for a deployment.

    The secret key is shown this once; the deployment knows its digest alone.

    \b
    python -m service key
    """
    secret = secrets.token_urlsafe(32)
    click.echo(f"write key            {secrets.token_urlsafe(16)}")
    click.echo(f"secret key           {secret}")
    click.echo(f"its SHA-256 digest   {hashlib.sha256(secret.encode()).hexdigest()}")


# --- import ---------------------------------------------------------------------------------------------------------


@main.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where Footfall answers.")
@click.option(
    "--key",
    "secret_key",
    envvar="FOOTFALL_SECRET_KEY",
    show_envvar=True,
    help="The secret key. Others may read it on the command line: better in the environment, or asked for.",
)
@click.option(
    "--mapping",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="How CSV lines become events: docs/import.md.",
)
@click.option(
    "--format", "kind", type=click.Choice(["ndjson", "csv"]), help="Default: by the file's extension."
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, send nothing.")
@click.option("--restart", is_flag=True, help="Begin at the first line, whatever went in before.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to try again while the service does not answer.",
)
def import_(  # noqa: PLR0913 - one an option
    *,
    file: Path,
    url: str,
    secret_key: str | None,
    mapping: Path | None,
    kind: str | None,
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
    with _one_line():
        source, target = _source(file, kind, mapping)
        source.check()
        if dry_run:
            status = _try(source)
        else:
            api = Api(url, secret_key or _ask_for_key(url), patience, lambda text: click.echo(text, err=True))
            checkpoint = Checkpoint.of(file, f"{api.url}\n{target}")
            status = _import(source, api, checkpoint, restart)
    sys.exit(status)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except (CannotImportError, CannotExportError, dev.CannotStartError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'A file'}: {error.strerror or error}") from None


def _source(file: Path, kind: str | None, mapping: Path | None) -> tuple[Source, str]:
    """The file as events, and the mapping's text."""
    is_csv = kind == "csv" or (kind is None and file.suffix.lower() in (".csv", ".tsv"))
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


def _ask_for_key(url: str) -> str:
    if urlsplit(url).hostname in LOOPBACK:
        # What `python -m service run` takes unless it is told otherwise.
        return dev.DEV_SECRET_KEY
    if sys.stdin.isatty():
        answer: str = click.prompt("Secret key", hide_input=True, err=True)
        return answer
    raise click.UsageError("The secret key is missing: put it into FOOTFALL_SECRET_KEY.")


def _try(source: Source) -> int:
    trial, shown = Trial(), _Shown()
    for kept_back in try_file(source, trial):
        shown.add([kept_back])
    shown.end("Nothing is written of them in a dry run.")
    click.echo(
        f"would send {sum(trial.events.values()):,} events, {trial.first_day} to {trial.last_day} (UTC)"
    )
    for name, count in trial.events.most_common(20):
        click.echo(f"  {count:>10,}  {name}")
    click.echo(f"would keep back {trial.kept_back:,}")
    if trial.example:
        click.echo(f"the first one: {trial.example}")
    return KEPT_BACK_STATUS if trial.kept_back else 0


def _import(source: Source, api: Api, checkpoint: Checkpoint, restart: bool) -> int:
    parts = urlsplit(api.url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        click.echo("The key goes over the network unencrypted: https would keep it secret.", err=True)
    if not restart and checkpoint.resume():
        click.echo(f"Going on after line {checkpoint.line:,}; --restart begins anew.", err=True)
    elif not restart and checkpoint.path.exists():
        click.echo(f"{checkpoint.path.name} is of another import: beginning at the first line.", err=True)
    kept_back_path = source.path.with_name(source.path.name + ".rejected.ndjson")
    shown = _Shown()
    try:
        for step in _shown(import_file(source, api, checkpoint, kept_back_path), checkpoint.size):
            shown.add(step.kept_back)
    except KeyboardInterrupt:
        raise CannotImportError(_interrupted(checkpoint)) from None
    except CannotImportError as error:
        raise CannotImportError(f"{error} {_interrupted(checkpoint)}") from None
    shown.end(f"They are in {kept_back_path}.")
    _summary(checkpoint.totals)
    return KEPT_BACK_STATUS if checkpoint.totals.kept_back else 0


def _interrupted(checkpoint: Checkpoint) -> str:
    if not checkpoint.records:
        return "Nothing was sent to its end; the same command begins again."
    return f"Everything up to line {checkpoint.line:,} is in; the same command goes on there."


def _shown(steps: Iterable[Progress], length: int) -> Iterator[Progress]:
    """With a bar on a terminal, and with a line every few seconds where there is none."""
    if sys.stderr.isatty():
        with click.progressbar(length=length, file=sys.stderr, label="importing") as bar:
            for step in steps:
                bar.update(step.offset - bar.pos)
                yield step
        return
    said = time.monotonic()
    for step in steps:
        if time.monotonic() - said >= PROGRESS_LINE_SECONDS:
            said = time.monotonic()
            click.echo(f"line {step.line:,}, {100 * step.offset / max(1, length):.0f} %", err=True)
        yield step


class _Shown:
    """The first few lines that were kept back, on the error stream."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, kept_back: Iterable[KeptBack]) -> None:
        for one in kept_back:
            self.count += 1
            if self.count <= KEPT_BACK_SHOWN_MAX:
                click.echo(f"line {one.line}: {one.code}: {one.reason}", err=True)

    def end(self, where: str) -> None:
        more = self.count - KEPT_BACK_SHOWN_MAX
        if self.count:
            click.echo((f"… and {more:,} more. " if more > 0 else "") + where, err=True)


def _units(units: float) -> str:
    return f"{units:,.1f}".removesuffix(".0")


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
        ("consumed", f"{_units(totals.wru)} WRU, {_units(totals.rru)} RRU{mark}"),
    ):
        click.echo(f"{name:<11} {value}")


# --- export ---------------------------------------------------------------------------------------------------------


@main.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, whole or not at all. Default: the standard output.",
)
@click.option("--user", metavar="ID", help="One user, with their anonymous ids, instead of everybody.")
def export(out: Path | None, user: str | None) -> None:
    """Write everything that is counted as NDJSON: every user's days, and whose the anonymous ids are.

    Reads the table itself, with your AWS credentials, and reads all of it.

    \b
    FOOTFALL_TABLE=footfall-prod python -m service export --out footfall.ndjson
    python -m service export --user u-42
    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8042 python -m service export --out footfall.ndjson
    """
    with _one_line():
        settings = dev._settings(os.environ)
        stored = Table(dev._client(os.environ), settings.table)
        if out is None:
            done = _export(stored, sys.stdout.buffer, user)
            sys.stdout.buffer.flush()
        else:
            partial = out.with_name(out.name + ".partial")
            try:
                with partial.open("wb") as file:
                    done = _export(stored, file, user)
                partial.replace(out)
            finally:
                partial.unlink(missing_ok=True)
    units = _units(done.capacity.read_units) + " RRU" + (", estimated" if done.capacity.is_estimated else "")
    click.echo(f"{done.totals.days:,} days, {done.totals.aliases:,} anonymous ids ({units})", err=True)


def _export(stored: Table, file: BinaryIO, user: str | None) -> Export:
    exported = Export.of(stored, file.write)
    if user is not None:
        exported.person(user)
        return exported
    said = time.monotonic()
    for totals in exported.everything():
        if sys.stderr.isatty():
            click.echo(f"\r{totals.days:,} days", nl=False, err=True)
        elif time.monotonic() - said >= PROGRESS_LINE_SECONDS:
            said = time.monotonic()
            click.echo(f"{totals.days:,} days", err=True)
    if sys.stderr.isatty():
        click.echo("\r", nl=False, err=True)
    return exported


if __name__ == "__main__":
    main(prog_name="python -m service")
