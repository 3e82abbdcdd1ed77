"""Measure what a request costs: processor time against a bare handler, and DynamoDB's request units.

make bench                          prints the tables
make bench ARGS=--check             and fails when a target is missed
make bench ARGS=--instructions      counts instructions too, where valgrind is installed
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import processor, shop, units
from bench.processor import RATIOS, Measured
from bench.shop import Shop
from service.dynamodb import Table, connect, create_table
from tests import dynamodb_local

# Enough different requests that nothing is measured which a cache of the last one would answer.
REQUESTS = 20
YEAR_DAYS = 376


def main(arguments: list[str]) -> int:
    """Print the tables; answer the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what a request costs.")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target is missed")
    parser.add_argument("--instructions", action="store_true", help="count instructions too, by valgrind")
    options = parser.parse_args(arguments)
    if options.instructions and not shutil.which("valgrind"):
        parser.error("--instructions needs valgrind, which is not on the PATH")
    _isolate()
    report = Report()
    try:
        with (
            _without_logs(),
            dynamodb_local.running() as url,
            tempfile.TemporaryDirectory() as folder,
        ):
            _measure(report, url, Path(folder), counts_instructions=options.instructions)
    except dynamodb_local.EngineError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(report.lines))
    return 1 if options.check and report.is_missed else 0


class Report:
    """Lines to print, and whether a target was missed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_missed = False

    def add(self, line: str = "") -> None:
        self.lines.append(line.rstrip())

    def verdict(self, *, is_met: bool) -> str:
        self.is_missed |= not is_met
        return "met" if is_met else "MISSED"


def _measure(report: Report, url: str, folder: Path, *, counts_instructions: bool) -> None:
    now = shop.noon(datetime.now(UTC))
    table = Table(connect(url), shop.SETTINGS.table)
    create_table(table.client, table.name)
    footfall = Shop(table, now)
    reader_id = shop.new_id("user", "reader")
    footfall.live({"userId": reader_id}, YEAR_DAYS, shop.varied)

    requests = processor.requests_of(footfall, now, reader_id, REQUESTS, "recorded")
    with processor.recorder(url) as recorder_url:
        recorded = processor.measure(recorder_url, requests, folder)
        counted = processor.instructions(recorder_url, requests, folder) if counts_instructions else None
    # The engine remembers, so each request reaches it once.
    once = processor.WARM_UP_INVOCATIONS + processor.BLOCKS * processor.BLOCK_INVOCATIONS
    requests = processor.requests_of(footfall, now, reader_id, once, "engine")
    on_engine = processor.measure(url, requests, folder, rounds=1)

    _report_processor(report, recorded, on_engine, counted)
    _report_per_event(report, footfall)
    _report_prices(report, footfall, reader_id)


def _report_processor(
    report: Report, recorded: Measured, on_engine: Measured, counted: Measured | None
) -> None:
    last = "k instr." if counted else ""
    report.add(f"{'Processor time of an invocation, us':<44}{'recorded':>12}{'DynamoDB Local':>18}{last:>12}")
    for name in processor.HANDLERS:
        last = f"{counted.typical(name):,.0f}" if counted else ""
        report.add(f"  {name:<42}{recorded.typical(name):12,.0f}{on_engine.typical(name):18,.0f}{last:>12}")
    report.add()
    report.add(f"{'as a ratio to the bare handler':<44}{'median (min .. max)':<22}target")
    for name, (_, target) in RATIOS.items():
        ratios = recorded.ratios(name)
        middle = ratios[len(ratios) // 2]
        against = f"< {target:g}  {report.verdict(is_met=middle < target)}" if target is not None else "none"
        others = f"DynamoDB Local {on_engine.ratios(name)[0]:.2f}"
        if counted:
            others += f", instructions {counted.ratios(name)[0]:.2f}"
        spread = f"{middle:.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})"
        report.add(f"  {name:<42}{spread:<22}{against:<14}{others}")
    report.add()


def _report_per_event(report: Report, footfall: Shop) -> None:
    heads = "".join(f"{count:>14,}" for count in units.TARGETS)
    report.add(f"{'WRU per event, average of a user-day of':<44}{heads}")
    plain = units.per_event(footfall, {"userId": "u-1"}, shop.plain_event)
    cells = ""
    for count, average in plain.items():
        target = units.TARGETS[count]
        verdict = report.verdict(is_met=round(average, 2) <= target) if target is not None else ""
        cells += f"{average:.3f} {verdict}".rjust(14)
    report.add(f"  {'page views of u-1':<42}{cells}")
    targets = (f"<= {target:.2f}" if target is not None else "none" for target in units.TARGETS.values())
    report.add(f"  {'target':<42}" + "".join(target.rjust(14) for target in targets))
    visits = units.per_event(footfall, {"userId": shop.new_id("user", "busy")}, shop.visit_event)
    cells = "".join(f"{average:.3f}".rjust(14) for average in visits.values())
    report.add(f"  {'GA4 visits, UUIDs, 6 names of its own':<42}{cells}")
    report.add()


def _report_prices(report: Report, footfall: Shop, reader_id: str) -> None:
    report.add(f"{'Request units of a request':<44}{'on AWS':>14}{'':>14}{'in the reply':>14}")
    report.add(f"{'':<44}{'WRU':>7}{'RRU':>7}{'':>14}{'WRU':>7}{'RRU':>7}")
    for row in units.prices(footfall, reader_id):
        line = f"  {row.name:<42}{row.aws_wru:7g}{row.aws_rru:7g}{'':>14}{row.wru:7g}{row.rru:7g}"
        report.add(line)


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """The service logs to standard output, where a table is to be printed."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _isolate() -> None:
    """Credentials, endpoints and settings of this machine have no part in it."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FOOTFALL_")):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1,localhost",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
