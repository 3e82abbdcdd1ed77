"""`python -m service export`: everything that is counted, exact and whole, as the API answers it."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from fastapi import FastAPI

from service.dynamodb import Table
from tests import server
from tests.builders import (
    READER,
    SECRET_KEY,
    TODAY,
    at,
    counts,
    day,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    metrics,
    post,
    uvicorn_client,
)
from tests.faults import silent_url

Json = dict[str, Any]


def exported(table: Table, url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "service", "export", *arguments],
        cwd=server.ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL_DYNAMODB": url, "FOOTFALL_TABLE": table.name} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def lines(text: str) -> list[Json]:
    return sorted(
        (json.loads(line) for line in text.splitlines()), key=lambda one: json.dumps(one, sort_keys=True)
    )


def expected(client: httpx.Client, *users: str) -> list[Json]:
    """The days of these users as the API has them."""
    found = []
    for user in users:
        reply = metrics(client, quote(user, safe=""), **{"from": day(-20), "to": day(1)})
        found += [{"userId": user, "orderIds": []} | one for one in reply["days"]]
    return lines("\n".join(json.dumps(one, default=float) for one in found))


def test_everything_counted_is_written_as_the_api_has_it(
    client: httpx.Client, table: Table, dynamodb_url: str, tmp_path: Path
) -> None:
    order = {"revenue": "900719925474.09", "currency": "EUR", "products": [{"quantity": 2}]}
    sent = post(
        client,
        [
            make_event(event="Order Completed", properties=order),
            make_event(event="Odd [name].", context={"sessionId": "s"}),
            make_event(timestamp=at(days=-2)),
            make_event(userId="u:2", event="Order Refunded", properties={"total": 5, "currency": "JPY"}),
            make_event(userId=..., anonymousId="stays"),
            make_event(userId=..., anonymousId="joins"),
            make_event(type="identify", event=..., userId="u-1", anonymousId="joins"),
        ],
    )
    assert counts(sent) == (7, 0, 0)
    out = tmp_path / "out.ndjson"
    out.write_text("what was there before")

    done = exported(table, dynamodb_url, "--out", str(out))
    written = out.read_text(encoding="utf-8")

    alias = {"anonymousId": "anon_joins", "userId": "u-1", "status": "merged"}
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("4 days, 1 anonymous ids (")
    assert lines(written) == lines(
        "\n".join(map(json.dumps, [*expected(client, "u-1", "u:2", "anon_stays"), alias]))
    )
    assert '"revenue":{"EUR":900719925474.09}' in written
    assert [path.name for path in tmp_path.iterdir()] == ["out.ndjson"]
    assert lines(exported(table, dynamodb_url).stdout) == lines(written)


def exported_by_the_service(url: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service", "export", "--url", url, *arguments],
        cwd=server.ROOT,
        env=os.environ | {"FOOTFALL_SECRET_KEY": SECRET_KEY} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_one_user_is_written_under_either_id_by_the_service(app: FastAPI, tmp_path: Path) -> None:
    both = {"userId": "u:1 ?%é", "anonymousId": "joins"}
    order = {"event": "Order Completed", "properties": {"orderId": "o-1", "revenue": 5}}
    with uvicorn_client(app) as client:
        post(client, [make_event(userId=..., anonymousId="joins"), make_event(**both, **order)])
        post(client, [make_event(userId="u-2")])
        (day_of_user,) = expected(client, both["userId"])
        alias = {"anonymousId": "anon_joins", "userId": both["userId"], "status": "merged"}
        wanted = lines("\n".join(map(json.dumps, [day_of_user | {"orderIds": ["o-1"]}, alias])))
        url = str(client.base_url)

        for name in (both["userId"], "anon_joins"):
            status, written, said = exported_by_the_service(url, "--user", name)
            assert (status, lines(written)) == (0, wanted)
            assert said.startswith("1 days, 1 anonymous ids (")
        assert exported_by_the_service(url, "--user", "nobody")[1] == ""
        out = tmp_path / "out.ndjson"
        assert exported_by_the_service(url, "--user", "u-2", "--out", str(out))[:2] == (0, "")
        for name, told in (("null", "placeholder"), ("a/b", "no /"), (" ", "somebody")):
            status, written, said = exported_by_the_service(url, "--user", name)
            assert (status, written, said.count("\n")) == (1, "", 1)
            assert told in said
        assert "401" in exported_by_the_service(url, "--user", "u-2", FOOTFALL_SECRET_KEY="wrong")[2]

    (one,) = lines(out.read_text(encoding="utf-8"))
    assert (one["userId"], one["events"]) == ("u-2", 1)


def test_every_page_of_a_user_is_asked_for_however_busy_the_service_is(tmp_path: Path) -> None:
    pages = {"": ("a b+/=", b'{"day":"1"}\n'), "a b+/=": ("c", b""), "c": (None, b'{"anonymousId":"x"}\n')}
    asked: list[str] = []
    busy = [503, 429]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append(parts.path)
            (cursor,) = parse_qs(parts.query).get("cursor", [""])
            following, body = pages[cursor]
            status = busy.pop() if busy and cursor else 200
            self.send_response(status)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Footfall-Capacity", "wru=0, rru=2.5")
            if following:
                self.send_header("Footfall-Next-Cursor", following)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    out = tmp_path / "out.ndjson"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{listening.server_address[1]}"
        try:
            status, written, said = exported_by_the_service(url, "--user", "u:1")
            pages["c"] = ("c", b"")
            endless = exported_by_the_service(url, "--user", "u:1", "--out", str(out))
        finally:
            listening.shutdown()
            thread.join()

    assert (status, written) == (0, '{"day":"1"}\n{"anonymousId":"x"}\n')
    assert "answers 429; trying again" in said
    assert said.endswith("1 days, 1 anonymous ids (12.5 RRU)\n")
    assert set(asked) == {"/v1/users/u%3A1/export"}
    # One that never ends is none, and leaves nothing.
    assert endless[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_command_cannot_do_is_said(tmp_path: Path) -> None:
    status, _, said = exported_by_the_service("http://127.0.0.1:1")
    assert (status, "--user" in said) == (2, True)
    nobody = silent_url()
    status, written, said = exported_by_the_service(nobody, "--user", "u-1", "--patience", "0")
    assert (status, written, said.count("\n")) == (1, "", 1)

    nowhere = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    nowhere |= {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "service", "export"],
        cwd=server.ROOT,
        env=nowhere,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "AWS_REGION" in done.stderr


def test_nothing_is_lost_where_pages_end(
    app: FastAPI, client: httpx.Client, table: Table, dynamodb_url: str
) -> None:
    # A page is 1 MB: names of 128 characters, a hundred a day, over two hundred users.
    names = [f"{number:03d}" + "x" * 125 for number in range(30)]
    users = [f"user-{number}" for number in range(200)]
    for start in range(0, 200, 20):
        sent = post(
            client,
            [make_event(userId=user, event=name) for user in users[start : start + 20] for name in names],
        )
        assert counts(sent) == (600, 0, 0)
    pages = list(table.calls(1e12).scan())
    assert len(pages) > 1

    found = [json.loads(line) for line in exported(table, dynamodb_url).stdout.splitlines()]

    assert sorted(one["userId"] for one in found) == sorted(users)
    assert {(one["day"], one["events"], len(one["byEvent"])) for one in found} == {(TODAY, 30, 30)}

    # `| head -1`: far more was to come than a pipe holds.
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "export"],
        cwd=server.ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url, "FOOTFALL_TABLE": table.name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["day"] == TODAY
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


def test_a_region_is_one_in_either_variable(table: Table, dynamodb_url: str) -> None:
    # Credentials of a local engine stand for their region's table; another region's is another one.
    done = exported(table, dynamodb_url, AWS_REGION="eu-central-1", AWS_DEFAULT_REGION="")
    assert "No client" not in done.stderr
    assert "region" not in done.stderr.partition("cannot be read")[0]


def test_an_erased_anonymous_id_is_nobodys(client: httpx.Client, table: Table, dynamodb_url: str) -> None:
    post(client, [make_event(userId=..., anonymousId="joins"), make_event(anonymousId="joins")])
    erased = client.delete("/v1/users/u-1", headers=READER)
    assert erased.status_code == 200, erased.text

    found = lines(exported(table, dynamodb_url).stdout)

    assert found == [{"anonymousId": "anon_joins", "userId": None, "status": "erased"}]


def test_an_export_that_fails_leaves_what_was_there(table: Table, tmp_path: Path, dynamodb_url: str) -> None:
    out = tmp_path / "out.ndjson"
    out.write_text("before")
    missing = dataclasses.replace(table, name="no-such-table")

    for done in (
        exported(missing, dynamodb_url, "--out", str(out)),
        exported(table, silent_url(), "--out", str(out)),
    ):
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.ndjson"]


@pytest.mark.parametrize("sent", [0, 3])
def test_a_zone_of_ones_own_changes_nothing(table: Table, dynamodb_url: str, sent: int) -> None:
    from zoneinfo import ZoneInfo

    with lambda_client(make_app(make_settings(timezone=ZoneInfo("Asia/Tokyo")), table)) as client:
        post(client, [make_event(timestamp=at(hours=4)) for _ in range(sent)])
    found = [json.loads(line) for line in exported(table, dynamodb_url).stdout.splitlines()]

    assert [(one["day"], one["events"]) for one in found] == [(day(1), 3)] * bool(sent)
