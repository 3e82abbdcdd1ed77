"""The local poller against a stream of this test: which shards it reads when, and what it hands over again."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from service import changes
from service.stream import HANDLER_SECONDS, Poller, RetryError

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/1"
Json = dict[str, Any]


class TrimmedDataAccessException(Exception):  # noqa: N818 - as botocore names it
    """The number is of before what is kept."""


class ExpiredIteratorException(Exception):  # noqa: N818
    """It was asked for a quarter of an hour ago."""


def record(number: int, name: str = "INSERT", sk: str = "EVENTS#2026-11-22T10:00:00.000Z#1") -> Json:
    return {
        "eventID": str(number),
        "eventName": name,
        "dynamodb": {
            "Keys": {"PK": {"S": "USER#u"}, "SK": {"S": sk}},
            "NewImage": {"payload": {"B": b"\x00\xff"}},
            "SequenceNumber": f"{number:021d}",
        },
    }


class FakeStreams:
    """Shards with their parents and records; iterators are `shard/position`. Pages of two, shards one by one."""

    def __init__(self, **shards: tuple[str | None, list[Json], bool]) -> None:
        self.shards = shards
        self.asked: list[str] = []
        self.failures: list[Exception] = []

    def describe_stream(self, *, StreamArn: str, ExclusiveStartShardId: str = "") -> Json:  # noqa: N803
        assert StreamArn == ARN
        names = sorted(name for name in self.shards if name > ExclusiveStartShardId)
        parent = self.shards[names[0]][0]
        shard = {"ShardId": names[0]} | ({"ParentShardId": parent} if parent else {})
        more = {"LastEvaluatedShardId": names[0]} if len(names) > 1 else {}
        return {"StreamDescription": {"Shards": [shard], **more}}

    def get_shard_iterator(
        self,
        *,
        StreamArn: str,  # noqa: N803
        ShardId: str,  # noqa: N803
        ShardIteratorType: str,  # noqa: N803
        SequenceNumber: str = "",  # noqa: N803
    ) -> Json:
        self.asked.append(ShardIteratorType)
        if self.failures and isinstance(self.failures[0], TrimmedDataAccessException):
            raise self.failures.pop(0)
        numbers = [changes.sequence_number(one) for one in self.shards[ShardId][1]]
        place = numbers.index(SequenceNumber) + 1 if ShardIteratorType != "TRIM_HORIZON" else 0
        return {"ShardIterator": f"{ShardId}/{place}"}

    def get_records(self, *, ShardIterator: str, Limit: int) -> Json:  # noqa: N803
        if self.failures:
            raise self.failures.pop(0)
        name, _, place = ShardIterator.partition("/")
        _, records, is_closed = self.shards[name]
        found = records[int(place) : int(place) + 2]
        after = int(place) + len(found)
        if is_closed and after == len(records):
            return {"Records": found}
        return {"Records": found, "NextShardIterator": f"{name}/{after}"}


class Handler:
    """Takes what it is given; `fail` are the numbers that it fails, once each."""

    def __init__(self, *fail: int) -> None:
        self.batches: list[list[int]] = []
        self.fail = list(fail)

    def __call__(self, event: Json, context: Any) -> Json:
        json.dumps(event)
        assert context.get_remaining_time_in_millis() == HANDLER_SECONDS * 1000
        numbers = [int(changes.sequence_number(one)) for one in event["Records"]]
        self.batches.append(numbers)
        failed = [number for number in numbers if number in self.fail]
        self.fail = [number for number in self.fail if number not in failed]
        return {"batchItemFailures": [{"itemIdentifier": f"{number:021d}"} for number in failed]}


def polled(streams: FakeStreams, handler: Any, rounds: int = 12) -> Poller:
    poller = Poller(streams, ARN, "us-east-1", handler)
    for _ in range(rounds):
        poller.poll()
    return poller


def test_a_shard_comes_after_the_one_it_was_split_from() -> None:
    handler = Handler()
    streams = FakeStreams(
        a=("z", [record(number) for number in (4, 5)], False),
        z=(None, [record(number) for number in (1, 2, 3)], True),
    )
    polled(streams, handler)

    assert handler.batches == [[1, 2], [3], [4, 5]]


def test_a_shard_whose_parent_is_forgotten_is_read() -> None:
    handler = Handler()
    polled(FakeStreams(a=("gone", [record(1)], False)), handler)

    assert handler.batches == [[1]]


def test_it_begins_again_at_the_first_that_failed() -> None:
    handler = Handler(2)
    polled(FakeStreams(a=(None, [record(number) for number in (1, 2, 3)], False)), handler)

    assert handler.batches == [[1, 2], [2], [3]]


def test_what_fails_as_a_whole_is_asked_for_again_after_a_pause() -> None:
    handler = Handler(1)
    poller = Poller(FakeStreams(a=(None, [record(1), record(2)], False)), ARN, "us-east-1", handler)
    with pytest.raises(RetryError):
        poller.poll()

    assert poller.poll() == 2
    assert handler.batches == [[1, 2], [1, 2]]


def test_a_number_that_is_none_of_the_batch_means_all_of_it() -> None:
    batches: list[int] = []

    def handler(event: Json, _: Any) -> Json:
        batches.append(len(event["Records"]))
        return {"batchItemFailures": [{"itemIdentifier": "unheard-of"}] if len(batches) == 1 else []}

    poller = Poller(FakeStreams(a=(None, [record(1), record(2)], False)), ARN, "us-east-1", handler)
    with pytest.raises(RetryError):
        poller.poll()
    poller.poll()

    assert batches == [2, 2]


def test_the_filter_is_that_of_the_template() -> None:
    handler = Handler()
    others = [
        record(1, "REMOVE"),
        record(2, "UNKNOWN_TO_SDK_VERSION"),
        record(3, sk="DAY#2026-11-22"),
        record(4, sk="ALIAS#anon_x"),
        record(5, "MODIFY", sk="ALIAS"),
        record(6, sk="ERASED"),
        record(7),
    ]
    polled(FakeStreams(a=(None, others, False)), handler)

    assert [number for batch in handler.batches for number in batch] == [5, 6, 7]


def test_an_iterator_that_has_expired_is_asked_for_again_where_it_stood() -> None:
    handler = Handler()
    streams = FakeStreams(a=(None, [record(number) for number in (1, 2, 3)], False))
    poller = polled(streams, handler, rounds=1)
    streams.failures.append(ExpiredIteratorException())
    with pytest.raises(ExpiredIteratorException):
        poller.poll()
    poller.poll()

    assert handler.batches == [[1, 2], [3]]
    assert streams.asked == ["TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"]


def test_a_place_that_the_stream_has_forgotten_becomes_its_oldest() -> None:
    handler = Handler()
    streams = FakeStreams(a=(None, [record(number) for number in (1, 2, 3)], False))
    poller = polled(streams, handler, rounds=1)
    streams.failures += [ExpiredIteratorException()]
    with pytest.raises(ExpiredIteratorException):
        poller.poll()
    streams.failures += [TrimmedDataAccessException()]
    with pytest.raises(TrimmedDataAccessException):
        poller.poll()
    poller.poll()

    assert streams.asked == ["TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON"]


def test_the_thread_outlives_every_failure_and_ends_when_told() -> None:
    handler = Handler()
    streams = FakeStreams(a=(None, [record(1)], False))
    streams.failures += [ValueError(), ValueError(), ValueError()]
    poller = Poller(streams, ARN, "us-east-1", handler)
    poller.start()
    deadline = time.monotonic() + 30
    while not handler.batches and time.monotonic() < deadline:
        time.sleep(0.01)
    poller.stop()

    assert handler.batches == [[1]]
    assert not poller._thread.is_alive()


def test_binary_is_text_as_lambda_has_it_and_bytes_again_for_the_indexer() -> None:
    sent = changes.as_lambda_sends(record(1), ARN, "us-east-1")

    assert sent["dynamodb"]["NewImage"] == {"payload": {"B": "AP8="}}
    for shape in (sent, record(1)):
        change = changes.change(shape)
        assert change is not None
        assert change.item == {"payload": {"B": b"\x00\xff"}}
        assert (change.distinct_id, change.is_mark) == ("u", False)


@pytest.mark.parametrize(
    "broken", [{}, {"eventName": "INSERT"}, {"eventName": "INSERT", "dynamodb": {"Keys": {}}}]
)
def test_what_is_no_record_is_nothing(broken: Json) -> None:
    assert changes.change(broken) is None
