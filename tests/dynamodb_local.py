"""AWS's DynamoDB Local as a child process, without a container.

Its jars come from Maven Central by engines/pom.xml, once, into .engines/. Each start is an empty database
in memory. It listens on every interface (it has no option for that), so it is for tests and development.

    python -m tests.dynamodb_local 8001     then: AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:8001 make run
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "engines" / "pom.xml"
CACHE = ROOT / ".engines"
MAIN_CLASS = "software.amazon.dynamodb.services.local.main.ServerRunner"
JAVA_MINIMUM = 17
START_SECONDS = 60
STOP_SECONDS = 15

# A test engine lives for seconds: the first compiler tier and the serial collector halve its start.
JVM_OPTIONS = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


class EngineError(Exception):
    """DynamoDB Local cannot be had or started here; the message is one line that says why."""


class EngineMissingError(EngineError):
    """The machine lacks Java or Maven, which is no fault of the project."""


def install() -> Path:
    """The folder with DynamoDB Local's jars, fetched on the first call.

    The jars are copied beside their place and renamed into it when Maven has succeeded, so a download
    that broke off is never taken for a whole one, and two runs at once do no harm to each other.
    """
    version = _pinned_version()
    folder = CACHE / f"dynamodb-local-{version}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise EngineMissingError("DynamoDB Local needs Maven at its first start; `mvn` is not on the PATH")
    CACHE.mkdir(exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=CACHE))
    try:
        done = subprocess.run(
            [
                maven,
                "--quiet",
                "--batch-mode",
                f"--file={POM}",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={unfinished}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EngineError(f"Maven could not fetch DynamoDB Local {version}: {_last_lines(done.stdout)}")
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another run was faster: its folder is as good as ours. Anything else is a real error.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


@contextlib.contextmanager
def running(port: int | None = None) -> Iterator[str]:
    """Start DynamoDB Local, hand over its URL, and stop it: the process started here and no other."""
    java, java_version = _java()
    jars = install()
    with tempfile.TemporaryFile() as log:
        process, port = _start(java, java_version, jars, port, log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(
    java: str, java_version: int, jars: Path, wanted_port: int | None, log: IO[bytes]
) -> tuple[subprocess.Popen[bytes], int]:
    # A free port can be taken by somebody else before the engine binds it, hence a few tries.
    for _ in range(1 if wanted_port else 3):
        port = wanted_port or free_port()
        if _answers(port):
            raise EngineError(f"port {port} is taken")
        command = [
            java,
            *JVM_OPTIONS,
            # From Java 22 on, loading the engine's native library without this prints a warning.
            *(["--enable-native-access=ALL-UNNAMED"] if java_version > JAVA_MINIMUM else []),
            f"-Dsqlite4java.library.path={jars}",
            f"-Djava.library.path={jars}",
            "-cp",
            f"{jars}{os.sep}*",
            MAIN_CLASS,
            "-inMemory",
            "-sharedDb",
            "-disableTelemetry",
            "-port",
            str(port),
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            if _wait_until_it_answers(process, port):
                return process, port
        except BaseException:
            process.kill()
            process.wait()
            raise
    log.seek(0)
    output = _last_lines(log.read().decode(errors="replace"))
    raise EngineError(f"DynamoDB Local did not start with {java}: {output}")


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        if _answers(port):
            return True
        time.sleep(0.05)
    raise EngineError(f"DynamoDB Local did not answer on port {port} within {START_SECONDS} s")


def _answers(port: int) -> bool:
    """Whether anything speaks HTTP on this port; the engine refuses an unsigned GET, which is an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _java() -> tuple[str, int]:
    """The Java that JAVA_HOME names, else the one on the PATH, and its major version."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise EngineMissingError(
            f"DynamoDB Local needs Java {JAVA_MINIMUM} or newer; `java` is not on the PATH"
        )
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', shown)
    version = int(found[1]) if found else 0
    if version < JAVA_MINIMUM:
        said = next(iter(shown.splitlines()), "nothing")
        raise EngineMissingError(f"DynamoDB Local needs Java {JAVA_MINIMUM} or newer; {java} says: {said}")
    return java, version


def _pinned_version() -> str:
    found = re.search(r"<dynamodb\.version>([^<]+)</dynamodb\.version>", POM.read_text(encoding="utf-8"))
    if found is None:
        raise EngineError(f"{POM} names no dynamodb.version")
    return found[1]


def _last_lines(output: str, count: int = 4) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() not in ("", "[ERROR]")]
    return " | ".join(lines[-count:]) or "it printed nothing"


def _stop(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Run the engine in the foreground until Ctrl-C."""
    if len(arguments) != 1 or not arguments[0].isdecimal() or not 0 < int(arguments[0]) < 65_536:
        print("usage: python -m tests.dynamodb_local PORT", file=sys.stderr)
        return 2
    # Neither signal may leave the engine behind; a shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with running(int(arguments[0])) as url:
            print(f"DynamoDB Local at {url}, in memory. Ctrl-C stops it.", flush=True)
            print(f"Use it with: AWS_ENDPOINT_URL_DYNAMODB={url} make run", flush=True)
            while True:
                time.sleep(3600)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
