"""Four server processes, sixteen clients, one table: the same events over and over, in ever other company.

Every event is sent one to five times, in changing batches and orders, by whichever client comes first, while its
visitor becomes a user in each of the ways there are; the wire to the database breaks all the while. The model is a
set of facts per user. What is sent comes from a seed, which a failure shows; in what order it arrives does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests import faults, server
from tests.engine.facts import Fact, random_fact, report

PROCESSES = 4
CLIENTS = 16
TRIES_MAX = 200
SECRET = {"authorization": "Bearer dev-secret-key"}

Json = dict[str, Any]


def _shaky_wire(rng: random.Random) -> list[faults.Fault]:
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
        dataclasses.replace(rng.choice(ways), call=call) for call in range(20, 4_000) if rng.random() < 0.03
    ]


@dataclass(frozen=True)
class Post:
    """A request of the storm, sent until it is decided."""

    path: str
    body: Json


@dataclass
class Plan:
    """What will be sent, and what must come of it."""

    rng: random.Random
    days: Sequence[str]
    owned: dict[str, set[Fact]] = field(default_factory=dict)
    visitors: dict[str, list[str]] = field(default_factory=dict)
    # Sent while visitors become users, and then again with what happened after.
    storm: list[Json] = field(default_factory=list)
    aftermath: list[Json] = field(default_factory=list)
    merges: list[Post] = field(default_factory=list)
    # What the clients do side by side: claims to one visitor, and events of that visitor that are sent once.
    rushes: list[list[Post]] = field(default_factory=list)
    # Visitors two users lay claim to at once; whose they are is known afterwards.
    contested: dict[str, tuple[str, str]] = field(default_factory=dict)
    contested_facts: dict[str, set[Fact]] = field(default_factory=dict)

    def fact(self) -> Fact:
        number = self.rng.getrandbits(64)
        timestamp = f"{self.rng.choice(self.days)}T{self.rng.randrange(24):02}:00:00Z"
        return random_fact(self.rng, f"m-{number:x}", timestamp)

    def copies(self, fact: Fact, *identities: Json) -> list[Json]:
        """One to five copies; each identity it may be sent under comes up."""
        count = max(len(identities), self.rng.randint(1, 5))
        return [fact.event(**identities[number % len(identities)]) for number in range(count)]


def _plan(seed: int, days: Sequence[str]) -> Plan:
    plan = Plan(random.Random(seed), days)
    for number in range(7):
        _user(plan, f"user-{number}")
    for number in range(24):
        _rush(plan, f"anon_rushed-{number}", f"user-{number % 7}")
    for number in range(6):
        _contest(plan, f"anon_contested-{number}", (f"user-{number}", f"user-{number + 1}"))
    # Nobody ever says who these are.
    for number in range(2):
        visitor = f"anon_stranger-{number}"
        facts = {plan.fact() for _ in range(10)}
        plan.owned[visitor] = facts
        plan.storm += [copy for fact in facts for copy in plan.copies(fact, {"anonymous_id": visitor})]
    return plan


def _user(plan: Plan, user: str) -> None:
    facts = {plan.fact() for _ in range(12)}
    plan.storm += [copy for fact in facts for copy in plan.copies(fact, {"user_id": user})]
    for number in range(2):
        visitor = f"anon_{user}-{number}"
        plan.visitors.setdefault(user, []).append(visitor)
        alone, both = {"anonymous_id": visitor}, {"anonymous_id": visitor, "user_id": user}
        browsed = {plan.fact() for _ in range(12)}
        # A browser puts the user's id on the retry of what it first sent without.
        retried = {plan.fact() for _ in range(4)}
        bought = {plan.fact() for _ in range(4)}
        late = {plan.fact() for _ in range(4)}
        plan.storm += [copy for fact in browsed for copy in plan.copies(fact, alone)]
        plan.storm += [copy for fact in retried for copy in plan.copies(fact, alone, both)]
        plan.storm += [copy for fact in bought for copy in plan.copies(fact, both)]
        plan.aftermath += [copy for fact in late for copy in plan.copies(fact, alone)]
        plan.aftermath += [fact.event(**alone) for fact in browsed | retried]
        plan.merges += _claims(plan, visitor, user)
        facts |= browsed | retried | bought | late
    plan.owned[user] = facts


def _rush(plan: Plan, visitor: str, user: str) -> None:
    facts = [plan.fact() for _ in range(9)]
    posts = [Post("/v1/track", fact.event(anonymous_id=visitor)) for fact in facts]
    posts += _claims(plan, visitor, user)[:2]
    plan.rng.shuffle(posts)
    plan.rushes.append(posts)
    plan.owned[user] |= set(facts)
    plan.visitors[user].append(visitor)


def _contest(plan: Plan, visitor: str, users: tuple[str, str]) -> None:
    facts = {plan.fact() for _ in range(10)}
    plan.contested[visitor], plan.contested_facts[visitor] = users, facts
    plan.storm += [copy for fact in facts for copy in plan.copies(fact, {"anonymous_id": visitor})]
    plan.aftermath += [fact.event(anonymous_id=visitor) for fact in facts]
    claims = [claim for user in users for claim in _claims(plan, visitor, user)]
    plan.rng.shuffle(claims)
    plan.rushes.append(claims)
    for user in users:
        # An event that says who did it counts for that user, whosever the visitor is.
        mine = {plan.fact() for _ in range(4)}
        plan.owned[user] |= mine
        plan.storm += [
            copy for fact in mine for copy in plan.copies(fact, {"anonymous_id": visitor, "user_id": user})
        ]


def _claims(plan: Plan, visitor: str, user: str) -> list[Post]:
    """The three ways to say whose a visitor is, a few times over."""
    ways = [
        Post("/v1/identify", {"anonymousId": visitor, "userId": user}),
        Post("/v1/alias", {"previousId": visitor, "userId": user}),
        Post(f"/v1/users/{user}/merge", {"anonymousId": visitor}),
    ]
    return plan.rng.choices(ways, k=3)


def _batches(rng: random.Random, events: list[Json]) -> list[Post]:
    rng.shuffle(events)
    posts, start = [], 0
    while start < len(events):
        size = rng.randint(1, 10)
        posts.append(Post("/v1/batch", {"batch": events[start : start + size]}))
        start += size
    return posts


class Clients:
    """Sixteen of them, who send whatever comes next until it is decided."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.undecided = 0
        self.lock = threading.Lock()

    def send(self, posts: Sequence[Post]) -> list[tuple[Post, httpx.Response]]:
        """Every request with the answer that decided it."""
        waiting: queue.SimpleQueue[Post] = queue.SimpleQueue()
        for post in posts:
            waiting.put(post)
        with ThreadPoolExecutor(CLIENTS) as threads:
            answered = list(threads.map(lambda number: self._client(waiting, number), range(CLIENTS)))
        return [answer for answers in answered for answer in answers]

    def _client(self, waiting: queue.SimpleQueue[Post], number: int) -> list[tuple[Post, httpx.Response]]:
        answers: list[tuple[Post, httpx.Response]] = []
        # A connection stays with one process; this many requests later it is another one's turn.
        while True:
            with httpx.Client(base_url=self.url, headers=SECRET, trust_env=False, timeout=30) as http:
                for _ in range(5):
                    try:
                        post = waiting.get_nowait()
                    except queue.Empty:
                        return answers
                    answers.append((post, self.until_decided(http, post)))

    def until_decided(self, http: httpx.Client, post: Post) -> httpx.Response:
        for _ in range(TRIES_MAX):
            with contextlib.suppress(httpx.TransportError):
                answer = http.post(post.path, json=post.body)
                if answer.status_code != 503:
                    return answer
            with self.lock:
                self.undecided += 1
        raise AssertionError(f"{post.path} was never decided")


