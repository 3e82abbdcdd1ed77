"""People of a shop, one request after the other, each with all that must be counted of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from tests.engine.facts import Fact, random_fact, report

# A visit in requests. Then somebody else comes.
REQUESTS_MIN, REQUESTS_MAX = 15, 45
EVENTS_MAX = 8

Json = dict[str, Any]
Request = tuple[str, str, Json | None]
# How many events are accepted, duplicates and rejected; None where it is not events that are sent.
Expected = tuple[int, int, int] | None


@dataclass
class Shopper:
    """Somebody who browses, logs in, comes back to events already sent, and is now and then erased."""

    number: int
    rng: random.Random
    facts: set[Fact] = field(default_factory=set)
    # What the answers were not.
    wrong: list[str] = field(default_factory=list)
    is_logged_in: bool = False

    @property
    def user(self) -> str:
        return f"soak-{self.number}"

    @property
    def visitor(self) -> str:
        return f"anon_soak-{self.number}"

    @property
    def owner(self) -> str:
        return self.user if self.is_logged_in else self.visitor

    def visit(self) -> Iterator[tuple[Request, Expected]]:
        """The requests, each with how many are accepted, duplicates and rejected; None where nothing is counted."""
        sent: list[Fact] = []
        for number in range(self.rng.randint(REQUESTS_MIN, REQUESTS_MAX)):
            kind = self.rng.random()
            if number and kind < 0.15:
                yield ("GET", f"/v1/users/{self.owner}/metrics", None), None
            elif not self.is_logged_in and number and kind < 0.25:
                identity = {"anonymousId": self.visitor, "userId": self.user}
                yield ("POST", "/v1/identify", identity), (1, 0, 0)
                self.is_logged_in = True
            else:
                again = self.rng.sample(sent, min(len(sent), self.rng.choice((0, 0, 1, 4))))
                new = [self._fact() for _ in range(self.rng.randint(1, EVENTS_MAX))]
                # Before it is sent: nobody may come back to this visit when it is over.
                self.facts |= set(new)
                yield self._batch(again + new), (len(new), len(again), 0)
                sent += new
        if self.rng.random() < 0.1:
            yield from self._erasure(sent)
        yield ("GET", f"/v1/users/{self.owner}/export", None), None

    def check(self, client: httpx.Client) -> None:
        """Whether everything counts once."""
        today = datetime.now(UTC).date()
        first, last = today - timedelta(days=2), today + timedelta(days=1)
        reply = client.get(f"/v1/users/{self.owner}/metrics", params={"from": str(first), "to": str(last)})
        said = json.loads(reply.text, parse_float=Decimal, parse_int=Decimal)
        if report(self.facts) != {"days": said.get("days"), "totals": said.get("totals")}:
            self.wrong.append(f"{self.owner}: {reply.status_code} {reply.text}, not {report(self.facts)}")

    def _erasure(self, sent: list[Fact]) -> Iterator[tuple[Request, Expected]]:
        self.facts.clear()
        yield ("DELETE", f"/v1/users/{self.owner}", None), None
        late = sent[-EVENTS_MAX:]
        yield self._batch(late), (0, 0, len(late))
        if self.is_logged_in:
            new = self._fact()
            self.facts.add(new)
            yield ("POST", "/v1/batch", {"batch": [new.event(user_id=self.user)]}), (1, 0, 0)

    def _batch(self, facts: list[Fact]) -> Request:
        """The visitor's, also once it is known who that is."""
        return "POST", "/v1/batch", {"batch": [fact.event(anonymous_id=self.visitor) for fact in facts]}

    def _fact(self) -> Fact:
        message_id = f"m-{self.number}-{self.rng.getrandbits(64):x}"
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        return random_fact(self.rng, message_id, timestamp)
