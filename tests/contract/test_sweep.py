"""What died on the way is finished: by the command, and by the function where the stack has its schedule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from service import identities, indices, keys
from service import sweep as sweep_module
from service.dynamodb import Table
from service.events import epoch_ms
from service.models import PendingItem
from service.problems import Unavailable
from service.store import Work
from service.sweep import Swept, sweep
from tests import builders, canned_engine, faults, opensearch_local, server
from tests.builders import (
    NOON,
    READER,
    TODAY,
    make_event,
    make_settings,
    post,
    totals,
)
from tests.contract.test_template import read_template
from tests.faults import silent_url
from tests.lambda_transport import LambdaContext, LambdaTransport

SETTINGS = make_settings(max_event_age_days=1)
LONG_AGO, JUST_NOW, LATER = (NOON + timedelta(seconds=seconds) for seconds in (-61, -59, 120))


def work(table: Table, now: datetime) -> Work:
    return Work(table.calls(time.monotonic() + 60), SETTINGS, now)


def swept(table: Table, now: datetime = NOON) -> Swept:
    *_, last = sweep(table.calls(time.monotonic() + 60), SETTINGS, lambda: now)
    return last


def begin_merge(table: Table, anonymous_id: str, now: datetime, user: str = "u-1") -> None:
    """Its process dies after the first step."""
    identities.link(work(table, now), f"anon_{anonymous_id}", user, epoch_ms(now))


def begin_erasure(client: httpx.Client, user: str) -> None:
    """At noon; its process dies after the first step."""
    with faults.injected(faults.Fault("kill_after", operation="TransactWriteItems", call=1)):
        assert client.delete(f"/v1/users/{user}", headers=READER).status_code == 500


def pending(table: Table) -> list[str]:
    return sorted(sk.partition("#")[2] for pk, sk in builders.items(table) if pk.startswith("PENDING#"))


def visit(client: httpx.Client, *anonymous_ids: str) -> None:
    for anonymous_id in anonymous_ids:
        post(client, [make_event(userId=..., anonymousId=anonymous_id)])


# --- what it finishes ------------------------------------------------------------------------------------------------


def test_merges_of_over_a_minute_ago_are_finished_and_younger_ones_left(
    client: httpx.Client, table: Table
) -> None:
    old = [f"old{number}" for number in range(20)]
    visit(client, *old, "young", "edge", "nobodys")
    for anonymous_id in old:
        begin_merge(table, anonymous_id, LONG_AGO)
    begin_merge(table, "young", JUST_NOW)
    begin_merge(table, "edge", NOON - timedelta(seconds=60))

    assert swept(table) == Swept(merges=20)
    assert pending(table) == ["anon_edge", "anon_young"]
    assert totals(client)["events"] == 20
    assert all(builders.is_merged(table, f"anon_{anonymous_id}") for anonymous_id in old)
    assert totals(client, "anon_nobodys")["events"] == 1
    assert swept(table, LATER) == Swept(merges=2)
    assert (pending(table), totals(client)["events"]) == ([], 22)
    assert swept(table, LATER) == Swept()


@pytest.mark.parametrize("user", ["u-1", "anon_a1"])
def test_erasures_of_over_a_minute_ago_are_finished_and_younger_ones_left(
    client: httpx.Client, table: Table, user: str
) -> None:
    visit(client, "a1")
    if user == "u-1":
        post(client, [make_event(anonymousId="a1"), make_event(anonymousId="a2")])
    begin_erasure(client, user)

    assert swept(table, NOON + timedelta(seconds=60)) == Swept()
    assert pending(table) == [user]
    assert swept(table, NOON + timedelta(seconds=61)) == Swept(erasures=1)
    assert pending(table) == []
    assert totals(client, user)["events"] == 0
    days = [item for (_, sk), item in builders.items(table).items() if sk.startswith("DAY#")]
    assert all(item.keys() == {"erasedAt", "expiresAt", "schema"} for item in days)
    marks = [item for (_, sk), item in builders.items(table).items() if sk in ("ERASED", "ALIAS")]
    assert marks
    assert all("erasing" not in item and "expiresAt" in item for item in marks)


def test_a_merge_whose_user_is_being_erased_ends_with_the_user(client: httpx.Client, table: Table) -> None:
    visit(client, "a1")
    begin_merge(table, "a1", NOON)
    begin_erasure(client, "u-1")
    last = swept(table, LATER)

    assert (last.erasures, last.undecided) == (1, 0)
    assert swept(table, LATER) == Swept()
    assert pending(table) == []
    assert totals(client)["events"] == totals(client, "anon_a1")["events"] == 0


def test_a_row_whose_merge_has_ended_is_removed(client: httpx.Client, table: Table) -> None:
    begin_merge(table, "a1", LONG_AGO)
    row = next(key for key in builders.items(table) if key[0].startswith("PENDING#"))
    assert swept(table) == Swept(merges=1)
    for key in (row, keys.pending_key("2026-11-22T11:00:00.000+00:00", "u-9")):
        table.client.put_item(
            TableName=table.name, Item={"PK": {"S": key[0]}, "SK": {"S": key[1]}, "kind": {"S": "merge"}}
        )

    assert swept(table) == Swept()
    assert pending(table) == []
    assert builders.is_merged(table, "anon_a1")


def test_what_cannot_be_finished_now_is_left_and_stops_nothing_else(
    client: httpx.Client, table: Table
) -> None:
    visit(client, "a1", "a2", "a3")
    for anonymous_id in ("a1", "a2", "a3"):
        begin_merge(table, anonymous_id, LONG_AGO)
    with faults.injected(faults.Fault("refuse", values=("USER#anon_a2",), attempts=None)):
        first = swept(table)

    assert (first.merges, first.erasures, first.undecided) == (2, 0, 1)
    assert pending(table) == ["anon_a2"]
    assert swept(table) == Swept(merges=1)


def test_no_row_takes_all_the_time(
    client: httpx.Client, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command has a day. What it fences late in a row would pass for fenced when it began with it."""
    begin_merge(table, "a1", LONG_AGO)
    with monkeypatch.context() as short:
        short.setattr(sweep_module, "ROW_SECONDS_MAX", -1.0)
        assert swept(table).undecided == 1
    calls = table.calls(time.monotonic() + 60)
    *_, found = sweep(calls, SETTINGS, lambda: NOON)

    assert found == Swept(merges=1)
    # The calls of a row are among those of the sweep.
    assert calls.capacity.write_units > 0
    # A request has 29 s, and what it puts is looked for after a quarter of an hour.
    assert sweep_module.ROW_SECONDS_MAX < 15 * 60 - 29


