"""What a hostile or a broken client puts on the wire: JSON as text, so that it need not be any, in bytes that may lie
about their encoding. Strategies for Hypothesis, of plausible parts put together wrongly."""

from __future__ import annotations

import gzip
import json
import unicodedata
from typing import Any

from hypothesis import strategies as st

from service import events

FIELDS = [
    "type",
    "event",
    "name",
    "messageId",
    "userId",
    "anonymousId",
    "previousId",
    "timestamp",
    "properties",
    "originalTimestamp",
    "context",
    "batch",
    "writeKey",
    "sentAt",
    "sessionId",
    "userAgent",
    "userToken",
    "revenue",
    "total",
    "value",
    "currency",
    "products",
    "quantity",
    "orderId",
    "order_id",
    "transaction_id",
    "items",
    "engagedSeconds",
    "__proto__",
    "USERID",
    "user_id",
    "\x00",
    "",
]

# Letters that mean something in a key, a path, an expression, an attribute's name, or to Unicode.
AWKWARD = "#$%./\\[]{}:~?&=+ *'\"<>\u0000\u007f\u00a0\u00e9e\u0301\u212b\u200b\u202e\ufeff\uffff\U0001f4b6\ud800\udc00"
TEXTS = st.text(st.sampled_from(AWKWARD) | st.characters(), max_size=12) | st.text(
    st.characters(), max_size=150
)
# Neighbours of what is in the table already, and of what its keys are made of.
ID_TEXTS = (
    st.sampled_from(
        [
            "u-1",
            "u-1#",
            "u-1\ud800",
            "\udfff",
            "U-1",
            " u-1",
            "u-1\x00",
            "u-10",
            "u",
            "v",
            "anon_v",
            "anon_anon_v",
            "ANON_v",
            "anon_",
            "#",
            "DAY#2026-11-22",
            "u-1#DAY#2026-11-22",
            "ALIAS",
            "ALIAS#anon_v",
            "ERASED",
            "SETTINGS",
            "USER#u-1",
            "ORDER",
            "PENDING#0",
            "é",
            "é",
            "Å",
            "Å",
            "0",
            "null",
            "Guest",
            ".",
            "..",
            "a/b",
            "*",
            "a.b",
            "%23",
            "x" * 128,
            "x" * 129,
            "💶" * 128,
            "é" * 128,
        ]
    )
    | st.text(st.sampled_from("uv1#-_ anon\u00e9e\u0301$"), max_size=10)
    | TEXTS
)
GOOD_IDS = st.sampled_from(["u-1", "u-2", "anon_v", "w", "7f3c-#", "\u00e9", "a.b[0]"])
# Two of three are ids; mapped, because Hypothesis gives each alternative of an alternative the same chance.
IDS = GOOD_IDS | GOOD_IDS | ID_TEXTS.map(str)
GOOD_TIMES = st.sampled_from(["2026-11-22T11:00:00Z", "2026-11-21", "2026-11-23T00:00:00+05:30"])
NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "1",
        "59.90",
        "1e2",
        "1E+2",
        "-1",
        "1e309",
        "1e-400",
        "1e99999999999999999999",
        "0.1",
        "1.0e0",
        "9007199254740993",
        "1" * 39,
        "9" * 128,
        "1" * 129,
        "1" * 4301,
        "1." + "9" * 500,
        "1000000000000.01",
    ]
)
NO_NUMBERS = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1_000", "\u0661", "1e", "--1"]
)
# Times about noon of the 22nd, the ends of the window and of time, and what only looks like one.
TIMES = st.sampled_from(
    [
        "2026-11-22T12:00:00Z",
        "2026-11-21",
        "2026-11-15T12:00:00Z",
        "2026-11-15T11:59:59Z",
        "2026-11-23T12:00:01Z",
        "2026-11-22T23:59:60Z",
        "2026-11-22t12:00:00z",
        "20261122T120000+0530",
        "2026-W47-7",
        "2026-11-22T24:00:00",
        "2026-11-22T12:00:00+99:99",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1969-07-20",
        "now",
        "2026-02-30",
        "2026-11-22T12:00:00.123456789Z",
        "1795348800",
        "٢٠٢٦-11-22",
    ]
)
KINDS = st.sampled_from(["track", "track", "track", "page", *sorted(events.TYPES), "Track"])
NAMES = st.sampled_from(
    [
        "Order Completed",
        "Order Completed",
        "Product Viewed",
        "purchase",
        "refund",
        "Page Left",
        "ORDER COMPLETED",
        "x",
    ]
)


def _quoted(text: str) -> st.SearchStrategy[str]:
    """A string of JSON, escaped or not; not escaped, it may be no string of JSON."""
    return st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False), f'"{text}"'])


SCALARS = (
    st.sampled_from(["null", "true", "false", "{}", "[]", "", "undefined", "'x'", '"', "[[[[", "}"])
    | NUMBERS
    | NO_NUMBERS
    | (ID_TEXTS | TIMES | KINDS | NAMES).flatmap(_quoted)
)


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members) + "}"


