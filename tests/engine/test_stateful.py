"""Any order of sending, sending again, regrouping, becoming a user and waiting, against a model of a dict of sets."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    multiple,
    rule,
    run_state_machine_as_test,
)

from service.dynamodb import Table
from tests import faults
from tests.engine.conftest import NOON
from tests.engine.facts import CURRENCIES, EVENTS, Fact, report
from tests.engine.shop import Shop, opened

AGE_DAYS = 2
AHEAD = timedelta(hours=24)
LATE_EVENING = NOON.replace(hour=23, minute=30)
FIRST, LAST = "2035-03-01", "2035-12-31"

VISITORS = ["anon_a", "anon_b", "anon_c"]
USERS = ["u", "v", "w"]
visitors, users = st.sampled_from(VISITORS), st.sampled_from(USERS)

Json = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """A fact under the identity it was sent with."""

    fact: Fact
    visitor: str | None
    user: str | None


happenings = st.fixed_dictionaries(
    {
        "name": st.sampled_from(sorted(EVENTS)),
        # Of the moment, of the days before and ahead, and what nobody can have meant.
        "minutes": st.sampled_from(
            [0, -45, -24 * 60, -AGE_DAYS * 24 * 60, 24 * 60, 24 * 60 + 1, -4 * 24 * 60]
        ),
        "amount": st.integers(0, 10**7),
        "currency": st.sampled_from(CURRENCIES),
        "quantity": st.integers(1, 5),
        "session": st.sampled_from([None, "s-1", "s-2"]),
    }
)
identities = st.one_of(
    st.tuples(visitors, st.none()),
    st.tuples(visitors, st.none()),
    st.tuples(st.none(), users),
    st.tuples(visitors, users),
)


class Model:
    """Who a visitor is, and which facts are counted for whom: each once, for whom it was counted first."""

    def __init__(self) -> None:
        self.user_of: dict[str, str] = {}
        self.counted: dict[str, set[Fact]] = {distinct_id: set() for distinct_id in [*USERS, *VISITORS]}

    def link(self, visitor: str, user: str) -> bool:
        """The first user keeps the visitor, and gets what the visitor did."""
        if visitor not in self.user_of:
            self.user_of[visitor] = user
            self.counted[user] |= self.counted[visitor]
            self.counted[visitor] = self.counted[user]
        return self.user_of[visitor] == user

    def count(self, sent: Sent) -> bool:
        """Whether it was new."""
        if any(sent.fact in facts for facts in self.counted.values()):
            return False
        owner = sent.user or self.user_of.get(sent.visitor or "", sent.visitor)
        assert owner
        self.counted[owner].add(sent.fact)
        return True

    def send(self, batch: Iterable[Sent], now: datetime) -> tuple[int, int, int]:
        """What the service must answer: accepted, duplicates, and rejected for their time."""
        accepted = duplicates = 0
        batch = list(batch)
        timely = [sent for sent in batch if _is_timely(sent.fact, now)]
        for sent in timely:
            if sent.visitor and sent.user:
                self.link(sent.visitor, sent.user)
        for sent in timely:
            if self.count(sent):
                accepted += 1
            else:
                duplicates += 1
        return accepted, duplicates, len(batch) - len(timely)


def _is_timely(fact: Fact, now: datetime) -> bool:
    return now - timedelta(days=AGE_DAYS) <= datetime.fromisoformat(fact.timestamp) <= now + AHEAD


class Story(RuleBasedStateMachine):
    """A few visitors, a few users, a clock that only goes forward."""

    table: ClassVar[Table]
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.shop: Shop = self.opened.enter_context(
            opened(self.table, LATE_EVENING, MAX_EVENT_AGE_DAYS=str(AGE_DAYS))
        )
        self.shop.warm_up()
        # People of this story alone, on a table of many.
        self.suffix = uuid.uuid4().hex[:12]
        self.model = Model()
        self.facts = 0
        # Visitors whose merge died: until it is finished, their days are here and there.
        self.unfinished: set[str] = set()

    # --- what can happen ----------------------------------------------------------------------------------------

    @rule(target=sent, identity=identities, what=st.lists(happenings, min_size=1, max_size=4))
    def something_happens(
        self, identity: tuple[str | None, str | None], what: list[Json]
    ) -> MultipleResults[Sent]:
        batch = [Sent(self._fact(**one), *identity) for one in what]
        self._send(batch)
        return multiple(*batch)

    @rule(one=sent)
    def one_event_is_sent_again(self, one: Sent) -> None:
        self._send([one])

    @rule(batch=st.lists(sent, max_size=6))
    def events_are_sent_again_in_other_company(self, batch: list[Sent]) -> None:
        self._send(_one_identity_each(batch))

    @rule(target=sent, one=sent, user=users)
    def a_retry_carries_the_user_id_that_the_first_copy_lacked(self, one: Sent, user: str) -> Sent:
        again = one if one.user else Sent(one.fact, one.visitor, user)
        self._send([again])
        return again

    @rule(batch=st.lists(sent, min_size=1, max_size=6), call=st.integers(1, 12))
    def the_process_dies_and_the_batch_is_sent_again(self, batch: list[Sent], call: int) -> None:
        batch = _one_identity_each(batch)
        body = {"batch": [self._event(sent) for sent in batch]}
        with faults.injected(faults.Fault("kill_after", call=call)), suppress(faults.Killed):
            self.shop.request("POST", "/v1/batch", body)
        reply = self.shop.send(*body["batch"])
        accepted, duplicates, late = self.model.send(batch, self.shop.now)
        assert (accepted + duplicates, late) == (
            reply["accepted"] + reply["duplicates"],
            reply["rejectedCount"],
        )
        self._check_people(batch)

    @rule(visitor=visitors, user=users, path=st.sampled_from(["identify", "alias", "group"]))
    def somebody_says_who_a_visitor_is(self, visitor: str, user: str, path: str) -> None:
        name = "previousId" if path == "alias" else "anonymousId"
        body = {name: self._id(visitor), "userId": self._id(user)}
        reply = self.shop.post(f"/v1/{path}", body)
        is_theirs = self.model.link(visitor, user)
        # A group says nothing of a person that could be refused.
        codes = [] if is_theirs or path == "group" else ["identity_conflict"]
        assert codes == [rejected["code"] for rejected in reply["rejected"]]
        self._check(user, visitor)

    @rule(visitor=visitors, user=users)
    def the_backend_says_who_a_visitor_is(self, visitor: str, user: str) -> None:
        answer = self.shop.request(
            "POST", f"/v1/users/{self._id(user)}/merge", {"anonymousId": self._id(visitor)}
        )
        assert (200 if self.model.link(visitor, user) else 409) == answer.status_code
        self._check(user, visitor)

    @rule(visitor=visitors, user=users, call=st.integers(1, 12), batch=st.lists(sent, max_size=6))
    def a_merge_dies_and_the_events_keep_coming(
        self, visitor: str, user: str, call: int, batch: list[Sent]
    ) -> None:
        path = f"/v1/users/{self._id(user)}/merge"
        with faults.injected(faults.Fault("kill_after", call=call)), suppress(faults.Killed):
            self.shop.request("POST", path, {"anonymousId": self._id(visitor)})
        # Nobody was answered whether it had begun.
        if self.shop.item(f"USER#{self._id(visitor)}", "ALIAS"):
            self.model.link(visitor, user)
            self.unfinished.add(visitor)
        self._send(_one_identity_each(batch))

    @rule()
    def somebody_asks_for_everybody(self) -> None:
        self._check_everybody()

    @rule(minutes=st.sampled_from([1, 31, 12 * 60, 24 * 60, 3 * 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.shop.now += timedelta(minutes=minutes)

    def teardown(self) -> None:
        try:
            self._check_everybody()
            assert [sk for sk in self.shop.pending() if sk.endswith(self.suffix)] == []
        finally:
            self.opened.close()

    # --- how it is sent and seen --------------------------------------------------------------------------------

    def _id(self, distinct_id: str) -> str:
        return f"{distinct_id}-{self.suffix}"

    def _fact(
        self, *, name: str, minutes: int, amount: int, currency: str, quantity: int, session: str | None
    ) -> Fact:
        self.facts += 1
        is_order = name == "Order Completed"
        return Fact(
            f"m-{self.facts}",
            (self.shop.now + timedelta(minutes=minutes)).isoformat(),
            name,
            session=session,
            amount=Decimal(amount) / 100 if is_order or name == "Order Refunded" else None,
            currency=currency,
            quantity=quantity if is_order else 0,
            seconds=quantity if name == "Page Left" else 0,
        )

    def _event(self, sent: Sent) -> Json:
        return sent.fact.event(
            anonymous_id=sent.visitor and self._id(sent.visitor), user_id=sent.user and self._id(sent.user)
        )

    def _send(self, batch: list[Sent]) -> None:
        reply = self.shop.send(*(self._event(sent) for sent in batch))
        late = [index for index, sent in enumerate(batch) if not _is_timely(sent.fact, self.shop.now)]
        assert [(index, "timestamp_out_of_range") for index in late] == [
            (rejected["index"], rejected["code"]) for rejected in reply["rejected"]
        ]
        assert self.model.send(batch, self.shop.now) == (
            reply["accepted"],
            reply["duplicates"],
            reply["rejectedCount"],
        )
        self._check_people(batch)

    def _check_people(self, batch: Iterable[Sent]) -> None:
        self._check(*{sent.user for sent in batch if sent.user})
        self._check(*{sent.visitor for sent in batch if sent.visitor})

    def _check_everybody(self) -> None:
        for visitor in self.unfinished:
            # Whoever asks for a visitor finishes the merge.
            self.shop.get(f"/v1/users/{self._id(visitor)}")
        self.unfinished.clear()
        self._check(*USERS, *VISITORS)
        for distinct_id in [*USERS, *VISITORS]:
            self._check_person(distinct_id)

    def _check(self, *distinct_ids: str) -> None:
        """Users before visitors, whose merges this would finish."""
        if not self.unfinished:
            for distinct_id in distinct_ids:
                self._check_one(distinct_id)

    def _check_one(self, distinct_id: str) -> None:
        expected = report(self.model.counted[distinct_id])
        assert expected == self.shop.metrics(self._id(distinct_id), FIRST, LAST)

    def _check_person(self, distinct_id: str) -> None:
        known = self.shop.get(f"/v1/users/{self._id(distinct_id)}")
        user = self.model.user_of.get(distinct_id, distinct_id)
        days: Sequence[str | None] = sorted({fact.day for fact in self.model.counted[user]}) or [None]
        assert self._id(user) == known["userId"]
        assert (days[0], days[-1]) == (known["firstDay"], known["lastDay"])
        assert known["anonymousIds"] == sorted(
            self._id(visitor) for visitor, owner in self.model.user_of.items() if owner == user
        )


def _one_identity_each(batch: list[Sent]) -> list[Sent]:
    """A message may come twice in a batch, but under two identities it would be anybody's who is written first."""
    identity: dict[str, Sent] = {}
    return [sent for sent in batch if identity.setdefault(sent.fact.message_id, sent) == sent]


def test_whatever_happens_in_whatever_order_the_numbers_are_those_of_the_model(table: Table) -> None:
    class Told(Story):
        pass

    Told.table = table
    run_state_machine_as_test(
        Told,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            # Finding the shortest story takes minutes here: whoever looks for it adds Phase.shrink.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
