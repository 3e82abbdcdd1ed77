"""The command line: `python -m service --help`."""

import hashlib
import io
import os
import secrets
import sys

import click

from . import __version__, dev
from .cli_export import export
from .cli_import import import_
from .cli_index import index
from .cli_recount import recount_
from .cli_sweep import sweep_
from .terminal import one_line


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
    with one_line(dev.CannotStartError):
        dev.run(os.environ)


@main.command()
def table() -> None:
    """Make the table, unless it is there.

    \b
    AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8042 python -m service table
    """
    with one_line(dev.CannotStartError):
        click.echo(dev.table(os.environ))


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


main.add_command(import_)
main.add_command(export)
main.add_command(sweep_)
main.add_command(recount_)
main.add_command(index)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        # A pipe or a file on Windows is in an old code page, and an event's name may hold anything.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    main(prog_name="python -m service")
