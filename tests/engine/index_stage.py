"""A shop that keeps raw events, its table's stream, and an index made from it: and whether the three agree."""

from __future__ import annotations

import base64
import contextlib
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import botocore.session

from service import changes
from service.dynamodb import Table, connect, create_table
from service.index_template import Names
from service.indexer import Indexer, Target
from service.keys import is_day, is_events
from service.metrics import COUNTERS, camel
from service.models import stored_day
from service.opensearch import Engine
from service.packing import RawEvent
from service.raw_events import read
from service.store import Work
from service.stream import Poller
from tests import opensearch_local
from tests.builders import keep_all
from tests.engine.conftest import NOON
from tests.engine.shop import Json, Shop, opened

Record = dict[str, Any]
REGION = "us-east-1"


class IndexStage:
    """One table with a stream, one shop on it, one prefix of an engine. `people` begins the ids of one story."""

    def __init__(self, url: str, engine: Engine, shop: Shop) -> None:
        self.url = url
        self.engine = engine
        self.shop = shop
        self.people = ""
        self.pauses: list[float] = []
        described = shop.table.client.describe_table(TableName=shop.table.name)["Table"]
        self.arn: str = described["LatestStreamArn"]
        self.streams = botocore.session.get_session().create_client(
            "dynamodbstreams", REGION, endpoint_url=url
        )
        self._arrived: list[Record] = []
        self._poller = Poller(self.streams, self.arn, REGION, self._take)

    def _take(self, event: Json, _: Any) -> Json:
        self._arrived += event["Records"]
        return {"batchItemFailures": []}

    def records(self) -> list[Record]:
        """What the stream has brought since this was asked last, as Lambda sends it, in its order."""
        while self._poller.poll():
            pass
        arrived, self._arrived = self._arrived, []
        return arrived

    def indexer(self, seconds: float = 60) -> Indexer:
        """One invocation's."""
        work = Work(
            self.shop.table.calls(time.monotonic() + seconds), self.shop.service.settings, self.shop.now
        )
        return Indexer(self.engine, work, Target.in_use(self.engine, work), self.pauses.append)

    def index(self, records: Sequence[Record]) -> list[str]:
        """One invocation; the sequence number to begin again at."""
        return self.indexer().index_records(records)

    def documents(self) -> dict[str, Json]:
        """This story's, by id."""
        return {
            doc_id: document
            for doc_id, document in opensearch_local.documents(
                self.engine, Names(self.engine.prefix).every
            ).items()
            if self._is_theirs(document["sentAs"])
        }

    def failures(self) -> list[Json]:
        """The index of failures."""
        return list(opensearch_local.documents(self.engine, Names(self.engine.prefix).failed).values())

    def items(self) -> list[Json]:
        """This story's, as the table has them."""
        return [
            item
            for page in self.shop.table.client.get_paginator("scan").paginate(
                TableName=self.shop.table.name, ConsistentRead=True
            )
            for item in page["Items"]
            if self._is_theirs(item["PK"]["S"].removeprefix("USER#"))
        ]

    def raw_events(self, items: Sequence[Json]) -> dict[tuple[str, str, bytes], RawEvent]:
        """What these items keep of events, each once: by whose they are now, day, and what tells them apart."""
        owners = {
            item["PK"]["S"].removeprefix("USER#"): item["userId"]["S"]
            for item in items
            if item["SK"]["S"] == "ALIAS" and "userId" in item
        }
        found: dict[tuple[str, str, bytes], RawEvent] = {}
        for item in items:
            if is_events(item["SK"]["S"]):
                sent_as = item["PK"]["S"].removeprefix("USER#")
                for event in read(item, self.shop.service.settings.timezone):
                    found[owners.get(sent_as, sent_as), *event.key] = event
        return found

    def assert_index_is_the_table(self) -> None:
        """Documents of each user and day = raw events, each once = counters; of every other metric the sums too."""
        items = self.items()
        counted, sums = _counted(items)
        found: Counter[tuple[str, str]] = Counter()
        indexed: dict[tuple[str, str], Counter[str]] = {}
        for document in self.documents().values():
            place = document["user"], document["day"]
            found[place] += 1
            indexed.setdefault(place, Counter()).update(_numbers(document))
        assert dict(found) == counted
        assert indexed == sums
        assert dict(Counter((user, day) for user, day, _ in self.raw_events(items))) == counted

    def _is_theirs(self, distinct_id: str) -> bool:
        return distinct_id.removeprefix("anon_").startswith(self.people)


def _counted(items: Sequence[Json]) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], Counter[str]]]:
    counted: dict[tuple[str, str], int] = {}
    sums: dict[tuple[str, str], Counter[str]] = {}
    for item in items:
        if not is_day(item["SK"]["S"]):
            continue
        day = stored_day(item)
        events = day.metrics.counters.get("events", 0)
        if day.merged_into or not events:
            continue
        place = item["PK"]["S"].removeprefix("USER#"), day.day
        counted[place] = events
        sums[place] = +Counter(
            {camel(name): number for name, number in day.metrics.counters.items() if name in COUNTERS}
        )
        for kind, money in (("revenue", day.metrics.revenue_minor), ("refund", day.metrics.refunds_minor)):
            sums[place].update({f"{kind}Minor {code}": minor for code, minor in money.items() if minor})
    return counted, sums


def _numbers(document: Json) -> Counter[str]:
    numbers: Counter[str] = Counter(document["metrics"])
    for name in ("itemsSold", "engagedSeconds"):
        numbers[name] += document.get(name, 0)
    for name in ("revenueMinor", "refundMinor"):
        if name in document:
            numbers[f"{name} {document['currency']}"] += document[name]
    return +numbers


def in_batches(records: Sequence[Record], chance: random.Random) -> Iterator[list[Record]]:
    """All of them, in one order and some number of batches."""
    left = list(records)
    while left:
        size = chance.randint(1, max(1, len(left)))
        yield left[:size]
        left = left[size:]


def as_get_records_gives(record: Record) -> Record:
    """The other shape: bytes for binary."""
    stream = dict(record["dynamodb"])
    if "NewImage" in stream:
        stream["NewImage"] = changes._with_bytes(stream["NewImage"])
    return {**record, "dynamodb": stream}


def without_image(record: Record) -> Record:
    """As a stream of keys alone has it."""
    stream = {name: part for name, part in record["dynamodb"].items() if name != "NewImage"}
    return {**record, "dynamodb": stream}


def with_image(record: Record, payload: bytes | None = None, **attributes: Any) -> Record:
    """Its item with another payload, other attributes, and without those that are None."""
    image = dict(record["dynamodb"]["NewImage"])
    if payload is not None:
        image["payload"] = {"B": base64.b64encode(payload).decode()}
    image |= attributes
    image = {name: typed for name, typed in image.items() if typed is not None}
    return {**record, "dynamodb": {**record["dynamodb"], "NewImage": image}}


def stream_table(url: str) -> Table:
    """A table nobody else has, with a stream."""
    client = connect(url)
    name = f"stream-{uuid.uuid4().hex}"
    create_table(client, name, has_stream=True)
    keep_all(client, name)
    return Table(client, name)


@contextlib.contextmanager
def staged(dynamodb_url: str, engine: Engine, now: datetime = NOON, **variables: str) -> Iterator[IndexStage]:
    """A shop of a day's acceptance window on a new table."""
    given = {"RAW_EVENTS": "1", "MAX_EVENT_AGE_DAYS": "1", **variables}
    with opened(stream_table(dynamodb_url), now, **given) as shop:
        shop.warm_up()
        yield IndexStage(dynamodb_url, engine, shop)
