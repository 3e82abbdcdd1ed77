"""`kill -9` at any call of any request: the process that comes next counts the rest, and everything once.

The processes are real servers on DynamoDB Local, and really killed: before and after each call that `test_cut_wires`
pins. A merge that died is finished by whoever asks next, also if its own client never comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests import faults
from tests.engine.cases import FIRST, GET, LAST, MERGE, YESTERDAY, check, facts_of, identify
from tests.engine.conftest import NOON
from tests.engine.facts import Fact
from tests.engine.killing import Nursery, nursery
from tests.engine.matrix import KILLINGS, Kill
from tests.engine.shop import Shop, new_table
from tests.engine.stage import Stage, staged


@pytest.fixture(scope="module")
def stage(dynamodb_url: str) -> Iterator[Stage]:
    with staged(new_table(dynamodb_url)) as opened_stage:
        yield opened_stage


@pytest.fixture(scope="module")
def servers(dynamodb_url: str, stage: Stage) -> Iterator[Nursery]:
    with nursery(stage.shop.table, dynamodb_url) as opened_nursery:
        yield opened_nursery


@pytest.mark.parametrize("case", KILLINGS, ids=str)
def test_after_a_kill_everything_is_counted_once(stage: Stage, servers: Nursery, case: Kill) -> None:
    case.run(stage, servers)


# --- a merge whose process died, and who finishes it ------------------------------------------------------------------


def _identify_again(shop: Shop, prefix: str) -> set[Fact]:
    shop.post("/v1/identify", {"userId": prefix + "u", "anonymousId": prefix + "a", "messageId": "again"})
    return set()


def _merge_by_the_backend(shop: Shop, prefix: str) -> set[Fact]:
    shop.post(f"/v1/users/{prefix}u/merge", {"anonymousId": prefix + "a"})
    return set()


def _late_event(shop: Shop, prefix: str) -> set[Fact]:
    late = facts_of(prefix + "late", YESTERDAY, 1)[0]
    shop.now = NOON + timedelta(seconds=61)
    shop.post("/v1/track", late.event(anonymous_id=prefix + "a"))
    return {late}


def _question(shop: Shop, prefix: str) -> set[Fact]:
    shop.get(f"/v1/users/anon_{prefix}a/metrics?from={FIRST}&to={LAST}")
    return set()


def _conflicting_event(shop: Shop, prefix: str) -> set[Fact]:
    # It looks for its first copy where the visitor's days went, so they must be there.
    reply = shop.post(
        "/v1/identify", {"userId": prefix + "v", "anonymousId": prefix + "a", "messageId": "other"}
    )
    assert [rejected["code"] for rejected in reply["rejected"]] == ["identity_conflict"]
    return set()


FINISHERS = [_identify_again, _merge_by_the_backend, _late_event, _question, _conflicting_event]


@pytest.mark.parametrize("finish", FINISHERS, ids=lambda finish: str(finish.__name__).strip("_"))
# From the second call on: before it nobody has said whose the visitor is.
@pytest.mark.parametrize("call", range(2, len([GET, *MERGE]) + 1))
def test_a_merge_killed_after_any_call_is_finished_by_whoever_comes_next(
    small_window_shop: Shop, prefix: str, call: int, finish: Callable[[Shop, str], set[Fact]]
) -> None:
    shop = small_window_shop
    case = identify(shop, prefix)
    with faults.injected(faults.Fault("kill_after", call=call)), pytest.raises(faults.Killed):
        shop.request(case.method, case.path, case.body)
    try:
        later = finish(shop, prefix)
    finally:
        shop.now = NOON
    case.facts[prefix + "u"] |= later

    check(shop, case)
