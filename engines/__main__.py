"""The command line: `python -m engines --help`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from . import dynamodb, opensearch
from .errors import EngineError
from .process import Engine

DYNAMODB_PORT = 8042
OPENSEARCH_PORT = 9242
COMMANDS = ("install", "dynamodb", "opensearch", "run")


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked; answer the exit status."""
    options = _parser().parse_args(arguments)
    # Neither signal may leave an engine behind; a shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        if options.command == "install":
            for engine in (dynamodb, opensearch):
                print(f"{engine.NAME}: {engine.jars()}", flush=True)
        else:
            _serve(options)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _serve(options: argparse.Namespace) -> None:
    """Start what is asked for, say where, and keep it until a signal. Raises EngineError when one ends by itself."""
    engines: list[Engine] = []
    with contextlib.ExitStack() as stack:
        if options.dynamodb_port:
            engine = stack.enter_context(dynamodb.running(options.dynamodb_port))
            engines.append(engine)
            print(f"{engine.name} at {engine.url}, in memory", flush=True)
            print(f"  use it with: AWS_ENDPOINT_URL_DYNAMODB={engine.url} make run", flush=True)
        if options.opensearch_port:
            engine = stack.enter_context(opensearch.running(options.opensearch_port, options.data))
            engines.append(engine)
            kept = f"its data in {options.data}" if options.data else "its data gone when it stops"
            print(f"{engine.name} at {engine.url}, {kept}", flush=True)
        print("Ctrl-C stops it.", flush=True)
        while True:
            for engine in engines:
                engine.check()
            time.sleep(0.5)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engines",
        description="The real database engines on this machine, without a container.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("install", help="fetch and prepare both, once (Maven, Java, 150 MB)")
    table = commands.add_parser("dynamodb", help="start DynamoDB Local")
    table.add_argument("dynamodb_port", type=_port, metavar="PORT")
    table.set_defaults(opensearch_port=None)
    node = commands.add_parser("opensearch", help="start one OpenSearch node")
    node.add_argument("opensearch_port", type=_port, metavar="PORT")
    node.set_defaults(dynamodb_port=None)
    both = commands.add_parser("run", help="start both")
    for name, port in (("--dynamodb-port", DYNAMODB_PORT), ("--opensearch-port", OPENSEARCH_PORT)):
        both.add_argument(name, type=_port, default=port, metavar="PORT", help="%(default)s unless given")
    for command in (node, both):
        command.add_argument(
            "--data", type=Path, metavar="FOLDER", help="where OpenSearch keeps its data; else it is gone"
        )
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65_536:
        return int(text)
    raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")


def _stop(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
