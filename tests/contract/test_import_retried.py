"""`python -m service import` against a service that does not answer, or has no time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import server
from tests.contract.import_command import (
    counting_proxy,
    done,
    imported,
    kept_back,
    line,
    started,
    summary,
    totals,
    write,
)
from tests.dynamodb_local import free_port
from tests.faults import silent_url


@pytest.fixture(scope="module")
def service() -> Iterator[server.Server]:
    """One service on the embedded engine; tests keep apart by their users."""
    with server.running() as started:
        yield started


def test_busy_answers_are_waited_out(service: server.Server, tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", line(userId="busy"))
    busy = [(503, {"Retry-After": "0"}), (429, {}), (502, {}), (500, {"Retry-After": "nonsense"})]
    with counting_proxy(service.url, answers=busy) as (url, seen):
        status, output, errors = imported(file, url)

    assert (status, len(seen)) == (0, 5)
    assert output.splitlines()[0].split() == ["accepted", "1"]
    assert "answers 503; trying again" in errors


def test_what_a_request_has_no_time_for_is_halved(service: server.Server, tmp_path: Path) -> None:
    """So many people that every try ends in the middle; from then on requests are as small."""
    file = tmp_path / "a.ndjson"
    lines = [line(userId=f"many-{n % 1_000}", messageId=f"m-{n}") for n in range(2_600)]
    file.write_text("".join(json.dumps(one) + "\n" for one in [*lines, line(type="none")]))
    with counting_proxy(service.url, events_max=700) as (url, seen):
        status, output, errors = imported(file, url)

    assert (status, summary(output)) == (2, [2_600, 0, 1, 0])
    assert [one["events"] for one in seen] == [*[2_500] * 3, *[1_250] * 3, *[625] * 4, 101]
    assert "answers 503; trying again" in errors


NOT_NOW = (503, {"Retry-After": "0"})


@pytest.mark.parametrize("too_many", [500, 503])
def test_it_is_halved_whatever_says_that_the_time_was_over(
    service: server.Server, tmp_path: Path, too_many: int
) -> None:
    """The function itself in time, or what stands before it; and the third answer may be about something else."""
    file = write(tmp_path / "a.ndjson", *(line(userId=f"over-{too_many}-{n}") for n in range(8)))
    answers = [NOT_NOW, NOT_NOW, (429, {"Retry-After": "0"})]
    with counting_proxy(service.url, answers=answers, events_max=2, too_many=too_many) as (url, seen):
        status, output, _ = imported(file, url)

    assert (status, summary(output)) == (0, [8, 0, 0, 0])
    assert [one["events"] for one in seen] == [*[8] * 4, *[4] * 3, *[2] * 4]


def test_after_an_outage_requests_grow_again(service: server.Server, tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", *(line(userId="outage", messageId=f"m-{n}") for n in range(64)))
    with counting_proxy(service.url, answers=[NOT_NOW] * 18) as (url, seen):
        status, output, _ = imported(file, url)

    assert (status, summary(output)) == (0, [64, 0, 0, 0])
    assert [one["events"] for one in seen[18:]] == [*[1] * 20, *[2] * 20, 4]


def test_what_a_reply_has_no_room_to_refuse_is_halved_too(service: server.Server, tmp_path: Path) -> None:
    """It lists the first hundred; for the rest all that is behind them is sent again."""
    good = line(userId="refused", messageId="good")
    file = write(tmp_path / "a.ndjson", good, *[line(type="none", n=n) for n in range(600)], good)
    with counting_proxy(service.url, answers=[None], events_max=250) as (url, seen):
        status, output, _ = imported(file, url)

    assert (status, summary(output)) == (2, [1, 1, 600, 0])
    assert [one["line"] for one in kept_back(file)] == list(range(2, 602))
    assert [one["events"] for one in seen] == [
        602,
        501,
        501,
        501,
        250,
        150,
        50,
        251,
        251,
        251,
        125,
        25,
        126,
        26,
    ]


def test_a_service_that_comes_back_gets_the_rest(tmp_path: Path) -> None:
    port = free_port()
    file = write(tmp_path / "a.ndjson", line(userId="later"))
    process = started(file, f"http://127.0.0.1:{port}")
    with server.running({"PORT": str(port)}) as service:
        status, output, _ = done(process)

        assert (status, summary(output)) == (0, [1, 0, 0, 0])
        assert totals(service, "later")["events"] == 1


def test_one_that_does_not_is_one_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", line())
    url = silent_url()
    status, output, errors = imported(file, url, "--patience", "0")

    assert (status, output, len(errors.splitlines())) == (1, "", 1)
    assert url in errors


def test_batches_keep_the_limits(service: server.Server, tmp_path: Path) -> None:
    small = [line(userId=..., event=..., n=n) for n in range(2_600)]
    large = [line(userId=..., x="ö" * 15_000, n=n) for n in range(70)]
    file = tmp_path / "a.ndjson"
    file.write_text(
        "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in small + large), encoding="utf-8"
    )
    with counting_proxy(service.url) as (url, seen):
        status, output, _ = imported(file, url)

    assert (status, summary(output)) == (2, [0, 0, 2_670, 0])
    assert max(one["events"] for one in seen) == 2_500
    assert 450_000 < max(one["bytes"] for one in seen) <= 500 * 1024
    assert {one["path"] for one in seen} == {"/v1/import"}
