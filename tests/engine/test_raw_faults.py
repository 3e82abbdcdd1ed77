"""Raw events beside their days: whatever call fails, whoever is killed, retries leave the table as a clean run does.

That run's table is recounted, and no number differs. `test_cut_wires` and `test_killed` do the same without raw events.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.killing import Nursery, nursery
from tests.engine.matrix import RAW_CUTS, RAW_KILLINGS, Cut, Kill
from tests.engine.raw_cases import RAW_REQUESTS, VARIABLES
from tests.engine.shop import new_table
from tests.engine.stage import Stage, cut, staged


@pytest.fixture(scope="module")
def stage(dynamodb_url: str) -> Iterator[Stage]:
    with staged(new_table(dynamodb_url), **VARIABLES) as opened_stage:
        yield opened_stage


@pytest.fixture(scope="module")
def servers(dynamodb_url: str, stage: Stage) -> Iterator[Nursery]:
    with nursery(stage.shop.table, dynamodb_url, **VARIABLES) as opened_nursery:
        yield opened_nursery


@pytest.mark.parametrize("name", RAW_REQUESTS)
def test_these_are_the_calls_of_each_request(stage: Stage, name: str) -> None:
    assert RAW_REQUESTS[name][1] == stage.scene(name).operations


@pytest.mark.parametrize("case", RAW_CUTS, ids=str)
def test_after_a_retry_everything_is_counted_and_kept(stage: Stage, case: Cut) -> None:
    cut(stage, case.request, case.call, case.way)


@pytest.mark.parametrize("case", RAW_KILLINGS, ids=str)
def test_after_a_kill_everything_is_counted_and_kept(stage: Stage, servers: Nursery, case: Kill) -> None:
    case.run(stage, servers)
