"""/openapi.json says what the service does: shapes, codes and examples, each against the service itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from service import events, examples, ids, metrics, wire
from service.dynamodb import Table
from service.settings import Settings
from tests import canned_engine
from tests.builders import (
    READER,
    WRITE_KEY,
    WRITER,
    bearer,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    post,
)

CAP = 500 * 1024
METRICS = "/v1/users/{userId}/metrics"
USER = "/v1/users/{userId}"
MERGE = "/v1/users/{userId}/merge"
EXPORT = "/v1/users/{userId}/export"
TIMELINE = "/v1/users/{userId}/events"
SETTINGS = "/v1/projects/{writeKey}/settings"
SINGLES = [f"/v1/{kind}" for kind in sorted(events.TYPES)]
SEARCHES: dict[str, dict[str, Any]] = {
    "/v1/search/segments": examples.SEGMENTS,
    "/v1/search/funnels": examples.FUNNELS,
    "/v1/search/breakdowns": examples.BREAKDOWNS,
    "/v1/search/timeseries": examples.TIMESERIES,
    "/v1/search/retention": examples.RETENTION,
}
BODIES = ["/v1/batch", "/v1/import", MERGE, *SINGLES, *SEARCHES]


@pytest.fixture(scope="module")
def engine_url() -> Iterator[str]:
    """Of a search engine that holds nothing."""
    with canned_engine.running() as canned:
        yield canned.url


@pytest.fixture
def settings(engine_url: str) -> Settings:
    """With raw events and search, so that all routes answer; where they are off, those have one answer."""
    return make_settings(raw_events=True, opensearch_url=engine_url)


@pytest.fixture
def description(client: httpx.Client) -> dict[str, Any]:
    reply = client.get("/openapi.json")
    assert reply.headers["content-type"] == "application/json"
    document: dict[str, Any] = reply.json()
    return document


KEYWORDS = {
    "$ref",
    "type",
    "properties",
    "required",
    "items",
    "anyOf",
    "additionalProperties",
    "const",
    "enum",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "oneOf",
    "discriminator",
}
PROSE = {"title", "description", "default", "examples"}
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def check(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "$") -> None:
    """JSON Schema, as far as the description uses it; a keyword that is not known here fails."""
    assert set(schema) <= KEYWORDS | PROSE, f"{at}: {set(schema) - KEYWORDS - PROSE}"
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        check(value, document["components"]["schemas"][name], document, at)
    if "enum" in schema:
        assert value in schema["enum"], at
    if "anyOf" in schema:
        assert any(fits(value, option, document) for option in schema["anyOf"]), at
    if "const" in schema:
        assert value == schema["const"], at
    if "type" in schema:
        assert isinstance(value, TYPES[schema["type"]]), f"{at} is no {schema['type']}"
        assert schema["type"] == "boolean" or not isinstance(value, bool), at
    if schema.get("format") == "date":
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", value), at
    if schema.get("format") == "date-time":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)", value), at
    check_members(value, schema, document, at)


def check_members(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str) -> None:
    if isinstance(value, dict) and "$ref" not in schema:
        properties = schema.get("properties", {})
        assert set(schema.get("required", [])) <= set(value), f"{at} lacks a member"
        undescribed = (
            set(value) - set(properties) if properties and "additionalProperties" not in schema else set()
        )
        assert not undescribed, f"{at}: {undescribed}"
        for name, member in value.items():
            of_member = properties.get(name, schema.get("additionalProperties", {}))
            if of_member is not True:
                check(member, of_member, document, f"{at}.{name}")
    if isinstance(value, list):
        for index, member in enumerate(value):
            check(member, schema.get("items", {}), document, f"{at}[{index}]")


def fits(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    try:
        check(value, schema, document)
    except AssertionError:
        return False
    return True


def described(description: dict[str, Any], method: str, path: str, reply: httpx.Response) -> None:
    """The reply is one that the description announces, and of the shape it says."""
    answers = description["paths"][path][method]["responses"]
    assert str(reply.status_code) in answers, f"{method} {path} never mentions {reply.status_code}"
    content = answers[str(reply.status_code)]["content"]
    schema = content[reply.headers["content-type"]]["schema"]
    if schema.get("type") == "string":
        check(reply.text, schema, description)
    else:
        check(reply.json(), schema, description)


def test_replies_are_as_described(client: httpx.Client, description: dict[str, Any]) -> None:
    order = {"event": "Order Completed", "properties": {"revenue": 5.5}}
    events = [
        make_event(**order),
        make_event(userId="guest"),
        make_event(messageId=..., type="x"),
        make_event(),
    ]
    events += [make_event(type="identify", anonymousId="a1")]
    described(description, "post", "/v1/batch", post(client, events))
    for kind in ("track", "page", "screen", "identify", "alias", "group"):
        reply = client.post(f"/v1/{kind}", json=make_event(type=..., previousId="a1"), headers=WRITER)
        described(description, "post", f"/v1/{kind}", reply)
        described(description, "post", f"/v1/{kind}", client.post(f"/v1/{kind}", content="{", headers=WRITER))
    for user in ("u-1", "anon_a1", "nobody"):
        for fill in ("true", "false"):
            reply = client.get(f"/v1/users/{user}/metrics", params={"fill": fill}, headers=READER)
            assert reply.status_code == 200
            described(description, "get", "/v1/users/{userId}/metrics", reply)
        described(description, "get", "/v1/users/{userId}", client.get(f"/v1/users/{user}", headers=READER))
    for body in ({"anonymousId": "a1"}, {}):
        reply = client.post("/v1/users/u-1/merge", json=body, headers=READER)
        described(description, "post", "/v1/users/{userId}/merge", reply)
    reply = client.post("/v1/users/u-2/merge", json={"anonymousId": "a1"}, headers=READER)
    assert reply.status_code == 409
    described(description, "post", "/v1/users/{userId}/merge", reply)
    for path in ("/v1/users/u-1/export", "/v1/users/u-1/export?cursor=x"):
        described(description, "get", EXPORT, client.get(path, headers=READER))
    for user in ("anon_a1", "u-1"):
        described(description, "delete", USER, client.delete(f"/v1/users/{user}", headers=READER))
    described(description, "get", "/health", client.get("/health"))
    described(description, "get", "/health", client.get("/health?deep=1"))
    settings_path = "/v1/projects/{writeKey}/settings"
    described(description, "get", settings_path, client.get(f"/v1/projects/{WRITE_KEY}/settings"))
    described(description, "get", settings_path, client.get("/v1/projects/wrong/settings"))


@pytest.mark.parametrize("path", SEARCHES)
def test_searches_are_as_described(client: httpx.Client, description: dict[str, Any], path: str) -> None:
    """Of answers with something in them: tests/engine/test_search_http.py."""
    for changes in ({}, {"from": "x"}, {"cursor": "x"}):
        described(description, "post", path, client.post(path, json=SEARCHES[path] | changes, headers=READER))


@pytest.mark.parametrize("user", ["u-1", "anon_a1", "nobody"])
@pytest.mark.parametrize("query", ["", "?limit=1", "?limit=0", "?cursor=x", "?from=x"])
def test_timelines_are_as_described(
    client: httpx.Client, description: dict[str, Any], user: str, query: str
) -> None:
    order = {"event": "Order Completed", "properties": {"revenue": 5.5}}
    post(client, [make_event(**order), make_event(userId="u-1", anonymousId="a1")])
    reply = client.get(f"/v1/users/{user}/events{query}", headers=READER)

    described(description, "get", TIMELINE, reply)


def test_problems_are_as_described(client: httpx.Client, description: dict[str, Any]) -> None:
    asked = [
        client.post("/v1/batch", content="{", headers=WRITER),
        client.post("/v1/batch", content="{}"),
        client.post("/v1/batch", content="[]", headers=WRITER),
        client.post("/v1/batch", content=b" " * (CAP + 1), headers=WRITER),
        client.post("/v1/batch", content="{}", headers=WRITER | {"Content-Encoding": "br"}),
    ]
    for reply in asked:
        described(description, "post", "/v1/batch", reply)
    for headers in ({}, WRITER):
        reply = client.get("/v1/users/u-1/metrics", headers=headers)
        described(description, "get", "/v1/users/{userId}/metrics", reply)
    described(
        description,
        "get",
        "/v1/users/{userId}/metrics",
        client.get("/v1/users/u-1/metrics?from=x", headers=READER),
    )


def test_the_examples_of_the_description_work(client: httpx.Client, description: dict[str, Any]) -> None:
    tried = 0
    for path, operations in description["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        for media in content.values():
            example = media.get("example")
            assert example, f"{path} has no example"
            reply = client.post(path.replace("{userId}", "u-42"), json=example, headers=READER)
            assert reply.status_code == 200, reply.text
            assert reply.json().get("rejectedCount", 0) == 0
            tried += 1
    assert tried >= 8


def test_the_description_refers_to_itself_alone(description: dict[str, Any]) -> None:
    text = json.dumps(description)
    schemas = set(description["components"]["schemas"])

    examples = set(description["components"]["examples"])
    references = re.findall(r'"\$ref": "#/components/(schemas|examples)/(\w+)"', text)

    assert {name for kind, name in references if kind == "schemas"} <= schemas
    assert {name for kind, name in references if kind == "examples"} == examples
    assert text.count('"$ref"') == len(references)
    assert "HTTPValidationError" not in text


# --- fields -----------------------------------------------------------------------------------------------------------


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON Schema in a schema, itself included."""
    yield value
    for inner in value.get("properties", {}).values():
        yield from schemas_in(inner)
    for name in ("anyOf", "oneOf"):
        for inner in value.get(name, ()):
            yield from schemas_in(inner)
    for name in ("items", "additionalProperties"):
        if isinstance(value.get(name), dict):
            yield from schemas_in(value[name])


