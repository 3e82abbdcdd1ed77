"""Each kind of request a shop makes: who is there before, what it asks of the database, what must be counted after it.

Everybody in a case has an id that begins with the same prefix, so that cases can share a table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import pytest

from tests import faults
from tests.engine.conftest import NOON
from tests.engine.facts import Fact, numbers, report
from tests.engine.shop import Json, Shop

FIRST, YESTERDAY, TODAY, TOMORROW, LAST = (
    (NOON + timedelta(days=days)).date().isoformat() for days in (-2, -1, 0, 1, 2)
)
WINDOW = [FIRST, YESTERDAY, TODAY, TOMORROW, LAST]
# Long before an event may be, except in an import.
OLD, OLDER = ((NOON - timedelta(days=days)).date().isoformat() for days in (200, 201))
RANGE = f"from={OLDER}&to={LAST}"

GET, QUERY, PUT, UPDATE = "GetItem", "Query", "PutItem", "UpdateItem"
TRANSACT, MANY = "TransactWriteItems", "BatchGetItem"
MERGE = [TRANSACT, QUERY, PUT, TRANSACT, TRANSACT, PUT, PUT, TRANSACT]
# A fence on each day of the window and one more on either side; then what lies before the window goes, nine at a time.
# Then raw events are looked for, which may be there from when they were kept.
ERASE_DAYS = [QUERY, *[PUT] * 7, TRANSACT, QUERY]


@dataclass
class Case:
    """A request on people of its own, and what must be counted afterwards."""

    method: str
    path: str
    body: Json | None
    # Everybody's in the end. Whoever is erased has none.
    facts: dict[str, set[Fact]]
    # Whose each anonymous id is by then.
    aliases: dict[str, str] = field(default_factory=dict)
    # What the answer that decides it must say, page after page.
    answered: Callable[[str], None] = lambda text: None
    # What else is asked of the shop in the end; it may count more.
    afterwards: Callable[[Shop], None] = lambda shop: None


Prepare = Callable[[Shop, str], Case]


# --- what happens -----------------------------------------------------------------------------------------------------


def facts_of(
    prefix: str, day: str, count: int, name: str = "Order Completed", *, hour: int = 13
) -> list[Fact]:
    """So many of a kind on one day, no two alike; an hour after the shop's noon, if not said otherwise."""
    return [
        Fact(
            f"{prefix}-{name}-{day}-{number}",
            f"{day}T{hour}:{number % 60:02}:00Z",
            name,
            session=f"{prefix}-{number % 3}",
            amount=Decimal("0.10") * (number + 1) if name == "Order Completed" else None,
            quantity=number + 1 if name == "Order Completed" else 0,
        )
        for number in range(count)
    ]


def order(fact: Fact, order_id: str, *, user_id: str | None = None, anonymous_id: str | None = None) -> Json:
    """The event that reports it as the order of this id."""
    event = fact.event(user_id=user_id, anonymous_id=anonymous_id)
    event["properties"] |= {"orderId": order_id}
    return event


def _counted(events: int) -> Callable[[str], None]:
    """Each of them is accepted, or was before."""

    def check(text: str) -> None:
        reply = json.loads(text)
        assert (events, 0) == (reply["accepted"] + reply["duplicates"], reply["rejectedCount"])

    return check


def _batch(path: str, events: Sequence[Json], facts: dict[str, set[Fact]], aliases: dict[str, str]) -> Case:
    return Case("POST", path, {"batch": events}, facts, aliases, _counted(len(events)))


# --- counting ---------------------------------------------------------------------------------------------------------


def one_user(shop: Shop, prefix: str) -> Case:
    facts = facts_of(prefix, TODAY, 100)
    return _batch("/v1/batch", [fact.event(user_id=prefix) for fact in facts], {prefix: set(facts)}, {})


def many_users_and_days(shop: Shop, prefix: str) -> Case:
    owned: dict[str, set[Fact]] = {}
    batch = []
    for user in ("u-1", "u-2"):
        facts = [*facts_of(prefix + user, YESTERDAY, 3), *facts_of(prefix + user, TODAY, 3)]
        owned[prefix + user] = set(facts)
        batch += [fact.event(user_id=prefix + user) for fact in facts]
    visitor = facts_of(prefix + "a", TODAY, 3)
    batch += [fact.event(anonymous_id=prefix + "a") for fact in visitor]
    owned[f"anon_{prefix}a"] = set(visitor)
    return _batch("/v1/batch", batch, owned, {})


