"""A shop whose table is put back to what it was before a request, as often as the request is to fail in another way."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

import service.dynamodb
import service.erasure
import service.ingest
from service import recount
from service.dynamodb import Table
from service.events import epoch_ms
from tests import faults
from tests.engine.cases import REQUESTS, Case, check, check_totals, left_of_persons
from tests.engine.conftest import NOON
from tests.engine.raw_cases import RAW_REQUESTS, messages, recounted
from tests.engine.shop import Json, Shop, opened
from tests.engine.ways import Way

# Of BatchWriteItem.
ITEMS_MAX = 25
AGE_DAYS = 1
NEXT_CURSOR = "Footfall-Next-Cursor"
REQUESTS_MAX = 4
Content = Mapping[tuple[str, str], Json]


@dataclass(frozen=True)
class Scene:
    """A case, the table before its request, and after it when nothing fails."""

    case: Case
    before: Content
    after: Content
    operations: list[str]


class Stage:
    """One table for all cases, one after another."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._scenes: dict[str, Scene] = {}
        self._empty = self.content()

    def scene(self, name: str) -> Scene:
        """Before the request of this name. The first time, it is sent once with nothing failing."""
        if name not in self._scenes:
            self.put_back(self._empty)
            prepare, _ = (REQUESTS | RAW_REQUESTS)[name]
            case = prepare(self.shop, prefix_of(name))
            before = self.content()
            with faults.injected() as log:
                answer = self.send(case)
            assert answer.status_code == 200, answer.text
            case.answered(answer.text)
            after = self.content()
            if case.method == "DELETE":
                assert left_of_persons(after.values()) == []
            if self.shop.service.settings.raw_events:
                # No difference, and no event without its raw event.
                assert recounted(self.shop).keys() <= {recount.SAME}
                facts = {fact for owned in case.facts.values() for fact in owned}
                assert set(messages(after.values())) == {fact.message_id for fact in facts}
            check(self.shop, case)
            self.afterwards(case)
            self._scenes[name] = Scene(case, before, as_it_should_be(after), log.operations)
        self.put_back(self._scenes[name].before)
        return self._scenes[name]

    def afterwards(self, case: Case) -> None:
        """A moment later: what is new must not be of the moment of an erasure."""
        self.shop.now = NOON + timedelta(seconds=1)
        try:
            case.afterwards(self.shop)
        finally:
            self.shop.now = NOON

    def send(self, case: Case, cursor: str | None = None) -> httpx.Response:
        """In this process. What is written in random order is so in the same order each time."""
        random.seed(1)
        return self.shop.request(case.method, path_of(case, cursor), case.body)

    def content(self) -> Content:
        """Every item, by its key."""
        pages = self.shop.table.client.get_paginator("scan").paginate(
            TableName=self.shop.table.name, ConsistentRead=True
        )
        return {(item["PK"]["S"], item["SK"]["S"]): item for page in pages for item in page["Items"]}

    def assert_as_it_should_be(self, scene: Scene, shop: Shop) -> None:
        """The API says so, and so does the table: item for item what it is when nothing fails."""
        check_totals(shop, scene.case)
        assert scene.after == as_it_should_be(self.content())

    def put_back(self, content: Content) -> None:
        """The table holds this and nothing else."""
        found = self.content()
        writes: list[Json] = [
            {"PutRequest": {"Item": item}} for key, item in content.items() if item != found.get(key)
        ]
        writes += [
            {"DeleteRequest": {"Key": {"PK": {"S": pk}, "SK": {"S": sk}}}}
            for pk, sk in found.keys() - content.keys()
        ]
        for start in range(0, len(writes), ITEMS_MAX):
            self.shop.table.client.batch_write_item(
                RequestItems={self.shop.table.name: writes[start : start + ITEMS_MAX]}
            )


@contextlib.contextmanager
def staged(table: Table, **variables: str) -> Iterator[Stage]:
    """One call at a time, so that the k-th is the same at every attempt; a conflict's retries follow without a pause.

    An event may be of a day back at most, so that a merge has five days to seal, and an erasure seven to fence.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor(1) as writer,
        opened(table, NOON, MAX_EVENT_AGE_DAYS=str(AGE_DAYS), **variables) as shop,
    ):
        patch.setattr(service.ingest, "_writers", writer)
        patch.setattr(service.dynamodb, "CONFLICT_DELAY_SECONDS", 0)
        patch.setattr(service.erasure, "AGE_DAYS_MAX", AGE_DAYS)
        shop.warm_up()
        yield Stage(shop)


def prefix_of(name: str) -> str:
    """What everybody's id begins with in the case of this name."""
    return "".join(word[0] for word in name.split()).lower() + "-"


def as_it_should_be(content: Content) -> Content:
    """Without what may differ: an erasure that is carried on is of a millisecond later."""
    now_ms = epoch_ms(NOON)
    result: dict[tuple[str, str], Json] = {}
    for (pk, sk), item in content.items():
        is_leftovers = item.get("kind") == {"S": "leftovers"}
        # Its key has that time.
        key = (pk, sk.partition("#")[2]) if is_leftovers else (pk, sk)
        erased_at = int(item.get("erasedAt", {"N": "0"})["N"])
        assert not erased_at or now_ms <= erased_at < now_ms + 100
        result[key] = {
            name: sorted(*value.values()) if value.keys() & {"BS", "SS"} else value
            for name, value in item.items()
            if name != "erasedAt" and not (is_leftovers and name == "SK")
        }
    return result


def path_of(case: Case, cursor: str | None) -> str:
    """Of the first page, or of the one at this cursor."""
    return case.path if cursor is None else f"{case.path}?cursor={cursor}"


def sent_until_decided(
    send: Callable[[Case, str | None], httpx.Response], case: Case, first: httpx.Response | None
) -> int:
    """How often a client sends it again until it has its answer, which says what it must.

    `first` is what it was answered first, if anything. A whole answer it has lost, a page it goes on from.
    """
    pages: list[str] = []
    cursor = None
    if first is not None and NEXT_CURSOR in first.headers:
        pages, cursor = [first.text], first.headers[NEXT_CURSOR]
    for number in range(1, REQUESTS_MAX + 1):
        answer = send(case, cursor)
        if answer.status_code == 200:
            pages.append(answer.text)
            cursor = answer.headers.get(NEXT_CURSOR)
            if cursor is None:
                case.answered("".join(pages))
                return number
    raise AssertionError(f"not decided by then: {answer.text}")


def cut(stage: Stage, name: str, call: int, way: Way) -> int:
    """Send a request one of whose calls fails in this way, then again as a client would. Answers how often."""
    scene = stage.scene(name)
    with faults.injected(*way.faults(call)) as log:
        answer = stage.send(scene.case)
    assert log.spoiled
    assert answer.status_code in way.answers or NEXT_CURSOR in answer.headers, answer.text
    assert (answer.status_code == 503) == ("Retry-After" in answer.headers)
    if answer.status_code == 200:
        # What was acknowledged is counted, also if the client is never heard of again.
        assert scene.after == as_it_should_be(stage.content())
    retries = sent_until_decided(stage.send, scene.case, answer)
    stage.assert_as_it_should_be(scene, stage.shop)
    return retries
