"""The indexer on real engines: in whatever order the stream comes and however often, the index is as the table."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from service import keys
from service.opensearch import Engine
from tests import opensearch_local
from tests.engine.index_stage import IndexStage, as_get_records_gives, in_batches, staged, without_image

Json = dict[str, Any]


@pytest.fixture(scope="module")
def module_engine(opensearch_url: str) -> Iterator[Engine]:
    with opensearch_local.connected(opensearch_url) as engine:
        yield engine


@pytest.fixture(scope="module")
def module_stage(dynamodb_url: str, module_engine: Engine) -> Iterator[IndexStage]:
    with staged(dynamodb_url, module_engine) as stage:
        yield stage


@pytest.fixture
def stage(module_stage: IndexStage, prefix: str) -> IndexStage:
    """Nothing of the stream is left from before, and nobody has these ids."""
    module_stage.records()
    module_stage.people = prefix
    module_stage.pauses.clear()
    return module_stage


def event(stage: IndexStage, number: int, *, name: str = "Product Viewed", **fields: Any) -> Json:
    """An event of now; ids are of this test's own people."""
    for field in ("userId", "anonymousId"):
        if field in fields:
            fields[field] = f"{stage.people}-{fields[field]}"
    when = stage.shop.now + timedelta(minutes=fields.pop("minutes", -number))
    return {
        "type": "track",
        "event": name,
        "messageId": f"m-{number}",
        "timestamp": when.isoformat(),
        "properties": fields.pop("properties", {}),
        **fields,
    }


def order(stage: IndexStage, number: int, **fields: Any) -> Json:
    properties = {
        "orderId": f"{stage.people}-o-{number}",
        "revenue": 12.5,
        "currency": "EUR",
        "products": [{"product_id": "p-1", "price": 5, "quantity": 2}],
    }
    return event(stage, number, name="Order Completed", properties=properties, **fields)


def a_visitor_becomes_a_user(stage: IndexStage) -> list[Json]:
    """Six records: events before, ALIAS twice, events after, of two identities."""
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="a"), event(stage, 2, anonymousId="a"), event(stage, 3, userId="u"))
    shop.send(event(stage, 4, anonymousId="a", userId="u"), order(stage, 5, userId="u"))
    shop.send(event(stage, 6, anonymousId="a"), order(stage, 7, anonymousId="a"))
    return stage.records()


def owners(stage: IndexStage) -> set[str]:
    return {document["user"].removeprefix(f"{stage.people}-") for document in stage.documents().values()}


def test_a_batch_of_the_stream_becomes_documents_of_the_user(stage: IndexStage) -> None:
    records = a_visitor_becomes_a_user(stage)

    assert stage.index(records) == []
    stage.assert_index_is_the_table()
    assert owners(stage) == {"u"}


def test_every_suffix_again_changes_nothing(stage: IndexStage) -> None:
    records = a_visitor_becomes_a_user(stage)
    stage.index(records)
    before = stage.documents()
    for start in range(len(records)):
        assert stage.index(records[start:]) == []
    assert stage.documents() == before
    stage.assert_index_is_the_table()


def test_every_permutation_of_a_batch_gives_the_same_index(stage: IndexStage) -> None:
    records = a_visitor_becomes_a_user(stage)
    stage.index(records)
    expected = stage.documents()
    permutations = list(itertools.permutations(records))
    for permutation in random.Random(1).sample(permutations, min(12, len(permutations))):
        forget(stage)
        for record in permutation:
            assert stage.index([record]) == []
        assert stage.documents() == expected


def forget(stage: IndexStage) -> None:
    """An index as it was before this test's people came."""
    stage.engine.call(
        "POST",
        f"/{stage.engine.prefix}-events-*/_delete_by_query",
        {"query": {"match_all": {}}},
        params={"refresh": "true"},
    )


@pytest.mark.parametrize("shape", [as_get_records_gives, without_image])
def test_the_other_shapes_of_records_give_the_same_index(stage: IndexStage, shape: Any) -> None:
    records = a_visitor_becomes_a_user(stage)

    assert stage.index([shape(record) for record in records]) == []
    stage.assert_index_is_the_table()


