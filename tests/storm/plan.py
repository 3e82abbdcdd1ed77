"""What a round of the storm sends, drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.engine.facts import CURRENCIES, Fact, random_fact
from tests.storm.model import Erasure, Model, Report
from tests.storm.wire import Request

BATCH_MAX = 10
COPIES_MAX = 5

Json = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How many there are of whom in a round."""

    users: int = 5
    rushed: int = 10
    contested: int = 4
    strangers: int = 2
    erased_users: int = 3
    erased_strangers: int = 1
    orders: int = 12
    reads: int = 24


@dataclass
class Plan:
    """What will be sent, and whose it is."""

    rng: random.Random
    # Ids of a round are its own; rounds share the table.
    prefix: str
    now: datetime
    model: Model = field(default_factory=Model)
    # Sent while visitors become users, and then again with what happened after.
    storm: list[Json] = field(default_factory=list)
    claims: list[Request] = field(default_factory=list)
    # What the clients do side by side: claims to one visitor, and events of that visitor that are sent once.
    rushes: list[list[Request]] = field(default_factory=list)
    reads: list[Request] = field(default_factory=list)
    # Sent once more when the storm is over: the first are duplicates then, the second are rejected.
    counted: list[Json] = field(default_factory=list)
    erased: list[Json] = field(default_factory=list)
    # Sent then for the first time.
    late: list[Json] = field(default_factory=list)
    # Whom a report of an order may come from: the identity of its event, and where its fact goes.
    reporters: list[tuple[Json, str, bool]] = field(default_factory=list)

    def fact(self, *, is_past: bool = False) -> Fact:
        """Anything, of the last days; also of later today, unless it is to be past."""
        return random_fact(self.rng, self.message_id(), self.timestamp(is_past=is_past))

    def facts(self, number: int, *, is_past: bool = False) -> set[Fact]:
        return {self.fact(is_past=is_past) for _ in range(number)}

    def message_id(self) -> str:
        return f"m-{self.rng.getrandbits(64):x}"

    def timestamp(self, *, is_past: bool) -> str:
        if is_past:
            instant = self.now - timedelta(seconds=self.rng.randint(60, 2 * 86_400))
            return instant.isoformat(timespec="seconds")
        day = (self.now - timedelta(days=self.rng.randrange(3))).date()
        return f"{day.isoformat()}T{self.rng.randrange(24):02}:00:00Z"

    def copies(self, fact: Fact, *identities: Json) -> list[Json]:
        """One to five copies; each identity it may be sent under comes up."""
        count = max(len(identities), self.rng.randint(1, COPIES_MAX))
        return [fact.event(**identities[number % len(identities)]) for number in range(count)]

    def send(self, facts: Iterable[Fact], *identities: Json) -> None:
        for fact in in_order(facts):
            self.storm += self.copies(fact, *identities)

    def claims_of(self, visitor: str, user: str) -> list[Request]:
        """The three ways to say whose a visitor is, a few times over."""
        return self.rng.choices(claims(visitor, user), k=3)


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """Sets have another order in every process, and a seed would not mean the same twice."""
    return sorted(facts, key=lambda fact: fact.message_id)


def claims(visitor: str, user: str) -> list[Request]:
    """Each way to say whose a visitor is, once."""
    return [
        Request("POST", "/v1/identify", {"anonymousId": visitor, "userId": user}),
        Request("POST", "/v1/alias", {"previousId": visitor, "userId": user}),
        Request("POST", f"/v1/users/{user}/merge", {"anonymousId": visitor}),
    ]


def planned(seed: int, number: int, now: datetime, size: Size) -> Plan:
    """The round of that number."""
    plan = Plan(random.Random(f"{seed}/{number}"), f"r{number}", now.astimezone(UTC))
    users = [f"{plan.prefix}-user-{n}" for n in range(size.users)]
    for user in users:
        _user(plan, user)
    for n in range(size.rushed):
        _rush(plan, f"anon_{plan.prefix}-rushed-{n}", users[n % len(users)])
    for n in range(size.contested):
        _contest(plan, f"anon_{plan.prefix}-contested-{n}", (users[n], users[n + 1]))
    for n in range(size.strangers):
        _stranger(plan, f"anon_{plan.prefix}-stranger-{n}")
    for n in range(size.erased_users):
        _erased_user(plan, f"{plan.prefix}-erased-{n}")
    for n in range(size.erased_strangers):
        _erased_stranger(plan, f"anon_{plan.prefix}-erased-{n}")
    for n in range(size.orders):
        _order(plan, f"{plan.prefix}-order-{n}")
    _reads(plan, size.reads)
    return plan


def batches(rng: random.Random, events: Collection[Json]) -> list[Request]:
    """All of them, in another order and in batches of one to ten."""
    shuffled = rng.sample(list(events), len(events))
    posts, start = [], 0
    while start < len(shuffled):
        size = rng.randint(1, BATCH_MAX)
        posts.append(Request("POST", "/v1/batch", {"batch": shuffled[start : start + size]}))
        start += size
    return posts


