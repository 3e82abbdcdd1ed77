"""Merges and erasures that a request meets only at its write, or that it finds half done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from service import ingest, keys
from service.problems import Unavailable
from tests import faults
from tests.builders import new_table
from tests.contract.test_aliases import alias_of_a, read, stale_work
from tests.engine.conftest import NOON
from tests.engine.test_overtaken import ACCEPTED, OLD, READ, TRANSACT, Before, Counts, Shop

DUPLICATE: Counts = (0, 1, [])
OLD_DAY_OF_U = ("USER#u", "DAY#2019-12-24")
TODAY_OF_U = ("USER#u", f"DAY#{NOON.date()}")


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "late"))


def test_an_import_whose_visitor_becomes_a_user_meanwhile_is_the_users(shop: Shop) -> None:
    work = shop.work(3)
    merged = Before(TRANSACT, "DAY#2019", lambda: shop.merge(4, "a", "u"))
    work.calls.befores = [merged]  # type: ignore[attr-defined]

    assert shop.sent(work, "m", at=OLD, anonymousId="a") == ACCEPTED
    assert merged.is_over
    assert shop.events() == {OLD_DAY_OF_U: 1}
    assert shop.send(10, "m", at=OLD, anonymousId="a") == DUPLICATE


def test_an_import_finishes_a_half_done_merge_first_and_wastes_no_write(shop: Shop) -> None:
    no_query = faults.Fault("lose_request", attempts=None, operation="Query")
    with faults.injected(no_query), pytest.raises(Unavailable):
        shop.identify(0, "a", "u")
    with faults.injected(faults.Fault("lose_reply", attempts=0)) as log:
        assert shop.send(1, "m", at=OLD, anonymousId="a") == ACCEPTED

    # The end of the merge, and the import's own: none that fails on the alias.
    assert log.operations.count("TransactWriteItems") == 2
    assert shop.events() == {OLD_DAY_OF_U: 1}


def test_who_was_the_visitors_user_until_an_erasure_does_not_hide_the_first_copy(shop: Shop) -> None:
    """It was sent anonymously after the erasure; its retry names a user, and reads the alias as it was before."""
    shop.identify(0, "a", "v")
    stale = alias_of_a(shop)
    shop.erase(10, "v")
    assert shop.send(20, "m", anonymousId="a") == ACCEPTED
    work = stale_work(shop, 30, stale)
    made_at = (NOON + timedelta(seconds=20)).isoformat()
    retry = read(work, {"anonymousId": "a", "userId": "u", "messageId": "m", "timestamp": made_at})
    outcome = ingest.ingest(work, retry)

    assert isinstance(outcome.undecided, Unavailable)
    assert shop.send(31, "m", at=20, anonymousId="a", userId="u") == DUPLICATE
    assert shop.events() == {TODAY_OF_U: 1}


def test_an_import_of_before_an_erasure_does_not_reach_whom_the_visitor_became_after_it(shop: Shop) -> None:
    """Between its write, which meets the first merge, and its question whose the visitor is."""

    def another() -> None:
        shop.erase(5, "u")
        shop.merge(6, "a", "w")

    def merged() -> None:
        shop.merge(4, "a", "u")
        befores.append(Before(READ, "USER#anon_a", another))

    befores = [Before(TRANSACT, "DAY#2019", merged)]
    work = shop.work(3)
    work.calls.befores = befores  # type: ignore[attr-defined]

    assert shop.sent(work, "m", at=OLD, anonymousId="a") == (0, 0, ["erased"])
    assert [before.is_over for before in befores] == [True, True]
    assert shop.events() == {}


def test_an_identify_that_comes_second_at_its_write_is_told_so(shop: Shop) -> None:
    work = shop.work(3)
    work.calls.befores = [Before(TRANSACT, "ALIAS", lambda: shop.merge(2, "a", "v"))]  # type: ignore[attr-defined]

    assert shop.sent(work, "m", type="identify", anonymousId="a", userId="u") == (0, 0, ["identity_conflict"])


@pytest.mark.parametrize("erased", ["anon_a", "u"])
def test_a_merge_asked_for_after_an_erasure_waits_for_a_clock_that_is_behind_it(
    shop: Shop, erased: str
) -> None:
    """What the event asks for is not lost: the service asks for it again, as no clock says that it was of before."""
    shop.erase(10, erased)
    with pytest.raises(Unavailable):
        shop.send(5, "m", at=20, type="identify", anonymousId="a", userId="u")

    assert shop.send(30, "m", at=20, type="identify", anonymousId="a", userId="u") == ACCEPTED
    assert shop.item(keys.alias_key("anon_a"))["userId"] == {"S": "u"}


def test_an_erasure_by_a_clock_that_is_behind_takes_nothing_back_of_the_one_before(shop: Shop) -> None:
    first = shop.erase(10, "u")

    assert shop.erase(5, "u").erased_at == first.erased_at + 1
    assert shop.send(30, "m", at=7, userId="u") == (0, 0, ["erased"])
