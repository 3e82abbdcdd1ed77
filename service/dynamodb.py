"""The one module that talks to DynamoDB: calls, their deadline, their price, and what their errors mean.

Names, values and conditions come from `models` as PynamoDB expressions; signing, HTTP and retries are botocore's.
PynamoDB's own connection is not used: it returns neither the consumed capacity nor the item a condition failed on.
"""

import math
import random
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import botocore
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from pynamodb.attributes import Attribute
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.projection import create_projection_expression
from pynamodb.expressions.update import Action, Update

from . import __version__
from .aws_codes import NOT_NOW
from .capacity import Capacity, cancelled_units, item_bytes, least_read_units, least_units, write_units
from .keys import Key
from .models import Item, Raw
from .problems import Unavailable

# An attempt ends within 3 s, a call with its two retries within 12 s, pauses included; PynamoDB's defaults would add up
# to 180 s.
CONNECT_TIMEOUT_SECONDS = 1
READ_TIMEOUT_SECONDS = 2
ATTEMPTS_MAX = 3
CONNECTIONS_MAX = 16

# botocore does not retry a write that collides with a transaction; it is over in milliseconds.
CONFLICT_ATTEMPTS_MAX = 5
CONFLICT_DELAY_SECONDS = 0.02

# BatchWriteItem's own limit, and BatchGetItem's.
BATCH_ITEMS_MAX, BATCH_KEYS_MAX = 25, 100

_PK, _SK = Item.pk, Item.sk
_CONDITION_FAILED = "ConditionalCheckFailed"


class NotDynamoDBError(Exception):
    """Something answered, and not as DynamoDB does: a web server, a proxy's page."""


class ConditionFailedError(Exception):
    """The condition of a single write did not hold; `item` is what stood there, None if nothing did."""

    def __init__(self, item: Raw | None) -> None:
        super().__init__("condition failed")
        self.item = item


class TransactionFailedError(Exception):
    """Conditions of a transaction did not hold.

    `items` has an entry per action: None where the action's condition held, else what stood there ({} for nothing).
    """

    def __init__(self, items: Sequence[Raw | None]) -> None:
        super().__init__("transaction failed")
        self.items = items


def connect(
    endpoint_url: str | None = None,
    *,
    region: str | None = None,
    credentials: tuple[str, str] | None = None,
) -> Any:
    """A client of DynamoDB, or of the engine at `endpoint_url`. Threads may share it."""
    config = Config(
        # botocore would build its own, twice a call: 6 % of an invocation of ten events.
        user_agent=f"Footfall/{__version__} Botocore/{botocore.__version__}",
        parameter_validation=False,  # 5 % of a call; the models serialise
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
        max_pool_connections=CONNECTIONS_MAX,
    )
    session = botocore.session.get_session()
    if credentials:
        session.set_credentials(*credentials)
    client = session.create_client("dynamodb", region, endpoint_url=endpoint_url, config=config)
    client.meta.events.register_first("needs-retry.dynamodb", _stop_after_deadline)
    return client


# The deadline of the call a thread is making, for the hook below, which botocore tells nothing of ours.
_calling = threading.local()


def _stop_after_deadline(response: Any, caught_exception: Any, **_: Any) -> None:
    """No further attempt once the time is over: each takes up to 3 s, and the function's own end is no reply at all."""
    has_failed = caught_exception is not None or response[0].status_code >= 500
    if has_failed and time.monotonic() > getattr(_calling, "deadline", math.inf):
        raise Unavailable from caught_exception


# As in template.yaml; the indexer needs nothing of what was there before.
_STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}


