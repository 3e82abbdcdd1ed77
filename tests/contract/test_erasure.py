"""DELETE /v1/users/{userId}: what is gone, what is refused from then on, and that it ends whatever dies on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service import keys
from service.dynamodb import Table
from service.sweep import sweep
from tests import builders, faults
from tests.builders import (
    NOON,
    READER,
    TODAY,
    Clock,
    at,
    counts,
    day,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    post,
    rejections,
    totals,
)

Items = dict[tuple[str, str], dict[str, Any]]
# Part of every name that is Ada's: wherever it is, something of hers is kept.
ADA = "ada"
USER, PHONE, LAPTOP = "u-ada", "ada-phone", "ada-laptop"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(table: Table, clock: Clock) -> Iterator[httpx.Client]:
    """A short window, so that there are few fences."""
    with lambda_client(make_app(make_settings(max_event_age_days=1), table, clock)) as opened:
        yield opened


def erase(client: httpx.Client, user: str = USER) -> httpx.Response:
    return client.delete(f"/v1/users/{user}", headers=READER)


def erased(reply: httpx.Response) -> tuple[int, int]:
    """(anonymousIds, days) of a reply."""
    assert reply.status_code == 200, reply.text
    return reply.json()["anonymousIds"], reply.json()["days"]


def imported(client: httpx.Client, *events: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/import", json={"batch": list(events)}, headers=READER)


def of(user: str, **fields: Any) -> dict[str, Any]:
    return make_event(userId=user, context={"sessionId": f"session-{user}"}, **fields)


def visit(anonymous_id: str, **fields: Any) -> dict[str, Any]:
    return make_event(userId=..., anonymousId=anonymous_id, **fields)


def order(user: str, **fields: Any) -> dict[str, Any]:
    return of(user, event="Order Completed", properties={"orderId": f"order-{user}", "total": 1}, **fields)


def live(client: httpx.Client, name: str = ADA) -> None:
    """A life with two devices, an order, events of her own, and history from elsewhere."""
    user, phone, laptop = f"u-{name}", f"{name}-phone", f"{name}-laptop"
    events = [
        visit(phone),
        visit(phone, timestamp=at(days=-1), event=f"Newsletter of {name}"),
        of(user, type="identify", anonymousId=phone),
        visit(laptop),
        of(user, anonymousId=laptop),
        order(user),
        visit(phone, timestamp=at(hours=1)),
    ]
    assert all(counts(post(client, [event])) == (1, 0, 0) for event in events)
    assert counts(imported(client, of(user, timestamp=at(days=-100)))) == (1, 0, 0)
    assert counts(imported(client, visit(phone, timestamp=at(days=-200)))) == (1, 0, 0)


def traces(items: Items, name: str = ADA) -> Items:
    return {key: item for key, item in items.items() if name in repr((key, item))}


def assert_gone(table: Table, name: str = ADA) -> None:
    """Nothing is left but fences and marks, named by their keys alone, and those will go."""
    items = builders.items(table)
    for key, item in traces(items, name).items():
        assert name not in repr(item), key
        assert key[1].startswith("DAY#") or key[1] in ("ERASED", "ALIAS"), key
        assert item.keys() <= {"erasedAt", "expiresAt", "schema", "status"}, key
        days_left = (int(item["expiresAt"]["N"]) - NOON.timestamp()) / 86_400
        assert 2 <= days_left < 40
        # Each day for as long as an event may arrive on it, under any setting; a mark as long as today's.
        assert days_left > 31 or (key[1].startswith("DAY#") and key[1] < f"DAY#{TODAY}")
    assert not any(pk.startswith("PENDING#") for pk, _ in items)


# --- what is gone ----------------------------------------------------------------------------------------------------


def test_everything_of_a_person_is_removed(client: httpx.Client, table: Table) -> None:
    live(client)
    live(client, "bob")
    bob = traces(builders.items(table), "bob")
    reply = erase(client)

    assert reply.json() == {
        "userId": USER,
        # After the merges, which are of the same millisecond here.
        "erasedAt": "2026-11-22T12:00:00.001+00:00",
        "anonymousIds": 2,
        # Today, yesterday, and the two that were imported.
        "days": 4,
        "rawEvents": 0,
    }
    assert_gone(table)
    assert bob == traces(builders.items(table), "bob")
    for id_ in (USER, f"anon_{PHONE}", f"anon_{LAPTOP}"):
        assert totals(client, id_, **{"from": day(-365)})["events"] == 0
        user = client.get(f"/v1/users/{id_}", headers=READER).json()
        assert user == {"userId": id_, "anonymousIds": [], "firstDay": None, "lastDay": None}
        assert client.get(f"/v1/users/{id_}/export", headers=READER).content == b""


def test_when_fences_and_marks_have_expired_nothing_is_left_but_a_hash_of_the_order(
    client: httpx.Client, table: Table
) -> None:
    live(client)
    erase(client)
    fences = {key: item for key, item in builders.items(table).items() if not key[0].startswith("ORDER#")}
    claim = builders.item_at(table, keys.order_key(f"order-{USER}"))

    assert all("expiresAt" in item for item in fences.values())
    assert claim is not None
    assert ADA not in repr(claim)
    forget(table, fences)
    assert traces(builders.items(table)) == {}
    assert len(builders.items(table)) == 1


def forget(table: Table, items: Items) -> None:
    """What TTL does."""
    for pk, sk in items:
        table.client.delete_item(TableName=table.name, Key={"PK": {"S": pk}, "SK": {"S": sk}})


def test_erasing_again_is_harmless(client: httpx.Client, table: Table, clock: Clock) -> None:
    live(client)
    replies = [erase(client) for _ in range(3)]

    assert [erased(reply) for reply in replies] == [(2, 4), (0, 0), (0, 0)]
    assert_gone(table)
    clock.move(seconds=1)
    assert counts(post(client, [of(USER, timestamp=at(seconds=1))])) == (1, 0, 0)


def test_somebody_never_seen_can_be_erased(client: httpx.Client, table: Table) -> None:
    assert erased(erase(client)) == (0, 0)
    assert_gone(table)


def test_a_visitor_who_is_nobodys_can_be_erased(client: httpx.Client, table: Table, clock: Clock) -> None:
    post(client, [visit(PHONE), visit(PHONE, timestamp=at(days=-1))])
    imported(client, visit(PHONE, timestamp=at(days=-100)))
    reply = erase(client, f"anon_{PHONE}")

    assert (reply.json()["userId"], *erased(reply)) == (f"anon_{PHONE}", 0, 3)
    assert_gone(table)
    clock.move(seconds=1)
    assert rejections(post(client, [visit(PHONE), visit(PHONE, timestamp=at(seconds=1))])) == [(0, "erased")]
    assert erased(erase(client, f"anon_{PHONE}")) == (0, 1)


def test_a_merged_anonymous_id_is_not_erased_alone(client: httpx.Client, table: Table) -> None:
    live(client)
    before = builders.items(table)
    reply = erase(client, f"anon_{PHONE}")

    assert (reply.status_code, reply.json()["code"]) == (409, "identity_conflict")
    assert ADA not in reply.text
    assert before == builders.items(table)


def test_a_merge_under_way_ends_with_its_person(client: httpx.Client, table: Table, clock: Clock) -> None:
    post(client, [visit(PHONE), visit(PHONE, timestamp=at(days=-1))])
    identify = of(USER, type="identify", anonymousId=PHONE)
    with faults.injected(faults.Fault("kill_after", operation="TransactWriteItems", call=2)) as log:
        assert post(client, [identify]).status_code == 500
    assert log.spoiled == 1
    clock.move(seconds=1)

    assert erased(erase(client)) == (1, 2)
    assert_gone(table)
    assert rejections(post(client, [identify])) == [(0, "erased")]
    assert_gone(table)


# --- what is refused from then on, and what is not -------------------------------------------------------------------


def test_late_copies_of_erased_events_are_rejected(client: httpx.Client, table: Table) -> None:
    live(client)
    erase(client)
    late = [
        of(USER),
        visit(PHONE),
        of(USER, anonymousId=LAPTOP),
        of(USER, type="identify", anonymousId=PHONE),
        of(USER, anonymousId="ada-other"),
        of(USER, timestamp=at(days=-1)),
        order(USER),
    ]

    for event in late[:-1]:
        assert rejections(post(client, [event, of("u-bob")])) == [(0, "erased")], event
    # The order is known to have been counted.
    assert counts(post(client, late[-1:])) == (0, 1, 0)
    assert traces(builders.items(table), "ada-other") == {}
    assert_gone(table)


def test_what_she_does_afterwards_counts(client: httpx.Client, table: Table, clock: Clock) -> None:
    live(client)
    erase(client)
    clock.move(seconds=1)
    later = at(seconds=1)
    batch = [of(USER, timestamp=later), visit(PHONE, timestamp=later), of(USER), visit("ada-new")]

    assert rejections(post(client, batch)) == [(2, "erased")]
    assert (totals(client, USER)["events"], totals(client, f"anon_{PHONE}")["events"]) == (1, 1)
    assert counts(post(client, batch)) == (0, 3, 1)
    clock.move(minutes=1)
    merged = client.post(f"/v1/users/{USER}/merge", json={"anonymousId": PHONE}, headers=READER)
    assert (merged.json()["status"], merged.json()["days"]) == ("merged", 1)
    assert counts(post(client, [of(USER, anonymousId="ada-new", timestamp=at(seconds=30))])) == (1, 0, 0)
    assert totals(client, USER)["events"] == 4
    assert counts(post(client, [batch[1], batch[0]])) == (0, 2, 0)
    assert rejections(post(client, [visit(PHONE)])) == [(0, "erased")]


def test_what_she_does_afterwards_stays(client: httpx.Client, table: Table, clock: Clock) -> None:
    """The fence on which it counts had an end; what it has become has none."""
    live(client)
    erase(client)
    clock.move(seconds=1)
    for event in (of(USER, timestamp=at(seconds=1)), visit(PHONE, timestamp=at(seconds=1))):
        post(client, [event])

    for owner in (USER, f"anon_{PHONE}"):
        item = builders.item_at(table, keys.day_key(owner, TODAY))
        assert item is not None
        assert (item["events"], "expiresAt" in item) == ({"N": "1"}, False), owner


def test_a_merge_into_her_afterwards_stays(client: httpx.Client, table: Table, clock: Clock) -> None:
    erase(client)
    clock.move(seconds=2)
    post(client, [visit("ada-new", timestamp=at(seconds=1))])
    merged = client.post(f"/v1/users/{USER}/merge", json={"anonymousId": "ada-new"}, headers=READER)
    item = builders.item_at(table, keys.day_key(USER, TODAY))

    assert merged.json()["days"] == 1
    assert item is not None
    assert (item["events"], "expiresAt" in item) == ({"N": "1"}, False)


def test_erasing_what_came_afterwards_erases_it_too(client: httpx.Client, table: Table, clock: Clock) -> None:
    live(client)
    erase(client)
    clock.move(minutes=5)
    later = at(minutes=4)
    post(client, [visit(PHONE, timestamp=later), of(USER, anonymousId=PHONE, timestamp=later)])

    assert erased(erase(client)) == (1, 1)
    assert_gone(table)
    assert rejections(post(client, [visit(PHONE, timestamp=later)])) == [(0, "erased")]


def test_history_of_before_is_not_imported(client: httpx.Client, table: Table, clock: Clock) -> None:
    live(client)
    erase(client)
    old = [
        of(USER, timestamp=at(days=-100)),
        visit(PHONE, timestamp=at(days=-200)),
        of(USER, anonymousId=LAPTOP, timestamp=at(days=-3)),
        of(USER, timestamp=at()),
    ]

    assert rejections(imported(client, *old)) == [(index, "erased") for index in range(4)]
    assert_gone(table)
    clock.move(days=60)
    assert rejections(imported(client, *old[:1])) == [(0, "erased")]
    assert counts(imported(client, of(USER, timestamp=at(days=30)))) == (1, 0, 0)
    forget(table, traces(builders.items(table)))
    # The marks that said so are gone: keep her out of history that is imported later.
    assert counts(imported(client, *old[:1])) == (1, 0, 0)


def test_an_event_ahead_of_its_time_goes_and_its_copy_counts(client: httpx.Client, clock: Clock) -> None:
    ahead = of(USER, timestamp=at(hours=20))
    post(client, [ahead])

    assert erased(erase(client)) == (0, 1)
    clock.move(seconds=1)
    # It says that it is of after the erasure. Nothing else could tell.
    assert counts(post(client, [ahead])) == (1, 0, 0)


# --- what dies on the way --------------------------------------------------------------------------------------------


def erasing_calls(client: httpx.Client) -> int:
    """How many database calls the erasure of such a life is."""
    live(client, "probe")
    with faults.injected() as log:
        assert erase(client, "u-probe").status_code == 200
    return len(log.calls)


Next = Callable[[httpx.Client, Table, Clock, str], None]


def again(client: httpx.Client, table: Table, clock: Clock, user: str) -> None:
    assert erase(client, user).status_code == 200


def swept(client: httpx.Client, table: Table, clock: Clock, user: str) -> None:
    settings = make_settings(max_event_age_days=1)
    *_, found = sweep(table.calls(9e9), settings, lambda: clock() + timedelta(minutes=2))
    assert (found.merges, found.undecided) == (0, 0)


@pytest.mark.parametrize("finish", [again, swept])
def test_an_erasure_killed_after_any_call_is_ended(
    client: httpx.Client, table: Table, clock: Clock, finish: Next
) -> None:
    calls = erasing_calls(client)
    # A fence is a call, and one is like the other.
    for call in sorted({*range(1, 9), *range(9, calls, 11), *range(calls - 4, calls + 1)}):
        name = f"{ADA}{call:03}"
        live(client, name)
        with faults.injected(faults.Fault("kill_after", call=call)) as log:
            assert erase(client, f"u-{name}").status_code == 500
        assert len(log.calls) == call
        is_begun = builders.item_at(table, keys.erased_key(f"u-{name}")) is not None
        assert is_begun == (call > 1)
        finish(client, table, clock, f"u-{name}")
        if is_begun or finish is again:
            assert_gone(table, name)
            assert rejections(post(client, [of(f"u-{name}")])) == [(0, "erased")]
            clock.move(seconds=1)
            assert counts(post(client, [of(f"u-{name}", timestamp=at(hours=2))])) == (1, 0, 0)
            clock.move(seconds=-1)
        forget(table, builders.items(table))


def test_a_merge_waits_for_the_erasure_and_ends_it_when_it_has_died(
    client: httpx.Client, table: Table, clock: Clock
) -> None:
    live(client)
    with faults.injected(faults.Fault("kill_after", call=2)):
        erase(client)
    clock.move(seconds=60)
    later = at(seconds=30)
    identify = of(USER, type="identify", anonymousId="ada-new", timestamp=later)
    replies = [post(client, [visit("ada-new", timestamp=later)]), post(client, [identify])]
    replies.append(client.post(f"/v1/users/{USER}/merge", json={"anonymousId": "ada-new"}, headers=READER))

    assert [reply.status_code for reply in replies] == [200, 503, 503]
    assert json.loads(replies[1].text)["code"] == "unavailable"
    assert totals(client, USER)["events"] > 0
    clock.move(seconds=1)
    assert counts(post(client, [identify])) == (1, 0, 0)
    assert builders.is_merged(table, "anon_ada-new")
    assert totals(client, USER, **{"from": day(-300)})["events"] == 1
    assert not any(pk.startswith("PENDING#") for pk, _ in builders.items(table))


def test_an_event_that_could_not_be_erased_in_time_is_a_503_and_the_next_call_goes_on(
    client: httpx.Client, table: Table
) -> None:
    live(client)
    with faults.injected(faults.Fault("refuse", operation="PutItem", call=3, attempts=None)):
        reply = erase(client)

    assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
    assert reply.headers["retry-after"]
    assert erase(client).status_code == 200
    assert_gone(table)
