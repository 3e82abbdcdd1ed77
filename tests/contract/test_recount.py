"""`python -m service recount`: days against their raw events, named where they differ, and put right when told to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service import identities, keys, recount
from service.dynamodb import Table
from service.events import epoch_ms
from service.models import DayItem, stored_day
from service.recount import Recounted
from service.settings import Settings
from service.store import Work
from tests import builders, faults, server
from tests.builders import (
    NOON,
    READER,
    TODAY,
    at,
    counts,
    day,
    make_event,
    make_events,
    make_settings,
    post,
    totals,
)
from tests.faults import silent_url

Json = dict[str, Any]


@pytest.fixture
def settings() -> Settings:
    return make_settings(raw_events=True)


def command(table: Table, url: str, *arguments: str) -> tuple[int, list[str], str]:
    """Its exit code, its lines, and what it said beside them."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "recount", *arguments],
        cwd=server.ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL_DYNAMODB": url, "FOOTFALL_TABLE": table.name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


def work(table: Table, settings: Settings) -> Work:
    return Work(table.calls(time.monotonic() + 60), settings, NOON)


def recounted(
    table: Table, settings: Settings, user: str = "u-1", *, repair: bool = False
) -> list[Recounted]:
    return list(recount.person(work(table, settings), user, is_repairing=repair, pause=lambda _: None))


def statuses(found: list[Recounted]) -> list[tuple[str, str]]:
    return [(one.day, one.status) for one in found]


def spoil(table: Table, user: str = "u-1", name: str = "events", value: Json | None = None) -> None:
    """Write a wrong number."""
    key = keys.day_key(user, TODAY)
    table.client.update_item(
        TableName=table.name,
        Key={"PK": {"S": key.pk}, "SK": {"S": key.sk}},
        UpdateExpression="SET #n = :v",
        ExpressionAttributeNames={"#n": name},
        ExpressionAttributeValues={":v": value or {"N": "99"}},
    )


def forget(table: Table, user: str = "u-1") -> None:
    """Their raw events have expired."""
    for pk, sk in builders.items(table):
        if pk == keys.user_pk(user) and keys.is_events(sk):
            table.client.delete_item(TableName=table.name, Key={"PK": {"S": pk}, "SK": {"S": sk}})


def visit(anonymous_id: str, **fields: Any) -> Json:
    return make_event(userId=..., anonymousId=anonymous_id, **fields)


def live(client: httpx.Client) -> None:
    """Two devices, orders, names, sessions, late events and retries, history, another user on the same device."""
    order = {
        "event": "Order Completed",
        "properties": {"orderId": "o-1", "revenue": "12.30", "currency": "EUR"},
    }
    first = [
        visit("a1", event="Letter", context={"sessionId": "s-1"}),
        visit("a1", event="x.y[0]", timestamp=at(days=-2)),
        visit("a2", type="page"),
        make_event(**order, context={"sessionId": "s-2"}),
        make_event(**order),
        make_event(event="other"),
    ]
    post(client, first)
    post(client, [make_event(type="identify", anonymousId=a) for a in ("a1", "a2")])
    post(client, [first[1] | {"userId": "u-1"}, first[3], *make_events(3, timestamp=at(days=-5))])
    post(client, [make_event(userId="u-2", anonymousId="a1"), first[0] | {"userId": "u-2"}])
    history = [make_event(timestamp=at(days=-300)), visit("a1", timestamp=at(days=-301))]
    assert counts(client.post("/v1/import", json={"batch": history}, headers=READER)) == (2, 0, 0)


# --- what it finds ---------------------------------------------------------------------------------------------------


