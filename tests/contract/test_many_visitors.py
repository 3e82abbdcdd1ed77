"""A user of hundreds of anonymous ids, or of full days: a monitor that logs in, each time with a new browser."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from service import erasure, ids, keys, person, raw_events, store, timeline
from service.capacity import Capacity
from service.dynamodb import Calls, Table
from service.embedded import embedded_table
from service.models import AliasItem, DayItem, WayBackItem
from service.problems import Unavailable
from service.store import Work
from tests import builders, faults
from tests.builders import make_settings, new_table
from tests.engine.conftest import NOON

VISITORS = 250
BYTES_MAX = 4_000_000
SETTINGS = make_settings()


class Short(Calls):
    """The calls of a request that has time for so many."""

    calls_left = 0

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise Unavailable
        return super()._call(operation, arguments)


@pytest.fixture
def crowd(dynamodb_client: Any) -> Table:
    """The merges of `u`, all at their ends."""
    table = new_table(dynamodb_client, "crowd")
    puts = []
    for number in range(VISITORS):
        anonymous_id = f"{ids.ANONYMOUS_PREFIX}{number:03}"
        alias = AliasItem(
            *keys.alias_key(anonymous_id),
            user_id="u",
            status="merged",
            started_at="2026-11-01T12:00:00.000+00:00",
            days=0,
        )
        way_back = WayBackItem(*keys.way_back_key("u", anonymous_id))
        puts += [{"PutRequest": {"Item": item.serialize()}} for item in (alias, way_back)]
    for first in range(0, len(puts), 25):
        table.client.batch_write_item(RequestItems={table.name: puts[first : first + 25]})
    return table


def work(table: Table, calls: int = 10_000) -> Work:
    short = Short(table, time.monotonic() + 60, Capacity())
    short.calls_left = calls
    return Work(short, SETTINGS, NOON)


def test_whose_they_are_is_asked_for_by_the_hundred(crowd: Table) -> None:
    with faults.injected() as log:
        found = raw_events.sources(work(crowd), "u", is_consistent=True)

    assert len(found) == VISITORS + 1
    assert log.operations == ["GetItem", "Query", *["BatchGetItem"] * 3]


@pytest.mark.parametrize("is_consistent", [True, False])
def test_that_costs_what_asking_one_by_one_does(crowd: Table, is_consistent: bool) -> None:
    asking = work(crowd)
    raw_events.sources(asking, "u", is_consistent=is_consistent)
    each = 1.0 if is_consistent else 0.5

    # The mark and the aliases; the ways back are 250 small items of one Query.
    assert asking.calls.capacity.read_units - (VISITORS + 1) * each <= 8 * each


def test_a_visitor_is_not_asked_for_visitors(crowd: Table) -> None:
    with faults.injected() as log:
        assert raw_events.sources(work(crowd), "anon_000") == [("anon_000", 0)]

    assert log.operations == ["GetItem"]


def test_an_erasure_that_runs_out_of_time_goes_on_where_it_stopped(crowd: Table) -> None:
    """However often that is, some are free by then."""
    with pytest.raises(Unavailable):
        erasure.erase(work(crowd, 200), "u")
    freed = VISITORS - len(raw_events.sources(work(crowd), "u", is_consistent=True)) + 1
    assert freed > 0
    with pytest.raises(Unavailable):
        erasure.erase(work(crowd, 200), "u")

    assert VISITORS - len(raw_events.sources(work(crowd), "u", is_consistent=True)) + 1 > freed


def test_full_days_are_erased_without_being_read_whole(dynamodb_client: Any) -> None:
    """Hundreds of days of 400 KB are more than the function has memory for, and then no try would free any."""
    table = new_table(dynamodb_client, "full")
    wanted: list[dict[str, Any]] = []
    for number in range(12):
        day = (NOON.date() - timedelta(days=100 * number)).isoformat()
        seen = [hashlib.sha256(f"{day} {number}".encode()).digest()[:12] for number in range(2_000)]
        item = DayItem(*keys.day_key("u", day), seen=set(seen), revision=1).serialize()
        wanted.append({"PutRequest": {"Item": item | {"events": {"N": "2000"}}}})
    table.client.batch_write_item(RequestItems={table.name: wanted})
    sizes: list[int] = []
    table.client.meta.events.register(
        "after-call.dynamodb.Query", lambda http_response, **_: sizes.append(len(http_response.content))
    )
    erased = erasure.erase(work(table), "u")

    assert erased.days == 12
    # The ids of a day alone are 32 KB.
    assert sum(sizes) < 8_000
    assert builders.item_at(table, keys.day_key("u", "2025-10-18")) is None


def test_a_day_of_a_newer_version_is_not_erased_by_an_older_one(dynamodb_client: Any) -> None:
    table = new_table(dynamodb_client, "newer")
    day = DayItem(*keys.day_key("u", "2020-02-29"), revision=1).serialize() | {"schema": {"N": "2"}}
    table.client.put_item(TableName=table.name, Item=day)
    with pytest.raises(Unavailable, match="newer version"):
        erasure.erase(work(table), "u")

    assert builders.item_at(table, keys.day_key("u", "2020-02-29")) is not None


def test_what_is_not_read_of_an_item_is_paid_for_in_memory_too() -> None:
    table = embedded_table("projected")
    seen = {number.to_bytes(12, "big") for number in range(2_000)}
    day = DayItem(*keys.day_key("u", "2020-02-29"), seen=seen).serialize()
    table.client.put_item(TableName=table.name, Item=day)
    whole, outlined = work(table), work(table)
    store.every_day(whole.calls, "u")
    store.outlines(outlined.calls, "u")

    assert outlined.calls.capacity.read_units == whole.calls.capacity.read_units >= 6


def test_an_export_of_short_pages_comes_to_its_end(crowd: Table) -> None:
    """The last lines are long behind it when it looks for raw events under each."""
    cursor, lines, cursors = None, [], set()
    while True:
        page = person.page(work(crowd, 40), "u", cursor, BYTES_MAX)
        lines += page.body.splitlines()
        cursor = page.next_cursor
        if cursor is None:
            break
        assert cursor not in cursors
        cursors.add(cursor)

    assert len(cursors) > 1
    assert [json.loads(line)["anonymousId"] for line in lines] == [
        f"anon_{number:03}" for number in range(VISITORS)
    ]


def test_a_timeline_of_them_all_is_empty_and_whole(crowd: Table) -> None:
    asked = timeline.Asked(NOON.date(), NOON.date(), None, 100, BYTES_MAX)
    found = timeline.page(work(crowd), "u", asked)

    assert (found.events, found.next_cursor) == ([], None)
