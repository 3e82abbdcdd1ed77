"""Mutants tried inside one pytest that has imported and collected everything: each in a fork of it, test by test."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from tests import dynamodb_local
from tests.mutants.baseline import Baselines, Test, Tracer, chosen
from tests.mutants.generate import Mutant
from tests.mutants.results import Result, Results, digest_of
from tests.mutants.swapped import swap

# A test that takes longer is taken for endless: this much, and so many times what it takes without a change.
SECONDS_MORE = 30.0
TIMES_MORE = 6
# An engine answers slower the more tables it has.
TRIALS_PER_ENGINE = 25
_PASSED, _FAILED, _BROKEN = 0, 1, 2


@dataclass
class Plan:
    """What a run is to do."""

    root: Path
    modules: Sequence[str]
    files: Sequence[str]
    mutants: Sequence[Mutant]
    baselines: Baselines
    results: Results
    workers: int
    show: Callable[[str], None]


@dataclass
class _Engine:
    """A DynamoDB Local of one worker's, started anew now and then."""

    stack: contextlib.ExitStack
    url: str = ""
    trials: int = TRIALS_PER_ENGINE

    def next_url(self) -> str:
        if self.trials == TRIALS_PER_ENGINE:
            self.stack.close()
            self.url = self.stack.enter_context(dynamodb_local.running())
            self.trials = 0
        self.trials += 1
        return self.url


@dataclass
class _Trial:
    """One that is under way. In `log` its process notes each test before it runs it."""

    mutant: Mutant
    engine: _Engine
    log: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    started: float = field(default_factory=time.monotonic)


