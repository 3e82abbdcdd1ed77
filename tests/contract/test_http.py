"""What every reply has in common: keys, errors, bounds, headers, price and log."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import __version__, dev
from service.app import create_app
from service.dynamodb import Table
from service.settings import Settings
from tests import builders, faults
from tests.builders import (
    LAMBDA_URL,
    READER,
    SECRET_KEY,
    WRITE_KEY,
    WRITER,
    Clock,
    basic,
    bearer,
    capacity,
    counts,
    lambda_client,
    make_event,
    make_events,
    make_settings,
    metrics,
    post,
    totals,
    uvicorn_client,
)
from tests.contract.test_template import read_template

CAP = 500 * 1024
INGEST_PATHS = ["/v1/batch", "/v1/b", "/v1/track", "/v1/t", "/v1/identify", "/v1/a"]
READS = [("GET", "/v1/users/u-1/metrics"), ("GET", "/v1/users/u-1"), ("POST", "/v1/users/u-1/merge")]
READS += [("GET", "/health?deep=1")]


def problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem, which is what every problem is."""
    assert (status, code) == (reply.status_code, reply.json().get("code")), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json()
    assert {"type", "title", "status", "detail", "code", "message"} <= set(body)
    assert (status, body["detail"]) == (body["status"], body["message"])
    assert len(reply.content) < 16 * 1024
    return body


# --- keys for everything else ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), READS)
def test_reads_and_merges_need_the_secret_key(door: httpx.Client, method: str, path: str) -> None:
    def asked(headers: dict[str, str]) -> httpx.Response:
        body = json.dumps({"anonymousId": "a1", "writeKey": SECRET_KEY}) if method == "POST" else None
        return door.request(method, path, headers=headers, content=body)

    missing = [
        asked(headers) for headers in ({}, bearer("wrong"), basic("wrong"), {"Authorization": "Basic !"})
    ]
    for reply in missing:
        problem(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"]
    assert len({reply.content for reply in missing}) == 1
    for headers in (WRITER, bearer(WRITE_KEY)):
        problem(asked(headers), 403, "forbidden")
    assert asked(READER).status_code == 200


def test_the_key_is_checked_before_the_path(client: httpx.Client) -> None:
    problem(client.get("/v1/users/guest/metrics?from=x"), 401, "unauthorized")
    problem(client.get("/v1/users/guest/metrics?from=x", headers=WRITER), 403, "forbidden")
    problem(client.post("/v1/users/anon_x/merge", content="{"), 401, "unauthorized")


# --- bodies that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"\xff\xfe\xfd", b'{"batch":[NaN]}', b'{"batch":[Infinity]}']
)
def test_what_is_no_json_is_400(door: httpx.Client, body: bytes) -> None:
    for path in ("/v1/batch", "/v1/track"):
        headers = WRITER | {"Content-Type": "application/octet-stream"}
        assert b"nonsense" not in door.post(path, content=body, headers=headers).content
        problem(door.post(path, content=body, headers=headers), 400, "invalid_json")


@pytest.mark.parametrize("body", ["[]", "5", '"x"', "null", "true"])
def test_what_is_no_object_is_422(door: httpx.Client, body: str) -> None:
    for path in ("/v1/batch", "/v1/track"):
        problem(door.post(path, content=body, headers=WRITER), 422, "invalid_request")


