"""Run scenarios and print what was found."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from service import events, ingest
from tests.explorer.processes import WINDOW
from tests.explorer.scenarios import scenarios
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
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as writer:
        patch.setattr(events.Rules, "days", lambda _: list(WINDOW))
        # The groups of a request one after another, in the same order each time it is put back.
        patch.setattr(ingest, "_writers", writer)
        patch.setattr(random, "shuffle", lambda _: None)
        for scenario in scenarios():
            is_wanted = only is None or only in scenario.name
            if is_wanted and not any(text in scenario.name for text in without):
                show = functools.partial(_show, scenario.name) if show_progress else (lambda _: None)
                reports[scenario.name] = Explorer(engine, scenario, show).run()
                if show_progress:
                    _result(scenario.name, reports[scenario.name])
    return engine, reports


def _show(name: str, states: int) -> None:
    if states % 500 == 0 and sys.stderr.isatty():
        print(f"\r{name}: {states:,} states", end="", file=sys.stderr, flush=True)


def _result(name: str, report: Report) -> None:
    if report.wrong:
        print(f"{name}: WRONG after {report.states:,} states: {report.wrong}", flush=True)
    else:
        print(f"{name}: {report.states:,} states, {report.schedules:,} schedules, none wrong", flush=True)
