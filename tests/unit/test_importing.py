"""In what sizes an import sends, against a service that has time for so many events, or is away for a while."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.checkpoint import Totals
from service.client import CannotReachError, Client, Consumed, Reply
from service.importing import Sender
from service.records import Record

LISTED_MAX = 100


class Service(Client):
    """Decides a batch of at most `events_max`, once it is there; a name begins with - where an event is refused."""

    def __init__(self, events_max: int, away: int = 0) -> None:
        self.events_max, self.away = events_max, away
        self.sizes: list[int] = []
        self.in_vain = 0
        self.counted: set[str] = set()

    def request(
        self,
        method: str,
        path: str,
        consumed: Consumed,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        attempts_max: int | None = None,
    ) -> Reply:
        assert body is not None
        names: list[str] = json.loads(gzip.decompress(body))["batch"]
        for attempt in range(1, 1000):
            self.sizes.append(len(names))
            if self.away == 0 and len(names) <= self.events_max:
                return self.decided(names)
            self.away = max(0, self.away - 1)
            self.in_vain += 1
            if attempts_max is not None and attempt >= attempts_max:
                return Reply(503, {}, b"")
        raise CannotReachError

    def decided(self, names: list[str]) -> Reply:
        good = [name for name in names if not name.startswith("-")]
        new = set(good) - self.counted
        self.counted |= new
        refused = [index for index, name in enumerate(names) if name.startswith("-")]
        listed = [{"index": index, "code": "c", "reason": "r"} for index in refused[:LISTED_MAX]]
        body: dict[str, Any] = {"accepted": len(new), "duplicates": len(good) - len(new)}
        return Reply(200, {}, json.dumps(body | {"rejectedCount": len(refused), "rejected": listed}).encode())


def records(names: list[str]) -> list[Record]:
    return [Record(line, name, json.dumps(name)) for line, name in enumerate(names, 1)]


@given(
    st.lists(st.booleans(), max_size=700),
    st.integers(1, 300),
    st.integers(0, 40),
)
def test_every_line_is_counted_or_named_once_whatever_the_sizes(
    goods: list[bool], events_max: int, away: int
) -> None:
    names = [f"{'' if is_good else '-'}{number}" for number, is_good in enumerate(goods)]
    totals = Totals()
    kept_back = Sender(Service(events_max, away), totals).send(records(names))

    refused = [number for number, is_good in enumerate(goods, 1) if not is_good]
    assert sorted(one.line for one in kept_back) == refused
    assert (totals.accepted, totals.duplicates, totals.rejected) == (sum(goods), 0, len(refused))


def test_after_an_outage_they_are_as_large_as_ever() -> None:
    service = Service(2_500, away=36)
    sender = Sender(service, Totals())
    for start in range(0, 100_000, 2_500):
        sender.send(records([str(start + number) for number in range(2_500)]))

    assert service.in_vain == 36
    assert service.sizes[-1] == 2_500
    assert len(service.sizes) < 400
    assert service.counted == {str(number) for number in range(100_000)}


def test_where_it_was_no_outage_they_are_tried_less_and_less() -> None:
    service = Service(700)
    sender = Sender(service, Totals())
    for start in range(0, 625_000, 2_500):
        sender.send(records([str(start + number) for number in range(2_500)]))

    # A thousand requests of 625. Three in vain after 20 of them, after 40, 80, 160, ...
    assert service.sizes.count(625) == 1_000
    assert service.in_vain < 30
