"""Searches as the engine is asked for them, page by page, within a request's time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from . import search_queries as queries
from .opensearch import REPLY_BYTES_MAX, TOO_LARGE, Engine, EngineRefusedError, EngineUnavailableError
from .search_queries import Json, Walk

# What an answer is read from: less of it would be no answer, and is told from one by `Engine.call`.
_PARAMS = {
    "ignore_unavailable": "true",
    "allow_no_indices": "true",
    "allow_partial_search_results": "false",
    "filter_path": "timed_out,_shards.failed,hits.total.value,aggregations",
}
_TOO_MANY_REQUESTS = 429
_PAUSE_SECONDS = 0.2
# Twice as much is far from what a reply may have, should the next users have done more.
_SMALL_REPLY_BYTES = REPLY_BYTES_MAX // 4


class Page(NamedTuple):
    """Buckets in the order of their keys, and the key after which the next page begins; None after the last."""

    buckets: list[Json]
    after: str | None


@dataclass(slots=True)
class Search:
    """The searches of one request, over the days from `first_day` to `last_day`. `deadline` is by the monotonic clock.

    Every method raises EngineUnavailableError: where the engine does not answer in time, where its answer lacks a
    shard, and where it refuses what is ours alone, which is a fault that somebody has to look at.
    """

    engine: Engine
    deadline: float
    first_day: date
    last_day: date

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.deadline

    def query(self, *filters: Json) -> Json:
        """Events of the range that pass every filter."""
        return queries.query(self.first_day, self.last_day, *filters)

    def count(self, *filters: Json) -> int:
        """How many events pass every filter."""
        found, _ = self._asked(queries.count(self.query(*filters)))
        return int(found.get("hits", {}).get("total", {}).get("value", 0))

    def slots(self, filters: list[Json], slot_ms: int, aggregation: Json | None) -> list[Json]:
        """The slots of time with events that pass every filter."""
        found, _ = self._asked(queries.slots(self.query(*filters), slot_ms, aggregation))
        slots: list[Json] = found.get("aggregations", {}).get("slots", {}).get("buckets", [])
        return slots

    def buckets(self, walk: Walk) -> Iterator[Json]:
        """Every bucket."""
        for page in self.pages(walk):
            yield from page.buckets

    def pages(self, walk: Walk, after: str | None = None, size: int | None = None) -> Iterator[Page]:
        """The buckets after this key, page by page; the first has `size` buckets, and each is larger for as long as
        replies are small."""
        size = min(size or walk.first_buckets, walk.page_buckets)
        while True:
            found, size, size_bytes = self._page(walk, after, size)
            pages = found.get("aggregations", {}).get("pages", {})
            buckets: list[Json] = pages.get("buckets", [])
            after = pages["after_key"]["key"] if len(buckets) == size else None
            yield Page(buckets, after)
            if after is None:
                return
            if size_bytes <= _SMALL_REPLY_BYTES:
                size = min(2 * size, walk.page_buckets)

    def _page(self, walk: Walk, after: str | None, size: int) -> tuple[Json, int, int]:
        """A page, how many buckets it could have, and its bytes: of an engine whose memory is full less is asked, and
        so where the reply would fill ours."""
        while True:
            try:
                found, size_bytes = self._asked(walk.body(after, size))
            except EngineUnavailableError as error:
                is_full = error.engine_status == _TOO_MANY_REQUESTS
                if not (is_full or error.kind == TOO_LARGE) or size == 1 or self.is_late:
                    raise
            else:
                return found, size, size_bytes
            if is_full:
                time.sleep(_PAUSE_SECONDS)
            size //= 2

    def _asked(self, body: Json) -> tuple[Json, int]:
        path = queries.target(self.engine.prefix, self.first_day, self.last_day)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise EngineUnavailableError
        try:
            return self.engine.search(path, body, params=_PARAMS, timeout_seconds=left)
        except EngineRefusedError as error:
            raise EngineUnavailableError(error) from error
