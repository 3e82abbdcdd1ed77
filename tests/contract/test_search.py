"""The search routes as clients see them: who may ask, what is refused, an engine that is down, slow or not whole."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI

from service import examples, opensearch, search, search_queries
from service.app import create_app
from service.dynamodb import Table
from service.settings import Settings
from tests import canned_engine
from tests.builders import (
    READER,
    WRITER,
    Clock,
    bearer,
    counts,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    metrics,
    post,
)
from tests.canned_engine import EMPTY, Canned
from tests.faults import silent_url

Json = dict[str, Any]
REQUESTS: dict[str, Json] = {
    "segments": examples.SEGMENTS,
    "funnels": examples.FUNNELS,
    "breakdowns": examples.BREAKDOWNS,
    "timeseries": examples.TIMESERIES,
    "retention": examples.RETENTION,
}


@pytest.fixture
def engine() -> Iterator[Canned]:
    with canned_engine.running() as canned:
        yield canned


@pytest.fixture
def settings(engine: Canned) -> Settings:
    return make_settings(opensearch_url=engine.url)


def ask(client: httpx.Client, kind: str, document: object, **options: Any) -> httpx.Response:
    content = json.dumps(document).encode()  # which writes half a surrogate pair as its escape
    return client.post(f"/v1/search/{kind}", content=content, headers=READER, **options)


def problem(reply: httpx.Response, status: int, code: str) -> str:
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert len(reply.content) < 16 * 1024
    return str(body["detail"])


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_search_needs_the_secret_key(door: httpx.Client, engine: Canned, kind: str) -> None:
    path = f"/v1/search/{kind}"
    for headers in ({}, bearer("wrong")):
        problem(door.post(path, json=REQUESTS[kind], headers=headers), 401, "unauthorized")
    problem(door.post(path, json=REQUESTS[kind], headers=WRITER), 403, "forbidden")
    assert engine.asked == []
    assert ask(door, kind, REQUESTS[kind]).status_code == 200


@pytest.mark.parametrize("kind", REQUESTS)
def test_without_an_engine_it_says_how_to_turn_search_on(table: Table, kind: str) -> None:
    with lambda_client(make_app(make_settings(), table)) as client:
        detail = problem(ask(client, kind, REQUESTS[kind]), 501, "search_off")
        problem(client.post(f"/v1/search/{kind}", content="{"), 401, "unauthorized")

    assert all(words in detail for words in ("OpenSearchUrl", "FOOTFALL_OPENSEARCH_URL", "index rebuild"))


# --- the grammar ------------------------------------------------------------------------------------------------------

SECRET = "do-not-repeat-me"
BAD_EVERYWHERE: list[tuple[Json, str, str]] = [
    ({"from": "2026-11-31"}, "invalid_range", "from"),
    ({"from": "2026-1-1"}, "invalid_range", "from"),
    ({"from": "2026-W44-7"}, "invalid_range", "from"),
    ({"from": 20261101}, "invalid_range", "from"),
    ({"from": None}, "invalid_request", "from"),
    ({"to": SECRET}, "invalid_range", "to"),
    ({"to": "2026-10-31"}, "invalid_range", "from is not after to"),
    ({"from": "2025-10-10"}, "invalid_range", "400 days"),
    ({SECRET: 1}, "invalid_request", "no other field"),
]


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(("changes", "code", "named"), BAD_EVERYWHERE)
def test_what_no_search_takes(
    client: httpx.Client, engine: Canned, kind: str, changes: Json, code: str, named: str
) -> None:
    reply = ask(client, kind, REQUESTS[kind] | changes)

    assert named in problem(reply, 422, code)
    assert SECRET not in reply.text
    assert engine.asked == []


BAD: dict[str, list[tuple[Json, str]]] = {
    "segments": [
        ({"all": [], "none": []}, "all, any or none"),
        ({"all": {}}, "all is a list of at most 10 conditions"),
        ({"any": [{"event": "x"}] * 11}, "any is a list of at most 10 conditions"),
        ({"all": ["x"]}, "all[0] is a condition"),
        ({"all": [{}]}, "all[0].event is the name of an event"),
        ({"all": [{"event": "x", "metric": "events", "min": 1}]}, "all[0] has metric, currency, min, max"),
        ({"all": [{"event": "x", SECRET: 1}]}, "all[0] has event, min, max"),
        ({"all": [{"event": ""}]}, "all[0].event"),
        ({"all": [{"event": "x" * 129}]}, "all[0].event"),
        ({"all": [{"event": "\ud800"}]}, "all[0].event"),
        ({"all": [{"event": "x", "min": -1}]}, "all[0].min is a whole number"),
        ({"all": [{"event": "x", "min": 1.5}]}, "all[0].min is a whole number"),
        ({"all": [{"event": "x", "min": True}]}, "all[0].min is a whole number"),
        ({"all": [{"event": "x", "min": "3"}]}, "all[0].min is a whole number"),
        ({"all": [{"event": "x", "max": 0}]}, "all[0]: min is not over max"),
        (
            {"any": [{"event": "x"}, {"metric": SECRET, "min": 1}]},
            "any[1].metric is a metric of the range query",
        ),
        ({"any": [{"metric": "orders"}]}, "any[0]: min or max"),
        ({"any": [{"metric": "orders", "min": 3, "max": 2}]}, "any[0]: min is not over max"),
        ({"any": [{"metric": "orders", "min": 1, "currency": "EUR"}]}, "any[0]: a currency is that of"),
        ({"any": [{"metric": "revenue", "min": 1, "currency": SECRET}]}, "any[0].currency is an ISO 4217"),
        ({"any": [{"metric": "revenue", "min": "1"}]}, "any[0].min is a number"),
        ({"any": [{"metric": "revenue", "max": 10**18 + 1}]}, "any[0].max is a number"),
        ({"limit": 0}, "limit is a whole number from 1 to 1000"),
        ({"limit": 1001}, "limit is a whole number from 1 to 1000"),
    ],
    "funnels": [
        ({"cursor": "x"}, "no other field"),
        ({"steps": []}, "steps is a list of 1 to 10"),
        ({"steps": ["x"] * 11}, "steps is a list of 1 to 10"),
        ({"steps": "x"}, "steps is a list of 1 to 10"),
        ({"steps": ["x", 1]}, "steps[1] is the name of an event"),
        ({"windowHours": 0}, "windowHours is a whole number from 1 to 8760"),
        ({"windowHours": 8761}, "windowHours is a whole number from 1 to 8760"),
    ],
    "breakdowns": [
        ({"by": SECRET}, "by is one of 'event'"),
        ({"metric": SECRET}, "metric is one of 'events'"),
        ({"metric": "events", "currency": "EUR"}, "currency is that of revenue"),
        ({"metric": "revenue", "by": "currency", "currency": "EUR"}, "own"),
        ({"limit": 1001}, "limit is a whole number from 1 to 1000"),
        ({"event": 5}, "event is the name of an event"),
    ],
    "timeseries": [
        ({"interval": SECRET}, "interval is one of 'hour'"),
        ({"metric": "users"}, "currency is that of revenue"),
    ],
    "retention": [
        ({"unit": "hour"}, "unit is one of 'day'"),
        ({"startEvent": None}, "startEvent is the name of an event"),
        ({"returnEvent": ["x"]}, "returnEvent is the name of an event"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "changes", "said"), [(kind, *case) for kind, cases in BAD.items() for case in cases]
)
def test_what_is_out_of_the_grammar_is_named_and_not_repeated(
    client: httpx.Client, engine: Canned, kind: str, changes: Json, said: str
) -> None:
    reply = ask(client, kind, REQUESTS[kind] | changes)

    assert said in problem(reply, 422, "invalid_request")
    assert SECRET not in reply.text
    assert engine.asked == []


def test_hours_are_of_a_few_days(client: httpx.Client) -> None:
    request = REQUESTS["timeseries"] | {"interval": "hour", "from": "2026-10-01"}

    assert "41 days" in problem(
        ask(client, "timeseries", request | {"to": "2026-11-11"}), 422, "invalid_range"
    )
    rows = ask(client, "timeseries", request | {"to": "2026-11-10"}).json()["rows"]
    assert len(rows) == 41 * 24


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(("first", "last"), [("0001-01-01", "0001-01-03"), ("9999-12-29", "9999-12-31")])
def test_the_calendars_ends_are_days_as_others(
    client: httpx.Client, kind: str, first: str, last: str
) -> None:
    request = REQUESTS[kind] | {"from": first, "to": last}
    for changes in [{name: unit} for name in ("interval", "unit") for unit in ("day", "week", "month")]:
        if changes.keys() <= request.keys():
            assert ask(client, kind, request | changes).status_code == 200
    assert ask(client, kind, request).status_code == 200


@pytest.mark.parametrize(
    ("first", "last"),
    [("0001-01-01", "0001-01-01"), ("0001-12-31", "0002-01-01"), ("9999-12-31", "9999-12-31")],
)
def test_hours_end_before_the_calendar_does(
    client: httpx.Client, engine: Canned, first: str, last: str
) -> None:
    request = REQUESTS["timeseries"] | {"interval": "hour", "from": first, "to": last}

    assert "2 to 9998" in problem(ask(client, "timeseries", request), 422, "invalid_range")
    assert engine.asked == []
    for day in ("0002-01-01", "9998-12-31"):
        assert len(ask(client, "timeseries", request | {"from": day, "to": day}).json()["rows"]) == 24


@pytest.mark.parametrize("cursor", ["x", "", "é", "W10", "bnVsbA", "x" * 2001, "\ud800"])
def test_a_cursor_is_that_of_a_page_before(client: httpx.Client, engine: Canned, cursor: str) -> None:
    problem(ask(client, "segments", REQUESTS["segments"] | {"cursor": cursor}), 422, "invalid_cursor")
    assert engine.asked == []


def test_bodies_are_read_as_everywhere(client: httpx.Client) -> None:
    for body, status, code in (
        (b"{", 400, "invalid_json"),
        (b"[]", 422, "invalid_request"),
        (b" " * 600_000, 413, "body_too_large"),
    ):
        problem(client.post("/v1/search/funnels", content=body, headers=READER), status, code)


def test_null_is_absent(client: httpx.Client) -> None:
    condition = {"event": "x", "min": None, "max": None}
    request = REQUESTS["segments"] | {"all": [condition], "any": None, "cursor": None, "limit": None}

    assert ask(client, "segments", request).status_code == 200


# --- an engine in trouble ---------------------------------------------------------------------------------------------

SHARD = {"timed_out": False, "_shards": {"failed": 1}}
TROUBLE: list[tuple[object, int]] = [
    ({"error": {"type": "x", "reason": SECRET}}, 500),
    ({"error": {"type": "x", "reason": SECRET}}, 503),
    ({"error": {"type": "rejected", "reason": SECRET}}, 429),
    ({"error": {"type": "x", "reason": SECRET}}, 400),
    ({"error": {"type": "x", "reason": SECRET}}, 401),
    ({"error": {"type": "x", "reason": SECRET}}, 404),
    (SHARD, 200),
    (EMPTY | {"timed_out": True}, 200),
    (b"<html>", 200),
    (b"<html>", 502),
]


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(("body", "status"), TROUBLE)
def test_no_answer_is_made_of_an_engine_in_trouble(
    app: FastAPI, engine: Canned, kind: str, body: object, status: int
) -> None:
    engine.says(body, status)
    with lambda_client(app, remaining_ms=4_000) as client:
        reply = ask(client, kind, REQUESTS[kind])

    problem(reply, 503, "search_unavailable")
    assert int(reply.headers["retry-after"]) > 0
    assert SECRET not in reply.text


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_engine_that_is_down_is_503_and_counts_go_on(table: Table, kind: str) -> None:
    settings = make_settings(opensearch_url=silent_url())
    with lambda_client(make_app(settings, table)) as client:
        problem(ask(client, kind, REQUESTS[kind]), 503, "search_unavailable")
        assert counts(post(client, [make_event()])) == (1, 0, 0)
        assert metrics(client)["totals"]["events"] == 1


def test_an_engine_that_is_slow_is_503_within_the_functions_time(app: FastAPI, engine: Canned) -> None:
    engine.waits = threading.Event()
    with lambda_client(app, remaining_ms=3_500) as client:
        problem(ask(client, "funnels", REQUESTS["funnels"]), 503, "search_unavailable")
    with lambda_client(app) as client:
        assert counts(post(client, [make_event()])) == (1, 0, 0)


def test_of_a_segment_that_takes_too_long_the_count_is_a_lower_bound(app: FastAPI, engine: Canned) -> None:
    """The first page is full of users who hold; the second never comes."""
    buckets = [
        {"key": {"key": f"u-{number:05d}"}, "doc_count": 3, "c0": {"doc_count": 3}, "c1": {"doc_count": 0}}
        for number in range(10_000)
    ]
    pages = {"buckets": buckets, "after_key": {"key": "u-09999"}}
    first = json.dumps(EMPTY | {"aggregations": {"pages": pages}}).encode()
    engine.body = first
    engine.waits = threading.Event()
    released = threading.Thread(target=_once, args=(engine,), daemon=True)
    released.start()
    with lambda_client(app, remaining_ms=5_000) as client:
        reply = ask(client, "segments", REQUESTS["segments"] | {"limit": 1000}).json()

    assert (reply["count"], reply["countAtLeast"]) == (None, 10_000)
    assert [user["userId"] for user in reply["users"]] == [f"u-{number:05d}" for number in range(1000)]
    assert reply["nextCursor"] is not None


# --- how much is asked for at once -----------------------------------------------------------------------------------

USERS = 3_000


def walked(bytes_a_user: int) -> Callable[[Json], Json]:
    """An engine's funnel of many users, each with so much."""

    def answer(asked: Json) -> Json:
        composite = asked["aggs"]["pages"]["composite"]
        after = int(composite["after"]["key"]) if "after" in composite else -1
        numbers = range(after + 1, min(USERS, after + 1 + composite["size"]))
        of = {"value": [[1 << search_queries.STEP_BITS | 1]], "filler": "x" * bytes_a_user}
        pages: Json = {"buckets": [{"key": {"key": f"{number:06d}"}, "of": of} for number in numbers]}
        if numbers:
            pages["after_key"] = {"key": f"{numbers[-1]:06d}"}
        return EMPTY | {"aggregations": {"pages": pages}}

    return answer


