"""A place in a timeline, as a cursor and back, and the body of a reply."""

from __future__ import annotations

import base64
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import timeline
from service.problems import InvalidRequest
from service.timeline import Page, Place

MILLISECONDS = st.integers(0, 10**14)
PLACES = st.builds(Place, MILLISECONDS, MILLISECONDS, st.binary(min_size=6, max_size=6))


@given(PLACES)
def test_a_cursor_is_the_place_it_was_made_of(place: Place) -> None:
    cursor = timeline._encoded(place)

    assert timeline.after(cursor) == place
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&? ")


def test_without_a_cursor_there_is_no_place() -> None:
    assert timeline.after(None) is None


def encoded(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text.encode() if isinstance(text, str) else text).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "!", "é", "\x00", "AAAA", "a" * 60_000),
        *(
            encoded(text)
            for text in ("1 2", "1 2 aa 3", "x 2 aa", "1 x aa", "1 2 zz", "1 2 a", "1.5 2 aa", "é 2 aa")
        ),
        encoded("9" * 5000 + " 2 aa"),
        encoded(b"\xff\xfe"),
    ],
)
def test_what_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        timeline.after(cursor)

    assert refused.value.code == "invalid_cursor"


@given(st.text(max_size=60) | st.binary(max_size=60).map(encoded))
def test_nothing_but_a_refusal_comes_of_nonsense(cursor: str) -> None:
    try:
        place = timeline.after(cursor)
    except InvalidRequest:
        return
    assert isinstance(place, Place)


@given(st.lists(PLACES, max_size=10))
def test_the_newest_receipt_is_the_greatest_place_and_in_it_the_newest_event(places: list[Place]) -> None:
    by_time = sorted(places, key=lambda place: (place.order_ms, place.instant_ms, place.message_hash))

    assert sorted(places) == by_time


def test_a_body_is_the_head_then_the_events_as_they_are() -> None:
    page = Page(['{"a":1.50}', '{"b":"\\ud800"}'], None)
    body = timeline.body({"userId": 'u"\ud800', "from": "2026-11-01"}, page)

    assert (
        body
        == b'{"userId":"u\\"\\ud800","from":"2026-11-01","events":[{"a":1.50},{"b":"\\ud800"}],"nextCursor":null}'
    )
    found = json.loads(body, parse_float=Decimal)
    assert str(found["events"][0]["a"]) == "1.50"
