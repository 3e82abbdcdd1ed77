"""Fuzz tests prove what no list of cases can: that nothing that may be sent breaks the service or another's numbers."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.fuzz import FACTOR, figures

# The same examples each time, and none of them timed; others each time in a longer run.
settings.load_profile("ci")
if FACTOR > 1:
    settings.register_profile("fuzz", settings.get_profile("ci"), derandomize=False, print_blob=True)
    settings.load_profile("fuzz")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In one process, as `make fuzz` runs; workers keep theirs to themselves."""
    if figures.lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(figures.lines))
