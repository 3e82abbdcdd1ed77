"""Starting an engine, waiting until it answers, and stopping it: the process started here and no other."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from .errors import EngineError
from .install import last_lines

START_SECONDS = 90
STOP_SECONDS = 15


@dataclass(frozen=True)
class Engine:
    """One that answers."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def check(self) -> None:
        """Raises EngineError when it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise EngineError(f"{self.name} ended with {code}: {_said(self.log)}")


@contextlib.contextmanager
def running(
    name: str,
    command: Callable[[int], list[str]],
    path: str,
    is_ready: Callable[[int], bool],
    port: int | None,
) -> Iterator[Engine]:
    """Start the command on `port`, or on a free one, and stop it at the end.

    It is handed over when GET `path` answers with a status that `is_ready` takes.
    """
    with tempfile.TemporaryFile() as log:
        engine = _start(name, command, path, is_ready, port, log)
        try:
            yield engine
        finally:
            engine.process.terminate()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    engine.process.wait(STOP_SECONDS)
            finally:
                # Also when a second Ctrl-C cuts the wait short. Nothing happens to one that has ended.
                engine.process.kill()
                engine.process.wait()


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(
    name: str,
    command: Callable[[int], list[str]],
    path: str,
    is_ready: Callable[[int], bool],
    wanted_port: int | None,
    log: IO[bytes],
) -> Engine:
    # A free port can be taken by somebody else before the engine binds it, hence a few tries.
    for _ in range(1 if wanted_port else 3):
        port = wanted_port or free_port()
        if _is_taken(port):
            raise EngineError(f"port {port} is taken")
        arguments = command(port)
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            if _wait_until_ready(name, process, port, path, is_ready):
                return Engine(name, f"http://127.0.0.1:{port}", process, log)
        except BaseException:
            process.kill()
            process.wait()
            raise
    raise EngineError(f"{name} did not start with {arguments[0]}: {_said(log)}")


def _wait_until_ready(
    name: str, process: subprocess.Popen[bytes], port: int, path: str, is_ready: Callable[[int], bool]
) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        status = _status(port, path)
        if status is not None and is_ready(status):
            return True
        time.sleep(0.05)
    raise EngineError(f"{name} did not answer on port {port} within {START_SECONDS} s")


def _status(port: int, path: str) -> int | None:
    """What HTTP status this path answers with; None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return reply.status


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _said(log: IO[bytes]) -> str:
    log.seek(0)
    return last_lines(log.read().decode(errors="replace"))
