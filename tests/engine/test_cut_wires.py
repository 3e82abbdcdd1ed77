"""Whatever call of a request fails, in whatever way: the client's retry counts the rest, and everything once.

Each request is sent once per call it makes and per way that call can fail, then sent again as a client would. The
first test pins what each request asks of the database, so no call is left out when the service changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

import service.dynamodb
import service.ingest
from service.dynamodb import Table
from tests import faults
from tests.engine.conftest import NOON
from tests.engine.facts import Fact, report
from tests.engine.shop import Shop, opened

FIRST, YESTERDAY, TODAY, TOMORROW, LAST = (
    (NOON + timedelta(days=days)).date().isoformat() for days in (-2, -1, 0, 1, 2)
)
WINDOW = [FIRST, YESTERDAY, TODAY, TOMORROW, LAST]
CONFLICT_ATTEMPTS = 5

GET, QUERY, PUT, UPDATE, TRANSACT = "GetItem", "Query", "PutItem", "UpdateItem", "TransactWriteItems"
MERGE = [TRANSACT, QUERY, PUT, TRANSACT, TRANSACT, PUT, PUT, TRANSACT]


@dataclass
class Case:
    """A request on people of its own, what it asks of the database, and what must be counted afterwards."""

    path: str
    body: dict[str, Any]
    facts: dict[str, set[Fact]]
    aliases: dict[str, str] = field(default_factory=dict)
    # The body's events that count; a retry finds each of them accepted or a duplicate.
    events: int = 0


Prepare = Callable[[Shop, str], Case]


def _facts(prefix: str, day: str, count: int, name: str = "Order Completed") -> list[Fact]:
    return [
        Fact(
            f"{prefix}-{name}-{day}-{number}",
            f"{day}T13:{number % 60:02}:00Z",
            name,
            session=f"{prefix}-{number % 3}",
            amount=Decimal("0.10") * (number + 1) if name == "Order Completed" else None,
            quantity=number + 1 if name == "Order Completed" else 0,
        )
        for number in range(count)
    ]


def one_user(shop: Shop, prefix: str) -> Case:
    facts = _facts(prefix, TODAY, 100)
    body = {"batch": [fact.event(user_id=prefix) for fact in facts]}
    return Case("/v1/batch", body, {prefix: set(facts)}, events=100)


def many_users_and_days(shop: Shop, prefix: str) -> Case:
    owned: dict[str, set[Fact]] = {}
    batch = []
    for user in ("u-1", "u-2"):
        facts = [*_facts(prefix + user, YESTERDAY, 3), *_facts(prefix + user, TODAY, 3)]
        owned[prefix + user] = set(facts)
        batch += [fact.event(user_id=prefix + user) for fact in facts]
    visitor = _facts(prefix + "a", TODAY, 3)
    batch += [fact.event(anonymous_id=prefix + "a") for fact in visitor]
    owned[f"anon_{prefix}a"] = set(visitor)
    return Case("/v1/batch", {"batch": batch}, owned, events=15)


def _visitor_and_user(shop: Shop, prefix: str) -> set[Fact]:
    """A visitor of two days, a user who was here before."""
    visitor = [*_facts(prefix + "a", YESTERDAY, 3), *_facts(prefix + "a", TODAY, 3)]
    user = _facts(prefix + "u", TODAY, 2)
    shop.send(
        *(fact.event(anonymous_id=prefix + "a") for fact in visitor),
        *(fact.event(user_id=prefix + "u") for fact in user),
    )
    return {*visitor, *user}


def first_event_with_both_ids(shop: Shop, prefix: str) -> Case:
    facts = _visitor_and_user(shop, prefix)
    seen, new = min(facts, key=lambda fact: fact.message_id), _facts(prefix, TODAY, 1, "Product Viewed")[0]
    # As browsers do: an event sent anonymous is sent again with the user's id; and one that is new.
    body = {
        "batch": [fact.event(user_id=prefix + "u", anonymous_id=prefix + "a") for fact in (seen, new)],
    }
    return Case("/v1/batch", body, {prefix + "u": facts | {new}}, {prefix + "a": prefix + "u"}, events=2)


def identify(shop: Shop, prefix: str) -> Case:
    facts = _visitor_and_user(shop, prefix)
    body = {"userId": prefix + "u", "anonymousId": prefix + "a", "messageId": prefix}
    return Case("/v1/identify", body, {prefix + "u": facts}, {prefix + "a": prefix + "u"}, events=1)


def post_merge(shop: Shop, prefix: str) -> Case:
    facts = _visitor_and_user(shop, prefix)
    return Case(
        f"/v1/users/{prefix}u/merge",
        {"anonymousId": prefix + "a"},
        {prefix + "u": facts},
        {prefix + "a": prefix + "u"},
    )


def both_ids_of_another_users_visitor(shop: Shop, prefix: str) -> Case:
    facts = _visitor_and_user(shop, prefix)
    shop.post(f"/v1/users/{prefix}u/merge", {"anonymousId": prefix + "a"})
    seen, new = min(facts, key=lambda fact: fact.message_id), _facts(prefix, YESTERDAY, 1)[0]
    body = {"batch": [fact.event(user_id=prefix + "v", anonymous_id=prefix + "a") for fact in (seen, new)]}
    return Case(
        "/v1/batch",
        body,
        {prefix + "u": facts, prefix + "v": {new}},
        {prefix + "a": prefix + "u"},
        events=2,
    )


def event_on_a_day_that_moved(shop: Shop, prefix: str) -> Case:
    facts = _visitor_and_user(shop, prefix)
    with (
        faults.injected(faults.Fault("kill_before", operation=TRANSACT, call=4)),
        pytest.raises(faults.Killed),
    ):
        shop.request("POST", f"/v1/users/{prefix}u/merge", {"anonymousId": prefix + "a"})
    new = _facts(prefix, TODAY, 1)[0]
    body = new.event(anonymous_id=prefix + "a")
    return Case("/v1/track", body, {prefix + "u": facts | {new}}, events=1)


# What each request asks of the database, in this order.
REQUESTS: dict[str, tuple[Prepare, list[str]]] = {
    # One update takes 90 ids.
    "batch of one user": (one_user, [UPDATE, UPDATE]),
    "batch of many users and days": (many_users_and_days, [GET, *[UPDATE] * 5]),
    "first event with both ids": (first_event_with_both_ids, [GET, *MERGE, UPDATE, UPDATE]),
    "identify": (identify, [GET, *MERGE]),
    "POST merge": (post_merge, [GET, *MERGE]),
    "both ids of another user's visitor": (
        both_ids_of_another_users_visitor,
        # Together, which one of them prevents; then the other.
        [GET, TRANSACT, TRANSACT],
    ),
    "anonymous event on a day that moved": (event_on_a_day_that_moved, [GET, UPDATE, UPDATE]),
}


@dataclass(frozen=True)
class Way:
    """A way a call can fail, and what the client may be answered; nothing at all when the process dies."""

    action: faults.Action
    answers: tuple[int, ...]
    # None means each attempt, so that botocore's own retries meet it too.
    attempts: int | None = 1
    code: str = "InternalServerError"
    reason: str = ""
    # The service tries again by itself, as often as this; each is a call of its own.
    calls: int = 1

    def faults(self, call: int) -> list[faults.Fault]:
        return [
            faults.Fault(
                self.action,
                call=call + number,
                attempts=self.attempts,
                code=self.code,
                reason=self.reason or "TransactionConflict",
            )
            for number in range(self.calls)
        ]


READ_WAYS = {
    "every reply lost": Way("lose_reply", (503,), None),
    "throttled": Way("refuse", (503,), None, "ThrottlingException"),
    # botocore takes half a reply for a whole one without content, or for an error without a code.
    "half a reply": Way("truncate_reply", (200, 503)),
    "killed after it": Way("kill_after", ()),
}
WAYS = READ_WAYS | {
    "a reply lost": Way("lose_reply", (200,)),
    "never sent": Way("lose_request", (503,), None),
    "error 500": Way("refuse", (503,), None),
    "error 500 after it landed": Way("error_after", (200,)),
    "error 500 after it landed each time": Way("error_after", (503,), None),
}
CONFLICTS = {
    "a conflict": Way("refuse", (200,), None, "TransactionConflictException"),
    "conflicts": Way("refuse", (503,), None, "TransactionConflictException", calls=CONFLICT_ATTEMPTS),
}
TRANSACTION_WAYS = {
    "a conflict": Way("refuse", (200,), None, "TransactionCanceledException", "TransactionConflict"),
    "conflicts": Way(
        "refuse", (503,), None, "TransactionCanceledException", "TransactionConflict", CONFLICT_ATTEMPTS
    ),
    "cancelled by throttling": Way("refuse", (503,), None, "TransactionCanceledException", "ThrottlingError"),
}


def _ways(operation: str) -> dict[str, Way]:
    if operation in (GET, QUERY):
        return READ_WAYS
    return WAYS | (TRANSACTION_WAYS if operation == TRANSACT else CONFLICTS)


EVERY_FAILURE = [
    pytest.param(prepare, call, way, id=f"{name}-call {call} {operation}-{title}")
    for name, (prepare, operations) in REQUESTS.items()
    for call, operation in enumerate(operations, 1)
    for title, way in _ways(operation).items()
]


@pytest.fixture(autouse=True)
def _one_call_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The k-th call is then the same at every attempt, and a conflict's retries follow it without a pause."""
    # Groups are written in random order.
    random.seed(1)
    monkeypatch.setattr(service.dynamodb, "CONFLICT_DELAY_SECONDS", 0)
    with ThreadPoolExecutor(1) as writer:
        monkeypatch.setattr(service.ingest, "_writers", writer)
        yield


