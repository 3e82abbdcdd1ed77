"""A person is erased in the middle of the storm, while the person goes on and a visitor becomes this person."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.engine.facts import Fact, random_fact
from tests.storm.model import Erasure, Model, ms_of, now_ms
from tests.storm.plan import COPIES_MAX, batches, claims, in_order
from tests.storm.wire import Client, Reply, Request

BETWEEN_MAX = 4
NEW_FACTS = 4
# A merge takes about so long.
BESIDE_SECONDS = 0.15

Json = dict[str, Any]


@dataclass
class Eraser:
    """One erasure, from before it to after it."""

    erasure: Erasure
    model: Model
    rng: random.Random
    new_client: Callable[[random.Random], Client]
    # Waits until the server has ended every DELETE that went out whole, also those whose client is gone.
    settle: Callable[[], None]
    # Sends these some time during the storm.
    send_later: Callable[[list[Request]], None]

    def carry_out(self) -> None:
        erasure, client = self.erasure, self._client()
        for visitor in erasure.visitors:
            # From here on the visitor is the person, whatever became of other claims.
            self._expect(client.decide(self.rng.choice(claims(visitor, erasure.person))), 200)
        if erasure.racing is not None:
            events = [fact.event(anonymous_id=erasure.racing) for fact in in_order(erasure.racing_facts)]
            self._expect(client.decide(Request("POST", "/v1/batch", {"batch": events})), 200)
        erasure.begun_ms = now_ms()
        self._erase(client)
        if self.rng.random() < 1 / 3:
            # Erased, back again, and erased again.
            facts = {self._fact(f"again {number} {erasure.person}") for number in range(2)}
            self.model.add_erased(*facts)
            self.erasure.again += [fact.event(**self._own()) for fact in in_order(facts)]
            self._expect(client.decide(Request("POST", "/v1/batch", {"batch": self.erasure.again})), 200)
            self._pause()
            self._erase(client)
        client.close()
        self._pause()
        self._live_on()

    def _erase(self, client: Client) -> None:
        """DELETE, sent by one or by two, with all that goes on beside it."""
        is_answered = threading.Event()
        beside = [self._while_erasing(is_answered)]
        if self.erasure.racing is not None:
            beside.append(self._race())
        if self.rng.random() < 1 / 2:
            beside.append(self._twin())
        with ThreadPoolExecutor(len(beside)) as threads:
            done = [threads.submit(task) for task in beside]
            try:
                # So that it comes before, in the middle of and after what goes on beside it.
                time.sleep(self.rng.uniform(0, BESIDE_SECONDS))
                self._deleted(client)
            finally:
                is_answered.set()
            for future in done:
                future.result()
        # A copy of it whose client is gone would erase later what is new then.
        self.settle()
        self.erasure.answered_ms = now_ms()

    def _deleted(self, client: Client) -> None:
        reply = client.decide(Request("DELETE", f"/v1/users/{self.erasure.person}"))
        self._expect(reply, 200)
        erased_at_ms = ms_of(datetime.fromisoformat(reply.json()["erasedAt"]))
        self.erasure.erased_at_ms = max(self.erasure.erased_at_ms, erased_at_ms)

    def _twin(self) -> Callable[[], None]:
        client = self._client()

        def erase() -> None:
            self._deleted(client)
            client.close()

        return erase

    def _race(self) -> Callable[[], None]:
        """Claims that come before, during or after it."""
        erasure, client, rng = self.erasure, self._client(), self._rng()
        assert erasure.racing is not None
        posts = rng.choices(claims(erasure.racing, erasure.person), k=2)

        def claim() -> None:
            for post in posts:
                time.sleep(rng.uniform(0, BESIDE_SECONDS))
                self._expect(client.decide(post), 200)
            client.close()

        return claim

    def _while_erasing(self, is_answered: threading.Event) -> Callable[[], None]:
        """Events of meanwhile: none of them may count twice, each under a name of its own, so that one can tell."""
        client, rng = self._client(), self._rng()
        # Of before it by the time of its making, and not by its timestamp.
        ahead = datetime.now(UTC) + timedelta(hours=20)
        future = self._named(ahead, rng)

        def send() -> None:
            self._between(client, future, self._own(), rng)
            for _ in range(BETWEEN_MAX):
                identity = rng.choice(self._identities())
                self._between(client, self._named(datetime.now(UTC), rng), identity, rng)
                if is_answered.wait(rng.uniform(0, 0.05)):
                    break
            client.close()

        return send

    def _named(self, instant: datetime, rng: random.Random) -> Fact:
        name = f"between {rng.getrandbits(32):x}"
        return Fact(f"m-{rng.getrandbits(64):x}", instant.isoformat(timespec="milliseconds"), name)

    def _between(self, client: Client, fact: Fact, identity: Json, rng: random.Random) -> None:
        self.erasure.between[fact] = identity
        for _ in range(rng.randint(1, 3)):
            self._expect(client.decide(Request("POST", "/v1/track", fact.event(**identity))), 200)

    def _live_on(self) -> None:
        """What happens after the answer counts, as that of somebody new."""
        events: list[Json] = []
        for identity in self._identities():
            facts = {self._fact() for _ in range(NEW_FACTS)}
            # A visitor is nobody's now, unless a claim came after the erasure: the service is asked at the end.
            self.model.add(identity.get("user_id") or identity["anonymous_id"], *facts)
            for fact in in_order(facts):
                events += [fact.event(**identity)] * self.rng.randint(1, COPIES_MAX)
        self.send_later(batches(self.rng, events))

    def _fact(self, name: str | None = None) -> Fact:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        message_id = f"m-{self.rng.getrandbits(64):x}"
        return Fact(message_id, timestamp, name) if name else random_fact(self.rng, message_id, timestamp)

    def _own(self) -> Json:
        return {"anonymous_id" if self.erasure.is_of_stranger else "user_id": self.erasure.person}

    def _identities(self) -> list[Json]:
        identities = [self._own()]
        for visitor in self.erasure.visitors:
            identities += [
                {"anonymous_id": visitor},
                {"anonymous_id": visitor, "user_id": self.erasure.person},
            ]
        return identities

    def _pause(self) -> None:
        """So long that what comes now is of another millisecond."""
        time.sleep(0.002)

    def _rng(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def _client(self) -> Client:
        return self.new_client(self._rng())

    def _expect(self, reply: Reply, status: int) -> None:
        assert reply.status == status, f"{reply.status} while {self.erasure.person} is erased: {reply.text}"
