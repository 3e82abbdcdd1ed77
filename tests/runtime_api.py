"""The Lambda Runtime API, as far as AWS's runtime client for Python asks it.

It hands a handler process one event after the other and takes the replies:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
What Lambda does around it (freezing, memory, killing at the deadline) is not here.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "2018-06-01"
FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:footfall"
REPLY_SECONDS = 60
STOP_SECONDS = 10


class InvocationError(Exception):
    """The handler raised, could not be imported, or its process ended; the message holds what it said."""


class RuntimeApi:
    """One function's queue: `invoke` puts an event in and waits for the process's reply."""

    def __init__(self, timeout_seconds: int) -> None:
        self.timeout_seconds = timeout_seconds
        self.events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.replies: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.process: subprocess.Popen[bytes] | None = None

    def invoke(self, event: dict[str, Any], _context: object = None) -> dict[str, Any]:
        """The handler's reply to an event; the signature is that of a handler, so it stands in for one."""
        self.events.put((str(uuid.uuid4()), json.dumps(event).encode()))
        kind, body = self._reply()
        if kind != "response":
            raise InvocationError(f"{kind}: {body.decode(errors='replace')}")
        reply: dict[str, Any] = json.loads(body)
        return reply

    def _reply(self) -> tuple[str, bytes]:
        deadline = time.monotonic() + REPLY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                return self.replies.get(timeout=0.05)
            if self.process is not None and self.process.poll() is not None and self.replies.empty():
                raise InvocationError(f"the function's process ended with {self.process.returncode}")
        raise InvocationError(f"no reply within {REPLY_SECONDS} s")


@contextlib.contextmanager
def running(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout_seconds: int = 20
) -> Iterator[RuntimeApi]:
    """Start a runtime client with AWS_LAMBDA_RUNTIME_API pointing here; end it with the block."""
    api = RuntimeApi(timeout_seconds)

    class Handler(_Handler):
        runtime = api

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    variables = dict(environment) | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}"}
    process = subprocess.Popen(command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL)
    api.process = process
    try:
        yield api
    finally:
        # It waits for the next event for ever, which is what Lambda's sandbox is killed in, too.
        process.kill()
        process.wait(STOP_SECONDS)
        server.shutdown()
        server.server_close()
        thread.join(STOP_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    runtime: RuntimeApi

    def do_GET(self) -> None:
        """Hand out the next event, waiting for one as Lambda does."""
        if self.path != f"/{VERSION}/runtime/invocation/next":
            self._answer(404, b"{}")
            return
        request_id, event = self.runtime.events.get()
        deadline_ms = int((time.time() + self.runtime.timeout_seconds) * 1000)
        self._answer(
            200,
            event,
            {
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                "Lambda-Runtime-Trace-Id": "Root=1-69210f00-0123456789abcdef01234567;Sampled=0",
            },
        )

    def do_POST(self) -> None:
        """Take a reply, an error of the handler, or an error of its import."""
        kind = self.path.rsplit("/", 1)[-1]
        self.runtime.replies.put((f"init {kind}" if "/init/" in self.path else kind, self._body()))
        self._answer(202, b'{"status":"OK"}')

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        # Without a Content-Type here awslambdaric 4.2.2 dies of a segmentation fault.
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the function's own output is what a failing test should show."""