def _check(shop: Shop, case: Case) -> None:
    for distinct_id, facts in case.facts.items():
        assert report(facts) == shop.metrics(distinct_id, FIRST, LAST)
    for anonymous_id, user_id in case.aliases.items():
        partition = shop.partition(f"USER#anon_{anonymous_id}")
        alias = partition.pop("ALIAS")
        assert ("merged", user_id) == (alias["status"]["S"], alias["userId"]["S"])
        # Each day that can still get an event is sealed, and holds nothing that could be counted again.
        assert [f"DAY#{day}" for day in WINDOW] == list(partition)
        assert [{"S": user_id}] * len(WINDOW) == [item["mergedInto"] for item in partition.values()]
        assert not any("events" in item or "seen" in item for item in partition.values())
        assert [f"anon_{anonymous_id}"] == shop.get(f"/v1/users/{user_id}")["anonymousIds"]
        assert _pending(shop, anonymous_id) == []


def _pending(shop: Shop, anonymous_id: str) -> list[str]:
    shard = hashlib.sha256(f"anon_{anonymous_id}".encode()).hexdigest()[0]
    return [sk for sk in shop.partition(f"PENDING#{shard}") if sk.endswith(f"#anon_{anonymous_id}")]


@pytest.mark.parametrize(("prepare", "operations"), REQUESTS.values(), ids=REQUESTS)
def test_these_are_the_calls_of_each_request(
    small_window_shop: Shop, prefix: str, prepare: Prepare, operations: list[str]
) -> None:
    case = prepare(small_window_shop, prefix)
    with faults.injected() as log:
        small_window_shop.post(case.path, case.body)

    assert operations == log.operations
    _check(small_window_shop, case)


