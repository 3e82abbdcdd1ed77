"""Every kind of request, each call it makes of the database, each way it can fail: `python -m tests.engine.matrix`.

Prints a table of how many cases there are and how many ended wrong; `--markdown` writes it for docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.dynamodb import Table
from tests import dynamodb_local, faults
from tests.engine.cases import REQUESTS, SEEN_ELSEWHERE, Prepare
from tests.engine.killing import Nursery, kill, nursery
from tests.engine.raw_cases import RAW_REQUESTS, RAW_SEEN_ELSEWHERE, VARIABLES
from tests.engine.shop import new_table
from tests.engine.stage import Stage, cut, staged
from tests.engine.ways import FEW_KILLS, KILLED, KILLS, KINDS_OF_FAULT, Way, calls_of, ways_of

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


ALL_REQUESTS = REQUESTS | RAW_REQUESTS
FEW = SEEN_ELSEWHERE | RAW_SEEN_ELSEWHERE
PAGE_COLUMNS = 120
_NOTE = (
    "Each call fails in every way: before and after it took effect, once and at each attempt. Only where the same "
    "steps are taken by another request does it fail in one way of each kind, after which the client has to come "
    "back; of calls alike in a row the first and the last do. Those requests are "
    + "; ".join(
        ", ".join(f"*{request}*" for request, other in SEEN_ELSEWHERE.items() if other == whole)
        + f" (like *{whole}*)"
        for whole in dict.fromkeys(SEEN_ELSEWHERE.values())
    )
    + "; and all in which raw events are kept, whose last calls alone are new. An erasure fences seven days here, 37 "
    "in service."
)


@dataclass(frozen=True)
class Cut:
    """A call of a request that fails in some way, its process going on."""

    request: str
    call: int
    title: str
    way: Way

    def __str__(self) -> str:
        operation = ALL_REQUESTS[self.request][1][self.call - 1]
        return f"{self.request}-call {self.call} {operation}-{self.title}"

    @property
    def kind(self) -> str:
        return self.way.kind

    def run(self, stage: Stage, _: Nursery) -> int:
        return cut(stage, self.request, self.call, self.way)


@dataclass(frozen=True)
class Kill:
    """A call of a request before or after which its process is killed."""

    request: str
    call: int
    action: faults.Action

    def __str__(self) -> str:
        operation = ALL_REQUESTS[self.request][1][self.call - 1]
        return f"{self.request}-{self.action} call {self.call} {operation}"

    @property
    def kind(self) -> str:
        return KILLED

    def run(self, stage: Stage, servers: Nursery) -> int:
        return kill(stage, servers, self.request, faults.Fault(self.action, call=self.call))


def _cuts(requests: Mapping[str, tuple[Prepare, list[str]]]) -> list[Cut]:
    return [
        Cut(request, call, title, way)
        for request, (_, operations) in requests.items()
        for call, title, way in ways_of(operations, is_few=request in FEW)
    ]


def _killings(requests: Mapping[str, tuple[Prepare, list[str]]]) -> list[Kill]:
    return [
        Kill(request, call, action)
        for request, (_, operations) in requests.items()
        for call in calls_of(operations, is_few=request in FEW)
        for action in (FEW_KILLS if request in FEW else KILLS)
    ]


CUTS, KILLINGS = _cuts(REQUESTS), _killings(REQUESTS)
RAW_CUTS, RAW_KILLINGS = _cuts(RAW_REQUESTS), _killings(RAW_REQUESTS)


@dataclass
class Count:
    """What came of some cases."""

    cases: Counter[tuple[str, str]] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, case: Cut | Kill, stage: Stage, servers: Nursery) -> None:
        """Run one more."""
        self.cases[case.request, case.kind] += 1
        with contextlib.redirect_stdout(io.StringIO()) as log:
            try:
                self.retries[case.request] += case.run(stage, servers)
            except AssertionError:
                self.wrong[case.request] += 1
                print(f"{case}:\n{log.getvalue()}{traceback.format_exc()}", file=sys.stderr)

    def rows(self) -> Iterator[list[str]]:
        """A header, a row for each request, and their sum."""
        yield ["request", "database calls", *KINDS_OF_FAULT, "cases", "retries", "wrong"]
        sums = [0] * (len(KINDS_OF_FAULT) + 4)
        for request, (_, operations) in ALL_REQUESTS.items():
            cases = [self.cases[request, kind] for kind in KINDS_OF_FAULT]
            numbers = [len(operations), *cases, sum(cases), self.retries[request], self.wrong[request]]
            sums = [total + number for total, number in zip(sums, numbers, strict=True)]
            yield [request, *(f"{number:,}" for number in numbers)]
        yield ["all", *(f"{number:,}" for number in sums)]


def run(url: str, only: str) -> Count:
    """Every case whose name contains this."""
    count = Count()
    parts: list[tuple[list[Cut | Kill], dict[str, str]]] = [
        ([*CUTS, *KILLINGS], {}),
        ([*RAW_CUTS, *RAW_KILLINGS], VARIABLES),
    ]
    for cases, variables in parts:
        with theatre(url, **variables) as (stage, servers):
            for case in cases:
                if only in str(case):
                    count.add(case, stage, servers)
    return count


def markdown(rows: Iterator[list[str]]) -> str:
    """A table whose numbers are on the right, and what it does not say by itself."""
    head, *rest = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
    return (
        "".join("| " + " | ".join(line) + " |\n" for line in lines)
        + f"\n{textwrap.fill(_NOTE, PAGE_COLUMNS)}\n"
    )


def text(rows: Iterator[list[str]]) -> str:
    """The same for a terminal."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        + "\n"
        for line in lines
    )


@contextlib.contextmanager
def theatre(url: str, **variables: str) -> Iterator[tuple[Stage, Nursery]]:
    """A stage and its servers, on a table of their own."""
    table: Table = new_table(url)
    with staged(table, **variables) as stage, nursery(table, url, **variables) as servers:
        yield stage, servers


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.engine.matrix", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="only cases whose name contains this")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there too")
    options = parser.parse_args()
    started = time.monotonic()
    os.environ.update(ENVIRONMENT)
    with dynamodb_local.running() as url:
        count = run(url, options.only)
    # Those of the engine and of the servers too, which have ended.
    processor_seconds = sum(os.times()[:4])
    print(f"{text(count.rows())}{time.monotonic() - started:.0f} s, {processor_seconds:.0f} s of one core")
    if options.markdown:
        options.markdown.write_text(markdown(count.rows()), encoding="utf-8")
    return 1 if count.wrong.total() else 0


if __name__ == "__main__":
    sys.exit(main())
