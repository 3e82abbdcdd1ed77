"""Which events are kept as they were sent, for how long, and without which keys."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service import keys, packing
from service.dynamodb import Table
from service.events import EVENT_BYTES_MAX, epoch_ms
from service.settings import Settings
from tests import builders, faults
from tests.builders import (
    NOON,
    READER,
    SECRET_KEY,
    WRITE_KEY,
    Clock,
    at,
    counts,
    lambda_client,
    make_app,
    make_event,
    make_events,
    make_settings,
    post,
    rejections,
    totals,
)

Json = dict[str, Any]


@pytest.fixture
def settings() -> Settings:
    """A short window, so that there are few fences."""
    return make_settings(raw_events=True, max_event_age_days=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(settings: Settings, table: Table, clock: Clock) -> FastAPI:
    return make_app(settings, table, clock)


@pytest.fixture
def keeping_none(table: Table, clock: Clock) -> Iterator[httpx.Client]:
    """The same service with raw events off."""
    with lambda_client(make_app(make_settings(max_event_age_days=1), table, clock)) as opened:
        yield opened


def kept(table: Table) -> list[tuple[str, Json]]:
    """Whose each raw event is, and the event; as stored, nothing of the service's reads them."""
    found = []
    for (pk, sk), item in sorted(builders.items(table).items()):
        if keys.is_events(sk):
            document = json.loads(zlib.decompress(item["payload"]["B"]))
            assert len(document["events"]) == int(item["events"]["N"])
            found += [(str(keys.distinct_id_of(pk)), event) for event in document["events"]]
    return found


def ids_kept(table: Table) -> list[tuple[str, str]]:
    return sorted((distinct_id, event["messageId"]) for distinct_id, event in kept(table))


def items_kept(table: Table) -> dict[tuple[str, str], Json]:
    return {key: item for key, item in builders.items(table).items() if keys.is_events(key[1])}


def visit(anonymous_id: str, **fields: Any) -> Json:
    return make_event(userId=..., anonymousId=anonymous_id, **fields)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_what_counts_is_kept_as_it_was_sent_with_the_identity_it_was_sent_with(
    door: httpx.Client, table: Table
) -> None:
    nested = {"a": [1, {"b": None}], "ä": "💶", "price": 59.9}
    events = [
        make_event(messageId="m-1", properties=nested, integrations={"All": False}, ignored="kept"),
        visit("a1", messageId="m-2", type="page", event=..., name="Home"),
        make_event(messageId="m-3", type="screen", event=..., userId="u-2", anonymousId="a2"),
    ]
    assert counts(post(door, events)) == (3, 0, 0)

    assert kept(table) == [("anon_a1", events[1]), ("anon_a2", events[2]), ("u-1", events[0])]


def test_what_does_not_count_is_not_kept(client: httpx.Client, table: Table) -> None:
    batch = [
        make_event(messageId="twice"),
        make_event(messageId="twice", properties={"second": True}),
        make_event(messageId="old", timestamp=at(days=-2)),
        make_event(messageId="bot", context={"userAgent": "Googlebot/2.1"}),
        make_event(messageId="guest", userId="guest"),
        make_event(messageId="identify", type="identify", anonymousId="a1"),
        make_event(messageId="alias", type="alias", previousId="a2"),
        make_event(messageId="group", type="group"),
        make_event(messageId="amount", event="Order Completed", properties={"revenue": -1}),
        "no event",
    ]
    assert counts(post(client, batch)) == (4, 1, 5)

    assert ids_kept(table) == [("u-1", "twice")]
    assert "second" not in repr(kept(table))


def test_an_order_that_was_claimed_before_is_not_kept(client: httpx.Client, table: Table) -> None:
    def order(message_id: str) -> Json:
        return make_event(
            messageId=message_id, event="Order Completed", properties={"orderId": "o-1", "total": 5}
        )

    assert counts(post(client, [order("m-1"), order("m-2")])) == (1, 1, 0)
    assert counts(post(client, [order("m-3"), make_event(messageId="m-4")])) == (1, 1, 0)

    assert ids_kept(table) == [("u-1", "m-1"), ("u-1", "m-4")]


def test_a_full_days_events_are_not_kept(table: Table) -> None:
    app = make_app(make_settings(raw_events=True, max_events_per_user_day=2), table)
    with lambda_client(app) as client:
        assert counts(post(client, make_events(3))) == (2, 0, 1)

    assert len(kept(table)) == 2