def sizes(engine: Canned) -> list[int]:
    return [asked["aggs"]["pages"]["composite"]["size"] for _, asked in engine.asked]


def test_a_page_of_lists_begins_small_and_grows_while_replies_are_small(
    client: httpx.Client, engine: Canned
) -> None:
    engine.answers = walked(10)
    reply = ask(client, "funnels", REQUESTS["funnels"]).json()

    assert reply["steps"][0]["users"] == USERS
    assert sizes(engine) == [500, 1_000, 2_000]


def test_a_page_too_large_to_hold_is_asked_for_in_halves(
    client: httpx.Client, engine: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to one user, whose list alone may be as long as a reply."""
    monkeypatch.setattr(opensearch, "REPLY_BYTES_MAX", 200_000)
    monkeypatch.setattr(search, "_SMALL_REPLY_BYTES", 50_000)
    engine.answers = walked(500)
    assert ask(client, "funnels", REQUESTS["funnels"]).json()["steps"][0]["users"] == USERS
    asked = sizes(engine)
    assert asked[:2] == [500, 250]
    assert set(asked[1:]) == {250}, "a reply that is not small is followed by none that is larger"
    engine.asked.clear()
    monkeypatch.setattr(sys.modules[__name__], "USERS", 3)
    engine.answers = walked(150_000)
    assert ask(client, "funnels", REQUESTS["funnels"]).json()["steps"][0]["users"] == 3
    assert sizes(engine) == [500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1, 1]
    engine.answers = walked(250_000)
    problem(ask(client, "funnels", REQUESTS["funnels"]), 503, "search_unavailable")


def test_the_log_says_why_the_engine_refused_and_not_in_its_words(
    client: httpx.Client, engine: Canned, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.says({"error": {"type": "script_exception", "reason": SECRET}}, 400)
    problem(ask(client, "funnels", REQUESTS["funnels"]), 503, "search_unavailable")
    printed = capsys.readouterr().out

    assert SECRET not in printed
    (failed,) = [line for line in map(json.loads, printed.splitlines()) if line["level"] == "ERROR"]
    assert failed["message"] == "search call failed"
    assert (failed["engineStatus"], failed["engineKind"]) == (400, "script_exception")


def _once(engine: Canned) -> None:
    """Let one request through, and no other."""
    while not engine.asked:
        time.sleep(0.005)
    waits, engine.waits = engine.waits, threading.Event()
    assert waits is not None
    waits.set()


def test_a_search_asks_for_the_months_of_its_range_alone(client: httpx.Client, engine: Canned) -> None:
    ask(client, "funnels", REQUESTS["funnels"] | {"from": "2025-12-31", "to": "2026-02-01"})

    ((path, _),) = engine.asked
    months = ",".join(f"footfall-events-{month}" for month in ("2025-12", "2026-01", "2026-02"))
    assert path.startswith(f"/{months}/_search?")


def test_a_search_reads_nothing_of_dynamodb(client: httpx.Client) -> None:
    assert "footfall-capacity" not in ask(client, "funnels", REQUESTS["funnels"]).headers


@pytest.mark.parametrize("kind", REQUESTS)
def test_the_index_of_another_table_answers_nobody(
    client: httpx.Client, table: Table, engine: Canned, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its users are those of a deployment with other keys."""
    engine.is_of("another-table")
    for _ in range(2):
        assert "another-table" in problem(ask(client, kind, REQUESTS[kind]), 503, "misconfigured")
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert engine.asked == []
    assert ["another-table" in line["message"] for line in logged if line["level"] == "ERROR"] == [True] * 2
    # Its own, meanwhile.
    engine.is_of(table.name)
    assert ask(client, kind, REQUESTS[kind]).status_code == 200


def test_whose_the_index_is_is_asked_once_it_is_somebodys(
    client: httpx.Client, table: Table, engine: Canned
) -> None:
    for _ in range(2):
        assert ask(client, "funnels", REQUESTS["funnels"]).status_code == 200
    assert len(engine.looked_up) == 2, "nobody has set it up: another deployment may, while this one runs"
    engine.is_of(table.name)
    for _ in range(3):
        assert ask(client, "funnels", REQUESTS["funnels"]).status_code == 200
    assert engine.looked_up == ["/_index_template/footfall-events"] * 3


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_who_cannot_be_told_whose_the_index_is_asks_it_nothing(
    client: httpx.Client, table: Table, engine: Canned, status: int
) -> None:
    engine.template = (status, {"error": {"type": "x", "reason": SECRET}})
    reply = ask(client, "funnels", REQUESTS["funnels"])
    problem(reply, 503, "search_unavailable")

    assert SECRET not in reply.text
    assert engine.asked == []
    engine.is_of(table.name)
    assert ask(client, "funnels", REQUESTS["funnels"]).status_code == 200


def test_a_table_of_another_zone_is_searched_no_more_than_read(table: Table, engine: Canned) -> None:
    make_app(make_settings(), table)
    settings = make_settings(opensearch_url=engine.url, timezone=ZoneInfo("Europe/Berlin"))
    with lambda_client(create_app(settings, table, Clock())) as client:
        problem(ask(client, "funnels", REQUESTS["funnels"]), 503, "misconfigured")
    assert engine.asked == []
    assert engine.looked_up == []
