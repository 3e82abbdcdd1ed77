"""Starting and stopping a server process, shown on small servers that misbehave on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from tests import server

GOOD = """
import http.server, os, signal, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["FLAVOUR"].encode())
    def log_message(self, *arguments):
        pass
print("ready", sys.argv[1:], flush=True)
try:
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health).serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
"""
IGNORES_INTERRUPTS = GOOD.replace("print(", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint(", 1)
DIES = "print('no such table'); raise SystemExit(3)"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in whose place `python -m service` looks for the service."""
    (tmp_path / "service").mkdir()
    monkeypatch.setattr(server, "ROOT", tmp_path)
    return tmp_path


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_handed_over_when_it_answers_and_gone_afterwards(root: Path) -> None:
    (root / "service" / "__main__.py").write_text(GOOD, encoding="utf-8")
    with server.running({"FLAVOUR": "mint"}) as started:
        assert httpx.get(f"{started.url}/health", trust_env=False).text == "mint"
        assert started.output() == "ready ['run']\n"

    assert started.process.returncode == 0


def test_one_that_dies_at_once_is_reported_with_its_words(root: Path) -> None:
    (root / "service" / "__main__.py").write_text(DIES, encoding="utf-8")
    with (
        pytest.raises(AssertionError, match=r"ended with 3 before it answered:\nno such table"),
        server.running(),
    ):
        pass


def test_one_that_ignores_an_interrupt_is_killed_and_reported(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "service" / "__main__.py").write_text(IGNORES_INTERRUPTS, encoding="utf-8")
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    pids = []
    with pytest.raises(AssertionError, match="still there"), server.running({"FLAVOUR": ""}) as started:
        pids.append(started.process.pid)

    assert [_is_there(pid) for pid in pids] == [False]
