"""CPU time of one invocation, as ratios to a bare handler's that were taken alternately in the same run.

A busy machine makes processor time dearer, up to twice and not alike for all, as programs push each other out of the
caches. So of a process's blocks the cheapest is taken, and valgrind's count of instructions can be asked for, which is
the same on every run; it leaves out the kernel's part.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from bench import shop
from bench.shop import Identity, Shop
from tests.lambda_transport import event_of

ROOT = Path(__file__).resolve().parent.parent
# Handlers take turns in blocks, so that what else the machine does meets all of them alike. Each round has new
# processes: where their memory happens to lie makes some per cent of difference.
ROUNDS = 5
BLOCKS = 16
BLOCK_INVOCATIONS = 20
WARM_UP_INVOCATIONS = 80

VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null")
VALGRIND_INVOCATIONS = 25

FOOTFALL = "service.lambda_http:handler"
UPDATE, QUERY = "one UpdateItem, bare", "one Query, bare"
TEN_EVENTS, TEN_EVENTS_BOTH_IDS = "10 events with a userId", "10 events with both ids, merged"
RANGE = "range query, 30 days of 10 to 100 events"
HANDLERS = {
    UPDATE: "bench.bare:update",
    TEN_EVENTS: FOOTFALL,
    TEN_EVENTS_BOTH_IDS: FOOTFALL,
    QUERY: "bench.bare:query",
    RANGE: FOOTFALL,
}
# What is held against what, and the ratio it has to stay under. Events with both ids need a read more, and no target.
RATIOS: dict[str, tuple[str, float | None]] = {
    TEN_EVENTS: (UPDATE, 2.0),
    TEN_EVENTS_BOTH_IDS: (UPDATE, None),
    RANGE: (QUERY, 1.8),
}

Requests = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Measured:
    """What an invocation took, a figure a round: microseconds, or thousands of instructions."""

    taken: Mapping[str, Sequence[float]]

    def typical(self, name: str) -> float:
        return statistics.median(self.taken[name])

    def ratios(self, name: str) -> list[float]:
        """A ratio a round, in ascending order."""
        base = RATIOS[name][0]
        pairs = zip(self.taken[name], self.taken[base], strict=True)
        return sorted(ours / theirs for ours, theirs in pairs)


def requests_of(footfall: Shop, now: datetime, reader_id: str, count: int, label: str) -> Requests:
    """`count` different requests of each kind, as API Gateway hands them over. Merges asked for are finished here."""
    made: Requests = {name: [] for name in HANDLERS}
    for number in range(count):
        user = {"userId": shop.new_id("user", label, number)}
        both = {
            "userId": shop.new_id("user", label, "both", number),
            "anonymousId": shop.new_id("browser", label, number),
        }
        footfall.send([{"type": "identify", **both, "messageId": f"identify-{label}-{number}"}])
        last = (now - timedelta(days=number % 10)).date()
        days = {"from": (last - timedelta(days=29)).isoformat(), "to": last.isoformat()}
        query = _query(reader_id, days)
        made[UPDATE].append(_request(_post("track", shop.visit_event(user, now, 2)), '"success"'))
        made[TEN_EVENTS].append(_request(_post("batch", _batch(user, now)), '"accepted":10,'))
        made[TEN_EVENTS_BOTH_IDS].append(_request(_post("batch", _batch(both, now)), '"accepted":10,'))
        made[QUERY].append(_request(query, '"activeDays": 30'))
        made[RANGE].append(_request(query, '"activeDays":30'))
    return made


def measure(url: str, requests: Requests, folder: Path, *, rounds: int = ROUNDS) -> Measured:
    """Let the handlers take turns on the DynamoDB at this URL."""
    taken: dict[str, list[float]] = {name: [] for name in HANDLERS}
    files = _files(requests, folder)
    for _ in range(rounds):
        blocks: dict[str, list[float]] = {name: [] for name in HANDLERS}
        with contextlib.ExitStack() as stack:
            workers = {
                name: stack.enter_context(_worker(HANDLERS[name], files[name], url)) for name in HANDLERS
            }
            for name in HANDLERS:
                _invoke(workers[name], WARM_UP_INVOCATIONS)
            for _ in range(BLOCKS):
                for name in HANDLERS:
                    blocks[name].append(_invoke(workers[name], BLOCK_INVOCATIONS))
        for name in HANDLERS:
            taken[name].append(min(blocks[name]))
    return Measured(taken)


def instructions(url: str, requests: Requests, folder: Path) -> Measured:
    """Thousands of instructions of an invocation, by valgrind, which counts the same on every run.

    Without the garbage collector: one whole collection among so few invocations would be a tenth of the figure.
    """
    counted: dict[str, list[float]] = {}
    for name, file in _files(requests, folder).items():
        with _worker(HANDLERS[name], file, url, is_counted=True) as worker:
            _invoke(worker, VALGRIND_INVOCATIONS)
            for state in ("on", "off"):
                command = ["callgrind_control", "-i", state, str(worker.pid)]
                subprocess.run(command, check=True, capture_output=True)
                # The tool obeys when the process next runs.
                _invoke(worker, VALGRIND_INVOCATIONS if state == "on" else 1)
            assert worker.stdin is not None
            assert worker.stderr is not None
            worker.stdin.close()
            found = re.search(r"Collected : (\d+)", worker.stderr.read())
        assert found is not None, "valgrind told no count"
        counted[name] = [int(found[1]) / VALGRIND_INVOCATIONS / 1000]
    return Measured(counted)


def _files(requests: Requests, folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for number, name in enumerate(HANDLERS):
        files[name] = folder / f"requests-{number}.json"
        files[name].write_text(json.dumps(requests[name]), encoding="utf-8")
    return files


@contextlib.contextmanager
def recorder(engine_url: str) -> Iterator[str]:
    """The stand-in for this engine, in a process of its own."""
    command = [sys.executable, "-m", "bench.recorder", engine_url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@contextlib.contextmanager
def _worker(
    handler: str, requests: Path, url: str, *, is_counted: bool = False
) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        **shop.settings_environment(),
        "AWS_ENDPOINT_URL_DYNAMODB": url,
        # A set's order is part of what is sent, and the stand-in knows a request by what is sent.
        "PYTHONHASHSEED": "0",
    }
    command = [sys.executable, "-m", "bench.worker", handler, str(requests)]
    if is_counted:
        command = [*VALGRIND, *command, "without-gc"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe if is_counted else None,
        text=True,
    ) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()


def _invoke(worker: subprocess.Popen[str], count: int) -> float:
    """Microseconds an invocation."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{count}\n")
    worker.stdin.flush()
    return int(worker.stdout.readline()) / count / 1000


def _batch(identity: Identity, now: datetime) -> dict[str, Any]:
    return {
        "batch": [shop.visit_event(identity, now, number) for number in range(10)],
        "sentAt": now.isoformat(),
    }


def _post(name: str, document: dict[str, Any]) -> dict[str, Any]:
    request = httpx.Request("POST", f"{shop.API_URL}/v1/{name}", json=document, headers=shop.WRITER)
    return event_of(request) | {"routeKey": f"POST /v1/{name}"}


def _query(user_id: str, days: dict[str, str]) -> dict[str, Any]:
    request = httpx.Request(
        "GET", f"{shop.API_URL}/v1/users/{user_id}/metrics", params=days, headers=shop.READER
    )
    return event_of(request) | {
        "routeKey": "GET /v1/users/{userId}/metrics",
        "pathParameters": {"userId": user_id},
    }


def _request(event: dict[str, Any], expected: str) -> dict[str, Any]:
    return {"event": event, "expected": expected}