@pytest.mark.parametrize(("prepare", "call", "way"), EVERY_FAILURE)
def test_after_a_retry_everything_is_counted_once(
    small_window_shop: Shop, prefix: str, prepare: Prepare, call: int, way: Way
) -> None:
    shop = small_window_shop
    case = prepare(shop, prefix)
    with faults.injected(*way.faults(call)) as log:
        status = None
        if way.answers:
            answer = shop.request("POST", case.path, case.body)
            status = answer.status_code
            assert status in way.answers, answer.text
            assert (status == 503) == ("Retry-After" in answer.headers)
        else:
            with pytest.raises(faults.Killed):
                shop.request("POST", case.path, case.body)
    assert log.spoiled
    if status == 200:
        # What was acknowledged is counted, also if the client is never heard of again.
        _check(shop, case)
    again = shop.post(case.path, case.body)

    if case.events:
        assert case.events == again["accepted"] + again["duplicates"]
        assert again["rejectedCount"] == 0
    else:
        assert (again["status"], again["days"]) == ("merged", 2)
    _check(shop, case)


# --- a merge whose process died, and who finishes it ------------------------------------------------------------------


def _identify_again(shop: Shop, prefix: str) -> set[Fact]:
    shop.post("/v1/identify", {"userId": prefix + "u", "anonymousId": prefix + "a", "messageId": "again"})
    return set()


