"""A merge that stops between two of its calls while others go on: what it finds when it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from service import identities, ingest, keys, merge
from service.events import epoch_ms
from service.identities import Alias
from service.problems import Unavailable
from service.store import Work
from tests import faults
from tests.builders import new_table
from tests.contract.test_aliases import alias_of_a, read, stale_work
from tests.engine.conftest import NOON
from tests.engine.test_overtaken import ACCEPTED, OLD, TRANSACT, Before, Shop

OLD_DAY_OF_U = ("USER#u", "DAY#2019-12-24")
TODAY_OF_U = ("USER#u", f"DAY#{NOON.date()}")
ALIAS = keys.alias_key("anon_a")


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "merges"))


def joined(work: Work) -> Alias:
    return merge.join(work, "anon_a", "u", None, epoch_ms(work.now))


def before_it_ends(then: Any) -> Before:
    """The transaction that says `merged` names no day and no way back."""
    return Before(TRANSACT, "'merged'", then)


def test_a_day_that_was_counted_on_before_it_moved_moves_with_that(shop: Shop) -> None:
    assert shop.send(0, "m-1", anonymousId="a") == ACCEPTED
    counted = Before(TRANSACT, f"DAY#{NOON.date()}", lambda: shop.send(2, "m-2", anonymousId="a"))

    assert joined(shop.work(1, counted)).is_merged
    assert counted.is_over
    assert shop.events() == {TODAY_OF_U: 2}


def test_a_day_that_was_erased_before_it_moved_does_not(shop: Shop) -> None:
    """So old that no fence is left where it was."""
    assert shop.send(0, "m-1", at=OLD, anonymousId="a") == ACCEPTED
    erased = Before(TRANSACT, "DAY#2019", lambda: shop.erase(2, "u"))
    with pytest.raises(Unavailable):
        joined(shop.work(1, erased))

    assert erased.is_over
    assert shop.events() == {}


def test_days_that_moved_before_the_merge_died_are_among_those_it_moved(shop: Shop) -> None:
    assert shop.send(0, "m-1", at=OLD, anonymousId="a") == ACCEPTED
    assert shop.send(0, "m-2", anonymousId="a") == ACCEPTED

    def die() -> None:
        raise Unavailable

    with pytest.raises(Unavailable):
        joined(shop.work(1, before_it_ends(die)))
    shop.merge(2, "a", "u")

    assert shop.item(ALIAS)["days"] == {"N": "2"}
    assert shop.events() == {OLD_DAY_OF_U: 1, TODAY_OF_U: 1}


def test_a_merge_that_another_request_ended_is_at_its_end(shop: Shop) -> None:
    assert shop.send(0, "m-1", anonymousId="a") == ACCEPTED
    ended = before_it_ends(lambda: shop.merge(2, "a", "u"))

    assert joined(shop.work(1, ended)).is_merged
    assert ended.is_over
    assert shop.events() == {TODAY_OF_U: 1}


def test_a_merge_that_an_erasure_ended_is_none(shop: Shop) -> None:
    assert shop.send(0, "m-1", anonymousId="a") == ACCEPTED
    before = before_it_ends(lambda: shop.erase(2, "u"))
    with pytest.raises(Unavailable):
        joined(shop.work(1, before))

    assert before.is_over
    assert shop.events() == {}


def test_a_merge_whose_alias_is_gone_is_none(shop: Shop) -> None:
    """An erasure of long ago whose mark has expired, too."""
    gone = before_it_ends(
        lambda: shop.table.client.delete_item(
            TableName=shop.table.name, Key={"PK": {"S": ALIAS.pk}, "SK": {"S": ALIAS.sk}}
        )
    )
    with pytest.raises(Unavailable):
        joined(shop.work(1, gone))

    assert gone.is_over


def test_a_user_erased_in_the_millisecond_in_which_the_merge_began_gets_no_event_of_before(
    shop: Shop,
) -> None:
    shop.identify(4, "a", "u")
    stale = alias_of_a(shop)
    shop.erase(4, "u")
    work = stale_work(shop, 5, stale)
    outcome = ingest.ingest(work, read(work, {"anonymousId": "a", "messageId": "m"}))

    assert isinstance(outcome.undecided, Unavailable)
    assert shop.events() == {}


def test_who_is_told_that_another_user_has_the_visitor_leaves_the_merge_to_that_one(shop: Shop) -> None:
    identities.link(shop.work(0), "anon_a", "u", epoch_ms(NOON))
    work = shop.work(1)
    alias = merge.join(work, "anon_a", "v", None, epoch_ms(work.now))

    assert (alias.user_id, alias.is_merging) == ("u", True)
    assert shop.item(ALIAS)["status"] == {"S": "merging"}


def test_who_finds_the_merge_at_its_end_asks_for_nothing_more(shop: Shop) -> None:
    shop.merge(0, "a", "u")
    with faults.injected() as log:
        assert joined(shop.work(1)).is_merged

    assert log.operations == ["TransactWriteItems"]


def test_the_seal_of_a_day_of_long_ago_outlives_the_requests_under_way(shop: Shop) -> None:
    """The days on which events arrive are sealed for longer."""
    assert shop.send(0, "m-1", at=OLD, anonymousId="a") == ACCEPTED
    shop.merge(0, "a", "u")
    seal = shop.item(keys.day_key("anon_a", "2019-12-24"))

    assert int(seal["expiresAt"]["N"]) == NOON.timestamp() + 2 * 86_400
