"""An erasure that stops between two of its calls while others go on, and what one leaves for the next."""

from __future__ import annotations

from typing import Any

import pytest

from service import erasure, keys
from service.events import epoch_ms
from service.problems import Unavailable
from tests import faults
from tests.builders import item_at, items, new_table
from tests.engine.conftest import NOON
from tests.engine.test_overtaken import ACCEPTED, DAY_SECONDS, OLD, READ, TODAY, TRANSACT, Before, Shop

MARK = keys.erased_key("u")
NOON_MS = epoch_ms(NOON)


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "erasures"))


def erased_at(shop: Shop) -> int:
    """What the user's mark says, in milliseconds after noon."""
    return int(shop.item(MARK)["erasedAt"]["N"]) - NOON_MS


def die() -> None:
    raise Unavailable


def is_anything_pending(shop: Shop) -> bool:
    return any(pk.startswith("PENDING#") for pk, _ in items(shop.table))


def test_an_erasure_after_one_that_died_takes_what_came_between(shop: Shop) -> None:
    shop.erase_and_die(1, "u")
    assert shop.send(10, "m", userId="u") == ACCEPTED
    erased = shop.erase(20, "u")

    assert erased.erased_at == NOON_MS + 20_000
    assert shop.send(30, "m", at=10, userId="u") == (0, 0, ["erased"])
    assert shop.events() == {}


def test_of_two_that_begin_at_once_none_puts_the_time_back(shop: Shop) -> None:
    """The one whose clock is behind has read a mark that is not there."""
    shop.erase(0, "u", Before(TRANSACT, "USER#u", lambda: shop.erase(10, "u")))

    assert erased_at(shop) == 10_001
    assert not is_anything_pending(shop)


def test_one_overtaken_by_another_that_has_not_ended_is_not_done(shop: Shop) -> None:
    shop.identify(-10, "a", "u")

    def meanwhile() -> None:
        erasure.resume(shop.work(1), "u")
        shop.erase_and_die(2, "u")

    with pytest.raises(Unavailable):
        shop.erase(0, "u", Before(TRANSACT, "USER#anon_a", meanwhile))

    assert erased_at(shop) == 2_000
    assert shop.erase(3, "u").erased_at == NOON_MS + 3_000


def test_one_that_comes_late_to_put_its_time_after_a_merge_leaves_nothing_to_do(shop: Shop) -> None:
    """Its clock is behind that of a merge that it ends; another process ends the erasure before it says so."""
    late = Before(TRANSACT, str(NOON_MS + 6), lambda: erasure.resume(shop.work(1), "u"))
    shop.erase(0, "u", Before(TRANSACT, "USER#u", lambda: shop.merge(0.005, "a", "u")), late)

    assert erased_at(shop) == 6
    assert not is_anything_pending(shop)


def test_a_visitor_whom_another_process_freed_is_left_to_the_next_user(shop: Shop) -> None:
    """It has read the way back; the other frees the visitor and dies, and the visitor becomes another user."""
    shop.identify(-10, "a", "u")

    def meanwhile() -> None:
        with pytest.raises(Unavailable):
            erasure.resume(shop.work(1, Before(("put_item",), "'USER#u'", die)), "u")
        assert shop.identify(2, "a", "v") == ACCEPTED

    erased = shop.erase(0, "u", Before(READ, "USER#anon_a", meanwhile))

    assert erased.anonymous_ids == 0
    assert erased_at(shop) == 0
    assert shop.item(keys.alias_key("anon_a"))["userId"] == {"S": "v"}
    # A seal, which sends events on, and no fence, which would count them.
    assert shop.item(keys.day_key("anon_a", TODAY))["mergedInto"] == {"S": "v"}


def test_one_that_comes_late_to_free_a_visitor_finds_another_users(shop: Shop) -> None:
    """As before, but it has fenced the visitor's days by then."""
    shop.identify(-10, "a", "u")

    def meanwhile() -> None:
        with pytest.raises(Unavailable):
            erasure.resume(shop.work(1, Before(("put_item",), "'USER#u'", die)), "u")
        assert shop.identify(2, "a", "v") == ACCEPTED

    erased = shop.erase(0, "u", Before(TRANSACT, "USER#anon_a", meanwhile))

    assert erased.anonymous_ids == 0
    assert shop.item(keys.alias_key("anon_a"))["userId"] == {"S": "v"}
    assert "erasing" not in shop.item(MARK)


