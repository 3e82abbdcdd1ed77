"""A wrong counter is found by a recount and repaired, while events keep coming; on an engine that is really at once."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

import service.ingest
from service import ingest, keys, packing, person, raw_events, recount
from service.capacity import Capacity
from service.dynamodb import Calls, Table
from service.events import Event, epoch_ms
from service.models import DayItem
from service.recount import Difference
from service.store import Work
from tests.builders import item_at, items, make_settings, new_table
from tests.engine.conftest import NOON
from tests.engine.shop import Json

TODAY = NOON.date().isoformat()
ITEM_BYTES_MAX = 400 * 1024
WRITERS, EVENTS_OF_EACH = 3, 30


class Slow(Calls):
    """The calls of a recount that lets something happen before its first write."""

    before_write: Callable[[], object] = staticmethod(lambda: None)

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "update_item":
            before, self.before_write = self.before_write, staticmethod(lambda: None)
            before()
        return super()._call(operation, arguments)


class Shop:
    """One table on which raw events are kept."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.settings = make_settings(raw_events=True)

    def work(self, before_write: Callable[[], object] | None = None) -> Work:
        calls = Slow(self.table, time.monotonic() + 60, Capacity())
        if before_write is not None:
            calls.before_write = before_write
        return Work(calls, self.settings, NOON)

    def send(self, *sent: Json, work: Work | None = None) -> int:
        """Pages, or what is said otherwise. Answers how many were accepted."""
        work = work or self.work()
        rules = self.settings.rules(NOON, is_trusted=True)
        texts = [{"type": "page", "timestamp": NOON.isoformat(), **raw} for raw in sent]
        events = [rules.read(raw, index, {}, may_be_large=False) for index, raw in enumerate(texts)]
        read = [event for event in events if isinstance(event, Event)]
        for event, raw in zip(read, texts, strict=True):
            event.sent = packing.text_of(raw)
        origin = packing.Origin(epoch_ms(NOON), "USD", True)
        outcome = ingest.ingest(replace(work, origin=origin), read)
        assert outcome.undecided is None
        return outcome.accepted

    def spoil(self, owner: str, by: int = 1) -> None:
        """A counter that is wrong."""
        self.table.client.update_item(
            TableName=self.table.name,
            Key={"PK": {"S": f"USER#{owner}"}, "SK": {"S": f"DAY#{TODAY}"}},
            UpdateExpression="ADD pageViews :by",
            ExpressionAttributeValues={":by": {"N": str(by)}},
        )

    def recount(self, owner: str, work: Work | None = None, *, is_repairing: bool = False) -> list[str]:
        return [
            day.status
            for day in recount.person(
                work or self.work(), owner, is_repairing=is_repairing, pause=lambda _: None
            )
        ]

    def day(self, owner: str) -> Json:
        found = item_at(self.table, keys.day_key(owner, TODAY))
        assert found is not None
        return found

    def pages(self, owner: str) -> tuple[int, int]:
        day = self.day(owner)
        return int(day["pageViews"]["N"]), int(day["events"]["N"])

    def raw(self) -> list[Json]:
        return [item for key, item in items(self.table).items() if key[1].startswith("EVENTS#")]


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "recount"))


def _page(message_id: str, user: str = "u") -> Json:
    return {"messageId": message_id, "userId": user}


# --- a wrong counter --------------------------------------------------------------------------------------------------


def test_a_wrong_counter_is_named_and_repaired(shop: Shop) -> None:
    shop.send(_page("m"), _page("n"))
    shop.spoil("u", 5)
    (found,) = recount.person(shop.work(), "u", pause=lambda _: None)

    assert (found.status, found.differences) == (recount.DIFFERENT, [Difference("page_views", None, 7, 2)])
    assert shop.recount("u", is_repairing=True) == [recount.REPAIRED]
    assert shop.recount("u") == [recount.SAME]
    assert shop.pages("u") == (2, 2)


def test_a_repair_that_an_event_came_before_is_made_anew(shop: Shop) -> None:
    """Without the condition on the revision it would write the number of before that event."""
    shop.send(_page("m"))
    shop.spoil("u")
    work = shop.work(lambda: shop.send(_page("n")))

    assert shop.recount("u", work, is_repairing=True) == [recount.REPAIRED]
    assert shop.pages("u") == (2, 2)


