"""No input changes what is kept of anybody it does not name: every write is looked at on its wire to DynamoDB."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import identities
from service.dynamodb import Table
from tests.builders import READER, WRITER, make_event, post, totals
from tests.fuzz import FACTOR, bodies
from tests.fuzz.figures import show

# The table only grows from one example to the next, as a shop's does.
FUZZED = settings(
    max_examples=150 * FACTOR,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PREFIX = "anon_"
# Of the table before anything is made up: a user with a visitor merged in. No example names them.
VICTIM, VICTIMS_VISITOR = "victim", "victims-visitor"

became: collections.Counter[str] = collections.Counter()


@contextlib.contextmanager
def _writes(client: Any) -> Iterator[list[tuple[str, str]]]:
    """The keys of every write that goes out meanwhile."""
    found: list[tuple[str, str]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        actions = (
            [(name, action) for member in params["TransactItems"] for name, action in member.items()]
            if model.name == "TransactWriteItems"
            else [(model.name.removesuffix("Item"), params)]
        )
        for name, action in actions:
            if name in ("Put", "Update", "Delete"):
                key = action.get("Key") or action["Item"]
                found.append((key["PK"]["S"], key["SK"]["S"]))

    client.meta.events.register("provide-client-params.dynamodb", note, unique_id="fuzz-writes")
    try:
        yield found
    finally:
        client.meta.events.unregister("provide-client-params.dynamodb", unique_id="fuzz-writes")


@pytest.fixture
def shop(client: httpx.Client) -> httpx.Client:
    reply = post(client, [make_event(userId=VICTIM, anonymousId=VICTIMS_VISITOR)])
    assert reply.json()["accepted"] == 1
    return client


def _spellings(named: set[str]) -> set[str]:
    """Each as a user's id, and as a visitor's."""
    return named | {PREFIX + name.removeprefix(PREFIX).strip() for name in named}


def _owners(table: Table, spelled: set[str]) -> set[str]:
    """The users that those of these who are visitors became."""
    calls = table.calls(time.monotonic() + 10)
    aliases = (identities.alias_of(calls, name) for name in spelled if _is_visitor(name))
    return {alias.user_id for alias in aliases if alias and alias.user_id}


def _is_visitor(name: str) -> bool:
    # Such as can be asked for.
    return name.startswith(PREFIX) and len(name) < 200 and name.isprintable()


def _check(written: list[tuple[str, str]], whose: set[str], orders: set[str]) -> None:
    order_keys = {"ORDER#" + hashlib.sha256(order.encode("utf-8", "replace")).hexdigest() for order in orders}
    for pk, sk in written:
        kind, _, rest = pk.partition("#")
        became[kind] += 1
        if kind == "PENDING":
            assert sk.partition("#")[2] in whose, (pk, sk)
        elif kind == "ORDER":
            assert pk in order_keys, (pk, sk)
        else:
            assert kind == "USER", (pk, sk)
            assert rest in whose, (pk, sk)


def _order_ids(value: object) -> set[str]:
    """Every text and number of a document, as an order's id would be written."""
    if isinstance(value, dict):
        return set().union(*map(_order_ids, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_order_ids, value)) if value else set()
    return {bodies.normal(value)}


@given(text=bodies.CLEAN, path=st.sampled_from(["/v1/batch", "/v1/batch", "/v1/import"]))
@FUZZED
def test_events_change_only_those_they_name(shop: httpx.Client, table: Table, text: str, path: str) -> None:
    # Numbers as text: some have more digits than Python takes.
    document = json.loads(text, parse_int=str, parse_float=str)
    headers = READER if path == "/v1/import" else WRITER
    with _writes(table.client) as written:
        reply = shop.post(path, content=text.encode(), headers=headers)
    assert reply.status_code == 200, reply.text
    became["batches with an accepted event" if reply.json()["accepted"] else "batches without"] += 1

    spelled = _spellings(bodies.named_ids(document))
    _check(written, spelled | _owners(table, spelled), _order_ids(document))
    if VICTIM not in spelled and PREFIX + VICTIMS_VISITOR not in spelled:
        assert VICTIM not in {pk.partition("#")[2] for pk, _ in written}


@given(
    text=bodies.IDS,
    visitor=bodies.IDS,
    is_erasure=st.sampled_from([True, False, False]),
)
@FUZZED
def test_merges_and_erasures_change_only_those_they_name(
    app: FastAPI, shop: httpx.Client, table: Table, text: str, visitor: str, is_erasure: bool
) -> None:
    # Nobody merges in the very millisecond of an erasure.
    app.state.service.now.move(seconds=1)
    as_sent = text.encode("utf-8", "surrogatepass")
    path = f"/v1/users/{quote_from_bytes(as_sent, safe='')}"
    # A path of %2F has more parts than were meant; no id has a `/`.
    in_path = {bodies.normal(part) for part in as_sent.decode("utf-8", "replace").split("/")}
    calls = table.calls(time.monotonic() + 10)
    merged = {
        anonymous_id
        for name in in_path
        if name.isprintable() and 0 < len(name) < 200
        for anonymous_id in identities.anonymous_ids_of(calls, name, is_consistent=True)
    }
    with _writes(table.client) as written:
        if is_erasure:
            reply = shop.delete(path, headers=READER)
        else:
            content = json.dumps({"anonymousId": visitor})
            reply = shop.post(f"{path}/merge", content=content, headers=READER)
    became[f"{'erasure' if is_erasure else 'merge'} {reply.status_code}"] += 1

    assert reply.status_code in (200, 404, 405, 409, 422), reply.text
    assert reply.status_code == 200 or not written
    spelled = _spellings(in_path | ({bodies.normal(visitor)} if not is_erasure else set()))
    _check(written, spelled | merged | _owners(table, spelled), set())


def test_the_victim_is_as_before(shop: httpx.Client) -> None:
    """Neighbours by spelling are other people."""
    before = totals(shop, VICTIM)
    for user in ("VICTIM", "victim#", "victim#DAY#2026-11-22", "anon_victim", "\uff56ictim", "victim\u200b"):
        field = "anonymousId" if user.startswith(PREFIX) else "userId"
        event = make_event(userId=...) | {field: user}
        assert post(shop, [event]).json()["accepted"] == 1, user

    assert totals(shop, VICTIM) == before


def test_of_what_was_made_up_much_was_written() -> None:
    """Of the examples above; otherwise they prove little."""
    if not became:
        pytest.fail("this counts the examples of the tests before it: run the whole file")
    show("items written, by kind of partition, and what wrote them", dict(became.most_common()))
    counted, others = became["batches with an accepted event"], became["batches without"]

    assert counted / (counted + others) >= 0.3
    assert all(became[kind] for kind in ("USER", "ORDER", "PENDING", "merge 200", "erasure 200"))
