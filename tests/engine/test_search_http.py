"""Searches over HTTP on a real OpenSearch: described answers, months that are not there, and a shard that fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import indices
from service.index_template import Names
from service.opensearch import Engine
from tests.builders import READER, lambda_client, make_app, make_settings, new_table
from tests.contract.test_description import SEARCHES, described
from tests.engine.search_shop import BERLIN, Made, fill

RANGE = {"from": "2026-11-20", "to": "2026-11-22"}
REQUESTS: dict[str, dict[str, Any]] = {path: request | RANGE for path, request in SEARCHES.items()}


def made(number: int, user: str, name: str, **properties: Any) -> Made:
    sent: dict[str, Any] = {
        "type": "track",
        "event": name,
        "messageId": f"m-{number}",
        "userId": user,
        "timestamp": f"2026-11-{20 + number % 3}T12:00:0{number % 10}+00:00",
        "properties": properties,
    }
    return Made(sent, user, user, counts_orders=True)


EVENTS = [
    *(
        made(number, f"u-{number % 3}", "Product Viewed", productId=f"sku-{number % 4}")
        for number in range(9)
    ),
    *(made(number, f"u-{number % 3}", "Product Added") for number in range(10, 19)),
    made(20, "u-1", "Order Completed", revenue=59.9, currency="EUR"),
    Made(
        {
            "type": "page",
            "messageId": "m-21",
            "userId": "u-1",
            "timestamp": "2026-11-20T11:00:00+00:00",
            "properties": {},
        },
        "u-1",
        "u-1",
        counts_orders=True,
    ),
]


@pytest.fixture
def client(dynamodb_client: Any, engine: Engine) -> Iterator[httpx.Client]:
    """Of a deployment with a table and an index of its own, and months in none."""
    table = new_table(dynamodb_client, "search")
    app = make_app(make_settings(timezone=BERLIN, opensearch_url=engine.url), table)
    app.state.service.engine = engine
    with lambda_client(app) as opened:
        yield opened


@pytest.mark.parametrize("path", REQUESTS)
def test_months_that_are_not_there_are_empty(client: httpx.Client, path: str) -> None:
    reply = client.post(path, json=REQUESTS[path] | {"from": "2026-09-01"}, headers=READER)

    assert reply.status_code == 200, reply.text
    assert set(numbers(reply.json())) <= {0}


def numbers(document: Any) -> Iterator[float]:
    """Every number of a reply."""
    if isinstance(document, dict | list):
        for inner in document.values() if isinstance(document, dict) else document:
            yield from numbers(inner)
    elif isinstance(document, int | float) and not isinstance(document, bool):
        yield document


@pytest.mark.parametrize("path", REQUESTS)
def test_answers_are_as_described(client: httpx.Client, engine: Engine, path: str) -> None:
    indices.make_month(engine, "2026-11")
    fill(engine, EVENTS)
    description = client.get("/openapi.json").json()
    for changes in ({}, {"limit": 1}) if "limit" in REQUESTS[path] else ({},):
        reply = client.post(path, json=REQUESTS[path] | changes, headers=READER)

        assert reply.status_code == 200, reply.text
        assert any(numbers(reply.json())), "or the months that are not there prove nothing"
        described(description, "post", path, reply)


@pytest.mark.parametrize("path", REQUESTS)
def test_of_a_shard_that_fails_no_part_is_an_answer(client: httpx.Client, engine: Engine, path: str) -> None:
    """October's index has texts where there should be keywords, and its shard fails; November's does not."""
    indices.make_month(engine, "2026-11")
    fill(engine, EVENTS)
    names = Names(engine.prefix)
    wrong = {name: {"type": "text"} for name in ("user", "productId")}
    right = {name: {"type": "keyword"} for name in ("day", "event", "metrics", "currency", "revenueMinor")}
    body = {"aliases": {names.month("2026-10"): {}}, "mappings": {"properties": wrong | right}}
    engine.call("PUT", f"/{engine.prefix}-broken", body)
    document = dict.fromkeys(wrong | right, "x") | {"day": "2026-10-26", "currency": "EUR"}
    for event in ("Product Viewed", "Page Viewed"):
        engine.call(
            "POST", f"/{engine.prefix}-broken/_doc", document | {"event": event}, params={"refresh": "true"}
        )
    try:
        reply = client.post(path, json=REQUESTS[path] | {"from": "2026-10-25"}, headers=READER)
    finally:
        engine.call("DELETE", f"/{engine.prefix}-broken")

    assert (reply.status_code, reply.json()["code"]) == (503, "search_unavailable"), reply.text
    assert client.post(path, json=REQUESTS[path], headers=READER).status_code == 200
