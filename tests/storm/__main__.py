"""The command line of the storm."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests import dynamodb_local, storm
from tests.isolation import isolate
from tests.storm.run import Storm

# A generation of server processes lives so long.
ROUNDS_OF_PROCESSES = 4
COUNTS = (
    "requests",
    "sends",
    "connections",
    "cuts",
    "undecided",
    "events",
    "merges",
    "erasures",
    "orders",
    "days recounted",
)


def main() -> int:
    """Print a line a round and one at the end; answer the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.storm", description=(storm.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seed", type=int, help="the storm with this seed; any other without")
    parser.add_argument("--requests", type=int, help="until so many requests are decided")
    parser.add_argument("--minutes", type=float, default=5, help="or so long; default 5")
    options = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    isolate()
    print(f"seed {seed}", flush=True)
    try:
        with dynamodb_local.running() as url:
            return _storm(Storm(url, seed), options.minutes * 60, options.requests)
    except dynamodb_local.EngineError as error:
        print(error, file=sys.stderr)
        return 2


def _storm(whole: Storm, seconds: float, requests: int | None) -> int:
    started = time.monotonic()

    def is_over() -> bool:
        if requests is not None and whole.tally["requests"] >= requests:
            return True
        return time.monotonic() - started >= seconds

    number = 0
    while not is_over():
        with whole.servers(number) as servers:
            for _ in range(ROUNDS_OF_PROCESSES):
                if is_over():
                    break
                for line in whole.round(servers, number):
                    print(line, flush=True)
                number += 1
                print(f"{time.monotonic() - started:6.0f} s  {_line(whole)}", flush=True)
    print(f"{number} rounds in {time.monotonic() - started:.0f} s, seed {whole.seed}: {_line(whole)}")
    return 1 if whole.wrong else 0


def _line(whole: Storm) -> str:
    cuts = ", ".join(
        f"{whole.tally[f'cuts {where}']:,} {where}"
        for where in ("in the request", "before the reply", "in the reply")
    )
    counts = ", ".join(f"{whole.tally[name]:,} {name}" for name in COUNTS)
    return f"{counts} ({cuts}), {whole.tally['wrong']} wrong"


if __name__ == "__main__":
    sys.exit(main())
