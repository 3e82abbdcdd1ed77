"""The fault injection does what its plans say, seen from botocore and from PynamoDB."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import UpdateError
from pynamodb.models import Model

from tests import faults

ATTEMPTS = 3


def _client(url: str) -> Any:
    config = Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
    return botocore.session.get_session().create_client("dynamodb", endpoint_url=url, config=config)


class Counter:
    """A table of one's own with an `add` that counts each time it lands, which a safe write would not."""

    def __init__(self, url: str) -> None:
        self.table = f"faults-{uuid.uuid4().hex}"
        self.client = _client(url)
        self.client.create_table(
            TableName=self.table,
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def _addition(self, key: str) -> dict[str, Any]:
        return {
            "TableName": self.table,
            "Key": {"PK": {"S": key}},
            "UpdateExpression": "ADD landed :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }

    def add(self, key: str = "USER#1") -> None:
        self.client.update_item(**self._addition(key))

    def add_together(self, *keys: str) -> None:
        self.client.transact_write_items(TransactItems=[{"Update": self._addition(key)} for key in keys])

    def landed(self, key: str = "USER#1") -> int:
        item = self.client.get_item(TableName=self.table, Key={"PK": {"S": key}}, ConsistentRead=True)
        return int(item.get("Item", {}).get("landed", {"N": "0"})["N"])


@pytest.fixture
def counter(dynamodb_url: str) -> Counter:
    return Counter(dynamodb_url)


def test_without_a_plan_the_calls_are_listed_and_nothing_changes(counter: Counter) -> None:
    with faults.injected() as log:
        counter.add()
        counter.landed()

    assert log.operations == ["UpdateItem", "GetItem"]
    assert [call.attempts for call in log.calls] == [["200"], ["200"]]
    assert log.calls[0].request["Key"] == {"PK": {"S": "USER#1"}}
    assert log.spoiled == 0


@pytest.mark.parametrize(
    ("fault", "attempts", "landed"),
    [
        (faults.Fault("lose_request"), ["lose_request", "200"], 1),
        (faults.Fault("lose_reply"), ["lose_reply", "200"], 2),
        (faults.Fault("time_out_reply"), ["time_out_reply", "200"], 2),
        (faults.Fault("truncate_reply"), ["truncate_reply", "200"], 2),
        (faults.Fault("error_after"), ["error_after", "200"], 2),
        (faults.Fault("lose_reply", attempts=2), ["lose_reply", "lose_reply", "200"], 3),
        (faults.Fault("refuse"), ["refuse", "200"], 1),
        (faults.Fault("refuse", code="ThrottlingException"), ["refuse", "200"], 1),
        (faults.Fault("refuse", code="ProvisionedThroughputExceededException"), ["refuse", "200"], 1),
        (faults.Fault("refuse", code="ServiceUnavailable", attempts=2), ["refuse", "refuse", "200"], 1),
    ],
)
def test_what_botocore_retries_by_itself(
    counter: Counter, fault: faults.Fault, attempts: list[str], landed: int
) -> None:
    with faults.injected(fault) as log:
        counter.add()

    assert [attempts] == [call.attempts for call in log.calls]
    assert landed == counter.landed()
    assert len(attempts) - 1 == log.spoiled


@pytest.mark.parametrize(
    ("fault", "error", "landed"),
    [
        (faults.Fault("lose_request", attempts=None), ConnectionClosedError, 0),
        (faults.Fault("lose_reply", attempts=None), ConnectionClosedError, ATTEMPTS),
        (faults.Fault("time_out_reply", attempts=None), ReadTimeoutError, ATTEMPTS),
    ],
)
def test_every_attempt_spoiled_is_an_error_of_the_connection(
    counter: Counter, fault: faults.Fault, error: type[Exception], landed: int
) -> None:
    with faults.injected(fault) as log, pytest.raises(error):
        counter.add()

    assert [[fault.action] * ATTEMPTS] == [call.attempts for call in log.calls]
    assert landed == counter.landed()


@pytest.mark.parametrize(
    ("fault", "attempts", "landed"),
    [
        (faults.Fault("refuse", code="ThrottlingException", attempts=None), ATTEMPTS, 0),
        (faults.Fault("error_after", attempts=None), ATTEMPTS, ATTEMPTS),
        # botocore does not retry a conflict: that is the program's to do.
        (faults.Fault("refuse", code="TransactionConflictException"), 1, 0),
    ],
)
def test_an_error_that_stays_carries_its_code(
    counter: Counter, fault: faults.Fault, attempts: int, landed: int
) -> None:
    with faults.injected(fault) as log, pytest.raises(ClientError) as raised:
        counter.add()

    assert fault.code == raised.value.response["Error"]["Code"]
    assert [[fault.action] * attempts] == [call.attempts for call in log.calls]
    assert landed == counter.landed()


def test_a_cancelled_transaction_gives_a_reason_for_each_item(counter: Counter) -> None:
    fault = faults.Fault("refuse", operation="TransactWriteItems", code="TransactionCanceledException")
    with faults.injected(fault) as log, pytest.raises(ClientError) as raised:
        counter.add_together("USER#1", "USER#2", "USER#3")

    reasons: Any = raised.value.response
    assert [r["Code"] for r in reasons["CancellationReasons"]] == ["TransactionConflict", "None", "None"]
    assert [call.attempts for call in log.calls] == [["refuse"]]
    assert counter.landed("USER#1") == 0


@pytest.mark.parametrize("hit", [1, 2, 3])
def test_the_kth_call_is_hit_and_no_other(counter: Counter, hit: int) -> None:
    with faults.injected(faults.Fault("lose_reply", call=hit)) as log:
        for number in (1, 2, 3):
            counter.add(f"USER#{number}")

    assert [1 + (number == hit) for number in (1, 2, 3)] == [counter.landed(f"USER#{n}") for n in (1, 2, 3)]
    assert log.spoiled == 1


def test_calls_are_counted_among_those_of_the_operation(counter: Counter) -> None:
    with faults.injected(faults.Fault("lose_reply", operation="UpdateItem", call=2)) as log:
        counter.add()
        counter.landed()
        counter.add()

    assert [call.attempts for call in log.calls] == [["200"], ["200"], ["lose_reply", "200"]]


def test_every_call_of_an_operation_for_a_key_is_throttled(counter: Counter) -> None:
    fault = faults.Fault(
        "refuse", operation="UpdateItem", values=("USER#1",), attempts=None, code="ThrottlingException"
    )
    with faults.injected(fault):
        for _ in range(2):
            with pytest.raises(ClientError, match="ThrottlingException"):
                counter.add("USER#1")
        # A key that only begins alike is another key.
        counter.add("USER#10")

        assert counter.landed("USER#1") == 0
    assert counter.landed("USER#10") == 1


def test_several_faults_each_hit_their_own_call(counter: Counter) -> None:
    with faults.injected(faults.Fault("lose_request", call=1), faults.Fault("lose_reply", call=2)) as log:
        counter.add()
        counter.add()

    assert [call.attempts for call in log.calls] == [["lose_request", "200"], ["lose_reply", "200"]]
    assert counter.landed() == 3


@pytest.mark.parametrize(("action", "landed"), [("kill_before", 1), ("kill_after", 2)])
def test_a_kill_passes_every_handler_of_exceptions(
    counter: Counter, action: faults.Action, landed: int
) -> None:
    def two_careful_calls() -> None:
        for _ in range(2):
            try:
                counter.add()
            except Exception:  # noqa: BLE001 - what a kill must get past
                continue

    with faults.injected(faults.Fault(action, call=2)) as log, pytest.raises(faults.Killed):
        two_careful_calls()

    assert landed == counter.landed()
    assert [["200"], [action]] == [call.attempts for call in log.calls]


def test_afterwards_the_wire_is_whole_again(counter: Counter) -> None:
    with (
        faults.injected(faults.Fault("lose_reply", attempts=None)) as log,
        pytest.raises(ConnectionClosedError),
    ):
        counter.add()
    counter.add()

    assert counter.landed() == ATTEMPTS + 1
    assert log.operations == ["UpdateItem"]


def _pynamodb_update(url: str, table: str) -> Callable[[], object]:
    class Day(Model):
        class Meta:
            table_name = table
            host = url
            region = "us-east-1"
            max_retry_attempts = ATTEMPTS - 1

        PK = UnicodeAttribute(hash_key=True)
        landed = NumberAttribute(default=0)

    return lambda: Day("USER#1").update(actions=[Day.landed.add(1)])


def test_pynamodb_counts_twice_when_a_reply_is_lost(dynamodb_url: str, counter: Counter) -> None:
    update = _pynamodb_update(dynamodb_url, counter.table)
    with faults.injected(faults.Fault("lose_reply", operation="UpdateItem")) as log:
        update()

    assert log.calls[-1].attempts == ["lose_reply", "200"]
    assert counter.landed() == 2


def test_pynamodb_gives_up_when_every_attempt_is_throttled(dynamodb_url: str, counter: Counter) -> None:
    update = _pynamodb_update(dynamodb_url, counter.table)
    fault = faults.Fault("refuse", operation="UpdateItem", code="ThrottlingException", attempts=None)
    with faults.injected(fault) as log, pytest.raises(UpdateError) as raised:
        update()

    assert raised.value.cause_response_code == "ThrottlingException"
    assert log.calls[-1].attempts == ["refuse"] * ATTEMPTS


CHILD = """
import os, sys
from tests import faults
from tests.engine.test_faults import Counter
faults.install_from_environment(os.environ)
counter = Counter(sys.argv[1])
counter.add(); counter.add()
print(counter.landed(), flush=True)
counter.add()
"""


def test_another_process_takes_its_plan_from_the_environment(dynamodb_url: str, tmp_path: Path) -> None:
    log_file = tmp_path / "calls"
    plan = [
        faults.Fault("lose_reply", operation="UpdateItem", values=("USER#1",), call=2),
        faults.Fault("kill_after", operation="UpdateItem", call=3),
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, dynamodb_url],
        env=os.environ | faults.environment(plan, log_file),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert done.stdout == "3\n"
    assert done.returncode == faults.KILLED_EXIT_CODE
    assert faults.logged_operations(log_file) == [
        "CreateTable",
        "UpdateItem",
        "UpdateItem",
        "GetItem",
        "UpdateItem",
    ]
