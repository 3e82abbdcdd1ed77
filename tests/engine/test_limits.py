"""What only an engine with DynamoDB's limits can tell: expressions, sets and items at their largest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from urllib.parse import quote

import pytest

import service.days
from service.dynamodb import Table
from service.metrics import COUNTERS
from service.models import COUNTER_ATTRIBUTES, DayItem
from service.money import DECIMALS
from tests import faults
from tests.engine.conftest import NOON
from tests.engine.facts import Fact, report
from tests.engine.largest import (
    CURRENCIES,
    IDS_PER_WRITE,
    NOW,
    OTHER_CURRENCIES,
    eighty_orders_and_ten_names,
    event_of,
    item_bytes,
    long_names,
    long_text,
    money,
    ninety_names,
    ninety_of_everything,
    ninety_orders,
)
from tests.engine.shop import Json, Shop, opened

TODAY = NOON.date().isoformat()
NAMES_MAX = 100
# DynamoDB's.
ACTIONS_MAX = 100
OPERATORS_MAX = 300
ITEM_BYTES_MAX = 400 * 1024
# Of a user's day, by merges; and of the sessions as many more as there may be events.
IDS_MAX, SESSIONS_MERGED_MAX, SESSIONS_MAX = 13_500, 13_500, 23_500
# Of those ids, the ones of events that count on another user's day.
ELSEWHERE_MAX = 1_500
OPERATOR = re.compile(r"\b(AND|OR|NOT|contains|size|attribute_\w+)\b|<>|<=|>=|[<>=]")


@pytest.fixture
def shop(small_window_shop: Shop) -> Shop:
    return small_window_shop


@contextmanager
def _capped(table: Table, events_max: int, **variables: str) -> Iterator[Shop]:
    variables |= {"MAX_EVENT_AGE_DAYS": "1", "MAX_EVENTS_PER_USER_DAY": str(events_max)}
    with opened(table, NOON, **variables) as shop:
        shop.warm_up()
        yield shop


def _send(shop: Shop, identity: Json, events: list[Json]) -> Json:
    return shop.send(*(event | identity for event in events))


# --- expressions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ninety_names, ninety_of_everything])
@pytest.mark.parametrize("is_new", [True, False], ids=["a new day", "a day with events"])
def test_ninety_events_fit_in_one_update_whatever_they_are(
    shop: Shop, prefix: str, make: Callable[[], list[Json]], is_new: bool
) -> None:
    events = make()
    if not is_new:
        _send(shop, {"userId": prefix}, [event_of(1_000, "Newsletter Signed Up")])
    with faults.injected() as log:
        reply = _send(shop, {"userId": prefix}, events)
    totals = shop.metrics(prefix, TODAY, TODAY)["totals"]

    assert log.operations == ["UpdateItem"]
    assert (reply["accepted"], reply["rejectedCount"]) == (IDS_PER_WRITE, 0)
    assert IDS_PER_WRITE + (not is_new) == totals["events"]
    assert totals["events"] == totals["sessions"]
    if make is ninety_of_everything:
        every_currency = dict.fromkeys(CURRENCIES, Decimal(10**12))
        assert (every_currency, every_currency) == (totals["revenue"], totals["refunds"])
        assert len(CURRENCIES) * 10**6 == totals["itemsSold"]
        assert not [name for name, number in totals.items() if number == 0]


def test_ninety_duplicates_of_everything_are_found_in_one_update_and_no_more(shop: Shop, prefix: str) -> None:
    events = ninety_of_everything()
    _send(shop, {"userId": prefix}, events)
    with faults.injected() as log:
        reply = _send(shop, {"userId": prefix}, events)

    assert log.operations == ["UpdateItem"]
    assert (reply["accepted"], reply["duplicates"]) == (0, IDS_PER_WRITE)


def test_the_engine_refuses_an_update_as_large_as_dynamodb_would_refuse(
    shop: Shop, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without this the two tests above would prove nothing.
    monkeypatch.setattr(service.days, "IDS_PER_WRITE_MAX", 110)
    events = [event_of(number, "Product Viewed") | {"userId": prefix} for number in range(110)]

    assert shop.request("POST", "/v1/batch", {"batch": events}).status_code == 500
    assert shop.item(f"USER#{prefix}", f"DAY#{TODAY}") is None


def test_the_largest_days_merge(shop: Shop, prefix: str) -> None:
    user, visitor = {"userId": prefix}, {"anonymousId": prefix}
    mine = [event_of(number, name) for number, name in enumerate(long_names(NAMES_MAX))]
    theirs = [event_of(2_000 + number, name) for number, name in enumerate(long_names(NAMES_MAX, NAMES_MAX))]
    _send(shop, user, mine + money(1_000))
    _send(shop, visitor, theirs + money(3_000, OTHER_CURRENCIES))
    reply = shop.post(f"/v1/users/{prefix}/merge", {"anonymousId": prefix})
    totals = shop.metrics(prefix, TODAY, TODAY)["totals"]
    other = _send(shop, user, [event_of(4_000, "Order Completed", revenue=1, currency="AUD")])
    known = _send(shop, user, [event_of(4_001, "Order Completed", revenue=1, currency="TRY")])

    assert (reply["status"], reply["days"]) == ("merged", 1)
    # The user's own names stay, the visitor's are counted together.
    assert dict.fromkeys(long_names(NAMES_MAX), 1) | {"other": NAMES_MAX} == totals["byEvent"]
    every_currency = dict.fromkeys(CURRENCIES + OTHER_CURRENCIES, Decimal(10**12))
    assert (every_currency, every_currency) == (totals["revenue"], totals["refunds"])
    assert 2 * (NAMES_MAX + 16) == totals["events"] == totals["sessions"]
    # Money that was counted is never lost; new currencies find no room.
    assert [rejected["code"] for rejected in other["rejected"]] == ["day_full"]
    assert known["accepted"] == 1


@pytest.mark.parametrize("make", [ninety_orders, eighty_orders_and_ten_names])
def test_the_widest_write_is_taken(shop: Shop, prefix: str, make: Callable[[], list[Json]]) -> None:
    """Ninety events of an import, whose orders are each claimed, beside the day of another user who has the visitor."""
    shop.post(f"/v1/users/{prefix}-other/merge", {"anonymousId": prefix})
    user = long_text(prefix)
    events = [event | {"userId": user, "anonymousId": prefix} for event in _of_its_own(prefix, make())]
    orders = sum(event["event"] == "Order Completed" for event in events)
    with faults.injected() as log:
        reply = shop.post("/v1/import", {"batch": events})
        again = shop.post("/v1/import", {"batch": events})

    assert (reply["accepted"], reply["rejectedCount"]) == (IDS_PER_WRITE, 0)
    assert (again["duplicates"], again["rejectedCount"]) == (IDS_PER_WRITE, 0)
    # The two days, a check of either user, and the claims.
    assert log.operations == ["GetItem", "TransactWriteItems"] * 2
    actions = log.calls[1].request["TransactItems"]
    assert 2 + 2 + orders == len(actions) <= ACTIONS_MAX
    assert max(_operators(action) for action in actions) <= OPERATORS_MAX
    totals = shop.metrics(user, TODAY, TODAY)["totals"]
    assert (IDS_PER_WRITE, orders, orders * 10**6) == (
        totals["events"],
        totals["orders"],
        totals["itemsSold"],
    )
    assert set(CURRENCIES) == totals["revenue"].keys()


def _of_its_own(prefix: str, events: list[Json]) -> list[Json]:
    """An order is claimed for the whole shop, which the tests of this file share."""
    for event in events:
        if "orderId" in event["properties"]:
            event["properties"]["orderId"] = (prefix + event["properties"]["orderId"])[:128]
    return events


def _operators(action: Json) -> int:
    """In the condition of an action, as DynamoDB counts them: functions too."""
    (request,) = action.values()
    return len(OPERATOR.findall(request.get("ConditionExpression", "")))


@pytest.mark.parametrize("way", ["sent", "merged"])
def test_names_find_the_room_that_is_left(shop: Shop, prefix: str, way: str) -> None:
    mine = [event_of(number, f"mine {number}") for number in range(60)]
    theirs = [event_of(100 + number, f"theirs {number}") for number in range(60)]
    common = [event_of(200, "mine 7"), event_of(201, "mine 8")]
    _send(shop, {"userId": prefix}, mine)
    if way == "sent":
        _send(shop, {"userId": prefix}, theirs + common)
    else:
        _send(shop, {"anonymousId": prefix}, theirs + common)
        shop.post(f"/v1/users/{prefix}/merge", {"anonymousId": prefix})
    by_event = shop.metrics(prefix, TODAY, TODAY)["totals"]["byEvent"]

    assert (by_event["mine 7"], by_event["mine 8"], by_event["other"]) == (2, 2, 20)
    assert len(by_event) == NAMES_MAX + 1
    assert sum(by_event.values()) == 122


# --- how much a day holds ---------------------------------------------------------------------------------------------


def _facts(prefix: str, count: int) -> list[Fact]:
    return [
        Fact(f"{prefix}-{number}", NOW, "Order Completed", f"{prefix}-{number}", Decimal("0.01"), quantity=1)
        for number in range(count)
    ]


def test_a_full_day_refuses_what_is_new_and_knows_what_is_not(table: Table, prefix: str) -> None:
    facts = _facts(prefix, 12)
    with _capped(table, 10) as shop:
        first = shop.send(*(fact.event(user_id=prefix) for fact in facts[:8]))
        # Eight of these are no news, two fit, two do not.
        second = shop.send(*(fact.event(user_id=prefix) for fact in facts))
        third = shop.send(*(fact.event(user_id=prefix) for fact in reversed(facts)))
        metrics = shop.metrics(prefix, TODAY, TODAY)

    assert (first["accepted"], second["accepted"], second["duplicates"]) == (8, 2, 8)
    assert [(r["index"], r["code"]) for r in second["rejected"]] == [(10, "day_full"), (11, "day_full")]
    assert (third["accepted"], third["duplicates"], third["rejectedCount"]) == (0, 10, 2)
    assert report(facts[:10]) == metrics


def test_merges_beyond_five_times_the_cap_keep_the_numbers_and_close_the_day(
    table: Table, prefix: str
) -> None:
    cap, people = 10, 7
    facts = {f"{prefix}-{number}": _facts(f"{prefix}-{number}", cap) for number in range(people)}
    everything = [fact for group in facts.values() for fact in group]
    with _capped(table, cap) as shop:
        for visitor, group in facts.items():
            shop.send(*(fact.event(anonymous_id=visitor) for fact in group))
        is_full = []
        for visitor in facts:
            reply = shop.post(f"/v1/users/{prefix}/merge", {"anonymousId": visitor})
            assert (reply["status"], reply["days"]) == ("merged", 1)
            is_full.append("full" in (shop.item(f"USER#{prefix}", f"DAY#{TODAY}") or {}))
        metrics = shop.metrics(prefix, TODAY, TODAY)
        late = [Fact(f"{prefix}-late-{number}", NOW, "Product Viewed") for number in range(3)]
        answers = [
            shop.send(late[0].event(user_id=prefix)),
            shop.send(late[1].event(anonymous_id=f"{prefix}-0")),
            shop.send(late[2].event(anonymous_id=f"{prefix}-6", user_id=prefix)),
        ]
        again = [
            shop.send(*(fact.event(anonymous_id=visitor) for fact in group))
            for visitor, group in facts.items()
        ]

        assert is_full == [False] * 5 + [True] * 2
        assert report(everything) == metrics
        assert [[r["code"] for r in answer["rejected"]] for answer in answers] == [["day_full"]] * 3
        # Those whose ids are no longer kept cannot be told from new ones; none of them counts.
        assert [0] * people == [answer["accepted"] for answer in again]
        assert metrics == shop.metrics(prefix, TODAY, TODAY)


def test_a_day_of_two_thousand_events_is_far_from_the_limit_of_an_item(shop: Shop, prefix: str) -> None:
    facts = _facts(prefix, 2_000)
    events = [
        {name: value for name, value in fact.event(user_id=prefix).items() if name != "properties"}
        for fact in facts
    ]
    for start in (0, 1_000):
        assert shop.send(*events[start : start + 1_000])["accepted"] == 1_000
    more = shop.send(event_of(1, "Product Viewed") | {"userId": prefix})
    item = shop.item(f"USER#{prefix}", f"DAY#{TODAY}")

    assert item is not None
    assert 2_000 == len(item["seen"]["BS"]) == len(item["sessions"]["BS"])
    assert item_bytes(item) < 25 * 1024
    assert [rejected["code"] for rejected in more["rejected"]] == ["day_full"]


def _hashes(count: int, first: int = 0) -> Json:
    return {"BS": [number.to_bytes(6, "big") for number in range(first, first + count)]}


def _stored_day(
    shop: Shop, distinct_id: str, *, events: int, seen: Json, sessions: Json, **more: Json
) -> None:
    """A day as many requests would leave it."""
    shop.table.client.put_item(
        TableName=shop.table.name,
        Item={
            "PK": {"S": f"USER#{distinct_id}"},
            "SK": {"S": f"DAY#{TODAY}"},
            "events": {"N": str(events)},
            "productViews": {"N": str(events)},
            "seen": seen,
            "sessions": sessions,
            "revision": {"N": "1"},
            **more,
        },
    )


@pytest.mark.parametrize(
    ("cap", "events", "seen", "more"),
    [
        # A full day, and a visitor with another: too many ids and sessions.
        (10_000, 10_000, 10_000, {}),
        # Twenty-nine on a day that is closed since the sixth and takes no more sessions, and a thirtieth.
        (2_000, 58_000, 10_000, {"full": {"BOOL": True}}),
    ],
    ids=["at the greatest cap", "at the default cap, the day closed"],
)
def test_a_merge_fits_in_an_item_also_when_every_event_has_a_session_of_its_own(
    table: Table, prefix: str, cap: int, events: int, seen: int, more: Json
) -> None:
    with _capped(table, cap) as shop:
        sessions = min(events, SESSIONS_MERGED_MAX)
        _stored_day(shop, prefix, events=events, seen=_hashes(seen), sessions=_hashes(sessions), **more)
        _stored_day(
            shop, f"anon_{prefix}", events=cap, seen=_hashes(cap, 100_000), sessions=_hashes(cap, 100_000)
        )
        answer = shop.request("POST", f"/v1/users/{prefix}/merge", {"anonymousId": prefix})

        assert answer.status_code == 200, answer.text
        totals = shop.metrics(prefix, TODAY, TODAY)["totals"]
        assert (events + cap, sessions) == (totals["events"], totals["sessions"])


def _half_of_the_fullest(half: int) -> Json:
    """What one half of the fullest day holds: either half has names, orders and money of its own."""
    codes = sorted(DECIMALS)[half::2]
    texts = [chr(0x1F400 + number) + long_text("")[1:] for number in range(NAMES_MAX)][half::2]
    # What ten thousand days at the cap would come to, which other merges may have brought.
    most = {"N": str(10**24 - 1)}
    families = [(DayItem.revenue, codes), (DayItem.refunds, codes), (DayItem.by_event, [*texts, "other"])]
    counters = {COUNTER_ATTRIBUTES[name].attr_name: most for name in COUNTERS if name != "events"}
    return {
        **counters,
        **{family[member].attr_name: most for family, members in families for member in members},
        "names": {"SS": texts},
        "currencies": {"SS": codes},
        "orderIds": {"SS": texts},
        "schema": {"N": "1"},
        "expiresAt": {"N": "2067465600"},
        "erasedAt": {"N": "1767225600123"},
    }


def test_the_fullest_day_fits_in_an_item(table: Table, prefix: str) -> None:
    """All the ids, sessions, names, orders and currencies that merges and events can bring to a day.

    Visitors who sent the same ids in sessions of their own were merged: sessions and hardly an id. Then others said
    that they had this user's visitor, as often as a day takes note of it. Then came as many events as a day takes, of
    which the last is sent here, and visitors who fill it with ids, and one too many.
    """
    user, cap = long_text(prefix), 10_000
    visitors = {prefix: IDS_MAX - cap, f"{prefix}-late": 1}
    with _capped(table, cap, DAY_TTL_DAYS="3650") as shop:
        shop.post(f"/v1/users/{quote(user)}/merge", {"anonymousId": f"{prefix}-shared"})
        mine = {
            "seen": _hashes(cap - 2),
            "elsewhere": _hashes(ELSEWHERE_MAX - 1),
            "sessions": _hashes(SESSIONS_MAX - 1),
        }
        _stored_day(shop, user, events=cap - ELSEWHERE_MAX, **mine, **_half_of_the_fullest(0))
        both = {"type": "page", "anonymousId": f"{prefix}-shared", "userId": f"{prefix}-other"}
        others = [shop.send(both | {"messageId": f"{prefix}-{number}"}) for number in range(2)]
        last = shop.send(
            {"type": "page", "messageId": prefix, "userId": user, "context": {"sessionId": prefix}}
        )
        for number, (visitor, events) in enumerate(visitors.items()):
            ids = _hashes(events, (number + 1) * 100_000)
            _stored_day(
                shop, f"anon_{visitor}", events=events, seen=ids, sessions=ids, **_half_of_the_fullest(1)
            )
        # Erased long before: a fence is of an earlier time than the merge.
        replies = [
            shop.post(f"/v1/users/{quote(user)}/merge", {"anonymousId": visitor}) for visitor in visitors
        ]
        item = shop.item(f"USER#{user}", f"DAY#{TODAY}")

    assert [one["accepted"] for one in others] == [1, 0]
    assert [rejected["code"] for rejected in others[1]["rejected"]] == ["day_full"]
    assert last["accepted"] == 1
    assert [reply["status"] for reply in replies] == ["merged"] * 2
    assert item is not None
    sizes = [len(item[name]["BS"]) for name in ("seen", "sessions", "elsewhere")]
    assert sizes == [IDS_MAX, SESSIONS_MAX, ELSEWHERE_MAX]
    assert [len(item[name]["SS"]) for name in ("names", "orderIds")] == [NAMES_MAX] * 2
    assert set(DECIMALS) == set(item["currencies"]["SS"])
    assert {512} == {len(text.encode()) for name in ("names", "orderIds") for text in item[name]["SS"]}
    assert {"full", "expiresAt", "erasedAt", "schema"} <= item.keys()
    margin = ITEM_BYTES_MAX - item_bytes(item)
    print(f"{item_bytes(item):,} bytes of {ITEM_BYTES_MAX:,}: {margin:,} left")
    assert margin > 0