def parameters_of(description: dict[str, Any], method: str, path: str) -> dict[str, dict[str, Any]]:
    return {
        parameter["name"]: parameter for parameter in description["paths"][path][method].get("parameters", ())
    }


def test_schemas_are_json_schema_and_no_default_is_null(description: dict[str, Any]) -> None:
    """A default makes generators of clients take a field for one that is always there."""
    written = list(description["components"]["schemas"].values())
    for operations in description["paths"].values():
        for operation in operations.values():
            written += [parameter["schema"] for parameter in operation.get("parameters", ())]

    for schema in (found for outer in written for found in schemas_in(outer)):
        assert set(schema) <= KEYWORDS | PROSE, schema
        assert schema.get("default", "") is not None, schema


def test_what_is_always_in_a_reply_is_required_and_what_may_be_absent_is_not_null(
    description: dict[str, Any],
) -> None:
    of_requests = re.compile(r"\w+(Event|Request|Condition)|Context|Product|Properties")
    schemas = description["components"]["schemas"]
    replies = {name for name in schemas if name == "RejectedEvent" or not of_requests.fullmatch(name)}
    absent = {
        (name, field)
        for name in replies
        for field in schemas[name]["properties"]
        if field not in schemas[name].get("required", ())
    }

    assert {"IngestReply", "MergeReply", "HealthReply", "RejectedEvent"} <= replies
    assert absent == {(f"{name}Reply", "requestedId") for name in ("Metrics", "User", "Timeline")}
    for name, field in absent:
        assert schemas[name]["properties"][field]["type"] == "string"


