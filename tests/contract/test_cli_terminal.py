"""The commands at a terminal: a bar that moves and is never written over, and other consoles than UTF-8's."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from service.dynamodb import Table
from tests import server
from tests.builders import make_event, post

# Long before anything a test waits for would take so long by itself.
TIMEOUT_SECONDS = 60
BAR = re.compile(r"\[#*-*\] +(\d+) %  line ([\d,]+)(?:, \d+:\d\d:\d\d left)?")
BAD = "invalid_json: not JSON"

# Is told the number of the request, before it is answered; True is no answer.
OnRequest = Callable[[int], bool]


@contextlib.contextmanager
def accepting(on_request: OnRequest = lambda _: False, busy: int | None = None) -> Iterator[str]:
    """A service that takes every event, but for one request, to which it is busy."""
    requests = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal requests
            body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            requests += 1
            if on_request(requests):
                self.close_connection = True
                return
            count = len(json.loads(body)["batch"])
            reply = {"accepted": count, "duplicates": 0, "rejectedCount": 0, "rejected": []}
            content = json.dumps(reply).encode()
            self.send_response(503 if requests == busy else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


class Terminal:
    """A command with a terminal for all its streams."""

    def __init__(
        self, *arguments: str, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> None:
        self._mine, its = pty.openpty()
        termios.tcsetwinsize(its, (24, columns))
        variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            cwd=server.ROOT,
            env=variables | {"FOOTFALL_SECRET_KEY": "dev-secret-key"} | dict(environment or {}),
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        self.written = ""

    def done(self) -> int:
        """Its status, once it has ended; `written` is what came out of it."""
        parts = []
        # The last writer's end is an error here, and no end of file.
        with contextlib.suppress(OSError), os.fdopen(self._mine, "rb", buffering=0) as stream:
            while part := stream.read(65_536):
                parts.append(part)
        self.written = b"".join(parts).decode()
        assert "Traceback" not in self.written, self.written
        return self.process.wait(TIMEOUT_SECONDS)

    def screen(self) -> list[str]:
        """What stands there at the end, as an endless paper would have it."""
        lines, row, column = [""], 0, 0
        for character in self.written:
            if character == "\n":
                lines, row = [*lines, ""], row + 1
            elif character == "\r":
                column = 0
            else:
                assert character.isprintable(), repr(character)
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]

    def shares(self) -> list[int]:
        """How far the bar was each time it was drawn, in percent."""
        return [int(percent) for percent, _ in BAR.findall(self.written)]


def history(path: Path, batches: int = 4) -> Path:
    """Events of which 25 make a request, and a line between each that is none."""
    events = [
        json.dumps(
            {
                "type": "track",
                "event": "Viewed",
                "userId": "u-1",
                "timestamp": "2012-05-01",
                "messageId": f"m-{number}",
                "properties": {"x": "x" * 20_000},
            }
        )
        for number in range(25 * batches)
    ]
    lines = [
        line for number, line in enumerate(events) for line in (["{"] if number % 25 == 10 else []) + [line]
    ]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_bar_moves_to_its_end_and_lines_kept_back_stand_above_it(tmp_path: Path) -> None:
    file = history(tmp_path / "a.ndjson")
    with accepting(busy=2) as url:
        terminal = Terminal("import", str(file), "--url", url)
        status = terminal.done()

    shares, screen = terminal.shares(), terminal.screen()
    assert status == 2
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)
    assert len(set(shares)) >= 5
    bad = [f"line {number}: {BAD}" for number in (11, 37, 63, 89)]
    busy = f"{url} answers 503; trying again …"
    assert sorted(screen[:5]) == sorted([*bad, busy])
    assert [line for line in screen[:5] if line in bad] == bad
    assert screen[5] == "[########################] 100 %  line 104"
    assert screen[6] == f"They are in {file}.rejected.ndjson."
    assert screen[7].split() == ["accepted", "100"]


def test_ctrl_c_leaves_the_bar_where_it_is_and_one_line_and_the_next_goes_on(tmp_path: Path) -> None:
    file = history(tmp_path / "a.ndjson")
    stopped: list[Terminal] = []

    def interrupt(request: int) -> bool:
        if request == 3:
            stopped[0].process.send_signal(signal.SIGINT)
            stopped[0].process.wait(TIMEOUT_SECONDS)
        return request == 3

    with accepting(interrupt) as url:
        stopped.append(Terminal("import", str(file), "--url", url))
        status = stopped[0].done()
        written = json.loads((tmp_path / "a.ndjson.footfall.json").read_text(encoding="utf-8"))
        again = Terminal("import", str(file), "--url", url)
        status_again = again.done()

    shares = stopped[0].shares()
    *_, bar, said, end = stopped[0].screen()
    assert status == 1
    assert 0 < shares[-1] < 100
    shown = BAR.fullmatch(bar)
    assert shown is not None, bar
    assert (int(shown[1]), int(shown[2])) == (shares[-1], written["line"])
    assert said == f"Stopped. Everything up to line {written['line']} is in; the same command goes on there."
    assert end == ""
    assert status_again == 2
    said = " ".join(again.screen())
    assert said.startswith(
        f"Going on after line {written['line']}; --restart begins anew if the service lost "
    )
    assert again.shares()[0] == shares[-1]
    assert again.shares()[-1] == 100
    assert "accepted    100" in again.screen()


def test_a_narrow_terminal_has_a_shorter_line(tmp_path: Path) -> None:
    file = history(tmp_path / "a.ndjson", 2)
    with accepting() as url:
        terminal = Terminal("import", str(file), "--url", url, columns=40)
        terminal.done()

    drawn = [line for line in re.split(r"[\r\n]+", terminal.written) if line.startswith("[")]
    assert len(drawn) >= 3
    assert max(map(len, drawn)) == 39


def test_an_export_ends_with_its_numbers_alone(
    client: httpx.Client, table: Table, dynamodb_url: str, tmp_path: Path
) -> None:
    post(client, [make_event()])
    where = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url, "FOOTFALL_TABLE": table.name}
    terminal = Terminal("export", "--out", str(tmp_path / "out.ndjson"), environment=where)
    status = terminal.done()
    whole = Terminal("export", environment=where)
    whole.done()

    assert status == 0
    assert "\r1 days" in terminal.written
    shown, end = terminal.screen()
    assert re.fullmatch(r"1 days, 0 anonymous ids \([\d.]+ RRU\)", shown)
    assert end == ""
    # The lines themselves have the terminal to themselves.
    assert json.loads(whole.screen()[0])["events"] == 1


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_a_console_of_another_encoding_gets_what_it_can_show(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.ndjson"
    event = {"type": "track", "event": "目", "userId": "u-1", "timestamp": "2012-05-01"}
    file.write_text(json.dumps(event, ensure_ascii=False) + "\n", encoding="utf-8")

    for arguments in (["import", "--help"], ["import", str(file), "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=server.ROOT,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert rb"1  \u76ee" in done.stdout
