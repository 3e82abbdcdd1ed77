"""/openapi.json is enough to write a client from: one is generated from it, and used."""

from __future__ import annotations

import base64
import contextlib
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from service import events, parameters, problems, replies, wire
from service.app import create_app
from service.dynamodb import Table
from service.openapi import document
from service.opensearch import Engine
from tests import canned_engine
from tests.builders import NOON, SECRET_KEY, TODAY, WRITE_KEY, lambda_client, make_settings, uvicorn_client
from tests.codes import problem_codes, rejection_codes

NewClient = Callable[..., Any]

NAME = "footfall_client"
# Not in the document: the same under another name, and the document itself.
SHORT = {f"/v1/{path}" for path, kind in wire.TYPE_OF_PATH.items() if path != kind} | {"/v1/b"}
UNDESCRIBED = SHORT | {"/docs", "/docs/{asset}", "/openapi.json", "/sdk/{asset}"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The document as it is served."""
    app = make_app_without_table()
    with lambda_client(app) as client:
        reply = client.get("/openapi.json")
    assert reply.status_code == 200
    body: dict[str, Any] = reply.json()
    assert body == json.loads(document(app))
    return body


def make_app_without_table() -> FastAPI:
    return create_app(make_settings(), Table(client=None, name="unused"))


@pytest.fixture(scope="module")
def package(described: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a package that openapi-python-client made of the document."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(described), encoding="utf-8")
    # Its formatters are left out: what they make of the code changes nothing about what it does. NDJSON it does not
    # know by itself, and takes it for text when told to.
    config = {"post_hooks": [], "content_type_overrides": {"application/x-ndjson": "text/plain"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
            *("--path", "openapi.json", "--config", "config.json", "--meta", "none", "--output-path", NAME),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield NAME
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            patch.delitem(sys.modules, name)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """The service behind a real server, its clock at noon."""
    with uvicorn_client(app) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def models(package: str) -> Any:
    return importlib.import_module(f"{package}.models")


@pytest.fixture
def call(package: str) -> SimpleNamespace:
    """The generated function of each operation, by the name of its module: `call.post_batch(...)`."""
    found = {
        path.stem: importlib.import_module(f"{package}.api.{path.parent.name}.{path.stem}").sync_detailed
        for path in Path(inspect.getfile(importlib.import_module(package))).parent.glob("api/*/*.py")
        if path.stem != "__init__"
    }
    return SimpleNamespace(**found)


@pytest.fixture
def client(package: str, url: str) -> Iterator[NewClient]:
    """Makes clients of that server: with a key as the document's scheme `secretKey` has it, or without."""
    kinds = importlib.import_module(f"{package}.client")
    common: dict[str, Any] = {"base_url": url, "httpx_args": {"trust_env": False}}
    with contextlib.ExitStack() as stack:

        def opened(token: str | None = None, prefix: str = "Bearer") -> Any:
            made = (
                kinds.AuthenticatedClient(
                    token=token, prefix=prefix, raise_on_unexpected_status=True, **common
                )
                if token
                else kinds.Client(**common)
            )
            return stack.enter_context(made)

        yield opened


@pytest.fixture
def writer(client: NewClient) -> Any:
    """One with the write key, as the document's scheme `writeKey` has it."""
    return client(base64.b64encode(f"{WRITE_KEY}:".encode()).decode(), "Basic")


@pytest.fixture
def reader(client: NewClient) -> Any:
    return client(SECRET_KEY)


# --- the client at work -----------------------------------------------------------------------------------------------


def test_it_posts_every_type_of_event_and_reads_what_came_of_them(
    call: SimpleNamespace, models: Any, writer: Any, reader: Any
) -> None:
    noon = NOON.isoformat()
    visit = models.Context(session_id="s-1")
    visitor: dict[str, Any] = {"anonymous_id": "visitor", "timestamp": noon, "context": visit}
    order = models.Properties(
        revenue=59.9, currency="EUR", products=[models.Product(quantity=2), models.Product()]
    )
    batch = models.BatchRequest(
        batch=[
            models.PageEvent(type_="page", message_id="1", **visitor),
            models.ScreenEvent(type_="screen", message_id="2", **visitor),
            models.TrackEvent(
                type_="track", event="Order Completed", message_id="3", properties=order, **visitor
            ),
            models.TrackEvent(type_="track", event="Newsletter Signed Up", message_id="4", **visitor),
            models.GroupEvent(type_="group", message_id="5", anonymous_id="visitor"),
            models.IdentifyEvent(type_="identify", message_id="6", anonymous_id="visitor", user_id="u-42"),
            models.AliasEvent(type_="alias", message_id="7", previous_id="tablet", user_id="u-42"),
            models.PageEvent(type_="page", message_id="8", timestamp=noon),
        ]
    )
    first = call.post_batch(client=writer, body=batch)
    again = call.post_batch(client=writer, body=batch)

    assert isinstance(first.parsed, models.IngestReply)
    assert (first.parsed.accepted, first.parsed.duplicates, first.parsed.rejected_count) == (7, 0, 1)
    (rejected,) = first.parsed.rejected
    assert (rejected.index, rejected.message_id, rejected.code) == (7, "8", "invalid_id")
    assert (again.parsed.accepted, again.parsed.duplicates) == (3, 4)
    assert first.headers["footfall-capacity"].startswith("wru=")

    merged = call.post_merge("u-42", client=reader, body=models.MergeRequest(anonymous_id="phone"))
    assert (merged.parsed.user_id, merged.parsed.anonymous_id, merged.parsed.days) == (
        "u-42",
        "anon_phone",
        0,
    )

    answer = call.get_metrics("u-42", client=reader, from_=NOON.date(), to=NOON.date()).parsed
    assert isinstance(answer, models.MetricsReply)
    assert [day.day.isoformat() for day in answer.days] == [TODAY]
    total = answer.totals
    assert (total.events, total.page_views, total.orders, total.items_sold) == (4, 2, 1, 3)
    assert (total.sessions, total.active_days) == (1, 1)
    assert total.revenue.to_dict() == {"EUR": 59.9}
    assert total.by_event.to_dict() == {"Newsletter Signed Up": 1}

    user = call.get_user("anon_visitor", client=reader).parsed
    assert isinstance(user, models.UserReply)
    assert (user.user_id, user.requested_id) == ("u-42", "anon_visitor")
    assert sorted(user.anonymous_ids) == ["anon_phone", "anon_tablet", "anon_visitor"]
    assert user.first_day.isoformat() == TODAY


def test_it_posts_one_event_to_each_path_of_its_own(call: SimpleNamespace, models: Any, writer: Any) -> None:
    ids: dict[str, Any] = {"user_id": "u-1", "anonymous_id": "visitor"}
    bodies = {
        "track": models.TrackRequest(event="Product Viewed", **ids),
        "page": models.PageRequest(type_="page", **ids),
        "screen": models.ScreenRequest(**ids),
        "identify": models.IdentifyRequest(**ids),
        "alias": models.AliasRequest(previous_id="tablet", user_id="u-1"),
        "group": models.GroupRequest(**ids),
    }
    replied = {
        kind: getattr(call, f"post_{kind}")(client=writer, body=body).parsed.accepted
        for kind, body in bodies.items()
    }

    assert replied == dict.fromkeys(events.TYPES, 1)


def test_it_imports_history(call: SimpleNamespace, models: Any, reader: Any) -> None:
    event = models.ImportedTrackEvent(
        type_="track", event="purchase", user_id="u-1", timestamp="2019-12-24T18:00:00Z"
    )
    call.post_import(client=reader, body=models.ImportRequest(batch=[event]))

    answer = call.get_metrics("u-1", client=reader, from_=date(2019, 12, 1), to=date(2019, 12, 31)).parsed
    assert answer.totals.orders == 1


def test_it_searches(call: SimpleNamespace, models: Any, app: FastAPI, reader: Any) -> None:
    days: dict[str, Any] = {"from_": date(2026, 11, 1), "to": date(2026, 11, 2)}
    seen = models.EventCondition(event="purchase", min_=2)
    spent = models.MetricCondition(metric=models.MetricConditionMetric.REVENUE, min_=59.9, currency="EUR")
    views: dict[str, Any] = {"metric": models.BreakdownsRequestMetric.EVENTS, "event": "view_item"}
    off = call.post_segments(client=reader, body=models.SegmentsRequest(all_=[seen], **days))
    with canned_engine.running() as canned:
        app.state.service.engine = Engine.connect(canned.url)
        segment = call.post_segments(
            client=reader, body=models.SegmentsRequest(all_=[seen, spent], limit=5, **days)
        ).parsed
        steps = ["Product Viewed", "Order Completed"]
        funnel = call.post_funnels(client=reader, body=models.FunnelsRequest(steps=steps, **days)).parsed
        by = models.BreakdownsRequestBy.PRODUCTID
        table = call.post_breakdowns(
            client=reader, body=models.BreakdownsRequest(by=by, **views, **days)
        ).parsed
        hourly = models.TimeseriesRequest(
            metric=models.TimeseriesRequestMetric.USERS,
            interval=models.TimeseriesRequestInterval.HOUR,
            **days,
        )
        series = call.post_timeseries(client=reader, body=hourly).parsed
        weekly = models.RetentionRequest(
            start_event="a", return_event="b", unit=models.RetentionRequestUnit.WEEK, **days
        )
        back = call.post_retention(client=reader, body=weekly).parsed

    assert (off.status_code, off.parsed.code) == (501, "search_off")
    assert (segment.count, segment.users, segment.next_cursor) == (0, [], None)
    assert [(step.event, step.users, step.conversion) for step in funnel.steps] == [
        (step, 0, 0) for step in steps
    ]
    assert (table.rows, table.total, table.other_rows) == ([], 0, 0)
    assert [row.start for row in series.rows][-1] == "2026-11-02T23:00:00+00:00"
    assert [(cohort.start, cohort.returned) for cohort in back.cohorts] == [
        (date(2026, 10, 26), [0, 0]),
        (date(2026, 11, 2), [0]),
    ]


def test_it_exports_and_erases_a_person(call: SimpleNamespace, models: Any, reader: Any, writer: Any) -> None:
    call.post_page(client=writer, body=models.PageRequest(user_id="u-1", anonymous_id="visitor"))
    exported = call.get_export("u-1", client=reader)
    taken = call.delete_user("anon_visitor", client=reader)
    erased = call.delete_user("u-1", client=reader).parsed
    late = models.PageEvent(type_="page", user_id="u-1", timestamp=NOON.isoformat())
    sent_late = call.post_batch(client=writer, body=models.BatchRequest(batch=[late])).parsed

    alias, day = map(json.loads, exported.parsed.splitlines())
    assert models.ExportedAnonymousId.from_dict(alias).anonymous_id == "anon_visitor"
    assert models.ExportedDay.from_dict(day).page_views == 1
    assert "footfall-next-cursor" not in exported.headers
    assert (taken.status_code, taken.parsed.code) == (409, "identity_conflict")
    assert (erased.user_id, erased.anonymous_ids, erased.days) == ("u-1", 1, 1)
    # A millisecond after the merge, which was at noon as well.
    assert erased.erased_at == NOON + timedelta(milliseconds=1)
    assert [rejected.code for rejected in sent_late.rejected] == ["erased"]
    assert call.get_export("u-1", client=reader).parsed == ""


def test_it_tells_a_wrong_key_and_a_conflict_from_an_answer(
    call: SimpleNamespace, models: Any, client: NewClient, writer: Any, reader: Any
) -> None:
    wrong = call.get_user("u-1", client=client("nobody's"))
    weak = call.get_user("u-1", client=writer)
    call.post_merge("u-1", client=reader, body=models.MergeRequest(anonymous_id="visitor"))
    taken = call.post_merge("u-2", client=reader, body=models.MergeRequest(anonymous_id="visitor"))
    long = call.get_metrics("u-1", client=reader, from_=date(2020, 1, 1), to=NOON.date())

    assert [reply.status_code for reply in (wrong, weak, taken, long)] == [401, 403, 409, 422]
    assert all(isinstance(reply.parsed, models.ProblemReply) for reply in (wrong, weak, taken, long))
    assert [reply.parsed.code for reply in (wrong, weak, taken, long)] == [
        "unauthorized",
        "forbidden",
        "identity_conflict",
        "invalid_range",
    ]


def test_it_needs_no_key_for_health_and_settings(
    call: SimpleNamespace, models: Any, client: NewClient, reader: Any
) -> None:
    anybody = client()

    assert call.get_health(client=anybody).parsed.status == "ok"
    deep = models.GetHealthDeep("1")
    assert call.get_health(client=reader, deep=deep).parsed.status == "ok"
    settings = call.get_project_settings(WRITE_KEY, client=anybody).parsed.to_dict()
    assert settings["integrations"]["Segment.io"]["apiKey"] == WRITE_KEY


# --- what the document says -------------------------------------------------------------------------------------------


def test_it_describes_every_route(described: dict[str, Any]) -> None:
    served = {
        (method.lower(), route.path)
        for route in iter_route_contexts(make_app_without_table().routes)
        for method in route.methods or ()
    }
    written = {(method, path) for path, methods in described["paths"].items() for method in methods}

    assert written == {(method, path) for method, path in served if path not in UNDESCRIBED}
    # The short paths are told of where their long ones are.
    for path, kind in (*wire.TYPE_OF_PATH.items(), ("b", "batch")):
        assert f"/v1/{path}" in json.dumps(described["paths"][f"/v1/{kind}"]) or path == kind


def test_it_names_every_code(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]

    assert set(schemas["ProblemReply"]["properties"]["code"]["examples"]) == problem_codes()
    assert set(schemas["RejectedEvent"]["properties"]["code"]["examples"]) == rejection_codes()


def test_it_names_every_limit(described: dict[str, Any]) -> None:
    batch = described["components"]["schemas"]["BatchRequest"]["properties"]["batch"]
    text = json.dumps(described)

    assert batch["maxItems"] == wire.BATCH_EVENTS_MAX
    for words in (
        f"{wire.BODY_BYTES_MAX // 1024} KB",
        f"{wire.BATCH_EVENTS_MAX:,} events",
        f"{events.EVENT_BYTES_MAX // 1024} KB",
        f"{parameters.RANGE_DAYS_MAX} days",
        f"first {replies.REJECTED_LISTED_MAX} of the rejected",
        f"{wire.GZIP_MEMBERS_MAX} members",
    ):
        assert words in text, words


def test_every_field_is_described_or_named_in_full(described: dict[str, Any]) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in described["components"]["schemas"].items()
        for field, property_ in schema["properties"].items()
        if not {"description", "const", "$ref"} & set(property_)
    ]

    assert bare == []


def test_every_parameter_is_described(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (method, path, parameter["name"])


def test_what_can_be_sent_again_says_when(described: dict[str, Any]) -> None:
    answers = [
        operation["responses"]["503"]
        for methods in described["paths"].values()
        for operation in methods.values()
        if "503" in operation["responses"]
    ]

    assert answers
    assert all("Retry-After" in answer["headers"] for answer in answers)
    assert problems.Unavailable().headers["Retry-After"] in json.dumps(answers[0])


def test_what_any_request_can_meet_is_described_for_each(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert {"200", "429", "500"} <= set(operation["responses"]), (method, path)
