"""What stands between a client and the service in these tests: a wire that spoils some replies, and remembers.

A request that carries an event nobody has sent before is *fresh*, and the plan says what becomes of it; a repetition
always passes, so a client that tries again succeeds. Preflights and reads pass too.
"""

from __future__ import annotations

import contextlib
import enum
import gzip
import http.client
import itertools
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from service.problems import MEDIA_TYPE, Unavailable

# Shorter than the service's own: a client that waits is waited for.
RETRY_AFTER_SECONDS = 1
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})


class Deed(enum.Enum):
    """What becomes of a fresh request."""

    PASS = "passed on, and answered"
    LOSE = "passed on, and the connection closed instead of the reply"
    HALVE = "passed on, and the connection closed in the middle of the reply"
    REFUSE = "not passed on; answered 503 with Retry-After"


@dataclass
class Request:
    """One delivery of events."""

    path: str
    headers: Mapping[str, str]
    events: Sequence[dict[str, Any]]
    deed: Deed
    # What the service said when it had decided them all, whether the client heard it or not.
    reply: dict[str, Any] | None = None

    def message_ids(self) -> list[str]:
        return [event["messageId"] for event in self.events]


@dataclass
class Gateway:
    """Where clients send their events, and what they sent."""

    url: str
    # What becomes of fresh requests, again and again in this order.
    plan: Sequence[Deed] = (Deed.PASS,)
    # As long as it is mute, no reply gets through, not even to a repetition.
    is_mute: bool = False
    requests: list[Request] = field(default_factory=list)
    preflights: list[str] = field(default_factory=list)
    _fresh: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def deliveries(self) -> Counter[str]:
        """How often each event arrived at the service."""
        arrived = (request for request in self.requests if request.reply is not None)
        return Counter(itertools.chain.from_iterable(request.message_ids() for request in arrived))

    def acknowledged(self) -> set[str]:
        """The events of which the client was told that they arrived."""
        answered = (request for request in self.requests if request.deed is Deed.PASS and request.reply)
        return set(itertools.chain.from_iterable(request.message_ids() for request in answered))

    def events(self) -> list[dict[str, Any]]:
        """The events that have arrived, each once."""
        arrived = (request.events for request in self.requests if request.reply is not None)
        return list({event["messageId"]: event for event in itertools.chain.from_iterable(arrived)}.values())

    def rejected(self) -> list[Any]:
        """What the service refused of them: nothing, if a client sends what the service understands."""
        replies = [request.reply for request in self.requests if request.reply is not None]
        return list(itertools.chain.from_iterable(reply["rejected"] for reply in replies))

    def deeds(self) -> set[Deed]:
        """What became of the requests, of each kind of which there was one at least."""
        return {request.deed for request in self.requests}

    def noted(self, path: str, headers: Mapping[str, str], body: bytes) -> Request:
        """What to do with these events."""
        events = events_of(headers, body)
        with self._lock:
            known = {id_ for request in self.requests for id_ in request.message_ids()}
            is_fresh = not known.issuperset(event["messageId"] for event in events)
            deed = self.plan[next(self._fresh) % len(self.plan)] if is_fresh else Deed.PASS
            if self.is_mute:
                deed = Deed.LOSE
            request = Request(path, headers, events, deed)
            self.requests.append(request)
            return request


def events_of(headers: Mapping[str, str], body: bytes) -> list[dict[str, Any]]:
    """The events of a body, whether it is a batch or one of them."""
    text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    document = json.loads(text)
    events: list[dict[str, Any]] = document.get("batch", [document])
    return events


@contextlib.contextmanager
def running(upstream: str) -> Iterator[Gateway]:
    """A gateway on a free port in front of the service at this URL."""
    server = _Server(("127.0.0.1", 0), _Handler)
    gateway = Gateway(f"http://127.0.0.1:{server.server_port}")
    server.gateway = gateway
    server.upstream = urlsplit(upstream).netloc
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    gateway: Gateway
    upstream: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report: browsers do it with every page that is closed."""


class _Handler(BaseHTTPRequestHandler):
    # Clients keep a connection, and a browser treats one that it had used before in its own way.
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._reply(self._forwarded(b""))

    def do_OPTIONS(self) -> None:
        self.server.gateway.preflights.append(self.path)
        self._reply(self._forwarded(b""))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = self.server.gateway.noted(self.path, headers, body)
        if request.deed is Deed.REFUSE:
            # The service's answer to nothing brings the headers that the gateway adds to every reply.
            _, headers_of_reply, _ = self._forwarded(b"")
            self._reply((503, {**headers_of_reply, **_UNAVAILABLE}, Unavailable().body()))
            return
        status, headers_of_reply, reply = self._forwarded(body)
        if status == 200:
            request.reply = json.loads(reply)
        if request.deed is Deed.PASS:
            self._reply((status, headers_of_reply, reply))
            return
        if request.deed is Deed.HALVE:
            self._reply((status, headers_of_reply, reply), written=len(reply) // 2)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # To the service it is the address that the client asked for, as behind API Gateway.
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        with contextlib.closing(http.client.HTTPConnection(self.server.upstream, timeout=30)) as connection:
            connection.request(self.command, self.path, body or None, headers)
            reply = connection.getresponse()
            kept = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, kept, reply.read()

    def _reply(self, reply: tuple[int, dict[str, str], bytes], *, written: int | None = None) -> None:
        status, headers, body = reply
        self.send_response_only(status)
        for name, value in headers.items():
            if name not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:written])

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests ask what was sent."""


_UNAVAILABLE = {"content-type": MEDIA_TYPE, "retry-after": str(RETRY_AFTER_SECONDS)}
