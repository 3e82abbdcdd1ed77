"""What tests are made of: a clock, events, keys, and doors to a service of their own. Imported, never fixtures."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from service import identities
from service.app import create_app
from service.dev import with_cors
from service.dynamodb import Table, create_table
from service.gateway import as_lambda
from service.keys import Key
from service.models import Item
from service.settings import Settings
from tests.lambda_transport import LambdaTransport

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TODAY = "2026-11-22"
WRITE_KEY = "test-write-key"
SECRET_KEY = "test-secret-key"
LAMBDA_URL = "https://api.shop.example"

_numbers = itertools.count(1)


@dataclasses.dataclass
class Clock:
    """A clock that moves when it is told to."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def move(self, **amount: float) -> None:
        self.now += timedelta(**amount)


def new_table(client: Any, kind: str) -> Table:
    """A table nobody else has, made as the service makes its own; its name begins with `kind`."""
    name = f"{kind}-{uuid.uuid4().hex}"
    assert create_table(client, name)
    keep_all(client, name)
    return Table(client, name)


def keep_all(client: Any, table: str) -> None:
    """Turn TTL off: the engine deletes what has expired by today's clock, and the clocks of tests stand elsewhere."""
    client.update_time_to_live(
        TableName=table,
        TimeToLiveSpecification={"Enabled": False, "AttributeName": Item.expires_at.attr_name},
    )


def make_settings(**overrides: Any) -> Settings:
    """A deployment with one key of each kind."""
    return dataclasses.replace(
        Settings(
            write_keys=frozenset({WRITE_KEY}),
            secret_key_hashes=frozenset({hashlib.sha256(SECRET_KEY.encode()).digest()}),
        ),
        **overrides,
    )


def make_event(**overrides: Any) -> dict[str, Any]:
    """A track event of u-1 at noon with a messageId of its own. A field given as `...` is left out."""
    event = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": f"m-{next(_numbers)}",
        "userId": "u-1",
        "timestamp": NOON.isoformat(),
    } | overrides
    return {name: value for name, value in event.items() if value is not ...}


def make_events(count: int, **overrides: Any) -> list[dict[str, Any]]:
    return [make_event(**overrides) for _ in range(count)]


def day(offset: int = 0) -> str:
    """The day so many days after today, which is 2026-11-22."""
    return (NOON.date() + timedelta(days=offset)).isoformat()


def at(**offset: float) -> str:
    """A timestamp so far from noon: at(days=-1), at(hours=3)."""
    return (NOON + timedelta(**offset)).isoformat()


def basic(key: str, colon: str = ":") -> dict[str, str]:
    """The header by which SDKs send a write key."""
    return {"Authorization": "Basic " + base64.b64encode((key + colon).encode()).decode()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


WRITER = basic(WRITE_KEY)
READER = bearer(SECRET_KEY)


def make_app(settings: Settings, table: Table, clock: Clock | None = None) -> FastAPI:
    """The application as both doors start it: the table's time zone is checked, so requests do not pay for it."""
    app = create_app(settings, table, now=clock or Clock())
    app.state.service.check_timezone(table.calls(time.monotonic() + 10))
    return app


def lambda_client(app: FastAPI, *, remaining_ms: int = 20_000) -> httpx.Client:
    """A client of the application behind its Lambda handler."""
    routes = [
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
    ]
    transport = LambdaTransport(as_lambda(app), routes=routes, remaining_ms=remaining_ms)
    return httpx.Client(transport=transport, base_url=LAMBDA_URL)


@contextlib.contextmanager
def uvicorn_client(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the application behind a real server, as `make run` has it, in a thread of this process."""
    config = uvicorn.Config(
        with_cors(app, app.state.service.settings),
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended before it started"
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def post(client: httpx.Client, events: list[Any], **envelope: Any) -> httpx.Response:
    """Post a batch with the write key."""
    return client.post("/v1/batch", json={"batch": events, **envelope}, headers=WRITER)


def counts(reply: httpx.Response) -> tuple[int, int, int]:
    """(accepted, duplicates, rejectedCount) of a reply, which is a 200."""
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return body["accepted"], body["duplicates"], body["rejectedCount"]


def rejections(reply: httpx.Response) -> list[tuple[int, str]]:
    """(index, code) of each rejected event."""
    assert reply.status_code == 200, reply.text
    return [(rejected["index"], rejected["code"]) for rejected in reply.json()["rejected"]]


def metrics(client: httpx.Client, user: str = "u-1", **parameters: str) -> dict[str, Any]:
    """The range query's reply, with its amounts as exact decimals."""
    reply = client.get(f"/v1/users/{user}/metrics", params=parameters, headers=READER)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = json.loads(reply.text, parse_float=Decimal)
    return body


def totals(client: httpx.Client, user: str = "u-1", **parameters: str) -> dict[str, Any]:
    numbers: dict[str, Any] = metrics(client, user, **parameters)["totals"]
    return numbers


def capacity(reply: httpx.Response) -> tuple[float, float]:
    """(wru, rru) of a reply's Footfall-Capacity."""
    units = dict(part.strip().split("=") for part in reply.headers["footfall-capacity"].split(","))
    assert set(units) <= {"wru", "rru", "estimated"}
    return float(units["wru"]), float(units["rru"])


def items(table: Table) -> dict[tuple[str, str], dict[str, Any]]:
    """Everything in the table but its settings, by its keys, values as the engine types them."""
    pages = table.client.get_paginator("scan").paginate(TableName=table.name, ConsistentRead=True)
    found = [item for page in pages for item in page["Items"]]
    pk, sk = Item.pk.attr_name, Item.sk.attr_name
    return {(item.pop(pk)["S"], item.pop(sk)["S"]): item for item in found if item[pk]["S"] != "SETTINGS"}


def item_at(table: Table, key: Key) -> dict[str, Any] | None:
    """One item, without its keys."""
    return items(table).get((key.pk, key.sk))


def is_merged(table: Table, anonymous_id: str) -> bool:
    alias = identities.alias_of(table.calls(time.monotonic() + 10), anonymous_id, is_consistent=True)
    return alias is not None and alias.is_merged


def days_back(first: str, last: str) -> list[str]:
    """Every day between two, both inclusive."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=number)).isoformat() for number in range((end - start).days + 1)]