def _merge_by_the_backend(shop: Shop, prefix: str) -> set[Fact]:
    shop.post(f"/v1/users/{prefix}u/merge", {"anonymousId": prefix + "a"})
    return set()


def _late_event(shop: Shop, prefix: str) -> set[Fact]:
    late = _facts(prefix + "late", YESTERDAY, 1)[0]
    shop.now = NOON + timedelta(seconds=61)
    shop.post("/v1/track", late.event(anonymous_id=prefix + "a"))
    return {late}


def _question(shop: Shop, prefix: str) -> set[Fact]:
    shop.get(f"/v1/users/anon_{prefix}a/metrics?from={FIRST}&to={LAST}")
    return set()


def _conflicting_event(shop: Shop, prefix: str) -> set[Fact]:
    # It looks for its first copy where the visitor's days went, so they must be there.
    reply = shop.post(
        "/v1/identify", {"userId": prefix + "v", "anonymousId": prefix + "a", "messageId": "other"}
    )
    assert [rejected["code"] for rejected in reply["rejected"]] == ["identity_conflict"]
    return set()


FINISHERS = [_identify_again, _merge_by_the_backend, _late_event, _question, _conflicting_event]


@pytest.mark.parametrize("finish", FINISHERS, ids=lambda finish: str(finish.__name__).strip("_"))
# From the second call on: before it nobody has said whose the visitor is.
@pytest.mark.parametrize("call", range(2, len([GET, *MERGE]) + 1))
def test_a_merge_killed_after_any_call_is_finished_by_whoever_comes_next(
    small_window_shop: Shop, prefix: str, call: int, finish: Callable[[Shop, str], set[Fact]]
) -> None:
    shop = small_window_shop
    case = identify(shop, prefix)
    with faults.injected(faults.Fault("kill_after", call=call)), pytest.raises(faults.Killed):
        shop.request("POST", case.path, case.body)
    try:
        later = finish(shop, prefix)
    finally:
        shop.now = NOON
    case.facts[prefix + "u"] |= later

    _check(shop, case)


# --- throttling -----------------------------------------------------------------------------------------------------


def _throttled(distinct_id: str) -> faults.Fault:
    """All writes to one partition, as DynamoDB throttles a hot one."""
    return faults.Fault(
        "refuse",
        values=(f"USER#{distinct_id}",),
        attempts=None,
        code="ProvisionedThroughputExceededException",
    )


def test_one_throttled_user_of_a_batch_harms_no_other(small_window_shop: Shop, prefix: str) -> None:
    shop = small_window_shop
    users = [f"{prefix}-{number}" for number in range(5)]
    facts = {user: _facts(user, TODAY, 20) for user in users}
    body = {"batch": [fact.event(user_id=user) for user in users for fact in facts[user]]}
    with faults.injected(_throttled(users[2])):
        answer = shop.request("POST", "/v1/batch", body)
    counted_before = {user: shop.metrics(user, FIRST, LAST) for user in users}
    again = shop.post("/v1/batch", body)

    assert answer.status_code == 503
    assert {user: report(facts[user] if user != users[2] else []) for user in users} == counted_before
    assert (again["accepted"], again["duplicates"], again["rejectedCount"]) == (20, 80, 0)
    assert {user: report(facts[user]) for user in users} == {
        user: shop.metrics(user, FIRST, LAST) for user in users
    }


