"""The command line of the mutants."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.mutants.baseline import Baselines
from tests.mutants.generate import Mutant, mutants
from tests.mutants.reasons import REASONS
from tests.mutants.results import SURVIVED, Results

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
LOG = CACHE / "mutants.log"
MODULES = (
    "ingest",
    "counting",
    "identities",
    "merge",
    "erasure",
    "sweep",
    "days",
    "store",
    "raw_events",
    "packing",
    "recount",
)
# All that run in this process and come by those modules. A mutant meets those that run what it changes.
TESTS = (
    "tests/unit/test_days.py",
    "tests/unit/test_packing.py",
    "tests/unit/test_packing_bounds.py",
    "tests/unit/test_recount.py",
    "tests/contract/test_aliases.py",
    "tests/contract/test_aliases_met_late.py",
    "tests/contract/test_calls_spared.py",
    "tests/contract/test_erased_identities.py",
    "tests/contract/test_erasure.py",
    "tests/contract/test_erasures_overtaken.py",
    "tests/contract/test_export.py",
    "tests/contract/test_ingest.py",
    "tests/contract/test_many_visitors.py",
    "tests/contract/test_merges_overtaken.py",
    "tests/contract/test_days_read.py",
    "tests/contract/test_moments.py",
    "tests/contract/test_orders.py",
    "tests/contract/test_raw_events.py",
    "tests/contract/test_raw_events_erased.py",
    "tests/contract/test_recount.py",
    "tests/contract/test_remembered_zone.py",
    "tests/contract/test_shared_devices.py",
    "tests/contract/test_sweep.py",
    "tests/contract/test_time.py",
    "tests/contract/test_timeline.py",
    "tests/contract/test_timeline_bounds.py",
    "tests/contract/test_users.py",
    "tests/engine/test_limits.py",
    "tests/engine/test_overtaken.py",
    "tests/engine/test_recount.py",
    "tests/mutants/scenarios.py",
)
SURVIVORS_MAX = 4


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose name contains this")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--list", action="store_true", help="name them, and try none")
    parser.add_argument("--fresh", action="store_true", help="try also what is known from the last run")
    options = parser.parse_args()
    every = [mutant for mutant in generated() if options.only in mutant.name]
    if options.list:
        print("\n".join(mutant.name for mutant in every))
        return 0
    CACHE.mkdir(exist_ok=True)
    files = [file for file in TESTS if (ROOT / file).exists()]
    results = Results(CACHE / "mutants.json", ROOT, files, is_fresh=options.fresh)
    waiting = [mutant for mutant in every if results.get(mutant) is None]
    if len(waiting) < len(every):
        print(f"{len(every) - len(waiting)} are known from before; --fresh tries them again")
    if waiting:
        _try(waiting, files, results, options.workers)
    return _summary(every, results)


def generated() -> list[Mutant]:
    """Every mutant there is."""
    return [
        mutant
        for module in MODULES
        for mutant in mutants(module, (ROOT / "service" / f"{module}.py").read_text(encoding="utf-8"))
    ]


def _try(waiting: Sequence[Mutant], files: Sequence[str], results: Results, workers: int) -> None:
    # Not before: it imports what pytest is to rewrite.
    from tests.mutants.trials import Plan, Trials

    os.chdir(ROOT)
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    with _apart() as show:
        baselines = Baselines(CACHE / "mutants-tests.json")
        trials = Trials(Plan(ROOT, MODULES, files, waiting, baselines, results, workers, show))
        status = pytest.main(arguments, [trials])
    if status != pytest.ExitCode.OK:
        sys.exit(f"pytest ended with {status!r}: see {LOG}")


@contextlib.contextmanager
def _apart() -> Iterator[Callable[[str], None]]:
    """What tests print goes to a file; this prints."""
    with LOG.open("w") as log, os.fdopen(os.dup(1), "w", buffering=1) as output:
        streams = [(os.dup(number), number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(log.fileno(), number)
            yield lambda line: print(line, file=output)
        finally:
            for kept, number in streams:
                os.dup2(kept, number)
                os.close(kept)


def _summary(every: Sequence[Mutant], results: Results) -> int:
    print("\n| module | mutants | noticed | survived |\n|---|---:|---:|---:|")
    alive = [mutant for mutant in every if (found := results.get(mutant)) and found.status == SURVIVED]
    for module in [*MODULES, "all"]:
        of_module = [mutant for mutant in every if module in (mutant.module, "all")]
        survived = sum(mutant in alive for mutant in of_module)
        shown = module if module == "all" else f"`{module}`"
        print(f"| {shown} | {len(of_module)} | {len(of_module) - survived} | {survived} |")
    for mutant in alive:
        print(
            f"\n{mutant.name}\n    {REASONS.get(mutant.reason_key, 'NO REASON GIVEN: ' + mutant.reason_key)}"
        )
    return int(len(alive) > SURVIVORS_MAX or any(mutant.reason_key not in REASONS for mutant in alive))


if __name__ == "__main__":
    sys.exit(main())
