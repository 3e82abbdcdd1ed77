"""The command line of the explorer."""

from __future__ import annotations

import argparse
import sys
import time

from tests import explorer
from tests.explorer.plants import PLANTS, plant
from tests.explorer.run import explore


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.explorer", description=(explorer.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--plant", metavar="NAME", help="plant this fault first; `list` names them")
    parser.add_argument("--only", metavar="TEXT", help="only scenarios whose name contains this")
    options = parser.parse_args()
    if options.plant == "list":
        print("\n".join(PLANTS))
        return 0
    only = options.only
    if options.plant:
        plant(options.plant)
        only = only or PLANTS[options.plant].found_by
    started = time.monotonic()
    engine, reports = explore(only, show_progress=True)
    states = sum(report.states for report in reports.values())
    schedules = sum(report.schedules for report in reports.values())
    print(
        f"{states:,} states, {schedules:,} schedules, {len(engine.steps):,} distinct steps, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if any(report.wrong for report in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
