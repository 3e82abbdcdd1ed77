"""Raw events: whatever was accepted is read back as what it was, digit by digit, and without keys."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import packing, wire
from service.events import IMPORT_EARLIEST, Event, Rejection, Rules, epoch_ms, moment
from service.packing import Origin, Pack, RawEvent
from tests.builders import NOON, at, make_event

NOW = NOON + timedelta(milliseconds=123)
ZONES = [ZoneInfo(name) for name in ("UTC", "Pacific/Kiritimati", "America/St_Johns", "Pacific/Pago_Pago")]
SECRETS = ("key-nobody-may-see", "token-nobody-may-see")


def rules(**overrides: Any) -> Rules:
    defaults: dict[str, Any] = {
        "now": NOW,
        "age_max": timedelta(days=7),
        "timezone": ZONES[0],
        "currency": "EUR",
        "counts_orders": True,
        "identity_secret": None,
    }
    return Rules(**(defaults | overrides))


def taken(
    body: bytes, given_rules: Rules | None = None
) -> tuple[list[Any], list[Event], list[Rejection], Origin]:
    """What becomes of a batch as it is posted: what was sent, the events to keep, the refused, their origin."""
    given_rules = given_rules or rules()
    document = wire.parsed(body)
    assert isinstance(document, dict)
    batch = wire.batch(document, len(body))
    read = [
        given_rules.read(raw, index, batch.context, may_be_large=True)
        for index, raw in enumerate(batch.events)
    ]
    rejected = [event for event in read if isinstance(event, Rejection)]
    events = [event for event in read if isinstance(event, Event)]
    context, kept = packing.with_text(batch.events, batch.context, events, rejected)
    counted = [event for event in kept if event.day is not None]
    origin = Origin(epoch_ms(given_rules.now), given_rules.currency, given_rules.counts_orders, context)
    return batch.events, counted, rejected, origin


def read_back(packs: list[Pack], timezone: ZoneInfo = ZONES[0]) -> list[RawEvent]:
    return [raw for pack in packs for raw in packing.unpacked(pack.payload, epoch_ms(NOW), timezone)]


def numbers(event: Event) -> tuple[Any, ...]:
    """All by which an event counts."""
    return event.message_hash, event.day, event.instant_ms, event.part, event.user_id, event.anonymous_id


def packed(body: bytes, given_rules: Rules | None = None) -> tuple[list[Event], list[Pack]]:
    _, events, _, origin = taken(body, given_rules)
    return events, list(packing.packed(events, origin))


# --- the events ------------------------------------------------------------------------------------------------------

# Strings that are clever, those that look like the marks of this module among them.
TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        *("\x00decimal:1", "\x00decimal:1.5E+3", '"\x00decimal:1', '[NaN,"1"]', "[NaN,", 'x"[NaN,"1.5"],"'),
        *("NaN", "1E+999999", "\ud800", "\udfff\ud800", "a\ud83d", "💶", "\u2028", "\\", '\\"', "\\u0000"),
        *('"]}', "events", "writeKey", "userToken", "__proto__"),
    ]
)
# Numbers as clients write them, not as Python would.
NUMBERS = st.sampled_from(
    [
        *(
            "0",
            "-0",
            "1",
            "59.90",
            "59.900",
            "-0.0",
            "0.0",
            "1e3",
            "1E+3",
            "1e-7",
            "0.0000001",
            "0e5",
            "1.50E-9",
        ),
        *("9007199254740993", "0.1", "1e400", "-1e-400", "123456789012345678901234567890.123456789"),
        *(
            "9" * 4300,
            "9" * 4301,
            "-" + "9" * 4301,
            "1e9999999999999999999",
            "0." + "1" * 50,
            "1e999999999999999999",
        ),
    ]
)
LITERALS = st.sampled_from(["true", "false", "null", "[]", "{}"])


def written(value: Any) -> str:
    """As JSON: numbers and literals are text already, strings are tuples of one."""
    if isinstance(value, tuple):
        return json.dumps(value[0])
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{written(inner)}" for name, inner in value.items()) + "}"
    return str(value)


SCALARS = NUMBERS | LITERALS | st.tuples(TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "sessionId": st.tuples(TEXTS) | st.sampled_from(["17", "null"]),
        "userToken": st.just((SECRETS[1],)),
        "userAgent": st.just(("Mozilla/5.0",)),
        "campaign": VALUES,
    },
)
INSTANTS = st.integers(-7 * 86_400_000, 86_400_000).map(lambda ms: NOW + timedelta(milliseconds=ms))
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from([("track",), ("page",), ("screen",), ("identify",), ("alias",)]),
        "event": st.sampled_from([("Order Completed",), ("Page Left",), ("other",), ("x.y[0]",)])
        | st.tuples(TEXTS),
    },
    optional={
        "userId": st.sampled_from([("u-1",), ("ü",), "17", ("guest",)]),
        "anonymousId": st.sampled_from([("a-1",), ("anon_b",)]),
        "previousId": st.just(("p",)),
        "messageId": st.tuples(TEXTS) | st.sampled_from(["17", "1.5", "null", ("",)]),
        "timestamp": INSTANTS.map(lambda instant: (instant.isoformat(),)) | st.sampled_from(["null", ("x",)]),
        "context": CONTEXTS | st.sampled_from(["null", "[]"]),
        "properties": st.fixed_dictionaries(
            {},
            optional={
                "revenue": NUMBERS | st.just(("12.30",)),
                "currency": st.sampled_from([("USD",), ("JPY",), ("nix",)]),
                "orderId": st.tuples(TEXTS) | st.just("1001"),
                "engagedSeconds": NUMBERS,
                "products": st.just([{"quantity": "2"}, {"quantity": ("3",)}]),
                "any": VALUES,
            },
        ),
        "writeKey": st.just((SECRETS[0],)),
    },
)
BODIES = st.builds(
    lambda events, context: written({"batch": events, "context": context}).encode(),
    st.lists(EVENTS | VALUES, max_size=6),
    CONTEXTS | LITERALS,
)


@given(
    BODIES,
    st.sampled_from(ZONES),
    st.booleans(),
    st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_what_was_accepted_is_read_back_as_what_was_counted(
    body: bytes, timezone: ZoneInfo, counts_orders: bool, currency: str
) -> None:
    given_rules = rules(timezone=timezone, counts_orders=counts_orders, currency=currency)
    events, packs = packed(body, given_rules)
    found = read_back(packs, timezone)

    assert sorted(map(numbers, events), key=repr) == sorted((numbers(raw.event) for raw in found), key=repr)
    assert [raw.key for raw in found] == [(raw.event.day, raw.event.message_hash) for raw in found]
    assert sum(pack.events for pack in packs) == len(events)


@given(BODIES)
def test_what_was_sent_is_read_back_but_for_the_keys(body: bytes) -> None:
    sent, events, _, origin = taken(body)
    document = wire.parsed(body)
    assert isinstance(document, dict)
    outer = document["context"] if isinstance(document["context"], dict) else {}
    found = read_back(list(packing.packed(events, origin)))

    expected = []
    for event in events:
        raw = {name: value for name, value in sent[event.index].items() if name != "writeKey"}
        if raw.get("context"):
            raw["context"] = without_token(raw["context"])
        own = {name: value for name, value in (raw.get("context") or {}).items() if value is not None}
        if context := without_token(outer) | own:
            raw["context"] = context
        expected.append(raw)
    # By their text, in which 59.90 is not 59.9.
    assert sorted(packing.json_text(raw.sent) for raw in found) == sorted(map(packing.json_text, expected))


def without_token(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if name != "userToken"}


@given(BODIES)
def test_no_key_is_kept(body: bytes) -> None:
    _, packs = packed(body)
    for pack in packs:
        text = zlib.decompress(pack.payload).decode("ascii")
        assert not any(secret in text for secret in SECRETS)
        for raw in read_back([pack]):
            assert "writeKey" not in raw.sent
            assert "userToken" not in (raw.sent.get("context") or {})


@given(VALUES)
def test_json_text_is_the_json_it_came_from(value: Any) -> None:
    parsed = wire.parsed(written(value).encode())
    again = wire.parsed(packing.json_text(parsed).encode())

    assert digits(parsed) == digits(again)


def digits(value: object) -> object:
    """Decimals as their digits and exponent: 1.50 is not 1.5 here, though they are equal."""
    if isinstance(value, Decimal):
        return value.as_tuple()
    if isinstance(value, list):
        return [digits(inner) for inner in value]
    if isinstance(value, dict):
        return {name: digits(inner) for name, inner in value.items()}
    return value


@pytest.mark.parametrize("number", ["59.90", "1E+3", "-0.0", "1E-7", "9007199254740993.10", "0E+5", "1E+400"])
def test_a_number_keeps_the_digits_it_was_sent_with(number: str) -> None:
    value = wire.parsed(f'{{"a": [{number}, {{"b": {number}}}]}}'.encode())

    assert packing.json_text(value) == f'{{"a":[{number},{{"b":{number}}}]}}'


@pytest.mark.parametrize(
    "text",
    [
        "\x00decimal:1",
        '"\x00decimal:1',
        '[NaN,"1.5"]',
        '[NaN,"',
        '"[NaN,"1"]"',
        '1"]',
        "\\",
        '\\"[NaN,\\"1\\"]',
    ],
)
def test_a_string_that_looks_like_a_mark_stays_a_string(text: str) -> None:
    """As a name, as a value, beside numbers and beside the next string."""
    value = {text: Decimal("1.50"), "list": [text, "1", Decimal("2.50"), text], "inner": {text: text}}

    assert wire.parsed(packing.json_text(value).encode()) == value


def test_an_event_without_message_id_is_known_by_what_was_sent_with_its_keys() -> None:
    one = make_event(messageId=..., writeKey=SECRETS[0], context={"userToken": SECRETS[1]})
    two = make_event(messageId="m-2", timestamp=at(hours=-1))
    three = make_event(messageId=..., timestamp=at(hours=1), properties={"a": 1.5})
    events, packs = packed(json.dumps({"batch": [one, two, three]}).encode())

    assert {raw.event.message_hash for raw in read_back(packs)} == {event.message_hash for event in events}


def test_what_is_null_in_an_events_context_is_the_batchs() -> None:
    event = make_event(context={"page": None, "ip": "1", "sessionId": None})
    outer = {"page": {"path": "/"}, "ip": "2", "sessionId": "s"}
    events, packs = packed(json.dumps({"batch": [event], "context": outer}).encode())
    (raw,) = read_back(packs)

    assert raw.sent["context"] == {"page": {"path": "/"}, "ip": "1", "sessionId": "s"}
    assert raw.event.part == events[0].part


def test_an_event_is_read_as_it_was_then_whatever_the_settings_are_now() -> None:
    order = make_event(event="Order Completed", properties={"revenue": 5, "orderId": "o"}, timestamp=...)
    body = json.dumps({"batch": [order]}).encode()
    for given_rules in (rules(currency="JPY"), rules(counts_orders=False)):
        events, packs = packed(body, given_rules)
        (raw,) = read_back(packs)
        assert numbers(raw.event) == numbers(events[0])


@pytest.mark.parametrize(
    "instant", [IMPORT_EARLIEST, NOW + timedelta(hours=24), NOW - timedelta(days=400), NOW]
)
def test_an_event_at_the_end_of_what_is_accepted_is_read_again(instant: datetime) -> None:
    body = json.dumps({"batch": [make_event(timestamp=instant.isoformat())]}).encode()
    events, packs = packed(body, rules(is_import=True))
    (raw,) = read_back(packs)

    assert raw.event.instant_ms == events[0].instant_ms == epoch_ms(instant)
    assert moment(epoch_ms(instant)) == instant


def test_what_a_later_version_refuses_is_left_out_and_nothing_else() -> None:
    item = {"currency": "EUR", "countsOrders": True, "events": [7, {"type": "x"}, make_event()]}
    (raw,) = packing.unpacked(zlib.compress(json.dumps(item).encode()), epoch_ms(NOW), UTC)

    assert raw.event.index == 2


def test_the_receipt_is_told_in_milliseconds() -> None:
    _, packs = packed(json.dumps({"batch": [make_event()]}).encode())

    assert [raw.received_at for raw in read_back(packs)] == ["2026-11-22T12:00:00.123Z"]
