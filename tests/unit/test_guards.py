"""What the test suite promises about itself: no network where there must be none, nothing skipped in CI."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

SKIPPING = {
    "by_a_call": "import pytest\ndef test_it() -> None:\n    pytest.skip('no cheese')\n",
    "by_a_mark": "import pytest\n@pytest.mark.skip(reason='no cheese')\ndef test_it() -> None:\n    pass\n",
    "as_a_module": "import pytest\npytest.skip('no cheese', allow_module_level=True)\n",
    "as_a_module_that_lacks_something": (
        "from tests.conftest import skip_or_fail\nskip_or_fail('no cheese')\n"
    ),
    "by_a_fixture": (
        "import pytest\nfrom tests.conftest import skip_or_fail\n"
        "@pytest.fixture\ndef cheese() -> None:\n    skip_or_fail('no cheese')\n"
        "def test_it(cheese: None) -> None:\n    pass\n"
    ),
}


def _run_pytest(folder: Path, ci: str, **sources: str) -> subprocess.CompletedProcess[str]:
    """Run test files of their own, by name, under this suite's conftest."""
    for name, source in sources.items():
        (folder / f"test_{name}.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--continue-on-collection-errors", f"--rootdir={folder}", "-c", os.devnull, str(folder)],
        cwd=ROOT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_kind_of_skip_fails_in_ci_and_names_its_reason(tmp_path: Path) -> None:
    done = _run_pytest(tmp_path, ci="true", **SKIPPING)
    last = done.stdout.splitlines()[-1]

    assert done.returncode == 1
    # A skip outside of the test itself is an error and not a failure.
    assert re.findall(r"(\d+) (\w+)", last)[:2] == [("1", "failed"), ("4", "errors")]
    assert done.stdout.count("no cheese") >= len(SKIPPING)


def test_elsewhere_a_skip_is_a_skip_and_names_its_reason(tmp_path: Path) -> None:
    done = _run_pytest(tmp_path, ci="", **SKIPPING)

    assert f"{len(SKIPPING)} skipped" in done.stdout.splitlines()[-1]
    assert done.stdout.count("no cheese") == len(SKIPPING)


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.xfail\ndef test_it() -> None:\n    assert False\n"
    done = _run_pytest(tmp_path, ci="true", it=source)

    assert done.returncode == 0
    assert "1 xfailed" in done.stdout


def test_a_unit_test_cannot_even_reach_this_machine() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.socket() as caller, pytest.raises(RuntimeError, match="a unit test tried"):
            caller.connect(listener.getsockname())


def test_other_tests_reach_this_machine_and_no_other(tmp_path: Path) -> None:
    source = (
        "import socket, pytest\n"
        "def test_it() -> None:\n"
        "    with socket.socket() as listener, socket.socket() as caller:\n"
        "        listener.bind(('127.0.0.1', 0))\n"
        "        listener.listen()\n"
        "        caller.connect(listener.getsockname())\n"
        "    with socket.socket() as caller:\n"
        "        for connect in (caller.connect, caller.connect_ex):\n"
        "            with pytest.raises(RuntimeError, match='192.0.2.1'):\n"
        "                connect(('192.0.2.1', 443))\n"
        "    with pytest.raises(RuntimeError, match='example.com'):\n"
        "        socket.create_connection(('example.com', 443))\n"
    )
    done = _run_pytest(tmp_path, ci="true", it=source)

    assert done.returncode == 0, done.stdout


def test_no_setting_of_the_developer_reaches_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_DYNAMODB", "FOOTFALL_TABLE", "PORT"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    source = (
        "import os, botocore.session\n"
        "def test_it() -> None:\n"
        "    assert 'mine' not in os.environ.values()\n"
        "    assert 'testing' == botocore.session.get_session().get_credentials().access_key\n"
    )
    done = _run_pytest(tmp_path, ci="true", it=source)

    assert done.returncode == 0, done.stdout


def test_urls_are_refused_too() -> None:
    with pytest.raises(RuntimeError, match="a unit test tried"):
        urllib.request.urlopen("http://127.0.0.1:9/")
