"""Raw events in the export of a person: each as it was sent, under whichever id it was sent with, page by page."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from service import user_routes
from service.dynamodb import Table
from service.settings import Settings
from tests import faults
from tests.builders import READER, at, counts, lambda_client, make_app, make_event, make_settings, post

Json = dict[str, Any]


@pytest.fixture
def settings() -> Settings:
    return make_settings(raw_events=True)


def pages(client: httpx.Client, user: str = "u-1") -> list[list[Json]]:
    found: list[list[Json]] = []
    cursor: dict[str, str] = {}
    while True:
        reply = client.get(f"/v1/users/{user}/export", params=cursor, headers=READER)
        assert reply.status_code == 200, reply.text
        found.append([json.loads(line) for line in reply.text.splitlines()])
        if "footfall-next-cursor" not in reply.headers:
            return found
        cursor = {"cursor": reply.headers["footfall-next-cursor"]}
        assert len(found) < 200


def whole(client: httpx.Client, user: str = "u-1") -> list[Json]:
    (only,) = pages(client, user)
    return only


def ids_of(lines: list[Json]) -> list[str]:
    return [line["event"]["messageId"] for line in lines if "event" in line]


def visit(name: str, anonymous_id: str, **fields: Any) -> Json:
    return make_event(messageId=name, userId=..., anonymousId=anonymous_id, **fields)


@pytest.fixture
def life(client: httpx.Client) -> set[str]:
    """The messageIds of a person with two devices: items of several events, and of one; and another person's."""
    sent = [make_event(messageId=f"u-{number}", timestamp=at(hours=-number * 13)) for number in range(9)]
    sent += [visit(f"b-{number}", "b", timestamp=at(hours=-number)) for number in range(3)]
    sent += [visit("a-0", "a"), visit("a-1", "a", timestamp=at(days=-6))]
    assert counts(post(client, sent)) == (len(sent), 0, 0)
    assert counts(post(client, [make_event(messageId="o", userId="u-2"), visit("c-0", "c")])) == (2, 0, 0)
    for anonymous_id in "ab":
        client.post("/v1/users/u-1/merge", json={"anonymousId": anonymous_id}, headers=READER)
    return {event["messageId"] for event in sent}


def test_they_follow_the_days_the_users_own_first(client: httpx.Client, life: set[str]) -> None:
    lines = whole(client)
    kinds = ["anonymousId" if "status" in line else "day" if "day" in line else "event" for line in lines]

    assert kinds == sorted(kinds, key=["anonymousId", "day", "event"].index)
    assert set(ids_of(lines)) == life
    assert len(ids_of(lines)) == len(life)
    assert [name[0] for name in ids_of(lines)] == ["u"] * 9 + ["a"] * 2 + ["b"] * 3
    assert all(line.keys() == {"receivedAt", "event"} for line in lines if "event" in line)
    assert whole(client, "anon_b") == lines
    assert ids_of(whole(client, "anon_c")) == ["c-0"]


def test_a_line_has_the_event_as_it_was_sent(client: httpx.Client) -> None:
    event = make_event(properties={"price": 59.9, "ä": [None, "💶"]}, context={"sessionId": "s"})
    post(client, [event | {"writeKey": "k"}], context={"ip": "1.2.3.4", "userToken": "t"})

    assert whole(client)[-1] == {
        "receivedAt": "2026-11-22T12:00:00.000Z",
        "event": event | {"context": {"ip": "1.2.3.4", "sessionId": "s"}},
    }


@pytest.mark.parametrize("bytes_max", [1, 600, 1500, 4000])
def test_pages_of_any_size_have_the_same_lines(
    client: httpx.Client, life: set[str], monkeypatch: pytest.MonkeyPatch, bytes_max: int
) -> None:
    lines = whole(client)
    monkeypatch.setattr(user_routes, "REPLY_BYTES_MAX", bytes_max)
    found = pages(client)

    assert [line for page in found for line in page] == lines
    assert all(found)
    assert len(found) > 1
    assert bytes_max > 1 or all(len(page) == 1 for page in found)
    assert set(ids_of(lines)) == life


@pytest.mark.parametrize("call", range(2, 6))
def test_a_page_ends_where_the_time_does(client: httpx.Client, life: set[str], call: int) -> None:
    lines = whole(client)
    with faults.injected(faults.Fault("refuse", operation="Query", call=call, attempts=None)):
        first = client.get("/v1/users/u-1/export", headers=READER)
    after = {"cursor": first.headers.get("footfall-next-cursor", "")}
    rest = client.get("/v1/users/u-1/export", params=after, headers=READER)

    texts = first.text.splitlines() + rest.text.splitlines()
    assert [json.loads(text) for text in texts] == lines
    assert "footfall-next-cursor" not in rest.headers
    assert life


def test_they_are_part_of_it_when_they_are_no_longer_kept(client: httpx.Client, table: Table) -> None:
    """Everything held on a person is what was kept before, too."""
    post(client, [make_event(messageId="m-1")])
    with lambda_client(make_app(make_settings(), table)) as without:
        assert ids_of(whole(without)) == ["m-1"]
