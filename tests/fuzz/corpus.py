"""Bad input that we know of, as data: what it is, what it answers, what it counts. `test_corpus` sends it.

From what breaks services like this one: bodies that are no JSON or more than one, bombs, numbers and letters at the end
of their kind, ids that mean something elsewhere, identities that contradict each other, keys that are none.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

from tests.builders import READER, SECRET_KEY, WRITE_KEY, WRITER, at, basic, bearer

CAP = 500 * 1024
# What nobody but the sender may see again.
MARK = "m4rk3d-by-the-sender"
# Each case has a user of its own; the name stands for it in what it sends.
USER = "case-user"


@dataclasses.dataclass(frozen=True)
class Case:
    """One request. `counted` is (accepted, duplicates, rejected) of a 200, `codes` of the rejections in order."""

    name: str
    status: int = 200
    code: str | None = None
    body: bytes = b""
    counted: tuple[int, int, int] | None = None
    codes: tuple[str, ...] = ()
    path: str = "/v1/batch"
    method: str = "POST"
    headers: Mapping[str, str] = dataclasses.field(default_factory=lambda: WRITER)
    # What the user's day holds afterwards, as far as it matters.
    totals: Mapping[str, object] = dataclasses.field(default_factory=dict)
    # Whether only what reaches the service by a door of its own can be like this.
    doors: tuple[str, ...] = ("lambda", "uvicorn")


def event(**fields: Any) -> dict[str, Any]:
    """An event of the case's user; a field given as `...` is left out."""
    found = {"type": "track", "event": "Looked", "userId": USER, "timestamp": at()} | fields
    return {name: value for name, value in found.items() if value is not ...}


def batch(*members: Any) -> bytes:
    return json.dumps({"batch": list(members)}).encode()


def raw(*members: str) -> bytes:
    """A batch whose members are written out, as no library would."""
    return f'{{"batch":[{",".join(members)}]}}'.encode("utf-8", "surrogatepass")


def rest(**fields: Any) -> str:
    """An event's members without the braces, to be followed by one that is written out."""
    return json.dumps(event(**fields))[1:-1]


def refused(name: str, code: str, *members: Any, **fields: Any) -> Case:
    """A batch of these and a good event, which alone counts."""
    body = batch(*members, event(messageId="good"))
    return Case(name, body=body, counted=(1, 0, len(members)), codes=(code,) * len(members), **fields)


def no_json(name: str, body: bytes, **fields: Any) -> Case:
    return Case(name, 400, "invalid_json", body, **fields)


def bomb(size: int) -> bytes:
    deflate = zlib.compressobj(9, wbits=31)
    return b"".join(deflate.compress(bytes(2**20)) for _ in range(size >> 20)) + deflate.flush()


GZIP = WRITER | {"Content-Encoding": "gzip"}
GOOD = batch(event(messageId="good"))
# Of its own, because the user's name in it is not replaced.
IN_FIVE = batch(event(messageId="five"))

