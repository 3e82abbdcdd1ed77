"""Something that answers every search alike: an engine without a document, or one in trouble. A socket, not a mock."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EMPTY: dict[str, Any] = {"timed_out": False, "_shards": {"failed": 0}}


@dataclass
class Canned:
    """What it answers, and what it was asked. `waits` keeps it from answering until it is set.

    Whose its index is, it says at once: `template`, a status and a body. `looked_up` are the paths of those requests.
    """

    url: str = ""
    status: int = 200
    body: bytes = json.dumps(EMPTY).encode()
    waits: threading.Event | None = None
    # By what it was asked, instead of `body`.
    answers: Callable[[dict[str, Any]], object] | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    template: tuple[int, object] = (404, {"error": {"type": "resource_not_found_exception"}, "status": 404})
    looked_up: list[str] = field(default_factory=list)

    def is_of(self, table: str) -> None:
        """Its index is made from this table."""
        self.template = (200, {"index_templates": [{"index_template": {"_meta": {"table": table}}}]})

    def says(self, body: object, status: int = 200) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status


@contextlib.contextmanager
def running() -> Iterator[Canned]:
    """One that listens on this machine."""
    canned = Canned()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"{}")
            if self.path.startswith("/_index_template/"):
                canned.looked_up.append(self.path)
                status, said = canned.template
                self.say(status, json.dumps(said).encode())
                return
            canned.asked.append((self.path, asked))
            if canned.waits is not None:
                canned.waits.wait(30)
            body = canned.body if canned.answers is None else json.dumps(canned.answers(asked)).encode()
            self.say(canned.status, body)

        def say(self, status: int, body: bytes) -> None:
            with contextlib.suppress(OSError):  # whoever asked may have gone
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    canned.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield canned
    finally:
        if canned.waits is not None:
            canned.waits.set()
        server.shutdown()
        server.server_close()
        thread.join()
