"""GET /v1/users/{userId}/events: what somebody did, the newest first, each event once, page by page."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI

from service.dynamodb import Table
from service.events import short_hash
from service.settings import Settings
from tests import builders, faults
from tests.builders import (
    NOON,
    READER,
    TODAY,
    WRITER,
    Clock,
    at,
    counts,
    day,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    post,
)

Json = dict[str, Any]


@pytest.fixture
def settings() -> Settings:
    return make_settings(raw_events=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(settings: Settings, table: Table, clock: Clock) -> FastAPI:
    return make_app(settings, table, clock)


def asked(client: httpx.Client, user: str = "u-1", **parameters: str) -> httpx.Response:
    return client.get(f"/v1/users/{user}/events", params=parameters, headers=READER)


def page(client: httpx.Client, user: str = "u-1", **parameters: str) -> Json:
    reply = asked(client, user, **parameters)
    assert reply.status_code == 200, reply.text
    body: Json = reply.json()
    return body


def names(body: Json) -> list[str]:
    return [event["messageId"] for event in body["events"]]


def pages(client: httpx.Client, user: str = "u-1", **parameters: str) -> list[list[str]]:
    """The messageIds of each page, until one has no cursor."""
    found: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        body = page(client, user, **parameters, **cursor)
        found.append(names(body))
        if body["nextCursor"] is None:
            return found
        cursor = {"cursor": body["nextCursor"]}
        assert len(found) < 200


def event(name: str, **fields: Any) -> Json:
    return make_event(messageId=name, **fields)


def visit(name: str, anonymous_id: str = "a1", **fields: Any) -> Json:
    return make_event(messageId=name, userId=..., anonymousId=anonymous_id, **fields)


def imported(client: httpx.Client, *events: Json) -> None:
    reply = client.post("/v1/import", json={"batch": list(events)}, headers=READER)
    assert counts(reply) == (len(events), 0, 0)


# --- the events ------------------------------------------------------------------------------------------------------


def test_an_event_is_as_it_was_sent_with_its_batchs_context_and_its_receipt(door: httpx.Client) -> None:
    sent = event(
        "m-1", properties={"price": 59.9, "ä": ["💶", None]}, context={"sessionId": "s", "page": None}
    )
    outer = {"page": {"path": "/"}, "sessionId": "other", "userToken": "t"}
    post(door, [sent | {"writeKey": "k"}], context=outer)
    reply = asked(door)

    assert reply.headers["content-type"] == "application/json"
    assert "footfall-capacity" in reply.headers
    context = {"page": {"path": "/"}, "sessionId": "s"}
    assert reply.json() == {
        "userId": "u-1",
        "from": day(-29),
        "to": TODAY,
        "timezone": "UTC",
        "events": [sent | {"context": context, "receivedAt": "2026-11-22T12:00:00.000Z"}],
        "nextCursor": None,
    }


@pytest.mark.parametrize("number", ["59.90", "1E+3", "9007199254740993", "-0.0", "1E-400"])
def test_a_number_has_the_digits_it_was_sent_with(client: httpx.Client, number: str) -> None:
    text = json.dumps({"batch": [event("m-1", properties={"number": "#"}, lone="\ud800")]})
    client.post("/v1/batch", content=text.replace('"#"', number), headers=WRITER)

    assert f'"properties":{{"number":{number}}},"lone":"\\ud800"' in asked(client).text


def test_somebody_nobody_has_seen_did_nothing(door: httpx.Client) -> None:
    for user in ("nobody", "anon_nobody"):
        body = page(door, user)
        assert (body["userId"], body["events"], body["nextCursor"]) == (user, [], None)
        assert "requestedId" not in body


def test_other_peoples_events_are_not_among_them(client: httpx.Client) -> None:
    for user in ("u", "u-1", "u-1#", "u-10"):
        post(
            client,
            [event(f"of-{user}", userId=user), event(f"with-{user}", userId=user, anonymousId=f"a-{user}")],
        )

    assert sorted(names(page(client))) == ["of-u-1", "with-u-1"]
    assert sorted(names(page(client, quote("u-1#", safe="")))) == ["of-u-1#", "with-u-1#"]


def test_an_event_that_arrived_again_is_there_once_as_it_first_arrived(
    client: httpx.Client, clock: Clock
) -> None:
    first = [event(f"m-{number}", timestamp=at(hours=-number)) for number in range(4)]
    post(client, first[:3], context={"try": 1})
    clock.move(minutes=1)
    # Regrouped, with a newer one, and later alone.
    post(client, [first[3], first[1], event("new")], context={"try": 2})
    clock.move(minutes=1)
    post(client, [first[2]], context={"try": 3})
    clock.move(hours=1)
    found = page(client)["events"]

    assert [one["messageId"] for one in found] == ["new", "m-3", "m-0", "m-1", "m-2"]
    assert [one["context"]["try"] for one in found] == [2, 2, 1, 1, 1]


def test_a_retry_that_brings_the_user_id_is_no_second_event(client: httpx.Client, clock: Clock) -> None:
    post(client, [visit("m-1"), visit("m-2")])
    clock.move(minutes=1)
    reply = post(client, [event("m-1", anonymousId="a1"), event("m-3", anonymousId="a1")])

    assert counts(reply) == (1, 1, 0)
    found = page(client)["events"]
    assert [(one["messageId"], "userId" in one) for one in found] == [
        ("m-3", True),
        *sorted([("m-1", False), ("m-2", False)], key=lambda one: short_hash(one[0].encode()), reverse=True),
    ]


def test_a_merged_visitors_events_are_the_users(client: httpx.Client, clock: Clock) -> None:
    for number, anonymous_id in enumerate(("a1", "a2", "a3")):
        clock.move(minutes=1)
        post(client, [visit(f"v-{number}", anonymous_id)])
    clock.move(minutes=1)
    post(client, [event("u")])
    assert names(page(client)) == ["u"]
    for anonymous_id in ("a1", "a2"):
        merged = client.post("/v1/users/u-1/merge", json={"anonymousId": anonymous_id}, headers=READER)
        assert merged.status_code == 200
    whole = page(client)

    assert names(whole) == ["u", "v-1", "v-0"]
    assert page(client, "anon_a1") == whole | {"requestedId": "anon_a1"}
    assert "requestedId" not in whole
    assert names(page(client, "anon_a3")) == ["v-2"]
    # The next event of the visitor too, which is kept with the visitor's.
    clock.move(minutes=1)
    post(client, [visit("later")])
    assert names(page(client)) == ["later", "u", "v-1", "v-0"]


# --- the order -------------------------------------------------------------------------------------------------------


def test_the_newest_receipt_comes_first_and_in_it_the_newest_event(
    client: httpx.Client, clock: Clock
) -> None:
    post(client, [event("early-1", timestamp=at(hours=-1)), event("early-2", timestamp=at(hours=20))])
    clock.move(minutes=1)
    post(client, [event("late-1", timestamp=at(days=-6)), event("late-2", timestamp=at(days=-2))])
    clock.move(minutes=1)
    post(
        client,
        [visit("later", timestamp=at(days=-3)), event("later-2", timestamp=at(days=-5), anonymousId="a1")],
    )

    assert names(page(client, to=day(1))) == ["later", "later-2", "late-2", "late-1", "early-2", "early-1"]


def test_what_was_imported_late_stands_where_the_age_limit_would_have_let_it_in(client: httpx.Client) -> None:
    imported(client, event("old", timestamp=at(days=-20)), event("older", timestamp=at(days=-25)))
    imported(client, event("recent", timestamp=at(days=-6)))
    post(client, [event("now")])

    assert names(page(client)) == ["now", "recent", "old", "older"]


def history(client: httpx.Client, clock: Clock) -> list[str]:
    """Events of three identities over two weeks, some late, some imported, some sent again in other requests."""
    sent: list[Json] = []
    for number in range(60):
        moment = clock.now - timedelta(hours=(number * 37) % 160)
        make = visit if number % 3 == 0 else event
        sent.append(make(f"m-{number}", timestamp=moment.isoformat()))
        if number % 4 == 3:
            assert post(client, [*sent[-4:], *sent[-9:-8]]).status_code == 200
            clock.move(hours=7)
    imported(client, *(event(f"old-{number}", timestamp=at(days=-number)) for number in range(1, 28, 3)))
    assert post(client, [event("link", anonymousId="a1", timestamp=clock.now.isoformat())]).status_code == 200
    return [one["messageId"] for one in sent] + [f"old-{number}" for number in range(1, 28, 3)] + ["link"]


@pytest.mark.parametrize("age_days", [1, 7, 31])
def test_every_limit_gives_the_same_sequence(table: Table, clock: Clock, age_days: int) -> None:
    with lambda_client(make_app(make_settings(raw_events=True), table, clock)) as client:
        sent = history(client, clock)
    app = make_app(make_settings(raw_events=True, max_event_age_days=age_days), table, clock)
    with lambda_client(app) as client:
        (whole,) = pages(client, **{"from": day(-29)}, limit="1000")
        found = {
            limit: pages(client, **{"from": day(-29)}, limit=str(limit)) for limit in (1, 2, 7, 30, 69, 70)
        }

    assert sorted(whole) == sorted(sent)
    for limit, by_page in found.items():
        assert [name for names_ in by_page for name in names_] == whole, limit
        assert all(len(names_) == limit for names_ in by_page[:-1]), limit
        assert 1 <= len(by_page[-1]) <= limit, limit


def test_a_page_of_the_newest_does_not_read_the_whole_history(client: httpx.Client, clock: Clock) -> None:
    for number in range(150):
        clock.move(days=-1)
        imported(client, event(f"old-{number}", timestamp=clock.now.isoformat()))
    clock.now = NOON
    post(client, [event("new")])
    with faults.injected() as made:
        body = page(client, **{"from": day(-365)}, limit="1")

    assert names(body) == ["new"]
    # The mark, the ways back, and one page of items.
    assert made.operations == ["GetItem", "Query", "Query"]


# --- days ------------------------------------------------------------------------------------------------------------


def test_days_are_those_of_the_events_both_inclusive(client: httpx.Client) -> None:
    post(client, [event(f"m{back}", timestamp=at(days=-back)) for back in range(-1, 7)])

    assert sorted(names(page(client))) == [f"m{back}" for back in range(7)]
    assert sorted(names(page(client, **{"from": day(-3), "to": day(-2)}))) == ["m2", "m3"]
    assert names(page(client, **{"from": day(1), "to": day(1)})) == ["m-1"]
    assert names(page(client, **{"from": day(2), "to": day(300)})) == []
    assert names(page(client, **{"from": "1990-01-01", "to": "1990-01-02"})) == []


@pytest.mark.parametrize(
    ("zone", "local_day", "hours"),
    [
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-03-29", 23),
        ("America/Havana", "2026-11-01", 25),
        ("Africa/Cairo", "2026-04-24", 23),  # whose midnight there is not
        ("Pacific/Kiritimati", "2026-11-22", 24),
        ("Pacific/Pago_Pago", "2026-11-22", 24),
        ("America/New_York", "1999-12-31", 5),  # as much of it as can be imported
    ],
)
def test_a_day_is_the_shops_own_to_the_millisecond(
    table: Table, clock: Clock, zone: str, local_day: str, hours: int
) -> None:
    start = datetime.combine(datetime.fromisoformat(local_day), datetime.min.time(), ZoneInfo(zone))
    end = start + timedelta(days=1)  # of the wall clock
    first, last = start.astimezone(UTC), end.astimezone(UTC) - timedelta(milliseconds=1)
    if local_day < "2000":
        first = datetime(2000, 1, 1, tzinfo=UTC)
    clock.now = first + timedelta(days=3)
    app = make_app(make_settings(raw_events=True, timezone=ZoneInfo(zone)), table, clock)
    with lambda_client(app) as client:
        moments = {"first": first, "last": last, "after": last + timedelta(milliseconds=1)}
        if local_day > "2000":
            moments["before"] = first - timedelta(milliseconds=1)
        imported(client, *(event(name, timestamp=moment.isoformat()) for name, moment in moments.items()))
        found = page(client, **{"from": local_day, "to": local_day})
        day_counts = builders.totals(client, **{"from": local_day, "to": local_day})["events"]

    assert (sorted(names(found)), found["timezone"], day_counts) == (["first", "last"], zone, 2)
    assert last - first == timedelta(hours=hours, milliseconds=-1)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"cursor": "x"}, "invalid_cursor"),
        ({"cursor": ""}, "invalid_cursor"),
        ({"cursor": "a" * 60_000}, "invalid_cursor"),
        ({"limit": "0"}, "invalid_request"),
        ({"limit": "1001"}, "invalid_request"),
        ({"limit": "99999"}, "invalid_request"),
        ({"limit": "-1"}, "invalid_request"),
        ({"limit": "1.0"}, "invalid_request"),
        ({"limit": "٣"}, "invalid_request"),
        ({"limit": ""}, "invalid_request"),
        ({"from": "x"}, "invalid_range"),
        ({"to": "2026-02-30"}, "invalid_range"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "invalid_range"),
        ({"from": "2020-01-01"}, "invalid_range"),
    ],
)
def test_what_cannot_be_asked_is_said(client: httpx.Client, parameters: dict[str, str], code: str) -> None:
    reply = asked(client, **parameters)

    assert (reply.status_code, reply.json()["code"]) == (422, code)
    assert len(reply.content) < 1000
    assert "footfall-capacity" not in reply.headers


@pytest.mark.parametrize(
    "place", ["0 0 aa", "-99999999999999999999 0 aa", "99999999999999999999 0 aa", "1 1 "]
)
def test_a_cursor_that_could_be_one_is_a_place_like_any_other(client: httpx.Client, place: str) -> None:
    post(client, [event("m-1")])
    body = page(client, cursor=base64.urlsafe_b64encode(place.encode()).decode().rstrip("="))

    assert names(body) == (["m-1"] if place.startswith("9") else [])


@pytest.mark.parametrize(("headers", "status"), [({}, 401), (builders.bearer("x"), 401), (WRITER, 403)])
@pytest.mark.parametrize("is_on", [True, False])
def test_the_key_is_looked_at_first(table: Table, headers: dict[str, str], status: int, is_on: bool) -> None:
    with lambda_client(make_app(make_settings(raw_events=is_on), table)) as client:
        for user in ("u-1", "guest"):
            reply = client.get(f"/v1/users/{user}/events", params={"cursor": "x"}, headers=headers)
            assert reply.status_code == status
            assert "footfall-capacity" not in reply.headers


def test_without_raw_events_it_says_how_to_turn_them_on(table: Table) -> None:
    with lambda_client(make_app(make_settings(), table)) as client:
        reply = asked(client, limit="nonsense")

        assert (reply.status_code, reply.json()["code"]) == (501, "raw_events_off")
        assert "RawEvents=true" in reply.json()["detail"]
        assert "FOOTFALL_RAW_EVENTS=1" in reply.json()["detail"]
        assert reply.headers["content-type"] == "application/problem+json"
        assert asked(client, "guest").json()["code"] == "invalid_id"


def test_what_is_no_id_is_nobody(door: httpx.Client) -> None:
    for user in ("guest", "%20", "x" * 129, "anon_"):
        reply = asked(door, user)
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_id")
