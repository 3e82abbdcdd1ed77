"""The indexer when engine, wire or records fail: nothing is lost, nothing counts twice, the rest goes on."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engines import opensearch
from engines.process import free_port
from service import bulk, documents, indices
from service.opensearch import Engine
from service.problems import Unavailable
from service.stream import Poller, RetryError
from tests import faults, opensearch_local
from tests.engine import engine_proxy
from tests.engine.engine_proxy import Action, Wire
from tests.engine.index_stage import IndexStage, staged, without_image
from tests.engine.test_indexer import event, owners

Json = dict[str, Any]


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
    """A document of the third record alone is refused for now; the first two are done."""
    for number in range(4):
        stage.shop.send(event(stage, number, userId=f"u-{number}"))
    records = stage.records()
    stage.index(records[2:3])
    before = len(stage.documents())
    third = only_month_closed(stage, records)
    try:
        failed = stage.index(records)
    finally:
        third()
    assert failed == [records[0]["dynamodb"]["SequenceNumber"]]
    assert len(stage.documents()) >= before
    assert stage.index(records) == []
    stage.assert_index_is_the_table()


def only_month_closed(stage: IndexStage, records: list[Json]) -> Any:
    """Close the index, which answers every document with a status of 400 that is no fault of it."""
    month = records[0]["dynamodb"]["Keys"]["SK"]["S"].removeprefix("EVENTS#")[:7]
    name = f"/{stage.engine.prefix}-events-{month}"
    stage.engine.call("POST", f"{name}/_close")
    return lambda: stage.engine.call("POST", f"{name}/_open")


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

    with contextlib.suppress(Unavailable):
        stage.index(records)
    while True:
        with contextlib.suppress(Unavailable):
            if stage.index(records) == []:
                break
    stage.assert_index_is_the_table()
    assert owners(stage) == {"u"}


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
        records = [broken(record, payload=b"x") for record in records]
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


# --- poison ---------------------------------------------------------------------------------------------------------


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


def broken(record: Json, payload: bytes | None = None, **attributes: Any) -> Json:
    image = dict(record["dynamodb"]["NewImage"])
    if payload is not None:
        image["payload"] = {"B": base64.b64encode(payload).decode()}
    image |= attributes
    image = {name: typed for name, typed in image.items() if typed is not None}
    return {**record, "dynamodb": {**record["dynamodb"], "NewImage": image}}


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

    assert stage.index([broken(first, **breaking), second]) == []
    found = [failure for failure in stage.failures() if failure["sentAs"] == f"{stage.people}-u"]
    assert owners(stage) == {"w"}
    assert len(found) == 1
    assert found[0]["key"].startswith(f"USER#{stage.people}-u EVENTS#")
    # Read back from the table it is whole.
    assert stage.index([first]) == []
    stage.assert_index_is_the_table()


def test_a_failure_that_cannot_be_kept_now_is_not_lost(stage: IndexStage, wire: Wire) -> None:
    stage.shop.send(event(stage, 1, userId="u"))
    (record,) = stage.records()
    wire.plan("_bulk", *times("refuse_503", bulk.ATTEMPTS_MAX))

    with pytest.raises(Unavailable):
        stage.index([broken(record, payload=b"x")])
    assert stage.index([broken(record, payload=b"x")]) == []
    assert [one for one in stage.failures() if one["sentAs"] == f"{stage.people}-u"]


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


# --- engines of this module's own -----------------------------------------------------------------------------------


@pytest.fixture
def small_queue(tmp_path: Path) -> Iterator[str]:
    """A node that writes one bulk at a time, lets one wait, and answers 429 to the others."""
    config = tmp_path / "node_1" / "config"
    config.mkdir(parents=True)
    (config / "opensearch.yml").write_text("thread_pool.write.size: 1\nthread_pool.write.queue_size: 1\n")
    with opensearch.running(None, tmp_path) as node:
        yield node.url


@contextlib.contextmanager
def others_writing(url: str) -> Iterator[list[int]]:
    """Four clients that keep the queue full; how often they were refused."""
    refused = [0]
    stopped = threading.Event()
    line = b'{"create":{"_index":"others","require_alias":false}}\n{"text":"' + b"x" * 2_000 + b'"}\n'

    def write() -> None:
        engine = Engine.connect(url)
        while not stopped.is_set():
            try:
                reply = engine.bulk(line * 100, timeout_seconds=30)
                refused[0] += any(item["create"]["status"] == 429 for item in reply["items"])
            except Unavailable:
                refused[0] += 1
                time.sleep(0.01)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield refused
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def tried_until_done(stage: IndexStage, records: list[Json]) -> None:
    """As Lambda does it; each try pauses as it would there."""
    while records:
        work = stage.indexer()
        work.pause = time.sleep
        with contextlib.suppress(Unavailable):
            failed = work.index_records(records)
            numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
            records = records[numbers.index(failed[0]) :] if failed else []


def test_a_queue_of_one_that_others_fill_delays_and_loses_nothing(
    dynamodb_url: str, small_queue: str, prefix: str
) -> None:
    with opensearch_local.connected(small_queue) as engine, staged(dynamodb_url, engine) as stage:
        stage.people = prefix
        # Several months, so that one bulk is of several shards, and each answers for itself.
        for month in range(4):
            day = stage.shop.now - timedelta(days=31 * month)
            batch = [
                {**event(stage, 100 * month + number, userId=f"u-{number % 5}"), "timestamp": day.isoformat()}
                for number in range(50)
            ]
            stage.shop.post("/v1/import", {"batch": batch})
        records = stage.records()
        with others_writing(small_queue) as refused:
            tried_until_done(stage, records)
        assert refused[0], "the queue was never full"
        stage.assert_index_is_the_table()


def test_an_engine_killed_in_the_middle_and_started_again_misses_nothing(
    dynamodb_url: str, tmp_path: Path, prefix: str
) -> None:
    """kill -9 between batches and during them; the stream waits meanwhile, and ingest goes on."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        node_stack = stack.enter_context(contextlib.ExitStack())
        node = node_stack.enter_context(opensearch.running(port, tmp_path))
        engine = Engine.connect(node.url, prefix="killed")
        indices.setup(engine)
        stage = stack.enter_context(staged(dynamodb_url, engine))
        stage.people = prefix

        def handler(happening: Json, _: Any) -> Json:
            failed = stage.indexer(10).index_records(happening["Records"])
            return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}

        poller = Poller(stage.streams, stage.arn, "us-east-1", handler)
        a_visitor = [event(stage, number, anonymousId="a") for number in range(1, 6)]
        stage.shop.send(*a_visitor)
        drain(poller)
        stage.shop.send(*(event(stage, number, userId=f"u-{number}") for number in range(10, 20)))
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        threading_identify(stage)
        stage.shop.send(event(stage, 30, anonymousId="a", userId="u"))
        for _ in range(2):
            with pytest.raises((Unavailable, RetryError)):
                poller.poll()
        assert stage.shop.metrics(f"{stage.people}-u", "2035-03-01", "2035-03-31")["totals"]["events"] == 6
        node_stack.close()
        node = node_stack.enter_context(opensearch.running(port, tmp_path))
        drain(poller)
        stage.assert_index_is_the_table()
        assert owners(stage) == {"u", *(f"u-{number}" for number in range(10, 20))}


def drain(poller: Poller) -> None:
    """All that there is; a node that has just been started may not be ready for writes."""
    for _ in range(100):
        try:
            if not poller.poll():
                return
        except (Unavailable, RetryError):
            time.sleep(0.2)
    raise AssertionError("the stream did not come to its end")


def test_the_poller_goes_on_after_whatever_its_handler_raises(
    dynamodb_url: str, engine: Engine, prefix: str
) -> None:
    with staged(dynamodb_url, engine) as stage:
        stage.people = prefix
        for number in range(5):
            stage.shop.send(event(stage, number, userId=f"u-{number}"))
        calls: list[int] = []

        def handler(happening: Json, _: Any) -> Json:
            calls.append(len(happening["Records"]))
            if len(calls) % 2:
                raise ValueError("once more")
            failed = stage.index(happening["Records"][:1])
            # All but the first are to come again.
            failed += [record["dynamodb"]["SequenceNumber"] for record in happening["Records"][1:]]
            return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}

        poller = Poller(stage.streams, stage.arn, "us-east-1", handler)
        poller.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(stage.documents()) < 5:
            time.sleep(0.1)
        poller.stop()
        stage.assert_index_is_the_table()
        assert not poller._thread.is_alive()
        assert calls == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