def test_off_nothing_is_kept_and_no_request_costs_more(
    client: httpx.Client, keeping_none: httpx.Client, table: Table
) -> None:
    with faults.injected() as plain:
        assert counts(post(keeping_none, [make_event()])) == (1, 0, 0)
    assert (plain.operations, items_kept(table)) == (["UpdateItem"], {})
    with faults.injected() as with_raw_events:
        reply = post(client, [make_event()])

    assert with_raw_events.operations == ["UpdateItem", "PutItem"]
    assert builders.capacity(reply) == (2, 0)


def test_an_import_is_kept_too(client: httpx.Client, table: Table) -> None:
    batch = [make_event(messageId="m-1", timestamp="2000-01-01T00:00:00Z"), make_event(messageId="m-2")]
    assert counts(client.post("/v1/import", json={"batch": batch}, headers=READER)) == (2, 0, 0)

    assert ids_kept(table) == [("u-1", "m-1"), ("u-1", "m-2")]
    assert len(items_kept(table)) == 2


def test_it_lives_as_long_as_the_setting_says_from_its_receipt(table: Table) -> None:
    for days in (1, 90):
        app = make_app(make_settings(raw_events=True, raw_ttl_days=days), table)
        with lambda_client(app) as client:
            post(client, [make_event(userId=f"u-{days}", timestamp=at(days=-6))])
        (item,) = [item for (pk, _), item in items_kept(table).items() if pk == f"USER#u-{days}"]

        assert int(item["expiresAt"]["N"]) == NOON.timestamp() + days * 86_400
        assert int(item["receivedAt"]["N"]) == epoch_ms(NOON)


# --- a retry ---------------------------------------------------------------------------------------------------------


def test_a_retry_makes_no_second_item_and_changes_none(
    client: httpx.Client, clock: Clock, table: Table
) -> None:
    batch = [make_event(timestamp=at(hours=-number)) for number in range(5)]
    post(client, batch)
    first = items_kept(table)
    clock.move(minutes=5)
    again = post(client, list(reversed(batch)), sentAt=at(minutes=5), context={"library": "other"})

    assert counts(again) == (0, 5, 0)
    assert items_kept(table) == first
    assert len(first) == 1


def test_what_a_crash_has_left_out_is_kept_by_the_retry(client: httpx.Client, table: Table) -> None:
    batch = [make_event(messageId="m-1"), visit("a1", messageId="m-2")]
    with faults.injected(faults.Fault("refuse", operation="PutItem", attempts=None)):
        assert post(client, batch).status_code == 503
    assert ids_kept(table) == []

    assert counts(post(client, batch)) == (0, 2, 0)
    assert ids_kept(table) == [("anon_a1", "m-2"), ("u-1", "m-1")]


def test_a_retry_with_the_user_id_makes_no_second_item(client: httpx.Client, table: Table) -> None:
    event = visit("a1", messageId="m-1")
    post(client, [event])
    first = items_kept(table)

    assert counts(post(client, [event | {"userId": "u-1"}])) == (0, 1, 0)
    assert items_kept(table) == first
    assert next(iter(first))[0] == "USER#anon_a1"


def test_on_a_shared_device_each_is_kept_with_whom_it_counts_for(client: httpx.Client, table: Table) -> None:
    first_try = visit("a1", messageId="m-1")
    post(client, [make_event(type="identify", anonymousId="a1")])
    post(client, [first_try])
    second = make_event(userId="u-2", anonymousId="a1", messageId="m-2")

    assert counts(post(client, [second, first_try | {"userId": "u-2"}])) == (1, 1, 0)
    # The visitor is u-1, for whom the first try counted.
    assert ids_kept(table) == [("anon_a1", "m-1"), ("u-2", "m-2")]
    assert (totals(client)["events"], totals(client, "u-2")["events"]) == (1, 1)


def test_of_an_id_with_something_undecided_nothing_is_kept_yet(
    client: httpx.Client, clock: Clock, table: Table
) -> None:
    """Or the retry, which then has more events, would keep them once more."""
    batch = [make_event(messageId="m-1"), make_event(messageId="m-2", timestamp=at(days=-1, seconds=1))]
    batch += [make_event(messageId="m-3", userId="u-2")]
    yesterday = keys.day_key("u-1", builders.day(-1))
    with faults.injected(
        faults.Fault("refuse", operation="UpdateItem", values=(yesterday.sk,), attempts=None)
    ):
        assert post(client, batch).status_code == 503
    assert ids_kept(table) == [("u-2", "m-3")]

    assert counts(post(client, batch)) == (1, 2, 0)
    assert ids_kept(table) == [("u-1", "m-1"), ("u-1", "m-2"), ("u-2", "m-3")]
    assert len(items_kept(table)) == 3


