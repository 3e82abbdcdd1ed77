"""`python -m service export`: everything that is counted, exact and whole, as the API answers it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.dynamodb import Table
from tests import server
from tests.builders import (
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
)
from tests.dynamodb_local import free_port

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
        reply = metrics(client, user, **{"from": day(-20), "to": day(1)})
        found += [{"userId": user} | one for one in reply["days"]]
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


def test_one_user_is_written_under_either_id(client: httpx.Client, table: Table, dynamodb_url: str) -> None:
    both = {"userId": "u-1", "anonymousId": "joins"}
    post(client, [make_event(userId=..., anonymousId="joins"), make_event(**both), make_event(userId="u-2")])
    alias = {"anonymousId": "anon_joins", "userId": "u-1", "status": "merged"}
    wanted = lines("\n".join(map(json.dumps, [*expected(client, "u-1"), alias])))

    for name in ("u-1", "anon_joins"):
        assert lines(exported(table, dynamodb_url, "--user", name).stdout) == wanted
    assert exported(table, dynamodb_url, "--user", "nobody").stdout == ""
    assert exported(table, dynamodb_url, "--user", "a/b").returncode == 1


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


def test_an_export_that_fails_leaves_what_was_there(table: Table, tmp_path: Path, dynamodb_url: str) -> None:
    out = tmp_path / "out.ndjson"
    out.write_text("before")
    missing = dataclasses.replace(table, name="no-such-table")

    for done in (
        exported(missing, dynamodb_url, "--out", str(out)),
        exported(table, f"http://127.0.0.1:{free_port()}", "--out", str(out)),
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
