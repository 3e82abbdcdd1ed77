"""A client of HTTP/1.1 on a bare socket, a third of whose connections is cut where it hurts."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

SECRET_KEY = "dev-secret-key"
DECIDED_SECONDS = 180
PAUSE_SECONDS_MAX = 0.2
# Of one connection; then it is another process's turn.
REQUESTS_MAX = 5
TIMEOUT_SECONDS = 60
# Some are closed before their time comes: of all connections a third is cut.
FATED = 0.4
# A cut in the middle of a reply is somewhere in its first bytes: later, small replies would have arrived whole.
REPLY_BYTES_BEFORE_CUT = 400

Json = dict[str, Any]


class Cut(Enum):
    """Where a connection ends."""

    IN_REQUEST = "in the request"
    BEFORE_REPLY = "before the reply"
    IN_REPLY = "in the reply"


class LostError(Exception):
    """The connection ended before the reply was there."""


@dataclass(frozen=True)
class Request:
    """A request of the storm, sent until it is decided."""

    method: str
    path: str
    body: Json | None = None

    def data(self) -> bytes:
        """As it goes over the wire."""
        body = b"" if self.body is None else json.dumps(self.body).encode()
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {SECRET_KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True)
class Reply:
    """What decided a request."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        """The body; amounts are decimals."""
        return json.loads(self.text, parse_float=Decimal, parse_int=Decimal)

    def lines(self) -> list[Any]:
        """The body, where it is NDJSON."""
        return [
            json.loads(line, parse_float=Decimal, parse_int=Decimal)
            for line in self.text.splitlines()
            if line
        ]


@dataclass
class Tally:
    """What happened so far, over all threads."""

    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self.counts[name] += number

    def __getitem__(self, name: str) -> int:
        with self._lock:
            return self.counts[name]


class Connection:
    """One TCP connection; it may be fated to be cut at one of its requests."""

    def __init__(self, url: str, rng: random.Random, tally: Tally, *, may_be_cut: bool = True) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self.requests = 0
        self._rng = rng
        self._tally = tally
        self._cut: Cut | None = None
        self._cut_at = 0
        if may_be_cut and rng.random() < FATED:
            self._cut, self._cut_at = rng.choice(tuple(Cut)), rng.randint(1, REQUESTS_MAX - 1)
        try:
            self._socket = socket.create_connection((address.hostname, address.port), TIMEOUT_SECONDS)
        except OSError as error:
            raise LostError from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tally.add("connections")

    def close(self) -> None:
        self._socket.close()

    def send(self, request: Request) -> Reply:
        """Raises LostError when the connection ends before the reply."""
        self.requests += 1
        cut = self._cut if self.requests == self._cut_at else None
        data = request.data()
        self._tally.add("sends")
        try:
            if cut is Cut.IN_REQUEST:
                self._socket.sendall(data[: self._rng.randrange(1, len(data))])
                return self._end(cut)
            # Before it is sent: whoever waits for the server to have answered all of these must not miss one.
            self._tally.add(f"whole {request.method}")
            self._socket.sendall(data)
            if cut is Cut.BEFORE_REPLY:
                time.sleep(self._rng.choice((0, 0.001, 0.01, 0.05)))
                return self._end(cut)
            if cut is Cut.IN_REPLY:
                self._socket.recv(self._rng.randrange(1, REPLY_BYTES_BEFORE_CUT))
                return self._end(cut)
            return self._reply()
        except OSError as error:
            raise LostError from error

    def _end(self, cut: Cut) -> Reply:
        self.close()
        self._tally.add("cuts")
        self._tally.add(f"cuts {cut.value}")
        raise LostError

    def _reply(self) -> Reply:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._received()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (f.partition(": ") for f in fields)}
        while len(body) < int(headers["content-length"]):
            body += self._received()
        return Reply(int(first.split(" ")[1]), headers, body.decode())

    def _received(self) -> bytes:
        data = self._socket.recv(65_536)
        if not data:
            raise LostError
        return data


class Client:
    """Sends each request until it is decided, on connections that end soon."""

    def __init__(self, url: str, rng: random.Random, tally: Tally, *, may_be_cut: bool = True) -> None:
        self._url = url
        self._rng = rng
        self._tally = tally
        self._may_be_cut = may_be_cut
        self._connection: Connection | None = None

    def decide(self, request: Request) -> Reply:
        """The reply that decided it: any but a 503."""
        if request.method == "DELETE":
            # On a connection of a while ago it could go out whole, and the server have hung up: see Eraser.settle.
            self.close()
        pause_seconds = 0.02
        deadline = time.monotonic() + DECIDED_SECONDS
        while time.monotonic() < deadline:
            try:
                reply = self._connected().send(request)
            except LostError:
                self.close()
                continue
            if reply.status != 503:
                self._tally.add("requests")
                return reply
            self._tally.add("undecided")
            time.sleep(self._rng.uniform(0, pause_seconds))
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        raise AssertionError(f"{request.method} {request.path} was never decided")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is not None and self._connection.requests >= REQUESTS_MAX:
            self.close()
        if self._connection is None:
            self._connection = Connection(self._url, self._rng, self._tally, may_be_cut=self._may_be_cut)
        return self._connection