def test_without_that_condition_it_would_be_wrong(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above proves something."""
    monkeypatch.setattr(recount, "AllOf", lambda *_: DayItem.pk.exists())
    shop.send(_page("m"))
    shop.spoil("u")
    shop.recount("u", shop.work(lambda: shop.send(_page("n"))), is_repairing=True)

    assert shop.pages("u") == (1, 2)


def test_a_repair_leaves_alone_a_day_that_moved(shop: Shop) -> None:
    shop.send({"messageId": "m", "anonymousId": "a"})
    shop.spoil("anon_a")
    work = shop.work(
        lambda: shop.send({"type": "identify", "messageId": "i", "anonymousId": "a", "userId": "u"})
    )

    assert shop.recount("anon_a", work, is_repairing=True) == []
    # It moved with its fault, and is found where it is now.
    assert shop.recount("u", is_repairing=True) == [recount.REPAIRED]
    assert shop.pages("u") == (1, 1)


def test_repairs_beside_events_lose_none_of_them(shop: Shop) -> None:
    """Some write, one spoils, two repair; then a last repair, and everything that was sent counts."""
    over = threading.Event()
    shop.send(_page("first"))

    def write(writer: int) -> int:
        accepted = 0
        for number in range(EVENTS_OF_EACH):
            accepted += shop.send(_page(f"{writer}-{number}"))
            # So that now and then there is time for a repair.
            time.sleep(random.uniform(0, 0.1))
        return accepted

    def spoil() -> None:
        while not over.is_set():
            shop.spoil("u")
            time.sleep(0.01)

    def repair() -> int:
        repaired = 0
        while not over.is_set():
            repaired += shop.recount("u", is_repairing=True).count(recount.REPAIRED)
        return repaired

    with ThreadPoolExecutor(WRITERS + 3) as threads:
        spoiling = threads.submit(spoil)
        repairing = [threads.submit(repair) for _ in range(2)]
        accepted = sum(threads.map(write, range(WRITERS)))
        over.set()
        spoiling.result()
        repaired = sum(done.result() for done in repairing)
    shop.recount("u", is_repairing=True)

    assert accepted == WRITERS * EVENTS_OF_EACH
    print(f"{repaired} repairs")
    assert repaired > 0
    assert shop.recount("u") == [recount.SAME]
    assert shop.pages("u") == (accepted + 1, accepted + 1)


# --- raw events at their largest --------------------------------------------------------------------------------------


@pytest.fixture
def one_writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadPoolExecutor(1) as writer:
        monkeypatch.setattr(service.ingest, "_writers", writer)
        yield


@pytest.mark.usefixtures("one_writer")
def test_events_that_do_not_compress_lie_in_several_items(shop: Shop) -> None:
    """A request of 500 KB at most, of text that is as good as random."""
    sent = [
        _page(f"m-{number}") | {"properties": {"text": secrets.token_urlsafe(24_000)}} for number in range(15)
    ]
    assert len(str(sent)) > 480_000
    assert shop.send(*sent) == len(sent)
    again = shop.send(*sent)
    sizes = [len(item["payload"]["B"]) for item in shop.raw()]
    lines = person.page(shop.work(), "u", None, 10**7).body.splitlines()

    print(f"payloads of {sizes} bytes")
    assert again == 0
    assert len(sizes) > 1
    assert max(sizes) <= packing.PAYLOAD_BYTES_MAX < ITEM_BYTES_MAX
    # The day, and each event.
    assert len(lines) == 1 + len(sent)
    assert shop.recount("u") == [recount.SAME]


def test_a_receipt_of_before_an_erasure_gives_way_to_one_of_after_it(shop: Shop) -> None:
    """Of an event dated ahead, which counts again: see `raw_events.keep`. (The explorer found the schedule.)"""
    ahead = _page("m") | {"timestamp": NOON.replace(hour=13).isoformat()}
    shop.send(ahead)
    (before,) = shop.raw()
    events = [raw.event for raw in raw_events.read(before, shop.settings.timezone)]
    for event in events:
        event.sent = packing.text_of({"type": "page", **ahead})
    for seconds in (5, 1):
        work = replace(shop.work(), origin=packing.Origin(epoch_ms(NOON) + seconds * 1_000, "USD", True))
        raw_events.keep(work, "u", events)
        (now,) = shop.raw()
        # An earlier one that is late changes nothing.
        assert int(now["receivedAt"]["N"]) == epoch_ms(NOON) + 5_000
    assert shop.recount("u") == [recount.SAME]