def test_when_the_time_of_all_is_over_the_rest_is_left(client: httpx.Client, table: Table) -> None:
    begin_merge(table, "a1", LONG_AGO)
    begin_merge(table, "a2", LONG_AGO)
    calls = table.calls(time.monotonic() + 60)
    asked: list[datetime] = []

    def now() -> datetime:
        asked.append(NOON)
        if len(asked) == 3:  # for the first row, which has begun
            calls.deadline = 0.0
        return NOON

    *_, found = sweep(calls, SETTINGS, now)

    assert (found.merges, found.undecided) == (1, 1)


def row_of_a_merge(table: Table, anonymous_id: str) -> keys.Key:
    """Left from long ago."""
    key = keys.pending_key(LONG_AGO.isoformat(timespec="milliseconds"), f"anon_{anonymous_id}")
    item = PendingItem(*key, kind=identities.MERGE).serialize()
    table.client.put_item(TableName=table.name, Item=item)
    return key


def test_a_row_whose_merge_is_nowhere_is_removed(table: Table) -> None:
    key = row_of_a_merge(table, "a1")

    assert swept(table) == Swept()
    assert builders.item_at(table, key) is None


def test_a_row_of_an_earlier_merge_leaves_the_one_that_is_under_way(table: Table) -> None:
    key = row_of_a_merge(table, "a1")
    begin_merge(table, "a1", JUST_NOW)

    assert swept(table) == Swept()
    assert builders.item_at(table, key) is None
    alias = builders.item_at(table, keys.alias_key("anon_a1"))
    assert alias is not None
    assert alias["status"] == {"S": "merging"}


