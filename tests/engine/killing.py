"""Servers on a table that die at a call of a request: real processes, killed with SIGKILL, and started again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import httpx

from service.dynamodb import Table
from tests import faults
from tests.engine.cases import Case
from tests.engine.conftest import NOON
from tests.engine.shop import SECRET_KEY, WRITE_KEY, Shop
from tests.engine.stage import Stage, path_of, sent_until_decided
from tests.server import ROOT

REQUEST_SECONDS = 30


class Server(Shop):
    """A shop in a process of its own, seen over HTTP."""

    def __init__(self, table: Table, client: httpx.Client, pid: int, port: int) -> None:
        self.table = table
        self.pid = pid
        self._http = client
        self._url = f"http://127.0.0.1:{port}"

    def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Any reply, whatever its status."""
        return self._http.request(method, self._url + path, json=body)

    def send_doomed(self, case: Case, fault: faults.Fault) -> None:
        """A request at one of whose calls the process dies; whoever waits for its reply sees the connection end."""
        plan = {faults.PLAN_HEADER: faults.as_json([fault])}
        try:
            answer = self._http.request(case.method, self._url + case.path, json=case.body, headers=plan)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return
        raise AssertionError(f"it outlived {fault}: {answer.text}")


class Nursery:
    """Forks servers from a process that has imported the service, one of them ahead."""

    def __init__(self, table: Table, process: subprocess.Popen[str], client: httpx.Client) -> None:
        self._table = table
        self._process = process
        self._client = client
        self._next = self._forked()
        self.server = self.restarted()

    def restarted(self) -> Server:
        """A new process in the place of the one before."""
        self.server, self._next = self._next, self._forked()
        return self.server

    def exit_code(self, server: Server) -> int:
        """How it ended."""
        return int(self._asked(f"wait {server.pid}"))

    def _forked(self) -> Server:
        pid, port = self._asked("fork").split()
        return Server(self._table, self._client, int(pid), int(port))

    def _asked(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery has ended"
        return answer


@contextlib.contextmanager
def nursery(table: Table, dynamodb_url: str, **variables: str) -> Iterator[Nursery]:
    """With the settings of a stage. In the end nobody is left."""
    environment = (
        os.environ
        | faults.environment(())
        | {
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
            "FOOTFALL_TABLE": table.name,
            "FOOTFALL_WRITE_KEYS": WRITE_KEY,
            "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(SECRET_KEY.encode()).hexdigest(),
            "FOOTFALL_MAX_EVENT_AGE_DAYS": "1",
            faults.NOW_VARIABLE: NOON.isoformat(),
        }
        | {f"FOOTFALL_{name}": value for name, value in variables.items()}
    )
    with (
        tempfile.TemporaryFile() as log,
        httpx.Client(
            trust_env=False, timeout=REQUEST_SECONDS, headers={"authorization": f"Bearer {SECRET_KEY}"}
        ) as client,
        subprocess.Popen(
            [sys.executable, "-m", "tests.faulty_server", "nursery"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Nursery(table, process, client)
        except BaseException:
            log.seek(0)
            print(log.read()[-4000:].decode(errors="replace"))
            raise
        # Leaving ends its input, which ends it and its servers.


def kill(stage: Stage, servers: Nursery, name: str, fault: faults.Fault) -> int:
    """Kill the server at a call of a request, start another, and send it again there. Answers how often."""
    scene = stage.scene(name)
    dying = servers.server
    dying.send_doomed(scene.case, fault)
    assert servers.exit_code(dying) == faults.KILLED_EXIT_CODE
    server = servers.restarted()

    def send(case: Case, cursor: str | None) -> httpx.Response:
        return server.request(case.method, path_of(case, cursor), case.body)

    retries = sent_until_decided(send, scene.case, None)
    stage.assert_as_it_should_be(scene, server)
    stage.afterwards(scene.case)
    return retries
