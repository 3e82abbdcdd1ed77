"""Each file of events/ goes through the handler as API Gateway would send it, and does what it is there to show."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import dev, keys
from service.dynamodb import Table
from service.gateway import as_lambda
from tests import canned_engine
from tests.builders import TODAY, is_merged, item_at, items, make_app, make_settings
from tests.contract.test_template import read_template
from tests.lambda_transport import LambdaContext

FOLDER = Path(__file__).resolve().parent.parent.parent / "events"
# env.json is no event: it is what `sam local` gives the function (docs/local.md). sweep.json is not the gateway's, and
# stream.json is the indexer's (test_indexer_package.py).
SCHEDULED = "sweep"
FILES = sorted(path.stem for path in FOLDER.glob("*") if path.stem not in ("env", "stream", SCHEDULED))
VISITOR = "anon_4f1c9a52-6d0e-4c7c-9f0e-2b8f5d1c7a33"
RUDDER_VISITOR = "anon_5b2d7c8e-91f3-4a6b-8c0d-3e5f7a9b1c2d"

Send = Callable[[str], dict[str, Any]]
Check = Callable[[Send, Table], None]


def read(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return event


@pytest.fixture
def send(table: Table) -> Send:
    """Hand a file to the handler; the clock stands at noon of 2026-11-22, which is what the files say."""
    return sender(table)


@pytest.fixture
def send_keeping_raw_events(table: Table) -> Send:
    """The same, with FOOTFALL_RAW_EVENTS."""
    return sender(table, raw_events=True)


def sender(table: Table, **changes: Any) -> Send:
    settings = make_settings(
        write_keys=frozenset({dev.DEV_WRITE_KEY}),
        secret_key_hashes=frozenset({hashlib.sha256(dev.DEV_SECRET_KEY.encode()).digest()}),
        **changes,
    )
    handler = as_lambda(make_app(settings, table))

    def sent(name: str) -> dict[str, Any]:
        reply = handler(read(name), LambdaContext(20_000))
        assert json.loads(json.dumps(reply)) == reply
        assert reply["isBase64Encoded"] is False
        return reply

    return sent


def body(reply: dict[str, Any], status: int = 200) -> dict[str, Any]:
    assert status == reply["statusCode"]
    is_problem = status >= 400
    assert reply["headers"]["content-type"] == (
        "application/problem+json" if is_problem else "application/json"
    )
    parsed: dict[str, Any] = json.loads(reply["body"])
    return parsed


def numbers(table: Table, distinct_id: str) -> dict[str, int]:
    """The plain numbers of today's item."""
    item = item_at(table, keys.day_key(distinct_id, TODAY)) or {}
    return {
        name: int(typed["N"])
        for name, typed in item.items()
        if "N" in typed and name not in ("revision", "schema")
    }


def batch(send: Send, table: Table) -> None:
    first, second = body(send("batch")), body(send("batch"))

    assert (first["accepted"], first["duplicates"], first["rejectedCount"]) == (4, 0, 1)
    assert [(rejected["index"], rejected["code"]) for rejected in first["rejected"]] == [(4, "invalid_id")]
    assert (second["accepted"], second["duplicates"]) == (0, 4)
    assert numbers(table, "u-42") == {
        "events": 3,
        "pageViews": 1,
        "productViews": 1,
        "orders": 1,
        "itemsSold": 3,
        "revenue#EUR": 5990,
    }
    assert numbers(table, "u-43") == {"events": 1, "event#Newsletter Signed Up": 1}
    # Two days, and the claim on the order.
    assert len(items(table)) == 3


def batch_from_browser(send: Send, table: Table) -> None:
    assert body(send("batch-from-browser"))["accepted"] == 2
    assert numbers(table, VISITOR) == {"events": 2, "pageViews": 1, "cartAdds": 1}


def batch_gzip(send: Send, table: Table) -> None:
    assert b"Product Added" in gzip.decompress(base64.b64decode(read("batch-gzip")["body"]))
    assert body(send("batch-gzip"))["accepted"] == 3
    assert numbers(table, RUDDER_VISITOR) == {"events": 3, "cartAdds": 2, "pageViews": 1}


def identify(send: Send, table: Table) -> None:
    send("batch-from-browser")

    assert body(send("identify"))["accepted"] == 1
    assert is_merged(table, VISITOR)
    assert numbers(table, "u-42") == {"events": 2, "pageViews": 1, "cartAdds": 1}
    assert item_at(table, keys.way_back_key("u-42", VISITOR)) == {"schema": {"N": "1"}}


def metrics(send: Send, table: Table) -> None:
    send("batch")
    answer = body(send("metrics"))

    assert (answer["userId"], answer["from"], answer["to"]) == ("u-42", "2026-11-01", "2026-11-30")
    assert [day["day"] for day in answer["days"]] == [TODAY]
    assert (answer["totals"]["orders"], answer["totals"]["revenue"]) == (1, {"EUR": 59.9})
    assert (answer["totals"]["sessions"], answer["totals"]["events"]) == (1, 3)


def user(send: Send, table: Table) -> None:
    send("batch")
    send("identify")

    assert body(send("user")) == {
        "userId": "u-42",
        "anonymousIds": [VISITOR],
        "firstDay": TODAY,
        "lastDay": TODAY,
    }


