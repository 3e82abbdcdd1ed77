"""What happened, and what must come of it: sets of facts, with what only the service can decide left open."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.engine.facts import Fact, report

Json = dict[str, Any]


@dataclass(frozen=True)
class Report(Fact):
    """A fact that may be the report of an order, of which there may be others."""

    order_id: str | None = None

    def _properties(self) -> Json:
        return super()._properties() | ({"orderId": self.order_id} if self.order_id else {})


def now_ms() -> int:
    """This moment, in epoch milliseconds."""
    return ms_of(datetime.now(UTC))


def ms_of(instant: datetime) -> int:
    """Epoch milliseconds, rounded down."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@dataclass
class Erasure:
    """A person who is erased in the middle of the storm, with the visitors this person was before.

    Everything planned for them is of before `begun_ms`, so none of it may be left.
    """

    person: str
    visitors: list[str]
    # Becomes the person's while the person is being erased: all of it is erased with the person, or nothing.
    racing: str | None = None
    racing_facts: set[Fact] = field(default_factory=set)
    racing_marker: str = ""
    begun_ms: int = 0
    erased_at_ms: int = 0
    answered_ms: int = 0
    # Events of after one erasure and before another.
    again: list[Json] = field(default_factory=list)
    # Of while it was going on: sent under these identities, each at most once counted, under a name of its own.
    between: dict[Fact, Json] = field(default_factory=dict)
    # Whether the answer to the last copy of each was that it is counted.
    is_counted: dict[Fact, bool] = field(default_factory=dict)

    @property
    def is_of_stranger(self) -> bool:
        return self.person.startswith("anon_")


@dataclass
class Model:
    """Whose the facts are. Threads of the storm add to it."""

    # By the id that counts them: a user's, or a visitor's whose user is not known before the end.
    facts: dict[str, set[Fact]] = field(default_factory=dict)
    # Of people who are erased, and of before: nowhere.
    erased: set[Fact] = field(default_factory=set)
    visitors: dict[str, set[str]] = field(default_factory=dict)
    # Visitors whose user, if any, is asked for at the end: of these users, or nobody (None).
    asked: dict[str, set[str | None]] = field(default_factory=dict)
    erasures: list[Erasure] = field(default_factory=list)
    # Every report of an order, by its id.
    orders: dict[str, set[Report]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, distinct_id: str, *facts: Fact) -> None:
        """These are this one's, and each of them counts once."""
        with self._lock:
            self.facts.setdefault(distinct_id, set()).update(facts)

    def add_erased(self, *facts: Fact) -> None:
        """These are nowhere in the end."""
        with self._lock:
            self.erased.update(facts)

    def erased_ms(self) -> dict[str, int]:
        """Until when everything of whom is erased. Visitors go with their person, and are nobody's the next time."""
        erased = {erasure.person: erasure.erased_at_ms for erasure in self.erasures}
        return erased | {
            visitor: erasure.begun_ms for erasure in self.erasures for visitor in erasure.visitors
        }

    def doomed_messages(self) -> set[str]:
        """The messageIds of which the service may say that they are erased, at one time or another."""
        racing = {fact for erasure in self.erasures for fact in erasure.racing_facts}
        between = {fact for erasure in self.erasures for fact in erasure.between}
        return {fact.message_id for fact in self.erased | racing | between}


@dataclass(frozen=True)
class Said:
    """What the service says of a person: the metrics of all days, and the lines of the export."""

    metrics: Json
    export: list[Json]

    @property
    def days(self) -> list[Json]:
        return [line for line in self.export if "day" in line]

    @property
    def visitors(self) -> dict[str, Json]:
        return {str(line["anonymousId"]): line for line in self.export if "anonymousId" in line}

    def orders(self) -> list[tuple[str, str]]:
        """Each order id with its day, as often as it is said."""
        return [(str(order), str(day["day"])) for day in self.days for order in day["orderIds"]]

    def names(self) -> dict[str, Any]:
        counted: dict[str, Any] = self.metrics["totals"]["byEvent"]
        return counted


def chosen_orders(
    model: Model, owned: dict[str, set[Fact]], said: dict[str, Said], wrong: list[str]
) -> set[Fact]:
    """The report by which each order counts, as the exports have it. At most one, and none only if erased."""
    holders: dict[str, list[tuple[str, str]]] = {order: [] for order in model.orders}
    for owner, words in said.items():
        for order, day in words.orders():
            holders.setdefault(order, []).append((owner, day))
    chosen: set[Fact] = set()
    for order, held_by in holders.items():
        reports = model.orders.get(order, set())
        if len(held_by) > 1 or not reports:
            wrong.append(f"order {order} is held by {held_by}")
        elif not held_by and not reports & model.erased:
            wrong.append(f"order {order} counts nowhere")
        for owner, day in held_by[:1]:
            # Reports of one order by one person are alike but for their messageId and day.
            matching = sorted(
                (fact for fact in reports & owned.get(owner, set()) if fact.day == day),
                key=lambda fact: fact.message_id,
            )
            if matching:
                chosen.add(matching[0])
            else:
                wrong.append(f"order {order} counts for {owner} on {day}, who never reported it")
    return chosen


def differences(owner: str, facts: Iterable[Fact], visitors: set[str], said: Said) -> list[str]:
    """What the service says of a person that is not so."""
    counted = set(facts)
    expected = report(counted)
    wrong: list[str] = []
    if (days := said.metrics["days"]) != expected["days"]:
        wrong += [f"{owner} {line}" for line in _unlike(expected["days"], days)]
    if said.metrics["totals"] != expected["totals"]:
        wrong.append(f"{owner} totals: {_unlike_members(expected['totals'], said.metrics['totals'])}")
    exported = [
        {name: value for name, value in day.items() if name not in ("userId", "orderIds")}
        for day in said.days
    ]
    if exported != expected["days"]:
        wrong += [f"{owner} exported {line}" for line in _unlike(expected["days"], exported)]
    orders = sorted(
        (fact.order_id, fact.day) for fact in counted if isinstance(fact, Report) and fact.order_id
    )
    if sorted(said.orders()) != orders:
        wrong.append(f"{owner} orders: {sorted(said.orders())}, not {orders}")
    if {line["userId"] for line in said.days} - {owner}:
        wrong.append(f"{owner} was exported days of others")
    merged = {visitor: {"anonymousId": visitor, "userId": owner, "status": "merged"} for visitor in visitors}
    if said.visitors != merged:
        wrong.append(f"{owner} visitors: {said.visitors}, not {merged}")
    return wrong


def _unlike(expected: list[Json], found: list[Json]) -> list[str]:
    by_day = {str(day["day"]): day for day in found}
    planned = {str(day["day"]): day for day in expected}
    return [
        f"{day}: {_unlike_members(planned.get(day, {}), by_day.get(day, {}))}"
        for day in sorted(planned.keys() | by_day.keys())
        if planned.get(day) != by_day.get(day)
    ]


def _unlike_members(expected: Json, found: Json) -> str:
    return ", ".join(
        f"{name} {found.get(name)} for {expected.get(name)}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    )
