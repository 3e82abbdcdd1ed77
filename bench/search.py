"""Measure search: events a second through the indexer's handler against a bare `_bulk` loop, what an event takes of a
processor and of a disk, and the time of every kind of answer, each held against brute force.

python -m bench.search                             10,000, 100,000 and 1,000,000 events of a twentieth as many users
python -m bench.search --events 100000 --check     one size; and fails when a target is missed
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import io
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bench.shop import CONTEXT, PRODUCT
from service import indices, keys, packing, wire
from service.documents import document
from service.dynamodb import Table, connect, create_table
from service.events import Event, Rules, epoch_ms
from service.index_template import Names, month_of
from service.opensearch import Engine
from service.packing import RawEvent
from tests import brute_force, dynamodb_local, opensearch_local
from tests.brute_force import Happened, Json, Shop
from tests.engine.search_shop import all_pages, answer
from tests.lambda_transport import LambdaContext

SIZES = (10_000, 100_000, 1_000_000)
EVENTS_PER_USER = 20
# Of the rate of a bare loop that makes the same documents, and of a function's time.
SHARE_MIN = 0.6
ANSWER_SECONDS_MAX = 10.0
# The engine compiles itself while the first ones come, which the loop that is measured first would pay.
WARM_UP_EVENTS = 20_000
# What the template gives the indexer's function at once, and what a bare loop sends.
RECORDS_PER_BATCH = 500
BULK_BYTES = 5 * 1024 * 1024

BERLIN = ZoneInfo("Europe/Berlin")
SHOP = Shop(BERLIN, "EUR")
FIRST = datetime(2026, 9, 1, 6, tzinfo=UTC)
DAYS = 90
NOW = FIRST + timedelta(days=DAYS + 1)
RANGE = {"from": "2026-09-01", "to": "2026-11-30"}
# A visit, of which some end early.
VISIT: tuple[str, ...] = (
    "page",
    "view_item_list",
    "view_item",
    "page",
    "view_item",
    "add_to_cart",
    "page",
    "view_cart",
)
VISIT += ("begin_checkout", "purchase")

SEARCHES: tuple[tuple[str, str, Json], ...] = (
    (
        "segment by events",
        "segments",
        {"all": [{"event": "Product Viewed", "min": 3}], "none": [{"event": "purchase"}]},
    ),
    ("segment by revenue", "segments", {"any": [{"metric": "revenue", "min": 200}]}),
    ("segment by sessions", "segments", {"all": [{"metric": "sessions", "max": 1}]}),
    ("funnel of three", "funnels", {"steps": ["Product Viewed", "Product Added", "Order Completed"]}),
    (
        "funnel of views",
        "funnels",
        {"steps": ["Page Viewed", "Page Viewed", "Page Viewed"], "windowHours": 720},
    ),
    ("events by product", "breakdowns", {"by": "productId", "metric": "events"}),
    ("users by product", "breakdowns", {"by": "productId", "metric": "users"}),
    ("users by path", "breakdowns", {"by": "path", "metric": "users"}),
    ("revenue by product", "breakdowns", {"by": "productId", "metric": "revenue"}),
    ("revenue by day", "breakdowns", {"by": "day", "metric": "revenue"}),
    ("users a day", "timeseries", {"metric": "users", "interval": "day"}),
    ("users a week", "timeseries", {"metric": "users", "interval": "week"}),
    ("revenue a month", "timeseries", {"metric": "revenue", "interval": "month"}),
    (
        "users an hour",
        "timeseries",
        {"metric": "users", "interval": "hour", "from": "2026-10-06", "to": "2026-11-15"},
    ),
    (
        "retention by day",
        "retention",
        {"startEvent": "Page Viewed", "returnEvent": "Page Viewed", "unit": "day"},
    ),
    (
        "retention by week",
        "retention",
        {"startEvent": "Product Viewed", "returnEvent": "Order Completed", "unit": "week"},
    ),
)


def visits(events: int) -> Iterator[list[Json]]:
    """The shop's events, visit by visit; the same ones in every run."""
    chance = random.Random(events)
    users, made = events // EVENTS_PER_USER, 0
    while made < events:
        user = f"u-{chance.randrange(users):07d}"
        start = FIRST + timedelta(seconds=chance.randrange(DAYS * 86_400))
        product = PRODUCT | {
            "productId": f"sku-{chance.randrange(2_000)}",
            "category": f"c-{chance.randrange(40)}",
        }
        page = CONTEXT["page"] | {"path": f"/products/{chance.randrange(5_000)}"}  # type: ignore[operator]
        context = CONTEXT | {"page": page, "sessionId": f"s-{made}"}
        visit: list[Json] = []
        for number, name in enumerate(VISIT[: chance.choice((1, 2, 3, 5, 8, len(VISIT)))][: events - made]):
            sent: Json = {
                "type": "page" if name == "page" else "track",
                "messageId": f"m-{made + number}",
                "userId": user,
                "timestamp": (start + timedelta(seconds=20 * number)).isoformat(),
                "context": context,
            }
            if name != "page":
                sent |= {"event": name, "properties": product}
            if name == "purchase":
                order = {"orderId": f"o-{made}", "products": [product | {"quantity": 2}]}
                sent["properties"] = order | {"value": chance.randrange(50_000) / 100, "currency": "EUR"}
            visit.append(sent)
        made += len(visit)
        yield visit