class Trials:
    """A plugin of pytest, which runs in place of its loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # By module and function; by module alone under no function's name.
        self.noticed: dict[tuple[str, str], list[str]] = {
            (module, ""): plan.results.noticing(module) for module in plan.modules
        }
        self.late: Callable[[pytest.TestReport], None] = lambda _: None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Where a fork learns what became of a test."""
        self.late(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Everything is collected, and nothing has run yet."""
        if session.testsfailed:
            raise session.Interrupted("tests cannot be collected")
        with contextlib.ExitStack() as stack:
            engines = [_Engine(stack.enter_context(contextlib.ExitStack())) for _ in range(self.plan.workers)]
            gc.freeze()
            tests = self._tests(session.items, engines[0])
            self._try(session.items, tests, engines)
        return True

    # --- without a change -------------------------------------------------------------------------------------------

    def _tests(self, items: Sequence[pytest.Item], engine: _Engine) -> list[Test]:
        """Every test that passes, from before or run now."""
        service = digest_of(*(self.plan.root / "service" / f"{module}.py" for module in self.plan.modules))
        tests: list[Test] = []
        for file in self.plan.files:
            of_file = [item for item in items if item.nodeid.partition("::")[0] == file]
            digest = service + digest_of(self.plan.root / file)
            known = self.plan.baselines.get(file, digest)
            if known is None:
                started = time.monotonic()
                known = self._baseline(of_file, engine)
                self.plan.baselines.set(file, digest, known)
                failed = sorted({item.nodeid for item in of_file} - {test.name for test in known})
                self.plan.show(f"{file}: {len(known)} tests, {time.monotonic() - started:.0f} s")
                for name in failed:
                    self.plan.show(f"    fails or is skipped without any change, so it is left out: {name}")
            tests += known
        return tests

    def _baseline(self, items: Sequence[pytest.Item], engine: _Engine) -> list[Test]:
        url = engine.next_url()
        with tempfile.TemporaryDirectory() as folder:
            found = Baselines(Path(folder) / "tests.json")

            def run() -> int:
                found.set("", "", self._traced(items))
                return _PASSED

            os.waitpid(_forked(run, url), 0)
            return Baselines(Path(folder) / "tests.json").get("", "") or []

    def _traced(self, items: Sequence[pytest.Item]) -> list[Test]:
        files = {str(self.plan.root / "service" / f"{module}.py"): module for module in self.plan.modules}
        tracer, tests = Tracer(files), []
        failed: set[str] = set()

        def late(report: pytest.TestReport) -> None:
            if not report.passed:
                failed.add(report.nodeid)

        self.late = late
        with tracer.tracing():
            for item, following in _with_next(items):
                started = time.monotonic()
                _run(item, following)
                tests.append(Test(item.nodeid, round(time.monotonic() - started, 3), tracer.taken()))
        return [test for test in tests if test.name not in failed]

    # --- with a change ----------------------------------------------------------------------------------------------

    def _try(self, items: Sequence[pytest.Item], tests: Sequence[Test], engines: list[_Engine]) -> None:
        by_name = {item.nodeid: item for item in items}
        running: dict[int, _Trial] = {}
        free = list(engines)
        waiting = list(reversed(self.plan.mutants))
        started, done = time.monotonic(), 0
        while waiting or running:
            while waiting and free:
                mutant, engine = waiting.pop(), free.pop()
                known = [
                    name
                    for function in ("", mutant.function)
                    for name in self.noticed.get((mutant.module, function), [])
                ]
                trial = _Trial(mutant, engine)
                relevant = chosen(tests, mutant, known)
                running[self._begun(trial, [(test, by_name[test.name]) for test in relevant])] = trial
            pid, status = os.wait()
            if (ended := running.pop(pid, None)) is None:
                continue  # An engine.
            free.append(ended.engine)
            result = self._result(ended, status)
            done += 1
            self.plan.show(
                f"{done}/{len(self.plan.mutants)} {time.monotonic() - started:.0f} s {result.status:8} "
                f"{result.seconds:5.1f} s {result.name}"
            )

    def _begun(self, trial: _Trial, tests: Sequence[tuple[Test, pytest.Item]]) -> int:
        def run() -> int:
            swap(trial.mutant)
            return self._first_failure(tests, trial.log)

        return _forked(run, trial.engine.next_url())

    def _first_failure(self, tests: Sequence[tuple[Test, pytest.Item]], log: IO[bytes]) -> int:
        def late(report: pytest.TestReport) -> None:
            if report.failed:
                os._exit(_FAILED)

        self.late = late
        seconds = {item.nodeid: test.seconds for test, item in tests}
        for item, following in _with_next([item for _, item in tests]):
            os.pwrite(log.fileno(), item.nodeid.encode() + b"\n" + b" " * 600, 0)
            signal.setitimer(signal.ITIMER_REAL, SECONDS_MORE + TIMES_MORE * seconds[item.nodeid])
            try:
                _run(item, following)
            except BaseException:  # noqa: BLE001 - what ends pytest is a failure too
                return _FAILED
        return _PASSED

    def _result(self, trial: _Trial, status: int) -> Result:
        code = os.waitstatus_to_exitcode(status)
        trial.log.seek(0)
        by = trial.log.readline().decode().strip() if code else ""
        trial.log.close()
        if code == _BROKEN:
            raise RuntimeError(f"{trial.mutant.name} could not be tried")
        if by:
            for function in ("", trial.mutant.function):
                known = self.noticed.setdefault((trial.mutant.module, function), [])
                known[:] = [*(name for name in known if name != by), by]
        late = code == -signal.SIGALRM
        return self.plan.results.add(trial.mutant, by, time.monotonic() - trial.started, is_late=late)


def _with_next(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    yield from zip(items, [*items[1:], None], strict=True)


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)


def _forked(run: Callable[[], int], url: str) -> int:
    """The id of a process that does this on this engine, and ends with what it answers."""
    pid = os.fork()
    if pid:
        return pid
    status = _BROKEN
    try:
        _apart(url)
        status = run()
    except BaseException:  # noqa: BLE001 - nothing may go on behind a fork
        traceback.print_exc()
    finally:
        os._exit(status)


def _apart(url: str) -> None:
    """A fork starts no engine of its own."""

    @contextlib.contextmanager
    def running(port: int | None = None) -> Iterator[str]:
        yield url

    dynamodb_local.running = running
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.devnull