def create_table(client: Any, name: str, *, has_stream: bool = False) -> bool:
    """Make the table, on demand and with TTL, unless it is there. Answers whether it was made. `has_stream` gives it a
    stream, also where it was there without one."""
    try:
        described = client.describe_table(TableName=name)
    except client.exceptions.ResourceNotFoundException:
        pass
    else:
        if "Table" not in described:
            raise NotDynamoDBError
        if has_stream and not described["Table"].get("StreamSpecification", {}).get("StreamEnabled"):
            client.update_table(TableName=name, StreamSpecification=_STREAM)
        return False
    keys = ((_PK.attr_name, "HASH"), (_SK.attr_name, "RANGE"))
    try:
        client.create_table(
            TableName=name,
            AttributeDefinitions=[
                {"AttributeName": attribute, "AttributeType": "S"} for attribute, _ in keys
            ],
            KeySchema=[{"AttributeName": attribute, "KeyType": kind} for attribute, kind in keys],
            BillingMode="PAY_PER_REQUEST",
            **({"StreamSpecification": _STREAM} if has_stream else {}),
        )
    except client.exceptions.ResourceInUseException:
        return False  # another process was quicker
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    client.update_time_to_live(
        TableName=name,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": Item.expires_at.attr_name},
    )
    return True


@dataclass(frozen=True)
class Table:
    """A table and the way to it."""

    client: Any  # botocore's, whose operations are made at run time
    name: str
    # Whether capacities are computed by us, because the engine does not report them as AWS would.
    is_estimated: bool = False

    def calls(self, deadline: float) -> "Calls":
        """The calls of one request, none of which starts after `deadline` (of time.monotonic)."""
        return Calls(self, deadline, Capacity(is_estimated=self.is_estimated))


