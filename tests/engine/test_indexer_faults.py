"""The indexer when engine or wire fail: nothing is lost, nothing counts twice, the rest goes on."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from service import bulk
from service.index_template import Names
from service.opensearch import Engine
from service.problems import Unavailable
from tests import faults, opensearch_local
from tests.engine import engine_proxy
from tests.engine.engine_proxy import Action, Wire
from tests.engine.index_stage import IndexStage, staged, with_image, without_image
from tests.engine.test_indexer import event, owners

Json = dict[str, Any]
DONE_SECONDS = 60


@pytest.fixture(scope="module")
def wire(opensearch_url: str) -> Iterator[Wire]:
    with engine_proxy.running(opensearch_url) as wire:
        yield wire


@pytest.fixture(scope="module")
def module_stage(dynamodb_url: str, opensearch_url: str, wire: Wire) -> Iterator[IndexStage]:
    with (
        opensearch_local.connected(opensearch_url) as engine,
        staged(dynamodb_url, Engine.connect(wire.url, prefix=engine.prefix)) as stage,
    ):
        yield stage


@pytest.fixture
def stage(module_stage: IndexStage, prefix: str) -> IndexStage:
    module_stage.records()
    module_stage.people = prefix
    module_stage.pauses.clear()
    return module_stage


def times(action: Action, number: int) -> list[Action]:
    return [action] * number


@pytest.mark.parametrize(
    "action", ["refuse_429", "refuse_503", "lose_request", "lose_reply", "half_429", "half_500"]
)
def test_a_bulk_that_fails_for_a_moment_is_sent_again_within_the_call(
    stage: IndexStage, wire: Wire, action: Action
) -> None:
    stage.shop.send(*(event(stage, number, userId=f"u-{number % 3}") for number in range(8)))
    records = stage.records()
    wire.plan("_bulk", action, action)

    assert stage.index(records) == []
    assert wire.calls.count("_bulk") >= 2
    stage.assert_index_is_the_table()


def test_pauses_grow_and_stay_within_the_call(stage: IndexStage, wire: Wire) -> None:
    stage.shop.send(event(stage, 1, userId="u"))
    records = stage.records()
    stage.index(records)
    stage.pauses.clear()
    wire.plan("_bulk", *times("refuse_429", 5))

    assert stage.index(records) == []
    assert len(stage.pauses) == 5
    assert stage.pauses[-1] > stage.pauses[0]
    assert max(stage.pauses) <= bulk._PAUSE_SECONDS_MAX


def test_what_the_engine_never_takes_in_this_call_is_to_be_begun_again_at(
    stage: IndexStage, wire: Wire
) -> None:
    """The third record alone is of a month that takes nothing for now. Before it comes one that is nothing to do."""
    long_ago = stage.shop.now - timedelta(days=40)

    def history(number: int) -> Json:
        return {**event(stage, number, userId="old"), "timestamp": long_ago.isoformat()}

    stage.shop.post("/v1/import", {"batch": [history(1)]})
    assert stage.index(stage.records()) == []
    stage.shop.send(event(stage, 2, userId="u-2"))
    stage.shop.post("/v1/import", {"batch": [history(3)]})
    stage.shop.send(event(stage, 4, userId="u-4"), event(stage, 5, userId="u-5"))
    sent = stage.records()
    (third,) = (record for record in sent if f"#{long_ago:%Y-%m}" in record["dynamodb"]["Keys"]["SK"]["S"])
    first, *others = (record for record in sent if record is not third)
    records = [{**first, "eventName": "REMOVE"}, first, third, *others]
    reopen = month_closed(stage, f"{long_ago:%Y-%m}")
    try:
        failed = stage.index(records)
        there = message_ids(stage)
    finally:
        reopen()
    assert failed == [records[2]["dynamodb"]["SequenceNumber"]]
    assert there == {"m-2", "m-4", "m-5"}, "and m-1 is closed"
    assert stage.index(records[2:]) == []
    assert message_ids(stage) == {"m-1", "m-2", "m-3", "m-4", "m-5"}
    stage.assert_index_is_the_table()


def message_ids(stage: IndexStage) -> set[str]:
    return {document["messageId"] for document in stage.documents().values()}


def month_closed(stage: IndexStage, month: str) -> Callable[[], object]:
    """Close its index, which answers every document with a status of 400 that is no fault of it. Answers what opens it
    again."""
    name = f"/{Names(stage.engine.prefix).month(month)}"
    stage.engine.call("POST", f"{name}/_close")
    return lambda: stage.engine.call("POST", f"{name}/_open")


@pytest.mark.parametrize("does", ["merges", "erases"])
def test_a_month_that_is_closed_holds_up_what_would_change_it(stage: IndexStage, does: str) -> None:
    """Or it would be opened again with the owner of before, and with whom somebody erased."""
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="a"), event(stage, 2, userId="v"))
    assert stage.index(stage.records()) == []
    if does == "merges":
        shop.post("/v1/identify", {"anonymousId": f"{stage.people}-a", "userId": f"{stage.people}-u"})
    else:
        shop.now += timedelta(minutes=1)
        shop.request("DELETE", f"/v1/users/{stage.people}-v")
    records = stage.records()
    reopen = month_closed(stage, f"{stage.shop.now:%Y-%m}")
    try:
        with pytest.raises(Unavailable):
            stage.index(records)
    finally:
        reopen()
    assert stage.index(records) == []
    stage.assert_index_is_the_table()


@pytest.mark.parametrize("kind", ["_update_by_query", "_delete_by_query", "_refresh"])
@pytest.mark.parametrize("action", ["refuse_429", "lose_reply", "lose_request"])
def test_a_change_of_owner_or_an_erasure_that_fails_is_done_by_the_next_try(
    stage: IndexStage, wire: Wire, kind: str, action: Action
) -> None:
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="a"), event(stage, 2, userId="v"))
    stage.index(stage.records())
    shop.post("/v1/identify", {"anonymousId": f"{stage.people}-a", "userId": f"{stage.people}-u"})
    shop.now += timedelta(minutes=1)
    shop.request("DELETE", f"/v1/users/{stage.people}-v")
    records = stage.records()
    wire.plan(kind, *[action] * 2)

    assert tries_until_done(stage, records) > 1
    assert wire.planned[kind] == [], "or it was spoiled less often"
    stage.assert_index_is_the_table()
    assert owners(stage) == {"u"}


def tries_until_done(stage: IndexStage, records: list[Json]) -> int:
    deadline = time.monotonic() + DONE_SECONDS
    for tries in itertools.count(1):
        with contextlib.suppress(Unavailable):
            if stage.index(records) == []:
                return tries
        assert time.monotonic() < deadline, f"not done after {tries} tries"
    raise AssertionError


def test_an_alias_between_reading_and_writing_is_seen_after_the_bulk(stage: IndexStage, wire: Wire) -> None:
    """The window that the second reading is for: its own record may have come before, and never comes again."""
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="a"))
    records = stage.records()
    wire.hooks["_bulk"] = lambda: threading_identify(stage)

    assert stage.index(records) == []
    assert owners(stage) == {"u"}


def test_an_alias_that_came_first_of_an_invocation_that_then_died_is_followed_by_the_next_try(
    stage: IndexStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its marks were read before the alias, its documents written after the alias was settled, and then it died."""
    stage.shop.send(event(stage, 1, anonymousId="a"))
    records = stage.records()
    really_send = bulk.Bulk.send

    def send_and_die(self: bulk.Bulk, waiting: Any) -> bulk.Sent[Any]:
        monkeypatch.undo()
        threading_identify(stage)
        assert stage.index(stage.records()) == []
        really_send(self, waiting)
        raise faults.Killed

    monkeypatch.setattr(bulk.Bulk, "send", send_and_die)
    with pytest.raises(faults.Killed):
        stage.index(records)
    assert owners(stage) == {f"anon_{stage.people}-a"}, "or this proves nothing"
    assert stage.index(records) == []
    assert owners(stage) == {"u"}


