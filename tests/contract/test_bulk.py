"""A bulk that is refused as a whole: halved while there is time, and not at all where nothing takes a bulk."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service.bulk import Bulk, Document, Sent
from service.opensearch import Engine
from tests.contract.test_opensearch import Answers, answering

Json = dict[str, Any]
ERROR = {"error": {"type": "x", "reason": "y"}}


def documents(number: int) -> list[Document]:
    return [
        Document(position, f"d-{position}", "months", "2026-11", "u", "u", 0, b"{}")
        for position in range(number)
    ]


def sent(url: str, number: int, seconds: float) -> Sent[Document]:
    bulk = Bulk(Engine.connect(url), time.monotonic() + seconds, lambda _: None, lambda _: None)
    return bulk.send(documents(number))


def slowly(self: Any) -> None:
    time.sleep(0.2)
    Answers.answer(self)


def test_halves_end_when_the_time_of_the_call_is_over() -> None:
    """Each half would have had the whole of it again: a hundred calls, long after the function has ended."""
    with answering(413, ERROR, do_POST=slowly) as (url, handler):
        found = sent(url, 64, 0.5)

    assert len(handler.asked) <= 3
    assert found.undone | {refused.document.position for refused in found.refused} == set(range(64))
    assert len(found.undone) > 50


@pytest.mark.parametrize("status", [404, 405])
def test_where_nothing_takes_a_bulk_no_document_is_given_up(status: int) -> None:
    with answering(status, ERROR) as (url, handler):
        found = sent(url, 64, 30)

    assert found.refused == []
    assert found.undone == set(range(64))
    assert {body.count(b"create") for _, _, _, body in handler.asked} == {64}, "halved"


def test_what_spoils_a_call_is_found_by_halving() -> None:
    with answering(400, ERROR) as (url, _):
        found = sent(url, 5, 30)

    assert sorted(refused.document.position for refused in found.refused) == list(range(5))
    assert found.undone == set()
