"""Any history of a shop, its stream in any order and as often as one likes: the index is what the table counts, and
searches answer what brute force does over the table's raw events."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from service.index_template import Names
from service.opensearch import Engine
from tests.brute_force import Shop, happened
from tests.engine.conftest import NOON
from tests.engine.facts import EVENTS
from tests.engine.index_stage import (
    IndexStage,
    Record,
    as_get_records_gives,
    in_batches,
    staged,
    without_image,
)
from tests.engine.search_shop import check
from tests.engine.test_indexer import event, order, owners

Json = dict[str, Any]
VISITORS, USERS = ["a", "b", "c"], ["u", "v"]
visitors, users = st.sampled_from(VISITORS), st.sampled_from(USERS)
identities = st.one_of(
    st.tuples(visitors, st.none()),
    st.tuples(visitors, st.none()),
    st.tuples(st.none(), users),
    st.tuples(visitors, users),
)
happenings = st.tuples(
    st.sampled_from([*sorted(EVENTS), "purchase"]),
    # Of the moment, of the day before, and ahead.
    st.sampled_from([0, -1, -45, -20 * 60, 30, 20 * 60]),
    st.integers(1, 3),
)
SHAPES = (dict, as_get_records_gives, without_image)
SEARCHES: tuple[tuple[str, Json], ...] = (
    ("segments", {"all": [{"metric": "events", "min": 1}]}),
    (
        "segments",
        {
            "any": [{"event": "Product Viewed"}, {"metric": "revenue", "min": 11}],
            "none": [{"event": "Order Refunded", "min": 2}],
        },
    ),
    ("funnels", {"steps": ["Product Viewed", "Product Added", "Order Completed"], "windowHours": 48}),
    ("breakdowns", {"by": "event", "metric": "users"}),
    ("breakdowns", {"by": "productId", "metric": "revenue"}),
    ("timeseries", {"interval": "hour", "metric": "events"}),
    ("timeseries", {"interval": "day", "metric": "users", "event": "Order Completed"}),
    ("retention", {"startEvent": "Product Viewed", "returnEvent": "Page Viewed", "unit": "day"}),
)


def searched(stage: IndexStage, began: datetime) -> int:
    """Every answer is that of brute force over what the table keeps of a story that began then. Answers of how many
    events those are."""
    deployment = stage.shop.service.settings
    shop = Shop(deployment.timezone, deployment.currency)
    kept = stage.raw_events(stage.items())
    events = [happened(dict(raw.sent), user, shop) for (user, _, _), raw in kept.items()]
    first, last = began - timedelta(days=1), stage.shop.now + timedelta(days=1)
    days = {"from": f"{first:%Y-%m-%d}", "to": f"{last:%Y-%m-%d}"}
    stage.engine.call("POST", f"/{Names(stage.engine.prefix).events}/_refresh")
    for kind, request in SEARCHES:
        check(stage.engine, events, kind, request | days, limit=2, shop=shop)
    return len(events)


class Story(RuleBasedStateMachine):
    """A few visitors and users on one table, whose stream comes late, torn apart, and again."""

    stage: ClassVar[IndexStage]
    # Of all stories together, events that were searched.
    searched: ClassVar[int] = 0
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.stage.records()
        self.stage.people = uuid.uuid4().hex[:10]
        # On days of its own: what is dated ahead in one story is of before the next one's earliest.
        self.stage.shop.now += timedelta(days=3)
        self.began = self.stage.shop.now
        self.waiting: list[Record] = []
        self.done: list[Record] = []
        self.number = 0

    # --- what happens in the shop -------------------------------------------------------------------------------

    @initialize(target=sent, what=st.lists(happenings, min_size=1, max_size=4))
    def a_visitor_comes(self, what: list[tuple[str, int, int]]) -> tuple[Json, ...]:
        return self._happens(("a", None), what)

    @rule(target=sent, identity=identities, what=st.lists(happenings, min_size=1, max_size=4))
    def something_happens(
        self, identity: tuple[str | None, str | None], what: list[tuple[str, int, int]]
    ) -> tuple[Json, ...]:
        return self._happens(identity, what)

    @rule(batch=sent)
    def a_batch_is_sent_again(self, batch: tuple[Json, ...]) -> None:
        self._send(batch)

    @rule(one=sent, other=sent)
    def events_are_sent_again_in_other_company(self, one: tuple[Json, ...], other: tuple[Json, ...]) -> None:
        self._send((one[-1], *(event for event in other if event["messageId"] != one[-1]["messageId"])))

    @rule(batch=sent, user=users)
    def a_retry_carries_the_user_id_that_the_first_copy_lacked(
        self, batch: tuple[Json, ...], user: str
    ) -> None:
        self._send([{"userId": self._id(user), **event} for event in batch if "anonymousId" in event])

    @rule(visitor=visitors, user=users, path=st.sampled_from(["identify", "alias"]))
    def somebody_says_who_a_visitor_is(self, visitor: str, user: str, path: str) -> None:
        name = "previousId" if path == "alias" else "anonymousId"
        self._request("POST", f"/v1/{path}", {name: self._id(visitor), "userId": self._id(user)})

    @rule(who=st.sampled_from([*USERS, *VISITORS]))
    def somebody_is_erased(self, who: str) -> None:
        distinct_id = self._id(who) if who in USERS else f"anon_{self._id(who)}"
        self._request("DELETE", f"/v1/users/{distinct_id}")

    @rule(minutes=st.sampled_from([1, 90, 20 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.stage.shop.now += timedelta(minutes=minutes)

    # --- what the indexer gets ----------------------------------------------------------------------------------

    # A number, and not Hypothesis's own chance: how often that is asked must not depend on what the stream brings.
    @rule(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.3, 1.0]))
    def some_of_the_stream_arrives(self, seed: int, share: float) -> None:
        chance = random.Random(seed)
        self.waiting += self.stage.records()
        chosen = [record for record in self.waiting if chance.random() < share]
        self.waiting = [record for record in self.waiting if record not in chosen]
        self._index(chosen + chance.sample(self.done, len(self.done) // 3), chance)
        self.done += chosen

    def teardown(self) -> None:
        chance = random.Random(self.number)
        self.waiting += self.stage.records()
        self._index(self.waiting + chance.sample(self.done, len(self.done) // 2), chance)
        self.stage.assert_index_is_the_table()
        # All of it once more, in its own order.
        assert self.stage.index(self.done + self.waiting) == []
        self.stage.assert_index_is_the_table()
        type(self).searched += searched(self.stage, self.began)

    def _index(self, records: Sequence[Record], chance: random.Random) -> None:
        for batch in in_batches(chance.sample(records, len(records)), chance):
            shape: Any = chance.choice(SHAPES)
            assert self.stage.index([shape(record) for record in batch]) == []

    # --- how it is sent -----------------------------------------------------------------------------------------

    def _id(self, name: str) -> str:
        return f"{self.stage.people}-{name}"

    def _event(self, identity: tuple[str | None, str | None], name: str, minutes: int, quantity: int) -> Json:
        self.number += 1
        visitor, user = identity
        when = self.stage.shop.now + timedelta(minutes=minutes)
        is_order = name in ("Order Completed", "purchase")
        event: Json = {
            "type": "page" if name == "page" else "track",
            "event": None if name == "page" else name,
            "messageId": f"m-{self.number}",
            "timestamp": when.isoformat(),
            "anonymousId": visitor and self._id(visitor),
            "userId": user and self._id(user),
            # Some orders have ids, and some of those the same.
            "properties": {
                "orderId": f"{self.stage.people}-{quantity}" if is_order and minutes else None,
                "revenue": quantity * 10.5 if is_order or name == "Order Refunded" else None,
                "currency": "EUR",
                "products": [{"sku": "p-1", "price": 10.5, "quantity": quantity}] if is_order else None,
                "engagedSeconds": quantity if name == "Page Left" else None,
            },
        }
        return {name: value for name, value in event.items() if value is not None}

    def _happens(
        self, identity: tuple[str | None, str | None], what: list[tuple[str, int, int]]
    ) -> tuple[Json, ...]:
        batch = tuple(self._event(identity, *one) for one in what)
        self._send(batch)
        return batch

    def _send(self, batch: Sequence[Json]) -> None:
        if batch:
            self._request("POST", "/v1/batch", {"batch": batch})

    def _request(self, method: str, path: str, body: object = None) -> None:
        """Whatever is decided. Of the same moment as an erasure some is not, and is sent again."""
        for _ in range(5):
            answer = self.stage.shop.request(method, path, body)
            self.stage.shop.now += timedelta(milliseconds=1)
            if answer.status_code != 503:
                assert answer.status_code in (200, 409), answer.text
                return
        raise AssertionError("never decided")


def test_whatever_happens_and_however_the_stream_comes_the_index_is_the_table(
    dynamodb_url: str, engine: Engine
) -> None:
    class Told(Story):
        pass

    with staged(dynamodb_url, engine, NOON) as stage:
        Told.stage = stage
        run_state_machine_as_test(
            Told,
            settings=settings(
                max_examples=15,
                stateful_step_count=25,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
                # Finding the shortest story takes minutes here: whoever looks for it adds Phase.shrink.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
            ),
        )
    assert Told.searched > 0


@pytest.mark.parametrize("place", ["before", "during", "after"])
def test_every_answer_is_that_of_brute_force_wherever_a_merge_comes(
    dynamodb_url: str, engine: Engine, place: str
) -> None:
    """Before the visitor's events are indexed, between two records of them, or when searches have found the visitor."""
    with staged(dynamodb_url, engine) as stage:
        stage.people = "p"
        began = stage.shop.now
        stage.shop.send(event(stage, 1, anonymousId="a"), order(stage, 2, anonymousId="a"))
        stage.shop.send(
            event(stage, 3, anonymousId="a", name="add_to_cart"), event(stage, 4, anonymousId="b")
        )
        stage.shop.send(order(stage, 5, userId="u"), event(stage, 6, userId="w", name="Page Left"))
        records = stage.records()
        first = {"before": 0, "during": 2, "after": len(records)}[place]
        assert stage.index(records[:first]) == []
        if place == "after":
            assert searched(stage, began) == 6
        stage.shop.post("/v1/identify", {"anonymousId": "p-a", "userId": "p-u"})
        assert stage.index(records[first:]) == []
        assert stage.index(stage.records()) == []

        assert searched(stage, began) == 6
        assert owners(stage) == {"u", "w", "anon_p-b"}
