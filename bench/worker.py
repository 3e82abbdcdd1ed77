"""One Lambda function in a process of its own: invokes its handler as often as it is told, and answers the CPU time.

    python -m bench.worker service.lambda_http:handler requests.json [without-gc]

Reads a number of invocations a line; writes what they took together, in nanoseconds of user and system time. Imports
nothing but the handler, so that a bare one is measured in a process as small as it would have.
"""

import gc
import importlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class _Context:
    aws_request_id = "8b1d0c3e-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


def main() -> None:
    module_name, _, name = sys.argv[1].partition(":")
    requests: list[dict[str, Any]] = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    # What the handler logs is written, as on Lambda, and goes nowhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    handler = getattr(importlib.import_module(module_name), name)
    if sys.argv[3:] == ["without-gc"]:
        gc.disable()
    context = _Context()
    replies: list[tuple[dict[str, Any], dict[str, Any]]] = []
    endless = itertools.cycle(requests)
    for line in sys.stdin:
        batch = list(itertools.islice(endless, int(line)))
        replies.clear()
        started = time.process_time_ns()
        for request in batch:
            replies.append((request, handler(request["event"], context)))
        took_ns = time.process_time_ns() - started
        for request, reply in replies:
            assert reply["statusCode"] == 200, reply
            assert request["expected"] in reply["body"], (request["expected"], reply["body"][:2000])
        print(took_ns, file=answers, flush=True)


if __name__ == "__main__":
    main()
