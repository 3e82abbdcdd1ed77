"""The engine starts, stops, and says in one line why it cannot."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import dynamodb_local

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, and an empty place for the jars."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(dynamodb_local, "CACHE", tmp_path / "cache")
    return folder


def _make_program(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def _listens(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except ConnectionRefusedError:
            return False


def test_two_run_side_by_side_and_both_are_gone_afterwards(dynamodb_url: str) -> None:
    with dynamodb_local.running() as url:
        assert url != dynamodb_url
        assert _listens(url)
        assert _listens(dynamodb_url)

    assert not _listens(url)
    assert _listens(dynamodb_url)


def test_a_taken_port_is_refused(dynamodb_url: str) -> None:
    port = int(dynamodb_url.rpartition(":")[2])
    with (
        pytest.raises(dynamodb_local.EngineError, match=f"port {port} is taken"),
        dynamodb_local.running(port),
    ):
        pass


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_runs_until_a_signal_and_leaves_nothing_behind(
    dynamodb_url: str, signal_number: signal.Signals
) -> None:
    # The fixture is asked for because it skips where there is no Java.
    port = dynamodb_local.free_port()
    command = [sys.executable, "-m", "tests.dynamodb_local", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        listened = _listens(f"http://127.0.0.1:{port}")
        process.send_signal(signal_number)

    assert line == f"DynamoDB Local at http://127.0.0.1:{port}, in memory. Ctrl-C stops it.\n"
    assert listened
    assert process.returncode == 0
    assert not _listens(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("arguments", [[], ["http"], ["0"], ["70000"], ["1", "2"]])
def test_other_arguments_are_answered_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dynamodb_local.main(arguments) == 2
    assert capsys.readouterr().err == "usage: python -m tests.dynamodb_local PORT\n"


def test_without_java_it_says_so(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dynamodb_local.main(["18001"]) == 1
    assert capsys.readouterr().err == "DynamoDB Local needs Java 17 or newer; `java` is not on the PATH\n"


def test_an_old_java_is_refused(programs: Path) -> None:
    _make_program(programs, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with (
        pytest.raises(
            dynamodb_local.EngineMissingError, match=r"needs Java 17 or .* says: openjdk version .11"
        ),
        dynamodb_local.running(),
    ):
        pass


def test_without_maven_it_says_so(programs: Path) -> None:
    with pytest.raises(dynamodb_local.EngineMissingError, match="`mvn` is not on the PATH"):
        dynamodb_local.install()


def test_a_download_that_breaks_off_is_not_taken_for_a_whole_one(programs: Path) -> None:
    # It writes a jar, as Maven does before it meets the one that it cannot get.
    _make_program(
        programs,
        "mvn",
        'for a in "$@"; do case $a in -DoutputDirectory=*) : >"${a#*=}/half.jar";; esac; done\n'
        'echo "[ERROR] Could not transfer"; echo "[ERROR]"; echo "[ERROR] help 1"; exit 1',
    )
    for _ in range(2):
        with pytest.raises(
            dynamodb_local.EngineError, match=r"could not fetch .*: \[ERROR\] Could not transfer \| "
        ) as raised:
            dynamodb_local.install()

    assert "\n" not in str(raised.value)
    assert list(dynamodb_local.CACHE.iterdir()) == []


def test_what_is_there_is_not_fetched_again(programs: Path) -> None:
    _make_program(
        programs, "mvn", 'for a in "$@"; do case $a in -DoutputDirectory=*) : >"${a#*=}/one.jar";; esac; done'
    )
    first = dynamodb_local.install()
    (programs / "mvn").unlink()

    assert dynamodb_local.install() == first
    assert [path.name for path in first.iterdir()] == ["one.jar"]
    assert list(dynamodb_local.CACHE.iterdir()) == [first]


def test_an_engine_that_ends_at_once_is_reported_with_its_last_words(programs: Path) -> None:
    _make_program(programs, "mvn", "exit 0")
    _make_program(
        programs,
        "java",
        "case $1 in\n"
        "-version) echo 'openjdk version \"17.0.1\"' >&2;;\n"
        "*) echo 'no more memory'; exit 1;;\n"
        "esac",
    )
    with (
        pytest.raises(dynamodb_local.EngineError, match=r"did not start with .*: .*no more memory"),
        dynamodb_local.running(),
    ):
        pass