@pytest.fixture(scope="module")
def seed() -> int:
    return random.SystemRandom().getrandbits(32)


@pytest.fixture(scope="module")
def storm_url(dynamodb_url: str, seed: int) -> Iterator[str]:
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": f"storm-{uuid.uuid4().hex}",
        "WEB_CONCURRENCY": str(PROCESSES),
    }
    with server.running(environment, planned_faults=_shaky_wire(random.Random(seed))) as started:
        yield started.url


def _get(url: str, path: str) -> Json:
    for _ in range(TRIES_MAX):
        answer = httpx.get(url + path, headers=SECRET, trust_env=False, timeout=30)
        if answer.status_code != 503:
            break
    assert answer.status_code == 200, answer.text
    found: Json = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
    return found


def _check_answers(plan: Plan, answers: list[tuple[Post, httpx.Response]], winners: dict[str, str]) -> None:
    """Each claim was answered by whose the visitor is, and each batch lost nothing."""
    for post, answer in answers:
        body = answer.json()
        if post.path.endswith("/merge"):
            user = post.path.split("/")[3]
            is_winner = winners.get(post.body["anonymousId"], user) == user
            assert (200 if is_winner else 409) == answer.status_code, answer.text
            assert ("merged" if is_winner else "identity_conflict") == body.get(
                "status" if is_winner else "code"
            )
        elif post.path == "/v1/track":
            assert (body["accepted"] + body["duplicates"], body["rejectedCount"]) == (1, 0), answer.text
        elif post.path != "/v1/batch":
            visitor = post.body.get("anonymousId") or post.body["previousId"]
            codes = (
                []
                if winners.get(visitor, post.body["userId"]) == post.body["userId"]
                else ["identity_conflict"]
            )
            assert codes == [rejected["code"] for rejected in body["rejected"]]
        else:
            assert (answer.status_code, body["rejected"]) == (200, []), answer.text
            assert len(post.body["batch"]) == body["accepted"] + body["duplicates"]


