"""An order counts once for the shop, by its own id; a refund is an event like any other."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from service import keys
from service.counting import CLAIM_DAYS
from service.dynamodb import Table
from tests import builders
from tests.builders import (
    NOON,
    READER,
    TODAY,
    Clock,
    at,
    capacity,
    counts,
    day,
    lambda_client,
    make_app,
    make_event,
    make_events,
    make_settings,
    metrics,
    post,
    rejections,
    totals,
)


def order(order_id: object = "o-1", *, name: str = "orderId", **fields: Any) -> dict[str, Any]:
    """An order of 10 USD and two items, under an id in the field of this name."""
    sold = {"revenue": 10, "products": [{"quantity": 2}], name: order_id}
    return make_event(event="Order Completed", properties=sold, **fields)


def sold(client: httpx.Client, user: str = "u-1") -> tuple[int, int, Any, int]:
    """(orders, itemsSold, revenue in USD, events) of a user."""
    numbers = totals(client, user)
    return numbers["orders"], numbers["itemsSold"], numbers["revenue"].get("USD", 0), numbers["events"]


def exported(client: httpx.Client, user: str = "u-1") -> dict[str, list[str]]:
    """The order ids of a user's days."""
    reply = client.get(f"/v1/users/{user}/export", headers=READER)
    lines = [json.loads(line) for line in reply.text.splitlines()]
    return {line["day"]: line["orderIds"] for line in lines if "day" in line}


# --- once ------------------------------------------------------------------------------------------------------------

AGAIN: dict[str, dict[str, Any]] = {
    "a reloaded page": {},
    "on another day": {"timestamp": at(days=-1)},
    "by another user": {"userId": "u-2"},
    "by a visitor": {"userId": ..., "anonymousId": "a1"},
    "from a second device": {"anonymousId": "a2"},
    "of another user on another day": {"userId": "u-2", "timestamp": at(days=-6)},
}


@pytest.mark.parametrize("again", AGAIN)
def test_an_order_sent_again_is_a_duplicate_and_counts_nothing(door: httpx.Client, again: str) -> None:
    assert counts(post(door, [order()])) == (1, 0, 0)
    neighbour = make_event(**AGAIN[again])
    reply = post(door, [order(**AGAIN[again]), neighbour])

    assert counts(reply) == (1, 1, 0)
    everybody = [sold(door, user) for user in ("u-1", "u-2", "anon_a1")]
    assert [sum(numbers) for numbers in zip(*everybody, strict=True)] == [1, 2, 10, 2]
    assert counts(post(door, [order(**AGAIN[again]), neighbour])) == (0, 2, 0)


def test_the_first_of_two_in_one_batch_counts(client: httpx.Client) -> None:
    batch = [order(), order(), make_event(), order("o-2"), order(userId="u-2", timestamp=at(days=-1))]

    # Which of two users' days comes first is left open; one of the three counts.
    assert counts(post(client, batch[:4])) == (3, 1, 0)
    assert counts(post(client, [batch[4]])) == (0, 1, 0)
    assert sold(client) == (2, 4, 20, 3)


def test_two_days_of_one_batch_may_race_for_an_order_and_one_wins(client: httpx.Client) -> None:
    for number in range(5):
        batch = [order(f"o-{number}", timestamp=at(days=-back)) for back in range(4)]

        assert counts(post(client, batch)) == (1, 3, 0)
        assert counts(post(client, batch)) == (0, 4, 0)
    assert sold(client) == (5, 10, 50, 5)


def test_a_retry_of_the_event_that_counted_is_a_duplicate_as_ever(client: httpx.Client) -> None:
    batch = [order(), make_event(), order("o-2")]

    assert [counts(post(client, batch)) for _ in range(2)] == [(3, 0, 0), (0, 3, 0)]
    assert sold(client) == (2, 4, 20, 3)


def test_a_duplicate_order_leaves_no_trace_and_its_message_id_is_free(
    client: httpx.Client, table: Table
) -> None:
    post(client, [order()])
    again = order()
    before = builders.items(table)
    post(client, [again])

    assert before == builders.items(table)
    # The same messageId with another order is another event.
    assert counts(post(client, [order("o-2", messageId=again["messageId"])])) == (1, 0, 0)


def test_more_orders_than_a_write_takes_are_all_counted_and_the_first_hundred_ids_kept(
    client: httpx.Client,
) -> None:
    batch = [order(f"o-{number:03}") for number in range(130)]

    assert counts(post(client, batch)) == (130, 0, 0)
    assert counts(post(client, batch)) == (0, 130, 0)
    assert counts(post(client, [order("o-129"), order("o-000")])) == (0, 2, 0)
    assert sold(client) == (130, 260, 1300, 130)
    (kept,) = exported(client).values()
    assert len(kept) == 100
    assert set(kept) <= {f"o-{number:03}" for number in range(130)}


