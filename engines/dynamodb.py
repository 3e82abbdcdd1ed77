"""AWS's DynamoDB Local. Each start is an empty database in memory.

It listens on every interface (it has no option for that), so it is for tests and development.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from . import install, java, process
from .process import Engine

NAME = "DynamoDB Local"
MAIN_CLASS = "software.amazon.dynamodb.services.local.main.ServerRunner"
JAVA_MINIMUM = 17


def jars() -> Path:
    """The folder with its jars, fetched on the first call."""
    return install.jars(NAME, "dynamodb")


@contextlib.contextmanager
def running(port: int | None = None) -> Iterator[Engine]:
    """Start it on `port`, or on a free one, and stop it at the end."""
    runtime = java.find(NAME, JAVA_MINIMUM)
    folder = jars()

    def command(port: int) -> list[str]:
        return [
            runtime.program,
            "-Xmx256m",
            *runtime.options(),
            f"-Dsqlite4java.library.path={folder}",
            f"-Djava.library.path={folder}",
            "-cp",
            f"{folder}{os.sep}*",
            MAIN_CLASS,
            "-inMemory",
            "-sharedDb",
            "-disableTelemetry",
            "-port",
            str(port),
        ]

    # It refuses an unsigned GET, which is an answer.
    with process.running(NAME, command, "/", lambda _: True, port) as engine:
        yield engine
