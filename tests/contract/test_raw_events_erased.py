"""Of an erased person no raw event is left, whatever was under way meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service import keys, raw_events
from service import sweep as sweep_module
from service.dynamodb import Table
from service.models import EventsItem
from service.settings import Settings
from service.store import Work
from service.sweep import Swept, sweep
from tests import builders, faults
from tests.builders import (
    NOON,
    READER,
    Clock,
    at,
    counts,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    post,
    totals,
)
from tests.contract.test_raw_events import ids_kept, items_kept, kept, visit

Json = dict[str, Any]
# No text of hexadecimal digits, which keys and hashes hold.
ADA = "lovelace"


@pytest.fixture
def settings() -> Settings:
    """A short window, so that there are few fences."""
    return make_settings(raw_events=True, max_event_age_days=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(settings: Settings, table: Table, clock: Clock) -> FastAPI:
    return make_app(settings, table, clock)


@pytest.fixture
def keeping_none(table: Table, clock: Clock) -> Iterator[httpx.Client]:
    """The same service with raw events off."""
    with lambda_client(make_app(make_settings(max_event_age_days=1), table, clock)) as opened:
        yield opened


def live(client: httpx.Client, name: str = ADA) -> None:
    """Raw events of a user and of two devices: 6."""
    batch = [visit(f"{name}-phone", messageId=f"{name}-1"), visit(f"{name}-laptop")]
    batch += [make_event(userId=f"u-{name}", event=f"Letter of {name}", timestamp=at(hours=3))]
    assert counts(post(client, batch)) == (3, 0, 0)
    linking = [
        make_event(userId=f"u-{name}", anonymousId=f"{name}-{device}") for device in ("phone", "laptop")
    ]
    assert counts(post(client, linking)) == (2, 0, 0)
    history = make_event(userId=f"u-{name}", timestamp=at(days=-500))
    assert counts(client.post("/v1/import", json={"batch": [history]}, headers=READER)) == (1, 0, 0)


def erase(client: httpx.Client, user: str = f"u-{ADA}") -> Json:
    reply = client.delete(f"/v1/users/{user}", headers=READER)
    assert reply.status_code == 200, reply.text
    body: Json = reply.json()
    return body


def swept(table: Table, settings: Settings, clock: Clock) -> Swept:
    *_, last = sweep(table.calls(float("inf")), settings, lambda: clock.now)
    assert not last.failures
    return last


def pending(table: Table) -> list[tuple[str, str]]:
    """(id, kind) of each PENDING row."""
    return sorted(
        (keys.pending_of(sk)[1], item["kind"]["S"])
        for (pk, sk), item in builders.items(table).items()
        if pk in keys.pending_pks()
    )


LEFTOVERS = [(one, "leftovers") for one in (f"anon_{ADA}-laptop", f"anon_{ADA}-phone", f"u-{ADA}")]


def test_nothing_of_an_erased_person_is_left(
    client: httpx.Client, clock: Clock, table: Table, settings: Settings
) -> None:
    live(client)
    live(client, "bob")
    bobs = {key: item for key, item in items_kept(table).items() if "bob" in key[0]}
    reply = erase(client)

    assert (reply["rawEvents"], reply["anonymousIds"]) == (6, 2)
    assert items_kept(table) == bobs
    assert pending(table) == LEFTOVERS
    assert erase(client)["rawEvents"] == 0
    clock.move(minutes=16)
    assert swept(table, settings, clock) == Swept()
    assert pending(table) == []
    for key, item in builders.items(table).items():
        if ADA in repr((key, item)):
            assert key[1].startswith("DAY#") or key[1] in ("ERASED", "ALIAS"), key
            assert item.keys() <= {"erasedAt", "expiresAt", "schema", "status"}, key


def test_a_visitor_who_is_nobodys_is_erased_too(client: httpx.Client, table: Table) -> None:
    post(client, [visit("a1"), visit("a1", timestamp=at(hours=-20)), visit("a2")])

    assert erase(client, "anon_a1")["rawEvents"] == 2
    assert [distinct_id for distinct_id, _ in kept(table)] == ["anon_a2"]
    assert pending(table) == [("anon_a1", "leftovers")]


def test_raw_events_of_before_they_were_turned_off_are_erased_too(
    client: httpx.Client, keeping_none: httpx.Client, table: Table
) -> None:
    live(client)
    reply = erase(keeping_none)

    assert (reply["rawEvents"], items_kept(table)) == (6, {})
    # No request can put any more there.
    assert pending(table) == []


def test_more_than_one_write_can_delete_are_erased(client: httpx.Client, table: Table) -> None:
    for number in range(60):
        post(client, [make_event(timestamp=at(seconds=-number))])

    assert erase(client, "u-1")["rawEvents"] == 60
    assert items_kept(table) == {}


def test_what_one_write_deletes_is_gone_when_the_next_one_fails(client: httpx.Client, table: Table) -> None:
    for number in range(60):
        post(client, [make_event(timestamp=at(seconds=-number))])
    with faults.injected(faults.Fault("kill_before", operation="BatchWriteItem", call=2)):
        assert client.delete("/v1/users/u-1", headers=READER).status_code == 500

    assert len(items_kept(table)) == 35


@pytest.mark.parametrize("kind", ["kill_before", "kill_after"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_erasure_that_dies_at_its_raw_events_is_ended_by_the_sweep(
    client: httpx.Client, clock: Clock, table: Table, settings: Settings, kind: faults.Action, call: int
) -> None:
    live(client)
    clock.move(seconds=1)
    with faults.injected(faults.Fault(kind, operation="BatchWriteItem", call=call)):
        assert client.delete(f"/v1/users/u-{ADA}", headers=READER).status_code == 500
    clock.move(seconds=61)

    assert swept(table, settings, clock) == Swept(erasures=1)
    assert items_kept(table) == {}
    assert [kind for _, kind in pending(table)] == ["leftovers"] * 3
    # Until the sweep had put its fences a request could count.
    clock.move(minutes=15)
    assert swept(table, settings, clock) == Swept()
    assert (f"u-{ADA}", "leftovers") in pending(table)
    clock.move(milliseconds=1)
    assert swept(table, settings, clock) == Swept()
    assert pending(table) == []


def test_what_a_sweep_of_hours_has_fenced_at_its_end_waits_its_quarter_of_an_hour(
    client: httpx.Client, clock: Clock, table: Table, settings: Settings
) -> None:
    users = [f"{ADA}-{number}" for number in range(3)]
    for user in users:
        post(client, [make_event(userId=user)])
    clock.move(seconds=1)
    for user in users:
        with faults.injected(faults.Fault("kill_after", operation="TransactWriteItems", call=1)):
            assert client.delete(f"/v1/users/{user}", headers=READER).status_code == 500

    def later() -> datetime:
        clock.move(minutes=20)
        return clock.now

    *_, found = sweep(table.calls(float("inf")), settings, later)
    assert found == Swept(erasures=3)
    clock.move(minutes=1)
    assert swept(table, settings, clock) == Swept()

    assert len(pending(table)) == 1


def test_a_sweep_that_comes_late_to_an_erasure_leaves_what_another_has_put_in_its_place(
    client: httpx.Client, clock: Clock, table: Table, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once have found it begun; the other one ends it."""
    live(client)
    lost = items_kept(table)
    clock.move(seconds=1)
    with faults.injected(faults.Fault("kill_after", operation="TransactWriteItems", call=1)):
        assert client.delete(f"/v1/users/u-{ADA}", headers=READER).status_code == 500
    clock.move(seconds=61)
    rows = sweep_module._begun(Work(table.calls(float("inf")), settings, clock.now))
    assert swept(table, settings, clock) == Swept(erasures=1)
    with monkeypatch.context() as late:
        late.setattr(sweep_module, "_begun", lambda _: rows)
        assert swept(table, settings, clock) == Swept()
    assert pending(table) == LEFTOVERS
    put_back(table, lost)
    clock.move(minutes=16)

    assert swept(table, settings, clock) == Swept(leftovers=6)
    assert items_kept(table) == {}


