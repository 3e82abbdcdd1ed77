"""The tracking API as it arrives: bytes, inflated and parsed within bounds, then a list of events as sent.

Pure: no I/O, no clock. Limits: Segment HTTP Tracking API (500 KB and 2,500 events a batch).
"""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any

from .events import EVENT_BYTES_MAX
from .problems import InvalidJson, InvalidRequest, TooLarge, UnsupportedEncoding

BODY_BYTES_MAX = 500 * 1024
BATCH_EVENTS_MAX = 2_500
# Clients send one. Each more copies what is left of the body, and 500 KB hold 25,000 empty ones.
GZIP_MEMBERS_MAX = 16

# The type of an event posted to a path of its own, which the short path shares.
TYPE_OF_PATH = {
    "track": "track",
    "t": "track",
    "page": "page",
    "p": "page",
    "screen": "screen",
    "s": "screen",
    "identify": "identify",
    "i": "identify",
    "alias": "alias",
    "a": "alias",
    "group": "group",
    "g": "group",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """What a tracking request holds. `may_hold_large_events` when the body is larger than one event may be."""

    events: list[object]
    context: Mapping[str, Any]
    write_key: str | None
    may_hold_large_events: bool


def too_large() -> TooLarge:
    """The problem of a body over the cap."""
    return TooLarge(f"A body has at most {BODY_BYTES_MAX} bytes, inflated. Send smaller batches.")


def inflated(body: bytes, encoding: str | None) -> bytes:
    """Undo Content-Encoding: gzip, up to the cap and no further. Raises TooLarge, InvalidJson, UnsupportedEncoding."""
    if len(body) > BODY_BYTES_MAX:
        raise too_large()
    encoding = (encoding or "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise UnsupportedEncoding
    return _gunzipped(body)


def _gunzipped(body: bytes) -> bytes:
    """One member or a few (RFC 1952, 2.2), each with a header and a trailer: wbits 31."""
    text = b""
    for _ in range(GZIP_MEMBERS_MAX):
        inflater = zlib.decompressobj(wbits=31)
        try:
            text += inflater.decompress(body, BODY_BYTES_MAX + 1 - len(text))
        except zlib.error:
            raise InvalidJson("The body is no valid gzip.") from None
        if len(text) > BODY_BYTES_MAX:
            raise too_large()
        if not inflater.eof:
            raise InvalidJson("The gzip body ends too early.")
        if not inflater.unused_data:
            return text
        body = inflater.unused_data
    raise InvalidJson(f"A gzip body has at most {GZIP_MEMBERS_MAX} members.")


def parsed(body: bytes) -> object:
    """JSON, whatever the Content-Type says; numbers with a fraction are read as decimals. Raises InvalidJson."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, DecimalException):
        pass
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    # Python refuses integers of over 4,300 digits and Decimal exponents of over 18 digits. They are JSON all the same,
    # and spoil no more than the event they are in; every other number is read as above.
    try:
        return json.loads(body, parse_float=_number, parse_int=_number, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    except ValueError:
        raise InvalidJson("The body is no valid JSON.") from None


def json_object(body: bytes, encoding: str | None) -> tuple[dict[str, Any], int]:
    """A body that is one object, and its size in bytes, inflated. Raises also InvalidRequest."""
    text = inflated(body, encoding)
    document = parsed(text)
    if not isinstance(document, dict):
        raise InvalidRequest("The body is a JSON object.")
    return document, len(text)


def batch(document: Mapping[str, Any], size_bytes: int) -> Batch:
    """The body of /v1/batch. Raises InvalidRequest and TooLarge."""
    events = document.get("batch")
    if not isinstance(events, list):
        raise InvalidRequest("batch is a list of events.")
    if len(events) > BATCH_EVENTS_MAX:
        raise TooLarge(f"A batch has at most {BATCH_EVENTS_MAX} events.", code="batch_too_large")
    key = _text(document.get("writeKey"))
    if key is None and events and isinstance(events[0], dict):
        # Clients that batch on their own send the key with each event alone.
        key = _text(events[0].get("writeKey"))
    context = document.get("context")
    return Batch(events, context if isinstance(context, dict) else {}, key, size_bytes > EVENT_BYTES_MAX)


def single(document: dict[str, Any], type_of_path: str, size_bytes: int) -> Batch:
    """The body of a path that takes one event."""
    if document.get("type") is None:
        document = {**document, "type": type_of_path}
    return Batch([document], {}, _text(document.get("writeKey")), size_bytes > EVENT_BYTES_MAX)


def key_of_authorization(header: str | None) -> str | None:
    """The key of `Basic <base64 of key:>` or `Bearer <key>`; None without the header, "" when it is neither.

    Some senders leave out Basic's colon.
    """
    if header is None:
        return None
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
        except (binascii.Error, ValueError):
            return ""
    return ""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(text: str) -> object:
    try:
        return int(text) if text.lstrip("-").isdigit() else Decimal(text)
    except (ValueError, DecimalException):
        return text


def _refuse_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")