RULES = Rules(NOW, timedelta(days=1), BERLIN, "EUR", counts_orders=True, identity_secret=None, is_import=True)


def read(sent: Json) -> Event:
    own = wire.parsed(packing.json_text(sent).encode())
    event = RULES.read(own, 0, {}, may_be_large=False)
    assert isinstance(event, Event)
    event.sent = packing.text_of(own)  # type: ignore[arg-type]
    return event


def record(visit: list[Json], number: int) -> Json:
    """A visit's raw item as the stream brings it."""
    origin = packing.Origin(epoch_ms(NOW), "EUR", counts_orders=True)
    (pack,) = packing.packed([read(sent) for sent in visit], origin)
    key = keys.events_key(visit[0]["userId"], pack.first_ms, pack.digest)
    found = {"PK": {"S": key.pk}, "SK": {"S": key.sk}}
    item = found | {
        "receivedAt": {"N": str(origin.received_ms)},
        "events": {"N": str(pack.events)},
        "payload": {"B": base64.b64encode(pack.payload).decode()},
        "schema": {"N": "1"},
    }
    stream = {"Keys": found, "NewImage": item, "SequenceNumber": f"{number:021d}"}
    return {"eventID": str(number), "eventName": "INSERT", "eventSource": "aws:dynamodb", "dynamodb": stream}


def lines(visit: list[Json], names: Names) -> Iterator[str]:
    """The same documents as a bare loop sends them."""
    for sent in visit:
        own = wire.parsed(packing.json_text(sent).encode())
        raw = RawEvent(own, {}, read(sent), epoch_ms(NOW))  # type: ignore[arg-type]
        doc_id, fields = document(raw, sent["userId"], sent["userId"], raw.event.instant_ms)
        action = {"create": {"_index": names.month(month_of(fields["day"])), "_id": doc_id}}
        yield json.dumps(action, separators=(",", ":"))
        yield json.dumps(fields, separators=(",", ":"))


def bare(engine: Engine, events: int) -> tuple[float, float]:
    """Seconds that a loop of `_bulk` takes, one call after the other: those of the calls alone, and those of making
    the same documents of the same events."""
    names = Names(engine.prefix)
    for month in ("2026-09", "2026-10", "2026-11", "2026-12"):
        indices.make_month(engine, month)
    seconds, making_seconds, size_bytes = 0.0, 0.0, 0
    waiting: list[str] = []

    def send() -> float:
        body = ("\n".join(waiting) + "\n").encode()
        began = time.perf_counter()
        assert engine.bulk(body, timeout_seconds=120)["errors"] is False
        return time.perf_counter() - began

    for visit in visits(events):
        began = time.perf_counter()
        for line in lines(visit, names):
            waiting.append(line)
            size_bytes += len(line) + 1
        making_seconds += time.perf_counter() - began
        if size_bytes > BULK_BYTES - 200_000:
            seconds += send()
            waiting, size_bytes = [], 0
    return seconds + (send() if waiting else 0), making_seconds


def through_the_handler(handler: Any, events: int) -> tuple[float, float]:
    """Seconds that the handler takes for the same events, batch by batch, and those of the processor in it."""
    seconds = processor_seconds = 0.0
    batch: list[Json] = []

    def send() -> None:
        nonlocal seconds, processor_seconds
        began, processor_began = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            answered = handler({"Records": batch}, LambdaContext(300_000))
        seconds += time.perf_counter() - began
        processor_seconds += time.process_time() - processor_began
        assert answered == {"batchItemFailures": []}, answered
        batch.clear()

    for number, visit in enumerate(visits(events)):
        batch.append(record(visit, number))
        if len(batch) == RECORDS_PER_BATCH:
            send()
    if batch:
        send()
    return seconds, processor_seconds