def test_what_was_counted_is_what_is_recounted(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    live(client)
    found = recounted(table, settings)

    assert statuses(found) == [(day(-back), recount.SAME) for back in (301, 300, 5, 2, 0)]
    assert [one.counted for one in found] == [1, 1, 3, 1, 4]
    assert statuses(recounted(table, settings, "u-2")) == [(TODAY, recount.SAME)]
    assert recounted(table, settings, "nobody") == recounted(table, settings, "anon_a1") == []


def test_a_visitor_who_is_nobodys_is_recounted(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    post(client, [visit("a9"), visit("a9", timestamp=at(days=-1))])

    assert statuses(recounted(table, settings, "anon_a9")) == [(day(-1), "same"), (TODAY, "same")]


def test_an_erased_persons_leftovers_are_no_part_of_it(table: Table, settings: Settings) -> None:
    clock = builders.Clock()
    with builders.lambda_client(builders.make_app(settings, table, clock)) as client:
        post(client, make_events(2))
        lost = {key: item for key, item in builders.items(table).items() if keys.is_events(key[1])}
        client.delete("/v1/users/u-1", headers=READER)
        clock.move(seconds=1)
        post(client, make_events(3, timestamp=at(seconds=1)))
        for (pk, sk), item in lost.items():
            table.client.put_item(TableName=table.name, Item={"PK": {"S": pk}, "SK": {"S": sk}, **item})

    assert [(one.status, one.counted) for one in recounted(table, settings)] == [(recount.SAME, 3)]


def test_nor_where_the_person_sends_the_same_again(table: Table, settings: Settings) -> None:
    """It arrived first, and what counts is what came after the erasure."""
    order = {"event": "Order Completed", "messageId": "m-1"}
    clock = builders.Clock()
    with builders.lambda_client(builders.make_app(settings, table, clock)) as client:
        post(client, [make_event(**order, properties={"revenue": 5})])
        lost = {key: item for key, item in builders.items(table).items() if keys.is_events(key[1])}
        client.delete("/v1/users/u-1", headers=READER)
        clock.move(seconds=1)
        again = make_event(**order, timestamp=at(seconds=1), properties={"revenue": 7})
        assert counts(post(client, [again])) == (1, 0, 0)
        for (pk, sk), item in lost.items():
            table.client.put_item(TableName=table.name, Item={"PK": {"S": pk}, "SK": {"S": sk}, **item})

    assert [one.status for one in recounted(table, settings)] == [recount.SAME]


def test_a_request_between_its_day_and_its_raw_events_is_waited_for(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    batch = make_events(2)
    post(client, batch[:1])
    with faults.injected(faults.Fault("refuse", operation="PutItem", attempts=None)):
        assert post(client, batch[1:]).status_code == 503
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        post(client, batch[1:])

    found = list(recount.person(work(table, settings), "u-1", pause=pause))

    assert (statuses(found), len(waited)) == ([(TODAY, recount.SAME)], 1)


def test_a_day_that_never_stands_still_is_told_as_it_was_last(
    client: httpx.Client, table: Table, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests are always between the day and the raw events; the other days do not wait for it."""
    post(client, [make_event(timestamp=at(days=-back)) for back in range(2)])
    monkeypatch.setattr(recount, "_may_change", lambda _, one, *__, **___: one.day == TODAY)
    waited: list[float] = []
    found = list(recount.person(work(table, settings), "u-1", pause=waited.append))

    assert statuses(found) == [(day(-1), recount.SAME), (TODAY, recount.SAME)]
    assert len(waited) == 4


def test_a_day_that_lacks_some_is_looked_at_again_and_one_of_before_they_were_kept_is_not(
    table: Table, settings: Settings
) -> None:
    def may_change(day_: str, counted: int, missing: int, *before: tuple[int, int]) -> bool:
        one, *known = (
            recount.Recounted("u-1", day_, recount.INCOMPLETE, *numbers)
            for numbers in ((counted, missing), *before)
        )
        return recount._may_change(
            work(table, settings), one, {day_: known[0]} if known else {}, is_repairing=False
        )

    # Some requests have put theirs, so the others may be about to.
    assert may_change(day(-9), 3, 2)
    assert not may_change(day(-9), 3, 3)
    # Or the first one is.
    assert may_change(TODAY, 3, 3)
    assert may_change(day(-1), 3, 3)
    assert not may_change(day(-2), 3, 3)
    # As long as it moves.
    assert may_change(TODAY, 3, 1, (3, 2))
    assert may_change(TODAY, 4, 2, (3, 2))
    assert not may_change(TODAY, 3, 2, (3, 2))


def test_fences_and_seals_are_not_read_for(client: httpx.Client, table: Table, settings: Settings) -> None:
    """They are dozens, and seven days are a question each."""
    post(client, [visit("a1")])
    post(client, [make_event(type="identify", anonymousId="a1", userId="u-3")])
    client.delete("/v1/users/u-2", headers=READER)
    for nobody in ("u-2", "anon_a1"):
        with faults.injected() as log:
            assert recounted(table, settings, nobody) == []
        assert log.operations == ["Query"]


def test_everybody_is_who_has_a_day_to_recount(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    post(client, [make_event(timestamp=at(days=-back)) for back in range(3)])
    post(client, [visit("a1"), visit("a2")])
    post(client, [make_event(type="identify", anonymousId="a1", userId="u-3")])
    client.delete("/v1/users/u-2", headers=READER)

    assert sorted(recount.everybody(work(table, settings))) == ["anon_a2", "u-1", "u-3"]


def test_days_of_before_raw_events_were_kept_are_named_and_others_recounted(
    table: Table, settings: Settings
) -> None:
    with builders.lambda_client(builders.make_app(make_settings(), table)) as client:
        post(client, make_events(2, timestamp=at(days=-3)))
    with builders.lambda_client(builders.make_app(settings, table)) as client:
        post(client, [*make_events(1), *make_events(1, timestamp=at(days=-3))])
    found = recounted(table, settings)

    assert sorted(statuses(found)) == [(day(-3), recount.INCOMPLETE), (TODAY, recount.SAME)]
    assert {(one.counted, one.missing) for one in found} == {(3, 2), (1, 0)}


# --- the repair ------------------------------------------------------------------------------------------------------


def test_a_repair_puts_right_every_kind_of_number_and_nothing_else(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    live(client)
    key = keys.day_key("u-1", TODAY)
    before = builders.item_at(table, key)
    assert before is not None
    for name, value in (
        ("events", {"N": "99"}),
        ("pageViews", {"N": "0"}),
        ("refundedOrders", {"N": "3"}),
        ("revenue#EUR", {"N": "1"}),
        ("refunds#USD", {"N": "1"}),
        ("event#Letter", {"N": "7"}),
        ("sessions", {"BS": [b"wrong!"]}),
        ("orderIds", {"SS": ["wrong"]}),
    ):
        spoil(table, name=name, value=value)
    assert recounted(table, settings)[-1].status == recount.DIFFERENT
    assert totals(client)["events"] != 9
    (*_, last) = recounted(table, settings, repair=True)

    assert (last.status, len(last.differences)) == (recount.REPAIRED, 8)
    after = builders.item_at(table, key)
    assert after is not None
    assert int(after.pop("revision")["N"]) == int(before.pop("revision")["N"]) + 1
    assert {name: repr(_sorted(value)) for name, value in after.items()} == {
        name: repr(_sorted(value)) for name, value in before.items()
    }
    assert {one.status for one in recounted(table, settings, repair=True)} == {recount.SAME}


def _sorted(typed: Json) -> Any:
    ((kind, value),) = typed.items()
    return kind, sorted(value) if kind in ("BS", "SS") else value


def repaired_late(table: Table, settings: Settings, meanwhile: Callable[[], object]) -> bool:
    """Whether a day of u-1 is written as recounted, when something happens between reading it and that."""
    (item,) = [
        {"PK": {"S": pk}, "SK": {"S": sk}, **item}
        for (pk, sk), item in builders.items(table).items()
        if pk == keys.user_pk("u-1") and keys.is_day(sk)
    ]
    stored = stored_day(item)
    raw = recount._raw_events(work(table, settings), "u-1", [TODAY])[TODAY]
    meanwhile()
    return recount._repaired(work(table, settings), "u-1", stored, raw)


def test_a_repair_gives_way_to_what_is_counted_meanwhile(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    post(client, make_events(2))
    spoil(table)

    assert not repaired_late(table, settings, lambda: post(client, make_events(1)))
    assert totals(client)["events"] == 100
    assert repaired_late(table, settings, lambda: None)
    assert totals(client)["events"] == 3


def test_a_day_that_began_again_after_an_erasure_is_not_repaired_with_what_was_before(
    table: Table, settings: Settings
) -> None:
    clock = builders.Clock()
    with builders.lambda_client(builders.make_app(settings, table, clock)) as client:
        post(client, make_events(2))
        spoil(table)

        def begin_again() -> None:
            client.delete("/v1/users/u-1", headers=READER)
            clock.move(seconds=1)
            post(client, make_events(1, timestamp=at(seconds=1)))

        assert not repaired_late(table, settings, begin_again)
        key = keys.day_key("u-1", TODAY)
        assert (builders.item_at(table, key) or {})["revision"] == {"N": "1"}
        assert totals(client)["events"] == 1
        # It can be repaired as it is now.
        spoil(table)
        assert [one.status for one in recounted(table, settings, repair=True)] == [recount.REPAIRED]
        assert totals(client)["events"] == 1


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_ends_with_0_when_nothing_differs(
    client: httpx.Client, table: Table, dynamodb_url: str
) -> None:
    live(client)
    status, lines, beside = command(table, dynamodb_url, "u-1")

    assert (status, lines) == (
        0,
        ["recounted 5 days of 1 users and visitors, 10 events: 0 days differ, 0 repaired, 0 skipped"],
    )
    assert beside.startswith("consumed 0 WRU, ")
    # By an anonymous id that became the user's.
    assert command(table, dynamodb_url, "anon_a2")[:2] == (0, lines)


def test_the_command_names_what_differs_repairs_it_when_told_to_and_says_what_it_skipped(
    client: httpx.Client, table: Table, dynamodb_url: str
) -> None:
    for user in ("u-1", "u-2", "u-3"):
        post(client, [make_event(userId=user, event="a\x1b[31m\n"), make_event(userId=user)])
    post(client, [visit("a1")])
    spoil(table)
    spoil(table, "u-2", DayItem.by_event["a\x1b[31m\n"].attr_name, {"N": "5"})
    forget(table, "u-3")
    skipped = (
        f"u-3  {TODAY}  skipped: 2 of 2 events have no raw event; they are kept for 90 days, from when they are "
        "turned on"
    )
    different = [
        f"u-1  {TODAY}  events: stored 99, recounted 2",
        f'u-2  {TODAY}  byEvent "a\\u001b[31m\\n": stored 5, recounted 1',
    ]

    status, lines, _ = command(table, dynamodb_url, "--all")
    assert (status, sorted(lines[:-1])) == (2, sorted([*different, skipped]))
    assert lines[-1] == (
        "recounted 4 days of 4 users and visitors, 7 events: 2 days differ, 0 repaired, 1 skipped"
    )
    status, lines, beside = command(table, dynamodb_url, "--all", "--repair")
    assert (status, sorted(lines[:-1])) == (
        0,
        sorted([*(f"{line}, repaired" for line in different), skipped]),
    )
    assert lines[-1].endswith(": 0 days differ, 2 repaired, 1 skipped")
    assert beside.startswith("consumed 2 WRU, ")
    assert command(table, dynamodb_url, "u-1")[0] == 0
    assert totals(client)["events"] == 2


def test_the_command_ends_a_merge_under_way_first(
    client: httpx.Client, table: Table, settings: Settings, dynamodb_url: str
) -> None:
    post(client, [visit("a1")])
    identities.link(work(table, settings), "anon_a1", "u-1", epoch_ms(NOON))
    status, lines, _ = command(table, dynamodb_url, "anon_a1")

    assert (status, lines) == (
        0,
        ["recounted 1 days of 1 users and visitors, 1 events: 0 days differ, 0 repaired, 0 skipped"],
    )
    assert builders.is_merged(table, "anon_a1")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "Name a user, or say --all."),
        (("u-1", "--all"), 2, "Name a user, or say --all."),
        (("--nonsense",), 2, "--nonsense"),
        (("guest",), 1, "USER: "),
        (("  ",), 1, "USER names somebody."),
    ],
)
def test_the_command_says_how_it_is_used(
    table: Table, dynamodb_url: str, arguments: tuple[str, ...], status: int, words: str
) -> None:
    ended, lines, beside = command(table, dynamodb_url, *arguments)

    assert (ended, lines) == (status, [])
    assert words in beside


@pytest.mark.parametrize("missing", ["table", "endpoint"])
def test_the_command_ends_with_1_when_it_cannot_begin(table: Table, dynamodb_url: str, missing: str) -> None:
    where = Table(None, "is-not-there") if missing == "table" else table
    url = silent_url() if missing == "endpoint" else dynamodb_url
    status, lines, beside = command(where, url, "--all")

    assert (status, lines) == (1, [])
    assert where.name in beside
    assert len(beside.splitlines()) == 1
