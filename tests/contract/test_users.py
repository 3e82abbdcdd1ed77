"""The range query, the user, and the merge."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from service import identities, store
from service.dynamodb import Table
from service.events import epoch_ms
from service.settings import Settings
from service.store import Work
from tests import builders
from tests.builders import (
    NOON,
    READER,
    TODAY,
    WRITER,
    Clock,
    at,
    counts,
    day,
    lambda_client,
    make_app,
    make_event,
    make_events,
    make_settings,
    metrics,
    post,
    rejections,
    totals,
)

METRICS = {
    "events",
    "sessions",
    "pageViews",
    "searches",
    "listViews",
    "productViews",
    "promotionClicks",
    "cartAdds",
    "cartRemoves",
    "cartViews",
    "wishlistAdds",
    "checkouts",
    "orders",
    "refundedOrders",
    "cancelledOrders",
    "itemsSold",
    "engagedSeconds",
    "revenue",
    "refunds",
    "byEvent",
}


def merge(client: httpx.Client, user: str = "u-1", anonymous_id: Any = "a1") -> httpx.Response:
    return client.post(f"/v1/users/{user}/merge", json={"anonymousId": anonymous_id}, headers=READER)


def anonymous(**fields: Any) -> dict[str, Any]:
    return make_event(userId=..., anonymousId="a1", **fields)


# --- the range -------------------------------------------------------------------------------------------------------


def test_the_range_holds_both_of_its_ends(door: httpx.Client) -> None:
    post(door, [make_event(timestamp=at(days=-back)) for back in range(6)])
    answer = metrics(door, to=day(-1), **{"from": day(-3)})

    assert (answer["userId"], answer["from"], answer["to"], answer["timezone"]) == (
        "u-1",
        day(-3),
        day(-1),
        "UTC",
    )
    assert [numbers["day"] for numbers in answer["days"]] == [day(-3), day(-2), day(-1)]
    assert (answer["totals"]["events"], answer["totals"]["activeDays"]) == (3, 3)
    assert "requestedId" not in answer


def test_each_day_and_the_totals_have_every_metric(client: httpx.Client) -> None:
    post(client, make_events(1))
    answer = metrics(client)

    assert {"day", *METRICS} == set(answer["days"][0])
    assert {"activeDays", *METRICS} == set(answer["totals"])


def test_the_range_is_the_last_thirty_days_unless_told_otherwise(client: httpx.Client) -> None:
    answers = [metrics(client), metrics(client, to="2026-03-01"), metrics(client, **{"from": "2026-11-01"})]

    assert [(answer["from"], answer["to"]) for answer in answers] == [
        ("2026-10-24", TODAY),
        ("2026-01-31", "2026-03-01"),
        ("2026-11-01", TODAY),
    ]


def test_today_is_the_shops_own(table: Table) -> None:
    clock = Clock(datetime(2026, 11, 22, 23, 30, tzinfo=UTC))
    with lambda_client(make_app(make_settings(timezone=ZoneInfo("Europe/Berlin")), table, clock)) as client:
        answer = metrics(client)

        assert (answer["from"], answer["to"], answer["timezone"]) == (
            "2026-10-25",
            "2026-11-23",
            "Europe/Berlin",
        )


@pytest.mark.parametrize(
    ("first", "last", "status"),
    [
        ("2026-11-22", "2026-11-22", 200),
        ("2025-11-22", "2026-11-22", 200),
        ("2025-11-21", "2026-11-22", 422),
        ("2024-01-01", "2024-12-31", 200),
        ("0001-01-01", "0001-01-01", 200),
        (None, "0001-01-05", 200),
        ("9999-12-31", "9999-12-31", 200),
        ("2026-11-23", "2026-11-22", 422),
        ("2026-11-23", None, 422),
        ("2026-02-29", None, 422),
        ("2026-13-01", None, 422),
        (None, "2026-00-10", 422),
        ("20261101", None, 422),
        ("2026-W47-1", None, 422),
        ("2026-11-01T00:00:00Z", None, 422),
        ("yesterday", None, 422),
        ("", None, 422),
        (None, "", 422),
        ("\u0662\u0660\u0662\u0666-11-01", None, 422),
        ("2026-11-01\n", None, 422),
    ],
)
@pytest.mark.parametrize("fill", ["false", "true"])
def test_a_range_is_two_days_in_order_and_at_most_a_leap_year(
    client: httpx.Client, first: str | None, last: str | None, status: int, fill: str
) -> None:
    parameters = {name: text for name, text in (("from", first), ("to", last)) if text is not None}
    reply = client.get("/v1/users/u-1/metrics", params=parameters | {"fill": fill}, headers=READER)

    assert status == reply.status_code
    if status == 422:
        assert reply.json()["code"] == "invalid_range"


def test_a_user_never_seen_has_no_days_and_zero_totals(door: httpx.Client) -> None:
    answer = metrics(door, "nobody")

    assert answer["days"] == []
    zeros: dict[str, Any] = dict.fromkeys(METRICS, 0)
    assert zeros | {"activeDays": 0, "revenue": {}, "refunds": {}, "byEvent": {}} == answer["totals"]


def test_filled_days_are_zeros_and_change_no_total(client: httpx.Client) -> None:
    post(client, [make_event(timestamp=at(days=-back), context={"sessionId": "s"}) for back in (0, 0, 3)])
    span = {"from": day(-5), "to": day(1)}
    plain, filled = metrics(client, **span), metrics(client, fill="true", **span)

    assert plain["totals"] == filled["totals"]
    assert [numbers["day"] for numbers in filled["days"]] == builders.days_back(day(-5), day(1))
    assert [numbers["events"] for numbers in filled["days"]] == [0, 0, 1, 0, 0, 2, 0]
    assert set(filled["days"][0]) == {"day", *METRICS}


def test_a_whole_year_can_be_filled(client: httpx.Client) -> None:
    answer = metrics(client, to="2026-11-22", fill="true", **{"from": "2025-11-22"})

    assert len(answer["days"]) == 366


def test_what_is_neither_true_nor_false_fills_nothing(client: httpx.Client) -> None:
    reply = client.get("/v1/users/u-1/metrics", params={"fill": "maybe"}, headers=READER)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")


def test_sessions_of_a_range_are_a_union_and_not_a_sum(client: httpx.Client) -> None:
    sessions = [(0, "s-1"), (0, "s-1"), (0, "s-2"), (-1, "s-1"), (-1, "s-3"), (-2, None)]
    post(
        client,
        [make_event(timestamp=at(days=offset), context={"sessionId": name}) for offset, name in sessions],
    )
    answer = metrics(client)

    assert [numbers["sessions"] for numbers in answer["days"]] == [0, 2, 2]
    assert answer["totals"]["sessions"] == 3


@pytest.mark.parametrize("user", ["guest", "0", "%20", "a%00b", "x" * 129, "anon_", "%ED%A0%80"])
def test_what_is_no_id_is_no_user(door: httpx.Client, user: str) -> None:
    for path in (f"/v1/users/{user}", f"/v1/users/{user}/metrics"):
        reply = door.get(path, headers=READER)

        # Bytes that are no UTF-8 arrive as another text, which may be an id.
        assert reply.status_code in ((200, 422) if user == "%ED%A0%80" else (422,))
        assert reply.status_code == 200 or reply.json()["code"] == "invalid_id"


# --- the user --------------------------------------------------------------------------------------------------------


def test_a_user_has_anonymous_ids_and_a_first_and_a_last_day(door: httpx.Client) -> None:
    post(door, [make_event(timestamp=at(days=-back)) for back in (1, 4, 2)])
    merge(door, anonymous_id="a2")
    merge(door, anonymous_id="a1")
    reply = door.get("/v1/users/u-1", headers=READER)

    assert reply.json() == {
        "userId": "u-1",
        "anonymousIds": ["anon_a1", "anon_a2"],
        "firstDay": day(-4),
        "lastDay": day(-1),
    }


def test_an_unknown_user_has_neither(client: httpx.Client) -> None:
    reply = client.get("/v1/users/nobody", headers=READER)

    assert reply.status_code == 200
    assert reply.json() == {"userId": "nobody", "anonymousIds": [], "firstDay": None, "lastDay": None}


def test_an_anonymous_visitor_counts_like_a_user(client: httpx.Client) -> None:
    post(client, [anonymous()])

    assert client.get("/v1/users/anon_a1", headers=READER).json() == {
        "userId": "anon_a1",
        "anonymousIds": [],
        "firstDay": TODAY,
        "lastDay": TODAY,
    }
    assert totals(client, "anon_a1")["events"] == 1
    assert totals(client, "a1")["events"] == 0


# --- the merge -------------------------------------------------------------------------------------------------------


def test_a_merge_moves_every_day(door: httpx.Client) -> None:
    order = {"event": "Order Completed", "properties": {"revenue": "9.99", "currency": "EUR"}}
    post(
        door, [anonymous(timestamp=at(days=-back), context={"sessionId": "s"}, **order) for back in (0, 1, 6)]
    )
    post(
        door, [make_event(context={"sessionId": "s"}), make_event(event="Custom", context={"sessionId": "t"})]
    )
    reply = merge(door)

    assert reply.status_code == 200
    assert reply.json() == {"userId": "u-1", "anonymousId": "anon_a1", "status": "merged", "days": 3}
    answer = metrics(door)
    assert [(numbers["day"], numbers["events"]) for numbers in answer["days"]] == [
        (day(-6), 1),
        (day(-1), 1),
        (TODAY, 3),
    ]
    numbers = answer["totals"]
    assert (numbers["orders"], str(numbers["revenue"]["EUR"]), numbers["sessions"]) == (3, "29.97", 2)
    assert numbers["byEvent"] == {"Custom": 1}


def test_merging_again_changes_nothing_and_answers_the_same(client: httpx.Client) -> None:
    post(client, [anonymous(), anonymous(timestamp=at(days=-1))])
    first, before = merge(client), metrics(client)
    second = merge(client)

    assert first.json() == second.json()
    assert before == metrics(client)
    assert before["totals"]["events"] == 2


def test_an_anonymous_id_that_nobody_has_seen_can_be_merged(client: httpx.Client) -> None:
    assert merge(client).json() == {"userId": "u-1", "anonymousId": "anon_a1", "status": "merged", "days": 0}


def test_the_first_user_keeps_the_anonymous_id(door: httpx.Client) -> None:
    post(door, [anonymous()])
    merge(door)
    reply = merge(door, "u-2")

    assert (reply.status_code, reply.json()["code"]) == (409, "identity_conflict")
    assert "u-1" not in reply.text
    assert totals(door, "u-1")["events"] == 1
    assert totals(door, "u-2")["events"] == 0


@pytest.mark.parametrize("anonymous_id", [None, "", "guest", 1.5, [], {}, "x" * 129, "a/b", True])
def test_a_merge_names_an_anonymous_id(client: httpx.Client, anonymous_id: object) -> None:
    reply = merge(client, anonymous_id=anonymous_id)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_id")


@pytest.mark.parametrize(("body", "status"), [("{}", 422), ("[]", 422), ("nonsense", 400), ("", 400)])
def test_a_merge_takes_an_object(client: httpx.Client, body: str, status: int) -> None:
    assert status == client.post("/v1/users/u-1/merge", content=body, headers=READER).status_code


def test_no_public_id_can_merge_one_user_into_another(client: httpx.Client) -> None:
    post(client, make_events(3, userId="victim"))

    assert merge(client, "anon_thief", "victim").status_code == 422
    assert merge(client, "thief", "victim").json()["days"] == 0
    assert totals(client, "victim")["events"] == 3
    assert totals(client, "thief")["events"] == 0


LINKS = {
    "identify": {"type": "identify", "anonymousId": "a1"},
    "alias": {"type": "alias", "previousId": "a1"},
    "alias of an id with its prefix": {"type": "alias", "previousId": "anon_a1"},
    "alias with an anonymousId alone": {"type": "alias", "anonymousId": "a1"},
    "group": {"type": "group", "anonymousId": "a1"},
    "track": {"anonymousId": "a1"},
    "page": {"type": "page", "anonymousId": "a1"},
    "screen": {"type": "screen", "anonymousId": "a1"},
}


@pytest.mark.parametrize("link", LINKS)
def test_any_event_with_both_ids_merges(client: httpx.Client, table: Table, link: str) -> None:
    post(client, [anonymous(), anonymous(timestamp=at(days=-2))])
    reply = post(client, [make_event(**LINKS[link])])
    is_counted = LINKS[link].get("type", "track") in ("track", "page", "screen")

    assert counts(reply) == (1, 0, 0)
    assert 2 + is_counted == totals(client)["events"]
    assert builders.is_merged(table, "anon_a1")
    assert not any(pk.startswith("PENDING#") for pk, _ in builders.items(table))


def test_an_identify_without_an_anonymous_id_is_accepted_and_stores_nothing(
    client: httpx.Client, table: Table
) -> None:
    assert counts(post(client, [make_event(type="identify"), anonymous(type="identify")])) == (2, 0, 0)
    assert builders.items(table) == {}


def test_the_retry_of_an_anonymous_event_that_carries_the_user_by_then_counts_once(
    door: httpx.Client,
) -> None:
    events = [anonymous() for _ in range(3)]
    post(door, events)
    reply = post(door, [event | {"userId": "u-1"} for event in events])

    assert counts(reply) == (0, 3, 0)
    assert totals(door)["events"] == 3


def test_late_anonymous_events_follow_to_the_user(door: httpx.Client) -> None:
    early = anonymous()
    post(door, [early])
    merge(door)
    late = [anonymous(), anonymous(timestamp=at(days=-3)), early]

    assert counts(post(door, late)) == (2, 1, 0)
    assert counts(post(door, late)) == (0, 3, 0)
    assert totals(door)["events"] == 3
    assert metrics(door, "anon_a1")["userId"] == "u-1"


def test_a_merged_anonymous_id_answers_for_its_user(door: httpx.Client) -> None:
    post(door, [anonymous(), make_event()])
    merge(door)
    answer = metrics(door, "anon_a1")
    user = door.get("/v1/users/anon_a1", headers=READER).json()

    assert (answer["userId"], answer["requestedId"], answer["totals"]["events"]) == ("u-1", "anon_a1", 2)
    assert (user["userId"], user["requestedId"], user["anonymousIds"]) == ("u-1", "anon_a1", ["anon_a1"])


def test_many_anonymous_ids_become_one_user(client: httpx.Client) -> None:
    for number in range(5):
        post(client, [make_event(userId=..., anonymousId=f"a{number}"), make_event(anonymousId=f"a{number}")])

    assert totals(client)["events"] == 10


def test_one_batch_may_hold_a_visit_and_its_login(client: httpx.Client) -> None:
    batch = [
        anonymous(),
        make_event(type="identify", anonymousId="a1"),
        make_event(anonymousId="a1"),
        anonymous(),
    ]

    assert counts(post(client, batch)) == (4, 0, 0)
    assert counts(post(client, batch)) == (1, 3, 0)
    assert totals(client)["events"] == 3


# --- conflicts in a batch --------------------------------------------------------------------------------------------


@pytest.fixture
def taken(client: httpx.Client) -> httpx.Client:
    """anon_a1 is u-1's, with one event of its own."""
    post(client, [anonymous(messageId="first")])
    merge(client)
    return client