@pytest.mark.parametrize("body", ["{}", '{"batch":null}', '{"batch":{}}', '{"batch":"[]"}', '{"events":[]}'])
def test_no_list_in_batch_is_422(client: httpx.Client, body: str) -> None:
    problem(client.post("/v1/batch", content=body, headers=WRITER), 422, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/track", "/v1/users/u-1/merge"])
def test_a_body_over_the_cap_is_413(door: httpx.Client, path: str) -> None:
    for size in (CAP + 1, 2_000_000):
        problem(door.post(path, content=b" " * size, headers=READER), 413, "body_too_large")
    bomb = gzip.compress(b" " * 60_000_000, mtime=0)
    problem(
        door.post(path, content=bomb, headers=READER | {"Content-Encoding": "gzip"}), 413, "body_too_large"
    )


def test_a_body_of_exactly_the_cap_is_read(door: httpx.Client) -> None:
    body = json.dumps({"batch": make_events(3)}).encode().ljust(CAP)

    assert counts(door.post("/v1/batch", content=body, headers=WRITER)) == (3, 0, 0)


def test_a_batch_of_2501_events_is_413_and_counts_nothing(client: httpx.Client) -> None:
    events = [{"type": "page", "userId": "u-1", "messageId": f"m{number}"} for number in range(2501)]

    problem(post(client, events), 413, "batch_too_large")
    assert totals(client)["events"] == 0


def test_a_body_that_comes_in_pieces_is_read(door: httpx.Client) -> None:
    text = json.dumps({"batch": make_events(3)}).encode()

    def pieces(size: int) -> Iterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    assert counts(door.post("/v1/batch", content=pieces(50), headers=WRITER)) == (3, 0, 0)


def test_a_wrong_key_is_told_before_the_body_is_looked_at(door: httpx.Client) -> None:
    problem(door.post("/v1/batch", content=b" " * (CAP + 1), headers=basic("wrong")), 401, "unauthorized")


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (b"{}", "gzip", 400, "invalid_json"),
        (gzip.compress(b'{"batch":[]}', mtime=0)[:-3], "gzip", 400, "invalid_json"),
        (b"{}", "br", 415, "unsupported_encoding"),
    ],
)
def test_a_body_that_is_not_what_its_encoding_says_is_refused(
    door: httpx.Client, body: bytes, encoding: str, status: int, code: str
) -> None:
    reply = door.post("/v1/batch", content=body, headers=WRITER | {"Content-Encoding": encoding})

    problem(reply, status, code)


def test_what_is_not_there_is_404_and_what_is_not_answered_405(door: httpx.Client) -> None:
    for path in ("/", "/v1", "/v2/batch", "/v1/batch/", "/v1/users/u-1/", "/v1/erase", "/docs/nothing.js"):
        problem(door.get(path), 404, "not_found")
    assert door.get("/docs/..%2Fapp.py").status_code == 404
    for method, path, allowed in (
        ("GET", "/v1/batch", "POST"),
        ("DELETE", "/health", "GET"),
        ("PUT", "/v1/t", "POST"),
    ):
        reply = door.request(method, path)
        problem(reply, 405, "method_not_allowed")
        assert allowed == reply.headers["allow"]


