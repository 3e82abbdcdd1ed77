"""One OpenSearch node, by the codelibs runner and OpenSearchNode.java. It listens on 127.0.0.1 alone.

Without a folder for its data, each start is an empty node.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import install, java, process
from .errors import EngineMissingError
from .process import Engine

NAME = "OpenSearch"
SOURCE = Path(__file__).resolve().parent / "OpenSearchNode.java"
JAVA_MINIMUM = 21
HEALTH = "/_cluster/health?wait_for_status=yellow&timeout=1s"


def jars() -> Path:
    """The folder with its jars and the compiled class, fetched and made on the first call."""
    return install.jars(NAME, "opensearch", _compile)


@contextlib.contextmanager
def running(port: int | None = None, data: Path | None = None) -> Iterator[Engine]:
    """Start it on `port`, or on a free one, and stop it at the end."""
    runtime = java.find(NAME, JAVA_MINIMUM)
    folder = jars()
    with contextlib.ExitStack() as stack:
        # The node may still be deleting its own files when its process has just been killed.
        kept = data or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="opensearch-", ignore_cleanup_errors=True)
        )

        def command(port: int) -> list[str]:
            return [
                runtime.program,
                "-Xms512m",
                "-Xmx512m",
                # OpenSearch counts garbage as memory in use, and answers 429 when that is 95 %. It knows of no other
                # collector how to have the garbage taken away first.
                *runtime.options("G1"),
                "-cp",
                f"{folder}{os.sep}*{os.pathsep}{folder}",
                SOURCE.stem,
                str(port),
                str(kept),
            ]

        yield stack.enter_context(process.running(NAME, command, HEALTH, lambda status: status == 200, port))


def _compile(folder: Path) -> None:
    compiler = java.find(NAME, JAVA_MINIMUM, with_compiler=True).compiler
    if compiler is None:
        raise EngineMissingError(f"{NAME} needs javac at its first start")
    install.run(
        f"javac could not compile {SOURCE.name}",
        [
            compiler,
            "--release",
            str(JAVA_MINIMUM),
            "-nowarn",
            "-proc:none",
            "-cp",
            f"{folder}{os.sep}*",
            "-d",
            str(folder),
            str(SOURCE),
        ],
    )
