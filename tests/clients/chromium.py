"""A browser on a shop's pages, which are of another origin than the service."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

DEADLINE_SECONDS = 30
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def until(page: Page, is_so: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Wait while the browser goes on; half a minute at the most."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        page.wait_for_timeout(50)


@contextlib.contextmanager
def shop(files: Mapping[str, str]) -> Iterator[str]:
    """The shop's own server with these files; its URL is of no origin the service knows."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = files
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        # The service's host is 127.0.0.1: this is another site to a browser, and not only another origin.
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    files: Mapping[str, str]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser closes connections as it likes."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/") or "index.html"
        text = self.server.files.get(name)
        self.send_response(200 if text is not None else 404)
        self.send_header("content-type", _TYPES.get(name[name.rfind(".") :], "text/plain"))
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
