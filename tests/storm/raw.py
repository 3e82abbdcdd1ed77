"""Raw events when the storm is over: what the timelines show, what a recount finds, what an erasure has left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from service import keys, raw_events, recount, store
from service.dynamodb import Table, connect
from service.settings import Settings
from service.sweep import sweep
from tests.engine.facts import Fact
from tests.storm.model import Erasure, Report, ms_of

SETTINGS = Settings(raw_events=True)
# By then no request of before an erasure can be under way, and the sweep removes what one left.
LATER = timedelta(hours=1)
PLANTED = 7

Json = dict[str, Any]


def timeline_differences(
    owner: str, counted: Iterable[Fact], erasures: Iterable[Erasure], told: Iterable[Json]
) -> list[str]:
    """What a timeline shows that does not count, or does not show, or shows twice."""
    shown = Counter(_of_event(event) for event in told)
    expected = {_of_fact(fact) for fact in counted}
    # What was counted during an erasure may have gone with it, and its raw event is of after its beginning.
    doubtful = {_of_fact(fact) for erasure in erasures for fact in erasure.between}
    wrong = [f"{owner} timeline: {key} {number} times" for key, number in shown.items() if number > 1]
    wrong += [f"{owner} timeline lacks {key}" for key in sorted(expected - shown.keys())]
    return wrong + [
        f"{owner} timeline has {key}" for key in sorted(shown.keys() - expected) if key not in doubtful
    ]


def _of_fact(fact: Fact) -> tuple[str, ...]:
    """One counts of the reports of an order by a person on a day, and they are alike."""
    if isinstance(fact, Report) and fact.order_id:
        return "order", fact.order_id, fact.day
    return "message", fact.message_id


def _of_event(event: Json) -> tuple[str, ...]:
    order_id = event.get("properties", {}).get("orderId")
    if order_id:
        return "order", str(order_id), str(event["timestamp"])[:10]
    return "message", str(event["messageId"])


class Auditor:
    """Looks at the table itself, as the operator's commands do."""

    def __init__(self, dynamodb_url: str, table: str, prefix: str) -> None:
        self._table = Table(connect(dynamodb_url), table)
        # Of the people of a round.
        self._prefix = f"{prefix}-"
        self.days = 0

    def audit(self, erased_ms: dict[str, int]) -> list[str]:
        """A recount, a sweep, another recount, and one of a number that is wrong on purpose."""
        wrong = list(self._recounted())
        later = self._work(LATER)
        *_, swept = sweep(later.calls, later.settings, lambda: later.now)
        wrong += [f"a sweep fails: {failure!r}" for failure in swept.failures]
        wrong += self._left(erased_ms)
        wrong += [f"after a sweep {line}" for line in self._recounted()]
        return wrong + list(self._planted())

    def _recounted(self) -> Iterator[str]:
        self.days = 0
        for owner in self._people():
            for day in recount.person(self._work(), owner):
                self.days += 1
                if day.status != recount.SAME:
                    yield f"a recount says: {day}"

    def _people(self) -> Iterator[str]:
        for owner in recount.everybody(self._work()):
            if owner.removeprefix("anon_").startswith(self._prefix):
                yield owner

    def _left(self, erased_ms: dict[str, int]) -> Iterator[str]:
        """By the times that the answers to DELETE have said, and that their marks say."""
        calls = self._work().calls
        for distinct_id, told_ms in erased_ms.items():
            mark = calls.get(keys.mark_key(distinct_id), is_consistent=True) or {}
            instant_ms = max(told_ms, int(mark.get("erasedAt", {"N": "0"})["N"]))
            for item in calls.query(keys.user_pk(distinct_id), keys.every_events(), is_consistent=True):
                for raw in raw_events.read(item, SETTINGS.timezone):
                    made_ms = ms_of(datetime.fromisoformat(str(raw.own["timestamp"])))
                    if min(made_ms, raw.received_ms) <= instant_ms:
                        yield f"{distinct_id} was erased, and {raw.own['messageId']} is there"

    def _planted(self) -> Iterator[str]:
        """A counter that is wrong is named, alone, and repaired."""
        owner = next(self._people())
        day = next(iter(recount.person(self._work(), owner))).day
        pk, sk = keys.day_key(owner, day)
        self._table.client.update_item(
            TableName=self._table.name,
            Key={"PK": {"S": pk}, "SK": {"S": sk}},
            UpdateExpression="ADD pageViews :by",
            ExpressionAttributeValues={":by": {"N": str(PLANTED)}},
        )
        found = [one for one in recount.person(self._work(), owner) if one.status != recount.SAME]
        named = [(one.day, d.metric, d.stored - d.recounted) for one in found for d in one.differences]
        if named != [(day, "page_views", PLANTED)]:
            yield f"of a wrong counter of {owner} on {day} a recount says {found}"
        for _ in recount.person(self._work(), owner, is_repairing=True):
            pass
        yield from (
            f"after a repair: {one}"
            for one in recount.person(self._work(), owner)
            if one.status != recount.SAME
        )

    def _work(self, later: timedelta = timedelta()) -> store.Work:
        return store.Work(self._table.calls(time.monotonic() + 600), SETTINGS, datetime.now(UTC) + later)