def test_ninety_orders_that_were_all_claimed_are_all_duplicates(client: httpx.Client) -> None:
    numbers = range(90)
    post(client, [order(f"o-{number}") for number in numbers])
    reply = post(
        client, [order(f"o-{number}", userId="u-2") for number in numbers] + [make_event(userId="u-2")]
    )

    assert counts(reply) == (1, 90, 0)
    assert (sold(client)[0], sold(client, "u-2")) == (90, (0, 0, 0, 1))


def test_ninety_orders_whose_visitor_is_anothers_fit_into_one_transaction(client: httpx.Client) -> None:
    client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)
    batch = [order(f"o-{number}", userId="u-2", anonymousId="a1") for number in range(90)]

    # The user's day, the day of the other user, and ninety claims are under DynamoDB's hundred.
    assert counts(post(client, batch)) == (90, 0, 0)
    assert counts(post(client, batch)) == (0, 90, 0)
    imported = [order(f"i-{number}", userId="u-2", anonymousId="a1") for number in range(90)]
    reply = client.post("/v1/import", json={"batch": imported}, headers=READER)
    assert counts(reply) == (90, 0, 0)
    assert (sold(client, "u-1")[0], sold(client, "u-2")[0]) == (0, 180)


def test_an_import_meets_the_orders_that_were_counted_live_and_the_other_way_round(
    client: httpx.Client,
) -> None:
    post(client, [order()])
    imported = [order(timestamp=at(days=-300)), order("o-2", timestamp=at(days=-300))]
    reply = client.post("/v1/import", json={"batch": imported}, headers=READER)

    assert counts(reply) == (1, 1, 0)
    assert counts(post(client, [order("o-2")])) == (0, 1, 0)


# --- the id ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("Order Completed", "orderId"),
        ("Order Completed", "order_id"),
        ("ORDER COMPLETED", "orderId"),
        ("purchase", "transaction_id"),
        ("Order Completed", "transaction_id"),
        ("purchase", "order_id"),
    ],
)
def test_every_spelling_of_the_field_names_the_same_order(
    client: httpx.Client, event: str, name: str
) -> None:
    post(client, [order("1001")])
    reply = post(client, [make_event(event=event, properties={name: "1001", "value": 3})])

    assert counts(reply) == (0, 1, 0)


@pytest.mark.parametrize("spelling", [1001, "1001", " 1001 ", "1001\u00a0"])
def test_spellings_of_one_id_are_one_order(client: httpx.Client, spelling: object) -> None:
    post(client, [order(1001)])

    assert counts(post(client, [order(spelling)])) == (0, 1, 0)
    assert exported(client) == {TODAY: ["1001"]}


@pytest.mark.parametrize("spelling", ["o-1a", "O-1", "1", "01", "o 1"])
def test_other_ids_are_other_orders(client: httpx.Client, spelling: str) -> None:
    post(client, [order()])

    assert counts(post(client, [order(spelling)])) == (1, 0, 0)


@pytest.mark.parametrize("name", ["orderId", "order_id", "transaction_id"])
@pytest.mark.parametrize(
    "junk", ["null", "undefined", "0", 0, "a/b", "x" * 129, "a\u0000", 1.5, [], {}, True]
)
def test_an_order_with_a_junk_id_is_rejected_alone(client: httpx.Client, name: str, junk: object) -> None:
    reply = post(client, [order(junk, name=name), make_event()])

    assert rejections(reply) == [(0, "invalid_id")]
    assert sold(client) == (0, 0, 0, 1)


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_order_without_an_id_counts_by_its_message_id(
    client: httpx.Client, table: Table, empty: object
) -> None:
    batch = [order(empty), order(empty), order(empty, name="transaction_id")]

    assert [counts(post(client, batch)) for _ in range(2)] == [(3, 0, 0), (0, 3, 0)]
    assert sold(client) == (3, 6, 30, 3)
    assert not any(pk.startswith("ORDER#") for pk, _ in builders.items(table))


def test_only_a_completed_order_is_claimed(client: httpx.Client, table: Table) -> None:
    post(
        client, [make_event(event=name, properties={"orderId": "o-1"}) for name in ("Order Refunded", "Own")]
    )

    assert not any(pk.startswith("ORDER#") for pk, _ in builders.items(table))
    assert counts(post(client, [order()])) == (1, 0, 0)


# --- the claim -------------------------------------------------------------------------------------------------------


def test_a_claim_holds_nobody_and_expires(client: httpx.Client, table: Table) -> None:
    post(client, [order("order of Ada", messageId="m")])
    claim = builders.item_at(table, keys.order_key("order of Ada"))

    assert claim is not None
    assert claim.keys() == {"messageHash", "expiresAt", "schema"}
    assert int(claim["expiresAt"]["N"]) == int(NOON.timestamp()) + CLAIM_DAYS * 86_400
    assert "Ada" not in "".join(keys.order_key("order of Ada"))