@pytest.mark.parametrize("link", [name for name in LINKS if name.startswith(("identify", "alias"))])
def test_an_identify_or_alias_of_another_users_id_is_rejected(taken: httpx.Client, link: str) -> None:
    reply = post(taken, [make_event(userId="u-2", **LINKS[link]), make_event(userId="u-2")])

    assert rejections(reply) == [(0, "identity_conflict")]
    assert counts(reply) == (1, 0, 1)
    assert "u-1" not in reply.text


def test_a_single_identify_is_no_409(taken: httpx.Client) -> None:
    reply = taken.post(
        "/v1/identify", json=make_event(type=..., userId="u-2", anonymousId="a1"), headers=WRITER
    )

    assert rejections(reply) == [(0, "identity_conflict")]


def test_any_other_event_counts_for_the_user_it_carries(taken: httpx.Client) -> None:
    events = [
        make_event(userId="u-2", anonymousId="a1"),
        make_event(userId="u-2", anonymousId="a1", type="page"),
    ]
    first, second = post(taken, events), post(taken, events)
    group = post(taken, [make_event(type="group", userId="u-2", anonymousId="a1")])

    assert [counts(reply) for reply in (first, second, group)] == [(2, 0, 0), (0, 2, 0), (1, 0, 0)]
    assert totals(taken, "u-2")["events"] == 2
    assert totals(taken, "u-1")["events"] == 1


