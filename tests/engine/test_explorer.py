"""The explorer finds nothing wrong, finds every planted fault, and its table behaves as DynamoDB's."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from service.dynamodb import connect, create_table
from tests import explorer
from tests.builders import keep_all

TABLE = "explored"


@pytest.fixture(scope="module")
def explored() -> tuple[explorer.Engine, dict[str, explorer.Report]]:
    """Every scenario, once for the tests of this module."""
    return explorer.explore()


def test_every_interleaving_counts_each_event_once(
    explored: tuple[explorer.Engine, dict[str, explorer.Report]],
) -> None:
    _, reports = explored

    for name, report in reports.items():
        print(f"{name}: {report.states:,} states, {report.schedules:,} schedules")
    assert {name: report.wrong for name, report in reports.items() if report.wrong} == {}
    assert len(reports) == len(explorer.scenarios())
    # Fewer would mean that processes no longer come in between each other's calls.
    assert all(report.states > 40 and report.schedules > 100 for report in reports.values())
    assert sum(report.states for report in reports.values()) > 300_000


@pytest.mark.parametrize("name", explorer.PLANTS)
def test_a_planted_fault_is_found(name: str) -> None:
    command = [sys.executable, "-m", "tests.explorer", "--plant", name]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "WRONG" in finished.stdout


def test_dynamodb_takes_every_step_the_explorer_took(
    explored: tuple[explorer.Engine, dict[str, explorer.Report]], dynamodb_url: str
) -> None:
    engine, _ = explored
    client = connect(dynamodb_url)
    create_table(client, TABLE)
    keep_all(client, TABLE)
    contents_there: dict[Any, Any] = {}
    assert len(engine.steps) > 300

    for (content, operation, _), (content_after, answer) in engine.steps.items():
        _replace_content(client, contents_there, engine.contents[content])
        arguments = copy.deepcopy(engine.calls[content, operation, _])
        try:
            there: Any = getattr(client, operation)(**arguments)
        except ClientError as error:
            there = error

        contents_there = {
            (item["PK"]["S"], item["SK"]["S"]): item for item in client.scan(TableName=TABLE)["Items"]
        }
        described = f"{operation} {arguments} on {engine.contents[content]}"
        assert explorer.frozen(contents_there) == explorer.frozen(engine.contents[content_after]), described
        assert _meaning(there) == _meaning(engine.answers[answer]), described


def _replace_content(client: Any, present: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> None:
    for key in present.keys() - wanted.keys():
        client.delete_item(TableName=TABLE, Key={"PK": {"S": key[0]}, "SK": {"S": key[1]}})
    for key, item in wanted.items():
        if explorer.frozen(present.get(key)) != explorer.frozen(item):
            client.put_item(TableName=TABLE, Item=item)


def _meaning(answer: Any) -> Any:
    """What the service reads of an answer; capacities and messages differ between engines."""
    if not isinstance(answer, ClientError):
        return explorer.frozen({key: answer[key] for key in ("Item", "Items") if key in answer})
    response: Any = answer.response
    reasons = [(reason.get("Code"), explorer.frozen(reason.get("Item", {}))) for reason in _reasons(response)]
    return (response["Error"]["Code"], explorer.frozen(response.get("Item", {})), reasons)


def _reasons(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    reasons: list[Mapping[str, Any]] = response.get("CancellationReasons", [])
    return reasons
