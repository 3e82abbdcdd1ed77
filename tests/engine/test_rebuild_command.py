"""`python -m service index`, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service import indices
from service.opensearch import Engine
from tests import opensearch_local
from tests.engine.index_stage import IndexStage, staged
from tests.engine.rebuilding import event, order


@pytest.fixture
def stage(dynamodb_url: str, engine: Engine) -> Iterator[IndexStage]:
    with staged(dynamodb_url, engine) as stage:
        yield stage


def command(stage: IndexStage, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_DYNAMODB": stage.url,
        "FOOTFALL_TABLE": stage.shop.table.name,
        "FOOTFALL_RAW_EVENTS": "1",
        "FOOTFALL_OPENSEARCH_URL": stage.engine.url,
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "service", "index", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_sets_up_rebuilds_and_retires(dynamodb_url: str, opensearch_url: str) -> None:
    """Under the name that deployments have."""
    with opensearch_local.as_deployed(opensearch_url) as engine, staged(dynamodb_url, engine) as stage:
        set_up = command(stage, "setup")
        assert (set_up.returncode, set_up.stderr) == (0, "")
        assert set_up.stdout == f"opensearch 3.8.0 at {opensearch_url} is set up for footfall-events-*\n"
        stage.shop.send(event(stage, 1, userId="u"), order(stage, 2, userId="u"))
        assert stage.index(stage.records()) == []
        # Its raw events are of 2035, and its clock is not.
        rebuilt = command(stage, "rebuild")
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert rebuilt.stdout == "indexed 2 events; 1 months are new: 2035-03\n"
        assert "RRU" in rebuilt.stderr
        stage.assert_index_is_the_table()
        indices.make_month(engine, "2020-01")
        assert command(stage, "retire").stdout == "deleted 1 months: 2020-01\n"
        assert command(stage, "retire").stdout == "deleted 0 months\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"FOOTFALL_OPENSEARCH_URL": ""},
            "Error: Which cluster? Set FOOTFALL_OPENSEARCH_URL, and FOOTFALL_RAW_EVENTS=1.",
        ),
        ({"FOOTFALL_RAW_EVENTS": ""}, "Error: FOOTFALL_OPENSEARCH_URL: search needs FOOTFALL_RAW_EVENTS=1"),
        ({"FOOTFALL_OPENSEARCH_URL": "http://127.0.0.1:9"}, "Error: Not now: "),
    ],
)
def test_the_command_says_in_one_line_why_it_cannot(
    stage: IndexStage, variables: dict[str, str], message: str
) -> None:
    for name in ("setup", "rebuild", "retire"):
        said = command(stage, name, **variables)
        assert (said.returncode, said.stdout) == (1, "")
        assert said.stderr.startswith(message)
        assert len(said.stderr.splitlines()) == 1
