"""The quick start, run: each `curl` of README.md goes to a server, and answers what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests import server
from tests.conftest import skip_or_fail
from tests.pages import ROOT, Command, commands

if shutil.which("curl") is None:
    skip_or_fail("the quick start is for curl, which is not on the PATH")

SHOWN_URL = "http://127.0.0.1:8000"
README = ROOT / "README.md"
UPGRADING = ROOT / "docs" / "upgrading.md"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@pytest.fixture(scope="module")
def started() -> Iterator[server.Server]:
    """A server as `make run` starts it, where no midnight comes between two commands."""
    with server.running(server.at_noon()) as running:
        yield running


def curl_commands(page: Path) -> list[Command]:
    return [command for command in commands(page) if command.text.startswith("curl ")]


def answer(started: server.Server, command: Command) -> str:
    """What a command of the page says on that server."""
    done = subprocess.run(
        ["sh", "-c", command.text.replace(SHOWN_URL, started.url)],
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def since(text: str, today: date) -> str:
    """Dates by their distance from a day, and whatever zone it was in."""
    text = re.sub(r'"(timezone|erasedAt)":"[^"]+"', r'"\1":"…"', text)
    return _DAY.sub(
        lambda found: f"today{(date.fromisoformat(found[0]) - today) // timedelta(days=1):+d}", text
    )


def test_make_run_says_what_the_page_shows(started: server.Server) -> None:
    shown = next(command for command in commands(README) if command.text == "make run")

    assert started.output().startswith(shown.output.replace(SHOWN_URL, started.url))


def test_each_request_of_the_page_is_answered_as_it_shows(started: server.Server) -> None:
    asked = curl_commands(README)
    answers = [answer(started, command) for command in asked]
    # The page's day is the last it names, and so is this run's.
    metrics = next(number for number, command in enumerate(asked) if "/metrics" in command.text)
    shown_day, this_day = (max(_DAY.findall(text)) for text in (asked[metrics].output, answers[metrics]))

    assert len(asked) == 6
    for command, said in zip(asked, answers, strict=True):
        assert since(said, date.fromisoformat(this_day)) == since(
            command.output.strip(), date.fromisoformat(shown_day)
        ), command.text


def test_the_version_is_where_the_page_on_upgrading_says(started: server.Server) -> None:
    (command,) = curl_commands(UPGRADING)

    assert answer(started, command) == command.output.strip()
