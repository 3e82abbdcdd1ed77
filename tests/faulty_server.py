"""The service as it is, on a wire that breaks as planned. The plan comes from the environment (`faults.environment`).

`python -m tests.faulty_server run` is `python -m service run` on that wire.

`python -m tests.faulty_server nursery` has everything imported and forks a server at each `fork` on its standard input,
answered by its process id and port: a server that is killed at each call of each request has to start quickly. `wait`
and a process id are answered by how that process ended. Their clock stands at FAULTS_NOW, and a request brings its
own plan in the header X-Faults, whose calls are counted from that request on.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import socket
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from tests import faults

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.dynamodb import Table

# Here and not under the guard below: server workers are spawned, and each imports the main module again.
_wire = faults.install_from_environment(os.environ)


class _Planned:
    """The application, each of whose requests may bring a plan."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan = dict(scope.get("headers", ())).get(faults.PLAN_HEADER.encode())
        if plan is not None:
            _wire.plan(faults.from_json(plan.decode()))
        await self._app(scope, receive, send)


def _nursery() -> None:
    # Not at the top: a worker of `run` has its own way to import them.
    from service import erasure
    from service.app import create_app
    from service.dev import deployment

    settings, table = deployment(os.environ)
    # An erasure makes as few calls as with the settings of a stage.
    setattr(erasure, "AGE_DAYS_MAX", settings.max_event_age_days)  # noqa: B010 - not among what it exports
    now = datetime.fromisoformat(os.environ[faults.NOW_VARIABLE])
    app = create_app(settings, table, lambda: now)
    gc.freeze()
    living: set[int] = set()
    try:
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "fork":
                # It listens before it runs, so nobody has to ask whether it is there yet.
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    pid = os.fork()
                    if pid == 0:
                        _serve(app, table, listener)
                    living.add(pid)
                    print(pid, listener.getsockname()[1], flush=True)
            else:
                pid = int(arguments[0])
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
                living.remove(pid)
    finally:
        for pid in living:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _serve(app: FastAPI, table: Table, listener: socket.socket) -> NoReturn:
    import uvicorn

    try:
        # The nursery's standard input and output are not its children's.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        app.state.service.check_timezone(table.calls(time.monotonic() + 10))
        server = uvicorn.Server(uvicorn.Config(_Planned(app), log_config=None, access_log=False))
        server.run(sockets=[listener])
    finally:
        os._exit(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["nursery"]:
        _nursery()
    else:
        runpy.run_module("service", run_name="__main__")
