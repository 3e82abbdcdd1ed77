"""What an event's anonymous id is worth when its alias has changed, or is read as it was a moment ago."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from service import ingest, keys
from service.capacity import Capacity
from service.dynamodb import Calls
from service.events import Event
from service.models import Raw
from service.problems import Unavailable
from service.store import Work
from tests import faults
from tests.builders import new_table
from tests.engine.conftest import NOON
from tests.engine.test_overtaken import ACCEPTED, OLD, READ, STUCK_SECONDS, TRANSACT, Before, Shop


class Stale(Calls):
    """The calls of a request whose eventually consistent reads find some items as they were."""

    stale: Mapping[keys.Key, Raw | None] = {}

    def get(self, key: keys.Key, *, is_consistent: bool = False) -> Raw | None:
        if is_consistent or key not in self.stale:
            return super().get(key, is_consistent=is_consistent)
        return self.stale[key]


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "aliases"))


def stale_work(shop: Shop, seconds: float, alias: Raw | None) -> Work:
    """A request that may find the alias of `a` as it was."""
    calls = Stale(shop.table, time.monotonic() + STUCK_SECONDS, Capacity())
    calls.stale = {keys.alias_key("anon_a"): alias}
    return Work(calls, shop.settings, NOON + timedelta(seconds=seconds))


def read(work: Work, *events: dict[str, Any]) -> list[Event]:
    """Events of that moment."""
    rules = work.settings.rules(work.now)
    found = []
    for index, event in enumerate(events):
        raw = {"type": "page", "messageId": f"m-{index}", "timestamp": work.now.isoformat(), **event}
        one = rules.read(raw, index, {}, may_be_large=False)
        assert isinstance(one, Event), one
        found.append(one)
    return found


def alias_of_a(shop: Shop) -> Raw | None:
    return shop.table.calls(time.monotonic() + 10).get(keys.alias_key("anon_a"), is_consistent=True)


def test_an_identify_that_names_no_user_asks_the_table_for_nothing(shop: Shop) -> None:
    with faults.injected() as log:
        assert shop.send(0, "m", type="identify", anonymousId="a") == ACCEPTED

    assert log.operations == []


def test_the_visitors_owner_does_not_keep_a_user_who_was_erased_from_counting_again(shop: Shop) -> None:
    shop.identify(0, "a", "v")
    shop.erase(10, "u")

    assert shop.send(20, "m", anonymousId="a", userId="u") == ACCEPTED


def test_a_batch_with_an_identify_reads_whose_the_visitor_is_now(shop: Shop) -> None:
    """As it was, the visitor is the user's already, and nothing would be merged."""
    shop.identify(0, "a", "u")
    stale = alias_of_a(shop)
    shop.erase(10, "u")
    work = stale_work(shop, 20, stale)
    batch = read(work, {"type": "identify", "anonymousId": "a", "userId": "u"}, {"anonymousId": "a"})
    outcome = ingest.ingest(work, batch)

    assert (outcome.accepted, outcome.undecided) == (2, None)
    assert (alias_of_a(shop) or {})["userId"] == {"S": "u"}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_visitors_of_one_user_the_earlier_merge_decides_what_is_stale(
    shop: Shop, order: tuple[str, str]
) -> None:
    """The user was erased between the two merges, and `a` is nobody's any more."""
    shop.identify(0, "a", "u")
    stale = alias_of_a(shop)
    shop.erase(10, "u")
    shop.identify(20, "b", "u")
    work = stale_work(shop, 30, stale)
    outcome = ingest.ingest(work, read(work, *({"anonymousId": visitor} for visitor in order)))

    assert isinstance(outcome.undecided, Unavailable)
    assert shop.events() == {}


@pytest.mark.parametrize("is_erased", [True, False], ids=["erased", "gone"])
def test_an_import_whose_visitor_is_nobodys_again_by_then_is_sent_again(shop: Shop, is_erased: bool) -> None:
    """It meets the merge at its write, and asks whose the visitor is only after the merge was undone."""

    def nobodys() -> None:
        if is_erased:
            shop.erase(5, "u")
        else:
            pk, sk = keys.alias_key("anon_a")
            shop.table.client.delete_item(TableName=shop.table.name, Key={"PK": {"S": pk}, "SK": {"S": sk}})

    def merged() -> None:
        shop.merge(4, "a", "u")
        befores.append(Before(READ, "USER#anon_a", nobodys))

    befores = [Before(TRANSACT, "DAY#2019", merged)]
    work = shop.work(3)
    work.calls.befores = befores  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        shop.sent(work, "m", at=OLD, anonymousId="a")

    assert [before.is_over for before in befores] == [True, True]
    assert shop.send(10, "m", at=OLD, anonymousId="a") == ((0, 0, ["erased"]) if is_erased else ACCEPTED)
