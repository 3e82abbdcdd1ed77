"""What the search engine is told: the names of its indices, their mapping and settings. Pure: no I/O, no clock.

A month's index is `footfall-events-2026-11-000001`, the number one more with each rebuild. Documents are written to the
month's alias, `footfall-events-2026-11`, and searches ask those of their range; `footfall-events` is all of them.
"""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """What the indices of a deployment are called. `month` is YYYY-MM."""

    prefix: str

    @property
    def events(self) -> str:
        """The alias of all months' indices that are in use, of none that is being made; and the template's name."""
        return f"{self.prefix}-events"

    @property
    def every(self) -> str:
        """A pattern for all indices of events, those a rebuild is filling too: for what changes owners and deletes."""
        return f"{self.prefix}-events-*"

    @property
    def failed(self) -> str:
        """The index of what could not be indexed, and why."""
        return f"{self.prefix}-failed"

    def month(self, month: str) -> str:
        """The alias that a month's documents are written to, and searched by."""
        return f"{self.prefix}-events-{month}"

    def index(self, month: str, number: int) -> str:
        """One of a month's indices; a rebuild makes the next."""
        return f"{self.month(month)}-{number:06d}"

    def filling(self, month: str, number: int) -> str:
        """The alias by which a rebuild writes to an index that is not in use yet."""
        return f"{self.prefix}-filling-{month}-{number:06d}"

    def of_index(self, index: str) -> tuple[str, int] | None:
        """Month and number of an index; None for one that is not of this deployment's events."""
        found = re.fullmatch(re.escape(self.events) + r"-(\d{4}-\d{2})-(\d{6})", index, re.ASCII)
        return (found[1], int(found[2])) if found else None


def month_of(day: str) -> str:
    """The YYYY-MM of a YYYY-MM-DD."""
    return day[:7]


def first_kept_month(today: date, retention_days: int) -> str:
    """The first month of which something is kept: what is of a month before it is not indexed any more."""
    return month_of((today - timedelta(days=retention_days)).isoformat())


_KEYWORD = {"type": "keyword"}
_MOMENT = {"type": "date", "format": "epoch_millis"}
_WHOLE = {"type": "long"}
_STORED = {"type": "keyword", "index": False, "doc_values": False}
_PROPERTIES: Json = {
    **dict.fromkeys(("user", "sentAs", "day", "type", "event", "metrics", "session", "orderId"), _KEYWORD),
    **dict.fromkeys(("currency", "productId", "category", "lines", "path", "referrerHost"), _KEYWORD),
    **dict.fromkeys(("campaignSource", "campaignMedium", "campaignName"), _KEYWORD),
    **dict.fromkeys(("time", "receivedAt", "earliest"), _MOMENT),
    **dict.fromkeys(("itemsSold", "engagedSeconds", "revenueMinor", "refundMinor"), _WHOLE),
    "messageId": _STORED,
}
# One user-day after the other, so that a page of users reads its own documents alone.
_SORT = {"sort.field": ["user", "time"], "sort.order": ["asc", "asc"]}


def template(names: Names, *, replicas: int = 0, flat: str = "flat_object", table: str | None = None) -> Json:
    """The index template of the months' indices, and whose they are: `table` is what they are made from."""
    return {
        "_meta": {"table": table} if table else {},
        "index_patterns": [names.every],
        # Above the templates that come with an engine.
        "priority": 500,
        "template": {
            "settings": {"index": {"number_of_shards": 1, "number_of_replicas": replicas, **_SORT}},
            "mappings": {"dynamic": "strict", "properties": {**_PROPERTIES, "properties": {"type": flat}}},
        },
    }


def failed_index(*, replicas: int = 0) -> Json:
    """Settings and mapping of the index of what could not be indexed. `key` is the raw item's, PK and SK with a space
    between; `body` is the document, or nothing."""
    return {
        "settings": {"index": {"number_of_shards": 1, "number_of_replicas": replicas}},
        "mappings": {
            "dynamic": "strict",
            "properties": {
                **dict.fromkeys(("at", "earliest"), _MOMENT),
                **dict.fromkeys(("key", "sentAs", "user"), _KEYWORD),
                "reason": {"type": "keyword", "ignore_above": 1024},
                "body": _STORED,
            },
        },
    }