def orders(shop: Shop, prefix: str) -> Case:
    """Each counts once for the whole shop. Two of them were counted before, by other events; one of another user."""
    user, other = prefix + "u", prefix + "v"
    before = facts_of(prefix + "before", TODAY, 2)
    shop.send(
        order(before[0], prefix + "0", user_id=user), order(before[1], prefix + "1", user_id=prefix + "w")
    )
    first, second = facts_of(user, TODAY, 5), facts_of(other, YESTERDAY, 2)
    batch = [order(fact, f"{prefix}{number}", user_id=user) for number, fact in enumerate(first)]
    # Of one batch too, an order counts once.
    batch.append(order(facts_of(user + "again", TODAY, 1)[0], f"{prefix}4", user_id=user))
    batch += [order(fact, f"{prefix}second-{number}", user_id=other) for number, fact in enumerate(second)]
    owned = {user: {before[0], *first[2:]}, other: set(second), prefix + "w": {before[1]}}
    return _batch("/v1/batch", batch, owned, {})


def imported(shop: Shop, prefix: str) -> Case:
    """Days of long ago and of now, with orders: of a user, of a visitor, and of a visitor who became a user."""
    user = prefix + "u"
    known = visitor_and_user(shop, prefix)
    shop.post(f"/v1/users/{user}/merge", {"anonymousId": prefix + "a"})
    of_user, of_visitor = facts_of(prefix + "1", OLD, 3), facts_of(prefix + "2", OLD, 3)
    of_merged = [*facts_of(prefix + "3", OLDER, 2), *facts_of(prefix + "3", TODAY, 1)]
    batch = [order(fact, fact.message_id, user_id=user) for fact in of_user]
    batch += [fact.event(anonymous_id=prefix + "b") for fact in of_visitor]
    batch += [fact.event(anonymous_id=prefix + "a") for fact in of_merged]
    owned = {user: {*known, *of_user, *of_merged}, f"anon_{prefix}b": set(of_visitor)}
    return _batch("/v1/import", batch, owned, {prefix + "a": user})


# --- becoming a user --------------------------------------------------------------------------------------------------


def visitor_and_user(shop: Shop, prefix: str) -> set[Fact]:
    """A visitor of two days, a user who was here before."""
    visitor = [*facts_of(prefix + "a", YESTERDAY, 3), *facts_of(prefix + "a", TODAY, 3)]
    user = facts_of(prefix + "u", TODAY, 2)
    shop.send(
        *(fact.event(anonymous_id=prefix + "a") for fact in visitor),
        *(fact.event(user_id=prefix + "u") for fact in user),
    )
    return {*visitor, *user}


def first_event_with_both_ids(shop: Shop, prefix: str) -> Case:
    facts = visitor_and_user(shop, prefix)
    seen, new = (
        min(facts, key=lambda fact: fact.message_id),
        facts_of(prefix, TODAY, 1, "Product Viewed")[0],
    )
    # As browsers do: an event sent anonymous is sent again with the user's id; and one that is new.
    batch = [fact.event(user_id=prefix + "u", anonymous_id=prefix + "a") for fact in (seen, new)]
    return _batch("/v1/batch", batch, {prefix + "u": facts | {new}}, {prefix + "a": prefix + "u"})


def identify(shop: Shop, prefix: str) -> Case:
    facts = visitor_and_user(shop, prefix)
    body = {"userId": prefix + "u", "anonymousId": prefix + "a", "messageId": prefix}
    aliases = {prefix + "a": prefix + "u"}
    return Case("POST", "/v1/identify", body, {prefix + "u": facts}, aliases, _counted(1))


def post_merge(shop: Shop, prefix: str) -> Case:
    def answered(text: str) -> None:
        reply = json.loads(text)
        assert (reply["status"], reply["days"]) == ("merged", 2)

    facts = visitor_and_user(shop, prefix)
    aliases = {prefix + "a": prefix + "u"}
    path, body = f"/v1/users/{prefix}u/merge", {"anonymousId": prefix + "a"}
    return Case("POST", path, body, {prefix + "u": facts}, aliases, answered)


def both_ids_of_another_users_visitor(shop: Shop, prefix: str) -> Case:
    facts = visitor_and_user(shop, prefix)
    shop.post(f"/v1/users/{prefix}u/merge", {"anonymousId": prefix + "a"})
    seen, new = min(facts, key=lambda fact: fact.message_id), facts_of(prefix, YESTERDAY, 1)[0]
    batch = [fact.event(user_id=prefix + "v", anonymous_id=prefix + "a") for fact in (seen, new)]
    owned = {prefix + "u": facts, prefix + "v": {new}}
    return _batch("/v1/batch", batch, owned, {prefix + "a": prefix + "u"})


