"""A steady rate of requests, their latencies, and the memory of the process that serves them."""

from __future__ import annotations

import math
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests import server
from tests.soak.shoppers import Expected, Request, Shopper

SECRET = {"authorization": "Bearer dev-secret-key"}
# In the shop at a time. Each has one request under way at most, so these and no more are ever waiting.
SHOPPERS = 24
SENDERS = 12
SAMPLE_SECONDS = 1.0
# Caches fill, threads start and the allocator finds its size.
WARM_UP_SECONDS = 60.0
# What was due in a minute has been answered then.
SHOWN_AFTER_SECONDS = 5.0
SLOPE_MAX_MB = 1.0
P99_RATIO_MAX = 1.3

_Step = tuple[Request, Expected]
_Steps = Iterator[_Step]


def rss_mb(pid: int) -> float:
    """The memory a process has resident, in MB of 2^20 bytes."""
    statm = Path(f"/proc/{pid}/statm")
    if statm.exists():
        pages = int(statm.read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(done.stdout) / 2**10


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """By least squares: how much y grows as x grows by one."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / sum((x - mean_x) ** 2 for x, _ in samples)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Minute:
    """What happened in one."""

    latencies_ms: list[float] = field(default_factory=list)
    rss_mb: float = 0.0


@dataclass(frozen=True)
class _Task:
    """A request that is due at a time."""

    shopper: Shopper
    steps: _Steps
    step: _Step
    due: float
    minute: int


@dataclass
class Soak:
    """A run. `wrong` is what was answered or counted otherwise than it should."""

    dynamodb_url: str
    seconds: float
    rate: float
    seed: int
    show: Callable[[str], None]
    minutes: list[Minute] = field(default_factory=list)
    # Minutes since the first request, and MB.
    memory: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    shoppers: list[Shopper] = field(default_factory=list)
    _idle: list[tuple[Shopper, _Steps]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """All of it; then every shopper is checked."""
        environment = {"AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb_url, "FOOTFALL_TABLE": f"soak-{self.seed}"}
        self.minutes = [Minute() for _ in range(math.ceil(self.seconds / 60))]
        with server.running(environment) as started, _client(started.url) as client:
            self._soak(started, client)
            for shopper in self.shoppers:
                shopper.check(client)
                self.wrong += shopper.wrong

    @property
    def slope_mb(self) -> float:
        """MB a minute, once it is warm."""
        return slope([(x, y) for x, y in self.memory if x * 60 >= min(WARM_UP_SECONDS, self.seconds / 2)])

    @property
    def p99_ratio(self) -> float | None:
        """The last whole minute against the second; None where there are not enough."""
        whole = self.minutes[: int(self.seconds // 60)]
        if len(whole) < 3:
            return None
        return quantile(whole[-1].latencies_ms, 0.99) / quantile(whole[1].latencies_ms, 0.99)

    def _soak(self, started: server.Server, client: httpx.Client) -> None:
        rng = random.Random(self.seed)
        self._idle = [self._next_shopper(rng) for _ in range(SHOPPERS)]
        begun = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as senders:
            under_way: set[Future[None]] = set()
            shown = sampled = 0
            for number in range(int(self.seconds * self.rate)):
                after_seconds = number / self.rate
                time.sleep(max(0, begun + after_seconds - time.monotonic()))
                elapsed = time.monotonic() - begun
                if elapsed >= sampled * SAMPLE_SECONDS:
                    sampled = int(elapsed / SAMPLE_SECONDS) + 1
                    self._sample(started.process.pid, elapsed)
                if after_seconds >= (shown + 1) * 60 + SHOWN_AFTER_SECONDS:
                    self.show(self.line(shown))
                    shown += 1
                task = self._task(rng, begun + after_seconds, int(after_seconds // 60))
                under_way.add(senders.submit(self._send, client, task))
                under_way = _still(under_way)
            _still(set(wait(under_way).done))
        self._sample(started.process.pid, time.monotonic() - begun)
        for number in range(shown, len(self.minutes)):
            self.show(self.line(number))

    def _next_shopper(self, rng: random.Random) -> tuple[Shopper, _Steps]:
        shopper = Shopper(len(self.shoppers), random.Random(rng.getrandbits(64)))
        self.shoppers.append(shopper)
        return shopper, shopper.visit()

    def _task(self, rng: random.Random, due: float, minute: int) -> _Task:
        """The next request of somebody who waits for nothing."""
        while not self._idle:
            # Everybody waits for an answer: what is due is late, and its latency says so.
            time.sleep(0.001)
        shopper, steps = self._idle.pop(rng.randrange(len(self._idle)))
        step = next(steps, None)
        while step is None:
            shopper, steps = self._next_shopper(rng)
            step = next(steps, None)
        return _Task(shopper, steps, step, due, minute)

    def _send(self, client: httpx.Client, task: _Task) -> None:
        (method, path, body), expected = task.step
        for _ in range(20):
            reply = client.request(method, path, json=body)
            if reply.status_code != 503:
                break
            with self._lock:
                self.counts["undecided"] += 1
            # A first try may have counted.
            expected = None
        latency_ms = (time.monotonic() - task.due) * 1000
        with self._lock:
            self.minutes[task.minute].latencies_ms.append(latency_ms)
            self.counts["requests"] += 1
            self.counts["events"] += sum(expected or ())
            self.counts["erasures"] += method == "DELETE"
            if _is_unexpected(reply, expected):
                self.wrong.append(f"{method} {path}: {reply.status_code} {reply.text}, not {expected}")
            self._idle.append((task.shopper, task.steps))

    def _sample(self, pid: int, elapsed: float) -> None:
        found_mb = rss_mb(pid)
        self.memory.append((elapsed / 60, found_mb))
        self.minutes[min(int(elapsed // 60), len(self.minutes) - 1)].rss_mb = found_mb

    # --- words ------------------------------------------------------------------------------------------------------

    @staticmethod
    def heading() -> str:
        return f"{'minute':>6}{'requests':>10}{'p50 ms':>9}{'p99 ms':>9}{'RSS MB':>9}"

    def line(self, number: int) -> str:
        """A minute's row of the table."""
        minute = self.minutes[number]
        found = minute.latencies_ms or [math.nan]
        return (
            f"{number + 1:>6}{len(minute.latencies_ms):>10,}{quantile(found, 0.5):>9.1f}"
            f"{quantile(found, 0.99):>9.1f}{minute.rss_mb:>9.1f}"
        )

    def verdict(self) -> tuple[list[str], bool]:
        """A line for each target, and whether all are met."""
        counts = ", ".join(
            f"{self.counts[name]:,} {name}" for name in ("requests", "events", "erasures", "undecided")
        )
        ratio = self.p99_ratio
        targets = [
            (f"{counts}, {len(self.shoppers):,} people: {len(self.wrong)} wrong", not self.wrong),
            (
                f"memory grows by {self.slope_mb:.2f} MB a minute, target < {SLOPE_MAX_MB:g}",
                self.slope_mb < SLOPE_MAX_MB,
            ),
        ]
        if ratio is not None:
            targets.append(
                (
                    f"p99 of the last minute is {ratio:.2f} times that of the second, target <= {P99_RATIO_MAX:g}",
                    ratio <= P99_RATIO_MAX,
                )
            )
        lines = [f"{words}: {'met' if is_met else 'MISSED'}" for words, is_met in targets]
        return lines + self.wrong[:10], all(is_met for _, is_met in targets)


def _still(under_way: set[Future[None]]) -> set[Future[None]]:
    """Those under way yet. Raises what one of the others raised."""
    for future in under_way:
        if future.done():
            future.result()
    return {future for future in under_way if not future.done()}


def _is_unexpected(reply: httpx.Response, expected: Expected) -> bool:
    if reply.status_code != 200:
        return True
    if expected is None:
        return False
    body = reply.json()
    return (body["accepted"], body["duplicates"], body["rejectedCount"]) != expected


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=SECRET, trust_env=False, timeout=60)
