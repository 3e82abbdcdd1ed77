"""`python -m service import`: what goes in, what is kept back, and that a second time changes nothing."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests import server
from tests.contract.import_command import (
    DEV,
    Json,
    beside,
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
from tests.faults import silent_url


@pytest.fixture(scope="module")
def service() -> Iterator[server.Server]:
    """One service on the embedded engine; tests keep apart by their users."""
    with server.running() as started:
        yield started


# --- once ------------------------------------------------------------------------------------------------------------


def test_a_file_counts_once_however_often_it_is_imported(service: server.Server, tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", *(line(userId="twice", messageId=f"m-{n}") for n in range(30)))

    status, output, _ = imported(file, service.url)
    again_status, again, _ = imported(file, service.url)

    assert (status, summary(output)) == (0, [30, 0, 0, 0])
    assert (again_status, summary(again)) == (0, [0, 30, 0, 0])
    assert totals(service, "twice")["events"] == 30
    assert "WRU" in output
    assert not output.splitlines()[-1].startswith("consumed    0 WRU")
    assert beside(file) == set()


def test_equal_lines_without_ids_are_events_of_their_own_and_count_once_each(
    service: server.Server, tmp_path: Path
) -> None:
    same = json.dumps(line(userId="equal"))
    null = json.dumps(line(userId="equal", messageId=None))
    empty = json.dumps(line(userId="equal", messageId=""))
    file = write(tmp_path / "a.ndjson", same, null, same, empty, "", same, null)
    # Another file that begins with the same line: its first is the first one's.
    other = write(tmp_path / "b.ndjson", same, line(userId="equal", event="Other"))

    assert summary(imported(file, service.url)[1]) == [6, 0, 0, 0]
    assert summary(imported(file, service.url)[1]) == [0, 6, 0, 0]
    assert summary(imported(other, service.url)[1]) == [1, 1, 0, 0]
    assert totals(service, "equal")["byEvent"] == {"Viewed": 6, "Other": 1}


def test_an_event_that_came_as_a_batch_is_a_duplicate(service: server.Server, tmp_path: Path) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sent = line(userId="live", messageId="live-1", timestamp=now)
    posted = httpx.post(f"{service.url}/v1/batch", json={"batch": [sent]}, headers=DEV, trust_env=False)
    file = write(tmp_path / "a.ndjson", sent, line(userId="live", messageId="live-2", timestamp=now))

    assert posted.json()["accepted"] == 1
    assert summary(imported(file, service.url)[1]) == [1, 1, 0, 0]


def test_numbers_arrive_as_they_are_written(service: server.Server, tmp_path: Path) -> None:
    order = '{"type":"track","event":"Order Completed","userId":"exact","timestamp":"2012-05-01",'
    file = write(
        tmp_path / "a.ndjson",
        order + '"properties":{"revenue":1.004999999999999999999}}',
        order + '"properties":{"revenue":90071992547.4099300000001}}',
    )

    assert summary(imported(file, service.url)[1]) == [2, 0, 0, 0]
    assert totals(service, "exact")["revenue"] == {"USD": 90071992548.41}


def test_anonymous_history_becomes_the_users(service: server.Server, tmp_path: Path) -> None:
    views = [line(userId=..., anonymousId="visitor", event=f"E{n}") for n in range(3)]
    first = write(tmp_path / "a.ndjson", *views)
    second = write(
        tmp_path / "b.ndjson",
        {"type": "identify", "userId": "known", "anonymousId": "visitor"},
        # In the first file too, but as the second of its kind here.
        views[0],
        views[0],
    )

    assert summary(imported(first, service.url)[1]) == [3, 0, 0, 0]
    assert totals(service, "anon_visitor")["events"] == 3
    # The identify, and the line that the first file had once only.
    assert summary(imported(second, service.url)[1]) == [2, 1, 0, 0]
    assert totals(service, "known")["events"] == 4


def test_a_blank_id_is_none(service: server.Server, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.ndjson",
        *(line(userId="blank", event=name, messageId="  ") for name in ("A", "B", "A")),
    )

    assert summary(imported(file, service.url)[1]) == [3, 0, 0, 0]
    assert summary(imported(file, service.url)[1]) == [0, 3, 0, 0]


# --- kept back -------------------------------------------------------------------------------------------------------


def test_what_does_not_go_in_is_kept_with_its_number_and_reason(
    service: server.Server, tmp_path: Path
) -> None:
    file = tmp_path / "a.ndjson"
    good = json.dumps(line(userId="kept", messageId="good")).encode()
    lines = [
        b"\xef\xbb\xbf" + good,
        b"",
        b"not JSON",
        b'{"type": "track", "properties": {"revenue": NaN}}',
        b"[1]",
        b'{"a": "\xff"}',
        b"[" * 100_000,
        json.dumps(line(userId="kept", timestamp=...)).encode(),
        json.dumps(line(userId="kept", timestamp="1999-12-31")).encode(),
        json.dumps(line(userId=...)).encode(),
        json.dumps(line(userId="kept", properties={"x": "x" * 40_000})).encode(),
        b'{"x": "' + b"x" * 600_000 + b'"}',
        b'{"userId": "kept", "x": "' + b"x" * 511_960 + b'"}',
        b"{}",
        good.replace(b'"good"', b'"also"'),
    ]
    file.write_bytes(b"\r\n".join(lines))

    status, output, errors = imported(file, service.url)
    found = kept_back(file)

    assert (status, summary(output)) == (2, [2, 0, 6, 6])
    assert [(one["line"], one["code"]) for one in found] == [
        (3, "invalid_json"),
        (4, "invalid_json"),
        (5, "invalid_event"),
        (6, "invalid_json"),
        (7, "invalid_json"),
        (8, "invalid_event"),
        (9, "timestamp_out_of_range"),
        (10, "invalid_id"),
        (11, "event_too_large"),
        (12, "event_too_large"),
        (13, "body_too_large"),
        (14, "invalid_event"),
    ]
    assert all(one["reason"] for one in found)
    assert found[0]["content"] == "not JSON"
    # What is not all of a line says so.
    assert {one["line"] for one in found if one.get("truncated")} == {7, 12, 13}
    assert all(len(one["content"]) <= 64 * 1024 for one in found)
    assert json.loads(found[6]["content"])["timestamp"] == "1999-12-31"
    assert "line 3: invalid_json: not JSON" in errors
    assert "2 more" in errors
    assert str(file) + ".rejected.ndjson" in errors
    assert totals(service, "kept")["events"] == 2
    # The next time there are the same, and no others.
    assert summary(imported(file, service.url)[1]) == [0, 2, 6, 6]
    assert kept_back(file) == found


def test_more_than_a_reply_lists_are_all_named(service: server.Server, tmp_path: Path) -> None:
    lines = [line(userId="many", **({"event": ...} if n % 2 else {})) | {"n": n} for n in range(700)]
    file = write(tmp_path / "a.ndjson", *lines)

    status, output, _ = imported(file, service.url)

    assert (status, summary(output)) == (2, [350, 0, 350, 0])
    assert [one["line"] for one in kept_back(file)] == list(range(2, 702, 2))


def test_when_nothing_is_kept_back_any_more_the_file_of_it_goes(
    service: server.Server, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.ndjson", "{", line(userId="mended"))
    assert imported(file, service.url)[0] == 2
    write(file, line(userId="mended", event="Mended"), line(userId="mended"))

    status, output, _ = imported(file, service.url)

    assert (status, summary(output)) == (0, [1, 1, 0, 0])
    assert beside(file) == set()


def test_an_import_that_sends_nothing_leaves_what_an_earlier_one_kept_back(
    service: server.Server, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.ndjson", "{", line(userId="left"))
    assert imported(file, service.url)[0] == 2
    found = kept_back(file)

    for arguments in (["--patience", "0"], ["--restart", "--patience", "0"]):
        assert imported(file, silent_url(), *arguments)[0] == 1
        assert kept_back(file) == found
    assert imported(file, service.url, FOOTFALL_SECRET_KEY="wrong")[0] == 1
    assert kept_back(file) == found
    assert imported(file, service.url)[0] == 2
    assert kept_back(file) == found


# --- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_is_stopped_in_the_middle_goes_on_there(
    service: server.Server, tmp_path: Path, end: signal.Signals
) -> None:
    user = f"stopped-{end}"
    # Equal lines throughout, so that their turns matter, and a bad one now and then.
    lines = [line(userId=f"{user}-{n % 7}", properties={"x": "x" * 20_000}) for n in range(210)]
    texts: list[Json | str] = []
    for n, text in enumerate(lines):
        texts += [text, "{"] if n % 50 == 0 else [text]
    file = write(tmp_path / "a.ndjson", *texts)
    checkpoint = file.with_name("a.ndjson.footfall.json")
    first = started(file, service.url)
    while not checkpoint.exists() and first.poll() is None:
        time.sleep(0.002)
    first.send_signal(end)
    status, _, errors = done(first)
    assert checkpoint.exists(), errors
    acknowledged = json.loads(checkpoint.read_text())
    assert status == (1 if end == signal.SIGINT else -signal.SIGKILL)
    if end == signal.SIGINT:
        assert f"up to line {acknowledged['line']}" in errors

    status, output, errors = imported(file, service.url)

    assert f"after line {acknowledged['line']}" in errors
    assert 0 < acknowledged["records"] < 215
    # What went in after the checkpoint came twice, and counts once.
    accepted, duplicates, rejected, bad_lines = summary(output)
    assert (status, accepted + duplicates, rejected, bad_lines) == (2, 210, 0, 5)
    assert [one["line"] for one in kept_back(file)] == [2, 53, 104, 155, 206]
    assert sum(totals(service, f"{user}-{n}")["events"] for n in range(7)) == 210
    assert beside(file) == {"a.ndjson.rejected.ndjson"}


def test_a_restart_ignores_the_checkpoint_and_so_does_another_file(
    service: server.Server, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.ndjson", *(line(userId="again", messageId=f"m-{n}") for n in range(5)))
    nobody = silent_url()
    with counting_proxy(service.url, fail_after=1) as (url, _):
        big = write(
            tmp_path / "b.ndjson",
            *(line(userId="again", messageId=f"b-{n}", properties={"x": "x" * 30_000}) for n in range(40)),
        )
        assert imported(big, url, "--patience", "0")[0] == 1
        assert json.loads((tmp_path / "b.ndjson.footfall.json").read_text())["records"] > 0
        # Another address is another import.
        status, output, errors = imported(big, service.url)
        assert "another import" in errors
        assert (status, summary(output)[0] + summary(output)[1]) == (0, 40)
    with counting_proxy(service.url, fail_after=1) as (url, _):
        assert imported(big, url, "--patience", "0")[0] == 1
        _, _, errors = imported(big, url, "--patience", "0", "--restart")
        assert "Going on" not in errors
    assert imported(file, nobody, "--patience", "0")[0] == 1


def in_steps(file: Path, url: str, seen: list[Json]) -> tuple[str, str]:
    """Import through a proxy that takes one batch a run: the first run's errors, and the last one's summary."""
    said = []
    for _ in range(10):
        seen.clear()
        status, output, errors = imported(file, url, "--patience", "0")
        said.append(errors)
        if status != 1:
            return said[0], output
    raise AssertionError(said)


def test_lines_mended_in_place_are_not_skipped(service: server.Server, tmp_path: Path) -> None:
    lines = [line(userId="mender", messageId=f"{n:03d}", properties={"x": "x" * 30_000}) for n in range(40)]
    file = write(tmp_path / "a.ndjson", json.dumps(lines[0])[:-1] + "!", *lines[1:])
    size = file.stat().st_size
    with counting_proxy(service.url, fail_after=1) as (url, seen):
        assert imported(file, url, "--patience", "0")[0] == 1
        assert file.with_name("a.ndjson.footfall.json").exists()
        write(file, *lines)
        assert file.stat().st_size == size
        said, output = in_steps(file, url, seen)

    assert "a.ndjson was changed above line" in said
    assert "Going on" not in said
    assert sum(summary(output)[:2]) == 40
    assert summary(output)[2:] == [0, 0]
    assert totals(service, "mender")["events"] == 40


def test_what_comes_after_the_note_may_change(service: server.Server, tmp_path: Path) -> None:
    lines = [line(userId="after", messageId=f"{n:03d}", properties={"x": "x" * 30_000}) for n in range(40)]
    file = write(tmp_path / "a.ndjson", *lines[:30], "{")
    with counting_proxy(service.url, fail_after=1) as (url, seen):
        assert imported(file, url, "--patience", "0")[0] == 1
        write(file, *lines)
        said, output = in_steps(file, url, seen)

    assert "Going on after line" in said
    # As far as it knows: this may be the database in memory.
    assert "lost what was in its memory" in said
    assert summary(output) == [40, 0, 0, 0]


def test_two_imports_of_one_file_do_not_run_at_once(service: server.Server, tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", line(userId="alone"))
    url = silent_url()
    first = started(file, url)
    try:
        assert first.stderr is not None
        assert "trying again" in first.stderr.readline()
        status, output, errors = imported(file, service.url)
        assert imported(file, url, "--dry-run")[0] == 0
    finally:
        first.kill()
        first.communicate()

    assert (status, output) == (1, "")
    assert errors == f"Error: {file} is being imported already, by another command.\n"
    assert beside(file) == set()
    # The lock goes with its process.
    assert summary(imported(file, service.url)[1]) == [1, 0, 0, 0]
    assert beside(file) == set()


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [("wrong", "401"), ("dev-write-key", "403"), ("nö", "key")],
)
def test_a_wrong_key_stops_it_at_once(service: server.Server, tmp_path: Path, key: str, said: str) -> None:
    file = write(tmp_path / "a.ndjson", line())
    status, output, errors = imported(file, service.url, FOOTFALL_SECRET_KEY=key)

    assert (status, output) == (1, "")
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert key not in errors


def test_something_that_is_no_footfall_is_one_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", line())
    for status, body in [(200, b"<html>"), (200, b"{}"), (404, b"no"), (302, b""), (200, b"[]")]:

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)  # noqa: B023 - answered within the turn
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", str(len(body)))  # noqa: B023
                self.end_headers()
                self.wfile.write(body)  # noqa: B023

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
            thread = threading.Thread(target=listening.serve_forever)
            thread.start()
            code, _, errors = imported(file, f"http://127.0.0.1:{listening.server_address[1]}")
            listening.shutdown()
            thread.join()
        assert (code, len(errors.splitlines())) == (1, 1)
        assert "--url" in errors


@pytest.mark.parametrize("url", ["shop.example", "ftp://shop.example", "http://"])
def test_an_address_that_is_none_is_one_line(tmp_path: Path, url: str) -> None:
    status, _, errors = imported(write(tmp_path / "a.ndjson", line()), url)

    assert (status, len(errors.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("127.0.0.1:{port}", "does not answer"), ("socks5://me:hushed@127.0.0.1:{port}", "http_proxy")],
)
def test_a_proxy_may_lack_its_scheme_and_one_that_is_none_is_one_line(
    tmp_path: Path, proxy: str, said: str
) -> None:
    names = {"http_proxy": proxy.format(port=urlsplit(silent_url()).port), "no_proxy": "", "NO_PROXY": ""}
    status, _, errors = imported(
        write(tmp_path / "a.ndjson", line()), "http://shop.example", "--patience", "0", **names
    )

    assert status == 1
    assert said in errors.splitlines()[-1]
    assert "hushed" not in errors


def test_a_json_array_is_told_from_ndjson(tmp_path: Path) -> None:
    status, _, errors = imported(
        write(tmp_path / "a.json", "[", json.dumps(line()), "]"), "http://127.0.0.1:1"
    )

    assert status == 1
    assert "NDJSON" in errors


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.ndjson"
    os.mkfifo(pipe)
    status, output, errors = imported(pipe, "http://127.0.0.1:1")

    assert (status, output) == (1, "")
    said = f"Error: {pipe} is no regular file: an import reads it more than once. Write it to a file first.\n"
    assert errors == said


def test_an_address_is_looked_at_before_the_key_is_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", line())
    for url in ("shop.example", "http://["):
        status, _, errors = imported(file, url, FOOTFALL_SECRET_KEY="")
        assert (status, errors.count("\n")) == (1, 1)
        assert "is no address" in errors
    assert "FOOTFALL_SECRET_KEY" in imported(file, "https://shop.example", FOOTFALL_SECRET_KEY="")[2]


# --- compressed ------------------------------------------------------------------------------------------------------


def test_a_compressed_file_is_read_whatever_it_is_called(service: server.Server, tmp_path: Path) -> None:
    text = "".join(json.dumps(line(userId="zip", messageId=f"z-{n}")) + "\n" for n in range(3))
    named, unnamed, csv = tmp_path / "a.ndjson.gz", tmp_path / "b.ndjson", tmp_path / "c.tsv.gz"
    named.write_bytes(gzip.compress(text.encode()))
    # Of two members, as files have that were written in turns.
    unnamed.write_bytes(gzip.compress(text.encode()) + gzip.compress(text.encode()))
    csv.write_bytes(gzip.compress(b"Order\tWho\tWhen\tPieces\tPrice\n1\tzipped\t2012-05-01\t2\t0.5\n"))

    assert summary(imported(named, service.url)[1]) == [3, 0, 0, 0]
    assert summary(imported(unnamed, service.url)[1]) == [0, 6, 0, 0]
    assert summary(imported(csv, service.url, "--mapping", mapping(tmp_path))[1]) == [1, 0, 0, 0]
    assert totals(service, "zipped")["itemsSold"] == 2


def test_a_damaged_compressed_file_is_one_line(service: server.Server, tmp_path: Path) -> None:
    texts = [json.dumps(line(userId="damaged", messageId=os.urandom(30).hex())) for _ in range(300)]
    whole = gzip.compress("\n".join(texts).encode())
    file = tmp_path / "a.ndjson.gz"
    for bytes_there, said in (
        (whole[:-20], "cut off"),
        (whole[:5], "cut off"),
        (whole[:-8] + b"\0" * 8, "damaged"),
        (whole[:300] + b"\xff" * 500 + whole[800:], "damaged"),
    ):
        file.write_bytes(bytes_there)
        status, output, errors = imported(file, service.url)
        assert (status, output, errors.count("\n")) == (1, "", 1)
        assert errors.startswith(f"Error: {file} ")
        assert said in errors


# --- CSV -------------------------------------------------------------------------------------------------------------

MAPPING = (
    'group_by = "Order"\nevent = "Order Completed"\nuserId = "{Who}"\ntimestamp = "{When}"\n'
    'properties.revenue = { sum = ["Pieces", "Price"] }\nproperties.currency = "EUR"\n'
    'products.quantity = { value = "{Pieces}", number = true }\n'
)


def mapping(tmp_path: Path, text: str = MAPPING) -> str:
    path = tmp_path / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_lines_of_csv_become_orders(service: server.Server, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.csv",
        "Order,Who,When,Pieces,Price",
        "1,csv,2012-05-01,3,0.10",
        "1,csv,2012-05-01,1,0.205",
        '2,csv,2012-05-01,x,"a, b"',
        "2,csv,2012-05-01,1,1",
        "",
        '3,csv,2012-05-01,2,"9\n"',
        "4,csv,2012-05-01",
        "5,csv,2012-05-01,1,-1",
    )
    status, output, _ = imported(file, service.url, "--mapping", mapping(tmp_path))

    assert (status, summary(output)) == (2, [2, 0, 1, 2])
    assert [(one["line"], one["code"]) for one in kept_back(file)] == [
        (4, "bad_columns"),
        (9, "bad_columns"),
        (10, "invalid_amount"),
    ]
    assert kept_back(file)[0]["reason"].startswith("line 4: ")
    assert kept_back(file)[0]["content"].splitlines()[1] == "2,csv,2012-05-01,1,1"
    numbers = totals(service, "csv")
    assert (numbers["orders"], numbers["itemsSold"], numbers["revenue"]) == (2, 6, {"EUR": 18.51})
    assert summary(imported(file, service.url, "--mapping", mapping(tmp_path))[1]) == [0, 2, 1, 2]


def test_orders_whose_lines_are_apart_are_refused_before_anything_is_sent(
    service: server.Server, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "a.csv",
        "Order,Who,When,Pieces,Price",
        "1,apart,2012-05-01,3,1",
        "2,apart,2012-05-01,3,1",
        "1,apart,2012-05-01,3,1",
    )
    status, _, errors = imported(file, service.url, "--mapping", mapping(tmp_path))

    assert status == 1
    assert "line 4" in errors
    assert "sort" in errors
    assert totals(service, "apart")["events"] == 0


def test_another_encoding_is_read_and_a_wrong_one_spoils_its_lines_alone(
    service: server.Server, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    rows = "Who;When\nlatin;2012-05-01\nJürgen;2012-05-01\n"
    file.write_bytes(rows.encode("latin-1"))
    shape = 'event = "Viewed"\nuserId = "{Who}"\ntimestamp = "{When}"\n[csv]\ndelimiter = ";"\n'

    wrong = imported(file, service.url, "--mapping", mapping(tmp_path, shape))
    assert (wrong[0], summary(wrong[1])) == (2, [1, 0, 0, 1])
    right = imported(file, service.url, "--mapping", mapping(tmp_path, shape + 'encoding = "latin-1"\n'))
    assert (right[0], summary(right[1])) == (0, [1, 1, 0, 0])
    assert totals(service, "Jürgen")["events"] == 1


PLAIN = 'event = "Viewed"\nuserId = "{Who}"\ntimestamp = "{When}"\n'


def test_a_quotation_mark_that_is_not_closed_loses_no_line_in_silence(
    service: server.Server, tmp_path: Path
) -> None:
    good = [f"quoted,2012-05-01T12:00:{second:02d}Z" for second in range(20)]
    file = write(tmp_path / "a.csv", "Who,When", *good[:5], '"quoted,2012-05-01', *good[5:])
    status, output, errors = imported(file, service.url, "--mapping", mapping(tmp_path, PLAIN))

    assert (status, summary(output)) == (2, [5, 0, 0, 1])
    (one,) = kept_back(file)
    assert (one["line"], one["code"]) == (7, "bad_columns")
    assert one["reason"] == "no CSV: a quotation mark is not closed (lines 7 to 22)"
    assert one["content"].splitlines()[1:] == good[5:]
    assert "(lines 7 to 22)" in errors


def test_lines_after_one_that_is_too_long_keep_their_numbers(service: server.Server, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.csv", "Who,When", "long,2012-05-01" + "x" * 1_200_000, "long,2012-05-01", "long,never"
    )
    status, output, _ = imported(file, service.url, "--mapping", mapping(tmp_path, PLAIN))

    assert (status, summary(output)) == (2, [1, 0, 1, 1])
    assert [(one["line"], one["code"]) for one in kept_back(file)] == [
        (2, "bad_columns"),
        (4, "invalid_event"),
    ]
    assert "512000 characters" in kept_back(file)[0]["reason"]


def test_columns_without_a_name_are_nothing_to_stumble_over(service: server.Server, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.csv",
        "Who,When,,",
        "sheet,2012-05-01T01:00:00Z,,",
        "sheet,2012-05-01T02:00:00Z",
        "sheet,2012-05-01T03:00:00Z,a note",
        "sheet",
        "sheet,2012-05-01T04:00:00Z,,,",
    )
    status, output, _ = imported(file, service.url, "--mapping", mapping(tmp_path, PLAIN))

    assert (status, summary(output)) == (2, [3, 0, 0, 2])
    assert [one["line"] for one in kept_back(file)] == [5, 6]


def test_a_tsv_has_tabs_unless_the_mapping_says_otherwise(service: server.Server, tmp_path: Path) -> None:
    tabs = write(tmp_path / "a.tsv", "Who\tWhen", "tabs\t2012-05-01T01:00:00Z")
    commas = write(tmp_path / "b.tsv", "Who,When", "tabs,2012-05-01T02:00:00Z")
    told = PLAIN + '[csv]\ndelimiter = ","\n'

    assert summary(imported(tabs, service.url, "--mapping", mapping(tmp_path, PLAIN))[1]) == [1, 0, 0, 0]
    assert summary(imported(commas, service.url, "--mapping", mapping(tmp_path, told))[1]) == [1, 0, 0, 0]


def test_utf_16_is_known_when_it_is_seen_and_read_when_the_mapping_says_it(
    service: server.Server, tmp_path: Path
) -> None:
    file, bare = tmp_path / "a.csv", tmp_path / "b.csv"
    rows = "Who,When\r\nJérôme,2012-05-01\r\n"
    file.write_bytes(rows.encode("utf-16"))
    bare.write_bytes(rows.encode("utf-16-le"))

    for one in (file, bare):
        status, _, errors = imported(one, service.url, "--mapping", mapping(tmp_path, PLAIN))
        assert (status, errors.count("\n")) == (1, 1)
        assert 'encoding = "utf-16"' in errors
    told = mapping(tmp_path, PLAIN + '[csv]\nencoding = "utf-16"\n')
    assert summary(imported(file, service.url, "--mapping", told)[1]) == [1, 0, 0, 0]
    assert totals(service, "Jérôme")["events"] == 1
    lines = tmp_path / "a.ndjson"
    lines.write_bytes("{}\n".encode("utf-16"))
    assert "UTF-16" in imported(lines, service.url)[2]


@pytest.mark.parametrize(
    ("arguments", "text", "status", "said"),
    [
        ([], None, 2, "--mapping"),
        (["--format", "ndjson", "--mapping", "?"], MAPPING, 2, "--format"),
        (["--mapping", "?"], "userId = {", 1, "mapping.toml"),
        (["--mapping", "?"], MAPPING + "x = 1", 1, "mapping.toml"),
        (["--mapping", "?"], MAPPING.replace("{Who}", "{Whom}"), 1, "no column Whom"),
    ],
)
def test_a_mapping_that_does_not_fit_is_named(
    tmp_path: Path, arguments: list[str], text: str | None, status: int, said: str
) -> None:
    file = write(tmp_path / "a.csv", "Order,Who,When,Pieces,Price", "1,x,2012-05-01,3,1")
    if text is not None:
        arguments = [mapping(tmp_path, text) if one == "?" else one for one in arguments]
    code, output, errors = imported(file, "http://127.0.0.1:1", *arguments)

    assert (code, output) == (status, "")
    assert said in errors


# --- a dry run -------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_go_in_and_sends_nothing(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.ndjson",
        line(),
        line(event="Order Completed", timestamp="2013-01-02", properties={"revenue": "9.90"}),
        line(event="Order Completed", properties={"revenue": "nine"}),
        "{",
    )
    status, output, errors = imported(file, silent_url(), "--dry-run")

    assert status == 2
    assert "would send 2 events, 2012-05-01 to 2013-01-02" in output
    assert "1  Order Completed" in output
    assert "would keep back 2" in output
    assert '"event": "Viewed"' in output
    assert "line 3: invalid_amount" in errors
    assert "line 4: invalid_json" in errors
    assert beside(file) == set()


def test_help_has_examples() -> None:
    for command in ("import", "export", "run", "table", "key"):
        shown = subprocess.run(
            [sys.executable, "-m", "service", command, "--help"],
            cwd=server.ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"python -m service {command}" in shown.stdout.partition("Options:")[0].partition("\n")[2]