def dead_merge(shop: Shop, prefix: str, call: int = 2) -> set[Fact]:
    """A visitor and a user whose merge died after this call: the second says that they are one."""
    case = identify(shop, prefix)
    with faults.injected(faults.Fault("kill_after", call=call)), pytest.raises(faults.Killed):
        shop.request(case.method, case.path, case.body)
    return case.facts[prefix + "u"]


def event_on_a_day_that_moved(shop: Shop, prefix: str) -> Case:
    facts = dead_merge(shop, prefix, 8)
    new = facts_of(prefix, TODAY, 1)[0]
    body = new.event(anonymous_id=prefix + "a")
    return Case("POST", "/v1/track", body, {prefix + "u": facts | {new}}, {}, _counted(1))


# --- questions that finish a merge whose process died -----------------------------------------------------------------


def query(shop: Shop, prefix: str) -> Case:
    facts = dead_merge(shop, prefix)

    def answered(text: str) -> None:
        reply = json.loads(text, parse_float=Decimal)
        assert report(facts) == {"days": reply["days"], "totals": reply["totals"]}

    aliases = {prefix + "a": prefix + "u"}
    path = f"/v1/users/anon_{prefix}a/metrics?{RANGE}"
    return Case("GET", path, None, {prefix + "u": facts}, aliases, answered)


def export(shop: Shop, prefix: str) -> Case:
    facts, user = dead_merge(shop, prefix), prefix + "u"
    days = sorted({fact.day for fact in facts})
    lines = [{"anonymousId": f"anon_{prefix}a", "userId": user, "status": "merged"}] + [
        {"userId": user, "day": day, "orderIds": []} | numbers(fact for fact in facts if fact.day == day)
        for day in days
    ]

    def answered(text: str) -> None:
        assert lines == [json.loads(line, parse_float=Decimal) for line in text.splitlines()]

    aliases = {prefix + "a": user}
    return Case("GET", f"/v1/users/{user}/export", None, {user: facts}, aliases, answered)


# --- erasing ----------------------------------------------------------------------------------------------------------

# All that may be left of a person: that somebody of this id was erased, and when.
LEFT_OF_A_PERSON = {"PK", "SK", "erasedAt", "expiresAt", "schema", "status"}


def _erasure(distinct_id: str, ids: Iterable[dict[str, str]], gone: Sequence[tuple[Fact, Json]]) -> Case:
    """Of what is `gone` nothing comes back, and each of the `ids` counts again."""
    owned = {
        who.get("user_id", f"anon_{who.get('anonymous_id')}"): (who, facts_of("later", TODAY, 2))
        for who in ids
    }

    def answered(text: str) -> None:
        assert distinct_id == json.loads(text)["userId"]

    def afterwards(shop: Shop) -> None:
        recent = [event for fact, event in gone if fact.day in WINDOW]
        old = [event for fact, event in gone if fact.day not in WINDOW]
        later = [fact.event(**who) for who, facts in owned.values() for fact in facts]
        sent, brought = shop.send(*recent, *later), shop.post("/v1/import", {"batch": old})
        # The order is known as one that counted, as long as its claim lives; anything else is refused.
        assert (len(later), len(recent)) == (sent["accepted"], sent["duplicates"] + sent["rejectedCount"])
        assert (0, len(old)) == (brought["accepted"], brought["duplicates"] + brought["rejectedCount"])
        assert {"erased"} >= {one["code"] for one in sent["rejected"] + brought["rejected"]}
        for distinct, (_, facts) in owned.items():
            assert report(facts) == shop.metrics(distinct, OLDER, LAST)

    return Case("DELETE", f"/v1/users/{distinct_id}", None, {distinct_id: set()}, {}, answered, afterwards)


def erase_user(shop: Shop, prefix: str) -> Case:
    """A user and two visitors who became it, each with a day of long ago, and one that still gets events."""
    user = prefix + "u"
    people = [{"user_id": user}, {"anonymous_id": prefix + "a"}, {"anonymous_id": prefix + "b"}]
    gone = _history(shop, prefix, people)
    for anonymous_id in (prefix + "a", prefix + "b"):
        shop.post(f"/v1/users/{user}/merge", {"anonymousId": anonymous_id})
    return _erasure(user, people, gone)


def erase_visitor(shop: Shop, prefix: str) -> Case:
    people = [{"anonymous_id": prefix + "a"}]
    return _erasure(f"anon_{prefix}a", people, _history(shop, prefix, people))


