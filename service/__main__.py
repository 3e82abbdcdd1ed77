"""The command line: `python -m service --help`."""

import hashlib
import os
import secrets

import click

from . import __version__, dev


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
    """
    secret = secrets.token_urlsafe(32)
    click.echo(f"write key            {secrets.token_urlsafe(16)}")
    click.echo(f"secret key           {secret}")
    click.echo(f"its SHA-256 digest   {hashlib.sha256(secret.encode()).hexdigest()}")


if __name__ == "__main__":
    main(prog_name="python -m service")
