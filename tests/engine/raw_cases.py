"""The requests of `cases` where raw events are kept: what they ask of the database, and what lies there afterwards."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Mapping

from service import recount
from service.store import Work
from tests.engine import cases
from tests.engine.cases import GET, MERGE, PUT, TRANSACT, UPDATE, Prepare
from tests.engine.shop import Json, Shop

BATCH = "BatchWriteItem"
_SUFFIX = ", raw events kept"
VARIABLES = {"RAW_EVENTS": "1"}

RAW_REQUESTS: dict[str, tuple[Prepare, list[str]]] = {
    f"batch of one user{_SUFFIX}": (cases.one_user, [UPDATE, UPDATE, PUT]),
    f"batch of many users and days{_SUFFIX}": (
        cases.many_users_and_days,
        [GET, *[UPDATE] * 5, *[PUT] * 5],
    ),
    # An order that comes twice in it, and those whose claim was lost: is it this day that has counted them?
    f"batch of orders, some counted before{_SUFFIX}": (
        cases.orders,
        [TRANSACT, GET, TRANSACT, GET, TRANSACT, PUT, PUT],
    ),
    f"first event with both ids{_SUFFIX}": (
        cases.first_event_with_both_ids,
        [GET, *MERGE, UPDATE, UPDATE, PUT, PUT],
    ),
    f"both ids of another user's visitor{_SUFFIX}": (
        cases.both_ids_of_another_users_visitor,
        [GET, TRANSACT, TRANSACT, PUT, PUT],
    ),
    f"import of old days{_SUFFIX}": (
        cases.imported,
        [GET, GET, TRANSACT, TRANSACT, TRANSACT, TRANSACT, PUT, PUT, PUT, PUT],
    ),
    f"erase a visitor{_SUFFIX}": (
        cases.erase_visitor,
        [GET, TRANSACT, *cases.ERASE_DAYS, BATCH, TRANSACT],
    ),
}
# Their steps but the last are those of the same requests without.
RAW_SEEN_ELSEWHERE = {name: name.removesuffix(_SUFFIX) for name in RAW_REQUESTS}


def is_raw(item: Json) -> bool:
    """Whether it is one of raw events."""
    return str(item["SK"]["S"]).startswith("EVENTS#")


def messages(content: Iterable[Json]) -> list[str]:
    """The messageIds that are kept, as often as they are."""
    documents = [json.loads(zlib.decompress(item["payload"]["B"])) for item in content if is_raw(item)]
    return sorted(event["messageId"] for document in documents for event in document["events"])


def recounted(shop: Shop) -> Mapping[str, int]:
    """How many days of everybody came to what. Asks the table itself, beside the API."""
    work = Work(shop.table.calls(time.monotonic() + 60), shop.service.settings, shop.now)
    found: dict[str, int] = {}
    for owner in recount.everybody(work):
        for day in recount.person(work, owner, pause=lambda _: None):
            found[day.status] = found.get(day.status, 0) + 1
    return found
