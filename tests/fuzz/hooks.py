"""What Schemathesis cannot know from the description: which ids are placeholders, and what time it is.

Its favourite id is "0", which is none here, and its timestamps are those of the examples. Both are replaced in what it
generates, so that the events pass the first checks and are counted; everything else stays as generated. Loaded by
Schemathesis in its own process (SCHEMATHESIS_HOOKS).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis

USER, VISITOR, ORDER = "userId", "anonymousId", "orderId"
# To what a placeholder is changed. Of each few, and in pairs: a merge is the dearest thing there is, and one of a
# visitor who is another user already is refused.
SPELLED = {USER: "u", VISITOR: "a", "previousId": "p", ORDER: "o"}
PLACEHOLDERS = ("", "0", "null", "none", "undefined")
SHAPES = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%f+00:00", "%Y-%m-%d", "%Y%m%dT%H%M%SZ")
# Whole days, so that a run of the same day sends the same.
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """A body whose events could be a shop's. Not `map_body`, which is left out where bounds are tried."""
    for event in _events(case.body):
        number = _number(event)
        properties = event.get("properties")
        for part in (event, properties) if isinstance(properties, dict) else (event,):
            for field in SPELLED.keys() & part.keys():
                if part[field] in PLACEHOLDERS:
                    part[field] = _spelled(field, number)
        if "type" in event and not event.get(USER) and not event.get(VISITOR) and number % 4:
            event[VISITOR] = _spelled(VISITOR, number)
        if isinstance(event.get("timestamp"), str) and number % 8:
            event["timestamp"] = _moment(number)


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """The key that browsers have, now and then: no other has settings."""
    key = (path_parameters or {}).get("writeKey")
    if isinstance(key, str) and _number(key) % 2:
        path_parameters["writeKey"] = "dev-write-key"
    return path_parameters


def _events(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, dict):
        batch = body.get("batch")
        candidates = batch if isinstance(batch, list) else [body]
        yield from (event for event in candidates if isinstance(event, dict))


def _spelled(field: str, number: int) -> str:
    return f"{SPELLED[field]}-{number % (1000 if field == ORDER else 50)}"


def _number(value: object) -> int:
    """The same for the same value in every process."""
    return zlib.crc32(repr(value).encode("utf-8", "backslashreplace"))


def _moment(number: int) -> str:
    """From 9 days back, which is too old, to 2 ahead, which is too far."""
    moment = TODAY + timedelta(minutes=number % (11 * 24 * 60)) - timedelta(days=9)
    return moment.strftime(SHAPES[number % len(SHAPES)])
