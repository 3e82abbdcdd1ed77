"""The table remembers the zone that its days are in: whoever comes first says which."""

from __future__ import annotations

from typing import Any

import pytest

from service import store
from tests.builders import new_table
from tests.engine.test_overtaken import Before, Shop


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "zone"))


def test_the_first_zone_stays(shop: Shop) -> None:
    calls = shop.work(0).calls

    assert store.remembered_timezone(calls, "Europe/Berlin") == "Europe/Berlin"
    assert store.remembered_timezone(calls, "UTC") == "Europe/Berlin"
    assert calls.capacity.write_units == 1


def test_of_two_that_start_at_once_the_first_to_write_says_it(shop: Shop) -> None:
    def other() -> None:
        store.remembered_timezone(shop.work(0).calls, "Europe/Berlin")

    late = shop.work(0, Before(("put_item",), "SETTINGS", other))

    assert store.remembered_timezone(late.calls, "UTC") == "Europe/Berlin"
