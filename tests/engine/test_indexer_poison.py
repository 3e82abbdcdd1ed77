"""Records that the indexer cannot make documents of: each is kept with the reason or left out, and the rest goes on."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from typing import Any

import pytest

from service import documents, indices
from tests.engine.index_stage import IndexStage, with_image, without_image
from tests.engine.test_indexer import event, module_engine, module_stage, owners, stage

__all__ = ["module_engine", "module_stage", "stage"]

Json = dict[str, Any]


def test_a_document_that_the_mapping_refuses_is_kept_with_the_reason_and_the_rest_goes_on(
    stage: IndexStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = documents.document

    def poisoned(raw: Any, *arguments: Any) -> tuple[str, Json]:
        doc_id, fields = really(raw, *arguments)
        return doc_id, {**fields, "unheardOf": 1} if raw.event.message_id == "m-2" else fields

    for number in (1, 2, 3):
        stage.shop.send(event(stage, number, userId="u"))
    records = stage.records()
    monkeypatch.setattr(documents, "document", poisoned)
    for _ in range(2):
        assert stage.index(records) == []
    found = [failure for failure in stage.failures() if failure["sentAs"] == f"{stage.people}-u"]

    assert len(stage.documents()) == 2
    assert len(found) == 1, "once, however often it comes"
    assert found[0]["reason"].startswith("strict_dynamic_mapping_exception")
    assert json.loads(found[0]["body"])["messageId"] == "m-2"
    # An erasure takes it along.
    monkeypatch.undo()
    stage.shop.now += timedelta(minutes=1)
    stage.shop.request("DELETE", f"/v1/users/{stage.people}-u")
    assert stage.index(stage.records()) == []
    assert [one for one in stage.failures() if one["sentAs"] == f"{stage.people}-u"] == []
    assert stage.documents() == {}


def deep() -> bytes:
    return zlib.compress(
        b'{"currency":"EUR","countsOrders":true,"events":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    )


@pytest.mark.parametrize(
    "breaking",
    [
        {"payload": b"no zlib"},
        {"payload": zlib.compress(b"no json")},
        {"payload": zlib.compress(b'{"events": [{}]}')},
        {"payload": zlib.compress(b"[1, 2]")},
        {"payload": deep()},
        {"receivedAt": {"S": "yesterday"}},
        {"receivedAt": None},
        {"payload": None, "receivedAt": {"N": "x"}},
    ],
    ids=["zlib", "json", "fields", "no object", "deep", "receipt", "no receipt", "number"],
)
def test_an_item_that_cannot_be_read_is_kept_and_the_rest_goes_on(stage: IndexStage, breaking: Json) -> None:
    stage.shop.send(event(stage, 1, userId="u"))
    stage.shop.send(event(stage, 2, userId="w"))
    first, second = stage.records()

    assert stage.index([with_image(first, **breaking), second]) == []
    found = [failure for failure in stage.failures() if failure["sentAs"] == f"{stage.people}-u"]
    assert owners(stage) == {"w"}
    assert len(found) == 1
    assert found[0]["key"].startswith(f"USER#{stage.people}-u EVENTS#")
    # Read back from the table it is whole.
    assert stage.index([first]) == []
    stage.assert_index_is_the_table()


def test_an_item_that_is_gone_is_nothing(stage: IndexStage) -> None:
    stage.shop.send(event(stage, 1, userId="u"))
    records = [without_image(record) for record in stage.records()]
    stage.shop.now += timedelta(minutes=1)
    stage.shop.request("DELETE", f"/v1/users/{stage.people}-u")

    assert stage.index(records) == []
    assert stage.documents() == {}


def test_months_before_the_retention_are_left_out(stage: IndexStage) -> None:
    shop = stage.shop
    old = shop.now - timedelta(days=500)
    body = {**event(stage, 1, userId="u"), "timestamp": old.isoformat()}
    shop.post("/v1/import", {"batch": [body, event(stage, 2, userId="u")]})

    assert stage.index(stage.records()) == []
    assert [document["messageId"] for document in stage.documents().values()] == ["m-2"]
    assert not indices.listed(stage.engine, f"{old:%Y-%m}")