@pytest.mark.parametrize("shape", ["whole", "without image", "unreadable"])
def test_an_erasure_that_came_first_of_an_invocation_that_then_died_is_done_by_the_next_try(
    stage: IndexStage, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """Its marks were read before the erasure and its documents written after that was settled. When the items come
    again they are erased, gone, or cannot be read, so that nothing is put; and what it put has to go."""
    stage.shop.send(event(stage, 1, userId="u"))
    records = stage.records()
    if shape == "without image":
        records = [without_image(record) for record in records]
    elif shape == "unreadable":
        records = [with_image(record, payload=b"x") for record in records]
    really_send = bulk.Bulk.send

    def send_and_die(self: bulk.Bulk, waiting: Any) -> bulk.Sent[Any]:
        found = list(waiting)
        if not found:
            return really_send(self, found)
        monkeypatch.undo()
        stage.shop.now += timedelta(minutes=1)
        in_a_thread(lambda: stage.shop.request("DELETE", f"/v1/users/{stage.people}-u"))
        assert stage.index(stage.records()) == []
        really_send(self, found)
        raise faults.Killed

    def left() -> list[Json]:
        failures = [one for one in stage.failures() if one["sentAs"] == f"{stage.people}-u"]
        return [*stage.documents().values(), *failures]

    monkeypatch.setattr(bulk.Bulk, "send", send_and_die)
    with pytest.raises(faults.Killed):
        stage.index(records)
    assert len(left()) == 1, "or this proves nothing"
    assert stage.index(records) == []
    assert left() == []


def test_a_call_that_finds_no_bulk_is_no_documents_fault(stage: IndexStage, wire: Wire) -> None:
    """A proxy's 404 says nothing of what was sent: it is tried again as a whole, and nothing is given up."""
    stage.shop.send(*(event(stage, number, userId=f"u-{number}") for number in range(4)))
    records = stage.records()
    wire.plan("_bulk", "refuse_404", "refuse_405")

    assert stage.index(records) == []
    assert wire.calls.count("_bulk") == 3
    assert not [one for one in stage.failures() if stage.people in one["sentAs"]]
    stage.assert_index_is_the_table()


def test_an_erasure_between_reading_and_writing_is_seen_after_the_bulk(stage: IndexStage, wire: Wire) -> None:
    stage.shop.send(event(stage, 1, userId="u"))
    records = stage.records()

    def erase() -> None:
        stage.shop.now += timedelta(minutes=1)
        in_a_thread(lambda: stage.shop.request("DELETE", f"/v1/users/{stage.people}-u"))

    wire.hooks["_bulk"] = erase
    assert stage.index(records) == []
    assert stage.documents() == {}


@pytest.mark.parametrize("kind", ["_update_by_query"])
def test_an_alias_that_changes_while_documents_change_hands_is_followed(
    stage: IndexStage, wire: Wire, kind: str
) -> None:
    """Between reading the alias and the update by query the visitor is erased and becomes somebody else."""
    shop = stage.shop
    shop.send(event(stage, 1, anonymousId="a"))
    stage.index(stage.records())
    threading_identify(stage)
    records = stage.records()

    def becomes_another() -> None:
        def go() -> None:
            shop.now += timedelta(minutes=1)
            shop.request("DELETE", f"/v1/users/{stage.people}-u")
            shop.now += timedelta(minutes=1)
            shop.send(event(stage, 2, anonymousId="a", userId="w", minutes=0))

        in_a_thread(go)

    wire.hooks[kind] = becomes_another
    stage.index(records)
    assert stage.documents() == {}, "what was before is erased"
    stage.index(stage.records())
    stage.assert_index_is_the_table()
    assert owners(stage) == {"w"}


def threading_identify(stage: IndexStage) -> None:
    body = {"anonymousId": f"{stage.people}-a", "userId": f"{stage.people}-u"}
    in_a_thread(lambda: stage.shop.post("/v1/identify", body))


def in_a_thread(work: Any) -> None:
    """The proxy's threads and the shop's loop are not the same one's; only one of them runs at a time."""
    done = threading.Thread(target=work)
    done.start()
    done.join()


def test_a_failure_that_cannot_be_kept_now_is_not_lost(stage: IndexStage, wire: Wire) -> None:
    stage.shop.send(event(stage, 1, userId="u"))
    (record,) = stage.records()
    wire.plan("_bulk", *times("refuse_503", bulk.ATTEMPTS_MAX))

    with pytest.raises(Unavailable):
        stage.index([with_image(record, payload=b"x")])
    assert stage.index([with_image(record, payload=b"x")]) == []
    assert [one for one in stage.failures() if one["sentAs"] == f"{stage.people}-u"]
