"""What the description of the API shows: a request and a reply of each route, and a problem of each code."""

import json
from datetime import date
from typing import Any

from . import problems, replies, wire
from .days import StoredDay
from .metrics import Metrics

_ANONYMOUS_ID = "4f1c9a52-6d0e-4c7c-9f0e-2b8f5d1c7a33"

TRACK: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "order-1001",
    "userId": "u-42",
    "properties": {
        "orderId": "1001",
        "revenue": 59.9,
        "currency": "EUR",
        "products": [{"productId": "sku-9", "quantity": 2}],
    },
}
PAGE = {
    "type": "page",
    "messageId": "page-1",
    "anonymousId": _ANONYMOUS_ID,
    "context": {"sessionId": "s-1"},
}
IDENTIFY = {
    "type": "identify",
    "messageId": "identify-1",
    "userId": "u-42",
    "anonymousId": _ANONYMOUS_ID,
}
EVENTS: dict[str, dict[str, Any]] = {
    "track": TRACK,
    "page": PAGE,
    "screen": {"type": "screen", "messageId": "screen-1", "userId": "u-42"},
    "identify": IDENTIFY,
    "alias": {"type": "alias", "messageId": "alias-1", "userId": "u-42", "previousId": _ANONYMOUS_ID},
    "group": {"type": "group", "messageId": "group-1", "userId": "u-42"},
}
BATCH = {"batch": [PAGE, TRACK, IDENTIFY]}
IMPORT = {"batch": [TRACK | {"timestamp": "2019-12-24T18:00:00Z"}]}
MERGE = {"anonymousId": _ANONYMOUS_ID}

INGESTED = {"success": True, "accepted": 1, "duplicates": 0, "rejectedCount": 0, "rejected": []}
BATCH_INGESTED = INGESTED | {
    "accepted": 3,
    "duplicates": 1,
    "rejectedCount": 1,
    "rejected": [
        {
            "index": 4,
            "messageId": "order-0007",
            "code": "timestamp_out_of_range",
            "reason": "accepted from 7 days back to 24 hours ahead",
        }
    ],
}
_DAY = "2026-11-22"
_NUMBERS = Metrics(
    counters={"events": 2, "page_views": 1, "orders": 1, "items_sold": 2},
    revenue_minor={"EUR": 5990},
    sessions={b"s-1"},
    order_ids={"1001"},
)
METRICS: dict[str, Any] = json.loads(
    replies.metrics_body(
        {"userId": "u-42", "from": "2026-11-01", "to": "2026-11-30", "timezone": "Europe/Berlin"},
        date(2026, 11, 1),
        date(2026, 11, 30),
        [StoredDay(_DAY, _NUMBERS)],
        fill=False,
    )
)
USER = {
    "userId": "u-42",
    "requestedId": f"anon_{_ANONYMOUS_ID}",
    "anonymousIds": [f"anon_{_ANONYMOUS_ID}"],
    "firstDay": "2026-03-01",
    "lastDay": _DAY,
}
MERGED = {"userId": "u-42", "anonymousId": f"anon_{_ANONYMOUS_ID}", "status": "merged", "days": 3}
ERASED = {
    "userId": "u-42",
    "erasedAt": "2026-11-22T12:00:00.000+00:00",
    "anonymousIds": 1,
    "days": 4,
    "rawEvents": 0,
}
TIMELINE: dict[str, Any] = {
    "userId": "u-42",
    "from": "2026-11-01",
    "to": "2026-11-30",
    "timezone": "Europe/Berlin",
    "events": [
        {
            "type": "track",
            "event": "Order Completed",
            "messageId": "m-2",
            "userId": "u-42",
            "timestamp": "2026-11-22T10:04:11.500Z",
            "properties": {"orderId": "1001", "revenue": 59.9, "currency": "EUR"},
            "receivedAt": "2026-11-22T10:04:12.031Z",
        }
    ],
    # Not null, which the document would be left without.
    "nextCursor": "MTc5NTM0MTg1MjAzMSAxNzk1MzQxODUxNTAwIDBhYjkxYzJlNWQ3Zg",
}
_EVENT = {name: value for name, value in TIMELINE["events"][0].items() if name != "receivedAt"}
EXPORTED = b"\n".join(
    (
        replies.alias_body(f"anon_{_ANONYMOUS_ID}", "u-42", "merged"),
        replies.day_body("u-42", StoredDay(_DAY, _NUMBERS)),
        replies.json_body({"receivedAt": TIMELINE["events"][0]["receivedAt"], "event": _EVENT}),
        b"",
    )
).decode()
_RANGE = {"from": "2026-11-01", "to": "2026-11-30"}
_STEPS = ["Product Viewed", "Product Added", "Order Completed"]
SEGMENTS: dict[str, Any] = _RANGE | {
    "all": [{"event": "Product Added", "min": 3}],
    "none": [{"metric": "revenue", "currency": "EUR", "min": 100}],
    "limit": 2,
}
SEGMENTED: dict[str, Any] = {
    "count": 12,
    "countAtLeast": 12,
    "users": [{"userId": "anon_visitor"}, {"userId": "u-42"}],
    "nextCursor": "WyI2YTU1ZmU0NzE1N2Y5NjJkIiwidS00MiIsMTIsMTJd",
}
FUNNELS: dict[str, Any] = _RANGE | {"steps": _STEPS, "windowHours": 168}
FUNNEL: dict[str, Any] = {
    "steps": [
        {"event": event, "users": users, "conversion": share}
        for event, users, share in zip(_STEPS, (120, 31, 7), (1.0, 0.2583, 0.0583), strict=True)
    ]
}
BREAKDOWNS: dict[str, Any] = _RANGE | {
    "event": "Product Viewed",
    "by": "productId",
    "metric": "events",
    "limit": 2,
}
BREAKDOWN: dict[str, Any] = {
    "rows": [{"key": "sku-9", "value": 31}, {"key": "sku-4", "value": 17}],
    "total": 71,
    "otherRows": 12,
}
TIMESERIES: dict[str, Any] = _RANGE | {"metric": "revenue", "currency": "EUR", "interval": "week"}
SERIES: dict[str, Any] = {
    "rows": [{"start": "2026-10-26", "value": 0}, {"start": "2026-11-02", "value": 59.9}]
    + [{"start": f"2026-11-{day:02d}", "value": 120} for day in (9, 16, 23, 30)]
}
RETENTION: dict[str, Any] = {
    "from": "2026-11-02",
    "to": "2026-11-15",
    "startEvent": "Page Viewed",
    "returnEvent": "Order Completed",
    "unit": "week",
}
RETAINED: dict[str, Any] = {
    "cohorts": [
        {"start": "2026-11-02", "users": 120, "returned": [7, 3]},
        {"start": "2026-11-09", "users": 80, "returned": [5]},
    ]
}
HEALTH = {"status": "ok", "version": "0.1.0"}
SETTINGS = {
    "integrations": {
        "Segment.io": {"apiKey": "dev-write-key", "apiHost": "api.shop.example/v1", "protocol": "https"}
    },
    "metrics": {"sampleRate": 0},
}