def merge(send: Send, table: Table) -> None:
    send("batch-from-browser")
    expected = {"userId": "u-42", "anonymousId": VISITOR, "status": "merged", "days": 1}

    assert expected == body(send("merge"))
    assert expected == body(send("merge"))
    assert is_merged(table, VISITOR)
    assert numbers(table, "u-42")["events"] == 2


def export(send: Send, table: Table) -> None:
    send("batch")
    send("identify")
    reply = send("export")
    lines = [json.loads(line) for line in reply["body"].splitlines()]

    assert (reply["statusCode"], reply["headers"]["content-type"]) == (200, "application/x-ndjson")
    assert lines[0] == {"anonymousId": VISITOR, "userId": "u-42", "status": "merged"}
    assert [(line["day"], line["orderIds"], line["events"]) for line in lines[1:]] == [(TODAY, ["1001"], 3)]
    assert "footfall-next-cursor" not in reply["headers"]


def erase(send: Send, table: Table) -> None:
    send("batch-from-browser")
    send("identify")
    expected = {
        "userId": "u-42",
        # After the merge, which is of the same millisecond here.
        "erasedAt": "2026-11-22T12:00:00.001+00:00",
        "anonymousIds": 1,
        "days": 1,
        "rawEvents": 0,
    }

    assert expected == body(send("erase"))
    assert numbers(table, "u-42").keys() == {"erasedAt", "expiresAt"}
    assert item_at(table, keys.way_back_key("u-42", VISITOR)) is None


def timeline(send: Send, table: Table) -> None:
    send("batch")

    assert body(send("timeline"), 501)["code"] == "raw_events_off"


def bad_json(send: Send, table: Table) -> None:
    assert body(send("bad-json"), 400)["code"] == "invalid_json"
    assert items(table) == {}


def wrong_key(send: Send, table: Table) -> None:
    reply = send("wrong-key")

    assert body(reply, 401)["code"] == "unauthorized"
    assert reply["headers"]["www-authenticate"]
    assert items(table) == {}


def health(send: Send, table: Table) -> None:
    reply = send("health")

    assert body(reply)["status"] == "ok"
    assert "footfall-capacity" not in reply["headers"]
    assert items(table) == {}


def project_settings(send: Send, table: Table) -> None:
    event = read("project-settings")
    destination = body(send("project-settings"))["integrations"]["Segment.io"]

    assert destination == {
        "apiKey": "dev-write-key",
        "apiHost": event["headers"]["host"] + "/v1",
        "protocol": "https",
    }


def sdk(send: Send, table: Table) -> None:
    reply = send("sdk")

    assert (reply["statusCode"], reply["headers"]["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert reply["headers"]["access-control-allow-origin"] == "*"
    assert reply["body"].startswith("/* footfall-js ")
    assert items(table) == {}


def search(name: str) -> Check:
    """Where there is no search, all that a search shows is how to turn it on; what it answers, docs/api.md shows."""

    def check(send: Send, _: Table) -> None:
        assert body(send(f"search-{name}"), 501)["code"] == "search_off"

    return check


SEARCHES = ("breakdowns", "funnels", "retention", "segments", "timeseries")
CHECKS: dict[str, Check] = {
    "bad-json": bad_json,
    "batch": batch,
    "batch-from-browser": batch_from_browser,
    "batch-gzip": batch_gzip,
    "erase": erase,
    "export": export,
    "health": health,
    "identify": identify,
    "merge": merge,
    "metrics": metrics,
    "project-settings": project_settings,
    "sdk": sdk,
    "timeline": timeline,
    "user": user,
    "wrong-key": wrong_key,
    **{f"search-{name}": search(name) for name in SEARCHES},
}


@pytest.mark.parametrize("name", FILES)
def test_an_event_of_the_folder_does_what_it_shows(send: Send, table: Table, name: str) -> None:
    assert name in CHECKS, f"events/{name}.json is asserted nowhere"
    CHECKS[name](send, table)


def test_the_timeline_shows_the_batch_where_raw_events_are_kept(send_keeping_raw_events: Send) -> None:
    send_keeping_raw_events("batch")
    events = body(send_keeping_raw_events("timeline"))["events"]

    assert [event.get("event", event["type"]) for event in events] == [
        "Order Completed",
        "page",
        "Product Viewed",
    ]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_one_that_is_answered(table: Table, name: str) -> None:
    with canned_engine.running() as canned:
        sent = sender(table, opensearch_url=canned.url)
        answer = body(sent(f"search-{name}"))

    assert answer
    assert canned.asked


def test_no_check_is_left_without_its_file() -> None:
    assert sorted(CHECKS) == FILES


@pytest.mark.parametrize("name", FILES)
def test_an_event_of_the_folder_has_the_gateways_shape(name: str) -> None:
    event = read(name)
    request = event["requestContext"]
    routes = read_template()["Resources"]["HttpFunction"]["Properties"]["Events"].values()

    assert event["version"] == "2.0"
    assert event["routeKey"] == request["routeKey"]
    assert event["routeKey"] in {
        f"{route['Properties']['Method']} {route['Properties']['Path']}" for route in routes
    }
    assert event["rawPath"] == request["http"]["path"]
    assert event["headers"]["user-agent"] == request["http"]["userAgent"]
    assert all(header == header.lower() for header in event["headers"])
    assert event["rawPath"] == event["routeKey"].partition(" ")[2].format(**event.get("pathParameters", {}))
    assert isinstance(event["isBase64Encoded"], bool)
    assert event["rawQueryString"] == "&".join(
        f"{field}={value}" for field, value in event.get("queryStringParameters", {}).items()
    )
