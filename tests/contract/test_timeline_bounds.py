"""GET /v1/users/{userId}/events: how large a reply gets, and what it is when time runs out."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service import keys, user_routes
from service.dynamodb import Table
from service.settings import Settings
from tests import builders, faults
from tests.builders import NOON, Clock, at, counts, day, lambda_client, make_app, make_settings, post
from tests.contract.test_timeline import asked, event, names, page, pages

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


@pytest.mark.parametrize("character", ["x", '"', "\\", "é", "\x01"])
def test_a_page_fits_into_a_reply_of_the_function_whatever_is_in_it(
    client: httpx.Client, character: str
) -> None:
    """Lambda's reply has at most 6 MB, in which the body is a JSON string."""
    text = character * (31_000 // len(json.dumps(character)[1:-1].encode()))
    sent: list[str] = []
    for batch in range(20):
        events = [event(f"m-{batch}-{number}", properties={"a": text}) for number in range(15)]
        sent += [one["messageId"] for one in events]
        assert counts(post(client, events)) == (15, 0, 0)
    first = asked(client, limit="1000")

    assert 1_000_000 < len(json.dumps(first.text)) < 6_000_000
    assert 1 < len(first.json()["events"]) < 300
    by_page = pages(client, limit="1000")
    assert sorted(name for names_ in by_page for name in names_) == sorted(sent)


def test_one_event_too_many_for_a_page_is_a_page(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, [event(f"m-{number}", timestamp=at(seconds=number)) for number in range(3)])
    monkeypatch.setattr(user_routes, "REPLY_BYTES_MAX", 1)

    assert pages(client) == [["m-2"], ["m-1"], ["m-0"]]


@pytest.fixture
def long_ago(client: httpx.Client, clock: Clock) -> None:
    """A hundred and fifty days, an item each: two pages of a Query."""
    for number in range(150):
        clock.now = NOON - timedelta(days=149 - number)
        post(client, [event(f"m-{number}", timestamp=clock.now.isoformat())])


@pytest.mark.usefixtures("long_ago")
def test_when_time_is_up_the_answer_is_what_was_found_and_where_to_go_on(client: httpx.Client) -> None:
    whole = names(page(client, **{"from": day(-365)}, limit="1000"))
    # Call 1 is the mark, 2 the ways back, 3 a hundred items, 4 the rest.
    with faults.injected(faults.Fault("refuse", operation="Query", call=3, attempts=None)):
        body = page(client, **{"from": day(-365)}, limit="1000")
    rest = page(client, **{"from": day(-365)}, limit="1000", cursor=body["nextCursor"])

    assert whole == [f"m-{number}" for number in reversed(range(150))]
    assert 50 < len(body["events"]) < 100
    assert names(body) + names(rest) == whole
    assert rest["nextCursor"] is None


@pytest.mark.usefixtures("long_ago")
@pytest.mark.parametrize("call", [1, 2])
def test_when_time_is_up_before_anything_is_sure_there_is_no_answer(client: httpx.Client, call: int) -> None:
    with faults.injected(faults.Fault("refuse", operation="Query", call=call, attempts=None)):
        reply = asked(client, **{"from": day(-365)})

    assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
    assert "retry-after" in reply.headers


def test_without_time_nothing_is_read(app: FastAPI) -> None:
    with lambda_client(app, remaining_ms=1000) as hurried, faults.injected() as made:
        assert asked(hurried).status_code == 503

    assert made.operations == []


def test_reading_items_ends_when_the_time_does(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    post(client, [event("m-1")])
    monkeypatch.setattr("service.timeline.monotonic", lambda: time.monotonic() + 3600)

    assert asked(client).status_code == 503


def test_an_item_of_a_newer_version_is_not_guessed_at(client: httpx.Client, table: Table) -> None:
    post(client, [event("m-1")])
    ((pk, sk),) = [key for key in builders.items(table) if keys.is_events(key[1])]
    table.client.update_item(
        TableName=table.name,
        Key={"PK": {"S": pk}, "SK": {"S": sk}},
        UpdateExpression="SET #s = :two",
        ExpressionAttributeNames={"#s": "schema"},
        ExpressionAttributeValues={":two": {"N": "2"}},
    )

    assert (asked(client).status_code, asked(client).json()["code"]) == (503, "misconfigured")
