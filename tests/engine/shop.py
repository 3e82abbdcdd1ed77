"""A shop in this process: the application on DynamoDB Local, with a clock to set.

Requests go to the application itself and not through the Lambda adapter, which turns also a kill on the wire (a
BaseException) into a reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx

from service.app import create_app
from service.dynamodb import Table, connect
from service.service import Service
from service.settings import load_settings
from tests import builders

WRITE_KEY = "write-key"
SECRET_KEY = "secret-key"

Json = dict[str, Any]


class Shop:
    """One deployment: its requests, its clock, and its table as it is stored."""

    def __init__(
        self, table: Table, now: datetime, variables: Mapping[str, str], runner: asyncio.Runner
    ) -> None:
        self.table = table
        self.now = now
        settings = load_settings(
            {
                "FOOTFALL_TABLE": table.name,
                "FOOTFALL_WRITE_KEYS": WRITE_KEY,
                "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(SECRET_KEY.encode()).hexdigest(),
                **variables,
            }
        )
        self.app = create_app(settings, table, lambda: self.now)
        self.service: Service = self.app.state.service
        self._runner = runner
        self._client = httpx.AsyncClient(
            # What the application does not catch, a kill, comes out here.
            transport=httpx.ASGITransport(self.app),
            base_url="http://shop.example",
            headers={"authorization": f"Bearer {SECRET_KEY}"},
        )

    def warm_up(self) -> None:
        """What a process asks before its first request, and never again."""
        self.service.check_timezone(self.table.calls(time.monotonic() + 10))

    def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Any reply, whatever its status."""
        return self._runner.run(self._client.request(method, path, json=body))

    def post(self, path: str, body: object) -> Json:
        """The reply of a request that is decided."""
        return self._decided(self.request("POST", path, body))

    def get(self, path: str) -> Json:
        """What a read answers; amounts are decimals."""
        return self._decided(self.request("GET", path))

    def send(self, *events: Json) -> Json:
        """A batch, decided."""
        return self.post("/v1/batch", {"batch": events})

    def metrics(self, distinct_id: str, first_day: str, last_day: str) -> Json:
        """`days` and `totals` of one user between two days."""
        reply = self.get(f"/v1/users/{distinct_id}/metrics?from={first_day}&to={last_day}")
        return {"days": reply["days"], "totals": reply["totals"]}

    def item(self, pk: str, sk: str) -> Json | None:
        """What is stored under a key, as DynamoDB gives it."""
        found: Json | None = self.table.client.get_item(
            TableName=self.table.name, Key={"PK": {"S": pk}, "SK": {"S": sk}}, ConsistentRead=True
        ).get("Item")
        return found

    def partition(self, pk: str) -> dict[str, Json]:
        """Every item of a partition, by its sort key."""
        reply = self.table.client.query(
            TableName=self.table.name,
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )
        return {item["SK"]["S"]: item for item in reply["Items"]}

    def pending(self) -> list[str]:
        """The sort keys of every merge begun and not ended."""
        return [sk for shard in "0123456789abcdef" for sk in self.partition(f"PENDING#{shard}")]

    def close(self) -> None:
        """No connection of the client is left behind."""
        self._runner.run(self._client.aclose())

    def _decided(self, response: httpx.Response) -> Json:
        assert response.status_code == 200, response.text
        decided: Json = json.loads(response.text, parse_float=Decimal)
        for numbers in [decided.get("totals", {}), *decided.get("days", [])] if "totals" in decided else []:
            # 12 and 12.0 are the same amount.
            for field in ("revenue", "refunds"):
                numbers[field] = {code: Decimal(amount) for code, amount in numbers[field].items()}
        return decided


def new_table(url: str) -> Table:
    """A table nobody else has."""
    return builders.new_table(connect(url), "shop")


@contextlib.contextmanager
def opened(table: Table, now: datetime, **variables: str) -> Iterator[Shop]:
    """A shop on this table, its process just started; `variables` are settings without FOOTFALL_."""
    # With a factory it leaves the thread's own loop, which the Lambda adapter uses, where it is.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        shop = Shop(table, now, {f"FOOTFALL_{name}": value for name, value in variables.items()}, runner)
        try:
            yield shop
        finally:
            shop.close()
