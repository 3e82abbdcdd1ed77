"""A spoiled wire in the real service's own processes: the plan reaches it, every worker of it, and its death."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import httpx
import pytest

from tests import faults, server


def _environment(dynamodb_url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": f"faulty-{uuid.uuid4().hex}",
        "FOOTFALL_WRITE_KEYS": "dev-write-key",
    }


def _post(url: str, user_id: str) -> httpx.Response:
    # A connection of its own each time, so that any worker may get it.
    event = {"userId": user_id, "event": "Product Viewed", "messageId": uuid.uuid4().hex}
    return httpx.post(f"{url}/v1/track", json=event, auth=("dev-write-key", ""), trust_env=False)


def test_every_worker_follows_the_plan(dynamodb_url: str, tmp_path: Path) -> None:
    log_file = tmp_path / "calls"
    throttled = faults.Fault(
        "refuse",
        operation="UpdateItem",
        values=("USER#throttled",),
        attempts=None,
        code="ThrottlingException",
    )
    environment = _environment(dynamodb_url) | {"WEB_CONCURRENCY": "2"}
    with server.running(environment, planned_faults=[throttled], fault_log=log_file) as started:
        refused = [_post(started.url, "throttled").status_code for _ in range(8)]
        accepted = [_post(started.url, "other").status_code for _ in range(8)]

    assert refused == [503] * 8
    assert accepted == [200] * 8
    # A call that the service repeats by itself is logged again.
    assert faults.logged_operations(log_file).count("UpdateItem") >= 16


def test_a_kill_ends_the_process_after_the_write_landed(dynamodb_url: str) -> None:
    environment = _environment(dynamodb_url)
    killed = faults.Fault("kill_after", operation="UpdateItem", values=("USER#u-1",))
    with server.running(environment, planned_faults=[killed]) as started:
        with pytest.raises(httpx.RemoteProtocolError):
            _post(started.url, "u-1")
        code = started.process.wait(10)
    with server.running(environment) as restarted:
        reply = httpx.get(
            f"{restarted.url}/v1/users/u-1/metrics",
            headers={"authorization": "Bearer dev-secret-key"},
            trust_env=False,
        )

    assert code == faults.KILLED_EXIT_CODE
    assert json.loads(reply.text)["totals"]["productViews"] == 1
