"""The table's stream read by this process, as Lambda reads it for the indexer's function: for local use.

Shards come after those they were split from; a record that cannot be indexed yet is tried again, with what follows it,
until it can. What Lambda would do beside that (halving batches, giving a record up after a day) is left out: nothing is
lost by it here.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import changes, logs

Record = dict[str, Any]
# The function's handler.
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

BATCH_RECORDS_MAX = 500
_IDLE_SECONDS = 0.25
_PAUSE_SECONDS_MAX = 5.0
# As template.yaml gives the function.
HANDLER_SECONDS = 300


class Context:
    """What the handler asks of Lambda's context."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """As much as the function has at its start."""
        return HANDLER_SECONDS * 1000


@dataclass
class _Shard:
    """Where reading stands. Without a sequence number it begins at what is oldest."""

    shard_id: str
    parent_id: str | None
    last_number: str | None = None
    iterator: str | None = None
    is_read: bool = False
    waiting: list[Record] = field(default_factory=list)


class Poller:
    """Hands the records of one stream to the handler, until it is stopped. `client` is botocore's of DynamoDB
    Streams."""

    def __init__(self, client: Any, stream_arn: str, region: str, handler: Handler) -> None:
        self._client = client
        self._arn = stream_arn
        self._region = region
        self._handler = handler
        self._shards: dict[str, _Shard] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def start(self) -> None:
        """Read in a thread of its own."""
        self._thread.start()

    def stop(self, seconds: float = 10) -> None:
        """Let the batch under way end, and read no further."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def poll(self) -> int:
        """Hand over what there is by now. Answers how many records were done."""
        done = 0
        for shard in self._readable():
            if not shard.waiting:
                self._read(shard)
            done += self._hand_over(shard)
        return done

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                done = self.poll()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round may be better
                failures += 1
                if failures > 1 and not self._stopped.is_set():
                    # One alone is an engine that is just being stopped.
                    logs.failure("the stream waits", error, failures=failures)
                self._stopped.wait(min(_PAUSE_SECONDS_MAX, 0.2 * 2**failures))
                continue
            if failures > 1:
                logs.line("INFO", "the stream goes on", records=done)
            failures = 0
            if not done:
                self._stopped.wait(_IDLE_SECONDS)

    def _readable(self) -> Iterator[_Shard]:
        """Those whose parents, as far as they are still there, have been read to their end."""
        self._find()
        for shard in list(self._shards.values()):
            parent = self._shards.get(shard.parent_id or "")
            if not shard.is_read and (parent is None or parent.is_read):
                yield shard

    def _find(self) -> None:
        after: dict[str, str] = {}
        while True:
            described = self._client.describe_stream(StreamArn=self._arn, **after)["StreamDescription"]
            for shard in described["Shards"]:
                shard_id = shard["ShardId"]
                self._shards.setdefault(shard_id, _Shard(shard_id, shard.get("ParentShardId")))
            if "LastEvaluatedShardId" not in described:
                return
            after = {"ExclusiveStartShardId": described["LastEvaluatedShardId"]}

    def _read(self, shard: _Shard) -> None:
        if shard.iterator is None:
            shard.iterator = self._iterator(shard)
        iterator, shard.iterator = shard.iterator, None  # One that has expired is asked for again.
        reply = self._client.get_records(ShardIterator=iterator, Limit=BATCH_RECORDS_MAX)
        shard.iterator = reply.get("NextShardIterator")
        shard.is_read = shard.iterator is None and not reply["Records"]
        if reply["Records"]:
            shard.last_number = changes.sequence_number(reply["Records"][-1])
        shard.waiting = [
            changes.as_lambda_sends(record, self._arn, self._region)
            for record in reply["Records"]
            if changes.passes(record)
        ]

    def _iterator(self, shard: _Shard) -> str:
        place = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard.last_number is not None:
            place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": shard.last_number}
        try:
            reply = self._client.get_shard_iterator(StreamArn=self._arn, ShardId=shard.shard_id, **place)
        except Exception as error:
            if type(error).__name__ == "TrimmedDataAccessException":
                shard.last_number = None  # The stream has forgotten so far; what is left of it comes next.
            raise
        return str(reply["ShardIterator"])

    def _hand_over(self, shard: _Shard) -> int:
        """Raises what the handler raises, and RetryError where it wants to begin again; what waits stays waiting."""
        if not shard.waiting:
            return 0
        reply = self._handler({"Records": shard.waiting}, Context)
        left = _left(shard.waiting, [one["itemIdentifier"] for one in reply["batchItemFailures"]])
        done = len(shard.waiting) - len(left)
        shard.waiting = left
        if left and not done:
            raise RetryError
        return done


class RetryError(Exception):
    """The handler could do nothing of a batch."""


def _left(records: Sequence[Record], failed: Sequence[str]) -> list[Record]:
    """Those from the first that failed on. A number that is none of theirs means all of them, as to Lambda."""
    numbers = [changes.sequence_number(record) for record in records]
    if any(number not in numbers for number in failed):
        return list(records)
    first = min((numbers.index(number) for number in failed), default=len(numbers))
    return list(records[first:])
