"""From the bytes of a body to the keys of the items: whatever arrives is a problem, or events whose keys are right."""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import ids, keys, wire
from service.events import Event, Rejection, Rules
from service.keys import Key
from service.models import DayItem
from service.problems import Problem
from tests.builders import NOON
from tests.codes import rejection_codes
from tests.fuzz import FACTOR, bodies
from tests.fuzz.figures import show

PROBLEMS = {"invalid_json", "invalid_request", "body_too_large", "batch_too_large", "unsupported_encoding"}
REJECTIONS = rejection_codes()
STARTED_AT = "2026-11-22T12:00:00.000+00:00"

# How often each came out, over all examples.
seen: collections.Counter[str] = collections.Counter()


def _rules(*, is_import: bool, timezone: str, secret: bytes | None) -> Rules:
    return Rules(
        now=NOON,
        age_max=timedelta(days=7),
        timezone=ZoneInfo(timezone),
        currency="EUR",
        counts_orders=True,
        identity_secret=secret,
        is_import=is_import,
    )


RULES = st.builds(
    _rules,
    is_import=st.booleans(),
    timezone=st.sampled_from(["UTC", "Pacific/Kiritimati", "America/St_Johns"]),
    secret=st.sampled_from([None, None, None, b"secret"]),
)


def _read(body: bytes, encoding: str | None, rules: Rules, path: str) -> list[Event | Rejection]:
    """As the routes do it."""
    document, size_bytes = wire.json_object(body, encoding)
    batch = wire.single(document, path, size_bytes) if path != "batch" else wire.batch(document, size_bytes)
    return [
        rules.read(raw, index, batch.context, may_be_large=batch.may_hold_large_events)
        for index, raw in enumerate(batch.events)
    ]


@given(
    bodies.BODIES,
    RULES,
    st.sampled_from(["batch", "batch", "batch", *sorted(set(wire.TYPE_OF_PATH.values()))]),
)
@settings(max_examples=1000 * FACTOR)
def test_any_bytes_are_a_problem_or_events_with_keys_of_their_own(
    sent: tuple[bytes, str | None], rules: Rules, path: str
) -> None:
    problem: Problem | None = None
    try:
        found = _read(*sent, rules, path)
    except Problem as refused:
        problem, found = refused, []
    if problem is not None:
        seen[problem.code] += 1
        assert problem.code in PROBLEMS
        assert len(problem.body()) < 1024
    for outcome in found:
        if isinstance(outcome, Rejection):
            seen[outcome.code] += 1
            assert outcome.code in REJECTIONS
            assert len(outcome.reason) < 200
        else:
            seen["accepted"] += 1
            _check(outcome, rules)


def test_of_what_was_made_up_much_came_through() -> None:
    """Of the examples above; otherwise they prove little."""
    if not seen:
        pytest.fail("this counts the examples of the test before it: run the whole file")
    show("bodies and events by what became of them", dict(seen.most_common()))

    assert seen["accepted"] >= 200
    assert {"invalid_json", "unsupported_encoding", "invalid_event", "invalid_id"} <= seen.keys()


def _check(event: Event, rules: Rules) -> None:
    """The ids are normal, the day is one, and every key that is built from them says the same when it is read."""
    for distinct_id in (event.user_id, event.anonymous_id, event.previous_id):
        if distinct_id is not None:
            assert distinct_id == ids.distinct_id(distinct_id)
            _check_keys(distinct_id, event.day)
    assert event.user_id is None or not ids.is_anonymous(event.user_id)
    assert all(ids.is_anonymous(found) for found in (event.anonymous_id, event.previous_id) if found)
    if event.day is not None:
        assert event.day == date.fromisoformat(event.day).isoformat()
        assert rules.is_import or event.day in rules.days()
    if event.part is not None:
        assert all(isinstance(count, int) and count >= 0 for count in event.part.counters.values())
        if event.part.name is not None:
            attribute = DayItem.by_event[event.part.name].attr_name
            assert event.part.name == DayItem.by_event.member(attribute)
            assert not set("[].") & set(attribute)
            attribute.encode()
        if event.part.order_id is not None:
            key = keys.order_key(event.part.order_id)
            assert (key.pk[:6], len(key.pk), key.sk) == ("ORDER#", 6 + 64, "ORDER")


