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
from urllib.parse import urlsplit

import httpx
import pytest

from engines import dynamodb, opensearch
from engines.errors import EngineMissingError
from engines.process import free_port
from service import dev, indices, local_search
from service.opensearch import Engine
from tests import opensearch_local
from tests.conftest import skip_or_fail
from tests.faults import silent_url

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


def wait_until_found(client: httpx.Client, event: str, user: str) -> None:
    """Until search says that this one alone has done it."""
    today = datetime.now(UTC).date()
    asked = {
        "from": str(today - timedelta(days=2)),
        "to": str(today + timedelta(days=1)),
        "all": [{"event": event}],
    }
    deadline = time.monotonic() + 60
    while True:
        reply = client.post("/v1/search/segments", json=asked)
        if reply.status_code == 200 and reply.json()["users"] == [{"userId": user}]:
            return
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.2)


def is_listening(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def test_an_event_is_found_by_search_and_nothing_is_left_running(tmp_path: Path) -> None:
    """Ended by Ctrl-C."""
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
            wait_until_found(client, "Product Viewed", "anon_a")
            client.post("/v1/identify", json={"anonymousId": "a", "userId": "u-42"})
            client.post("/v1/track", json={"userId": "u-42", "event": "Order Completed"})
            wait_until_found(client, "Order Completed", "u-42")
            # Its documents change hands a moment after that one was made.
            wait_until_found(client, "Product Viewed", "u-42")
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not [engine for engine in engines if is_listening(engine)], "left running"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_engines_that_are_there_already_are_used_and_left_running(
    tmp_path: Path, dynamodb_url: str, opensearch_url: str
) -> None:
    """Told to end, as a supervisor does it."""
    there = {dev.ENDPOINT: dynamodb_url, local_search.OPENSEARCH: opensearch_url}
    node = Engine.connect(opensearch_url)
    opensearch_local.removed(node)
    try:
        with started(tmp_path / "log", FOOTFALL_TABLE="there-already", **there) as (process, said):
            assert "starting" not in said
            assert f"preparing the index in {opensearch_url}" in said
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
        assert indices.check_table(node, None) == "there-already"
        assert [url for url in there.values() if not is_listening(url)] == [], "they were not its to end"
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        opensearch_local.removed(node)


def test_an_address_that_nobody_answers_at_is_said_in_a_line(
    tmp_path: Path, dynamodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_search, "SETUP_SECONDS", 0.1)
    environ = {
        dev.ENDPOINT: dynamodb_url,
        local_search.OPENSEARCH: silent_url().replace("//", "//elastic:secret@"),
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