# --- whatever is sent ------------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(st.characters(), max_size=8)
)
JSON = st.recursive(
    SCALARS
    | st.sampled_from(["u-1", "a1", "track", "page", "identify", "alias", "2026-11-22T12:00:00Z", "EUR"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "type",
    "event",
    "name",
    "messageId",
    "anonymousId",
    "userId",
    "previousId",
    "timestamp",
    "properties",
]
EVENTS = st.dictionaries(st.sampled_from([*FIELDS, "context", "writeKey"]), JSON, max_size=6) | st.builds(
    lambda fields, event: make_event() | {"event": event} | fields,
    st.dictionaries(st.sampled_from([*FIELDS, "context"]), JSON, max_size=3),
    st.sampled_from(["Order Completed", "Page Left", "Custom", "purchase"]),
)
BODIES = (
    JSON | EVENTS | st.builds(lambda events: {"batch": events}, st.lists(EVENTS | JSON, max_size=4) | JSON)
)


@given(BODIES, st.sampled_from(INGEST_PATHS))
# The client is as good for the second example as for the first: the table only grows.
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_input_whatsoever_is_a_server_error(client: httpx.Client, document: object, path: str) -> None:
    reply = client.post(path, content=json.dumps(document), headers=WRITER)

    assert reply.status_code in (200, 400, 413, 422)
    if reply.status_code == 200:
        body = reply.json()
        number = len(document["batch"]) if path in ("/v1/batch", "/v1/b") else 1  # type: ignore[index]
        assert number == body["accepted"] + body["duplicates"] + body["rejectedCount"]
        assert "internal" not in reply.text
    else:
        problem(reply, reply.status_code, reply.json()["code"])


@pytest.mark.parametrize(
    "event",
    [
        '{"type":"track","event":"\\ud800","userId":"u-1"}',
        '{"type":"track","event":"Custom","userId":"\\udfff"}',
        '{"type":"track","event":"Custom","userId":"u-1","messageId":"\\ud800","context":{"sessionId":"\\ud800"}}',
        '{"type":"page","userId":"u-1","properties":{"\\ud800":"\\ud800"}}',
        '{"type":"page","userId":"u-1","context":' + '{"a":' * 300 + "1" + "}" * 301 + "}",
        '{"type":"page","userId":"u-1","properties":{"a":' + "[" * 3000 + "]" * 3000 + "}}",
        '{"type":"track","event":"Custom","userId":' + "1" * 5000 + "}",
        '{"type":"page","userId":"u-1","messageId":' + "9" * 5000 + "}",
    ],
)
def test_odd_events_are_decided_like_any_other(client: httpx.Client, event: str) -> None:
    good = json.dumps(make_event())
    reply = client.post("/v1/batch", content=f'{{"batch":[{event},{good}]}}', headers=WRITER)

    # Nested so deeply that the parser gives up, a body is no JSON to us.
    assert reply.status_code in (200, 400)
    if reply.status_code == 200:
        accepted, duplicates, rejected = counts(reply)
        assert (accepted + duplicates + rejected, duplicates) == (2, 0)
        assert accepted >= 1
        assert totals(client)["events"] == accepted


def test_many_bad_events_get_a_small_answer(client: httpx.Client) -> None:
    junk = "SECRET" * 20
    bodies = [
        json.dumps({"batch": [{junk: junk, "userId": junk}] * 1200}),
        json.dumps({junk + str(number): junk for number in range(1900)}),
        "[" * CAP,
        json.dumps([junk] * 3500),
        junk * 3000,
    ]
    for body in bodies:
        assert len(body) < CAP + 1
        reply = client.post("/v1/batch", content=body, headers=WRITER)

        assert reply.status_code in (200, 400, 422)
        assert len(reply.content) < 16 * 1024
        assert "SECRET" not in reply.text


# --- headers ---------------------------------------------------------------------------------------------------------


def test_every_reply_has_the_security_headers(door: httpx.Client) -> None:
    replies = [
        post(door, make_events(1)),
        door.get("/v1/users/u-1/metrics", headers=READER),
        door.get("/v1/users/u-1/metrics"),
        door.get("/nothing"),
        door.put("/health"),
        door.post("/v1/batch", content="{", headers=WRITER),
        door.post("/v1/batch", content=b" " * (CAP + 1), headers=WRITER),
        door.get("/health"),
        door.get("/openapi.json"),
        door.get("/docs"),
        door.get("/docs/init.js"),
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 401, 404, 405, 400, 413, 200, 200, 200, 200]
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["strict-transport-security"].startswith("max-age=")
        assert reply.headers["cache-control"]
    assert all(reply.headers["cache-control"] == "no-store" for reply in replies[:8])


def test_a_mistake_of_ours_is_a_500_that_says_nothing(dynamodb_client: Any, settings: Settings) -> None:
    dynamodb_client.create_table(
        TableName="of-another-shape",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    app = create_app(settings, Table(dynamodb_client, "of-another-shape"), now=Clock())
    with lambda_client(app) as client:
        reply = post(client, make_events(1))

    body = problem(reply, 500, "internal_error")
    assert "Exception" not in reply.text
    assert "safe" in body["detail"]
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_preflight_of_make_run_is_the_gateways(app: FastAPI) -> None:
    cors = read_template()["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-retry-count",
    }
    with uvicorn_client(app) as client:
        preflight = client.options("/v1/batch", headers=asked)
        reply = client.post(
            "/v1/batch", json={"batch": make_events(1)}, headers=WRITER | {"Origin": "https://shop.example"}
        )

    def listed(name: str, headers: httpx.Headers = preflight.headers) -> set[str]:
        return {part.strip().lower() for part in headers[name].split(",")}

    assert preflight.status_code == 200
    assert {method.lower() for method in cors["AllowMethods"]} == listed("access-control-allow-methods")
    # What a browser may send without asking is always listed by the one and never by the other.
    unasked = {"accept", "accept-language", "content-language"}
    assert set(cors["AllowHeaders"]) == listed("access-control-allow-headers") - unasked
    assert str(cors["MaxAge"]) == preflight.headers["access-control-max-age"]
    assert reply.headers["access-control-allow-origin"] == "*"
    exposed = {header.lower() for header in cors["ExposeHeaders"]}
    assert exposed == listed("access-control-expose-headers", reply.headers)
    for headers in (preflight.headers, reply.headers):
        assert "access-control-allow-credentials" not in headers


def test_the_constants_of_make_run_are_the_templates() -> None:
    cors = read_template()["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]

    assert cors["AllowHeaders"] == list(dev.CORS_ALLOW_HEADERS)
    assert cors["ExposeHeaders"] == list(dev.CORS_EXPOSE_HEADERS)
    assert cors["MaxAge"] == dev.CORS_MAX_AGE_SECONDS


# --- the price -------------------------------------------------------------------------------------------------------


def test_every_reply_that_touched_the_table_names_its_price(door: httpx.Client) -> None:
    event = make_event()
    batch = [make_event(userId="u-2") for _ in range(10)]

    assert capacity(post(door, [event])) == (1, 0)
    # The condition fails once, on an item of under a kilobyte, which it hands over for nothing.
    assert capacity(post(door, [event])) == (1, 0)
    assert capacity(post(door, [event, make_event()])) == (2, 0)
    assert capacity(post(door, batch)) == (1, 0)
    assert capacity(door.get("/v1/users/u-1/metrics", headers=READER)) == (0, 0.5)
    assert capacity(door.get("/health?deep=1", headers=READER)) == (0, 0.5)


def test_an_anonymous_event_reads_its_alias(client: httpx.Client) -> None:
    assert capacity(post(client, [make_event(userId=..., anonymousId="a1")])) == (1, 0.5)


def test_a_merge_is_billed_as_aws_bills_its_transactions(client: httpx.Client) -> None:
    post(client, [make_event(userId=..., anonymousId="a1")])
    reply = client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)
    again = client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)
    user = client.get("/v1/users/u-1", headers=READER)

    # The link of three items and the check that the user is not being erased, the move of a day from one item to
    # another, the end of two: each in a transaction, which costs double. Ten seals of days without events. The alias
    # and the days, both as of now.
    assert capacity(reply) == (2 * 4 + 2 * 2 + 2 * 2 + 10, 1 + 1)
    assert capacity(again) == (0, 1)
    # The first day, the last day, the anonymous ids.
    assert capacity(user) == (0, 1.5)


def test_a_failed_condition_costs_by_the_size_of_the_item_it_met(client: httpx.Client) -> None:
    events = make_events(450)
    post(client, events)
    wru, rru = capacity(post(client, events[:1]))

    # 450 ids of six bytes and little else.
    assert (wru, rru) == (3, 0)


def test_a_refused_event_costs_the_look_at_its_day(table: Table) -> None:
    with lambda_client(builders.make_app(make_settings(max_events_per_user_day=2), table)) as client:
        post(client, make_events(2))
        wru, rru = capacity(post(client, make_events(1)))

        assert (wru, rru) in ((1, 0), (0, 1))


@pytest.mark.parametrize(
    "path", ["/health", "/docs", "/openapi.json", f"/v1/projects/{WRITE_KEY}/settings", "/x"]
)
def test_what_touches_no_table_has_no_price(client: httpx.Client, path: str) -> None:
    assert "footfall-capacity" not in client.get(path).headers


def test_errors_name_their_price_too(client: httpx.Client) -> None:
    client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)
    reply = client.post("/v1/users/u-2/merge", json={"anonymousId": "a1"}, headers=READER)

    problem(reply, 409, "identity_conflict")
    assert capacity(reply) == (0, 1)


# --- not now ---------------------------------------------------------------------------------------------------------


def unavailable(reply: httpx.Response, code: str = "unavailable") -> None:
    problem(reply, 503, code)
    assert int(reply.headers["retry-after"]) > 0


def test_a_request_without_time_left_is_503_and_loses_nothing(app: FastAPI, table: Table) -> None:
    events = [
        make_event(),
        make_event(userId=..., anonymousId="a1"),
        make_event(userId="u-2", anonymousId="a2"),
    ]
    with lambda_client(app, remaining_ms=2000) as hurried:
        unavailable(post(hurried, events))
        unavailable(hurried.get("/v1/users/u-1/metrics", headers=READER))
        unavailable(hurried.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER))
        assert hurried.get("/health").status_code == 200
    assert builders.items(table) == {}
    with lambda_client(app) as client:
        assert counts(post(client, events)) == (3, 0, 0)
        assert counts(post(client, events)) == (0, 3, 0)


