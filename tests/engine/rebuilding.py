"""What tests of a rebuild have in common: a shop with an index, a rebuild of it, and what is searched then."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from service import indices
from service.events import epoch_ms
from service.index_template import Names
from service.opensearch import Engine
from service.rebuild import Rebuild, Rebuilt
from service.store import Work
from tests.engine.index_stage import IndexStage

Json = dict[str, Any]


def event(stage: IndexStage, number: int, name: str = "Product Viewed", **fields: Any) -> Json:
    when = stage.shop.now - timedelta(seconds=number)
    return {
        "type": "track",
        "event": name,
        "messageId": f"m-{number}",
        "timestamp": when.isoformat(),
        **fields,
    }


def order(stage: IndexStage, number: int, **fields: Any) -> Json:
    products = [{"product_id": "p-1", "price": 5, "quantity": 2}]
    properties = {"orderId": f"o-{number}", "revenue": 12.5, "currency": "EUR", "products": products}
    return event(stage, number, "Order Completed", properties=properties, **fields)


def fill(stage: IndexStage) -> None:
    """Users, a visitor, one who became a user, and orders; seen by the indexer."""
    shop = stage.shop
    for number in range(6):
        shop.send(event(stage, number, userId=f"u-{number % 3}"))
        shop.send(event(stage, 10 + number, anonymousId=f"a-{number}"))
    shop.send(event(stage, 20, anonymousId="a-1", userId="u-1"), order(stage, 21, anonymousId="a-1"))
    shop.send(order(stage, 22, userId="u-2"))
    assert stage.index(stage.records()) == []


def work(stage: IndexStage, **overrides: Any) -> Work:
    return Work(stage.shop.table.calls(time.monotonic() + 300), stage.shop.service.settings, stage.shop.now)


def new(stage: IndexStage, **options: Any) -> Rebuild:
    return Rebuild(stage.engine, work(stage), pause=stage.pauses.append, **options)


def done(rebuild_: Rebuild) -> Rebuilt:
    *_, last = rebuild_.run()
    return last


def in_use(stage: IndexStage) -> list[str]:
    """The indices that are searched, and that there are no others."""
    names = Names(stage.engine.prefix)
    there = indices.listed(stage.engine)
    assert all(index.aliases == {names.events, names.month(index.month)} for index in there)
    return [f"{index.month} {index.number}" for index in there]


def spoil(stage: IndexStage) -> None:
    """Documents that are missing, that are another's, and that nobody sent."""
    names = Names(stage.engine.prefix)
    refresh = {"refresh": "true"}
    query = {"terms": {"sentAs": ["u-0", "anon_a-1"]}}
    stage.engine.call("POST", f"/{names.events}/_delete_by_query", {"query": query}, params=refresh)
    for doc_id, user in (("1", "u-2"), ("2", "nobody")):
        spoilt = {
            "user": user,
            "sentAs": user,
            "day": "2035-03-15",
            "receivedAt": epoch_ms(stage.shop.now),
            "metrics": [],
        }
        stage.engine.call("PUT", f"/{names.month('2035-03')}/_doc/{doc_id}", spoilt, params=refresh)


class Between:
    """An engine at whose second call to a path, when that was carried out, something happens."""

    def __init__(self, engine: Engine, path: str, happening: Callable[[], object]) -> None:
        self._engine = engine
        self._path = path
        self._happening = happening
        self._calls = 0
        self.happened: list[int] = []

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._engine, name)
        if name != "call":
            return member

        def called(method: str, path: str, *arguments: Any, **options: Any) -> Any:
            reply = member(method, path, *arguments, **options)
            if path.endswith(self._path):
                self._calls += 1
                if self._calls == 2:
                    self.happened.append(self._calls)
                    self._happening()
            return reply

        return called
