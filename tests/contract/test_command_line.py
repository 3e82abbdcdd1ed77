"""`python -m service`, as a person at a terminal meets it."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import __version__
from tests import server
from tests.builders import READER, SECRET_KEY
from tests.conftest import skip_or_fail
from tests.dynamodb_local import free_port
from tests.faults import silent_url

if shutil.which("curl") is None:
    skip_or_fail("the lines that `make run` prints are for curl, which is not on the PATH")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=server.ROOT,
        env=os.environ | {"PORT": str(free_port())} | environment,
        capture_output=True,
        text=True,
        # It should have ended long before; then it has started after all.
        timeout=20,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What it said instead of starting: to the error stream, and without a traceback."""
    assert done.returncode not in (0, -signal.SIGINT), done.stdout
    assert done.stdout == ""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip()


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = refused(done).splitlines()
    return line


def curl_lines(started: server.Server) -> list[str]:
    lines = [line.strip() for line in started.output().splitlines() if line.strip().startswith("curl ")]
    assert len(lines) == 2, started.output()
    return lines


def pasted(line: str, **environment: str) -> dict[str, object]:
    """What a line answers that somebody pastes into a shell."""
    done = subprocess.run(
        ["sh", "-c", line],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    body: dict[str, object] = json.loads(done.stdout)
    return body


@contextlib.contextmanager
def web_server(status: int, body: bytes, content_type: str = "text/html") -> Iterator[str]:
    """Something that answers HTTP and is no DynamoDB."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


# --- it starts -------------------------------------------------------------------------------------------------------


def test_the_printed_lines_work_as_pasted() -> None:
    with server.running() as started:
        post, query = curl_lines(started)
        accepted, answer = pasted(post), pasted(query)
        output = started.output()

        assert (accepted["success"], accepted["accepted"]) == (True, 1)
        assert answer["userId"] == "u-42"
        assert answer["totals"]["productViews"] == 1  # type: ignore[index]
        assert f"Footfall {__version__}" in output
        assert started.url in output
        assert "in memory" in output
        assert "dev-write-key" in output
        assert "dev-secret-key" in output
        assert httpx.get(f"{started.url}/docs", trust_env=False).status_code == 200


def test_the_printed_lines_work_with_keys_of_ones_own() -> None:
    secret = "a secret of one's own"
    environment = {
        "FOOTFALL_WRITE_KEYS": "own-write-key",
        "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(secret.encode()).hexdigest(),
    }
    with server.running(environment) as started:
        post, query = curl_lines(started)
        accepted = pasted(post)
        answer = pasted(query, FOOTFALL_SECRET_KEY=secret)

        assert accepted["accepted"] == 1
        assert "totals" in answer, answer
        assert secret not in started.output()
        assert environment["FOOTFALL_SECRET_KEY_HASHES"] not in started.output()


def test_the_embedded_engine_counts_once_and_marks_its_prices_as_estimated() -> None:
    event = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": "m",
        "userId": "u-1",
        "anonymousId": "a1",
    }
    with server.running() as started, httpx.Client(base_url=started.url, trust_env=False) as client:
        replies = [
            client.post("/v1/batch", json={"batch": [event]}, auth=("dev-write-key", "")) for _ in range(2)
        ]
        user = client.get("/v1/users/u-1", headers={"Authorization": "Bearer dev-secret-key"})

        assert [(reply.json()["accepted"], reply.json()["duplicates"]) for reply in replies] == [
            (1, 0),
            (0, 1),
        ]
        assert replies[0].headers["footfall-capacity"].endswith(", estimated=1")
        # A link of three items and a check, eleven seals, an end of two items, and the event.
        assert replies[0].headers["footfall-capacity"].startswith("wru=24, ")
        assert user.json()["anonymousIds"] == ["anon_a1"]


def test_it_uses_a_dynamodb_and_makes_its_table_there(dynamodb_url: str, dynamodb_client: Any) -> None:
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": f"run-{uuid.uuid4().hex}",
        "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(SECRET_KEY.encode()).hexdigest(),
        "WEB_CONCURRENCY": "2",
    }
    with server.running(environment) as started:
        pasted(curl_lines(started)[0])
        output = started.output()
    with server.running(environment) as again:
        answer = httpx.get(f"{again.url}/v1/users/u-42", headers=READER, trust_env=False).json()

    assert dynamodb_url in output
    assert answer["firstDay"] == answer["lastDay"]
    assert answer["firstDay"] is not None
    kept = dynamodb_client.describe_time_to_live(TableName=environment["FOOTFALL_TABLE"])
    assert kept["TimeToLiveDescription"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expiresAt"}


def test_an_interrupt_stops_it_at_once_and_quietly() -> None:
    with server.running() as started, httpx.Client(base_url=started.url, trust_env=False) as client:
        client.get("/health")
        # The client's connection stays open; nobody waits for it.
        started.process.send_signal(signal.SIGINT)
        code = started.process.wait(server.STOP_SECONDS)
        output = started.output()

    assert code in (0, 130, -signal.SIGINT)
    assert "Traceback" not in output


def test_an_interrupt_stops_several_processes_too(dynamodb_url: str) -> None:
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": f"run-{uuid.uuid4().hex}",
        "WEB_CONCURRENCY": "2",
    }
    with server.running(environment) as started:
        started.process.send_signal(signal.SIGINT)
        started.process.wait(server.STOP_SECONDS)
        output = started.output()

        with pytest.raises(httpx.TransportError):
            httpx.get(f"{started.url}/health", trust_env=False)
    assert "Traceback" not in output


# --- it refuses to start ---------------------------------------------------------------------------------------------


def test_a_taken_port_is_one_line_that_names_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line(command("run", PORT=str(port)))

    assert str(port) in line
    assert f"PORT={port + 1}" in line


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "8e3"),
        ("WEB_CONCURRENCY", "none"),
    ],
)
def test_a_number_that_is_none_is_one_line(variable: str, text: str) -> None:
    assert variable in one_line(command("run", **{variable: text}))


def test_several_processes_without_a_database_to_share_are_one_line() -> None:
    line = one_line(command("run", WEB_CONCURRENCY="4"))

    assert "WEB_CONCURRENCY" in line
    assert "AWS_ENDPOINT_URL_DYNAMODB" in line


@pytest.mark.parametrize("arguments", ["run", "table"])
def test_an_endpoint_that_nobody_listens_on_is_one_line(arguments: str) -> None:
    url = silent_url()

    assert url in one_line(command(arguments, AWS_ENDPOINT_URL_DYNAMODB=url))


@pytest.mark.parametrize("url", ["localhost:8000", "nonsense", "http://", "http://a b"])
def test_an_endpoint_that_is_no_url_is_one_line(url: str) -> None:
    assert one_line(command("run", AWS_ENDPOINT_URL_DYNAMODB=url))


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, b"<html>It works!</html>", "text/html"),
        (404, b"<html>Not found</html>", "text/html"),
    ],
)
def test_an_endpoint_that_is_no_dynamodb_is_one_line(status: int, body: bytes, content_type: str) -> None:
    with web_server(status, body, content_type) as url:
        assert url in one_line(command("run", AWS_ENDPOINT_URL_DYNAMODB=url))


def test_bad_settings_are_a_line_each_and_never_a_secret() -> None:
    said = refused(
        command(
            "run",
            FOOTFALL_TIMEZONE="Entenhausen",
            FOOTFALL_CURRENCY="TALER",
            FOOTFALL_SECRET_KEY_HASHES="my-plain-secret",
            FOOTFALL_WRITE_KEYS="my-write-key",
        )
    )

    assert len(said.splitlines()) == 3
    for variable in ("FOOTFALL_TIMEZONE", "FOOTFALL_CURRENCY", "FOOTFALL_SECRET_KEY_HASHES"):
        assert said.count(variable) == 1
    assert "my-" not in said


def test_another_time_zone_than_the_tables_is_one_line(dynamodb_url: str) -> None:
    environment = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url, "FOOTFALL_TABLE": f"run-{uuid.uuid4().hex}"}
    with server.running(environment):
        pass
    done = command("run", FOOTFALL_TIMEZONE="Europe/Berlin", **environment)

    assert "FOOTFALL_TIMEZONE" in done.stderr
    assert done.returncode not in (0, -signal.SIGINT)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# --- the other commands ----------------------------------------------------------------------------------------------


def test_a_table_is_made_once(dynamodb_url: str) -> None:
    environment = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url, "FOOTFALL_TABLE": f"run-{uuid.uuid4().hex}"}
    name = environment["FOOTFALL_TABLE"]

    assert command("table", **environment).stdout == f"table {name}: made\n"
    assert command("table", **environment).stdout == f"table {name}: was there\n"


def test_a_key_comes_with_its_digest() -> None:
    done = command("key")
    values = [line.split()[-1] for line in done.stdout.splitlines()]

    assert done.returncode == 0
    write_key, secret_key, digest = values
    assert hashlib.sha256(secret_key.encode()).hexdigest() == digest
    assert (
        len({write_key, secret_key, *(line.split()[-1] for line in command("key").stdout.splitlines())}) == 5
    )


def test_help_names_every_command() -> None:
    done = command("--help")

    assert done.returncode == 0
    for name in ("run", "table", "key"):
        assert name in done.stdout
    assert __version__ in command("--version").stdout
