"""The explorer's scenarios that take a few seconds each, for the mutants alone: `tests/engine` has them all."""

from __future__ import annotations

import pytest

from tests import explorer
from tests.explorer.table import Engine

LONG = (
    "an ingest, the same merge twice",
    "its retry with both ids, a merge to another",
    "an import of an old event, merges",
    "two imports of one old event",
    "an old event, its import",
    "a merge, an erasure",
    "an erasure, a late retry",
    "an import of a visitor",
    "an import of a merged visitor",
    "two erasures",
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """One for all: two in one process would both answer."""
    return Engine()


def test_two_ingests_and_a_merge(engine: Engine) -> None:
    assert wrong(explorer.explore("two ingests of one event", engine=engine)) == {}


def test_an_erasure_and_an_order(engine: Engine) -> None:
    assert wrong(explorer.explore("an order of two", engine=engine)) == {}
    assert wrong(explorer.explore("an event of the user, an erasure", engine=engine)) == {}


def test_nothing_is_wrong(engine: Engine) -> None:
    assert wrong(explorer.explore(without=LONG, engine=engine)) == {}


def wrong(explored: tuple[Engine, dict[str, explorer.Report]]) -> dict[str, str]:
    """What was found, of some scenarios at least."""
    assert explored[1]
    return {name: report.wrong for name, report in explored[1].items() if report.wrong}
