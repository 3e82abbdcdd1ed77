"""What the tests of `python -m service import` run it with: files, the command, and a proxy that says what it sent."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests import server

DEV = {"Authorization": "Bearer dev-secret-key"}
DAY = "2012-05-01"
# Long before anything a test waits for would take so long by itself.
TIMEOUT_SECONDS = 60

Json = dict[str, Any]


def line(**overrides: Any) -> Json:
    event = {"type": "track", "event": "Viewed", "userId": "u-1", "timestamp": f"{DAY}T12:00:00Z"} | overrides
    return {name: value for name, value in event.items() if value is not ...}


def write(path: Path, *lines: Json | str) -> Path:
    texts = (text if isinstance(text, str) else json.dumps(text) for text in lines)
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def started(file: Path, url: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service", "import", str(file), "--url", url, *arguments],
        cwd=server.ROOT,
        env=os.environ | {"FOOTFALL_SECRET_KEY": "dev-secret-key"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert "Traceback" not in errors, errors
    return process.returncode, output, errors


def imported(file: Path, url: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    return done(started(file, url, *arguments, **environment))


def summary(output: str) -> list[int]:
    """accepted, duplicates, rejected, bad lines."""
    rows = [row.split() for row in output.splitlines()]
    assert [row[0] for row in rows] == ["accepted", "duplicates", "rejected", "bad", "consumed"], output
    return [int(row[1 + (row[0] == "bad")].replace(",", "")) for row in rows[:4]]


def totals(service: server.Server, user: str) -> Json:
    reply = httpx.get(
        f"{service.url}/v1/users/{user}/metrics",
        params={"from": DAY, "to": DAY},
        headers=DEV,
        trust_env=False,
    )
    assert reply.status_code == 200, reply.text
    found: Json = reply.json()["totals"]
    return found


def kept_back(file: Path) -> list[Json]:
    path = file.with_name(file.name + ".rejected.ndjson")
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def beside(file: Path) -> set[str]:
    return {path.name for path in file.parent.iterdir()} - {file.name}


@contextlib.contextmanager
def counting_proxy(
    upstream: str,
    *,
    answers: Sequence[tuple[int, dict[str, str]] | None] = (),
    fail_after: int | None = None,
    events_max: int = 10_000,
    too_many: int = 503,
) -> Iterator[tuple[str, list[Json]]]:
    """Between the import and a service: gives these answers first (None: the service's own), cuts the line after so
    many, notes the bodies.

    The service has time for `events_max`; more are answered with the status `too_many`.
    """
    seen: list[Json] = []
    waiting = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            text = gzip.decompress(body)
            seen.append({"bytes": len(text), "events": len(json.loads(text)["batch"]), "path": self.path})
            if fail_after is not None and len(seen) > fail_after:
                self.close_connection = True
                return
            has_time = seen[-1]["events"] <= events_max
            planned = waiting.pop(0) if waiting else None if has_time else (too_many, {"Retry-After": "0"})
            if planned is not None:
                self.answer(planned[0], b"busy", planned[1])
                return
            reply = httpx.post(
                upstream + self.path,
                content=body,
                headers={**DEV, "Content-Encoding": "gzip"},
                trust_env=False,
                timeout=60,
            )
            self.answer(reply.status_code, reply.content, {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}", seen
        finally:
            listening.shutdown()
            thread.join()