def test_each_sweep_begins_elsewhere(
    client: httpx.Client, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row on which the time runs out, every time, keeps none of the others from their end for ever."""
    for number in range(8):
        begin_merge(table, f"a{number}", LONG_AGO)
    found: list[str] = []

    def out_of_time(_: Work, anonymous_id: str, __: object) -> None:
        found.append(anonymous_id)
        raise Unavailable

    monkeypatch.setattr("service.merge.finished", out_of_time)
    firsts = set()
    for hours in range(12):
        found.clear()
        assert swept(table, NOON + timedelta(hours=hours)).undecided == 8
        assert sorted(found) == [f"anon_a{number}" for number in range(8)]
        firsts.add(found[0])

    assert len(firsts) > 3


def test_killed_after_any_call_the_next_sweep_goes_on(client: httpx.Client, table: Table) -> None:
    for call in range(1, 100):
        visit(client, f"a{call}")
        begin_merge(table, f"a{call}", LONG_AGO)
        try:
            with faults.injected(faults.Fault("kill_after", call=16 + call)):
                swept(table)
        except faults.Killed:
            assert swept(table).undecided == 0
            assert pending(table) == []
            assert totals(client)["events"] == call
        else:
            break
    assert call > 8


def test_it_asks_sixteen_queries_and_never_a_scan(client: httpx.Client, table: Table) -> None:
    post(client, [make_event()])
    idle = table.calls(time.monotonic() + 60)
    with faults.injected() as nothing_to_do:
        list(sweep(idle, SETTINGS, lambda: NOON))
    visit(client, "a1")
    begin_merge(table, "a1", LONG_AGO)
    with faults.injected() as a_merge:
        swept(table)

    assert nothing_to_do.operations == ["Query"] * 16
    assert (idle.capacity.write_units, idle.capacity.read_units) == (0, 8)
    assert set(a_merge.operations) == {"Query", "GetItem", "PutItem", "TransactWriteItems"}


# --- the command -----------------------------------------------------------------------------------------------------


def command(table: Table, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "service", "sweep", *arguments],
        cwd=server.ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL_DYNAMODB": url, "FOOTFALL_TABLE": table.name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_command_says_what_it_finished_and_what_that_cost(
    client: httpx.Client, table: Table, dynamodb_url: str
) -> None:
    visit(client, "a1", "a2")
    # The command's clock is the machine's.
    begin_merge(table, "a1", datetime.now(UTC) - timedelta(minutes=2))
    begin_merge(table, "a2", datetime.now(UTC) + timedelta(hours=1))
    first, second = command(table, dynamodb_url), command(table, dynamodb_url)

    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == "finished 1 merges and 0 erasures, 0 left for the next sweep\n"
    assert second.stdout == "finished 0 merges and 0 erasures, 0 left for the next sweep\n"
    assert second.stderr == "consumed 0 WRU, 8 RRU\n"
    assert "a1" not in first.stdout + first.stderr
    assert builders.is_merged(table, "anon_a1")
    assert pending(table) == ["anon_a2"]


def test_the_command_ends_with_2_when_something_is_left(table: Table, dynamodb_url: str) -> None:
    begin_merge(table, "a1", datetime.now(UTC) - timedelta(minutes=2))
    key = keys.alias_key("anon_a1")
    # Of a newer version, which this one does not touch.
    table.client.update_item(
        TableName=table.name,
        Key={"PK": {"S": key.pk}, "SK": {"S": key.sk}},
        UpdateExpression="SET #s = :two",
        ExpressionAttributeNames={"#s": "schema"},
        ExpressionAttributeValues={":two": {"N": "2"}},
    )
    done = command(table, dynamodb_url)

    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "finished 0 merges and 0 erasures, 1 left for the next sweep"
    assert pending(table) == ["anon_a1"]


@pytest.mark.parametrize("missing", ["table", "endpoint"])
def test_the_command_ends_with_1_when_it_cannot_begin(table: Table, dynamodb_url: str, missing: str) -> None:
    where = Table(None, "is-not-there") if missing == "table" else table
    url = silent_url() if missing == "endpoint" else dynamodb_url
    done = command(where, url)

    assert (done.returncode, done.stdout) == (1, "")
    assert where.name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_takes_no_arguments(table: Table, dynamodb_url: str) -> None:
    assert command(table, dynamodb_url, "now").returncode == 2
    assert "minute" in command(table, dynamodb_url, "--help").stdout


# --- the function ----------------------------------------------------------------------------------------------------


def scheduled() -> dict[str, Any]:
    """What the stack's rule sends."""
    (target,) = read_template()["Resources"]["SweepSchedule"]["Properties"]["Targets"]
    event: dict[str, Any] = json.loads(target["Input"])
    return event


def test_the_schedules_event_is_the_one_the_function_knows(deployed: ModuleType) -> None:
    example = Path(__file__).resolve().parent.parent.parent / "events" / "sweep.json"

    assert scheduled() == deployed.SWEEP_EVENT == json.loads(example.read_text(encoding="utf-8"))


def test_the_schedules_event_sweeps(
    client: httpx.Client, table: Table, deployed: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    visit(client, "secret-visitor")
    begin_merge(table, "secret-visitor", LONG_AGO)
    capsys.readouterr()
    reply = deployed.handler(scheduled(), LambdaContext(20_000))
    (logged,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert json.loads(json.dumps(reply)) == {"merges": 1, "erasures": 0, "undecided": 0}
    assert builders.is_merged(table, "anon_secret-visitor")
    assert totals(client)["events"] == 1
    assert (logged["level"], logged["message"], logged["merges"]) == ("INFO", "sweep", 1)
    assert logged["wru"] > 10
    assert "secret" not in json.dumps(logged)


def test_where_there_is_search_it_deletes_the_months_that_are_too_old(
    deployed: ModuleType, table: Table, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the name that deployments have, by the clock of the machine."""
    monkeypatch.setattr(deployed, "_settings", replace(deployed._settings, opensearch_url=opensearch_url))
    this_month = datetime.now(UTC).date().isoformat()[:7]
    with opensearch_local.as_deployed(opensearch_url) as engine:
        for month in ("2020-01", "2020-02", this_month):
            indices.make_month(engine, month)
        reply = deployed.handler(scheduled(), LambdaContext(20_000))

        assert reply["monthsRetired"] == 2
        assert [index.month for index in indices.listed(engine)] == [this_month]
        assert deployed.handler(scheduled(), LambdaContext(20_000))["monthsRetired"] == 0


def test_a_search_engine_that_is_away_keeps_no_sweep_from_its_end(
    client: httpx.Client,
    table: Table,
    deployed: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = silent_url()
    monkeypatch.setattr(deployed, "_settings", replace(deployed._settings, opensearch_url=url))
    visit(client, "visitor")
    begin_merge(table, "visitor", LONG_AGO)
    capsys.readouterr()
    reply = deployed.handler(scheduled(), LambdaContext(20_000))
    swept, failed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert reply == {"merges": 1, "erasures": 0, "undecided": 0, "monthsRetired": 0}
    # What was done is said before something else can fail.
    assert (swept["level"], swept["message"], swept["merges"]) == ("INFO", "sweep", 1)
    assert (failed["level"], failed["error"]) == ("ERROR", "EngineUnavailableError")


def test_a_search_engine_that_is_slow_has_what_is_left_of_the_sweeps_time(
    deployed: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_engine.running() as canned:
        canned.waits = threading.Event()
        settings = replace(deployed._settings, opensearch_url=canned.url)
        monkeypatch.setattr(deployed, "_settings", settings)
        capsys.readouterr()
        began = time.monotonic()
        reply = deployed.handler(scheduled(), LambdaContext(4_500))
        took_seconds = time.monotonic() - began
    _, failed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert reply["monthsRetired"] == 0
    assert failed["error"] == "EngineUnavailableError"
    assert took_seconds < 4.5, "the function would have been ended"


def test_another_tables_months_are_not_retired(
    deployed: ModuleType, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "_settings", replace(deployed._settings, opensearch_url=opensearch_url))
    with opensearch_local.as_deployed(opensearch_url) as engine:
        indices.make_month(engine, "2020-01", "another-table")
        assert deployed.handler(scheduled(), LambdaContext(20_000))["monthsRetired"] == 0
        assert [index.month for index in indices.listed(engine)] == ["2020-01"]


def test_a_sweep_without_time_leaves_all_and_fails_loudly(
    client: httpx.Client, table: Table, deployed: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_merge(table, "a1", LONG_AGO)
    capsys.readouterr()
    with pytest.raises(Unavailable):
        deployed.handler(scheduled(), LambdaContext(2_000))

    assert json.loads(capsys.readouterr().out)["message"] == "sweep failed"
    assert pending(table) == ["anon_a1"]


def test_no_request_can_be_taken_for_the_schedule(deployed: ModuleType, table: Table) -> None:
    begin_merge(table, "a1", LONG_AGO)
    with httpx.Client(transport=LambdaTransport(deployed.handler), base_url=builders.LAMBDA_URL) as door:
        reply = door.post("/v1/batch", json=scheduled(), headers=builders.WRITER)
        health = door.get("/health")

    assert (reply.status_code, health.status_code) == (422, 200)
    assert pending(table) == ["anon_a1"]
    assert TODAY not in reply.text
