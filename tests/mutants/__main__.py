"""The command line of the mutants."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests import dynamodb_local
from tests.mutants.generate import Mutant, mutants
from tests.mutants.reasons import REASONS

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = ("ingest", "counting", "identities", "merge", "erasure", "sweep", "days", "store")
# Processes that follow each other, each with the tests that come next; the first that fails ends it.
STAGES: tuple[tuple[str, ...], ...] = (
    (
        "tests/mutants/short_scenarios.py::test_two_ingests_and_a_merge",
        "tests/mutants/short_scenarios.py::test_an_erasure_and_an_order",
    ),
    ("tests/unit/test_days.py",),
    (
        "tests/contract/test_erasure.py",
        "tests/contract/test_erased_identities.py",
        "tests/contract/test_orders.py",
        "tests/contract/test_users.py",
        "tests/contract/test_sweep.py",
        "tests/contract/test_shared_devices.py",
        "tests/contract/test_ingest.py",
        "tests/engine/test_overtaken.py",
    ),
    ("tests/mutants/short_scenarios.py::test_nothing_is_wrong",),
)
# With --again: what survived all of these meets the rest.
THOROUGH = (
    (
        "tests/engine/test_limits.py",
        "tests/contract/test_export.py",
        "tests/contract/test_http.py",
        "tests/engine/test_cut_wires.py",
        "tests/engine/test_stateful.py",
        "tests/engine/test_explorer.py::test_every_interleaving_counts_each_event_once",
    ),
)
# Far over what they take: a mutant that goes round for ever is noticed too.
SECONDS_MAX = 900
# Heavy, and none of the service's own: imported once, for all mutants.
LIBRARIES = ("botocore.session", "fastapi", "httpx", "mangum", "moto.dynamodb.models", "pynamodb.models")
NOTICED, SURVIVED = "noticed", "survived"


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module of the service from a changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != f"service.{self.mutant.module}":
            return None
        origin = str(ROOT / "service" / f"{self.mutant.module}.py")
        return importlib.util.spec_from_file_location(name, origin, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.mutant.source, str(module.__file__), "exec"), module.__dict__)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose name contains this")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--list", action="store_true", help="name them, and try none")
    parser.add_argument(
        "--again", action="store_true", help="try again what survived the last run, and nothing else"
    )
    options = parser.parse_args()
    (ROOT / ".cache").mkdir(exist_ok=True)
    results = _Results(ROOT / ".cache" / "mutants.json")
    every = [mutant for mutant in generated() if options.only in mutant.name]
    if options.again:
        every = [mutant for mutant in every if results.known.get(mutant.name) == SURVIVED]
    if options.list:
        print("\n".join(mutant.name for mutant in every))
        return 0
    _run(every, options.workers, results, is_thorough=options.again)
    return _summary(every, results)


def generated() -> list[Mutant]:
    """Every mutant there is."""
    return [
        mutant
        for module in MODULES
        for mutant in mutants(module, (ROOT / "service" / f"{module}.py").read_text(encoding="utf-8"))
    ]


class _Results:
    """What became of each mutant, kept beside the build so that a run can be looked at afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, mutant: Mutant, result: str) -> None:
        self.known[mutant.name] = result
        self.path.write_text(json.dumps(self.known, indent=1))


def _run(every: Sequence[Mutant], workers: int, results: _Results, *, is_thorough: bool) -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    started, done = time.monotonic(), 0
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(dynamodb_local.running()) for _ in range(workers)]
        unchanged = Mutant("days", 0, "", (ROOT / "service" / "days.py").read_text(encoding="utf-8"))
        free = list(urls)
        running: dict[int, tuple[Mutant, str]] = {}
        waiting = [*reversed(every), unchanged]
        while waiting or running:
            while waiting and free:
                mutant, url = waiting.pop(), free.pop()
                running[_forked(mutant, url, is_thorough)] = (mutant, url)
            pid, status = os.wait()
            mutant, url = running.pop(pid)
            free.append(url)
            if mutant is unchanged:
                if status != 0:
                    sys.exit("Without any change a test fails, so nothing is learnt: see .cache/mutants.log")
                continue
            done += 1
            result = SURVIVED if status == 0 else NOTICED
            results.add(mutant, result)
            print(
                f"{done}/{len(every)} {time.monotonic() - started:.0f} s {result:8} {mutant.name}", flush=True
            )


def _forked(mutant: Mutant, url: str, is_thorough: bool) -> int:
    """Try one in a process of its own, which ends with 0 when no test noticed it."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        stages = THOROUGH if is_thorough else STAGES
        status = int(any(_fails(mutant, url, tests) for tests in stages))
    finally:
        os._exit(status)


def _fails(mutant: Mutant, url: str, tests: Sequence[str]) -> bool:
    """Whether one of these tests does, in a process that has imported none of the service yet."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] != 0
    status = 1
    try:
        status = _tried(mutant, url, tests)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _tried(mutant: Mutant, url: str, tests: Sequence[str]) -> int:
    sys.meta_path.insert(0, _Changed(mutant))

    @contextlib.contextmanager
    def running(port: int | None = None) -> Iterator[str]:
        yield url

    dynamodb_local.running = running
    os.chdir(ROOT)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.devnull
    log = ROOT / ".cache" / "mutants.log"
    with (Path(os.devnull) if mutant.change else log).open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    signal.alarm(SECONDS_MAX)
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    # Imported above, before pytest could rewrite them, which libraries do not need.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    arguments += dict.fromkeys(tests)
    return int(pytest.main(arguments) != pytest.ExitCode.OK)


def _summary(every: Sequence[Mutant], results: _Results) -> int:
    print("\n| module | mutants | noticed | survived |\n|---|---|---|---|")
    for module in MODULES:
        names = [mutant.name for mutant in every if mutant.module == module]
        survived = sum(results.known.get(name) == SURVIVED for name in names)
        print(f"| `{module}` | {len(names)} | {len(names) - survived} | {survived} |")
    alive = [mutant for mutant in every if results.known.get(mutant.name) == SURVIVED]
    for mutant in alive:
        print(f"\n{mutant.name}\n    {REASONS.get(mutant.name.partition(': ')[2], 'NO REASON GIVEN')}")
    return int(any(mutant.name.partition(": ")[2] not in REASONS for mutant in alive))


if __name__ == "__main__":
    sys.exit(main())