def test_but_not_if_that_other_user_has_seen_it_already(taken: httpx.Client) -> None:
    retry = make_event(messageId="first", userId="u-2", anonymousId="a1")

    assert counts(post(taken, [retry])) == (0, 1, 0)
    assert totals(taken, "u-2")["events"] == 0


def test_two_users_in_one_batch_leave_the_id_to_the_first(client: httpx.Client) -> None:
    reply = post(
        client, [make_event(type="identify", userId=f"u-{user}", anonymousId="a1") for user in (1, 2)]
    )

    assert rejections(reply) == [(1, "identity_conflict")]
    assert client.get("/v1/users/anon_a1", headers=READER).json()["userId"] == "u-1"


# --- merges that died ------------------------------------------------------------------------------------------------


def begun(table: Table, settings: Settings) -> None:
    """A merge of a1 into u-1 whose process died after its first step."""
    work = Work(table.calls(time.monotonic() + 10), settings, NOON)
    identities.link(work, "anon_a1", "u-1", epoch_ms(NOON))


def test_a_query_finishes_a_merge_under_way(client: httpx.Client, table: Table, settings: Settings) -> None:
    post(client, [anonymous()])
    begun(table, settings)
    answer = metrics(client, "anon_a1")

    assert (answer["userId"], answer["requestedId"], answer["totals"]["events"]) == ("u-1", "anon_a1", 1)
    assert builders.is_merged(table, "anon_a1")


