"""The command line of the soak."""

from __future__ import annotations

import argparse
import functools
import random
import sys

from tests import dynamodb_local, soak
from tests.isolation import isolate
from tests.soak.run import Soak


def main() -> int:
    """Print a line a minute and a verdict; answer the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=(soak.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10, help="default 10")
    parser.add_argument("--rate", type=float, default=25, help="requests a second; default 25")
    parser.add_argument("--seed", type=int, help="what is sent; any other without")
    options = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    isolate()
    print(f"seed {seed}, {options.rate:g} requests a second for {options.minutes:g} minutes", flush=True)
    print(Soak.heading(), flush=True)
    show = functools.partial(print, flush=True)
    try:
        with dynamodb_local.running() as url:
            run = Soak(url, options.minutes * 60, options.rate, seed, show)
            run.run()
    except dynamodb_local.EngineError as error:
        print(error, file=sys.stderr)
        return 2
    lines, is_met = run.verdict()
    print("\n".join(lines))
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