def _check_keys(distinct_id: str, day: str | None) -> None:
    key = keys.day_key(distinct_id, day or "2026-11-22")
    assert ["USER", distinct_id] == key.pk.split("#", 1)
    assert keys.is_day(key.sk)
    assert (day or "2026-11-22") == keys.day_of(key.sk)
    assert distinct_id == keys.anonymous_id_of(keys.way_back_key("u", distinct_id).sk)
    pending = keys.pending_key(STARTED_AT, distinct_id)
    assert pending.pk in keys.pending_pks()
    assert (STARTED_AT, distinct_id) == keys.pending_of(pending.sk)
    for pk, sk in (key, pending, keys.mark_key(distinct_id), keys.way_back_key(distinct_id, distinct_id)):
        # What DynamoDB takes, and what UTF-8 can say.
        assert 1 <= len(pk.encode()) <= 2048
        assert 1 <= len(sk.encode()) <= 1024


# --- no two things have one key --------------------------------------------------------------------------------------

DAYS = st.dates(date(2000, 1, 1), date(2100, 1, 1)).map(date.isoformat)


def _accepted(kind: Any, texts: list[str]) -> set[str]:
    found = set()
    for text in texts:
        try:
            found.add(kind(text))
        except ids.InvalidIdError:
            continue
    return found - {None}


def _every_key(
    users: set[str], visitors: set[str], orders: set[str], days: set[str]
) -> Iterator[tuple[object, Key]]:
    """All that can be stored on these, each with what it means."""
    for distinct_id in users | visitors:
        for day in days:
            yield ("day", distinct_id, day), keys.day_key(distinct_id, day)
        yield ("pending", distinct_id), keys.pending_key(STARTED_AT, distinct_id)
    for visitor in visitors:
        yield ("alias", visitor), keys.alias_key(visitor)
    for user in users:
        yield ("erased", user), keys.erased_key(user)
    for user, visitor in itertools.product(users, visitors):
        yield ("way back", user, visitor), keys.way_back_key(user, visitor)
    for order in orders:
        yield ("order", order), keys.order_key(order)
    yield "settings", keys.settings_key()


@given(st.lists(bodies.ID_TEXTS, min_size=2, max_size=8), st.sets(DAYS, min_size=1, max_size=3))
@settings(max_examples=300 * FACTOR)
def test_no_two_things_share_a_key(texts: list[str], days: set[str]) -> None:
    users, visitors = _accepted(ids.user_id, texts), _accepted(ids.anonymous_id, texts)
    assert not users & visitors

    meanings: dict[Key, object] = {}
    for meaning, key in _every_key(users, visitors, _accepted(ids.order_id, texts), days):
        assert meaning == meanings.setdefault(key, meaning), key


@given(bodies.ID_TEXTS, bodies.ID_TEXTS, DAYS, DAYS)
@settings(max_examples=300 * FACTOR)
def test_a_day_key_says_whose_and_which_day_it_is(one: str, other: str, day: str, other_day: str) -> None:
    """Also for texts that are no ids: what the rules of ids let through does not matter to this."""
    is_same = (one, day) == (other, other_day)

    assert is_same == (keys.day_key(one, day) == keys.day_key(other, other_day))


@given(bodies.CLEAN)
@settings(max_examples=100 * FACTOR)
def test_an_event_is_read_the_same_twice(text: str) -> None:
    """What it counts as rests on it alone: a retry meets the same item, and the same hash in it."""
    rules = _rules(is_import=False, timezone="UTC", secret=None)

    def read() -> list[str]:
        return [
            _text(outcome) for outcome in _read(text.encode("utf-8", "surrogatepass"), None, rules, "batch")
        ]

    assert read() == read()


def _text(outcome: Event | Rejection) -> str:
    if isinstance(outcome, Rejection):
        return json.dumps([outcome.index, outcome.code, outcome.reason])
    return repr((outcome.user_id, outcome.anonymous_id, outcome.day, outcome.message_hash, outcome.part))