def test_in_a_storm_every_event_counts_once_for_the_right_user(storm_url: str, seed: int) -> None:
    print(f"seed {seed}")
    today = datetime.now(UTC).date()
    plan = _plan(seed, [(today - timedelta(days=days)).isoformat() for days in (0, 1, 2)])
    clients = Clients(storm_url)
    groups = [[post] for post in _batches(plan.rng, plan.storm) + plan.merges] + plan.rushes
    plan.rng.shuffle(groups)
    answers = clients.send([post for group in groups for post in group])
    answers += clients.send(_batches(plan.rng, plan.aftermath))

    owned = {user: set(facts) for user, facts in plan.owned.items()}
    visitors = {user: set(anonymous) for user, anonymous in plan.visitors.items()}
    winners: dict[str, str] = {}
    for visitor, users in plan.contested.items():
        winner = str(_get(storm_url, f"/v1/users/{visitor}")["userId"])
        assert winner in users
        winners[visitor] = winner
        owned[winner] |= plan.contested_facts[visitor]
        visitors.setdefault(winner, set()).add(visitor)
    _check_answers(plan, answers, winners)
    for distinct_id, facts in owned.items():
        counted = _get(storm_url, f"/v1/users/{distinct_id}/metrics?from={plan.days[-1]}&to={plan.days[0]}")
        assert report(facts) == {"days": counted["days"], "totals": counted["totals"]}
        known = _get(storm_url, f"/v1/users/{distinct_id}")
        assert visitors.get(distinct_id, set()) == set(known["anonymousIds"])
    # A storm in which nothing met anything proves nothing.
    assert clients.undecided > 0
    assert sum(answer.json().get("duplicates", 0) for _, answer in answers) > 0
    print(f"{len(answers)} requests, {clients.undecided} tries more")


def test_of_two_users_who_claim_a_visitor_at_once_one_wins_and_nothing_is_counted_twice(
    storm_url: str, seed: int
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    today = datetime.now(UTC).date().isoformat()
    clients, ready = Clients(storm_url), threading.Barrier(8, timeout=60)

    def claim(http: httpx.Client, visitor: str, user: str) -> tuple[str, int]:
        http.get("/health")
        ready.wait()
        post = Post(f"/v1/users/{user}/merge", {"anonymousId": visitor})
        return user, clients.until_decided(http, post).status_code

    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(ready.parties))
        connections = [
            stack.enter_context(httpx.Client(base_url=storm_url, headers=SECRET, trust_env=False, timeout=30))
            for _ in range(ready.parties)
        ]
        for number in range(12):
            visitor, users = f"anon_pair-{number}", (f"one-{number}", f"other-{number}")
            facts = {random_fact(rng, f"pair-{number}-{n}", f"{today}T{n:02}:00:00Z") for n in range(3)}
            clients.send([Post("/v1/batch", {"batch": [fact.event(anonymous_id=visitor) for fact in facts]})])
            answers = list(
                threads.map(
                    claim,
                    connections,
                    [visitor] * ready.parties,
                    [users[n % 2] for n in range(ready.parties)],
                )
            )
            winner = str(_get(storm_url, f"/v1/users/{visitor}")["userId"])

            assert winner in users
            for user in users:
                half = ready.parties // 2
                assert [(user, 200 if user == winner else 409)] * half == [a for a in answers if a[0] == user]
                known = _get(storm_url, f"/v1/users/{user}")
                assert ([visitor] if user == winner else []) == known["anonymousIds"]
                counted = _get(storm_url, f"/v1/users/{user}/metrics?from={today}&to={today}")
                assert report(facts if user == winner else []) == {
                    "days": counted["days"],
                    "totals": counted["totals"],
                }
