"""Everything held on one person, as NDJSON, page by page."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from service import identities, user_routes
from service.dynamodb import Table
from service.events import epoch_ms
from service.settings import Settings
from service.store import Work
from tests import builders, faults
from tests.builders import (
    NOON,
    READER,
    TODAY,
    WRITER,
    Clock,
    at,
    capacity,
    day,
    make_app,
    make_event,
    make_events,
    metrics,
    post,
)

Json = dict[str, Any]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(settings: Settings, table: Table, clock: Clock) -> FastAPI:
    return make_app(settings, table, clock)


def asked(client: httpx.Client, user: str = "u-1", **parameters: str) -> httpx.Response:
    return client.get(f"/v1/users/{user}/export", params=parameters, headers=READER)


def lines(reply: httpx.Response) -> list[Json]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.text == "" or reply.text.endswith("\n")
    return [json.loads(line) for line in reply.text.splitlines()]


def pages(client: httpx.Client, user: str = "u-1") -> list[list[Json]]:
    """The lines of each page, until one has no cursor."""
    found, cursor = [], None
    while True:
        reply = asked(client, user, **({"cursor": cursor} if cursor else {}))
        found.append(lines(reply))
        cursor = reply.headers.get("footfall-next-cursor")
        if cursor is None:
            return found
        assert len(found) < 100


def merge(client: httpx.Client, user: str, anonymous_id: str) -> None:
    merged = client.post(f"/v1/users/{user}/merge", json={"anonymousId": anonymous_id}, headers=READER)
    assert merged.status_code == 200


def alias(anonymous_id: str, user: str = "u-1") -> Json:
    return {"anonymousId": anonymous_id, "userId": user, "status": "merged"}


# --- the lines -------------------------------------------------------------------------------------------------------


def test_a_person_is_their_anonymous_ids_and_their_days(door: httpx.Client) -> None:
    order = {"orderId": "o-1", "revenue": "900719925474.09", "currency": "EUR"}
    post(door, [make_event(event="Order Completed", properties=order), make_event(timestamp=at(days=-3))])
    post(door, [make_event(userId=..., anonymousId=a, context={"sessionId": "s"}) for a in ("b", "a")])
    merge(door, "u-1", "b")
    merge(door, "u-1", "a")
    reply = asked(door)
    found = lines(reply)

    assert found[:2] == [alias("anon_a"), alias("anon_b")]
    assert [line["day"] for line in found[2:]] == [day(-3), TODAY]
    for line, numbers in zip(found[2:], metrics(door, **{"from": day(-3)})["days"], strict=True):
        assert line.keys() == {"userId", "orderIds", *numbers}
        assert line["userId"] == "u-1"
        assert json.loads(json.dumps(numbers, default=float)).items() <= line.items()
    assert [line["orderIds"] for line in found[2:]] == [[], ["o-1"]]
    # Exact, beyond what a float of a program in between would hold.
    assert '"revenue":{"EUR":900719925474.09}' in reply.text
    assert "footfall-next-cursor" not in reply.headers


def test_a_visitor_is_their_days(client: httpx.Client) -> None:
    post(client, [make_event(userId=..., anonymousId="a1"), make_event(userId="a1")])
    found = lines(asked(client, "anon_a1"))

    assert [(line["userId"], line["day"], line["events"]) for line in found] == [("anon_a1", TODAY, 1)]


def test_an_id_that_nobody_has_seen_is_empty(door: httpx.Client) -> None:
    for user in ("nobody", "anon_nobody"):
        reply = asked(door, user)

        assert (lines(reply), reply.content) == ([], b"")
        assert "footfall-next-cursor" not in reply.headers


def test_a_merged_anonymous_id_answers_for_its_user(client: httpx.Client) -> None:
    post(client, [make_event(userId=..., anonymousId="a1"), make_event()])
    merge(client, "u-1", "a1")

    assert asked(client, "anon_a1").content == asked(client).content


def test_other_people_are_in_no_line(client: httpx.Client) -> None:
    for user in ("u", "u-1", "u-1#", "u-10"):
        post(client, [make_event(userId=user), make_event(userId=user, anonymousId=f"of-{user}")])
    found = lines(asked(client))

    assert {line["userId"] for line in found} == {"u-1"}
    assert len(found) == 2


def test_any_id_can_be_asked_for(door: httpx.Client) -> None:
    user = "ä b%2F#\\"
    post(door, [make_event(userId=user, anonymousId="#ö")])
    found = lines(asked(door, quote(user, safe="")))

    assert found[0] == alias("anon_#ö", user)
    assert [line["userId"] for line in found] == [user, user]


def test_seals_and_fences_are_no_lines(client: httpx.Client, clock: Clock, table: Table) -> None:
    post(client, [make_event(userId=..., anonymousId="a1"), make_event(timestamp=at(days=-20)), make_event()])
    merge(client, "u-1", "a1")
    erased = client.delete("/v1/users/u-1", headers=READER)

    assert erased.status_code == 200
    assert sum(sk.startswith("DAY#") for _, sk in builders.items(table)) > 11
    assert lines(asked(client)) == lines(asked(client, "anon_a1")) == []
    # What happens after the erasure is held again.
    clock.move(hours=1)
    post(client, [make_event(timestamp=at(hours=1), userId=..., anonymousId="a1")])
    assert [line["events"] for line in lines(asked(client, "anon_a1"))] == [1]


def test_an_export_leaves_out_what_nobody_would_know_again(client: httpx.Client) -> None:
    post(client, [make_event(messageId="m", context={"sessionId": "s"})])
    (line,) = lines(asked(client))

    assert line["sessions"] == 1
    assert not {"seen", "names", "currencies", "revision", "schema", "expiresAt"} & line.keys()


# --- a merge under way -----------------------------------------------------------------------------------------------


def begin(table: Table, settings: Settings, anonymous_id: str) -> None:
    """A merge into u-1 whose process died after its first step."""
    work = Work(table.calls(time.monotonic() + 10), settings, NOON)
    identities.link(work, anonymous_id, "u-1", epoch_ms(NOON))


@pytest.mark.parametrize("user", ["u-1", "anon_a2"])
def test_a_merge_under_way_is_finished_first(
    client: httpx.Client, table: Table, settings: Settings, user: str
) -> None:
    for number in range(4):
        post(client, [make_event(userId=..., anonymousId=f"a{number}", timestamp=at(days=-number))])
    for number in (0, 2, 3):
        begin(table, settings, f"anon_a{number}")
    found = lines(asked(client, user))

    assert found[:3] == [alias("anon_a0"), alias("anon_a2"), alias("anon_a3")]
    assert [line["day"] for line in found[3:]] == [day(-3), day(-2), TODAY]
    assert all(builders.is_merged(table, f"anon_a{number}") for number in (0, 2, 3))
    assert not any(pk.startswith("PENDING#") for pk, _ in builders.items(table))


def test_it_is_finished_on_the_page_where_its_anonymous_id_comes(
    client: httpx.Client, table: Table, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_routes, "REPLY_BYTES_MAX", 1)
    for number in range(3):
        post(client, [make_event(userId=..., anonymousId=f"a{number}", timestamp=at(days=-number))])
        begin(table, settings, f"anon_a{number}")
    found = pages(client)

    assert [[line.get("anonymousId") or line["day"] for line in page] for page in found] == [
        ["anon_a0"],
        ["anon_a1"],
        ["anon_a2"],
        [day(-2)],
        [day(-1)],
        [TODAY],
    ]


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_max", [1, 60, 500, 1000, 100_000])
def test_a_person_of_many_days_comes_in_pages(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, bytes_max: int
) -> None:
    post(client, [make_event(timestamp=at(days=-back)) for back in range(7)])
    for anonymous_id in "abc":
        merge(client, "u-1", anonymous_id)
    whole = lines(asked(client))
    monkeypatch.setattr(user_routes, "REPLY_BYTES_MAX", bytes_max)
    found = pages(client)

    assert [line for page in found for line in page] == whole
    assert all(found)
    assert (len(found) == 1) == (bytes_max == 100_000)
    assert len(whole) == 10


def test_days_of_before_the_cursor_are_not_read_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for back in range(3):
        post(client, make_events(90, timestamp=at(days=-back), context={"sessionId": "s" * 99}))
        post(client, make_events(1800, timestamp=at(days=-back)))
    monkeypatch.setattr(user_routes, "REPLY_BYTES_MAX", 1)
    prices, cursor = [], ""
    for _ in range(3):
        reply = asked(client, **({"cursor": cursor} if cursor else {}))
        prices.append(capacity(reply)[1])
        cursor = reply.headers.get("footfall-next-cursor", "")

    assert cursor == ""
    assert prices == sorted(prices, reverse=True)
    assert prices[0] > prices[2]


def test_a_page_ends_where_the_time_does(client: httpx.Client) -> None:
    post(client, make_events(1))
    for anonymous_id in "ab":
        merge(client, "u-1", anonymous_id)
    spoiled = faults.Fault("refuse", operation="Query", call=2, attempts=None)
    with faults.injected(spoiled):
        first = asked(client)
    rest = asked(client, cursor=first.headers["footfall-next-cursor"])

    assert lines(first) == [alias("anon_a"), alias("anon_b")]
    assert [line["day"] for line in lines(rest)] == [TODAY]
    assert "footfall-next-cursor" not in rest.headers
    with faults.injected(faults.Fault("refuse", operation="Query", call=1, attempts=None)):
        assert asked(client).status_code == 503


def test_fences_between_two_days_are_passed_over(
    client: httpx.Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.delete("/v1/users/u-1", headers=READER)
    clock.move(seconds=1)
    post(client, [make_event(timestamp=at(hours=hours)) for hours in (1, 23)])
    monkeypatch.setattr(user_routes, "REPLY_BYTES_MAX", 1)

    found = pages(client)
    assert [line["day"] for page in found for line in page] == [TODAY, day(1)]


def _cursor(sk: str, distinct_id: str = "u-1", number: object = 0) -> str:
    text = f"{distinct_id}\n{sk}\n{number}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "",
        "!!!!",
        "é",
        "\x00",
        "AAAA",
        "a" * 60_000,
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        _cursor("ALIAS"),
        _cursor("ERASED"),
        _cursor("DAY%"),
        _cursor("ALIAS#" + "a" * 5000),
        # Of more bytes than a sort key may have.
        _cursor("ALIAS#" + "💶" * 255),
        _cursor("DAY#", "u" * 1024),
        _cursor("DAY#", ""),
        _cursor("DAY#", number="x"),
        _cursor("DAY#", number=""),
        _cursor("DAY#", number="1" * 5000),
        _cursor("DAY#\n0"),
        base64.urlsafe_b64encode(b"DAY#2026-11-22").decode(),
        base64.urlsafe_b64encode("DAY#\ud800".encode(errors="surrogatepass")).decode(),
    ],
)
def test_a_cursor_that_no_page_gave_is_refused(client: httpx.Client, cursor: str) -> None:
    post(client, make_events(1))
    reply = asked(client, cursor=cursor)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_cursor")
    assert len(reply.content) < 1000


@pytest.mark.parametrize("distinct_id", ["u-1", "u-2", "anon_a", "zzz", "\x00", "💶" * 128])
@pytest.mark.parametrize(
    "sk",
    [
        *("ALIAS#", "ALIAS#zzz", "DAY#", "DAY#2026-11-22", "DAY#9999", "DAY#\x00", "EVENTS#", "EVENTS#9"),
        # Of a visitor with the longest name there can be.
        "ALIAS#anon_" + "💶" * 128,
        "ALIAS#" + "💶" * 250,
    ],
)
def test_a_cursor_that_could_be_one_reaches_nobody_else(
    client: httpx.Client, sk: str, distinct_id: str
) -> None:
    post(client, [make_event(), make_event(userId="u-2")])

    found = lines(asked(client, cursor=_cursor(sk, distinct_id, -1)))
    assert {line["userId"] for line in found} <= {"u-1"}


# --- the key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/users/u-1/export", "/v1/users/guest/export", "/v1/users/u-1"])
@pytest.mark.parametrize(("headers", "status"), [({}, 401), (builders.bearer("x"), 401), (WRITER, 403)])
def test_the_key_is_looked_at_before_the_path_and_the_cursor(
    door: httpx.Client, path: str, headers: dict[str, str], status: int
) -> None:
    method = "GET" if path.endswith("export") else "DELETE"
    reply = door.request(method, path, params={"cursor": "nonsense"}, headers=headers)

    assert status == reply.status_code
    assert "footfall-capacity" not in reply.headers


@pytest.mark.parametrize("user", ["guest", "%20", "x" * 129, "anon_"])
def test_what_is_no_id_is_nobody(door: httpx.Client, user: str) -> None:
    for reply in (asked(door, user), door.delete(f"/v1/users/{user}", headers=READER)):
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_id")
