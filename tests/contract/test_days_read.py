"""Of the days that there are, those with events: fences and seals are nobody's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from service import store
from tests import faults
from tests.builders import new_table
from tests.engine.conftest import NOON
from tests.engine.test_overtaken import ACCEPTED, DAY_SECONDS, TODAY, Shop

FIRST, LAST = ((NOON + timedelta(days=days)).date().isoformat() for days in (-40, 2))


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "days"))


def days_between(shop: Shop, distinct_id: str) -> list[str]:
    return [day.day for day in store.days_between(shop.work(0).calls, distinct_id, FIRST, LAST)]


def test_fences_on_either_side_are_passed_over(shop: Shop) -> None:
    shop.erase(0, "u")
    assert shop.send(1, "m", userId="u") == ACCEPTED
    with faults.injected() as log:
        assert store.outer_days(shop.work(0).calls, "u") == (TODAY, TODAY)

    # From either end one item, and then some dozens.
    assert log.operations == ["Query"] * 4
    assert days_between(shop, "u") == [TODAY]


def test_where_there_are_fences_alone_there_is_no_day(shop: Shop) -> None:
    shop.erase(0, "u")

    assert store.outer_days(shop.work(0).calls, "u") == (None, None)
    assert days_between(shop, "u") == []


def test_seals_are_no_days(shop: Shop) -> None:
    assert shop.send(0, "m", anonymousId="a") == ACCEPTED
    shop.merge(1, "a", "u")

    assert days_between(shop, "anon_a") == []
    assert days_between(shop, "u") == [TODAY]


def test_the_outer_days_are_found_with_an_item_each(shop: Shop) -> None:
    yesterday = (NOON - timedelta(days=1)).date().isoformat()
    assert shop.send(0, "m-1", at=-DAY_SECONDS, userId="u") == ACCEPTED
    assert shop.send(0, "m-2", userId="u") == ACCEPTED
    with faults.injected() as log:
        assert store.outer_days(shop.work(0).calls, "u") == (yesterday, TODAY)

    assert log.operations == ["Query"] * 2
