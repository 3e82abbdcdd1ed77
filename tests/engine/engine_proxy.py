"""A wire to OpenSearch that breaks where a test says so: an HTTP proxy of this process, on a port of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

Action = Literal[
    "pass",
    "refuse_429",  # not carried out: the queue of the whole node is full
    "refuse_503",
    "refuse_404",  # there is no such call at this address
    "refuse_405",
    "lose_request",  # the connection breaks before anything is carried out
    "lose_reply",  # carried out, then the connection breaks
    "half_429",  # of a bulk every other document is carried out, the others are answered with 429
    "half_500",
]


@dataclass
class Wire:
    """What becomes of the next calls of a kind: their actions in order, then each passes. Each call is listed."""

    url: str = ""
    planned: dict[str, list[Action]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    # Called after a call of a kind was carried out, before its reply goes on.
    hooks: dict[str, Callable[[], object]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, kind: str, *actions: Action) -> None:
        """`kind` is the last part of the path, such as `_bulk`."""
        with self._lock:
            self.planned[kind] = list(actions)
            self.calls.clear()

    def next(self, kind: str) -> Action:
        """What becomes of this one."""
        with self._lock:
            self.calls.append(kind)
            waiting = self.planned.get(kind)
            return waiting.pop(0) if waiting else "pass"


class _Handler(BaseHTTPRequestHandler):
    """`wire` and `host` are of the subclass that `running` makes."""

    protocol_version = "HTTP/1.1"
    wire: ClassVar[Wire]
    host: ClassVar[str]

    def __getattr__(self, name: str) -> Any:
        # do_GET, do_POST, …: any method.
        if name.startswith("do_"):
            return self._any
        raise AttributeError(name)

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = urlsplit(self.path).path.rpartition("/")[2]
        action = self.wire.next(kind)
        if action == "lose_request":
            self.close_connection = True
        elif action.startswith("refuse"):
            self._answer(int(action[-3:]), b'{"error":{"type":"made_by_a_test"}}')
        else:
            self._carry_out(kind, action, body)

    def _carry_out(self, kind: str, action: Action, body: bytes) -> None:
        is_half = action.startswith("half")
        media_type = self.headers["content-type"]
        status, reply = _ask(self.host, self.command, self.path, media_type, _half(body) if is_half else body)
        if kind in self.wire.hooks:
            self.wire.hooks.pop(kind)()
        if action == "lose_reply":
            self.close_connection = True
        else:
            self._answer(status, _other_half(reply, int(action[-3:])) if is_half else reply)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not on the terminal."""


@contextlib.contextmanager
def running(engine_url: str) -> Iterator[Wire]:
    """Pass every call on to the engine, but for what the wire has planned."""
    made = Wire()

    class Handler(_Handler):
        wire = made
        host = urlsplit(engine_url).netloc

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _ask(host: str, method: str, path: str, media_type: str | None, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, path, body or None, {"content-type": media_type} if media_type else {})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def _half(body: bytes) -> bytes:
    """The first, third, … of the actions, two lines each."""
    lines = body.split(b"\n")[:-1]
    kept = [b"\n".join(lines[start : start + 2]) for start in range(0, len(lines), 4)]
    return b"\n".join(kept) + b"\n"


def _other_half(reply: bytes, status: int) -> bytes:
    """As many refused ones, one after each; a bulk of these tests has an even number of documents."""
    refused = {"create": {"status": status, "error": {"type": "made_by_a_test", "reason": "not now"}}}
    items = [both for item in json.loads(reply)["items"] for both in (item, refused)]
    return json.dumps({"errors": True, "items": items}).encode()