def test_an_event_needs_no_more_than_the_service_asks_for(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    extra = {"track": {"event"}, "alias": {"previousId", "userId"}}
    for kind in events.TYPES:
        needed = extra.get(kind, set())
        of_a_batch = schemas[f"{kind.capitalize()}Event"]
        alone = schemas[f"{kind.capitalize()}Request"]

        assert set(of_a_batch["required"]) == {"type"} | needed
        assert set(alone.get("required", ())) == needed
        assert set(alone["properties"]) == set(of_a_batch["properties"]) | {"writeKey"}


def test_an_imported_event_says_when_it_was(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    body = description["paths"]["/v1/import"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    batch = schemas[body["$ref"].rpartition("/")[2]]["properties"]["batch"]
    by_type = batch["items"]["discriminator"]["mapping"]

    assert set(by_type) == events.TYPES
    for kind, reference in by_type.items():
        required = schemas[reference.rpartition("/")[2]]["required"]
        assert ("timestamp" in required) == (kind in events.COUNTED_TYPES)
    assert str(events.IMPORT_EARLIEST.year) in json.dumps(schemas["ImportedTrackEvent"])


@pytest.mark.parametrize("value", [0, 59.9, "59.90", 10**12, -1, 10**12 + 1, "x"])
@pytest.mark.parametrize("field", ["revenue", "total", "value"])
def test_amounts_have_the_bounds_they_have(
    client: httpx.Client, description: dict[str, Any], field: str, value: Any
) -> None:
    """A string is told to be one, and may be anything; the service says more."""
    schema = description["components"]["schemas"]["Properties"]["properties"][field]
    bounds = next(option for option in schema["anyOf"] if option.get("type") == "number")
    event = make_event(event="Order Completed", properties={field: value})
    accepted = post(client, [event]).json()["accepted"] == 1

    if isinstance(value, str):
        assert {"type": "string"} in schema["anyOf"]
    else:
        assert accepted == (bounds["minimum"] <= value <= bounds["maximum"])


def test_every_metric_says_what_feeds_it(description: dict[str, Any]) -> None:
    for name in ("DayMetrics", "TotalMetrics", "ExportedDay"):
        schema = description["components"]["schemas"][name]
        numbers = {field: property_["description"] for field, property_ in schema["properties"].items()}
        for event, counter in metrics._COUNTER_OF_EVENT.items():
            fed = numbers[_camel(counter or "engaged_seconds")]
            assert event in fed.lower(), (event, counter)
            synonyms = [ga4 for ga4, segment in metrics._SEGMENT_NAME_OF_GA4.items() if segment == event]
            assert all(re.search(rf"\b{synonym}\b", fed) for synonym in synonyms), (event, synonyms)
        assert {_camel(counter) for counter in metrics.COUNTERS} <= set(numbers)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_day_is_described_as_one(description: dict[str, Any]) -> None:
    parameters = parameters_of(description, "get", METRICS)
    for name in ("from", "to"):
        schema = parameters[name]["schema"]
        assert (schema["type"], schema["format"]) == ("string", "date")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", schema["examples"][0])
        assert not parameters[name]["required"]


@pytest.mark.parametrize(("path", "name"), [(METRICS, "fill"), ("/health", "deep")])
def test_a_flag_is_described_by_the_words_it_may_be(
    client: httpx.Client, description: dict[str, Any], path: str, name: str
) -> None:
    schema = parameters_of(description, "get", path)[name]["schema"]
    tried = [*schema["enum"], "True", "yes", "on", "2", ""]
    accepted = {
        value
        for value in tried
        if client.get(path.replace("{userId}", "u-1"), params={name: value}, headers=READER).status_code
        == 200
    }

    assert accepted == set(schema["enum"]) == {"true", "false", "1", "0"}
    assert schema["default"] in schema["enum"]


def test_a_merge_is_into_a_user_and_says_so(client: httpx.Client, description: dict[str, Any]) -> None:
    told = {
        path: parameters_of(description, method, path)["userId"]["description"]
        for path, method in (
            *((METRICS, "get"), (USER, "delete"), (EXPORT, "get"), (TIMELINE, "get")),
            (MERGE, "post"),
        )
    }
    reply = client.post("/v1/users/anon_a1/merge", json={"anonymousId": "a2"}, headers=READER)

    assert reply.json()["code"] == "invalid_id"
    assert "invalid_id" in told.pop(MERGE)
    assert all(ids.ANONYMOUS_PREFIX in text for text in told.values())


def test_the_framework_has_nothing_to_refuse(app: FastAPI) -> None:
    """Its own 422 would repeat what was sent. Every parameter is text, and only a path's is required."""
    for route in _routes(app):
        dependant = route.dependant
        others = (*dependant.body_params, *dependant.header_params, *dependant.cookie_params)
        assert (*others, *dependant.dependencies) == (), route.path
        for field in (*dependant.path_params, *dependant.query_params):
            assert field.field_info.annotation in (str, str | None), (route.path, field.name)
        assert not any(field.field_info.is_required() for field in dependant.query_params), route.path


def _routes(app: FastAPI) -> list[APIRoute]:
    found = [context.route for context in iter_route_contexts(app.routes)]
    routes = [route for route in found if isinstance(route, APIRoute)]
    assert len(routes) > 20
    return routes


# --- problems ---------------------------------------------------------------------------------------------------------


def refused(client: httpx.Client, method: str, path: str) -> list[httpx.Response]:
    """What the route answers to everything that may be wrong with a request to it."""
    writes = {f"/v1/{path}" for path in ("batch", *events.TYPES)}
    key = WRITER if path in writes else READER
    there = path.replace("{userId}", "u-1")

    def ask(
        at: str = there, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> httpx.Response:
        content = (b"{}" if body is None else body) if path in BODIES else None
        return client.request(method, at, headers=key if headers is None else headers, content=content)

    if path == SETTINGS:
        return [client.get("/v1/projects/wrong/settings")]
    many = json.dumps({"batch": [{}] * (wire.BATCH_EVENTS_MAX + 1)}).encode()
    replies = [ask(f"{there}?deep=1", headers, b'{"batch": []}') for headers in (bearer("wrong"), WRITER)]
    replies += [
        ask(f"{there}?{query}")
        for query in (
            *("from=x", "fill=x", "deep=x", "cursor=x", "limit=0"),
            *("from=2020-01-01", "from=2027-01-01"),
        )
    ]
    if path in BODIES:
        replies += [ask(body=body) for body in (b"{", b"[]", b"{}", b" " * (CAP + 1), many)]
        replies += [ask(headers=key | {"Content-Encoding": "br"})]
    if path in SEARCHES:
        search = SEARCHES[path]
        for changes in (
            {},
            {"from": "x"},
            {"cursor": "x"} if "limit" in search and "by" not in search else {},
        ):
            replies.append(ask(body=json.dumps(search | changes).encode()))
    if "{userId}" in path:
        replies += [ask(path.replace("{userId}", "guest"), body=b'{"anonymousId": "a9"}')]
        client.post("/v1/users/u-2/merge", json={"anonymousId": "a2"}, headers=READER)
        anonymous = b'{"anonymousId": "a2"}'
        replies += [ask(path.replace("{userId}", "anon_a2"), body=anonymous), ask(body=anonymous)]
    return [reply for reply in replies if reply.status_code >= 400]


def asked_while_off(table: Table, path: str) -> list[httpx.Response]:
    """What is off unless it is turned on."""
    with lambda_client(make_app(make_settings(), table)) as client:
        if path in SEARCHES:
            return [client.post(path, json=SEARCHES[path], headers=READER)]
        return [client.get("/v1/users/u-1/events", headers=READER)] if path == TIMELINE else []


def operations(description: dict[str, Any]) -> list[tuple[str, str]]:
    return [(method, path) for path, methods in description["paths"].items() for method in methods]


def described_problems(description: dict[str, Any], method: str, path: str) -> dict[tuple[str, str], str]:
    """The name of the example of each status and code."""
    return {
        (status, code): example["$ref"].rpartition("/")[2]
        for status, answer in description["paths"][path][method]["responses"].items()
        for code, example in answer["content"].get("application/problem+json", {}).get("examples", {}).items()
    }


def test_each_route_names_the_codes_it_answers_with_and_no_others(
    client: httpx.Client, table: Table, description: dict[str, Any]
) -> None:
    for method, path in operations(description):
        replies = refused(client, method, path) + asked_while_off(table, path)
        answered = {(str(reply.status_code), reply.json()["code"]) for reply in replies}
        told = described_problems(description, method, path)

        assert {pair for pair in told if pair[0] not in ("500", "503")} == answered, (method, path)
        assert ("500", "internal_error") in told
        touches_table = path != SETTINGS
        assert (("503", "unavailable") in told) == (("503", "misconfigured") in told) == touches_table
        for status, code in told:
            text = description["paths"][path][method]["responses"][status]["description"]
            assert f"`{code}`" in text, (method, path, status)


def test_the_example_of_a_problem_is_one_that_the_route_answers_with(
    client: httpx.Client, app: FastAPI, table: Table, description: dict[str, Any]
) -> None:
    examples = {name: example["value"] for name, example in description["components"]["examples"].items()}
    shown: dict[str, list[dict[str, Any]]] = {}
    with lambda_client(app, remaining_ms=1000) as hurried:
        for method, path in operations(description):
            told = described_problems(description, method, path)
            replies = refused(client, method, path) + asked_while_off(table, path)
            if path not in (SETTINGS, "/health"):
                replies += refused(hurried, method, path)
            for reply in replies:
                name = told[str(reply.status_code), reply.json()["code"]]
                shown.setdefault(name, []).append(reply.json())

    # A fault of ours and one of the deployment are provoked elsewhere.
    assert set(examples) - set(shown) == {"internal_error", "misconfigured"}
    for name, replies_of_code in shown.items():
        assert examples[name] in replies_of_code, name
    for value in examples.values():
        check(value, {"$ref": "#/components/schemas/ProblemReply"}, description)


def test_throttling_has_one_model_for_all_routes(description: dict[str, Any]) -> None:
    found = {
        json.dumps(description["paths"][path][method]["responses"]["429"])
        for method, path in operations(description)
    }

    assert len(found) == 1
    assert json.loads(found.pop())["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ThrottledReply"
    }


# --- examples ---------------------------------------------------------------------------------------------------------


def test_the_examples_of_replies_are_of_their_shape(description: dict[str, Any]) -> None:
    for method, path in operations(description):
        answers = description["paths"][path][method]["responses"]
        for status in ("200", "429"):
            for media_type, content in answers[status]["content"].items():
                if media_type == "application/json":
                    check(content["example"], content["schema"], description)
                else:
                    check_lines(content["example"], description)


def check_lines(text: str, description: dict[str, Any]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        models = {
            "day": "ExportedDay",
            "receivedAt": "ExportedRawEvent",
            "anonymousId": "ExportedAnonymousId",
        }
        model = next(models[name] for name in models if name in line)
        check(line, {"$ref": f"#/components/schemas/{model}"}, description)
    return lines


def test_the_lines_of_an_export_are_as_described(client: httpx.Client, description: dict[str, Any]) -> None:
    order = {"event": "Order Completed", "properties": {"orderId": "o-1", "revenue": 5.5}}
    post(client, [make_event(**order), make_event(type="identify", anonymousId="a1")])
    reply = client.get("/v1/users/u-1/export", headers=READER)
    anonymous_id, day, raw_event = check_lines(reply.text, description)
    answer = description["paths"][EXPORT]["get"]["responses"]["200"]

    assert (anonymous_id["anonymousId"], anonymous_id["status"]) == ("anon_a1", "merged")
    assert day["orderIds"] == ["o-1"]
    assert raw_event["event"]["properties"] == {"orderId": "o-1", "revenue": 5.5}
    assert list(answer["content"]) == [reply.headers["content-type"]]
    assert set(answer["headers"]) == {"Footfall-Capacity", "Footfall-Next-Cursor"}


# --- its price --------------------------------------------------------------------------------------------------------


def test_a_cold_start_makes_no_models_of_the_description() -> None:
    script = (
        "import sys, service.routes; print([m for m in sys.modules if m.endswith(('_models', '.schemas'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert [name for name in json.loads(done.stdout.replace("'", '"')) if name.startswith("service.")] == []