def test_what_counts_after_an_erasure_is_kept_again(client: httpx.Client, clock: Clock, table: Table) -> None:
    live(client)
    erase(client)
    clock.move(seconds=1)
    late = make_event(userId=f"u-{ADA}", messageId="late")
    assert counts(post(client, [late, visit(f"{ADA}-phone", messageId="new", timestamp=at(seconds=1))])) == (
        1,
        0,
        1,
    )

    assert ids_kept(table) == [(f"anon_{ADA}-phone", "new")]


def put_back(table: Table, items: dict[tuple[str, str], Json]) -> None:
    """As a request that was under way during the erasure does: it counted before, and keeps afterwards."""
    for (pk, sk), item in items.items():
        table.client.put_item(TableName=table.name, Item={"PK": {"S": pk}, "SK": {"S": sk}, **item})


def test_what_arrives_while_a_person_is_erased_is_nobodys_and_swept_after_a_quarter_of_an_hour(
    client: httpx.Client, clock: Clock, table: Table, settings: Settings
) -> None:
    live(client)
    lost = items_kept(table)
    clock.move(seconds=1)
    erase(client)
    put_back(table, lost)
    for user in (f"u-{ADA}", f"anon_{ADA}-phone", f"anon_{ADA}-laptop"):
        timeline = client.get(f"/v1/users/{user}/events", params={"from": "2026-01-01"}, headers=READER)
        assert timeline.json()["events"] == [], user
        assert client.get(f"/v1/users/{user}/export", headers=READER).text == "", user
    new = make_event(userId=f"u-{ADA}", messageId="new", timestamp=at(seconds=5))
    clock.move(seconds=2)
    assert counts(post(client, [new])) == (1, 0, 0)
    clock.now = NOON + timedelta(seconds=1, minutes=15)
    assert swept(table, settings, clock) == Swept()
    assert len(items_kept(table)) == len(lost) + 1
    clock.move(milliseconds=1)

    assert swept(table, settings, clock) == Swept(leftovers=6)
    assert ids_kept(table) == [(f"u-{ADA}", "new")]
    assert pending(table) == []
    assert totals(client, f"u-{ADA}", to=builders.day(1))["events"] == 1


