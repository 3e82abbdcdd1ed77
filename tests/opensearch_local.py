"""OpenSearch for the tests: one real node a run, and indices of its own for each test.

By hand it is `python -m engines opensearch 9242`; `python -m tests.opensearch_local 9242` is the same.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from engines import opensearch
from engines.__main__ import main
from engines.errors import EngineError, EngineMissingError
from service import indices
from service.index_template import Names
from service.opensearch import Engine

__all__ = ["EngineError", "EngineMissingError", "running"]


@contextlib.contextmanager
def running(port: int | None = None) -> Iterator[str]:
    """Start OpenSearch, hand over its URL, and stop it."""
    with opensearch.running(port) as engine:
        yield engine.url


@contextlib.contextmanager
def connected(url: str) -> Iterator[Engine]:
    """That node under a prefix of one's own, set up; what was made there is deleted at the end."""
    engine = Engine.connect(url, prefix=f"t{uuid.uuid4().hex[:12]}")
    indices.setup(engine)
    try:
        yield engine
    finally:
        removed(engine)


@contextlib.contextmanager
def as_deployed(url: str) -> Iterator[Engine]:
    """That node under the name that deployments have, which tests have one after the other, with nothing set up."""
    engine = Engine.connect(url)
    removed(engine)
    try:
        yield engine
    finally:
        removed(engine)


def removed(engine: Engine) -> None:
    """Delete all of a prefix."""
    names = Names(engine.prefix)
    for index in indices.listed(engine):
        indices.delete(engine, index.name)
    indices.delete(engine, names.failed)
    engine.call("DELETE", f"/_index_template/{names.events}", accept=(404,))


def documents(engine: Engine, index: str | None = None) -> dict[str, Any]:
    """Every document as it is now, by its id."""
    target = index or Names(engine.prefix).events
    engine.call("POST", f"/{target}/_refresh", accept=(404,))
    found: dict[str, Any] = {}
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {"size": 5_000, "sort": [{"_id": "asc"}]}
        if after is not None:
            body["search_after"] = after
        reply = engine.call("POST", f"/{target}/_search", body, accept=(404,))
        hits = reply.get("hits", {}).get("hits", [])
        if not hits:
            return found
        found |= {hit["_id"]: hit["_source"] for hit in hits}
        after = hits[-1]["sort"]


if __name__ == "__main__":
    sys.exit(main(["opensearch", *sys.argv[1:]]))
