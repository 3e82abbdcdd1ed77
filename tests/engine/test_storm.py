"""A storm of one round; `make storm` makes them for minutes. What happens in it is told in `tests.storm`."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.engine.facts import random_fact, report
from tests.storm import Storm
from tests.storm.plan import Size
from tests.storm.run import Servers
from tests.storm.wire import Client, Request

SIZE = Size(
    users=3, rushed=5, contested=2, strangers=1, erased_users=2, erased_strangers=1, orders=8, reads=12
)
CLAIMING = 8
PAIRS = 8


@pytest.fixture(scope="module")
def seed() -> int:
    return random.SystemRandom().getrandbits(32)


@pytest.fixture(scope="module")
def storm(dynamodb_url: str, seed: int) -> Storm:
    return Storm(dynamodb_url, seed, SIZE)


@pytest.fixture(scope="module")
def servers(storm: Storm) -> Iterator[Servers]:
    with storm.servers() as started:
        yield started


def test_in_a_storm_every_event_counts_once_for_the_right_user_or_is_erased(
    storm: Storm, servers: Servers, seed: int
) -> None:
    print(f"seed {seed}")
    wrong = storm.round(servers, 0)
    print(dict(storm.tally.counts))

    assert not wrong, "\n".join(wrong)
    # A storm in which nothing met anything proves nothing.
    for name in ("undecided", "cuts in the request", "cuts before the reply", "cuts in the reply", "merges"):
        assert storm.tally[name] > 0, name


def test_of_two_users_who_claim_a_visitor_at_once_one_wins_and_nothing_is_counted_twice(
    storm: Storm, servers: Servers, seed: int
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    today = datetime.now(UTC).date().isoformat()
    ready = threading.Barrier(CLAIMING, timeout=60)

    def claim(client: Client, visitor: str, user: str) -> tuple[str, int]:
        # The connection is there before the start.
        client.decide(Request("GET", "/health"))
        ready.wait()
        reply = client.decide(Request("POST", f"/v1/users/{user}/merge", {"anonymousId": visitor}))
        return user, reply.status

    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(CLAIMING))
        clients = [Client(servers.url, random.Random(f"{seed}/{n}"), storm.tally) for n in range(CLAIMING)]
        for client in clients:
            stack.callback(client.close)
        asking = clients[0]
        for number in range(PAIRS):
            visitor, users = f"anon_pair-{number}", (f"one-{number}", f"other-{number}")
            facts = {random_fact(rng, f"pair-{number}-{n}", f"{today}T{n:02}:00:00Z") for n in range(3)}
            events = [fact.event(anonymous_id=visitor) for fact in facts]
            asking.decide(Request("POST", "/v1/batch", {"batch": events}))
            claimed_for = [users[n % 2] for n in range(CLAIMING)]
            answers = list(threads.map(claim, clients, [visitor] * CLAIMING, claimed_for))
            winner = asking.decide(Request("GET", f"/v1/users/{visitor}")).json()["userId"]

            assert winner in users
            for user in users:
                expected = (user, 200 if user == winner else 409)
                assert [expected] * (CLAIMING // 2) == [answer for answer in answers if answer[0] == user]
                known = asking.decide(Request("GET", f"/v1/users/{user}")).json()
                assert ([visitor] if user == winner else []) == known["anonymousIds"]
                path = f"/v1/users/{user}/metrics?from={today}&to={today}"
                counted = asking.decide(Request("GET", path)).json()
                assert report(facts if user == winner else []) == {
                    "days": counted["days"],
                    "totals": counted["totals"],
                }