def test_leftovers_of_a_visitor_who_became_somebody_elses_are_not_that_ones(
    client: httpx.Client, clock: Clock, table: Table
) -> None:
    live(client)
    lost = items_kept(table)
    clock.move(seconds=1)
    erase(client)
    put_back(table, lost)
    clock.move(seconds=1)
    new = make_event(userId="u-eve", anonymousId=f"{ADA}-phone", messageId="new", timestamp=at(seconds=2))
    assert counts(post(client, [new])) == (1, 0, 0)

    reply = client.get("/v1/users/u-eve/events", params={"from": "2026-01-01"}, headers=READER)
    assert [event["messageId"] for event in reply.json()["events"]] == ["new"]
    assert f"{ADA}-1" not in client.get("/v1/users/u-eve/export", headers=READER).text


def test_what_was_read_is_deleted_before_more_is_read(table: Table, settings: Settings) -> None:
    """Of gigabytes, a request that runs out of time has deleted some."""
    payload = bytes(38 * 1024)
    for number in range(30):
        key = keys.events_key("u-1", number, f"{number:016x}")
        item = EventsItem(*key, received_at=1_000, events=1, payload=payload)
        table.client.put_item(TableName=table.name, Item=item.serialize())
    with faults.injected() as log:
        assert raw_events.remove(Work(table.calls(float("inf")), settings, NOON), "u-1", 100) == 30

    # A page of a Query is a megabyte.
    assert log.operations == ["Query", "BatchWriteItem", "Query", "BatchWriteItem"]