def test_the_next_identify_finishes_it(client: httpx.Client, table: Table, settings: Settings) -> None:
    post(client, [anonymous()])
    begun(table, settings)
    post(client, [make_event(type="identify", anonymousId="a1")])

    assert builders.is_merged(table, "anon_a1")
    assert totals(client)["events"] == 1


def test_an_event_finishes_it_after_more_than_a_minute_and_not_before(
    table: Table, settings: Settings
) -> None:
    clock = Clock()
    with lambda_client(make_app(settings, table, clock)) as client:
        post(client, [anonymous()])
        begun(table, settings)
        clock.move(minutes=1)
        post(client, [anonymous()])
        before = builders.is_merged(table, "anon_a1")
        clock.move(seconds=1)
        reply = post(client, [anonymous()])

        assert not before
        assert builders.is_merged(table, "anon_a1")
        assert counts(reply) == (1, 0, 0)
        assert totals(client)["events"] == 3


def test_until_then_its_events_stay_on_the_anonymous_day(
    client: httpx.Client, table: Table, settings: Settings
) -> None:
    begun(table, settings)
    post(client, [anonymous()])

    assert totals(client)["events"] == 0
    assert ("USER#anon_a1", f"DAY#{TODAY}") in builders.items(table)


def test_a_merge_marks_a_day_full_that_would_pass_five_times_the_cap(table: Table) -> None:
    with lambda_client(make_app(make_settings(max_events_per_user_day=4), table)) as client:
        for number in range(6):
            sent = [make_event(userId=..., anonymousId=f"a{number}") for _ in range(4)]
            post(client, sent)
            merge(client, anonymous_id=f"a{number}")
        late = [make_event(), make_event(userId=..., anonymousId="a5"), *sent]

        assert totals(client)["events"] == 24
        assert counts(post(client, late)) == (0, 0, 6)
        assert counts(post(client, [make_event(timestamp=at(days=-1))])) == (1, 0, 0)
        assert totals(client)["events"] == 25