@dataclass
class Calls:
    """The database calls of one request. Threads may share it.

    Every method raises Unavailable when DynamoDB cannot answer now or no time is left.
    """

    table: Table
    deadline: float
    capacity: Capacity
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Key, *, is_consistent: bool = False) -> Raw | None:
        """One item. An eventually consistent read may miss a write of the last moments, at half the price."""
        reply = self._call(
            "get_item",
            {"TableName": self.table.name, "Key": _key(key), "ConsistentRead": is_consistent},
        )
        item: Raw | None = reply.get("Item")
        return item

    def get_all(self, wanted: Collection[Key], *, is_consistent: bool = True) -> dict[Key, Raw]:
        """Those of these items that are there. A request for each hundred."""
        found: dict[Key, Raw] = {}
        named = [_key(key) for key in dict.fromkeys(wanted)]  # DynamoDB refuses a call that names one twice.
        for start in range(0, len(named), BATCH_KEYS_MAX):
            waiting = named[start : start + BATCH_KEYS_MAX]
            for attempt in range(1, CONFLICT_ATTEMPTS_MAX + 1):
                request = {self.table.name: {"Keys": waiting, "ConsistentRead": is_consistent}}
                reply = self._call("batch_get_item", {"RequestItems": request})
                for item in reply["Responses"].get(self.table.name, []):
                    found[Key(item[_PK.attr_name]["S"], item[_SK.attr_name]["S"])] = item
                waiting = reply.get("UnprocessedKeys", {}).get(self.table.name, {}).get("Keys", [])
                if not waiting:
                    break
                self._pause(attempt)
            else:
                raise Unavailable
        return found

    def query(
        self,
        pk: str,
        sort_keys: tuple[str, str],
        *,
        is_consistent: bool = False,
        is_ascending: bool = True,
        limit: int | None = None,
        only: Sequence[Attribute[Any]] = (),
    ) -> Iterable[Raw]:
        """Items of a partition between two sort keys, both inclusive, page by page of at most 1 MB or `limit`.
        `only` these attributes of them cost the same."""
        arguments = _expressions(only, KeyConditionExpression=(pk == _PK) & _SK.between(*sort_keys)) | {
            "TableName": self.table.name,
            "ConsistentRead": is_consistent,
            "ScanIndexForward": is_ascending,
        }
        if limit is not None:
            arguments["Limit"] = limit
        while True:
            reply = self._call("query", arguments)
            yield from reply["Items"]
            if not reply.get("LastEvaluatedKey"):
                return
            arguments = {**arguments, "ExclusiveStartKey": reply["LastEvaluatedKey"]}

    def scan(self, *, after: Raw | None = None) -> Iterable[tuple[Sequence[Raw], Raw | None]]:
        """Every item of the table, strongly consistent, page by page of at most 1 MB.

        Each page comes with the key it ends at, `after` which another scan goes on; with none it was the last.
        """
        arguments: dict[str, Any] = {"TableName": self.table.name, "ConsistentRead": True}
        while True:
            reply = self._call("scan", arguments | ({"ExclusiveStartKey": after} if after else {}))
            after = reply.get("LastEvaluatedKey") or None
            yield reply["Items"], after
            if after is None:
                return

    def update(self, key: Key, actions: Sequence[Action], condition: Condition) -> None:
        """Change one item. Raises ConditionFailedError."""
        self._call("update_item", self.update_action(key, actions, condition)["Update"])

    def put(self, item: Item, condition: Condition) -> None:
        """Write one item whole. Raises ConditionFailedError."""
        self._call("put_item", self.put_action(item, condition)["Put"])

    def delete(self, key: Key, condition: Condition | None = None) -> None:
        """Remove one item, if it is there. Raises ConditionFailedError."""
        self._call("delete_item", self.delete_action(key, condition)["Delete"])

    def delete_all(self, found: Sequence[Key]) -> None:
        """Remove these items, as far as they are there, in any order."""
        for start in range(0, len(found), BATCH_ITEMS_MAX):
            waiting = [
                {"DeleteRequest": {"Key": _key(key)}} for key in found[start : start + BATCH_ITEMS_MAX]
            ]
            for attempt in range(1, CONFLICT_ATTEMPTS_MAX + 1):
                reply = self._call("batch_write_item", {"RequestItems": {self.table.name: waiting}})
                waiting = reply.get("UnprocessedItems", {}).get(self.table.name, [])
                if not waiting:
                    break
                self._pause(attempt)
            else:
                raise Unavailable

    def transact(self, *actions: dict[str, Any]) -> None:
        """All of these or none. Raises TransactionFailedError."""
        self._call("transact_write_items", {"TransactItems": actions})

    def update_action(
        self, key: Key, actions: Sequence[Action], condition: Condition | None
    ) -> dict[str, Any]:
        """An update as part of a transaction."""
        return {"Update": self._write({"Key": _key(key)}, condition, Update(*actions))}

    def check_action(self, key: Key, condition: Condition) -> dict[str, Any]:
        """A condition on an item that the transaction leaves as it is."""
        return {"ConditionCheck": self._write({"Key": _key(key)}, condition)}

    def put_action(self, item: Item, condition: Condition | None = None) -> dict[str, Any]:
        """A put as part of a transaction."""
        return {"Put": self._write({"Item": item.serialize()}, condition)}

    def delete_action(self, key: Key, condition: Condition | None = None) -> dict[str, Any]:
        """A delete as part of a transaction."""
        return {"Delete": self._write({"Key": _key(key)}, condition)}

    def _write(
        self, target: dict[str, Any], condition: Condition | None, update: Update | None = None
    ) -> dict[str, Any]:
        return {
            "TableName": self.table.name,
            **target,
            **_expressions((), ConditionExpression=condition, UpdateExpression=update),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(1, CONFLICT_ATTEMPTS_MAX + 1):
            if time.monotonic() > self.deadline:
                raise Unavailable
            _calling.deadline = self.deadline
            try:
                reply: dict[str, Any] = getattr(self.table.client, operation)(
                    ReturnConsumedCapacity="TOTAL", **arguments
                )
            except ClientError as error:
                if not self._is_retried(error, arguments) or attempt == CONFLICT_ATTEMPTS_MAX:
                    raise Unavailable from error
                self._pause(attempt)
            except (BotoCoreError, ResponseParserError) as error:
                raise Unavailable from error
            else:
                if "ConsumedCapacity" not in reply:
                    # It was asked for. Whatever answered 200 without it has not stored anything.
                    raise Unavailable from NotDynamoDBError()
                self._consumed(operation, arguments, reply["ConsumedCapacity"])
                return reply
        raise AssertionError("unreachable")

    @staticmethod
    def _pause(attempt: int) -> None:
        time.sleep(random.uniform(0, CONFLICT_DELAY_SECONDS * 2**attempt))  # noqa: S311 - jitter

    def _is_retried(self, error: ClientError, arguments: Mapping[str, Any]) -> bool:
        """Whether to try again at once. Raises what the error means, or the error itself when it is our mistake."""
        response: Mapping[str, Any] = error.response
        code = response["Error"]["Code"]
        if code == "ConditionalCheckFailedException":
            item = response.get("Item")
            self._add(write_units=write_units(item_bytes(item or {})))
            raise ConditionFailedError(item) from None
        if code == "TransactionCanceledException":
            reasons = response.get("CancellationReasons") or [{"Code": "TransactionConflict"}] * len(
                arguments["TransactItems"]
            )
            codes = {reason.get("Code", "None") for reason in reasons}
            self._add(write_units=cancelled_units(arguments["TransactItems"], reasons))
            if _CONDITION_FAILED in codes:
                raise TransactionFailedError(
                    [
                        reason.get("Item", {}) if reason.get("Code") == _CONDITION_FAILED else None
                        for reason in reasons
                    ]
                ) from None
            if not codes & NOT_NOW:
                raise error
            return "TransactionConflict" in codes
        # A code of digits is the status alone: the body of the error did not arrive whole.
        if (
            code not in NOT_NOW
            and not code.isdigit()
            and response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) < 500
        ):
            raise error
        return bool(code == "TransactionConflictException")

    def _consumed(self, operation: str, arguments: Mapping[str, Any], reported: Any) -> None:
        parts = reported if isinstance(reported, list) else [reported]
        units = sum(part.get("CapacityUnits", 0) for part in parts)
        # A transaction whose token was known already reports what it read; DynamoDB Local names no kind.
        read = sum(part.get("ReadCapacityUnits", 0) for part in parts)
        if operation in ("get_item", "query", "scan", "batch_get_item"):
            least = least_read_units(arguments)
            self._add(read_units=max(units, least), is_corrected=units < least)
            return
        least = least_units(arguments)
        # DynamoDB Local 3.1 sums the items of a transaction before it rounds, and does not name the kind of its units.
        is_local = "TransactItems" in arguments and not any("WriteCapacityUnits" in part for part in parts)
        self._add(
            write_units=max(units - read, least), read_units=read, is_corrected=is_local or units < least
        )

    def _add(self, *, write_units: float = 0, read_units: float = 0, is_corrected: bool = False) -> None:
        with self._lock:
            self.capacity.write_units += write_units
            self.capacity.read_units += read_units
            self.capacity.is_estimated |= is_corrected


def _key(key: Key) -> dict[str, Any]:
    return {_PK.attr_name: {"S": key.pk}, _SK.attr_name: {"S": key.sk}}


def _expressions(only: Iterable[Attribute[Any]], **expressions: Condition | Update | None) -> dict[str, Any]:
    """Serialise the expressions of one call, which share their placeholders; a read, of `only` these attributes."""
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    arguments: dict[str, Any] = {
        argument: expression.serialize(names, values)
        for argument, expression in expressions.items()
        if expression is not None
    }
    if projected := [*only]:
        arguments["ProjectionExpression"] = create_projection_expression(projected, names)
    if names:
        arguments["ExpressionAttributeNames"] = {placeholder: name for name, placeholder in names.items()}
    if values:
        arguments["ExpressionAttributeValues"] = values
    return arguments