def test_a_visitor_whose_merge_is_throttled_harms_no_other_visitor(
    small_window_shop: Shop, prefix: str
) -> None:
    shop = small_window_shop
    pairs = [(f"{prefix}-a{number}", f"{prefix}-u{number}") for number in range(3)]
    facts = {user: _facts(user, TODAY, 3) for _, user in pairs}
    body = {
        "batch": [
            fact.event(user_id=user, anonymous_id=visitor) for visitor, user in pairs for fact in facts[user]
        ]
    }
    with faults.injected(_throttled(f"anon_{pairs[1][0]}")):
        answer = shop.request("POST", "/v1/batch", body)
    counted_before = [shop.metrics(user, FIRST, LAST) for _, user in pairs]
    again = shop.post("/v1/batch", body)

    assert answer.status_code == 503
    assert [report(facts[user] if user != pairs[1][1] else []) for _, user in pairs] == counted_before
    assert (again["accepted"], again["duplicates"], again["rejectedCount"]) == (3, 6, 0)
    _check(shop, Case("", {}, {user: set(facts[user]) for _, user in pairs}, dict(pairs)))


def test_a_rejected_event_stays_rejected_when_its_neighbours_are_sent_again(
    small_window_shop: Shop, prefix: str
) -> None:
    shop = small_window_shop
    facts = _facts(prefix, TODAY, 2)
    broken = facts[0].event(user_id=prefix) | {"messageId": "broken", "properties": {"revenue": "-1"}}
    body = {"batch": [broken, *(fact.event(user_id=prefix) for fact in facts)]}
    with faults.injected(_throttled(prefix)):
        answer = shop.request("POST", "/v1/batch", body)
    again = shop.post("/v1/batch", body)

    assert answer.status_code == 503
    assert (again["accepted"], again["duplicates"]) == (2, 0)
    assert [(r["index"], r["code"]) for r in again["rejected"]] == [(0, "invalid_amount")]
    assert report(facts) == shop.metrics(prefix, FIRST, LAST)


def test_the_first_request_of_a_process_survives_the_loss_of_what_it_asks_first(
    table: Table, prefix: str
) -> None:
    for title, way in READ_WAYS.items():
        with opened(table, NOON) as shop:
            fact = _facts(f"{prefix}{title}", TODAY, 1)[0]
            with faults.injected(*way.faults(1)) as log, contextlib.suppress(faults.Killed):
                answer = shop.request("POST", "/v1/track", fact.event(user_id=prefix))
                assert answer.status_code in way.answers
            reply = shop.post("/v1/track", fact.event(user_id=prefix))

        assert log.operations[0] == GET
        assert reply["accepted"] + reply["duplicates"] == 1
    assert shop.item("SETTINGS", "SETTINGS") == {
        "PK": {"S": "SETTINGS"},
        "SK": {"S": "SETTINGS"},
        "timezone": {"S": "UTC"},
        "schema": {"N": "1"},
    }


@pytest.mark.parametrize("call", [1, 2])
def test_half_a_reply_never_makes_a_wrong_answer(small_window_shop: Shop, prefix: str, call: int) -> None:
    shop = small_window_shop
    case = identify(shop, prefix)
    shop.post(case.path, case.body)
    path = f"/v1/users/anon_{prefix}a/metrics?from={FIRST}&to={LAST}"
    whole = shop.request("GET", path)
    with faults.injected(faults.Fault("truncate_reply", call=call)) as log:
        answer = shop.request("GET", path)

    assert log.spoiled
    assert answer.status_code == 503 or answer.text == whole.text
