"""`make run SEARCH=1`, as a process: engines, index, stream and service, and nothing left of them afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from engines import dynamodb, opensearch
from engines.errors import EngineMissingError
from engines.process import free_port
from service import dev, local_search
from tests.conftest import skip_or_fail

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 180


@contextlib.contextmanager
def started(log: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that serves, and all it has said until then. It is told to end, if it has not by then."""
    environment = os.environ | {"PORT": str(free_port()), "SEARCH": "1", **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "run"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process, log.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


def found(client: httpx.Client, event: str) -> Any:
    """Who has done it, as search says, as soon as it says anything."""
    today = datetime.now(UTC).date()
    asked = {
        "from": str(today - timedelta(days=2)),
        "to": str(today + timedelta(days=1)),
        "all": [{"event": event}],
    }
    deadline = time.monotonic() + 60
    while True:
        reply = client.post("/v1/search/segments", json=asked)
        if reply.status_code == 200 and reply.json()["users"]:
            return reply.json()["users"]
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_event_is_found_by_search_and_nothing_is_left_running(tmp_path: Path, number: int) -> None:
    try:
        dynamodb.jars()
        opensearch.jars()
    except EngineMissingError as error:
        skip_or_fail(str(error))
    with started(tmp_path / "log") as (process, said):
        url = re.search(r"http://[\d.:]+(?= \(documentation)", said)
        engines = re.findall(r"^  (http://[\d.:]+), after", said, re.MULTILINE)
        assert url is not None
        assert len(engines) == 2
        with httpx.Client(
            base_url=url[0], headers={"authorization": f"Bearer {dev.DEV_SECRET_KEY}"}, timeout=30
        ) as client:
            sent = client.post("/v1/track", json={"anonymousId": "a", "event": "Product Viewed"})
            assert sent.json()["accepted"] == 1
            assert found(client, "Product Viewed") == [{"userId": "anon_a"}]
            client.post("/v1/identify", json={"anonymousId": "a", "userId": "u-42"})
            client.post("/v1/track", json={"userId": "u-42", "event": "Order Completed"})
            assert found(client, "Order Completed") == [{"userId": "u-42"}]
            assert found(client, "Product Viewed") == [{"userId": "u-42"}]
        process.send_signal(number)
        process.wait(60)
    for engine in engines:
        parts = urlsplit(engine)
        with socket.socket() as probe:
            assert probe.connect_ex((parts.hostname, parts.port)) != 0, f"{engine} is left running"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_address_that_nobody_answers_at_is_said_in_a_line(
    tmp_path: Path, dynamodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_search, "SETUP_SECONDS", 0.1)
    environ = {
        dev.ENDPOINT: dynamodb_url,
        local_search.OPENSEARCH: f"http://elastic:secret@127.0.0.1:{free_port()}",
        "PORT": str(free_port()),
        "FOOTFALL_TABLE": "nobody-there",
        "AWS_REGION": "us-east-1",
    }
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(dev.CannotStartError) as raised:
            dev.run(environ)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "does not answer" in str(raised.value)
    assert "secret" not in str(raised.value)