# --- what cannot be kept ---------------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [packing.NESTING_MAX, 300])
def test_an_event_that_is_nested_too_deeply_is_rejected_alone(
    door: httpx.Client, table: Table, levels: int
) -> None:
    batch = [make_event(), make_event(properties={"a": nested(levels)}), make_event()]

    assert rejections(post(door, batch)) == [(1, "invalid_event")]
    assert totals(door)["events"] == len(kept(table)) == 2
    assert door.post("/v1/track", json=batch[1], headers=builders.WRITER).json()["rejectedCount"] == 1


def test_what_is_kept_can_be_read_however_deep_it_is(client: httpx.Client) -> None:
    deep = make_event(properties={"a": nested(packing.NESTING_MAX - 3)})
    assert counts(client.post("/v1/track", json=deep, headers=builders.WRITER)) == (1, 0, 0)

    for path in ("events", "export"):
        assert client.get(f"/v1/users/u-1/{path}", headers=READER).status_code == 200


@pytest.mark.parametrize("context", [{"a": "x" * EVENT_BYTES_MAX}, {"a": nested(300)}])
def test_a_context_that_cannot_be_kept_counts_nothing_and_fails_nothing(
    client: httpx.Client, keeping_none: httpx.Client, table: Table, context: Json
) -> None:
    """It would be kept with each of up to 2,500 identities, at a write unit per KB."""
    batch = [make_event(userId=f"u-{number}") for number in range(3)]
    identify = make_event(type="identify", anonymousId="a1")

    assert counts(post(client, [*batch, identify], context=context)) == (1, 0, 3)
    assert items_kept(table) == {}
    assert counts(post(keeping_none, batch, context=context)) == (3, 0, 0)


@pytest.mark.parametrize("text", ["\x00decimal:1", 'x"\x00decimal:1', '[NaN,"1.5"]', '"[NaN,"1"]"', "NaN"])
def test_no_string_spoils_the_item_it_is_in(client: httpx.Client, text: str) -> None:
    spoiling = make_event(properties={text: text, "list": [text, 1.5, text]}, context={text: {text: 2.5}})
    post(client, [spoiling, make_event()], context={text: text})
    reply = client.get("/v1/users/u-1/events", headers=READER)

    assert reply.status_code == 200
    (found,) = [event for event in reply.json()["events"] if event["messageId"] == spoiling["messageId"]]
    assert found["properties"] == spoiling["properties"]
    assert found["context"] == spoiling["context"] | {text: {text: 2.5}}


def test_an_items_events_share_their_context_in_memory_and_in_the_table(
    client: httpx.Client, table: Table
) -> None:
    """2,000 events with a context of thousands of names are small, and stay so."""
    context = {f"name-{number}": number for number in range(1500)}
    assert counts(post(client, make_events(2000), context=context)) == (2000, 0, 0)

    assert sum(len(item["payload"]["B"]) for item in items_kept(table).values()) < 100_000
    page = client.get("/v1/users/u-1/events", params={"limit": "1000"}, headers=READER)
    assert page.status_code == 200
    assert len(page.content) <= 4_500_000
    assert 1 <= len(page.json()["events"]) < 1000
    assert page.json()["nextCursor"]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_no_key_is_anywhere_in_the_table(client: httpx.Client, table: Table) -> None:
    token = {"userToken": "a-token-of-a-user"}
    single = make_event(writeKey=WRITE_KEY, context=token)
    assert counts(client.post("/v1/track", json=single)) == (1, 0, 0)
    batch = [make_event(writeKey=WRITE_KEY, context=token), make_event(context=token | {"a": 1})]
    reply = client.post("/v1/batch", json={"batch": batch, "writeKey": WRITE_KEY, "context": token})
    assert counts(reply) == (2, 0, 0)
    trusted = client.post("/v1/batch", json={"batch": make_events(1), "writeKey": SECRET_KEY})
    assert counts(trusted) == (1, 0, 0)

    assert len(kept(table)) == 4
    for key, item in builders.items(table).items():
        payload = zlib.decompress(item["payload"]["B"]) if "payload" in item else b""
        everything = repr((key, item)).encode() + payload
        for secret in (WRITE_KEY, SECRET_KEY, token["userToken"], "userToken", "writeKey"):
            assert secret.encode() not in everything, key


def test_a_retry_in_the_same_millisecond_leaves_what_came_first(client: httpx.Client) -> None:
    """Whatever else it says: the numbers are those of the first."""
    for path in ("/first", "/second"):
        post(client, [visit("a1", messageId="m-1", context={"page": {"path": path}})])
    events = client.get("/v1/users/anon_a1/events", headers=READER).json()["events"]

    assert [event["context"]["page"]["path"] for event in events] == ["/first"]
