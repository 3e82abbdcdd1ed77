"""Raw events: which of them share an item, under which key, and what is too much for one."""

from __future__ import annotations

import itertools
import json
import zlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import packing, wire
from service.events import EVENT_BYTES_MAX, Event, Rejection, epoch_ms
from service.packing import NESTING_MAX, PAYLOAD_BYTES_MAX, SPAN_MS, Origin
from tests.builders import NOON, make_event
from tests.unit.test_packing import NOW, packed, read_back, rules, taken

# --- the packs -------------------------------------------------------------------------------------------------------


def events_at(*offsets_ms: int) -> list[Event]:
    batch = [
        make_event(timestamp=(NOON + timedelta(milliseconds=offset_ms)).isoformat())
        for offset_ms in offsets_ms
    ]
    _, events, rejected, _ = taken(json.dumps({"batch": batch}).encode())
    assert not rejected
    return events


ORIGIN = Origin(epoch_ms(NOW), "EUR", True)


@given(st.lists(st.integers(-7 * 86_400_000 + 1000, 86_400_000), min_size=1, max_size=30))
def test_events_of_one_item_are_less_than_a_day_apart(offsets_ms: list[int]) -> None:
    packs = list(packing.packed(events_at(*offsets_ms), ORIGIN))
    found = [[raw.event.instant_ms for raw in read_back([pack])] for pack in packs]

    for pack, instants in zip(packs, found, strict=True):
        assert pack.first_ms == instants[0]
        assert instants == sorted(instants)
        assert instants[-1] - instants[0] < SPAN_MS
        assert pack.events == len(instants)
    # And no item could take the first event of the next.
    assert all(b[0] - a[0] >= SPAN_MS for a, b in itertools.pairwise(found))


def test_a_day_apart_is_too_far_and_a_millisecond_less_is_not() -> None:
    assert len(list(packing.packed(events_at(0, -SPAN_MS), ORIGIN))) == 2
    assert len(list(packing.packed(events_at(0, 1 - SPAN_MS), ORIGIN))) == 1


@given(st.permutations(range(6)), st.integers(0, 86_400_000))
def test_a_retry_makes_the_same_keys_whatever_its_order_and_its_time(order: list[int], later_ms: int) -> None:
    events = events_at(*(number * -20 * 3_600_000 for number in range(6)))
    later = Origin(ORIGIN.received_ms + later_ms, "JPY", False, '{"sentAgain":true}')
    first = list(packing.packed(events, ORIGIN))
    again = list(packing.packed([events[number] for number in order], later))

    assert [(pack.first_ms, pack.digest) for pack in first] == [(p.first_ms, p.digest) for p in again]
    assert len({pack.digest for pack in first}) == len(first) == 6 // 2
    assert all(len(pack.digest) == 16 for pack in first)


def test_other_events_make_another_key() -> None:
    """Regrouped, an event is kept once more: an item that is there already holds other events too."""
    one, other, third = events_at(0, 1, 2)
    groups = [[one], [other], [one, other], [one, third], [one, other, third]]

    digests = [pack.digest for events in groups for pack in packing.packed(events, ORIGIN)]
    assert len(set(digests)) == len(groups)


def test_events_that_do_not_compress_are_split_and_all_kept() -> None:
    noise = iter(range(10**9))
    batch = [
        make_event(
            properties={"a": "".join(chr(0x10000 + next(noise) * 7919 % 0xFFFF0) for _ in range(6000))}
        )
        for _ in range(18)
    ]
    body = json.dumps({"batch": batch}, ensure_ascii=False).encode()
    assert len(body) < wire.BODY_BYTES_MAX
    events, packs = packed(body)
    small = [pack for pack in packs if pack.events < len(events)]

    assert len(small) == len(packs) > 1
    assert all(len(pack.payload) <= PAYLOAD_BYTES_MAX for pack in packs)
    assert {raw.key for raw in read_back(packs)} == {(event.day, event.message_hash) for event in events}
    assert len({pack.digest for pack in packs}) == len(packs)


