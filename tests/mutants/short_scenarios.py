"""The explorer's scenarios that take a few seconds each, for the mutants alone: `tests/engine` has them all."""

from __future__ import annotations

from tests import explorer

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


def test_nothing_is_wrong() -> None:
    _, reports = explorer.explore(without=LONG)

    assert len(reports) > 15
    assert {name: report.wrong for name, report in reports.items() if report.wrong} == {}
