"""Whether what the service answered, and what it says in the end, is what happened. Answers what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.engine.facts import Fact
from tests.storm.model import Erasure, Said, chosen_orders, differences, ms_of
from tests.storm.plan import Plan
from tests.storm.raw import timeline_differences
from tests.storm.wire import Client, Reply, Request

Json = dict[str, Any]
Answer = tuple[Request, Reply]

ERASED = "erased"
# Of a timeline: less than anybody has, so that there are several.
PAGE_EVENTS = 7


@dataclass
class Judge:
    """One round, looked at when it is over."""

    plan: Plan
    client: Client
    wrong: list[str] = field(default_factory=list)
    # Of the visitors two users claim: whose they are.
    winners: dict[str, str] = field(default_factory=dict)
    # The messageIds that were rejected when the storm was over.
    rejected: set[str] = field(default_factory=set)

    def judge(self, storm: Sequence[Answer], late: Sequence[Answer]) -> None:
        """All of it: fills `wrong`."""
        owned, visitors = self._owners()
        # An event that is rejected at one time must be one of a person who was erased.
        doomed = self.plan.model.doomed_messages()
        for answer in storm:
            self._storm_answer(*answer, doomed)
        for answer in late:
            self._late_answer(*answer)
        said = {owner: self._said(owner) for owner in sorted(owned.keys() | visitors.keys())}
        for erasure in self.plan.model.erasures:
            self._erasure(erasure, owned, said)
        chosen = chosen_orders(self.plan.model, owned, said, self.wrong)
        reports = {report for reports in self.plan.model.orders.values() for report in reports}
        for owner, facts in owned.items():
            counted = (facts - reports) | (facts & chosen)
            self.wrong += differences(owner, counted, visitors.get(owner, set()), said[owner])
            told = self._timeline(owner)
            self.wrong += timeline_differences(owner, counted, self.plan.model.erasures, told)

    def _owners(self) -> tuple[dict[str, set[Fact]], dict[str, set[str]]]:
        """The facts by who has them in the end, and the visitors by whose they are."""
        model = self.plan.model
        owned = {owner: set(facts) for owner, facts in model.facts.items()}
        visitors = {user: set(anonymous) for user, anonymous in model.visitors.items()}
        for erasure in model.erasures:
            owned.setdefault(erasure.person, set())
        for visitor, possible in sorted(model.asked.items()):
            said = str(self._get(f"/v1/users/{visitor}").json()["userId"])
            user = None if said == visitor else said
            if user not in possible:
                self.wrong.append(f"{visitor} is {user}'s, which is none of {possible}")
            if user is None:
                owned.setdefault(visitor, set())
                continue
            self.winners[visitor] = user
            owned.setdefault(user, set()).update(owned.pop(visitor, set()))
            visitors.setdefault(user, set()).add(visitor)
        return owned, visitors

    def _timeline(self, owner: str) -> list[Json]:
        path = f"/v1/users/{owner}/events?{self._range()}&limit={PAGE_EVENTS}"
        events: list[Json] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(path + (f"&cursor={cursor}" if cursor else "")).json()
            events += page["events"]
            cursor = page["nextCursor"]
        return events

    def _range(self) -> str:
        first = (self.plan.now - timedelta(days=4)).date().isoformat()
        last = (self.plan.now + timedelta(days=3)).date().isoformat()
        return f"from={first}&to={last}"

    def _said(self, owner: str) -> Said:
        metrics = self._get(f"/v1/users/{owner}/metrics?{self._range()}").json()
        lines: list[Json] = []
        path = f"/v1/users/{owner}/export"
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(path + (f"?cursor={cursor}" if cursor else ""))
            lines += page.lines()
            cursor = page.headers.get("footfall-next-cursor")
        if owner.startswith("anon_"):
            lines = [line for line in lines if "day" in line]
        return Said(metrics, lines)

    def _get(self, path: str) -> Reply:
        reply = self.client.decide(Request("GET", path))
        assert reply.status == 200, f"{path}: {reply.status} {reply.text}"
        return reply

    # --- answers ----------------------------------------------------------------------------------------------------

    def _storm_answer(self, request: Request, reply: Reply, doomed: Collection[str]) -> None:
        body = reply.json() if request.method == "POST" else {}
        if request.path.endswith("/merge"):
            assert request.body is not None
            user = request.path.split("/")[3]
            is_winner = self._winner(request.body["anonymousId"], user) == user
            found = (reply.status, body.get("status" if is_winner else "code"))
            self._expect(
                request, reply, found == ((200, "merged") if is_winner else (409, "identity_conflict"))
            )
        elif request.path in ("/v1/identify", "/v1/alias"):
            assert request.body is not None
            user = request.body["userId"]
            visitor = request.body.get("anonymousId") or request.body["previousId"]
            is_winner = self._winner(visitor, user) == user
            codes = [rejected["code"] for rejected in body.get("rejected", [{"code": reply.status}])]
            may_be_erased = any(erasure.person == user for erasure in self.plan.model.erasures)
            is_right = codes == ([] if is_winner else ["identity_conflict"])
            self._expect(request, reply, is_right or (may_be_erased and codes == [ERASED]))
        elif request.method == "POST":
            self._expect(request, reply, self._is_decided(request, reply) and _rejected(reply) <= set(doomed))
        else:
            self._expect(request, reply, reply.status == 200)

    def _winner(self, visitor: str, user: str) -> str:
        """Whose it is, where several have laid claim to it; else whoever did."""
        possible = self.plan.model.asked.get(visitor, set()) - {None}
        return self.winners.get(visitor, user) if len(possible) > 1 else user

    def _late_answer(self, request: Request, reply: Reply) -> None:
        """When the storm is over, no answer is left to chance: a reply that was lost makes a duplicate, no more."""
        model = self.plan.model
        sent = {str(event["messageId"]) for event in _events(request)}
        erased = {fact.message_id for fact in model.erased}
        # A second report of an order is a duplicate, and remains one when its person is erased.
        either = {report.message_id for reports in model.orders.values() for report in reports} & erased
        # Of these, all are or none is: see _racing.
        raced = {fact.message_id for erasure in model.erasures for fact in erasure.racing_facts}
        new = {str(event["messageId"]) for event in self.plan.late}
        rejected = _rejected(reply)
        self.rejected |= rejected
        is_right = (
            self._is_decided(request, reply)
            and (sent & erased) - either <= rejected <= sent & (erased | raced)
            and reply.json()["accepted"] <= len(sent & new)
        )
        self._expect(request, reply, is_right)

    def _is_decided(self, request: Request, reply: Reply) -> bool:
        """200, no event is missing in the counts, and rejected is only what was erased."""
        if reply.status != 200:
            return False
        body = reply.json()
        codes = {rejected["code"] for rejected in body["rejected"]}
        decided = body["accepted"] + body["duplicates"] + body["rejectedCount"]
        return bool(
            codes <= {ERASED}
            and decided == len(_events(request))
            and len(body["rejected"]) == body["rejectedCount"]
        )

    def _expect(self, request: Request, reply: Reply, is_right: bool) -> None:
        if not is_right:
            self.wrong.append(
                f"{request.method} {request.path} {request.body}: {reply.status} {reply.text}"[:2000]
            )

    # --- erasures ---------------------------------------------------------------------------------------------------

    def _erasure(self, erasure: Erasure, owned: dict[str, set[Fact]], said: dict[str, Said]) -> None:
        """Add what of an erased person's facts is there in the end, having said whether it may."""
        for fact, identity in erasure.between.items():
            owner = self._owner_of(identity)
            is_counted = erasure.is_counted[fact]
            if is_counted:
                owned.setdefault(owner, set()).add(fact)
            is_own = "user_id" in identity or erasure.is_of_stranger
            if is_own and is_counted and _is_until(fact, erasure.erased_at_ms):
                self.wrong.append(f"{fact} of before the erasure of {erasure.person} counts")
            if not is_counted and not _is_until(fact, erasure.answered_ms):
                self.wrong.append(f"{fact} of after the erasure of {erasure.person} does not count")
        if erasure.racing is not None:
            self._racing(erasure, owned, said[self.winners.get(erasure.racing, erasure.racing)])

    def _racing(self, erasure: Erasure, owned: dict[str, set[Fact]], said: Said) -> None:
        """A visitor who became the person meanwhile was in time, and nothing is left, or was late, and all is."""
        assert erasure.racing is not None
        owner = self.winners.get(erasure.racing, erasure.racing)
        is_left = erasure.racing_marker in said.names()
        if is_left:
            owned.setdefault(owner, set()).update(erasure.racing_facts)
        sent = {fact.message_id for fact in erasure.racing_facts}
        if sent & self.rejected != (set() if is_left else sent):
            state = "there" if is_left else "erased"
            self.wrong.append(
                f"{erasure.racing} is {state}; of its events are rejected {sent & self.rejected}"
            )

    def _owner_of(self, identity: Json) -> str:
        if "user_id" in identity:
            return str(identity["user_id"])
        return self.winners.get(identity["anonymous_id"], str(identity["anonymous_id"]))


def _is_until(fact: Fact, instant_ms: int) -> bool:

    return ms_of(datetime.fromisoformat(fact.timestamp)) <= instant_ms


def _events(request: Request) -> list[Json]:
    assert request.body is not None
    found: list[Json] = request.body.get("batch", [request.body])
    return found


def _rejected(reply: Reply) -> set[str]:
    return {str(rejected["messageId"]) for rejected in reply.json().get("rejected", [])}