def _history(shop: Shop, prefix: str, people: Sequence[dict[str, str]]) -> list[tuple[Fact, Json]]:
    told = []
    for number, who in enumerate(people):
        own = f"{prefix}-{number}"
        recent = facts_of(own, YESTERDAY, 2) if number == 2 else facts_of(own, TODAY, 2, hour=11)
        days = [*facts_of(own, OLD, 2), *recent]
        told += [(fact, fact.event(**who)) for fact in days[1:]]
        told.append((days[0], order(days[0], days[0].message_id, **who)))
    shop.post("/v1/import", {"batch": [event for _, event in told]})
    return told


# --- all of them ------------------------------------------------------------------------------------------------------

# What each request asks of the database, in this order.
REQUESTS: dict[str, tuple[Prepare, list[str]]] = {
    # One update takes 90 ids.
    "batch of one user": (one_user, [UPDATE, UPDATE]),
    "batch of many users and days": (many_users_and_days, [GET, *[UPDATE] * 5]),
    # Claimed with the day, twice in vain; then what is left.
    "batch of orders, some counted before": (orders, [TRANSACT, TRANSACT, TRANSACT]),
    "first event with both ids": (first_event_with_both_ids, [GET, *MERGE, UPDATE, UPDATE]),
    "identify": (identify, [GET, *MERGE]),
    "POST merge": (post_merge, [GET, *MERGE]),
    "both ids of another user's visitor": (
        both_ids_of_another_users_visitor,
        # Together, which one of them prevents; then the other.
        [GET, TRANSACT, TRANSACT],
    ),
    "anonymous event on a day that moved": (event_on_a_day_that_moved, [GET, UPDATE, UPDATE]),
    "import of old days": (imported, [GET, GET, TRANSACT, TRANSACT, TRANSACT, TRANSACT]),
    "query that finishes a merge": (query, [GET, *MERGE[1:], QUERY]),
    # Then the raw events of the user and of the visitor, which may be there from when they were kept.
    "export that finishes a merge": (export, [QUERY, GET, *MERGE[1:], QUERY, GET, QUERY, QUERY]),
    "erase a user with two anonymous ids": (
        erase_user,
        # Its time is moved behind that of the merges, which is the same here; then id by id.
        [GET, TRANSACT, QUERY, MANY, TRANSACT, *[*ERASE_DAYS, TRANSACT] * 2, *ERASE_DAYS, TRANSACT],
    ),
    "erase a visitor": (erase_visitor, [GET, TRANSACT, *ERASE_DAYS, TRANSACT]),
}


# These take steps that others take, in which each call fails in every way: theirs fail in one way of each kind.
SEEN_ELSEWHERE = {
    "identify": "first event with both ids",
    "POST merge": "first event with both ids",
    "query that finishes a merge": "first event with both ids",
    "export that finishes a merge": "first event with both ids",
    "erase a user with two anonymous ids": "erase a visitor",
}


def check_totals(shop: Shop, case: Case) -> None:
    """What the API says of everybody."""
    for distinct_id, facts in case.facts.items():
        assert report(facts) == shop.metrics(distinct_id, OLDER, LAST)


def check(shop: Shop, case: Case) -> None:
    """The same, and what is stored of those who were merged."""
    check_totals(shop, case)
    for anonymous_id, user_id in case.aliases.items():
        partition = shop.partition(f"USER#anon_{anonymous_id}")
        alias = partition.pop("ALIAS")
        partition = {sk: item for sk, item in partition.items() if not sk.startswith("EVENTS#")}
        assert ("merged", user_id) == (alias["status"]["S"], alias["userId"]["S"])
        # Each day that can still get an event is sealed, and holds nothing that could be counted again.
        assert [f"DAY#{day}" for day in WINDOW] == list(partition)
        assert [{"S": user_id}] * len(WINDOW) == [item["mergedInto"] for item in partition.values()]
        assert not any("events" in item or "seen" in item for item in partition.values())
        assert [f"anon_{anonymous_id}"] == shop.get(f"/v1/users/{user_id}")["anonymousIds"]
        assert pending(shop, anonymous_id) == []


def pending(shop: Shop, anonymous_id: str) -> list[str]:
    """The merges of an anonymous id begun and not ended."""
    shard = hashlib.sha256(f"anon_{anonymous_id}".encode()).hexdigest()[0]
    return [sk for sk in shop.partition(f"PENDING#{shard}") if sk.endswith(f"#anon_{anonymous_id}")]


def left_of_persons(content: Iterable[Json]) -> list[Json]:
    """What a table still holds of anybody. A claim on an order says nothing of whose it is."""
    items = [item for item in content if not item["PK"]["S"].startswith(("ORDER#", "SETTINGS"))]
    # What the sweep finds a late request's raw events by says no more than the mark.
    items = [item for item in items if item.get("kind") != {"S": "leftovers"}]
    return [item for item in items if not item.keys() <= LEFT_OF_A_PERSON]
