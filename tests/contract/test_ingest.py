"""Events in: every path, every reply, and that each event counts once."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from service import keys
from service.dynamodb import Table
from service.settings import Settings
from tests import builders
from tests.builders import (
    READER,
    SECRET_KEY,
    TODAY,
    WRITE_KEY,
    WRITER,
    Clock,
    at,
    basic,
    bearer,
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

TYPE_OF_PATH = {
    "track": "track",
    "t": "track",
    "page": "page",
    "p": "page",
    "screen": "screen",
    "s": "screen",
    "identify": "identify",
    "i": "identify",
    "alias": "alias",
    "a": "alias",
    "group": "group",
    "g": "group",
}


# --- paths and replies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b"])
def test_a_batch_is_counted_at_both_of_its_paths(door: httpx.Client, path: str) -> None:
    reply = door.post(path, json={"batch": make_events(3), "sentAt": at()}, headers=WRITER)

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {
        "success": True,
        "accepted": 3,
        "duplicates": 0,
        "rejectedCount": 0,
        "rejected": [],
    }
    assert totals(door)["events"] == 3


@pytest.mark.parametrize("path", TYPE_OF_PATH)
def test_a_path_of_its_own_takes_one_event_whose_type_it_is(client: httpx.Client, path: str) -> None:
    kind = TYPE_OF_PATH[path]
    event = make_event(type=..., previousId="a1") | ({"anonymousId": "a1"} if kind == "identify" else {})
    reply = client.post(f"/v1/{path}", json=event, headers=WRITER)

    assert counts(reply) == (1, 0, 0)
    numbers = totals(client)
    assert (kind in ("track", "page", "screen")) == numbers["events"]
    assert (kind in ("page", "screen")) == numbers["pageViews"]
    assert (kind == "track") == numbers["productViews"]


def test_the_short_paths_are_there_behind_both_doors(door: httpx.Client) -> None:
    for path in TYPE_OF_PATH:
        assert counts(
            door.post(f"/v1/{path}", json=make_event(type=..., previousId="a1"), headers=WRITER)
        ) == (1, 0, 0)
    assert totals(door)["events"] == 6


def test_a_type_in_the_body_goes_before_that_of_the_path(client: httpx.Client) -> None:
    client.post("/v1/track", json=make_event(type="page"), headers=WRITER)

    assert totals(client)["pageViews"] == 1


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "nonsense",
        None,
    ],
)
def test_any_content_type_is_read_as_json(door: httpx.Client, content_type: str | None) -> None:
    headers = WRITER | ({"Content-Type": content_type} if content_type else {})
    body = json.dumps({"batch": [make_event(event="Señal")]}, ensure_ascii=False).encode()

    assert counts(door.post("/v1/batch", content=body, headers=headers)) == (1, 0, 0)
    assert metrics(door)["totals"]["byEvent"] == {"Señal": 1}


def test_a_gzip_body_is_inflated(door: httpx.Client) -> None:
    body = gzip.compress(json.dumps({"batch": make_events(5)}).encode())
    reply = door.post("/v1/batch", content=body, headers=WRITER | {"Content-Encoding": "gzip"})

    assert counts(reply) == (5, 0, 0)


def test_an_empty_batch_is_fine(door: httpx.Client) -> None:
    assert counts(post(door, [])) == (0, 0, 0)


def test_null_means_absent(client: httpx.Client) -> None:
    event = make_event(anonymousId=None, properties=None, context=None, originalTimestamp=None, name=None)

    assert counts(post(client, [event], sentAt=None, context=None, writeKey=None)) == (1, 0, 0)
    assert counts(
        client.post("/v1/page", json=event | {"type": None, "messageId": None}, headers=WRITER)
    ) == (1, 0, 0)


def test_the_context_of_a_batch_is_each_events_default(client: httpx.Client) -> None:
    events = [make_event(), make_event(context={"sessionId": "own"}), make_event(context={"locale": "de"})]
    post(client, events, context={"sessionId": "shared"})

    assert totals(client)["sessions"] == 2


def test_a_null_in_an_events_context_takes_that_default(client: httpx.Client) -> None:
    post(client, [make_event(context={"sessionId": None})], context={"sessionId": "shared"})

    assert totals(client)["sessions"] == 1


# --- once ------------------------------------------------------------------------------------------------------------


def test_resending_a_batch_changes_nothing(door: httpx.Client) -> None:
    events = make_events(4)
    first, second = post(door, events), post(door, events)
    before = metrics(door)
    third = post(door, events)

    assert [counts(reply) for reply in (first, second, third)] == [(4, 0, 0), (0, 4, 0), (0, 4, 0)]
    assert before == metrics(door)
    assert before["totals"]["events"] == 4


def test_regrouped_retries_count_what_is_new(client: httpx.Client) -> None:
    events = make_events(10)
    post(client, events[:4])

    assert counts(post(client, events[2:7])) == (3, 2, 0)
    assert counts(post(client, events[::-1])) == (3, 7, 0)
    assert totals(client)["events"] == 10


def test_the_first_of_two_events_with_one_id_counts(client: httpx.Client) -> None:
    first = make_event(messageId="m", event="First")
    reply = post(client, [first, make_event(messageId="m", event="Second"), first])

    assert counts(reply) == (1, 2, 0)
    assert totals(client)["byEvent"] == {"First": 1}


def test_an_event_without_an_id_counts_once_for_its_content(client: httpx.Client) -> None:
    event = make_event(messageId=...)

    assert counts(post(client, [event, event])) == (1, 1, 0)
    assert counts(post(client, [dict(reversed(event.items()))])) == (0, 1, 0)
    assert counts(post(client, [event | {"timestamp": at(seconds=1)}])) == (1, 0, 0)


def test_the_path_makes_no_difference_to_an_event_without_an_id(client: httpx.Client) -> None:
    event = make_event(messageId=...)
    post(client, [event])

    assert counts(client.post("/v1/track", json={**event, "type": None}, headers=WRITER)) == (0, 1, 0)


def test_a_batch_may_span_users_and_days(door: httpx.Client) -> None:
    events = [
        make_event(userId=f"u-{user}", timestamp=at(days=-back))
        for user in range(4)
        for back in range(5)
        for _ in "ab"
    ]

    assert counts(post(door, events)) == (40, 0, 0)
    for user in range(4):
        days = metrics(door, f"u-{user}")["days"]
        assert [(number["day"], number["events"]) for number in days] == [
            (day(-back), 2) for back in range(4, -1, -1)
        ]


def test_a_retry_after_midnight_meets_the_same_day(settings: Settings, table: Table) -> None:
    clock = Clock(builders.NOON.replace(hour=23, minute=59, second=59))
    with lambda_client(make_app(settings, table, clock)) as client:
        event = make_event(timestamp=clock.now.isoformat())
        first = post(client, [event])
        clock.move(seconds=2)
        second = post(client, [event])

        assert (counts(first), counts(second)) == ((1, 0, 0), (0, 1, 0))
        assert [number["day"] for number in metrics(client)["days"]] == [TODAY]


def test_five_hundred_events_of_one_day_are_counted_in_chunks(client: httpx.Client) -> None:
    events = make_events(500)
    first = post(client, events)
    wru, rru = builders.capacity(first)

    assert counts(first) == (500, 0, 0)
    assert counts(post(client, events)) == (0, 500, 0)
    assert totals(client)["events"] == 500
    # Six writes, of an item that grows from one unit to four.
    assert 6 <= wru <= 24
    assert rru == 0


def test_the_largest_batch_is_decided_whole(client: httpx.Client) -> None:
    events = [
        {"type": "page", "messageId": f"m{number}", "userId": f"u{number % 7}"} for number in range(2500)
    ]

    assert counts(post(client, events)) == (2500, 0, 0)
    assert counts(post(client, events)) == (0, 2500, 0)
    assert sum(totals(client, f"u{user}")["pageViews"] for user in range(7)) == 2500


def test_one_bad_event_leaves_its_neighbours_alone(door: httpx.Client) -> None:
    events: list[Any] = [make_event(messageId=f"m-good-{number}") for number in range(3)]
    events[1:1] = [
        5,
        make_event(messageId="m-type", type="nonsense"),
        make_event(messageId="m-id", userId="guest"),
    ]
    events += [
        make_event(messageId="m-old", timestamp=at(days=-7, seconds=-1)),
        make_event(messageId="m-money", event="Order Completed", properties={"revenue": "lots"}),
        make_event(messageId="m-large", properties={"text": "x" * 40_000}),
        make_event(messageId="m-bot", context={"userAgent": "Googlebot/2.1"}),
    ]
    reply = post(door, events)

    assert counts(reply) == (3, 0, 7)
    assert [
        (rejected["index"], rejected["messageId"], rejected["code"]) for rejected in reply.json()["rejected"]
    ] == [
        (1, None, "invalid_event"),
        (2, "m-type", "invalid_event"),
        (3, "m-id", "invalid_id"),
        (6, "m-old", "timestamp_out_of_range"),
        (7, "m-money", "invalid_amount"),
        (8, "m-large", "event_too_large"),
        (9, "m-bot", "bot"),
    ]
    assert all(rejected["reason"] for rejected in reply.json()["rejected"])
    assert totals(door)["events"] == 3


def test_the_first_hundred_rejections_are_listed_and_all_are_counted(client: httpx.Client) -> None:
    reply = post(client, [make_event(userId="guest") for _ in range(150)] + make_events(2))

    assert counts(reply) == (2, 0, 150)
    assert [rejected["index"] for rejected in reply.json()["rejected"]] == list(range(100))


def test_a_single_event_that_is_too_large_is_rejected_alone(client: httpx.Client) -> None:
    event = make_event(properties={"text": "x" * 33_000})

    assert rejections(client.post("/v1/track", json=event, headers=WRITER)) == [(0, "event_too_large")]


def test_a_long_message_id_is_cut_in_the_reply(client: httpx.Client) -> None:
    reply = post(client, [make_event(messageId="m" * 5000, userId="guest")])

    assert reply.json()["rejected"][0]["messageId"] == "m" * 128


# --- the day's bounds ------------------------------------------------------------------------------------------------


def test_a_day_takes_its_cap_of_events_and_still_knows_its_duplicates(table: Table) -> None:
    with lambda_client(make_app(make_settings(max_events_per_user_day=100), table)) as client:
        events = make_events(130)
        first = post(client, events)
        again = post(client, events)
        elsewhere = post(client, [make_event(timestamp=at(days=-1)), make_event(userId="u-2")])

        assert counts(first) == (100, 0, 30)
        assert {code for _, code in rejections(first)} == {"day_full"}
        assert counts(again) == (0, 100, 30)
        assert counts(elsewhere) == (2, 0, 0)
        assert totals(client, to=TODAY, **{"from": TODAY})["events"] == 100


def test_a_hundred_names_a_day_are_kept_and_the_rest_is_other(client: httpx.Client) -> None:
    post(client, [make_event(event=f"Name {number}") for number in range(95)])
    post(client, [make_event(event=f"Name {number}") for number in range(90, 110)])
    post(client, [make_event(event="Name 3"), make_event(event="Name 200"), make_event(event="Name 201")])
    by_event = totals(client)["byEvent"]

    assert len(by_event) == 101
    assert (by_event["Name 3"], by_event["Name 92"], by_event["Name 99"], by_event["other"]) == (2, 2, 1, 12)
    assert sum(by_event.values()) == 118


@pytest.mark.parametrize(
    "name", ["a.b[0]", "#0", ":v", "50 %", "é💶", "\x00", "event#x", "revenue#EUR", "seen", "PK", "\x7f"]
)
def test_any_name_can_be_counted(client: httpx.Client, name: str) -> None:
    post(client, [make_event(event=name)])
    post(client, [make_event(event=name), make_event(event="Other Name")])

    assert totals(client)["byEvent"] == {name: 2, "Other Name": 1}


def test_a_day_takes_eight_currencies(client: httpx.Client) -> None:
    codes = ["AED", "AUD", "CAD", "CHF", "CNY", "EUR", "GBP", "JPY", "SEK"]
    orders = [
        make_event(event="Order Completed", properties={"revenue": 1, "currency": code}) for code in codes
    ]

    assert counts(post(client, orders[:5])) == (5, 0, 0)
    assert rejections(post(client, orders[5:])) == [(3, "day_full")]
    assert counts(post(client, orders[:1])) == (0, 1, 0)
    assert totals(client)["revenue"] == dict.fromkeys(codes[:8], 1)


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_a_shopping_trip_feeds_the_metric_table(door: httpx.Client) -> None:
    lines = [{"productId": "sku-1", "quantity": 2}, {"productId": "sku-2"}]
    names = [
        "Products Searched",
        "Product List Viewed",
        "Product Viewed",
        "Promotion Clicked",
        "Product Added",
    ]
    names += ["Product Removed", "Cart Viewed", "Product Added to Wishlist", "Checkout Started"]
    events = [make_event(event=name, context={"sessionId": "s-1"}) for name in names]
    events += [
        make_event(type="page", context={"sessionId": "s-2"}),
        make_event(type="screen"),
        make_event(
            event="Order Completed", properties={"revenue": 59.9, "currency": "EUR", "products": lines}
        ),
        make_event(event="purchase", properties={"value": "12.345", "currency": "usd", "items": lines}),
        make_event(event="Order Refunded", properties={"total": 9.9, "currency": "EUR"}),
        make_event(event="Order Cancelled"),
        make_event(event="Page Left", properties={"engagedSeconds": 132}),
        make_event(event="Newsletter Signed Up"),
    ]
    reply = post(door, events)

    assert counts(reply) == (17, 0, 0)
    expected: dict[str, Any] = dict.fromkeys(
        [
            "searches",
            "listViews",
            "productViews",
            "promotionClicks",
            "cartAdds",
            "cartRemoves",
            "cartViews",
            "wishlistAdds",
            "checkouts",
            "refundedOrders",
            "cancelledOrders",
        ],
        1,
    )
    expected |= {
        "events": 17,
        "sessions": 2,
        "pageViews": 2,
        "orders": 2,
        "itemsSold": 6,
        "engagedSeconds": 132,
    }
    expected |= {
        "revenue": {"EUR": Decimal("59.9"), "USD": Decimal("12.35")},
        "refunds": {"EUR": Decimal("9.9")},
        "byEvent": {"Newsletter Signed Up": 1},
    }
    answer = metrics(door)
    assert answer["days"] == [{"day": TODAY} | expected]
    assert answer["totals"] == {"activeDays": 1} | expected


def test_identify_alias_and_group_are_accepted_and_not_counted(client: httpx.Client) -> None:
    events = [make_event(type=kind, previousId="a1") for kind in ("identify", "alias", "group")]

    assert counts(post(client, [*events, make_event()])) == (4, 0, 0)
    assert totals(client)["events"] == 1


def test_money_is_exact_beyond_what_a_float_holds(door: httpx.Client) -> None:
    prices = ["999999999999.99", "999999999999.98", "0.01", "0.1", "0.2"] + ["999999999999.97"] * 100
    orders = [
        f'{{"type":"track","event":"Order Completed","messageId":"m{number}","userId":"u-1",'
        f'"timestamp":"{at(days=-(number % 2))}","properties":{{"revenue":{price},"currency":"EUR"}}}}'
        for number, price in enumerate(prices)
    ]
    door.post("/v1/batch", content=f'{{"batch":[{",".join(orders)}]}}', headers=WRITER)
    total = sum(Decimal(price) for price in prices)

    assert total * 100 > 2**53
    assert total == totals(door)["revenue"]["EUR"]


def test_numbers_no_float_can_hold_spoil_their_event_alone(client: httpx.Client) -> None:
    numbers = ["1" * 4301, "1e400", "-1", "1e99999999999999999999", "12.5"]
    events = ",".join(
        f'{{"type":"track","event":"Order Completed","messageId":"m{index}","userId":"u-1",'
        f'"properties":{{"revenue":{number}}}}}'
        for index, number in enumerate(numbers)
    )
    reply = client.post("/v1/batch", content=f'{{"batch":[{events}]}}', headers=WRITER)

    assert rejections(reply) == [(index, "invalid_amount") for index in range(4)]
    assert totals(client)["revenue"] == {"USD": Decimal("12.5")}


def test_the_default_currency_is_the_settings_own(table: Table) -> None:
    with lambda_client(make_app(make_settings(currency="JPY"), table)) as client:
        post(client, [make_event(event="Order Completed", properties={"revenue": "99.5"})])

        assert totals(client)["revenue"] == {"JPY": 100}


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        basic(WRITE_KEY),
        basic(WRITE_KEY, colon=""),
        basic(WRITE_KEY, ":password"),
        bearer(WRITE_KEY),
        bearer(SECRET_KEY),
        basic(SECRET_KEY),
    ],
)
def test_a_valid_key_may_post(door: httpx.Client, headers: dict[str, str]) -> None:
    assert counts(door.post("/v1/batch", json={"batch": make_events(1)}, headers=headers)) == (1, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        {"batch": [make_event()], "writeKey": WRITE_KEY},
        {"batch": [make_event(writeKey=WRITE_KEY), make_event()]},
        {"batch": [make_event()], "writeKey": SECRET_KEY},
    ],
)
def test_the_key_may_come_in_the_body_so_that_a_browser_asks_no_preflight(
    door: httpx.Client, body: dict[str, Any]
) -> None:
    reply = door.post("/v1/batch", content=json.dumps(body), headers={"Content-Type": "text/plain"})

    assert counts(reply) == (len(body["batch"]), 0, 0)


def test_the_key_of_a_single_event_may_come_in_its_body(client: httpx.Client) -> None:
    assert counts(client.post("/v1/t", json=make_event(writeKey=WRITE_KEY))) == (1, 0, 0)


WRONG: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"writeKey": "wrong"}),
    ({}, {"writeKey": ""}),
    ({}, {"writeKey": 5}),
    ({}, {"writeKey": "\ud800"}),
    ({}, {"writeKey": "clé"}),
    (basic("wrong"), {}),
    (basic(""), {}),
    (basic("clé"), {}),
    (bearer("wrong"), {}),
    ({"Authorization": "Bearer"}, {}),
    ({"Authorization": "Basic !!!"}, {}),
    ({"Authorization": "Token " + WRITE_KEY}, {}),
    ({"Authorization": WRITE_KEY}, {}),
    # A wrong key in the header is not mended by a right one in the body.
    (basic("wrong"), {"writeKey": WRITE_KEY}),
]


def test_wrong_and_missing_keys_get_the_same_answer(door: httpx.Client) -> None:
    replies = [
        door.post("/v1/batch", content=json.dumps({"batch": make_events(1)} | body), headers=headers)
        for headers, body in WRONG
    ]
    raw = door.post(
        "/v1/batch", content=json.dumps({"batch": []}), headers=[(b"Authorization", "Bearer clé".encode())]
    )

    assert {reply.status_code for reply in [*replies, raw]} == {401}
    assert len({reply.content for reply in [*replies, raw]}) == 1
    assert replies[0].json()["code"] == "unauthorized"
    assert totals(door)["events"] == 0


def test_a_non_ascii_write_key_works(table: Table) -> None:
    with lambda_client(make_app(make_settings(write_keys=frozenset({"clé-💶"})), table)) as client:
        first = client.post("/v1/batch", json={"batch": make_events(1)}, headers=basic("clé-💶"))
        second = client.post("/v1/batch", json={"batch": make_events(1), "writeKey": "clé-💶"})

        assert (counts(first), counts(second)) == ((1, 0, 0), (1, 0, 0))


def test_several_keys_of_a_kind_work_side_by_side(table: Table) -> None:
    settings = make_settings(write_keys=frozenset({"old", "new"}))
    with lambda_client(make_app(settings, table)) as client:
        for key in ("old", "new"):
            assert counts(client.post("/v1/t", json=make_event(), headers=basic(key))) == (1, 0, 0)


# --- identity tokens and revenue from the server ---------------------------------------------------------------------


def test_a_user_id_from_a_public_key_needs_its_token_and_a_trusted_one_does_not(table: Table) -> None:
    token = hmac.new(b"shop", b"u-1", hashlib.sha256).hexdigest()
    with lambda_client(make_app(make_settings(identity_secret=b"shop"), table)) as client:
        events = [
            make_event(),
            make_event(context={"userToken": token}),
            make_event(userId="u-2", context={"userToken": token}),
            make_event(userId=..., anonymousId="a1"),
            make_event(type="identify", anonymousId="a1"),
        ]
        public = post(client, events)
        default = post(client, make_events(1), context={"userToken": token})
        trusted = client.post("/v1/batch", json={"batch": make_events(1)}, headers=READER)

        assert rejections(public) == [(index, "identity_unverified") for index in (0, 2, 4)]
        assert counts(default) == counts(trusted) == (1, 0, 0)
        assert totals(client)["events"] == 3
        assert totals(client, "anon_a1")["events"] == 1


def test_orders_count_only_from_the_server_where_the_shop_says_so(table: Table) -> None:
    with lambda_client(make_app(make_settings(revenue_from="server"), table)) as client:
        order = {"event": "Order Completed", "properties": {"revenue": 10, "products": [{}]}}
        public = post(
            client, [make_event(**order), make_event(event="Order Refunded", properties={"total": "x"})]
        )
        before = totals(client)
        trusted = client.post("/v1/track", json=make_event(**order), headers=READER)
        after = totals(client)

        assert counts(public) == (2, 0, 0)
        assert (before["orders"], before["itemsSold"], before["revenue"]) == (0, 0, {})
        assert before["byEvent"] == {"Order Completed": 1, "Order Refunded": 1}
        assert counts(trusted) == (1, 0, 0)
        assert (after["orders"], after["itemsSold"], after["revenue"]) == (1, 1, {"USD": 10})


# --- what is stored --------------------------------------------------------------------------------------------------


def test_a_day_is_one_item_under_the_documented_keys(client: httpx.Client, table: Table) -> None:
    post(client, [make_event(), make_event(userId=..., anonymousId="a#1", timestamp=at(days=-1))])

    assert set(builders.items(table)) == {
        ("USER#u-1", f"DAY#{TODAY}"),
        ("USER#anon_a#1", f"DAY#{day(-1)}"),
    }


def test_days_expire_only_where_the_shop_says_so(table: Table, settings: Settings) -> None:
    def expiry(**overrides: Any) -> int | None:
        with lambda_client(make_app(make_settings(**overrides), table)) as client:
            user = f"u-{len(overrides)}"
            post(client, [make_event(userId=user)])
        item = builders.item_at(table, keys.day_key(user, TODAY))
        assert item is not None
        return int(item["expiresAt"]["N"]) if "expiresAt" in item else None

    days_kept = ((expiry(day_ttl_days=30) or 0) - builders.NOON.timestamp()) / 86_400

    assert expiry() is None
    assert 30 <= days_kept <= 33


@pytest.mark.parametrize("ids", [{"userId": "Jose\u0301"}, {"userId": " José "}, {"userId": "José"}])
def test_spellings_of_one_id_are_one_user(client: httpx.Client, ids: dict[str, str]) -> None:
    post(client, [make_event(**ids)])

    assert totals(client, "Jos%C3%A9")["events"] == 1


@pytest.mark.parametrize(
    "user", ["u#1", "a?b", "a%41", "a%3Fb", "50%", "..a", "ü ber", "DAY#1", "u+1", "a&b=c", "💶"]
)
def test_a_user_of_any_name_is_found_by_its_path(door: httpx.Client, user: str) -> None:
    post(door, [make_event(userId=user)])
    answer = metrics(door, quote(user, safe=""))

    assert (answer["userId"], answer["totals"]["events"]) == (user, 1)


def test_every_accepted_event_is_in_the_sums_whatever_the_order(client: httpx.Client, app: FastAPI) -> None:
    def sender(order: Callable[[list[Any]], list[Any]]) -> tuple[int, int, int]:
        return counts(post(client, order(events)))

    events = [make_event(event=f"N{number % 3}", timestamp=at(hours=-number * 7)) for number in range(20)]
    sender(lambda sent: sent[5:15])
    sender(lambda sent: list(reversed(sent)))

    assert totals(client)["byEvent"] == {"N0": 7, "N1": 7, "N2": 6}


# --- the same event, whatever it travels with ------------------------------------------------------------------------


def test_an_event_over_the_limit_is_refused_also_when_it_is_compressed(client: httpx.Client) -> None:
    event = make_event(properties={"text": "a" * 40_000})
    body = gzip.compress(json.dumps({"batch": [event]}).encode())
    reply = client.post("/v1/batch", content=body, headers=WRITER | {"Content-Encoding": "gzip"})

    assert len(body) < 32_768
    assert rejections(reply) == [(0, "event_too_large")]


@pytest.mark.parametrize("number", ["0." + "3" * 5_000, "9" * 500, "1e400"])
def test_a_number_is_read_the_same_whoever_its_neighbours_are(client: httpx.Client, number: str) -> None:
    def body(*neighbours: str) -> bytes:
        event = f'{{"type": "page", "userId": "u-1", "timestamp": "{at()}", "properties": {{"n": {number}}}}}'
        return ('{"batch": [' + ", ".join([event, *neighbours]) + "]}").encode()

    text = "a" * 20_000
    huge = f'{{"type": "page", "userId": "u-2", "properties": {{"n": {"9" * 5_000}, "text": "{text}"}}}}'
    alone = client.post("/v1/batch", content=body(), headers=WRITER)
    beside = client.post("/v1/batch", content=body(huge, huge), headers=WRITER)

    assert counts(alone) == (1, 0, 0)
    # The neighbours have no messageId and are alike: one event.
    assert counts(beside) == (1, 2, 0)
    assert totals(client)["events"] == 1


def test_an_id_of_a_hundred_thousand_combining_marks_is_refused_unread(client: httpx.Client) -> None:
    # Normalising it would take minutes: the time grows with the square.
    events = [make_event(userId="a" + "\u0301" * 100_000)]
    body = gzip.compress(json.dumps({"batch": events}, ensure_ascii=False).encode())
    reply = client.post("/v1/batch", content=body, headers=WRITER | {"Content-Encoding": "gzip"})

    assert counts(reply) == (0, 0, 1)
