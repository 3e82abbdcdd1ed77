"""Run scenarios and print what was found."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from service import events
from tests.explorer.scenarios import WINDOW, scenarios
from tests.explorer.states import Explorer, Report
from tests.explorer.table import Engine


def explore(
    only: str | None = None,
    *,
    without: Sequence[str] = (),
    show_progress: bool = False,
    engine: Engine | None = None,
) -> tuple[Engine, dict[str, Report]]:
    """Explore every scenario, or those whose name contains `only` and nothing of `without`, on one engine."""
    engine = engine or Engine()
    reports: dict[str, Report] = {}
    window = events.Rules.days
    events.Rules.days = lambda _: list(WINDOW)  # type: ignore[assignment,method-assign]
    try:
        for scenario in scenarios():
            is_wanted = only is None or only in scenario.name
            if is_wanted and not any(text in scenario.name for text in without):
                show = functools.partial(_show, scenario.name) if show_progress else (lambda _: None)
                reports[scenario.name] = Explorer(engine, scenario, show).run()
                if show_progress:
                    _result(scenario.name, reports[scenario.name])
    finally:
        events.Rules.days = window  # type: ignore[method-assign]
    return engine, reports


def _show(name: str, states: int) -> None:
    if states % 500 == 0 and sys.stderr.isatty():
        print(f"\r{name}: {states:,} states", end="", file=sys.stderr, flush=True)


def _result(name: str, report: Report) -> None:
    if report.wrong:
        print(f"{name}: WRONG after {report.states:,} states: {report.wrong}", flush=True)
    else:
        print(f"{name}: {report.states:,} states, {report.schedules:,} schedules, none wrong", flush=True)
