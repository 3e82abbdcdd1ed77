"""The explorer's scenarios, a test each, for the mutants alone: `tests/engine` has them in one."""

from __future__ import annotations

import pytest

from tests import explorer
from tests.explorer.table import Engine

# Each takes more than ten seconds, and is not needed: what they find is found by others.
LONG = (
    "an ingest, the same merge twice",
    "an event, its retry with both ids, a merge to another",
    "an import of an old event, merges to two users",
    "two imports of one old event, a merge",
    "an old event, its import with both ids, two crashes",
    "a merge, an erasure, a crash",
    "a merge, an erasure, a later event",
    "an ingest, a merge, an erasure",
    "an erasure, a late retry, two crashes",
    "an import of a visitor, an erasure, two crashes",
    "an import of a merged visitor, an erasure",
    "two erasures",
)
NAMES = [scenario.name for scenario in explorer.scenarios()]


@pytest.fixture(scope="session")
def explored() -> Engine:
    """One for all, which remembers the steps they have in common."""
    return Engine()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LONG])
def test_nothing_is_wrong(name: str, explored: Engine) -> None:
    longer = [other for other in NAMES if name in other and other != name]
    _, reports = explorer.explore(name, without=longer, engine=explored)

    assert list(reports) == [name]
    assert reports[name].wrong is None
