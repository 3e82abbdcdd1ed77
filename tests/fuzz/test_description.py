"""Schemathesis makes requests from the description that a running service hands out, and holds each reply against it.

Of its checks four are left out, which ask for another API than this one:

- negative_data_rejection: an event that is none is rejected alone, in a 200;
- positive_data_acceptance: the description does not say that the user 0 is a placeholder;
- use_after_free, ensure_resource_availability: whoever was erased or never seen is a user without days, and no 404.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from service import dev
from tests import opensearch_local, server
from tests.fuzz import FACTOR
from tests.fuzz.figures import show

EXCLUDED = "negative_data_rejection,positive_data_acceptance,use_after_free,ensure_resource_availability"
BATCHES = ("/v1/batch", "/v1/import")
ACCEPTED_SHARE_MIN = 0.3
# In a longer run other examples each time, and chains of requests, for as long as it says.
PLAN = (
    ("--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--generation-deterministic")
    if FACTOR == 1
    else ("--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(60 * FACTOR))
)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request that Schemathesis made, and the reply."""

    method: str
    template: str
    url: str
    sent: str
    status: int
    media_type: str
    received: str
    milliseconds: float

    @property
    def operation(self) -> str:
        return f"{self.method} {self.template}"


@dataclasses.dataclass(frozen=True)
class Run:
    """All of a run. `document` is the description it was made from."""

    code: int
    output: str
    document: dict[str, Any]
    exchanges: list[Exchange]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, dynamodb_url: str, opensearch_url: str) -> Run:
    folder = tmp_path_factory.mktemp("schemathesis")
    report = folder / "report.har"
    # Beside the interpreter, as every command of the environment.
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        "--no-color",
        "--continue-on-failure",
    ]
    key = f"Authorization: Bearer {dev.DEV_SECRET_KEY}"
    command += ["--header", key, "--exclude-checks", EXCLUDED, "--warnings", "off", *PLAN]
    command += ["--report", "har", "--report-har-path", str(report), "--output-sanitize", "false"]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(server.ROOT), "PYTHONHASHSEED": "0"}
    # Not the embedded engine, which takes two thirds of the time.
    table = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url, "FOOTFALL_TABLE": f"fuzz-{uuid.uuid4().hex}"}
    # With all that can be turned on, since every operation has to succeed.
    table |= {"FOOTFALL_RAW_EVENTS": "1", "FOOTFALL_OPENSEARCH_URL": opensearch_url}
    with opensearch_local.as_deployed(opensearch_url), server.running(table) as service:
        document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
        done = subprocess.run(
            [*command, f"{service.url}/openapi.json"],
            cwd=folder,
            env=os.environ | hooks,
            capture_output=True,
            text=True,
            check=False,
        )
        assert report.exists(), done.stdout + done.stderr
    entries = json.loads(report.read_text(encoding="utf-8"))["log"]["entries"]
    return Run(done.returncode, done.stdout, document, [_exchange(entry, document) for entry in entries])


def _exchange(entry: dict[str, Any], document: dict[str, Any]) -> Exchange:
    request, response = entry["request"], entry["response"]
    path = urlsplit(request["url"]).path
    return Exchange(
        request["method"],
        _template(path, document),
        request["url"],
        request.get("postData", {}).get("text", ""),
        response["status"],
        response["content"]["mimeType"],
        response["content"].get("text", ""),
        entry["time"],
    )


def _template(path: str, document: dict[str, Any]) -> str:
    """The path of the description that this one is of; itself for any other."""
    parts = path.split("/")
    for template in document["paths"]:
        names = template.split("/")
        if len(names) == len(parts) and all(
            name == part or name.startswith("{") for name, part in zip(names, parts, strict=True)
        ):
            return str(template)
    return path


def test_every_reply_is_one_that_the_description_announces(run: Run) -> None:
    show(f"{len(run.exchanges)} requests made from the description", _statuses(run))
    slowest = max(run.exchanges, key=lambda exchange: exchange.milliseconds)
    show(f"slowest: {slowest.operation} {slowest.status}, {slowest.milliseconds:.0f} ms")

    assert run.code == 0, run.output[-20_000:]
    assert not [exchange for exchange in run.exchanges if exchange.status >= 500]


def _statuses(run: Run) -> dict[str, dict[int, int]]:
    found: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for exchange in run.exchanges:
        found["any other method" if exchange.status == 405 else exchange.operation][exchange.status] += 1
    return {operation: dict(sorted(counted.items())) for operation, counted in sorted(found.items())}


def test_every_operation_is_reached_and_succeeds(run: Run) -> None:
    described = {
        f"{method.upper()} {path}"
        for path, operations in run.document["paths"].items()
        for method in operations.keys() & {"get", "post", "put", "patch", "delete"}
    }
    succeeded = {exchange.operation for exchange in run.exchanges if exchange.status == 200}

    assert described <= succeeded


def test_what_is_made_up_is_good_enough_to_be_counted(run: Run) -> None:
    batches = [
        exchange for exchange in run.exchanges if exchange.method == "POST" and exchange.template in BATCHES
    ]
    replies = [json.loads(exchange.received) for exchange in batches if exchange.status == 200]
    counted = sum(reply["accepted"] > 0 for reply in replies)
    show(f"{counted} of {len(batches)} batches had an accepted event, {counted / len(batches):.1%}")
    rejected = collections.Counter(event["code"] for reply in replies for event in reply["rejected"])
    show("rejected events by code", {"all batches": dict(rejected.most_common())})

    assert counted / len(batches) >= ACCEPTED_SHARE_MIN


def test_no_problem_is_large_or_repeats_what_was_sent(run: Run) -> None:
    problems = [exchange for exchange in run.exchanges if exchange.status >= 400]
    bodies = {exchange.received for exchange in problems}
    show(
        f"{len(problems)} problems, {len(bodies)} different bodies, the largest {max(map(len, bodies))} bytes"
    )

    assert {"application/problem+json"} == {exchange.media_type for exchange in problems}
    for exchange in problems:
        assert len(exchange.received.encode()) < 16 * 1024
        assert exchange.received == json.dumps(json.loads(exchange.received))
        for text in _texts(exchange):
            assert text not in exchange.received, exchange


def _texts(exchange: Exchange) -> Iterator[str]:
    """What was sent, as far as it is too long to be met by chance."""
    try:
        yield from (text for text in _strings(json.loads(exchange.sent)) if len(text) > 12)
    except ValueError:
        if len(exchange.sent) > 12:
            yield exchange.sent
    url = urlsplit(exchange.url)
    fixed = set(exchange.template.split("/"))
    for part in (*url.path.split("/"), *url.query.replace("=", "&").split("&")):
        if len(part) > 12 and part not in fixed:
            yield unquote(part)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from _strings(member)
