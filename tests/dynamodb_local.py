"""DynamoDB Local for the tests, and the ways there that they share.

By hand it is `python -m engines dynamodb 8042`; `python -m tests.dynamodb_local 8042` is the same.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from engines import dynamodb
from engines.__main__ import main
from engines.errors import EngineError, EngineMissingError
from engines.process import free_port

__all__ = ["EngineError", "EngineMissingError", "free_port", "running"]


@contextlib.contextmanager
def running(port: int | None = None) -> Iterator[str]:
    """Start DynamoDB Local, hand over its URL, and stop it."""
    with dynamodb.running(port) as engine:
        yield engine.url


if __name__ == "__main__":
    sys.exit(main(["dynamodb", *sys.argv[1:]]))