def test_the_seals_of_a_merge_expire_after_the_window(client: httpx.Client, table: Table) -> None:
    post(client, [anonymous()])
    merge(client)
    seals = [
        item
        for (pk, sk), item in builders.items(table).items()
        if pk == "USER#anon_a1" and sk.startswith("DAY#")
    ]

    # Seven days back, today, one ahead, and one more on each side.
    assert len(seals) == 11
    for seal in seals:
        assert seal["mergedInto"] == {"S": "u-1"}
        assert int(seal["expiresAt"]["N"]) > NOON.timestamp() + 86_400
        assert set(seal) <= {"mergedInto", "startedAt", "expiresAt", "revision", "schema"}
        # By it a late event tells a merge of before an erasure from one of after it.
        assert seal["startedAt"] == {"S": "2026-11-22T12:00:00.000+00:00"}


def test_a_table_remembers_its_time_zone(table: Table) -> None:
    calls = table.calls(time.monotonic() + 10)

    assert store.remembered_timezone(calls, "Europe/Berlin") == "Europe/Berlin"
    assert store.remembered_timezone(calls, "UTC") == "Europe/Berlin"


# --- items of other versions -----------------------------------------------------------------------------------------


def _store(table: Table, key: tuple[str, str], item: dict[str, Any]) -> None:
    whole = {"PK": {"S": key[0]}, "SK": {"S": key[1]}} | item
    table.client.put_item(TableName=table.name, Item=whole)