BODIES = [
    no_json("an empty body", b""),
    no_json("no JSON", f"{MARK} is none".encode()),
    no_json("JSON that ends too early", GOOD[:-1]),
    no_json("JSON twice", GOOD + GOOD),
    no_json("JSON lines", GOOD + b"\n" + GOOD),
    no_json(
        "a form",
        f"userId={MARK}&event=x".encode(),
        headers=WRITER | {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    no_json("bytes that no encoding has", b'{"batch":"' + b"\xff\xfe\xfd" + MARK.encode() + b'"}'),
    no_json("NaN", raw("{" + rest() + ',"value":NaN}')),
    no_json("Infinity", raw("{" + rest() + ',"value":-Infinity}')),
    no_json("a line break in a string", raw('{"userId":"\n' + MARK + '"}')),
    no_json("lists in lists", b"[" * CAP),
    no_json("objects in objects", b'{"a":' * (CAP // 5)),
    no_json("lists in lists that are closed", b'{"batch":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    Case("a list", 422, "invalid_request", b"[" + GOOD + b"]"),
    Case("a string", 422, "invalid_request", json.dumps(MARK).encode()),
    Case("null", 422, "invalid_request", b"null"),
    Case("no batch", 422, "invalid_request", json.dumps({"events": [event()], MARK: MARK}).encode()),
    Case("a batch that is an object", 422, "invalid_request", json.dumps({"batch": {"0": event()}}).encode()),
    Case("an empty batch", body=batch(), counted=(0, 0, 0)),
    Case("a name that comes twice", body=b'{"batch":[],' + GOOD[1:], counted=(1, 0, 0)),
    Case("a byte order mark", body=b"\xef\xbb\xbf" + GOOD, counted=(1, 0, 0)),
    # A gateway hands over text as text, and these bytes are none in UTF-8.
    Case("UTF-16", body=GOOD.decode().encode("utf-16"), counted=(1, 0, 0)),
    Case(
        "as text, as sendBeacon sends it",
        body=GOOD,
        counted=(1, 0, 0),
        headers=WRITER | {"Content-Type": "text/plain;charset=UTF-8"},
    ),
    Case("one byte too many", 413, "body_too_large", b" " * (CAP + 1)),
    Case("ten megabytes less a little", 413, "body_too_large", b"0" * 10_000_000, doors=("uvicorn",)),
    Case("more than a gateway lets through", 413, "body_too_large", b"0" * 12_000_000, doors=("uvicorn",)),
    Case("a list as long as the cap", 422, "invalid_request", b"[" + b"0," * (CAP // 2 - 2) + b"0]"),
    Case(
        "250,000 members of a batch", 413, "batch_too_large", b'{"batch":[' + b"0," * (CAP // 2 - 10) + b"0]}"
    ),
    Case("2,501 events", 413, "batch_too_large", json.dumps({"batch": [{}] * 2501}).encode()),
    Case(
        "2,500 events that are none",
        body=json.dumps({"batch": [MARK] * 2500}).encode(),
        counted=(0, 0, 2500),
        codes=("invalid_event",) * 100,
    ),
    Case(
        "1,200 events with a bad id",
        body=batch(*[{"type": "page", "userId": f"{MARK}/{MARK}"}] * 1200),
        counted=(0, 0, 1200),
        codes=("invalid_id",) * 100,
    ),
]

GZIPPED = [
    Case("a bomb of 300 MB", 413, "body_too_large", bomb(300 << 20), headers=GZIP),
    Case("a bomb in a bomb", 400, "invalid_json", gzip.compress(bomb(8 << 20), mtime=0), headers=GZIP),
    Case(
        "one byte too many once inflated",
        413,
        "body_too_large",
        gzip.compress(b" " * (CAP + 1), mtime=0),
        headers=GZIP,
    ),
    no_json("25,000 members of nothing", gzip.compress(b"", mtime=0) * 25_000, headers=GZIP),
    no_json("gzip without its end", gzip.compress(GOOD, mtime=0)[:-4], headers=GZIP),
    no_json("gzip with another checksum", gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), headers=GZIP),
    no_json("gzip and what is none", gzip.compress(GOOD, mtime=0) + MARK.encode(), headers=GZIP),
    no_json("gzip by name alone", GOOD, headers=GZIP),
    no_json(
        "gzip without its name",
        gzip.compress(GOOD, mtime=0),
        headers=WRITER | {"Content-Type": "application/octet-stream"},
    ),
    Case("brotli", 415, "unsupported_encoding", GOOD, headers=WRITER | {"Content-Encoding": "br"}),
    Case(
        "gzip twice",
        415,
        "unsupported_encoding",
        gzip.compress(gzip.compress(GOOD)),
        headers=WRITER | {"Content-Encoding": "gzip, gzip"},
    ),
    Case(
        "gzip in five members",
        body=b"".join(gzip.compress(bytes([byte]), mtime=0) for byte in IN_FIVE[:4])
        + gzip.compress(IN_FIVE[4:], mtime=0),
        counted=(1, 0, 0),
        headers=GZIP,
    ),
]

_REVENUE = {"type": "track", "event": "Order Completed", "userId": USER, "timestamp": at()}


def order(number: str, *, name: str = "revenue") -> str:
    return json.dumps(_REVENUE)[:-1] + f',"properties":{{"{name}":{number},"currency":"EUR"}}}}'


def amount(name: str, number: str, *, accepted: bool = False) -> Case:
    body = raw(order(number), json.dumps(event(messageId="good")))
    if accepted:
        return Case(name, body=body, counted=(2, 0, 0))
    return Case(name, body=body, counted=(1, 0, 1), codes=("invalid_amount",), totals={"orders": 0})


NUMBERS = [
    amount("1e309", "1e309"),
    amount("a number with an endless exponent", "1e99999999999999999999"),
    amount("a number of 4,301 digits", "9" * 4301),
    Case(
        "a number of 400,000 digits",
        body=raw(order("9" * 400_000), json.dumps(event())),
        counted=(1, 0, 1),
        codes=("event_too_large",),
    ),
    amount("NaN as text", '"NaN"'),
    amount("infinity as text", '"Infinity"'),
    amount("true for a number", "true"),
    amount("a list for a number", "[59.9]"),
    amount("less than nothing", "-0.01"),
    amount("a cent more than 10^12", "1000000000000.01"),
    amount("digits of another script", '"\u0665\u0669"'),
    amount("an underscore in a number", '"1_000"'),
    amount("an amount of 500 decimals", "0." + "9" * 500, accepted=True),
    amount("an amount that is hardly any", "1e-400", accepted=True),
    amount("nothing with a sign", "-0.0", accepted=True),
    Case(
        "sums that a binary float has not",
        body=raw(
            *[order(text)[:-1] + f',"messageId":"f{text}"}}' for text in ("0.1", "0.2", "999999999999.99")]
        ),
        counted=(3, 0, 0),
        totals={"revenue": {"EUR": "1000000000000.29"}},
    ),
    refused(
        "a quantity of a thousand millions",
        "invalid_amount",
        _REVENUE | {"properties": {"revenue": 1, "products": [{"quantity": 10**9}]}},
    ),
    refused(
        "a currency that is none",
        "invalid_amount",
        _REVENUE | {"properties": {"revenue": 1, "currency": MARK}},
    ),
    refused(
        "seconds of more than a day",
        "invalid_amount",
        event(event="Page Left", properties={"engagedSeconds": 86_401}),
    ),
]

_PLACEHOLDERS = ["null", "undefined", "None", "NaN", "0", 0, "guest", "Anonymous", "[object Object]"]
_PLACEHOLDERS += ["00000000-0000-0000-0000-000000000000", "", "  "]

IDS = [
    refused("ids that are placeholders", "invalid_id", *[event(userId=name) for name in _PLACEHOLDERS]),
    refused(
        "visitors that are placeholders",
        "invalid_id",
        *[event(userId=..., anonymousId=name) for name in _PLACEHOLDERS],
    ),
    refused(
        "visitors that are placeholders behind the prefix",
        "invalid_id",
        event(userId=..., anonymousId="anon_null"),
        event(userId=..., anonymousId="anon_"),
    ),
    refused(
        "a user spelled like a visitor",
        "invalid_id",
        event(userId=f"anon_{MARK}"),
        event(userId=f" anon_{MARK}"),
    ),
    refused(
        "NUL and other controls",
        "invalid_id",
        *[event(userId=f"{MARK}{sign}x") for sign in "\x00\x1f\x7f\x85\n"],
    ),
    refused(
        "a slash",
        "invalid_id",
        event(userId=f"{MARK}/x"),
        event(userId="../x"),
        event(userId=".."),
        event(userId="."),
    ),
    refused(
        "half a pair of surrogates",
        "invalid_id",
        event(userId=f"{MARK}\ud800"),
        event(userId=..., anonymousId="\udfff"),
    ),
    refused(
        "ids that are too long",
        "invalid_id",
        event(userId="x" * 129),
        event(userId="x" * 20_000),
        event(userId=10**128),
    ),
    Case(
        "an id of 5,000 digits",
        body=raw('{"type":"page","userId":' + "1" * 5000 + "}", json.dumps(event())),
        counted=(1, 0, 1),
        codes=("invalid_id",),
    ),
    refused(
        "ids of other kinds",
        "invalid_id",
        *[event(userId=value) for value in (True, 1.5, [MARK], {MARK: MARK})],
    ),
    refused("nobody", "invalid_id", event(userId=...), event(userId=None, anonymousId=None)),
    refused(
        "a message id that is no text", "invalid_id", event(messageId={MARK: MARK}), event(messageId=True)
    ),
    refused("combining marks without end", "invalid_id", event(userId="e" + "\u0301" * 10_000)),
    Case(
        "a user who looks like a key",
        body=batch(
            event(userId=f"{USER}#DAY#2026-11-22"),
            event(userId="SETTINGS"),
            event(userId=f"{USER}#"),
            event(),
        ),
        counted=(4, 0, 0),
        totals={"events": 1},
    ),
    Case(
        "one letter in two spellings",
        body=batch(
            event(userId=f"{USER}-e\u0301", messageId="a"), event(userId=f"{USER}-\u00e9", messageId="a")
        ),
        counted=(1, 1, 0),
    ),
    Case(
        "letters that only look alike",
        body=batch(event(messageId="a"), event(userId=USER.replace("a", "\u0430"), messageId="a")),
        counted=(2, 0, 0),
        totals={"events": 1},
    ),
    refused(
        "an order that is a placeholder",
        "invalid_id",
        _REVENUE | {"properties": {"revenue": 1, "orderId": "undefined"}},
    ),
]

_OTHER_KINDS: list[Any] = [None, 5, "x", [], [event()], True]
_PATHS = ("a.b", "a[0]", "#n", ":v", "a b", "SET x = :v", "\x00", "%2E", "__proto__")

EVENTS = [
    refused("what is no event", "invalid_event", *_OTHER_KINDS),
    refused(
        "types that there are not",
        "invalid_event",
        *[event(type=kind) for kind in ("Track", "", MARK, None, 5, ["track"], {"a": 1})],
    ),
    refused(
        "a track without a name",
        "invalid_event",
        event(event=...),
        event(event=""),
        event(event="x" * 129),
        event(event=5),
    ),
    refused("half a character in a name", "invalid_event", event(event=f"{MARK}\ud83d")),
    refused(
        "parts of another kind",
        "invalid_event",
        event(context=MARK),
        event(context=[1]),
        event(properties=MARK),
        event(properties=[{}]),
    ),
    refused(
        "products that are none",
        "invalid_event",
        _REVENUE | {"properties": {"revenue": 1, "products": MARK}},
        _REVENUE | {"properties": {"products": [MARK]}},
    ),
    refused("an event of 33 KB", "event_too_large", event(properties={"x": MARK + "x" * 33_000})),
    refused(
        "3,000 properties of some length",
        "event_too_large",
        event(properties={f"{MARK}{number}": number for number in range(3000)}),
    ),
    Case(
        "300 properties",
        body=batch(event(properties={f"p{number}": number for number in range(300)})),
        counted=(1, 0, 0),
    ),
    Case(
        "properties that objects of JavaScript have",
        body=batch(event(properties={"__proto__": {"revenue": 5}, "constructor": 1, "": 2})),
        counted=(1, 0, 0),
    ),
    Case(
        "properties in each other 300 times",
        body=raw("{" + rest() + ',"properties":' + '{"a":' * 300 + "1" + "}" * 301),
        counted=(1, 0, 0),
    ),
    Case(
        "names that an expression would take for a path",
        body=batch(*[event(event=name) for name in _PATHS]),
        counted=(9, 0, 0),
        totals={"events": 9, "byEvent": dict.fromkeys(_PATHS, 1)},
    ),
    Case(
        "names without end",
        body=batch(*[event(event=f"n{number}", messageId=f"n{number}") for number in range(300)]),
        counted=(300, 0, 0),
        totals={"events": 300},
    ),
    refused("a crawler", "bot", event(context={"userAgent": f"{MARK}bot/2.1\nSet-Cookie: x"})),
    Case(
        "line breaks in what is logged",
        body=batch(event(context={"userAgent": "x\r\nERROR forged", "sessionId": "s\n"}, messageId="m\n")),
        counted=(1, 0, 0),
    ),
    Case(
        "one bad event among 49 good",
        body=batch(
            *[event(messageId=f"g{number}") for number in range(25)],
            event(userId="null"),
            *[event(messageId=f"h{number}") for number in range(24)],
        ),
        counted=(49, 0, 1),
        codes=("invalid_id",),
        totals={"events": 49},
    ),
    Case(
        "twice in a batch, the second with more",
        body=batch(
            event(messageId="a"), event(messageId="a", event="Order Completed", properties={"revenue": 99})
        ),
        counted=(1, 1, 0),
        totals={"events": 1, "orders": 0},
    ),
    Case(
        "500 of one day",
        body=batch(*[event(messageId=f"d{number}") for number in range(500)]),
        counted=(500, 0, 0),
        totals={"events": 500},
    ),
    Case(
        "a key and a counter among the fields",
        body=batch(event(PK="USER#x", events=99, seen=[1], mergedInto="x")),
        counted=(1, 0, 0),
        totals={"events": 1},
    ),
]

TIMES = [
    refused(
        "what is no time",
        "invalid_event",
        *[
            event(timestamp=text)
            for text in (
                "yesterday",
                "",
                "1795348800",
                1795348800,
                "2026-13-01",
                "2026-02-30T00:00:00Z",
                "2026-11-22T12:00:00+25:00",
                "2026-11-22T12:00:00+05:99",
                ["2026-11-22"],
                MARK * 5,
            )
        ],
    ),
    refused(
        "too old and too far ahead",
        "timestamp_out_of_range",
        *[
            event(timestamp=text)
            for text in (
                at(days=-7, seconds=-1),
                at(days=1, seconds=1),
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59-14:00",
                "1969-07-20T20:17:40Z",
            )
        ],
    ),
    Case(
        "the ends of the window",
        body=batch(event(timestamp=at(days=-7)), event(timestamp=at(days=1))),
        counted=(2, 0, 0),
    ),
    Case(
        "a leap second",
        body=batch(event(timestamp="2026-11-22T11:59:60Z")),
        counted=(1, 0, 0),
        totals={"events": 1},
    ),
    Case(
        "a retry with another sentAt",
        body=json.dumps(
            {"batch": [event(messageId="a"), event(messageId="a", timestamp=at())], "sentAt": MARK}
        ).encode(),
        counted=(1, 1, 0),
    ),
    refused(
        "history without its time", "invalid_event", event(timestamp=...), path="/v1/import", headers=READER
    ),
    refused(
        "history from before history",
        "timestamp_out_of_range",
        event(timestamp="1999-12-31T23:59:59Z"),
        path="/v1/import",
        headers=READER,
    ),
]


def link(user: str, visitor: str, **fields: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": user, "anonymousId": visitor} | fields


IDENTITIES = [
    Case(
        "a visitor who is two users",
        body=batch(link(USER, f"{USER}-v"), link(f"{USER}-2", f"{USER}-v")),
        counted=(1, 0, 1),
        codes=("identity_conflict",),
    ),
    Case(
        "a visitor who is itself",
        body=batch(link(USER, USER), event()),
        counted=(2, 0, 0),
        totals={"events": 1},
    ),
    refused(
        "a user who becomes another",
        "invalid_id",
        {"type": "alias", "userId": f"anon_{USER}", "previousId": USER},
    ),
    refused(
        "an alias with one side",
        "invalid_id",
        {"type": "alias", "userId": USER},
        {"type": "alias", "previousId": MARK},
    ),
    Case(
        "a chain of visitors",
        body=batch(
            link(USER, f"{USER}-a"),
            {"type": "alias", "userId": f"{USER}-a", "previousId": f"{USER}-b"},
            event(),
        ),
        counted=(3, 0, 0),
        totals={"events": 1},
    ),
    Case(
        "a merge into a visitor",
        422,
        "invalid_id",
        b'{"anonymousId":"x"}',
        path=f"/v1/users/anon_{USER}/merge",
        headers=READER,
    ),
    Case(
        "a merge of nobody",
        422,
        "invalid_id",
        b'{"anonymousId":null}',
        path=f"/v1/users/{USER}/merge",
        headers=READER,
    ),
    Case(
        "a merge of a placeholder",
        422,
        "invalid_id",
        b'{"anonymousId":"undefined"}',
        path=f"/v1/users/{USER}/merge",
        headers=READER,
    ),
    Case(
        "a merge that is a list",
        422,
        "invalid_request",
        b"[]",
        path=f"/v1/users/{USER}/merge",
        headers=READER,
    ),
    Case(
        "a merge with the public key",
        403,
        "forbidden",
        b'{"anonymousId":"x"}',
        path=f"/v1/users/{USER}/merge",
    ),
]


def with_key(name: str, headers: Mapping[str, str], **fields: Any) -> Case:
    return Case(name, 401, "unauthorized", GOOD, headers=headers, **fields)


KEYS = [
    with_key("no key", {}),
    with_key("a wrong key", basic(MARK)),
    with_key("a wrong key of 6 KB", basic(MARK * 300)),
    with_key("letters outside ASCII in a key", basic("cl\u00e9-\U0001f511")),
    with_key(
        "half a character in a key", {"Authorization": "Basic " + base64.b64encode(b"\xed\xa0\x80:").decode()}
    ),
    with_key("a key in no base64", {"Authorization": f"Basic {MARK}!"}),
    with_key("no scheme", {"Authorization": WRITE_KEY}),
    with_key("a scheme without a key", {"Authorization": "Bearer"}),
    with_key(
        "the key as the password",
        {"Authorization": "Basic " + base64.b64encode(f":{WRITE_KEY}".encode()).decode()},
    ),
    with_key("the key in the query", {}, path=f"/v1/batch?key={WRITE_KEY}&writeKey={WRITE_KEY}"),
    Case(
        "a key in the body that is no text",
        401,
        "unauthorized",
        json.dumps({"batch": [], "writeKey": [WRITE_KEY]}).encode(),
        headers={},
    ),
    Case(
        "half a character as the key in the body",
        401,
        "unauthorized",
        b'{"batch":[],"writeKey":"\\ud800"}',
        headers={},
    ),
    Case(
        "a wrong header beside a right key in the body",
        401,
        "unauthorized",
        json.dumps({"batch": [], "writeKey": WRITE_KEY}).encode(),
        headers=bearer(MARK),
    ),
    Case("history with the public key", 403, "forbidden", GOOD, path="/v1/import"),
    Case(
        "the secret key in a path",
        401,
        "unauthorized",
        method="GET",
        path=f"/v1/projects/{SECRET_KEY}/settings",
        headers={},
    ),
    Case("a read with the public key", 403, "forbidden", method="GET", path=f"/v1/users/{USER}/metrics"),
    Case("an erasure with the public key", 403, "forbidden", method="DELETE", path=f"/v1/users/{USER}"),
    Case("an export with the public key", 403, "forbidden", method="GET", path=f"/v1/users/{USER}/export"),
]


def read(name: str, path: str, status: int = 422, code: str | None = "invalid_range", **fields: Any) -> Case:
    return Case(name, status, code, method="GET", path=path, headers=READER, **fields)


_METRICS = f"/v1/users/{USER}/metrics"

READS = [
    read("a range of 367 days", f"{_METRICS}?from=2025-01-01&to=2026-01-02"),
    read("a range of all time", f"{_METRICS}?from=0001-01-01&to=9999-12-31"),
    read("a range from its end", f"{_METRICS}?from=2026-11-22&to=2026-11-21"),
    read("a day that there is not", f"{_METRICS}?from=2026-02-30"),
    read("a day of other digits", f"{_METRICS}?from=%D9%A2%D9%A0%D9%A2%D9%A6-11-22"),
    read("a time for a day", f"{_METRICS}?to=2026-11-22T12:00:00Z"),
    read("an empty day", f"{_METRICS}?from="),
    read("a query for a day", f"{_METRICS}?from=*%20OR%20user:{MARK}"),
    read("a flag that is none", f"{_METRICS}?fill={MARK}", code="invalid_request"),
    read("a depth that is none", f"/health?deep={MARK}", code="invalid_request"),
    read("the first day there is", f"{_METRICS}?to=0001-01-01", 200, None),
    read("the last day there is", f"{_METRICS}?from=9999-12-31&to=9999-12-31&fill=1", 200, None),
    read(
        "parameters nobody asked for",
        f"{_METRICS}?interval=1ms&size=1000000&from=2026-11-22&$where=1",
        200,
        None,
    ),
    read("a user who is a placeholder", "/v1/users/undefined/metrics", code="invalid_id"),
    read("a user of controls", "/v1/users/a%00b", code="invalid_id"),
    read("a user of half a character", "/v1/users/%ED%A0%80", 200, None),
    read("a user of 3,000 letters", f"/v1/users/{'x' * 3000}", code="invalid_id"),
    read("a user of angle brackets", "/v1/users/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 404, "not_found"),
    read("a way up", "/v1/users/..%2F..%2Fhealth", 404, "not_found"),
    read("a file of the system", "/docs/..%2F..%2F..%2Fetc%2Fpasswd", 404, "not_found"),
    read("a file with a NUL", "/docs/index.html%00.js", 404, "not_found"),
    read("a cursor that is none", f"/v1/users/{USER}/export?cursor={MARK}", code="invalid_cursor"),
    read(
        "a cursor of somebody else's key",
        f"/v1/users/{USER}/export?cursor=USER%23{MARK}",
        code="invalid_cursor",
    ),
    read("a cursor of NUL", f"/v1/users/{USER}/export?cursor=%00", code="invalid_cursor"),
    read("an empty cursor", f"/v1/users/{USER}/export?cursor=", code="invalid_cursor"),
    Case("a method of nobody's", 405, "method_not_allowed", method="BREW", path="/v1/batch"),
    Case("TRACE", 405, "method_not_allowed", method="TRACE", path="/health"),
    Case(
        "an origin of another shop",
        body=GOOD,
        counted=(1, 0, 0),
        headers=WRITER | {"Origin": "https://evil.example", "Cookie": "a=b"},
    ),
    Case(
        "another host",
        body=GOOD,
        counted=(1, 0, 0),
        headers=WRITER | {"X-Forwarded-Host": MARK, "X-HTTP-Method-Override": "DELETE"},
    ),
]


def _of(first: str, last: str | None = None) -> dict[str, Any]:
    return {"from": first, "to": last or first}


def search(name: str, kind: str, status: int = 200, code: str | None = None, **fields: Any) -> Case:
    return Case(name, status, code, json.dumps(fields).encode(), path=f"/v1/search/{kind}", headers=READER)


_KINDS: list[tuple[str, dict[str, Any]]] = [
    ("segments", {"all": [{"event": "Looked"}]}),
    ("funnels", {"steps": ["Looked"], "windowHours": 8760}),
    ("breakdowns", {"by": "day", "metric": "users"}),
    *(("timeseries", {"metric": "events", "interval": unit}) for unit in ("day", "week", "month")),
    *(
        ("retention", {"startEvent": "Looked", "returnEvent": "Looked", "unit": unit})
        for unit in ("day", "week", "month")
    ),
]
_ENDS = {"first": "0001-01-01", "last": "9999-12-31"}

SEARCHES = [
    *(
        search(f"the {end} day there is: {kind} {number}", kind, **_of(day), **fields)
        for end, day in _ENDS.items()
        for number, (kind, fields) in enumerate(_KINDS)
    ),
    *(
        search(
            f"the hours of the {end} day there is, {metric}",
            "timeseries",
            422,
            "invalid_range",
            **_of(day),
            metric=metric,
            interval="hour",
        )
        for end, day in _ENDS.items()
        for metric in ("events", "users", "revenue")
    ),
    search(
        "a search of all time",
        "funnels",
        422,
        "invalid_range",
        steps=[MARK],
        **_of("0001-01-01", "9999-12-31"),
    ),
    search(
        "a search of a script",
        "funnels",
        422,
        "invalid_request",
        script=MARK,
        steps=["x"],
        **_of("2026-11-22"),
    ),
]

CASES = [*BODIES, *GZIPPED, *NUMBERS, *IDS, *EVENTS, *TIMES, *IDENTITIES, *KEYS, *READS, *SEARCHES]
