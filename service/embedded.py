"""The embedded engine of `make run`: moto in this process, in memory, gone with it.

moto is not atomic under threads, so one lock is held around each call; and it knows no capacities, so they are computed
from item sizes by AWS's rules (see `capacity`) and marked as estimated.
"""

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends

from .capacity import TRANSACTION_FACTOR, item_bytes, read_units, write_units
from .dynamodb import Table, connect, create_table
from .models import Item

_REGION = "us-east-1"


class _Engine:
    """Answers botocore's requests in place of the network."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stubber = BotocoreStubber()
        self._stubber.enabled = True
        self._backend = dynamodb_backends[DEFAULT_ACCOUNT_ID][_REGION]

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        operation = request.headers["X-Amz-Target"]
        target = (operation.decode() if isinstance(operation, bytes) else operation).rpartition(".")[2]
        assert isinstance(request.body, bytes)
        arguments = json.loads(request.body)
        written = _written_keys(target, arguments)
        with self._lock:
            before = [self._size_bytes(*key) for key in written]
            if target == "TransactWriteItems":
                with self._only(*zip(*written, strict=True)):
                    answered = self._stubber.process_request(request)
            else:
                answered = self._stubber.process_request(request)
            assert answered is not None
            after = [self._size_bytes(*key) for key in written]
            status, headers, body = answered
            reply = json.loads(body)
            priced = self._whole(arguments, reply)
        text = body if isinstance(body, str) else body.decode()
        if status == 200 and "ReturnConsumedCapacity" in arguments:
            text = json.dumps(
                reply | {"ConsumedCapacity": _consumed(target, arguments, priced, before, after)}
            )
            headers = {name: value for name, value in headers.items() if name.lower() not in _BODY_HEADERS}
        return AWSResponse(request.url, status, HTTPHeaders.from_dict(headers), MockRawResponse(text))

    @contextmanager
    def _only(self, names: tuple[str, ...], written: tuple[Mapping[str, Any], ...]) -> Iterator[None]:
        """Show moto only the items a transaction writes: it copies the whole table for each of them, and so took
        seconds for a transaction in a table of a few thousand items."""
        tables, (name,) = self._backend.tables, set(names)
        table, everything = tables[name], tables[name].items
        touched = [self._backend.get_keys_value(table, dict(key)) for key in written]
        table.items = defaultdict(dict)
        for pk, sk in touched:
            if sk in everything[pk]:
                table.items[pk][sk] = everything[pk][sk]
        try:
            yield
        finally:
            # A cancelled transaction leaves another table in its place, with the items as they were.
            after = tables[name].items
            table.items, tables[name] = everything, table
            for pk, sk in touched:
                if sk in after[pk]:
                    everything[pk][sk] = after[pk][sk]
                else:
                    everything[pk].pop(sk, None)

    def _whole(self, arguments: Mapping[str, Any], reply: Mapping[str, Any]) -> Mapping[str, Any]:
        """The reply with all of its items: what a projection leaves out is paid for."""
        if "ProjectionExpression" not in arguments:
            return reply
        keys = [{name: item[name] for name in _KEY_NAMES} for item in reply.get("Items", [])]
        return {"Items": [self._stored(arguments["TableName"], key) for key in keys]}

    def _size_bytes(self, table: str, key: Mapping[str, Any]) -> int:
        return _json_bytes(self._stored(table, key))

    def _stored(self, table: str, key: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """The item as it is now, without attributes where there is none."""
        item = self._backend.get_item(table, dict(key))
        return {name: {value.type: value.value} for name, value in item.attrs.items()} if item else {}


_KEY_NAMES = (Item.pk.attr_name, Item.sk.attr_name)
# These speak of moto's own body.
_BODY_HEADERS = frozenset({"content-length", "x-amz-crc32"})


def embedded_table(name: str) -> Table:
    """A new, empty table of this process."""
    # Not mock_aws: it would answer every request once more, beside the engine and its lock, since botocore asks all
    # its handlers and takes the first answer.
    client = connect(region=_REGION, credentials=("embedded", "embedded"))
    client.meta.events.register_first("before-send.dynamodb", _Engine())
    create_table(client, name)
    return Table(client, name, is_estimated=True)


def _written_keys(operation: str, arguments: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if operation == "BatchWriteItem":
        return [
            (table, request["DeleteRequest"]["Key"])
            for table, requests in arguments["RequestItems"].items()
            for request in requests
        ]
    if operation == "TransactWriteItems":
        actions = [action for member in arguments["TransactItems"] for action in member.values()]
    elif operation in ("PutItem", "UpdateItem", "DeleteItem"):
        actions = [arguments]
    else:
        return []
    return [
        (action["TableName"], action.get("Key") or {name: action["Item"][name] for name in _KEY_NAMES})
        for action in actions
    ]


def _consumed(
    operation: str,
    arguments: Mapping[str, Any],
    reply: Mapping[str, Any],
    before: list[int],
    after: list[int],
) -> dict[str, float] | list[dict[str, float]]:
    units = [write_units(*sizes) for sizes in zip(before, after, strict=True)]
    if operation == "TransactWriteItems":
        return [{"CapacityUnits": float(TRANSACTION_FACTOR * sum(units))}]
    if operation == "BatchWriteItem":
        return [{"CapacityUnits": float(sum(units))}]
    if units:
        return {"CapacityUnits": float(sum(units))}
    if operation == "BatchGetItem":
        tables = arguments["RequestItems"]
        reads = [
            read_units([_json_bytes(item)], is_consistent=bool(tables[table].get("ConsistentRead")))
            for table, found in reply["Responses"].items()
            for item in found
        ]
        return [{"CapacityUnits": float(sum(reads))}]
    items: Iterable[Mapping[str, Any]] = reply.get("Items", [reply["Item"]] if "Item" in reply else [])
    sizes = [_json_bytes(item) for item in items]
    return {"CapacityUnits": float(read_units(sizes, is_consistent=bool(arguments.get("ConsistentRead"))))}


def _json_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Size of an item in the wire's JSON, where binary values are base64."""
    return item_bytes({name: _decoded(typed) for name, typed in item.items()})


def _decoded(typed: Mapping[str, Any]) -> Mapping[str, Any]:
    # Binary, in the wire's JSON as base64, in moto's items as the bytes themselves.
    if "B" in typed:
        return {"B": base64.b64decode(typed["B"]) if isinstance(typed["B"], str) else typed["B"]}
    if "BS" in typed:
        return {
            "BS": [base64.b64decode(member) if isinstance(member, str) else member for member in typed["BS"]]
        }
    return typed
