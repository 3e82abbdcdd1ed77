"""POST /v1/import: a body, and the answer that decides it."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .client import Client, Consumed

_HEADERS = {
    "Content-Type": "application/json",
    "Content-Encoding": "gzip",
    "Accept": "application/json",
}


@dataclass(frozen=True)
class Answer:
    """A reply that decides: 200, or a 4xx that sending again would not change. Or the last 5xx of so many."""

    status: int
    body: Mapping[str, Any]


def post(client: Client, body: str, consumed: Consumed, attempts_max: int | None = None) -> Answer:
    """Raises CannotReachError."""
    compressed = gzip.compress(body.encode(), 6)
    reply = client.request(
        "POST", "/v1/import", consumed, headers=_HEADERS, body=compressed, attempts_max=attempts_max
    )
    if reply.status >= 500:
        return Answer(reply.status, {})
    try:
        decoded = json.loads(reply.data)
    except ValueError:
        decoded = None
    if (reply.status == 200 and _is_decided(decoded)) or (
        reply.status in (400, 413, 422) and _is_problem(decoded)
    ):
        return Answer(reply.status, decoded)
    raise client.no_footfall(reply.status)


def _is_decided(body: Any) -> bool:
    try:
        counts = [int(body[name]) for name in ("accepted", "duplicates", "rejectedCount")]
        return (
            min(counts + [int(one["index"]) for one in body["rejected"] if one["code"] and one["reason"]])
            >= 0
        )
    except (KeyError, TypeError, ValueError):
        return False


def _is_problem(body: Any) -> bool:
    return isinstance(body, dict) and {"code", "detail"} <= body.keys()