# By code; but for the second of identity_conflict, which has a name of its own.
PROBLEMS: dict[str, problems.Problem] = {
    "invalid_json": problems.InvalidJson("The body is no valid JSON."),
    "unauthorized": problems.Unauthorized(),
    "forbidden": problems.Forbidden(),
    "identity_conflict": problems.IdentityConflict(),
    "identity_conflict_of_erasure": problems.IdentityConflict(
        "The anonymous id belongs to a user. Erase the user."
    ),
    "body_too_large": wire.too_large(),
    "batch_too_large": problems.TooLarge(
        f"A batch has at most {wire.BATCH_EVENTS_MAX} events.", code="batch_too_large"
    ),
    "unsupported_encoding": problems.UnsupportedEncoding(),
    "invalid_request": problems.InvalidRequest("The body is a JSON object."),
    "invalid_parameter": problems.InvalidRequest("fill is true or false."),
    "invalid_id": problems.InvalidRequest("This is a placeholder, not an id.", code="invalid_id"),
    "invalid_range": problems.InvalidRequest("from is a day, YYYY-MM-DD.", code="invalid_range"),
    "invalid_cursor": problems.InvalidRequest(
        "cursor is what Footfall-Next-Cursor of the page before said.", code="invalid_cursor"
    ),
    "invalid_cursor_of_timeline": problems.InvalidRequest(
        "cursor is what nextCursor of the page before said.", code="invalid_cursor"
    ),
    "invalid_cursor_of_segments": problems.InvalidRequest(
        "cursor is what nextCursor of the page before said, and goes with the same search.",
        code="invalid_cursor",
    ),
    "invalid_limit": problems.InvalidRequest("limit is a whole number from 1 to 1000."),
    "raw_events_off": problems.NotEnabled(),
    "search_off": problems.search_off(),
    "internal_error": problems.Unexpected(),
    "unavailable": problems.Unavailable(),
    "search_unavailable": problems.SearchUnavailable(),
    "misconfigured": problems.Unavailable(
        "FOOTFALL_TIMEZONE is not the time zone this table's days are in.", code="misconfigured"
    ),
}
