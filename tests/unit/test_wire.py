"""Bodies: inflated, parsed and taken apart within bounds."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import zlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import money, wire
from service.problems import InvalidJson, InvalidRequest, Problem, TooLarge, UnsupportedEncoding

CAP = 500 * 1024


# --- inflating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_a_plain_body_stays_as_it_is(encoding: str | None) -> None:
    assert wire.inflated(b"{}", encoding) == b"{}"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
def test_a_gzip_body_is_inflated(encoding: str) -> None:
    assert wire.inflated(gzip.compress(b'{"a": 1}', mtime=0), encoding) == b'{"a": 1}'


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "é"])
def test_no_other_encoding_is_taken(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        wire.inflated(b"{}", encoding)


def test_a_body_of_exactly_the_cap_is_taken_and_one_byte_more_is_not() -> None:
    assert len(wire.inflated(b" " * CAP, None)) == CAP
    assert len(wire.inflated(gzip.compress(b" " * CAP, mtime=0), "gzip")) == CAP
    for body, encoding in ((b" " * (CAP + 1), None), (gzip.compress(b" " * (CAP + 1), mtime=0), "gzip")):
        with pytest.raises(TooLarge):
            wire.inflated(body, encoding)


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compressobj(9, wbits=31)
    body = b"".join(bomb.compress(bytes(2**20)) for _ in range(300)) + bomb.flush()
    assert len(body) < CAP

    with pytest.raises(TooLarge):
        wire.inflated(body, "gzip")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\x1f\x8b",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}" * 999, mtime=0)[:30],
        zlib.compress(b"{}"),
    ],
)
def test_what_is_no_whole_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        wire.inflated(body, "gzip")


def test_a_spoilt_checksum_is_refused() -> None:
    body = bytearray(gzip.compress(b"{}", mtime=0))
    body[-8] ^= 1

    with pytest.raises(InvalidJson):
        wire.inflated(bytes(body), "gzip")


def test_what_trails_a_gzip_body_spoils_nothing_else() -> None:
    # Several members may follow each other in one gzip file (RFC 1952); none of them may be lost in silence.
    body = gzip.compress(b'{"batch":', mtime=0) + gzip.compress(b"[]}", mtime=0)
    try:
        inflated = wire.inflated(body, "gzip")
    except Problem:
        return
    assert inflated == b'{"batch":[]}'


@given(st.binary(max_size=200))
def test_any_bytes_are_inflated_or_refused(body: bytes) -> None:
    for sent in (body, gzip.compress(body, mtime=0)[: len(body)], gzip.compress(body, mtime=0) + body):
        with contextlib.suppress(InvalidJson, TooLarge):
            assert isinstance(wire.inflated(sent, "gzip"), bytes)


# --- parsing ---------------------------------------------------------------------------------------------------------

DOCUMENT = {"a": ["é", 1, None, True]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_is_read_in_every_encoding_it_may_have(encoding: str) -> None:
    assert wire.parsed(json.dumps(DOCUMENT, ensure_ascii=False).encode(encoding)) == DOCUMENT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{]",
        b"nul",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"\xff\xfe",
        b"\x80",
        b'"\xe9"',
        b"{} {}",
        b"01",
        b"NaN",
        b"[NaN]",
        b"Infinity",
        b'{"a": -Infinity}',
        b'"\n"',
        b"\xef\xbb\xbf",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        wire.parsed(body)


def test_numbers_with_a_fraction_are_read_exactly() -> None:
    assert wire.parsed(b"[0.1, 1e2, 12345678901234567890.123456789]") == [
        Decimal("0.1"),
        Decimal("1e2"),
        Decimal("12345678901234567890.123456789"),
    ]


def test_the_last_of_two_equal_names_counts() -> None:
    assert wire.parsed(b'{"a": 1, "a": 2}') == {"a": 2}


def test_lone_surrogates_are_read() -> None:
    assert wire.parsed(b'"\\ud800"') == "\ud800"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_deep_nesting_is_refused_or_read_and_crashes_nothing(opening: bytes) -> None:
    body = opening * (CAP // len(opening))
    with pytest.raises(InvalidJson):
        wire.parsed(body)
    closing = b"".join({b"["[0]: b"]", b"{"[0]: b"}"}.get(byte, b"") for byte in reversed(opening))
    count = 20_000
    with pytest.raises(InvalidJson):
        wire.parsed(opening * count + b"1" + closing * count)


@pytest.mark.parametrize(
    "number", ["1" * 4301, "-" + "1" * 4301, "1" * 400_000, "1e400", "1e99999999999999999999"]
)
def test_a_monstrous_number_spoils_its_event_alone(number: str) -> None:
    document: Any = wire.parsed(
        f'{{"batch": [{{"value": {number}}}, {{"value": 5, "other": 1.5}}]}}'.encode()
    )

    first, second = document["batch"]
    assert second == {"value": 5, "other": Decimal("1.5")}
    with pytest.raises(money.InvalidAmountError):
        money.minor(first["value"], "EUR")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(JSON)
def test_what_was_written_is_read(document: object) -> None:
    assert document == wire.parsed(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(
    st.binary(max_size=100)
    | st.text(st.characters(), max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidJson):
        wire.parsed(body)


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"true", b"[[]]"])
def test_a_body_is_an_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        wire.json_object(body, None)


# --- batches and keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [{}, {"batch": None}, {"batch": {}}, {"batch": "[]"}, {"batch": 1}])
def test_a_batch_is_a_list(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        wire.batch(document, 10)


def test_a_batch_has_at_most_2500_events() -> None:
    assert len(wire.batch({"batch": [{}] * 2500}, 10).events) == 2500
    with pytest.raises(TooLarge):
        wire.batch({"batch": [{}] * 2501}, 10)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"batch": [], "writeKey": "k"}, "k"),
        ({"batch": [{"writeKey": "e"}], "writeKey": "k"}, "k"),
        ({"batch": [{"writeKey": "e"}, {"writeKey": "f"}]}, "e"),
        ({"batch": [{"writeKey": "e"}], "writeKey": None}, "e"),
        ({"batch": [5, {"writeKey": "e"}]}, None),
        ({"batch": [], "writeKey": 5}, None),
        ({"batch": []}, None),
    ],
)
def test_the_key_of_a_batch_is_beside_it_or_in_its_first_event(
    document: dict[str, Any], key: str | None
) -> None:
    assert key == wire.batch(document, 10).write_key


@pytest.mark.parametrize(
    ("context", "expected"), [({"a": 1}, {"a": 1}), (None, {}), ("x", {}), ([], {}), (5, {})]
)
def test_a_batchs_context_is_an_object_or_none(context: object, expected: dict[str, Any]) -> None:
    assert expected == wire.batch({"batch": [], "context": context}, 10).context


def test_the_path_gives_the_type_where_the_body_has_none() -> None:
    assert wire.single({"a": 1}, "page", 10).events == [{"a": 1, "type": "page"}]
    assert wire.single({"type": None}, "page", 10).events == [{"type": "page"}]
    assert wire.single({"type": "screen"}, "page", 10).events == [{"type": "screen"}]
    assert wire.single({"writeKey": "k"}, "page", 10).write_key == "k"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("Basic " + b64("key:"), "key"),
        ("Basic " + b64("key"), "key"),
        ("basic  " + b64("key:password"), "key"),
        (" BASIC " + b64("clé:"), "clé"),
        ("Bearer key", "key"),
        ("bearer   key ", "key"),
        ("Bearer", ""),
        ("", ""),
        ("Basic", ""),
        ("Basic !!!", ""),
        ("Basic " + b64("key:")[:-1], ""),
        ("Basic /w==", ""),
        ("key", ""),
        ("Token key", ""),
        ("Basic " + b64(":password"), ""),
    ],
)
def test_the_key_of_the_header(header: str | None, key: str | None) -> None:
    assert key == wire.key_of_authorization(header)


@given(st.text(st.characters(), max_size=60))
def test_any_header_has_a_key_or_an_empty_one(header: str) -> None:
    for text in (header, "Basic " + header, "Bearer " + header):
        assert isinstance(wire.key_of_authorization(text), str)
