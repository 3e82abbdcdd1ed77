"""What each test runs of the modules that write, and how long it takes: by it tests are chosen for a mutant."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tests.mutants.generate import Mutant

# A test that takes longer has to wait, however much it notices.
QUICK_SECONDS = 1.0


@dataclasses.dataclass
class Test:
    """One that passes without any change. `lines` are of each module it enters."""

    __test__ = False

    name: str
    seconds: float
    lines: dict[str, list[int]]

    def runs(self, mutant: Mutant) -> bool:
        """Whether it comes by what the mutant changes."""
        return not set(mutant.lines).isdisjoint(self.lines.get(mutant.module, ()))

    @property
    def cost(self) -> float:
        """Low for the quick, and for those that run little else."""
        return self.seconds * sum(map(len, self.lines.values()))


class Tracer:
    """Notes the lines of some files that are run, in every thread that begins meanwhile."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._local = {path: self._noting(module) for path, module in files.items()}
        self.lines: dict[str, set[int]] = {}

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """Until the end of the block."""
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)

    def taken(self) -> dict[str, list[int]]:
        """The lines since the last time this was asked."""
        taken, self.lines = self.lines, {}
        return {module: sorted(lines) for module, lines in taken.items()}

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        note = self._local.get(frame.f_code.co_filename)
        return None if note is None else note(frame, event, _)

    def _noting(self, module: str) -> Callable[[FrameType, str, Any], Any]:
        def note(frame: FrameType, event: str, _: Any) -> Any:
            self.lines.setdefault(module, set()).add(frame.f_lineno)
            return note

        return note


def chosen(tests: Iterable[Test], mutant: Mutant, noticed: Sequence[str] = ()) -> list[Test]:
    """The tests that run what it changes: first the quick ones that noticed others like it, the latest first; then by
    cost, in which those that noticed some count for a tenth."""
    rank: dict[str, int] = {}
    for name in reversed(noticed):
        rank.setdefault(name, len(rank))

    def key(test: Test) -> tuple[int, float]:
        if test.name not in rank:
            return len(rank), test.cost
        return (rank[test.name], 0) if test.seconds <= QUICK_SECONDS else (len(rank), test.cost / 10)

    return sorted((test for test in tests if test.runs(mutant)), key=key)


class Baselines:
    """Remembers the tests of each file, for as long as neither it nor those modules change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, file: str, digest: str) -> list[Test] | None:
        """The tests of a file that pass; None where they have to be run first."""
        known = self._known.get(file)
        if known is None or known["digest"] != digest:
            return None
        return [Test(**test) for test in known["tests"]]

    def set(self, file: str, digest: str, tests: Collection[Test]) -> None:
        """Remember them."""
        self._known[file] = {"digest": digest, "tests": [dataclasses.asdict(test) for test in tests]}
        self._path.write_text(json.dumps(self._known))
