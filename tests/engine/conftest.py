"""One table for the tests of a run that keep apart by their ids, and a shop on it whose process has just started."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from service.dynamodb import Table
from tests.engine.shop import Shop, new_table, opened

# A day to come: nothing made on it has expired by the clock of any process.
NOON = datetime(2035, 3, 15, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def table(dynamodb_url: str) -> Table:
    return new_table(dynamodb_url)


@pytest.fixture(scope="module")
def small_window_shop(table: Table) -> Iterator[Shop]:
    """Events of a day back at most, so that a merge has five days to seal."""
    with opened(table, NOON, MAX_EVENT_AGE_DAYS="1") as shop:
        shop.warm_up()
        yield shop


@pytest.fixture
def prefix() -> str:
    """What a test begins its ids with, so that nobody else has them."""
    return uuid.uuid4().hex[:12]
