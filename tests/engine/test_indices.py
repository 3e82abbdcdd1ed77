"""Indices on a real OpenSearch: made, changed over, deleted; and every document that can be, taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from service import index_template, indices
from service.documents import document
from service.events import epoch_ms
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
    assert indices.make(engine, names.index(MONTH, 7), {"aliases": aliases})
    assert not indices.make(engine, names.index(MONTH, 7), {"aliases": aliases})
    indices.make_month(engine, MONTH)

    assert in_use(engine) == [names.index(MONTH, 7)]
    # What a process is told that has looked a moment before.
    with pytest.raises(EngineUnavailableError):
        indices.make(engine, names.index(MONTH, 1), {"aliases": aliases})


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


def test_setup_adds_new_fields_to_months_that_are_there(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an upgrade's documents are taken before a rebuild."""
    indices.make_month(engine, MONTH)
    alias = Names(engine.prefix).month(MONTH)
    assert [item["status"] for item in put(engine, alias, {"1": {"unheardOf": "x"}})] == [400]
    monkeypatch.setitem(index_template._PROPERTIES, "unheardOf", {"type": "keyword"})
    assert indices.setup(engine)["stale"] == []
    assert [item["status"] for item in put(engine, alias, {"1": {"unheardOf": "x"}})] == [201]
    # What is there cannot become something else; that takes a rebuild, which begins with the same.
    monkeypatch.setitem(index_template._PROPERTIES, "unheardOf", {"type": "long"})
    assert indices.setup(engine)["stale"] == [MONTH]


def test_the_indices_of_one_table_are_refused_to_another(engine: Engine) -> None:
    indices.make_month(engine, MONTH)
    indices.setup(engine, "mine")
    indices.setup(engine)
    assert indices.check_table(engine, "mine") == "mine"
    refused: list[Callable[[], object]] = [
        lambda: indices.check_table(engine, "theirs"),
        lambda: indices.setup(engine, "theirs"),
        lambda: indices.make_month(engine, "2026-12", "theirs"),
        lambda: indices.retire(engine, date(2036, 11, 5), 400, "theirs"),
    ]
    for call in refused:
        with pytest.raises(indices.AnotherTableError, match="of the table mine"):
            call()
    assert in_use(engine) == [Names(engine.prefix).index(MONTH, 1)]
    indices.make_month(engine, "2026-12", "mine")
    assert len(in_use(engine)) == 2


def test_what_failed_before_the_months_that_are_kept_is_deleted(engine: Engine) -> None:
    failed = Names(engine.prefix).failed
    for doc_id, day in (("old", "2025-09-30"), ("kept", "2025-10-01")):
        at = epoch_ms(datetime.fromisoformat(f"{day}T00:00:00Z"))
        engine.call("PUT", f"/{failed}/_doc/{doc_id}", {"at": at}, params={"refresh": "true"})
    indices.retire(engine, date(2026, 11, 5), 400)

    assert set(documents(engine, failed)) == {"kept"}


def test_an_index_that_is_being_filled_is_abandoned_unless_somebody_was_quicker(engine: Engine) -> None:
    names = Names(engine.prefix)
    indices.make(
        engine, names.index(MONTH, 2), {"aliases": {names.filling(MONTH, 2): {"is_write_index": True}}}
    )
    (filling,) = indices.listed(engine)
    change_over = [
        {"remove": {"index": filling.name, "alias": names.filling(MONTH, 2)}},
        {"add": {"index": filling.name, "alias": names.month(MONTH)}},
    ]
    engine.call("POST", "/_aliases", {"actions": change_over})

    assert not indices.abandon(engine, filling)
    assert in_use(engine) == [filling.name]
    indices.make(engine, names.index(MONTH, 3), {"aliases": {names.filling(MONTH, 3): {}}})
    assert indices.abandon(engine, indices.listed(engine)[1])
    assert [index.name for index in indices.listed(engine)] == [filling.name]


def test_a_change_of_owner_is_searched_for_in_the_primaries(engine: Engine) -> None:
    """The engine takes that of every call it is said in."""
    indices.make_month(engine, MONTH)
    alias = Names(engine.prefix).month(MONTH)
    put(engine, alias, {"1": {"user": "u"}})
    assert engine.primaries() == {"preference": "_primary"}
    everything: Json = {"query": {"match_all": {}}}
    engine.call("POST", f"/{alias}/_refresh")
    params = engine.primaries()
    assert engine.call("POST", f"/{alias}/_count", everything, params=params)["count"] == 1
    assert engine.call("POST", f"/{alias}/_update_by_query", everything, params=params)["updated"] == 1
    engine.call("POST", f"/{alias}/_refresh")
    assert engine.call("POST", f"/{alias}/_delete_by_query", everything, params=params)["deleted"] == 1


def test_months_that_are_wholly_too_old_are_deleted_and_no_other(engine: Engine) -> None:
    names = Names(engine.prefix)
    for month in ("2025-01", "2025-09", "2025-10", MONTH):
        indices.make_month(engine, month)
    # Of a rebuild that died.
    indices.make(engine, names.index("2025-09", 2), {"aliases": {names.filling("2025-09", 2): {}}})

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
