"""The stream's records as the indexer takes them: raw events that were put, and marks that changed.

Pure: no I/O, no clock. Two shapes are read: Lambda's, with binary as base64 text, and that of GetRecords, with bytes;
either may come without the item, which is then read from the table.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import keys
from .keys import Key

Record = Mapping[str, Any]
# What template.yaml lets the stream's filter pass, and the local poller too; a test compares them.
FILTER = {
    "eventName": ["INSERT", "MODIFY"],
    "dynamodb": {"Keys": keys.MARKS_AND_EVENTS},
}


@dataclass(frozen=True, slots=True)
class Change:
    """One item that was put or updated. `item` is how it looked then; None where the record does not say, and of marks,
    of which only what they say now counts."""

    key: Key
    distinct_id: str
    is_mark: bool
    item: Mapping[str, Mapping[str, Any]] | None = None


def passes(record: Record) -> bool:
    """Whether the stream's filter lets a record through."""
    if record.get("eventName") not in FILTER["eventName"]:
        return False  # A deletion; DynamoDB Local names those by TTL UNKNOWN_TO_SDK_VERSION.
    try:
        sk = keys.of_item(record["dynamodb"]["Keys"]).sk
    except (KeyError, TypeError):
        return False
    return isinstance(sk, str) and (keys.is_events(sk) or keys.is_mark(sk))


def change(record: Record) -> Change | None:
    """What a record says; None for what is nothing to the indexer."""
    if not passes(record):
        return None
    stream = record["dynamodb"]
    key = keys.of_item(stream["Keys"])
    distinct_id = keys.distinct_id_of(key.pk)
    if distinct_id is None:
        return None
    if keys.is_mark(key.sk):
        return Change(key, distinct_id, is_mark=True)
    image = stream.get("NewImage")
    return Change(key, distinct_id, is_mark=False, item=_with_bytes(image) if image else None)


def sequence_number(record: Record) -> str:
    """By which Lambda is told where to begin again."""
    return str(record["dynamodb"]["SequenceNumber"])


def as_lambda_sends(record: Record, source_arn: str, region: str) -> dict[str, Any]:
    """A record of GetRecords in the shape in which Lambda hands it over: all of it JSON."""
    stream = dict(record["dynamodb"])
    created = stream.get("ApproximateCreationDateTime")
    if isinstance(created, datetime):
        stream["ApproximateCreationDateTime"] = created.timestamp()
    for image in ("Keys", "NewImage", "OldImage"):
        if image in stream:
            stream[image] = {name: _as_text(typed) for name, typed in stream[image].items()}
    return {
        "eventID": record.get("eventID"),
        "eventName": record["eventName"],
        "eventVersion": record.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "awsRegion": region,
        "dynamodb": stream,
        "eventSourceARN": source_arn,
    }


def _as_text(typed: Mapping[str, Any]) -> dict[str, Any]:
    ((kind, value),) = typed.items()
    if kind == "B":
        return {kind: base64.b64encode(value).decode()}
    if kind in ("BS", "SS", "NS"):
        members: Iterable[Any] = value
        return {kind: [base64.b64encode(one).decode() if kind == "BS" else one for one in members]}
    return {kind: value}


def _with_bytes(image: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Items of the table have no other binary at their top level than single values, as far as the indexer reads."""
    return {
        name: {"B": base64.b64decode(typed["B"])} if isinstance(typed.get("B"), str) else typed
        for name, typed in image.items()
    }