def test_an_expired_claim_may_be_claimed_again_though_the_table_still_holds_it(table: Table) -> None:
    clock = Clock()
    with lambda_client(make_app(make_settings(), table, clock)) as client:
        post(client, [order()])
        replies = []
        for days in (CLAIM_DAYS, 0):
            clock.move(days=days, seconds=0 if days else 1)
            # Exactly as old as it may be, and a second older.
            replies.append(post(client, [order(timestamp=clock.now.isoformat())]))
        replies.append(post(client, [order(timestamp=clock.now.isoformat())]))

        assert [counts(reply) for reply in replies] == [(0, 1, 0), (1, 0, 0), (0, 1, 0)]
        assert exported(client) == {TODAY: ["o-1"], clock.now.date().isoformat(): ["o-1"]}


def test_an_order_that_could_not_be_decided_claims_nothing(table: Table) -> None:
    with lambda_client(make_app(make_settings(max_events_per_user_day=2), table)) as client:
        post(client, make_events(2))
        full = post(client, [order()])

        assert rejections(full) == [(0, "day_full")]
        assert counts(post(client, [order(userId="u-2")])) == (1, 0, 0)


def test_where_only_the_server_reports_revenue_a_public_order_claims_nothing(table: Table) -> None:
    with lambda_client(make_app(make_settings(revenue_from="server"), table)) as client:
        public = post(client, [order(), order("null"), order("o-1")])
        before = totals(client)
        trusted = [
            client.post("/v1/batch", json={"batch": [order(), make_event()]}, headers=READER)
            for _ in range(2)
        ]

        # A public order is an event by its name, whose properties nobody reads.
        assert counts(public) == (3, 0, 0)
        assert (before["orders"], before["byEvent"]) == (0, {"Order Completed": 3})
        assert [counts(reply) for reply in trusted] == [(2, 0, 0), (1, 1, 0)]
        assert sold(client) == (1, 2, 10, 6)
        assert exported(client) == {TODAY: ["o-1"]}


def test_an_order_is_a_transaction_of_two_items(client: httpx.Client) -> None:
    assert capacity(post(client, [order()])) == (4, 0)
    # Ten events and an order of one user and day: the claim, and the day once.
    assert capacity(post(client, [*make_events(9), order("o-2")])) == (4, 0)
    assert capacity(post(client, [order("")])) == (1, 0)


# --- who has it ------------------------------------------------------------------------------------------------------


def test_after_a_merge_the_order_is_the_users(door: httpx.Client) -> None:
    mine = order("o-1", userId=..., anonymousId="a1")
    post(door, [mine, order("o-2", userId=..., anonymousId="a1", timestamp=at(days=-1)), order("o-3")])
    merged = door.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)

    assert merged.json()["days"] == 2
    assert exported(door) == {day(-1): ["o-2"], TODAY: ["o-1", "o-3"]}
    assert counts(post(door, [mine, order("o-2"), order("o-4", userId=..., anonymousId="a1")])) == (1, 2, 0)
    assert sold(door) == (4, 8, 40, 4)


def test_a_merge_keeps_a_hundred_ids_a_day_and_every_order(client: httpx.Client) -> None:
    visitor = [order(f"a-{number}", userId=..., anonymousId="a1") for number in range(70)]
    post(client, [*visitor, *(order(f"u-{number}") for number in range(70))])
    client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)

    assert sold(client) == (140, 280, 1400, 140)
    (kept,) = exported(client).values()
    assert len(kept) == 100
    assert {f"u-{number}" for number in range(70)} <= set(kept)
    assert counts(post(client, visitor)) == (0, 70, 0)


# --- refunds ---------------------------------------------------------------------------------------------------------


def refund(amount: float, **fields: Any) -> dict[str, Any]:
    sent = {"total": amount, "currency": "EUR", "orderId": "o-1"}
    return make_event(event="Order Refunded", properties=sent, **fields)


def test_each_partial_refund_of_an_order_counts_once_by_its_message_id(client: httpx.Client) -> None:
    batch = [order(), refund(2.5), refund(2.5), refund(1, timestamp=at(days=-1))]

    assert [counts(post(client, batch)) for _ in range(2)] == [(4, 0, 0), (0, 4, 0)]
    numbers = totals(client)
    assert (numbers["refundedOrders"], str(numbers["refunds"]["EUR"])) == (3, "6")
    assert (numbers["orders"], numbers["revenue"]) == (1, {"USD": 10})


def test_a_refund_may_come_before_its_order_or_without_one(client: httpx.Client) -> None:
    early = refund(5)
    replies = [post(client, [early]), post(client, [order()]), post(client, [early, refund(3, userId="u-2")])]

    assert [counts(reply) for reply in replies] == [(1, 0, 0), (1, 0, 0), (1, 1, 0)]
    assert totals(client)["refunds"] == {"EUR": 5}
    assert (totals(client, "u-2")["refunds"], totals(client, "u-2")["orders"]) == ({"EUR": 3}, 0)
    assert metrics(client)["days"][0]["refundedOrders"] == 1
