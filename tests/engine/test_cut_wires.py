"""Whatever call of a request fails, in whatever way: the client's retry counts the rest, and everything once.

Each request is sent once per call it makes and per way that call can fail, then sent again as a client would. The
first test pins what each request asks of the database, so no call is left out when the service changes. What a death
leaves is in `test_killed`; `python -m tests.engine.matrix` runs both and counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.dynamodb import Table
from tests import faults
from tests.engine.cases import FIRST, GET, LAST, REQUESTS, TODAY, Case, check, facts_of, identify
from tests.engine.conftest import NOON
from tests.engine.facts import report
from tests.engine.matrix import CUTS, Cut
from tests.engine.shop import Shop, new_table, opened
from tests.engine.stage import Stage, cut, staged
from tests.engine.ways import READ_WAYS


@pytest.fixture(scope="module")
def stage(dynamodb_url: str) -> Iterator[Stage]:
    with staged(new_table(dynamodb_url)) as opened_stage:
        yield opened_stage


@pytest.mark.parametrize("name", REQUESTS)
def test_these_are_the_calls_of_each_request(stage: Stage, name: str) -> None:
    assert REQUESTS[name][1] == stage.scene(name).operations


@pytest.mark.parametrize("case", CUTS, ids=str)
def test_after_a_retry_everything_is_counted_once(stage: Stage, case: Cut) -> None:
    cut(stage, case.request, case.call, case.way)


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
    facts = {user: facts_of(user, TODAY, 20) for user in users}
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
    facts = {user: facts_of(user, TODAY, 3) for _, user in pairs}
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
    check(shop, Case("POST", "", None, {user: set(facts[user]) for _, user in pairs}, dict(pairs)))


def test_a_rejected_event_stays_rejected_when_its_neighbours_are_sent_again(
    small_window_shop: Shop, prefix: str
) -> None:
    shop = small_window_shop
    facts = facts_of(prefix, TODAY, 2)
    broken = facts[0].event(user_id=prefix) | {"messageId": "broken", "properties": {"revenue": "-1"}}
    body = {"batch": [broken, *(fact.event(user_id=prefix) for fact in facts)]}
    with faults.injected(_throttled(prefix)):
        answer = shop.request("POST", "/v1/batch", body)
    again = shop.post("/v1/batch", body)

    assert answer.status_code == 503
    assert (again["accepted"], again["duplicates"]) == (2, 0)
    assert [(r["index"], r["code"]) for r in again["rejected"]] == [(0, "invalid_amount")]
    assert report(facts) == shop.metrics(prefix, FIRST, LAST)


# --- the first call of a process, and replies that come in half -----------------------------------------------------


@pytest.mark.parametrize("title", READ_WAYS)
def test_the_first_request_of_a_process_survives_the_loss_of_what_it_asks_first(
    table: Table, prefix: str, title: str
) -> None:
    way = READ_WAYS[title]
    fact = facts_of(prefix, TODAY, 1)[0]
    with opened(table, NOON) as shop:
        with faults.injected(*way.faults(1)) as log:
            answer = shop.request("POST", "/v1/track", fact.event(user_id=prefix))
        reply = shop.post("/v1/track", fact.event(user_id=prefix))

    assert answer.status_code in way.answers
    assert log.operations[0] == GET
    assert reply["accepted"] + reply["duplicates"] == 1
    assert shop.item("SETTINGS", "SETTINGS") == {
        "PK": {"S": "SETTINGS"},
        "SK": {"S": "SETTINGS"},
        "timezone": {"S": "UTC"},
        "schema": {"N": "1"},
    }


@pytest.mark.parametrize("action", ["kill_before", "kill_after"])
def test_a_process_that_dies_at_its_first_call_leaves_the_next_one_no_trouble(
    table: Table, prefix: str, action: faults.Action
) -> None:
    fact = facts_of(prefix, TODAY, 1)[0]
    with (
        opened(table, NOON) as shop,
        faults.injected(faults.Fault(action, call=1)),
        pytest.raises(faults.Killed),
    ):
        shop.request("POST", "/v1/track", fact.event(user_id=prefix))
    with opened(table, NOON) as shop:
        shop.send(fact.event(user_id=prefix))

        assert report([fact]) == shop.metrics(prefix, FIRST, LAST)


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
