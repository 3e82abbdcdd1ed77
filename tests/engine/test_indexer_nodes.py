"""The indexer with nodes of its own: one whose queue is full, one that is killed, and the poller that tries again."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engines import opensearch
from engines.process import free_port
from service import indices
from service.opensearch import Engine
from service.problems import Unavailable
from service.stream import Poller, RetryError
from tests import opensearch_local
from tests.engine.index_stage import IndexStage, staged
from tests.engine.test_indexer import event, owners
from tests.engine.test_indexer_faults import threading_identify

Json = dict[str, Any]
# A queue is empty again, and a node ready for writes, long before.
DONE_SECONDS = 60
# The first is for the months that have to be made.
PAUSES_ENOUGH = 5


@pytest.fixture
def small_queue(tmp_path: Path) -> Iterator[str]:
    """A node that writes one bulk at a time, lets one wait, and answers 429 to the others."""
    config = tmp_path / "node_1" / "config"
    config.mkdir(parents=True)
    (config / "opensearch.yml").write_text("thread_pool.write.size: 1\nthread_pool.write.queue_size: 1\n")
    with opensearch.running(None, tmp_path) as node:
        yield node.url


@contextlib.contextmanager
def others_writing(url: str, stopped: threading.Event) -> Iterator[list[int]]:
    """Four clients that keep the queue full until they are stopped; how often they were refused."""
    refused = [0]
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


def tried_until_done(stage: IndexStage, records: list[Json], pause: Callable[[float], object]) -> None:
    """As Lambda does it."""
    deadline = time.monotonic() + DONE_SECONDS
    while records:
        assert time.monotonic() < deadline, f"{len(records)} records are left"
        work = stage.indexer()
        work.pause = pause
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
        stopped = threading.Event()

        def pause(seconds: float) -> None:
            """As it would there; but the others have their fill before our patience ends."""
            stage.pauses.append(seconds)
            if len(stage.pauses) == PAUSES_ENOUGH:
                stopped.set()
            time.sleep(seconds)

        with others_writing(small_queue, stopped) as refused:
            tried_until_done(stage, records, pause)
        assert refused[0], "the queue was never full"
        print(f"{len(stage.pauses)} pauses, the others were refused {refused[0]} times")
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
        deadline = time.monotonic() + DONE_SECONDS
        while time.monotonic() < deadline and len(stage.documents()) < 5:
            time.sleep(0.1)
        poller.stop()
        stage.assert_index_is_the_table()
        assert not poller._thread.is_alive()
        assert calls == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