def test_one_that_comes_late_to_its_fences_leaves_what_was_counted_since(shop: Shop) -> None:
    def meanwhile() -> None:
        erasure.resume(shop.work(1), "u")
        assert shop.send(5, "m", userId="u") == ACCEPTED

    shop.erase(0, "u", Before(("put_item",), "'USER#u'", meanwhile))

    assert shop.events() == {("USER#u", f"DAY#{TODAY}"): 1}


def test_one_that_comes_late_to_a_day_of_long_ago_leaves_what_was_merged_since(shop: Shop) -> None:
    """Another process has ended the very same erasure."""
    shop.send(-10, "m-1", at=OLD, userId="u")
    shop.send(-10, "m-2", at=OLD, anonymousId="b")

    def meanwhile() -> None:
        erasure.resume(shop.work(1), "u")
        shop.merge(2, "b", "u")

    shop.erase(0, "u", Before(TRANSACT, "DAY#2019", meanwhile))

    assert shop.events() == {("USER#u", "DAY#2019-12-24"): 1}


def test_one_that_comes_late_to_its_end_does_not_end_the_next(shop: Shop) -> None:
    shop.erase_and_die(0, "u")

    def meanwhile() -> None:
        erasure.resume(shop.work(61), "u")
        shop.erase_and_die(70, "u")

    # Nothing else of it is a transaction.
    with pytest.raises(Unavailable):
        erasure.resume(shop.work(60, Before(TRANSACT, "'USER#u'", meanwhile)), "u")

    assert erased_at(shop) == 70_000
    assert "erasing" in shop.item(MARK)


def test_one_that_is_ended_weeks_later_leaves_what_was_counted_on_its_fences(shop: Shop) -> None:
    """No event may arrive on that day any more by then, and such days are deleted."""
    shop.erase_and_die(0, "u")
    with pytest.raises(Unavailable):
        erasure.resume(shop.work(60, Before(TRANSACT, "'USER#u'", die)), "u")
    assert shop.send(70, "m", userId="u") == ACCEPTED

    assert erasure.resume(shop.work(40 * DAY_SECONDS), "u") is not None
    assert "erasing" not in shop.item(MARK)
    assert shop.events() == {("USER#u", f"DAY#{TODAY}"): 1}


def test_a_day_of_long_ago_gets_no_fence(shop: Shop) -> None:
    shop.send(0, "m", at=OLD, userId="u")

    assert shop.erase(1, "u").days == 1
    assert item_at(shop.table, keys.day_key("u", "2019-12-24")) is None


def test_a_way_back_that_leads_nowhere_does_not_stop_it(shop: Shop) -> None:
    shop.identify(-10, "a", "u")
    alias = keys.alias_key("anon_a")
    shop.table.client.delete_item(
        TableName=shop.table.name, Key={"PK": {"S": alias.pk}, "SK": {"S": alias.sk}}
    )

    assert shop.erase(0, "u").anonymous_ids == 0
    assert "erasing" not in shop.item(MARK)


def test_a_mark_holds_the_time_and_that_of_a_visitor_its_status(shop: Shop) -> None:
    """By which exports name what was a person's."""
    shop.erase(0, "u")
    shop.erase(0, "anon_a")
    held = {"PK", "SK", "schema", "erasedAt", "expiresAt"}

    assert shop.item(MARK).keys() | {"PK", "SK"} == held
    visitor = shop.item(keys.alias_key("anon_a"))
    assert visitor.keys() | {"PK", "SK"} == held | {"status"}
    assert visitor["status"] == {"S": "erased"}


def test_a_visitor_is_not_asked_for_visitors(shop: Shop) -> None:
    with faults.injected() as log:
        shop.erase(0, "anon_a")

    # Its days, and its raw events.
    assert log.operations.count("Query") == 2