def bytes_per_document(engine: Engine) -> float:
    """What the indices take on disk, in as many segments as they happen to have."""
    path = f"/{Names(engine.prefix).events}/_stats/docs,store"
    found = engine.call("GET", path, timeout_seconds=120)["_all"]["primaries"]
    return float(found["store"]["size_in_bytes"] / found["docs"]["count"])


def ask(engine: Engine, events: list[Happened]) -> Iterator[tuple[str, float, bool]]:
    """Each search, its seconds, and whether it is what brute force says."""
    for name, kind, search in SEARCHES:
        request = RANGE | search
        began = time.perf_counter()
        if kind == "segments":
            found = answer(engine, kind, request | {"limit": 1000}, seconds=120)
            took = time.perf_counter() - began
            expected = brute_force.segments(events, request, SHOP)
            users = [user["userId"] for user in found["users"]]
            is_equal = (found["count"], users) == (len(expected), expected[:1000])
            if len(expected) <= 20_000:
                is_equal &= all_pages(engine, request, 1000)[1] == expected
        else:
            found = answer(engine, kind, request, seconds=120)
            took = time.perf_counter() - began
            is_equal = found == brute_force.ANSWERS[kind](events, request, SHOP)
        yield name, took, is_equal


def measure(dynamodb_url: str, search_url: str, events: int) -> bool:
    """Print a size's figures; answer whether a target was missed."""
    table = Table(connect(dynamodb_url), f"bench-{uuid.uuid4().hex}")
    create_table(table.client, table.name, has_stream=True)
    os.environ |= {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": table.name,
        "FOOTFALL_TIMEZONE": BERLIN.key,
        "FOOTFALL_CURRENCY": "EUR",
        "FOOTFALL_RAW_EVENTS": "1",
        "FOOTFALL_OPENSEARCH_URL": search_url,
    }
    sys.modules.pop("service.lambda_indexer", None)
    handler = importlib.import_module("service.lambda_indexer").handler
    engine = Engine.connect(search_url)
    with opensearch_local.connected(search_url) as other:
        bare(other, min(events, WARM_UP_EVENTS))
    with opensearch_local.connected(search_url) as other:
        sending_seconds, making_seconds = bare(other, events)
        bare_seconds = sending_seconds + making_seconds
    opensearch_local.removed(engine)
    seconds, processor_seconds = through_the_handler(handler, events)
    engine.call("POST", f"/{Names(engine.prefix).events}/_refresh", timeout_seconds=120)
    share = bare_seconds / seconds
    print(f"\n{events:,} events of {events // EVENTS_PER_USER:,} users")
    print(
        f"  a bare loop {events / bare_seconds:,.0f} events/s   handler {events / seconds:,.0f}   share {share:.2f}"
    )
    print(
        f"  of documents that are made already {events / sending_seconds:,.0f} events/s   "
        f"share {sending_seconds / seconds:.2f}"
    )
    print(
        f"  an event: {processor_seconds / events * 1e6:.0f} µs of the handler's processor, "
        f"{bytes_per_document(engine):.0f} bytes on the engine's disk",
        flush=True,
    )
    happened = [
        brute_force.happened(sent, sent["userId"], SHOP) for visit in visits(events) for sent in visit
    ]
    is_missed = share < SHARE_MIN
    for name, took, is_equal in ask(engine, happened):
        said = "" if is_equal else "   NOT WHAT BRUTE FORCE SAYS"
        print(f"  {name:24} {took:8.2f} s{said}", flush=True)
        is_missed |= took > ANSWER_SECONDS_MAX or not is_equal
    opensearch_local.removed(engine)
    return is_missed


def main(arguments: list[str]) -> int:
    """Print the figures; answer the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description="Measure search.")
    parser.add_argument(
        "--events", type=int, action="append", help="a size, in place of all three; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="end with status 1 when a target is missed")
    options = parser.parse_args(arguments)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }
    is_missed = False
    with dynamodb_local.running() as dynamodb_url, opensearch_local.running() as search_url:
        for events in options.events or SIZES:
            is_missed |= measure(dynamodb_url, search_url, events)
    return 1 if options.check and is_missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