def test_one_throttled_group_is_503_and_harms_no_other(client: httpx.Client) -> None:
    events = [make_event(userId=f"u-{user}") for user in range(5)]
    throttled = faults.Fault(
        "refuse", operation="UpdateItem", values=("USER#u-3",), attempts=None, code="ThrottlingException"
    )
    with faults.injected(throttled) as wire:
        unavailable(post(client, events))
        assert wire.spoiled > 0
    assert [totals(client, f"u-{user}")["events"] for user in range(5)] == [1, 1, 1, 0, 1]
    assert counts(post(client, events)) == (1, 4, 0)


def test_a_database_that_is_gone_is_503(client: httpx.Client) -> None:
    with faults.injected(faults.Fault("lose_request", attempts=None)):
        unavailable(post(client, make_events(1)))
        unavailable(client.get("/v1/users/u-1/metrics", headers=READER))
        unavailable(client.get("/health?deep=1", headers=READER))
        assert client.get("/health").status_code == 200


def test_a_table_that_is_missing_is_503_so_that_clients_keep_their_events(
    settings: Settings, dynamodb_client: Any
) -> None:
    with lambda_client(create_app(settings, Table(dynamodb_client, "no-such-table"), now=Clock())) as client:
        unavailable(post(client, make_events(1)))


