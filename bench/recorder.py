"""Stands in for DynamoDB at no cost: the first time it is asked something it asks the engine, and from then on repeats
the engine's answer, headers and all. So no engine's work is on the processor while handlers are measured.

    python -m bench.recorder http://127.0.0.1:8001      prints its own URL, serves until its standard input ends
"""

from __future__ import annotations

import http.client
import socketserver
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

_engine = ""
_recorded: dict[tuple[str, bytes], bytes] = {}
_lock = threading.Lock()
_HOP_HEADERS = ("connection", "transfer-encoding", "content-length", "keep-alive")


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while (head := self._head()) is not None:
            body = self.rfile.read(int(head.get("content-length", "0")))
            question = (head["x-amz-target"], body)
            if question not in _recorded:
                with _lock:
                    _recorded.setdefault(question, _ask(head, body))
            self.wfile.write(_recorded[question])

    def _head(self) -> dict[str, str] | None:
        if not self.rfile.readline():
            return None
        headers: dict[str, str] = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return headers


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def _ask(head: dict[str, str], body: bytes) -> bytes:
    connection = http.client.HTTPConnection(_engine, timeout=30)
    headers: dict[str, Any] = {name: value for name, value in head.items() if name not in _HOP_HEADERS}
    connection.request("POST", "/", body, headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    lines = [f"{name}: {value}" for name, value in reply.getheaders() if name.lower() not in _HOP_HEADERS]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join([f"HTTP/1.1 {reply.status} {reply.reason}", *lines]).encode("latin-1") + content


def main() -> None:
    global _engine
    _engine = urlsplit(sys.argv[1]).netloc
    with _Server(("127.0.0.1", 0), _Connection) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