def _array(values: list[str]) -> str:
    return "[" + ",".join(values) + "]"


# Names come from a few, so that some come twice.
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(_array)
        | st.lists(st.tuples(st.sampled_from(FIELDS), inner), max_size=5).map(_object)
    ),
    max_leaves=10,
)


def _json(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return strategy.map(json.dumps)


GOOD_ORDERS = st.integers(1, 99).map(lambda number: f'{{"orderId":"{number}","revenue":{number}.5}}')
ORDERS = GOOD_ORDERS | st.fixed_dictionaries(
    {},
    optional={
        "orderId": _json(IDS) | NUMBERS,
        "revenue": NUMBERS | _json(st.sampled_from(["59.90", "1e400", "NaN", " 5 "])),
        "currency": _json(st.sampled_from(["EUR", "EUR", "jpy", "XXX", ""])),
        "products": st.sampled_from(['[{"quantity":2},{}]', "[]", "[1]", '[{"quantity":1e6}]', "{}"]),
        "engagedSeconds": NUMBERS,
    },
).map(lambda members: _object(list(members.items())))

# An event as it should be, or nearly: it is JSON in any case.
MEMBERS = st.fixed_dictionaries(
    {"type": _json(KINDS), "event": _json(NAMES), "userId": _json(IDS)},
    optional={
        "anonymousId": _json(IDS),
        "previousId": _json(IDS),
        "timestamp": _json(GOOD_TIMES | GOOD_TIMES | TIMES),
        "messageId": _json(TEXTS) | NUMBERS,
        "properties": ORDERS,
        "context": st.sampled_from(
            ['{"sessionId":"s"}', '{"sessionId":7}', "{}", "null", '{"userAgent":"x bot"}']
        ),
    },
)
PLAUSIBLE = MEMBERS.map(lambda members: _object(list(members.items())))
# With a field that comes twice, or that nobody knows, and what may be no JSON.
SPOILT_EVENTS = st.builds(
    lambda members, spoilt: _object([*members.items(), spoilt]),
    MEMBERS,
    st.tuples(st.sampled_from(FIELDS), VALUES),
)


def _batch(members: list[str]) -> str:
    return f'{{"batch":{_array(members)}}}'


# What every parser takes, with events that may be counted.
CLEAN = st.lists(PLAUSIBLE, min_size=2, max_size=5).map(_batch)
DOCUMENTS = (
    CLEAN
    | st.lists(PLAUSIBLE | SPOILT_EVENTS | VALUES, max_size=4).map(_batch)
    | PLAUSIBLE
    | SPOILT_EVENTS
    | VALUES
    | st.text(st.characters(), max_size=50)
)


def _spoilt(body: bytes, at: float, cut: int, put: bytes) -> bytes:
    start = int(at * len(body))
    return body[:start] + put + body[start + cut :]


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogatepass") if "utf" in encoding else text.encode(encoding, "replace")


ENCODINGS = st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
PLAIN = st.builds(_encoded, DOCUMENTS, ENCODINGS)
SPOILT = st.builds(_spoilt, PLAIN, st.floats(0, 1), st.integers(0, 5), st.binary(max_size=5))


def _members(body: bytes, count: int) -> bytes:
    """The same gzip body in so many members."""
    size = -(-len(body) // count) or 1
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    return b"".join(gzip.compress(part, 1, mtime=0) for part in parts)


GZIPPED = st.builds(_members, PLAIN | SPOILT, st.integers(1, 18))
# Of any kind, with what Content-Encoding says of it, truly or not.
BODIES: st.SearchStrategy[tuple[bytes, str | None]] = (
    st.tuples(CLEAN.map(str.encode), st.none())
    | st.tuples(CLEAN.map(lambda text: gzip.compress(text.encode(), 1, mtime=0)), st.just("gzip"))
    | st.tuples(PLAIN, st.none())
    | st.tuples(PLAIN | SPOILT, st.none())
    | st.tuples(GZIPPED, st.just("gzip"))
    | st.tuples(
        st.builds(_spoilt, GZIPPED, st.floats(0, 1), st.integers(0, 5), st.binary(max_size=5)),
        st.just("gzip"),
    )
    | st.tuples(PLAIN, st.sampled_from(["gzip", "x-gzip", "GZIP ", "br", "identity", "gzip, gzip", ""]))
)


def named_ids(document: Any) -> set[str]:
    """Whom the events of a document may be about, by its text alone: an oracle that knows nothing of the service."""
    found: set[str] = set()
    if isinstance(document, dict):
        batch = document.get("batch")
        for event in batch if isinstance(batch, list) else [document]:
            if isinstance(event, dict):
                found |= {
                    normal(event[field])
                    for field in ("userId", "anonymousId", "previousId")
                    if field in event
                }
    return found


def normal(value: object) -> str:
    return unicodedata.normalize("NFC", str(value)).strip()