def test_another_time_zone_than_the_tables_is_refused_and_nothing_is_mixed(
    app: FastAPI, table: Table
) -> None:
    other = create_app(make_settings(timezone=ZoneInfo("Europe/Berlin")), table, now=Clock())
    with lambda_client(other) as client:
        unavailable(post(client, make_events(1)), "misconfigured")
        unavailable(client.get("/v1/users/u-1/metrics", headers=READER), "misconfigured")
    assert builders.items(table) == {}


def test_the_first_request_makes_the_table_remember_its_time_zone(settings: Settings, table: Table) -> None:
    with lambda_client(create_app(settings, table, now=Clock())) as client:
        prices = [capacity(post(client, make_events(1))) for _ in range(2)]

    assert prices == [(2, 0.5), (1, 0)]


# --- the service itself ----------------------------------------------------------------------------------------------


def test_health_answers_without_a_key(door: httpx.Client) -> None:
    assert door.get("/health").json() == {"status": "ok", "version": __version__}
    assert door.get("/health?deep=1", headers=READER).json() == {"status": "ok", "version": __version__}


def test_the_settings_name_this_service_as_the_only_destination(door: httpx.Client) -> None:
    reply = door.get(f"/v1/projects/{WRITE_KEY}/settings")
    destination = reply.json()["integrations"]["Segment.io"]

    assert list(reply.json()["integrations"]) == ["Segment.io"]
    assert reply.json()["metrics"] == {"sampleRate": 0}
    assert destination["apiKey"] == WRITE_KEY
    assert f"{door.base_url}".rstrip("/") + "/v1" == f"{destination['protocol']}://{destination['apiHost']}"
    problem(door.get("/v1/projects/wrong/settings"), 401, "unauthorized")