def test_a_payload_of_the_largest_size_is_one_item(monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_at(0, 1)
    (pack,) = packing.packed(events, ORIGIN)
    monkeypatch.setattr(packing, "PAYLOAD_BYTES_MAX", len(pack.payload))

    assert list(packing.packed(events, ORIGIN)) == [pack]
    monkeypatch.setattr(packing, "PAYLOAD_BYTES_MAX", len(pack.payload) - 1)
    assert [pack.events for pack in packing.packed(events, ORIGIN)] == [1, 1]


def test_the_largest_event_with_the_largest_context_is_one_item() -> None:
    context = {"a": "".join(chr(35 + number * number % 57) for number in range(EVENT_BYTES_MAX - 8))}
    event = make_event(properties={"a": "é" * (EVENT_BYTES_MAX // 2 - 200)})
    body = json.dumps({"batch": [event], "context": context}, ensure_ascii=False).encode()
    events, packs = packed(body)

    assert [pack.events for pack in packs] == [len(events)] == [1]
    assert len(packs[0].payload) <= PAYLOAD_BYTES_MAX
    assert len(read_back(packs)) == 1


# --- what cannot be kept ---------------------------------------------------------------------------------------------


def nested(levels: int, kind: str = "[]") -> str:
    opening = kind[0] if kind == "[]" else '{"a":'
    return opening * levels + ("0" if kind == "{}" else "") + kind[1] * levels


def batch_of(*properties: str, context: str = "{}") -> bytes:
    head = '{"type": "track", "event": "x", "userId": "u", "messageId": "m-%d", "properties": {"a": %s}}'
    events = ",".join(head % (number, text) for number, text in enumerate(properties))
    return f'{{"context": {context}, "batch": [{events}]}}'.encode()


@pytest.mark.parametrize("kind", ["[]", "{}"])
@pytest.mark.parametrize(
    ("levels", "is_kept"), [(NESTING_MAX - 2, True), (NESTING_MAX - 1, False), (900, False)]
)
def test_an_event_that_is_nested_too_deeply_is_refused_alone(levels: int, kind: str, is_kept: bool) -> None:
    # The event and its properties are two levels.
    _, events, rejected, origin = taken(batch_of("1", nested(levels, kind), "[[],[[]],{}]"))

    assert [event.index for event in events] == [0, 1, 2] if is_kept else [0, 2]
    assert [(one.index, one.code) for one in rejected] == [] if is_kept else [(1, "invalid_event")]
    assert len(read_back(list(packing.packed(events, origin)))) == len(events)


def test_the_hash_of_an_event_is_kept_where_it_has_no_message_id_alone() -> None:
    def head(**fields: str | None) -> dict[str, object]:
        given = {"type": "track", "event": "x", "userId": "u", **fields}
        _, (pack,) = packed(json.dumps({"batch": [given]}).encode())
        document: dict[str, object] = json.loads(zlib.decompress(pack.payload))
        return document

    assert "hashes" not in head(messageId="m-1")
    assert "hashes" in head()


def test_what_python_cannot_write_is_too_deep() -> None:
    """The reader may take more levels than the writer."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(packing._RefusedError):
        packing.text_of({"properties": {"list": deep}})


def test_a_text_of_few_brackets_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event of every request is such a one."""

    def looked(_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(packing, "_is_deep", looked)

    assert packing.text_of({"properties": {"list": [[]] * 97}}).count("[") == 98
    with pytest.raises(AssertionError):
        packing.text_of({"properties": {"list": [[]] * 98}})


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    _, events, rejected, _ = taken(batch_of("[" + ",".join(["{}"] * 500) + "]", json.dumps("[{" * 500)))

    assert (len(events), rejected) == (2, [])


@pytest.mark.parametrize(
    ("context", "code"),
    [
        (nested(NESTING_MAX + 1, "{}"), "invalid_event"),
        (nested(800, "{}"), "invalid_event"),
        (json.dumps({"a": "x" * EVENT_BYTES_MAX}), "event_too_large"),
        (json.dumps({"a": "\x01" * (EVENT_BYTES_MAX // 6)}), "event_too_large"),
    ],
)
def test_with_a_context_that_cannot_be_kept_no_event_is_counted(context: str, code: str) -> None:
    _, events, rejected, origin = taken(batch_of("1", "2", context=context))

    assert (events, origin.context) == ([], "{}")
    assert [(one.index, one.message_id, one.code) for one in rejected] == [(0, "m-0", code), (1, "m-1", code)]


def test_a_context_of_the_size_of_an_event_is_kept() -> None:
    # {"a":""} are eight bytes.
    _, events, rejected, _ = taken(batch_of("1", context=json.dumps({"a": "x" * (EVENT_BYTES_MAX - 8)})))

    assert (len(events), rejected) == (1, [])


def test_what_is_not_counted_needs_no_text() -> None:
    deep = wire.parsed(nested(NESTING_MAX).encode())
    raw = [{"type": "identify", "userId": "u", "traits": {"a": deep}}]
    event = rules().read(raw[0], 0, {}, may_be_large=False)
    assert isinstance(event, Event)
    rejected: list[Rejection] = []
    context, kept = packing.with_text(raw, {"a": "x" * EVENT_BYTES_MAX}, [event], rejected)

    assert (context, kept, rejected) == ("{}", [event], [])
    assert event.sent == "{}"


def test_the_contexts_of_a_batch_are_kept_once_in_an_item() -> None:
    """Two thousand events with a large context would otherwise be two thousand large contexts in memory."""
    context = {f"name-{number}": number for number in range(1000)}
    batch = [make_event() for _ in range(50)]
    events, packs = packed(json.dumps({"batch": batch, "context": context}).encode())
    found = read_back(packs)

    assert len(events) == 50
    assert len({id(raw.batch_context) for raw in found}) == 1
    assert zlib.decompress(packs[0].payload).count(b"name-999") == 1
    assert all(raw.sent["context"] == context for raw in found)
