"""The service as its own process: `python -m service run`, as a person or a container starts it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import httpx

from tests import faults
from tests.dynamodb_local import free_port

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 15


def at_noon() -> dict[str, str]:
    """Variables for a server in a zone where it is noon: for eleven hours no midnight comes between two requests."""
    ahead = 12 - datetime.now(UTC).hour
    # The signs of these names are turned round: Etc/GMT-5 is five hours ahead.
    return {"FOOTFALL_TIMEZONE": f"Etc/GMT{-ahead:+d}" if ahead else "UTC"}


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def output(self) -> str:
        """What it printed so far, both streams together."""
        return Path(self.log.name).read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def running(
    environment: Mapping[str, str] | None = None,
    *,
    planned_faults: Sequence[faults.Fault] = (),
    fault_log: Path | None = None,
) -> Iterator[Server]:
    """Start a server on a free port with these variables added, hand it over, and interrupt it at the end.

    With `planned_faults` or a `fault_log` its wire to the database is spoiled or listed; the calls of its
    start are counted too, and each worker process counts for itself.
    """
    port = free_port()
    variables = os.environ | {"PORT": str(port), "PYTHONUNBUFFERED": "1"} | dict(environment or {})
    module = "service"
    if planned_faults or fault_log is not None:
        module = "tests.faulty_server"
        variables |= faults.environment(planned_faults, fault_log)
    with tempfile.NamedTemporaryFile(prefix="footfall-server-", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "run"],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C in the terminal ends the tests, and they end the server.
            start_new_session=True,
        )
        server = Server(f"http://127.0.0.1:{variables['PORT']}", process, log)
        try:
            _wait_until_healthy(server)
            yield server
        finally:
            _stop(process)


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    # No proxy and no other setting of the environment may come between the test and its own machine.
    with httpx.Client(trust_env=False, timeout=2) as client:
        while time.monotonic() < deadline:
            code = server.process.poll()
            if code is not None:
                raise AssertionError(f"the server ended with {code} before it answered:\n{server.output()}")
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{server.url}/health").status_code == 200:
                    return
            time.sleep(0.05)
    raise AssertionError(f"the server did not answer within {START_SECONDS} s:\n{server.output()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it as Ctrl-C does; a server that does not end then is a failure, and is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        raise AssertionError(f"the server was still there {STOP_SECONDS} s after an interrupt") from None
    # Workers of a server that died by itself would live on.
    _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The group is led by our own child, and nobody else is in it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
