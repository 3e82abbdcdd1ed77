"""One server for each module, the clients as the registry has them, and a gateway that can lose replies."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests import server
from tests.clients import gateway
from tests.conftest import skip_or_fail
from tests.pages import ROOT

pytest.register_assert_rewrite("tests.clients.visit")

HERE = Path(__file__).parent
PACKAGES = ROOT / ".cache" / "clients" / "node_modules"
TIMEOUT_SECONDS = 120

Run = Callable[..., str]


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with server.running(server.at_noon()) as started:
        yield started.url


@pytest.fixture
def wire(service: str) -> Iterator[gateway.Gateway]:
    """The way to the service, each test's own: what a page sends when it is closed is not the next one's."""
    with gateway.running(service) as opened:
        yield opened


@pytest.fixture
def node(tmp_path: Path) -> Run:
    """Runs a program of Node's in a folder where the clients are installed."""
    if shutil.which("node") is None:
        skip_or_fail("no Node on the PATH (Debian: apt-get install nodejs npm)")
    lock = PACKAGES.parent / ".lock"
    if not lock.exists() or lock.read_bytes() != (HERE / "package-lock.json").read_bytes():
        skip_or_fail("the clients of the lock are not installed (make install-clients)")
    (tmp_path / "node_modules").symlink_to(PACKAGES)

    def run(*command: str) -> str:
        return run_program(["node", *command], tmp_path)

    return run


def run_program(command: Sequence[str], folder: Path) -> str:
    """What the program said; it has to end well."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
