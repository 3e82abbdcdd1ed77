"""At the very moment, or the very bound, at which one answer becomes another."""

from __future__ import annotations

from typing import Any

import pytest

from service import ingest, keys
from service.dynamodb import Table
from service.problems import Unavailable
from service.sweep import Swept
from tests import faults
from tests.builders import counts, lambda_client, make_app, make_event, make_settings, new_table, post
from tests.engine.conftest import NOON
from tests.engine.test_overtaken import ACCEPTED, Counts, Shop

DUPLICATE: Counts = (0, 1, [])
ERASED: Counts = (0, 0, ["erased"])
A_MILLISECOND = 0.001
CLAIM_SECONDS = 400 * 86_400


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "moments"))


def test_what_a_visitor_did_until_the_erasure_does_not_come_back_through_a_merge(shop: Shop) -> None:
    shop.erase(1, "anon_a")
    assert shop.identify(5, "a", "u") == ACCEPTED

    assert shop.send(10, "then", at=1, anonymousId="a") == ERASED
    assert shop.send(10, "after", at=1 + A_MILLISECOND, anonymousId="a") == ACCEPTED


def test_an_identify_of_the_moment_of_an_erasure_is_of_before(shop: Shop) -> None:
    shop.erase(1, "u")

    assert shop.send(10, "then", at=1, type="identify", anonymousId="a", userId="u") == ERASED
    assert (
        shop.send(10, "after", at=1 + A_MILLISECOND, type="identify", anonymousId="a", userId="u") == ACCEPTED
    )


def test_an_order_is_the_same_order_until_its_claim_has_expired(shop: Shop) -> None:
    order: dict[str, Any] = {
        "type": "track",
        "event": "Order Completed",
        "properties": {"orderId": "o-1"},
        "userId": "u",
    }

    assert shop.send(0, "m", **order) == ACCEPTED
    assert shop.send(CLAIM_SECONDS, "n", **order) == DUPLICATE
    assert shop.send(CLAIM_SECONDS + 1, "p", **order) == ACCEPTED


def test_an_event_dated_ahead_is_not_tried_again_and_again_in_the_moment_of_an_erasure(shop: Shop) -> None:
    shop.erase(10, "u")
    with faults.injected() as log, pytest.raises(Unavailable):
        shop.send(10, "m", at=30, userId="u")

    assert log.operations == ["UpdateItem"]
    assert shop.send(10 + A_MILLISECOND, "m", at=30, userId="u") == ACCEPTED


def test_nor_where_the_erased_one_is_whose_the_visitor_is_and_clocks_disagree(shop: Shop) -> None:
    shop.erase(10, "v")
    shop.identify(20, "a", "v")
    with faults.injected() as log, pytest.raises(Unavailable):
        shop.send(5, "m", at=30, anonymousId="a", userId="u")

    assert log.operations.count("TransactWriteItems") == 1
    assert shop.send(21, "m", at=30, anonymousId="a", userId="u") == ACCEPTED


def test_as_many_events_as_the_other_day_has_room_for_are_one_write(table: Table) -> None:
    app = make_app(make_settings(max_events_per_user_day=10), table)
    with lambda_client(app) as client:
        post(client, [make_event(userId="u-1", anonymousId="a1", messageId=f"m-{n}") for n in range(7)])
        events = [make_event(userId="u-2", anonymousId="a1", messageId=f"n-{n}") for n in range(3)]
        with faults.injected() as log:
            assert counts(post(client, events)) == (3, 0, 0)

    assert log.operations.count("TransactWriteItems") == 1


def test_a_merge_is_left_to_its_process_for_a_minute_and_not_a_moment_longer(shop: Shop) -> None:
    no_query = faults.Fault("lose_request", attempts=None, operation="Query")
    with faults.injected(no_query), pytest.raises(Unavailable):
        shop.identify(0, "a", "u")
    assert shop.send(60, "m", anonymousId="a") == ACCEPTED
    left = shop.item(keys.alias_key("anon_a"))["status"]
    assert shop.send(60 + A_MILLISECOND, "n", anonymousId="a") == ACCEPTED

    assert (left, shop.item(keys.alias_key("anon_a"))["status"]) == ({"S": "merging"}, {"S": "merged"})
    assert shop.sweep(3600) == Swept()
    assert shop.events() == {("USER#u", f"DAY#{NOON.date()}"): 2}


def test_one_thing_to_write_is_written_in_the_requests_own_thread(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ingest, "_writers")

    assert shop.send(0, "m", userId="u") == ACCEPTED
