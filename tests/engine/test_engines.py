"""The engines start, answer, stop, and say in one line why they cannot."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engines import __main__ as command_line
from engines import dynamodb, install, java, opensearch
from engines.errors import EngineError, EngineMissingError
from engines.process import free_port
from tests.conftest import skip_or_fail

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, an empty place for the jars, and no other Java to be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "FOLDERS", [tmp_path / "jvm"])
    monkeypatch.setattr(install, "CACHE", tmp_path / "cache")
    return folder


def _make_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def _make_jdk(home: Path, version: str, *, with_compiler: bool = True) -> None:
    _make_program(home / "bin", "java", "exit 1")
    if with_compiler:
        _make_program(home / "bin", "javac", "exit 1")
    (home / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n', encoding="utf-8")


def _listens(url: str) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()
        return True
    return False


@contextlib.contextmanager
def _foreground(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "engines", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise


# --- for real --------------------------------------------------------------------------------------------------------


def test_two_run_side_by_side_and_both_are_gone_afterwards(dynamodb_url: str) -> None:
    with dynamodb.running() as engine:
        assert engine.url != dynamodb_url
        assert _listens(engine.url)
        assert _listens(dynamodb_url)

    assert not _listens(engine.url)
    assert _listens(dynamodb_url)


def test_a_taken_port_is_refused(dynamodb_url: str) -> None:
    port = int(dynamodb_url.rpartition(":")[2])
    with pytest.raises(EngineError, match=f"port {port} is taken"), dynamodb.running(port):
        pass


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_runs_until_a_signal_and_leaves_nothing_behind(
    dynamodb_url: str, signal_number: signal.Signals
) -> None:
    # The fixture is asked for because it skips where there is no Java.
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _foreground("dynamodb", str(port)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        listened = _listens(url)
        process.send_signal(signal_number)

    assert lines == [
        f"DynamoDB Local at {url}, in memory\n",
        f"  use it with: AWS_ENDPOINT_URL_DYNAMODB={url} make run\n",
        "Ctrl-C stops it.\n",
    ]
    assert listened
    assert process.returncode == 0
    assert not _listens(url)


def test_both_run_in_the_foreground_and_opensearch_finds_what_was_put_there() -> None:
    try:
        java.find(opensearch.NAME, opensearch.JAVA_MINIMUM)
    except EngineMissingError as error:
        skip_or_fail(str(error))
    ports = str(free_port()), str(free_port())
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with _foreground("run", "--dynamodb-port", ports[0], "--opensearch-port", ports[1]) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] not in ("", "Ctrl-C stops it.\n"):
            lines.append(process.stdout.readline())
        with httpx.Client(base_url=urls[1], trust_env=False, timeout=30) as client:
            version = client.get("/").json()["version"]["number"]
            put = client.put("/visits/_doc/1?refresh=true", json={"name": "Product Viewed"})
            found = client.post("/visits/_search", json={"query": {"term": {"name": "product"}}})
        process.send_signal(signal.SIGINT)

    assert lines[2] == f"OpenSearch at {urls[1]}, its data gone when it stops\n"
    assert install.pinned_version("opensearch").startswith(f"{version}.")
    assert put.status_code == 201
    assert [hit["_id"] for hit in json.loads(found.text)["hits"]["hits"]] == ["1"]
    assert process.returncode == 0
    assert [_listens(url) for url in urls] == [False, False]


# --- on machines made up for it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [[], ["dynamodb"], ["dynamodb", "http"], ["opensearch", "0"], ["run", "1"]]
)
def test_other_arguments_are_answered_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m engines")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("dynamodb", "DynamoDB Local needs Java 17 or newer; `java` is not on the PATH\n"),
        ("opensearch", "OpenSearch needs Java 21 or newer; `java` is not on the PATH\n"),
    ],
)
def test_without_java_it_says_so(
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    message: str,
) -> None:
    # The signals of the test run are its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    assert command_line.main([command, "18001"]) == 1
    assert capsys.readouterr().err == message


def test_an_old_java_is_refused(programs: Path) -> None:
    _make_program(programs, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(EngineMissingError, match=r"needs Java 17 or .* says: openjdk version .11"):
        java.find("DynamoDB Local", 17)


def test_beside_an_old_java_the_newest_installed_one_is_taken(programs: Path, tmp_path: Path) -> None:
    _make_program(programs, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    _make_jdk(tmp_path / "jvm" / "first", "17.0.1")
    _make_jdk(tmp_path / "jvm" / "second", "21.0.9")
    _make_jdk(tmp_path / "jvm" / "third", "25", with_compiler=False)
    (tmp_path / "jvm" / "empty").mkdir()

    assert java.find("OpenSearch", 21).version == 25
    assert java.find("OpenSearch", 21, with_compiler=True).version == 21
    with pytest.raises(EngineMissingError, match="needs JDK 22 or newer, with javac"):
        java.find("OpenSearch", 22, with_compiler=True)


def test_the_java_of_the_path_is_preferred_when_it_will_do(programs: Path, tmp_path: Path) -> None:
    _make_program(programs, "java", """echo 'openjdk version "21.0.2" 2024-01-16' >&2""")
    _make_jdk(tmp_path / "jvm" / "newer", "25")

    assert java.find("OpenSearch", 21) == java.Java(str(programs / "java"), 21)


def test_without_maven_it_says_so(programs: Path) -> None:
    with pytest.raises(EngineMissingError, match="`mvn` is not on the PATH"):
        dynamodb.jars()


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
            EngineError, match=r"could not fetch .*: \[ERROR\] Could not transfer \| "
        ) as raised:
            dynamodb.jars()

    assert "\n" not in str(raised.value)
    assert list(install.CACHE.iterdir()) == []


def test_a_class_that_does_not_compile_leaves_nothing_behind(programs: Path, tmp_path: Path) -> None:
    _make_program(programs, "mvn", "exit 0")
    _make_jdk(tmp_path / "jvm" / "jdk", "21")
    _make_program(tmp_path / "jvm" / "jdk" / "bin", "javac", "echo 'no such class'; exit 1")
    with pytest.raises(EngineError, match=r"javac could not compile OpenSearchNode.java: no such class"):
        opensearch.jars()

    assert list(install.CACHE.iterdir()) == []


def test_what_is_there_is_not_fetched_again(programs: Path) -> None:
    _make_program(
        programs, "mvn", 'for a in "$@"; do case $a in -DoutputDirectory=*) : >"${a#*=}/one.jar";; esac; done'
    )
    first = dynamodb.jars()
    (programs / "mvn").unlink()

    assert dynamodb.jars() == first
    assert [path.name for path in first.iterdir()] == ["one.jar"]
    assert list(install.CACHE.iterdir()) == [first]


JAVA_17 = "case $1 in\n-version) echo 'openjdk version \"17.0.1\"' >&2;;\n*) {script};;\nesac"


def test_an_engine_that_ends_at_once_is_reported_with_its_last_words(programs: Path) -> None:
    _make_program(programs, "mvn", "exit 0")
    _make_program(programs, "java", JAVA_17.format(script="echo 'no more memory'; exit 1"))
    with pytest.raises(EngineError, match=r"did not start with .*: .*no more memory"), dynamodb.running():
        pass


def test_an_engine_that_ends_later_is_reported_too(programs: Path) -> None:
    _make_program(programs, "mvn", "exit 0")
    server = f"echo 'full disk'; exec {sys.executable} -m http.server --bind 127.0.0.1 $port"
    _make_program(
        programs, "java", JAVA_17.format(script=f'for port in "$@"; do :; done; {server} >/dev/null 2>&1')
    )
    with dynamodb.running() as engine:
        engine.check()
        engine.process.kill()
        engine.process.wait()
        with pytest.raises(EngineError, match="DynamoDB Local ended with -9: full disk"):
            engine.check()