@pytest.mark.parametrize("place", ["before", "between", "after", "alone"])
def test_an_alias_may_come_before_between_and_after_its_events(stage: IndexStage, place: str) -> None:
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="a"))
    first = stage.records()
    if place == "alone":
        # Indexed before the visitor is anybody's; nothing but the alias says that it has changed.
        stage.index(first)
        assert owners(stage) == {f"anon_{stage.people}-a"}
    shop.post("/v1/identify", {"anonymousId": f"{stage.people}-a", "userId": f"{stage.people}-u"})
    aliases = stage.records()
    shop.send(event(stage, 2, anonymousId="a"))
    last = stage.records()

    orders = {
        "before": [aliases, first, last],
        "between": [first, aliases, last],
        "after": [last, first, aliases],
        "alone": [aliases, last],
    }
    assert [record["dynamodb"]["Keys"]["SK"]["S"] for record in aliases] == ["ALIAS", "ALIAS"]
    for batch in orders[place]:
        assert stage.index(batch) == []
    stage.assert_index_is_the_table()
    assert owners(stage) == {"u"}


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_an_erasure_may_come_before_between_and_after_its_events(stage: IndexStage, place: str) -> None:
    shop = stage.shop
    events = a_visitor_becomes_a_user(stage)
    shop.now += timedelta(minutes=1)
    erased = shop.request("DELETE", f"/v1/users/{stage.people}-u")
    assert erased.status_code == 200
    erasures = stage.records()
    shop.now += timedelta(minutes=1)
    shop.send(event(stage, 8, anonymousId="a", minutes=0), event(stage, 9, userId="u", minutes=0))
    since = stage.records()

    middle = len(events) // 2
    orders = {
        "before": [erasures, since, events],
        "between": [events[:middle], erasures, events[middle:], since],
        "after": [events, since, erasures],
    }
    for batch in orders[place]:
        assert stage.index(batch) == []
    stage.assert_index_is_the_table()
    assert owners(stage) == {"u", f"anon_{stage.people}-a"}
    # An old batch comes once more.
    stage.index(events)
    stage.index(erasures)
    stage.assert_index_is_the_table()


def test_what_an_erased_user_gets_later_by_a_merge_stays_whenever_the_erasure_comes(
    stage: IndexStage,
) -> None:
    """The visitor's history is of before the erasure of the user, and not of the erased one."""
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="b"), event(stage, 2, userId="u"))
    shop.now += timedelta(minutes=1)
    shop.request("DELETE", f"/v1/users/{stage.people}-u")
    shop.now += timedelta(minutes=1)
    shop.post("/v1/identify", {"anonymousId": f"{stage.people}-b", "userId": f"{stage.people}-u"})
    shop.send(event(stage, 3, userId="u", minutes=0))
    records = stage.records()
    erasures = [record for record in records if record["dynamodb"]["Keys"]["SK"]["S"] == "ERASED"]

    assert erasures
    stage.index(records)
    stage.index(erasures)
    assert len(stage.documents()) == 2
    stage.assert_index_is_the_table()


def test_an_event_dated_ahead_counts_again_after_an_erasure(stage: IndexStage) -> None:
    """Its raw item is put again under its key, and its document has the id of the one that was erased."""
    shop = stage.shop
    ahead = event(stage, 1, userId="u", minutes=60)
    shop.send(ahead)
    before = stage.records()
    shop.now += timedelta(minutes=1)
    shop.request("DELETE", f"/v1/users/{stage.people}-u")
    erasures = stage.records()
    shop.now += timedelta(minutes=1)
    shop.send(ahead)
    again = stage.records()

    # The document of before is still there when the new one comes.
    work = stage.indexer()
    work.index_items([work._items([change])[0] for change in changes_of(before)])
    for batch in (again, erasures, before):
        stage.index(batch)
        stage.assert_index_is_the_table()
    assert len(stage.documents()) == 1


def changes_of(records: list[Json]) -> list[Any]:
    from service import changes

    return [changes.change(record) for record in records]


def test_deletions_and_other_items_are_nothing_to_the_indexer(stage: IndexStage) -> None:
    records = a_visitor_becomes_a_user(stage)
    others: list[Json] = []
    for name in ("REMOVE", "UNKNOWN_TO_SDK_VERSION"):
        others += [{**record, "eventName": name} for record in records]
    for sk in ("DAY#2035-03-15", "ALIAS#anon_x", "ORDER", "SETTINGS"):
        keys = {"PK": {"S": f"USER#{stage.people}"}, "SK": {"S": sk}}
        others.append({**records[0], "dynamodb": {**records[0]["dynamodb"], "Keys": keys}})

    assert stage.index(others) == []
    assert stage.documents() == {}


def test_random_batches_in_random_order_come_to_the_same(stage: IndexStage) -> None:
    records = a_visitor_becomes_a_user(stage)
    chance = random.Random(7)
    for _ in range(5):
        shuffled = chance.sample(records, len(records)) + chance.sample(records, len(records) // 2)
        for batch in in_batches(shuffled, chance):
            assert stage.index(batch) == []
        stage.assert_index_is_the_table()
        forget(stage)


def test_marks_are_read_by_the_hundred_and_a_key_named_twice_once(stage: IndexStage) -> None:
    stage.shop.send(*(event(stage, number, anonymousId=f"a{number}", userId="u") for number in range(3)))
    wanted = [keys.alias_key(f"anon_{stage.people}-a{number}") for number in range(230)]
    calls = stage.shop.table.calls(time.monotonic() + 30)
    found = calls.get_all([*wanted, *wanted])

    assert set(found) == set(wanted[:3])
    assert {item["userId"]["S"] for item in found.values()} == {f"{stage.people}-u"}
    assert calls.capacity.read_units == 230