def test_the_docs_page_loads_its_own_assets_and_nothing_else(door: httpx.Client) -> None:
    page = door.get("/docs")
    references = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)

    assert page.headers["content-type"].startswith("text/html")
    assert references
    for reference in references:
        if reference in ("data:,", "openapi.json"):
            continue
        asset = door.get(httpx.URL(f"{door.base_url}/docs").join(reference))
        assert asset.url.host == door.base_url.host
        assert asset.status_code == 200
        assert asset.headers["content-type"].startswith(("text/css", "text/javascript", "image/"))
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.text), "an inline script needs a laxer policy"
    assert "<style" not in page.text
    assert " style=" not in page.text


def test_assets_are_the_same_with_and_without_compression(door: httpx.Client) -> None:
    plain = door.get("/docs/swagger-ui.css", headers={"Accept-Encoding": "identity"})
    compressed = door.get("/docs/swagger-ui.css", headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert plain.content == compressed.content
    assert len(plain.content) > 10_000


# --- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_is_json_lines_without_ids_keys_or_bodies(
    client: httpx.Client, app: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    event = make_event(
        userId="private-user",
        anonymousId="private-anonymous",
        messageId="private-message",
        event="private-name\n",
        properties={"email": "private@shop.example"},
        context={"userAgent": "private-agent", "ip": "private-ip", "userToken": "private-token"},
    )
    capsys.readouterr()
    post(client, [event, event, event | {"type": "private-type"}], writeKey="private-key")
    client.get("/v1/users/private-user/metrics?from=private", headers=READER)
    client.get("/v1/users/private-user/metrics", headers=READER)
    client.get("/v1/users/private-user", headers=bearer("private-secret"))
    client.post("/v1/users/private-user/merge", json={"anonymousId": "private-other"}, headers=READER)
    client.get("/private-path")
    client.get("/v1/projects/private-key/settings")
    client.post("/v1/batch", content="private{", headers=WRITER)
    with faults.injected(faults.Fault("lose_request", attempts=None)):
        post(client, [event | {"messageId": "private-2"}])
    with lambda_client(app, remaining_ms=1000) as hurried:
        post(hurried, [event])
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]

    assert "private" not in printed.out + printed.err
    assert WRITE_KEY not in printed.out
    assert SECRET_KEY not in printed.out
    requests = [line for line in lines if line["message"] == "request"]
    assert len(requests) == 10
    assert [line["status"] for line in requests] == [200, 422, 200, 401, 200, 404, 401, 400, 503, 503]
    first = requests[0]
    assert (first["method"], first["route"], first["level"]) == ("POST", "/v1/batch", "INFO")
    assert (first["accepted"], first["duplicates"], first["rejected"]) == (1, 1, 1)
    assert first["wru"] > 0
    assert first["request_id"]
    assert first["duration_ms"] >= 0
    assert requests[2]["route"] == "/v1/users/{userId}/metrics"
    assert requests[5]["route"] is None


def test_the_addresses_of_a_reply_are_those_of_the_request(client: httpx.Client) -> None:
    reply = client.get(f"/v1/projects/{WRITE_KEY}/settings", headers={"Host": "events.shop.example"})

    assert reply.json()["integrations"]["Segment.io"]["apiHost"] == "events.shop.example/v1"
    assert str(client.base_url).rstrip("/") == LAMBDA_URL


def test_a_query_is_one_query(client: httpx.Client) -> None:
    post(client, make_events(3))
    with faults.injected() as wire:
        metrics(client)

    assert wire.operations == ["Query"]