def _user(plan: Plan, user: str) -> None:
    mine = plan.facts(10)
    plan.send(mine, {"user_id": user})
    plan.counted += [fact.event(user_id=user) for fact in in_order(mine)]
    plan.model.add(user, *mine)
    plan.reporters.append(({"user_id": user}, user, False))
    for number in range(2):
        visitor = f"anon_{user}-{number}"
        plan.model.visitors.setdefault(user, set()).add(visitor)
        alone, both = {"anonymous_id": visitor}, {"anonymous_id": visitor, "user_id": user}
        # A browser puts the user's id on the retry of what it first sent without.
        browsed, retried, bought, late = plan.facts(10), plan.facts(4), plan.facts(4), plan.facts(4)
        plan.send(browsed, alone)
        plan.send(retried, alone, both)
        plan.send(bought, both)
        plan.counted += [fact.event(**alone) for fact in in_order(browsed | retried)]
        plan.late += [copy for fact in in_order(late) for copy in plan.copies(fact, alone)]
        plan.claims += plan.claims_of(visitor, user)
        plan.model.add(user, *browsed, *retried, *bought, *late)
        plan.reporters += [(alone, user, False), (both, user, False)]


def _rush(plan: Plan, visitor: str, user: str) -> None:
    facts = plan.facts(9)
    posts = [Request("POST", "/v1/track", fact.event(anonymous_id=visitor)) for fact in in_order(facts)]
    posts += plan.claims_of(visitor, user)[:2]
    plan.rng.shuffle(posts)
    plan.rushes.append(posts)
    plan.model.add(user, *facts)
    plan.model.visitors[user].add(visitor)


def _contest(plan: Plan, visitor: str, users: Sequence[str]) -> None:
    facts = plan.facts(10)
    plan.model.add(visitor, *facts)
    plan.model.asked[visitor] = set(users)
    plan.send(facts, {"anonymous_id": visitor})
    plan.counted += [fact.event(anonymous_id=visitor) for fact in in_order(facts)]
    posts = [claim for user in users for claim in plan.claims_of(visitor, user)]
    plan.rng.shuffle(posts)
    plan.rushes.append(posts)
    for user in users:
        # An event that says who did it counts for that user, whosever the visitor is.
        mine = plan.facts(4)
        plan.model.add(user, *mine)
        plan.send(mine, {"anonymous_id": visitor, "user_id": user})


def _stranger(plan: Plan, visitor: str) -> None:
    """Nobody ever says who this is."""
    facts = plan.facts(10)
    plan.model.add(visitor, *facts)
    plan.model.asked[visitor] = {None}
    plan.send(facts, {"anonymous_id": visitor})
    plan.reporters.append(({"anonymous_id": visitor}, visitor, False))


def _erased_user(plan: Plan, user: str) -> None:
    visitors = [f"anon_{user}-{number}" for number in range(2)]
    erasure = Erasure(user, visitors, racing=f"anon_{user}-racing")
    erasure.racing_marker = f"raced {user}"
    erasure.racing_facts = plan.facts(6, is_past=True) | {
        Fact(plan.message_id(), plan.timestamp(is_past=True), erasure.racing_marker)
    }
    plan.model.erasures.append(erasure)
    _erase(plan, plan.facts(10, is_past=True), {"user_id": user})
    plan.reporters.append(({"user_id": user}, user, True))
    for visitor in visitors:
        alone, both = {"anonymous_id": visitor}, {"anonymous_id": visitor, "user_id": user}
        _erase(plan, plan.facts(8, is_past=True), alone)
        _erase(plan, plan.facts(3, is_past=True), alone, both)
        _erase(plan, plan.facts(3, is_past=True), both)
        plan.claims += plan.claims_of(visitor, user)
        plan.reporters.append((alone, user, True))
        plan.model.asked[visitor] = {user, None}
    assert erasure.racing is not None
    plan.model.asked[erasure.racing] = {user, None}


def _erased_stranger(plan: Plan, visitor: str) -> None:
    plan.model.erasures.append(Erasure(visitor, []))
    plan.model.asked[visitor] = {None}
    _erase(plan, plan.facts(10, is_past=True), {"anonymous_id": visitor})
    plan.reporters.append(({"anonymous_id": visitor}, visitor, True))


def _erase(plan: Plan, facts: Collection[Fact], *identities: Json) -> None:
    plan.send(facts, *identities)
    plan.model.erased |= set(facts)
    plan.erased += [fact.event(**plan.rng.choice(identities)) for fact in in_order(facts)]


def _order(plan: Plan, order_id: str) -> None:
    """Reported by two to four, on the same day or another, each time under another messageId."""
    quantity, currency = plan.rng.randint(1, 9), plan.rng.choice(CURRENCIES)
    amounts: dict[str, Decimal] = {}
    reports: set[Report] = set()
    for identity, owner, is_erased in plan.rng.sample(plan.reporters, k=plan.rng.randint(2, 4)):
        amount = amounts.setdefault(owner, Decimal(plan.rng.randint(1, 99_999)) / 100)
        for _ in range(plan.rng.randint(1, 2)):
            report = Report(
                plan.message_id(),
                plan.timestamp(is_past=True),
                "Order Completed",
                amount=amount,
                currency=currency,
                quantity=quantity,
                order_id=order_id,
            )
            reports.add(report)
            if is_erased:
                _erase(plan, {report}, identity)
            else:
                plan.send({report}, identity)
                plan.counted.append(report.event(**identity))
                plan.model.add(owner, report)
    plan.model.orders[order_id] = reports


def _reads(plan: Plan, number: int) -> None:
    known = [*plan.model.facts, *plan.model.asked, *(erasure.person for erasure in plan.model.erasures)]
    for _ in range(number):
        someone = plan.rng.choice(sorted(set(known)))
        kind = plan.rng.choice(("", "/metrics", "/export", "/events"))
        plan.reads.append(Request("GET", f"/v1/users/{someone}{kind}"))
