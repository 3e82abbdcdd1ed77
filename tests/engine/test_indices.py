"""Indices on a real OpenSearch: made, changed over, deleted; and every document that can be, taken."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from service import indices
from service.documents import document
from service.index_template import Names, template
from service.opensearch import Engine, EngineUnavailableError
from tests.opensearch_local import documents
from tests.unit.test_documents import NASTY_BODIES, RICH_BODIES, raw_events

Json = dict[str, Any]
MONTH = "2026-11"


def in_use(engine: Engine) -> list[str]:
    names = Names(engine.prefix)
    return [index.name for index in indices.listed(engine) if index.is_in_use(names)]


def put(engine: Engine, alias: str, found: dict[str, Json]) -> list[Json]:
    """Create these documents; the engine's answer to each."""
    lines = b"".join(
        json.dumps(line, ensure_ascii=False).encode() + b"\n"
        for doc_id, doc in found.items()
        for line in ({"create": {"_index": alias, "_id": doc_id}}, doc)
    )
    return [item["create"] for item in engine.bulk(lines, timeout_seconds=30)["items"]]


# --- documents --------------------------------------------------------------------------------------------------------


def is_taken(engine: Engine, body: bytes) -> None:
    """The strict mapping takes what comes of it; changing owners leaves everything else as it was."""
    month = Names(engine.prefix).month(MONTH)
    made = dict(document(raw, "u-1", "u-1", raw.event.instant_ms) for raw in raw_events(body))
    if not made:
        return
    engine.call(
        "POST", f"/{month}/_delete_by_query", {"query": {"match_all": {}}}, params={"refresh": "true"}
    )

    assert {item["status"] for item in put(engine, month, made)} == {201}
    assert documents(engine) == made
    reply = engine.call(
        "POST",
        f"/{month}/_update_by_query",
        {
            "query": {"match_all": {}},
            "script": {"source": "ctx._source.user = params.u", "params": {"u": "u-2"}},
        },
    )
    assert (reply["updated"], reply["failures"]) == (len(made), [])
    assert documents(engine) == {doc_id: {**doc, "user": "u-2"} for doc_id, doc in made.items()}


@pytest.mark.parametrize("body", NASTY_BODIES)
def test_the_nastiest_event_is_taken(engine: Engine, body: bytes) -> None:
    indices.make_month(engine, MONTH)
    is_taken(engine, body)


@given(body=RICH_BODIES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_whatever_event_is_accepted_is_taken(engine: Engine, body: bytes) -> None:
    indices.make_month(engine, MONTH)
    is_taken(engine, body)


def test_the_mapping_is_strict(engine: Engine) -> None:
    """So the tests above prove something: nothing is mapped by guessing."""
    indices.make_month(engine, MONTH)
    (item,) = put(engine, Names(engine.prefix).month(MONTH), {"1": {"user": "u", "unknown": 1}})

    assert (item["status"], item["error"]["type"]) == (400, "strict_dynamic_mapping_exception")


def test_documents_lie_in_the_order_of_users(engine: Engine) -> None:
    indices.make_month(engine, MONTH)
    (index,) = indices.listed(engine)
    stored = engine.call("GET", f"/{index.name}/_settings")[index.name]["settings"]["index"]

    assert stored["sort"] == {"field": ["user", "time"], "order": ["asc", "asc"]}
    assert (stored["number_of_shards"], stored["number_of_replicas"]) == ("1", "0")


# --- setup ------------------------------------------------------------------------------------------------------------


def test_setup_may_be_repeated_and_changes_what_is_made_from_then_on(engine: Engine) -> None:
    names = Names(engine.prefix)
    assert indices.setup(engine)["distribution"] == "opensearch"
    indices.make_month(engine, "2026-10")
    indices.setup(engine, replicas=1)
    indices.make_month(engine, MONTH)
    found = engine.call("GET", f"/{names.every}/_settings")
    replicas = {name: facts["settings"]["index"]["number_of_replicas"] for name, facts in found.items()}

    assert replicas == {names.index("2026-10", 1): "0", names.index(MONTH, 1): "1"}
    engine.call("DELETE", f"/{names.index(MONTH, 1)}")


def test_a_month_is_made_once_with_its_aliases_whoever_asks(engine: Engine) -> None:
    names = Names(engine.prefix)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: indices.make_month(engine, MONTH), range(8)))
    (index,) = indices.listed(engine)

    assert index.name == names.index(MONTH, 1)
    assert index.aliases == {names.events, names.month(MONTH)}


def test_a_month_that_was_rebuilt_is_not_made_again(engine: Engine) -> None:
    names = Names(engine.prefix)
    aliases = {names.month(MONTH): {"is_write_index": True}, names.events: {}}
    assert indices.make(engine, names.index(MONTH, 7), aliases)
    assert not indices.make(engine, names.index(MONTH, 7), aliases)
    indices.make_month(engine, MONTH)

    assert in_use(engine) == [names.index(MONTH, 7)]
    # What a process is told that has looked a moment before.
    with pytest.raises(EngineUnavailableError):
        indices.make(engine, names.index(MONTH, 1), aliases)


def test_a_month_is_made_with_its_mapping_where_nobody_has_called_setup(engine: Engine) -> None:
    names = Names(engine.prefix)
    engine.call("DELETE", f"/_index_template/{names.events}")
    indices.make_month(engine, MONTH)
    mappings = engine.call("GET", f"/{names.month(MONTH)}/_mapping")[names.index(MONTH, 1)]["mappings"]

    assert mappings == template(names)["template"]["mappings"]


def test_nothing_makes_an_index_by_writing_to_it(engine: Engine) -> None:
    (item,) = put(engine, Names(engine.prefix).month(MONTH), {"1": {"user": "u"}})

    assert item["status"] == 404
    assert indices.listed(engine) == []


def test_months_that_are_wholly_too_old_are_deleted_and_no_other(engine: Engine) -> None:
    names = Names(engine.prefix)
    for month in ("2025-01", "2025-09", "2025-10", MONTH):
        indices.make_month(engine, month)
    # Of a rebuild that died.
    indices.make(engine, names.index("2025-09", 2), {names.filling("2025-09", 2): {}})

    # The 1st of October is 400 days ago, then 401.
    assert indices.retire(engine, date(2026, 11, 5), 400) == ["2025-01", "2025-09"]
    assert in_use(engine) == [names.index("2025-10", 1), names.index(MONTH, 1)]
    assert indices.retire(engine, date(2026, 11, 5), 400) == []
    assert indices.retire(engine, date(2026, 12, 6), 400) == ["2025-10"]
    assert names.failed in engine.call("GET", f"/{names.failed}/_alias")


def test_indices_that_are_not_the_services_are_left_alone(engine: Engine) -> None:
    names = Names(engine.prefix)
    theirs = [
        f"{names.month('2020-01')}-copy",
        f"{names.events}-x",
        f"{engine.prefix}x-events-2020-01-000001",
    ]
    for name in theirs:
        engine.call("PUT", f"/{name}", {})
    found = indices.listed(engine)

    assert found == []
    assert indices.retire(engine, date(2026, 11, 5), 400) == []
    for name in theirs:
        engine.call("DELETE", f"/{name}")
