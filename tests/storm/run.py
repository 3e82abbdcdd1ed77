"""Round after round of the storm on one table, by server processes whose wire breaks."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests import faults, server
from tests.storm.erasing import Eraser
from tests.storm.judge import Answer, Judge
from tests.storm.model import Erasure, Model
from tests.storm.plan import Plan, Size, batches, in_order, planned
from tests.storm.raw import Auditor
from tests.storm.wire import Client, Request, Tally

PROCESSES = 4
CLIENTS = 16
# Calls a process may make until its wire holds; another lot of processes comes before that.
SHAKY_CALLS = 6_000
SETTLE_SECONDS = 60.0

Task = Callable[[Client], None]


def shaky_wire(rng: random.Random, calls: int = SHAKY_CALLS) -> list[faults.Fault]:
    """Now and then a call goes wrong; each process counts its own."""
    every = None
    ways = (
        faults.Fault("lose_reply"),
        faults.Fault("lose_reply", attempts=every),
        faults.Fault("lose_request", attempts=every),
        faults.Fault("refuse", attempts=every, code="ThrottlingException"),
        faults.Fault("error_after", attempts=every),
    )
    return [
        dataclasses.replace(rng.choice(ways), call=call) for call in range(20, calls) if rng.random() < 0.03
    ]


@dataclass
class Servers:
    """Four processes, and what of their log tells when they have ended a request."""

    url: str
    log: Path

    def ended(self, method: str) -> int:
        """How many requests of this method they have ended, also those nobody waits for any more."""
        return self.log.read_bytes().count(f'"method": "{method}"'.encode())

    def failures(self) -> set[str]:
        """What went wrong in them that nobody is told of; a client that is gone is no failure."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return {
            line
            for line in lines
            if line.startswith("Traceback")
            or ('"message": "request failed"' in line and '"error": "ClientDisconnect"' not in line)
        }

    def be_quiet(self) -> None:
        """Wait until nothing is going on: what clients cut off may still be."""
        size, since = -1, time.monotonic()
        deadline = since + SETTLE_SECONDS
        while time.monotonic() - since < 1 and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self.log.stat().st_size
            if found != size:
                size, since = found, time.monotonic()


@dataclass
class Storm:
    """A table in a storm. `wrong` is what was found, with the round."""

    dynamodb_url: str
    seed: int
    size: Size = field(default_factory=Size)
    tally: Tally = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)
    table: str = field(default_factory=lambda: f"storm-{uuid.uuid4().hex}")

    @contextlib.contextmanager
    def servers(self, generation: int = 0) -> Iterator[Servers]:
        """Other processes at each call, on the same table."""
        environment = {
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb_url,
            "FOOTFALL_TABLE": self.table,
            "WEB_CONCURRENCY": str(PROCESSES),
            "FOOTFALL_RAW_EVENTS": "1",
        }
        wire = shaky_wire(random.Random(f"{self.seed}/wire/{generation}"))
        # What DELETEs the processes before these had been sent is of no interest here.
        self.tally.add("whole DELETE", -self.tally["whole DELETE"])
        with server.running(environment, planned_faults=wire) as started:
            yield Servers(started.url, Path(started.log.name))

    def round(self, servers: Servers, number: int) -> list[str]:
        """One round, from nobody to everybody judged. Answers what is wrong."""
        plan = planned(self.seed, number, datetime.now(UTC), self.size)
        this = _Round(self, servers, plan)
        storm = this.storm()
        late = this.aftermath()
        servers.be_quiet()
        with contextlib.closing(Client(servers.url, plan.rng, self.tally, may_be_cut=False)) as client:
            judge = Judge(plan, client)
            judge.judge(storm, late)
        auditor = Auditor(self.dynamodb_url, self.table, plan.prefix)
        judge.wrong += auditor.audit(plan.model.erased_ms())
        self.tally.add("days recounted", auditor.days)
        judge.wrong += sorted(servers.failures())
        model = plan.model
        self.tally.add("events", sum(map(len, model.facts.values())) + len(model.erased))
        self.tally.add("merges", sum(map(len, model.visitors.values())) + len(judge.winners))
        self.tally.add("erasures", len(model.erasures))
        self.tally.add("orders", len(model.orders))
        self.tally.add("rounds")
        self.tally.add("wrong", len(judge.wrong))
        found = [f"seed {self.seed}, round {number}: {line}" for line in judge.wrong]
        self.wrong += found
        return found


@dataclass
class _Round:
    whole: Storm
    servers: Servers
    plan: Plan
    answers: list[Answer] = field(default_factory=list)
    waiting: queue.SimpleQueue[Task] = field(default_factory=queue.SimpleQueue)

    @property
    def model(self) -> Model:
        return self.plan.model

    def storm(self) -> list[Answer]:
        """All that comes in any order."""
        plan = self.plan
        singles = [*batches(plan.rng, plan.storm), *plan.claims, *plan.reads]
        groups: list[list[Task]] = [[self._sending(request)] for request in singles]
        groups += [[self._sending(request) for request in rush] for rush in plan.rushes]
        groups += [[self._erasing(erasure)] for erasure in self.model.erasures]
        plan.rng.shuffle(groups)
        return self._carry_out([task for group in groups for task in group])

    def aftermath(self) -> list[Answer]:
        """Everything again, and what comes late."""
        plan = self.plan
        erased = plan.erased + [event for erasure in self.model.erasures for event in erasure.again]
        raced = [
            fact.event(anonymous_id=erasure.racing)
            for erasure in self.model.erasures
            for fact in in_order(erasure.racing_facts)
        ]
        requests = batches(plan.rng, plan.counted + erased + raced + plan.late)
        last = [self._asking(erasure) for erasure in self.model.erasures]
        return self._carry_out([*(self._sending(request) for request in requests), *last])

    def _carry_out(self, tasks: Sequence[Task]) -> list[Answer]:
        """By all clients, each of which takes whatever comes next."""
        self.answers = []
        for task in tasks:
            self.waiting.put(task)
        seeds = [self.plan.rng.getrandbits(64) for _ in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as threads:
            for done in [threads.submit(self._client, random.Random(seed)) for seed in seeds]:
                done.result()
        return self.answers

    def _client(self, rng: random.Random) -> None:
        with contextlib.closing(self._new_client(rng)) as client:
            while True:
                try:
                    task = self.waiting.get_nowait()
                except queue.Empty:
                    return
                task(client)

    def _new_client(self, rng: random.Random) -> Client:
        return Client(self.servers.url, rng, self.whole.tally)

    def _sending(self, request: Request) -> Task:
        return lambda client: self.answers.append((request, client.decide(request)))

    def _erasing(self, erasure: Erasure) -> Task:
        rng = random.Random(self.plan.rng.getrandbits(64))

        def send_later(requests: list[Request]) -> None:
            for request in requests:
                self.waiting.put(self._sending(request))

        eraser = Eraser(erasure, self.model, rng, self._new_client, self._settle, send_later)
        return lambda _: eraser.carry_out()

    def _asking(self, erasure: Erasure) -> Task:
        """The last copy of each event of during the erasure, whose answer says whether it counts."""

        def ask(client: Client) -> None:
            for fact, identity in erasure.between.items():
                reply = client.decide(Request("POST", "/v1/track", fact.event(**identity)))
                assert reply.status == 200, reply.text
                erasure.is_counted[fact] = reply.json()["rejectedCount"] == 0

        return ask

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.servers.ended("DELETE") < self.whole.tally["whole DELETE"]:
            assert time.monotonic() < deadline, "a DELETE was never ended"
            time.sleep(0.05)