def test_items_from_before_the_schema_number_read_the_same(client: httpx.Client, table: Table) -> None:
    post(client, [make_event(userId=..., anonymousId="a1")])
    for key, item in builders.items(table).items():
        assert item.pop("schema") == {"N": "1"}, key
        _store(table, key, item)
    merged = client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)

    assert (merged.status_code, merged.json()["days"]) == (200, 1)
    assert client.get("/v1/users/u-1/metrics", headers=READER).json()["totals"]["events"] == 1


def test_items_of_a_newer_version_are_not_guessed_at(client: httpx.Client, table: Table) -> None:
    post(client, [make_event(userId="u-1")])
    for key, item in builders.items(table).items():
        _store(table, key, item | {"schema": {"N": "2"}})
    reading = client.get("/v1/users/u-1/metrics", headers=READER)

    assert (reading.status_code, reading.json()["code"]) == (503, "misconfigured")


def test_writing_keeps_the_number_of_a_newer_version(client: httpx.Client, table: Table) -> None:
    post(client, [make_event(userId="u-1", messageId="m-1")])
    ((key, item),) = builders.items(table).items()
    _store(table, key, item | {"schema": {"N": "2"}})
    post(client, [make_event(userId="u-1", messageId="m-2")])
    ((_, item),) = builders.items(table).items()

    assert (item["schema"], item["events"]) == ({"N": "2"}, {"N": "2"})
