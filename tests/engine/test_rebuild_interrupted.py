"""Rebuilds that are interrupted, that meet another one, or whose engine goes away: what is searched stays whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from service import rebuild
from service.index_template import Names
from service.opensearch import Engine, EngineUnavailableError
from service.rebuild import OvertakenError, Rebuild
from tests import opensearch_local
from tests.engine.index_stage import IndexStage, staged
from tests.engine.rebuilding import done, fill, in_use, new, work


@pytest.fixture
def stage(dynamodb_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexStage]:
    # So that a few events are many steps.
    monkeypatch.setattr(rebuild, "ITEMS_AT_A_TIME", 2)
    with staged(dynamodb_url, engine) as stage:
        yield stage


def test_a_fresh_index_that_was_changed_over_to_meanwhile_is_not_deleted(stage: IndexStage) -> None:
    """The second rebuild has listed it as one that is being filled, and then the first changes over to it."""
    fill(stage)
    before = stage.documents()
    first = new(stage).run()
    assert "changing over" in (rebuilt.step for rebuilt in first)
    names = Names(stage.engine.prefix)

    class Late:
        """An engine that changes over between the second rebuild's list, its second, and what it does next."""

        def __init__(self) -> None:
            self.lists = 0

        def __getattr__(self, name: str) -> Any:
            member = getattr(stage.engine, name)
            if name != "call":
                return member

            def called(method: str, path: str, *arguments: Any, **options: Any) -> Any:
                reply = member(method, path, *arguments, **options)
                if path.endswith("/_alias") and names.filling("2035-03", 2) in str(reply):
                    self.lists += 1
                    if self.lists == 2:
                        next(first)
                return reply

            return called

    late = Late()
    second = Rebuild(late, work(stage), pause=stage.pauses.append).run()  # type: ignore[arg-type]
    next(second)
    next(second)
    assert late.lists == 2
    assert opensearch_local.documents(stage.engine, names.events) == before, "searches go on"
    *_, last = second
    list(first)

    assert last.rebuilt == ["2035-03"]
    assert in_use(stage) == ["2035-03 3"]
    assert stage.documents() == before


@pytest.mark.parametrize("has_reply", [True, False])
def test_a_change_over_whose_reply_was_lost_is_done(stage: IndexStage, *, has_reply: bool) -> None:
    """Or was answered when it was sent a second time: that the alias is gone."""
    fill(stage)
    before = stage.documents()

    class Losing:
        lost = 0

        def __getattr__(self, name: str) -> Any:
            member = getattr(stage.engine, name)
            if name != "call":
                return member

            def called(method: str, path: str, *arguments: Any, **options: Any) -> Any:
                reply = member(method, path, *arguments, **options)
                if path == "/_aliases" and not self.lost:
                    self.lost += 1
                    if not has_reply:
                        raise EngineUnavailableError
                    return member(method, path, *arguments, **options)
                return reply

            return called

    losing = Losing()
    rebuilt = done(Rebuild(losing, work(stage), pause=stage.pauses.append))  # type: ignore[arg-type]

    assert losing.lost
    assert rebuilt.rebuilt == ["2035-03"]
    assert in_use(stage) == ["2035-03 2"]
    assert stage.documents() == before


def test_interrupted_anywhere_it_is_harmless_and_can_be_repeated(stage: IndexStage) -> None:
    fill(stage)
    before = stage.documents()
    names = Names(stage.engine.prefix)
    steps = [rebuilt.step for rebuilt in new(stage).run()]
    changing = steps.index("changing over") + 1
    # Every third, and those around the moment in which all changes.
    for step in sorted({*range(1, len(steps) + 1, 3), changing, changing + 1, len(steps)}):
        running = new(stage).run()
        for _ in range(step):
            next(running)
        running.close()
        assert opensearch_local.documents(stage.engine, names.events) == before, step
    last = done(new(stage))

    assert stage.documents() == before
    assert last.rebuilt == ["2035-03"]
    assert len(in_use(stage)) == 1


def test_of_two_at_once_the_later_one_goes_on(stage: IndexStage) -> None:
    fill(stage)
    before = stage.documents()
    first = new(stage).run()
    next(first)
    next(first)
    second = done(new(stage))

    with pytest.raises(OvertakenError, match="Another rebuild has begun"):
        list(first)
    assert second.rebuilt == ["2035-03"]
    assert len(in_use(stage)) == 1
    assert stage.documents() == before
    stage.assert_index_is_the_table()


@pytest.mark.parametrize("seed", range(6))
def test_two_whose_steps_mix_leave_one_whole_index(stage: IndexStage, seed: int) -> None:
    chance = random.Random(seed)
    fill(stage)
    before = stage.documents()
    running = [new(stage).run(), new(stage).run()]
    overtaken = 0
    while running:
        one = chance.choice(running)
        try:
            next(one)
        except StopIteration:
            running.remove(one)
        except OvertakenError:
            running.remove(one)
            overtaken += 1

    assert overtaken <= 1
    assert stage.documents() == before
    assert len(in_use(stage)) == 1


# --- the engine goes away ---------------------------------------------------------------------------------------------


class Failing:
    """An engine whose every so-manieth call is lost, before or after it was carried out."""

    def __init__(self, engine: Engine, chance: random.Random) -> None:
        self._engine = engine
        self._chance = chance
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._engine, name)
        if name not in ("call", "bulk"):
            return member

        def called(*arguments: Any, **options: Any) -> Any:
            fate = self._chance.random()
            if fate < 0.1:
                self.lost += 1
                raise EngineUnavailableError
            reply = member(*arguments, **options)
            if fate < 0.2:
                self.lost += 1
                raise EngineUnavailableError
            return reply

        return called


@pytest.mark.parametrize("seed", range(4))
def test_an_engine_that_loses_calls_ends_it_or_delays_it_and_spoils_nothing(
    stage: IndexStage, seed: int
) -> None:
    fill(stage)
    before = stage.documents()
    failing = Failing(stage.engine, random.Random(seed))
    for _ in range(40):
        try:
            running = Rebuild(failing, work(stage), pause=stage.pauses.append)  # type: ignore[arg-type]
            done(running)
        except EngineUnavailableError:
            assert stage.documents().items() >= before.items()
        else:
            break
    else:
        pytest.fail("it has not come to its end in 40 tries")
    assert failing.lost
    assert done(new(stage)).rebuilt == ["2035-03"]
    assert stage.documents() == before
    assert len(in_use(stage)) == 1
