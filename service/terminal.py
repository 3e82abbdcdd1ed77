"""What a command says to the person at the terminal: how far it is, what happened meanwhile, and errors in one line."""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import click

from .client import is_loopback

# Where there is no terminal to draw on.
LINE_SECONDS = 5
BAR_CHARACTERS = 24


class Display:
    """How far a command is, on the error stream: one line drawn over and over, or a new one every few seconds.

    Nothing but a carriage return and blanks moves the cursor, which every console understands.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._drawn = ""
        self._shown_at = time.monotonic()
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line as it is, and go on below."""
        if self._drawn:
            click.echo(err=True)
            self._drawn = ""

    def show(self, text: str, share: float | None = None) -> None:
        """This is how far it is; with a `share` of the whole, where that is known."""
        percent = "" if share is None else f"{int(100 * share)} %"
        if self._is_terminal and share is not None:
            filled = int(BAR_CHARACTERS * share)
            bar = "#" * filled + "-" * (BAR_CHARACTERS - filled)
            self._draw(f"[{bar}] {percent:>5}  {text}{self._left(share)}")
        elif self._is_terminal:
            self._draw(text)
        elif time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._shown_at = time.monotonic()
            click.echo(f"{text}, {percent}" if percent else text, err=True)

    def say(self, text: str) -> None:
        """A line that stays, above the one that moves."""
        drawn = self._drawn
        self.clear()
        click.echo(text, err=True)
        if drawn:
            self._draw(drawn)

    def clear(self) -> None:
        """Take back the line that moves."""
        if self._drawn:
            click.echo("\r" + " " * len(self._drawn) + "\r", nl=False, err=True)
            self._drawn = ""

    def _draw(self, line: str) -> None:
        # In the last column some consoles go to the next line.
        line = line[: shutil.get_terminal_size().columns - 1]
        click.echo("\r" + line.ljust(len(self._drawn)), nl=False, err=True)
        self._drawn = line

    def _left(self, share: float) -> str:
        now = time.monotonic()
        began, at_first = self._first = self._first or (now, share)
        if share in (1, at_first):
            return ""
        seconds = (now - began) / (share - at_first) * (1 - share)
        return f", {timedelta(seconds=round(seconds))} left"


# How a command that speaks with the service is told where it is, who asks, and how long to wait.
DEFAULT_URL = "http://127.0.0.1:8000"
key_option = click.option(
    "--key",
    "secret_key",
    envvar="FOOTFALL_SECRET_KEY",
    show_envvar=True,
    help="The secret key. Others may read it on the command line: better in the environment, or asked for.",
)
patience_option = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to try again while the service does not answer.",
)


def ask_for_key(url: str, local_key: str) -> str:
    """The secret key, of whoever sits there; on this machine what `python -m service run` takes by default."""
    if is_loopback(url):
        return local_key
    if sys.stdin.isatty():
        answer: str = click.prompt("Secret key", hide_input=True, err=True)
        return answer
    raise click.UsageError("The secret key is missing: put it into FOOTFALL_SECRET_KEY.")


@contextlib.contextmanager
def one_line(*errors: type[Exception]) -> Iterator[None]:
    """These errors, and those of files among them, end the command with one line each and no traceback."""
    try:
        yield
    except BrokenPipeError:
        # `| head` has seen enough. click ends quietly for it.
        raise
    except errors as error:
        text = str(error)
        if isinstance(error, OSError):
            text = f"{error.filename or 'A file'}: {error.strerror or error}"
        raise click.ClickException(text) from None


def units(number: float) -> str:
    """Capacity units, as the summaries have them."""
    return f"{number:,.1f}".removesuffix(".0")
