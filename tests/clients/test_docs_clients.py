"""docs/clients.md says which versions were run: those that are installed. And its commands, run."""

from __future__ import annotations

import json
import re
import shutil
from importlib import metadata

import pytest

from tests.clients import snippets, visit
from tests.clients.conftest import HERE, run_program
from tests.clients.gateway import Gateway
from tests.conftest import skip_or_fail


def test_the_versions_of_the_page_are_those_that_are_run() -> None:
    text = snippets.PAGE.read_text(encoding="utf-8")
    shown = dict(re.findall(r"`(\S+)` \| (\d+\.\d+\.\d+)", text))
    wanted = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    locked = {name: lock[f"node_modules/{name}"]["version"] for name in wanted}
    python = "segment-analytics-python"

    assert shown == locked | {python: metadata.version(python)}
    assert locked == wanted


def test_the_lock_says_nothing_of_where_packages_came_from() -> None:
    text = (HERE / "package-lock.json").read_text(encoding="utf-8")

    assert "resolved" not in text
    assert text.count('"integrity"') == text.count('"node_modules/')


def test_every_section_that_has_a_program_is_run() -> None:
    """Those of the other test files, and this one's; a new one needs a test of its own."""
    headings = re.findall(r"^## (.+)$", snippets.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    with_files = {heading for heading in headings if snippets.files(heading)}

    assert with_files == {
        "Node",
        "Python",
        "Browser",
        "RudderStack on Node",
        "A plain page",
        "A theme",
        "Google Tag Manager",
    }


def test_curl(service: str, wire: Gateway, tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("curl") is None:
        skip_or_fail("no curl on the PATH")
    one = visit.Visit()
    asked = snippets.console("curl", wire.url, one.words())
    for _ in range(2):
        for command in asked:
            run_program(["sh", "-c", command], tmp_path_factory.getbasetemp())

    assert len(asked) == 3
    assert wire.rejected() == []
    assert set(wire.deliveries().values()) == {2}
    visit.check(service, one.user, one.visitor)
