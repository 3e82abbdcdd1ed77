"""The index made anew on real engines while events keep coming: it ends as the table is, whatever came between."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service import erasure, indices, rebuild
from service.events import epoch_ms
from service.index_template import Names
from service.opensearch import Engine, EngineUnavailableError
from service.problems import Unavailable
from service.rebuild import OvertakenError, Rebuild, Rebuilt
from service.store import Work
from tests import opensearch_local
from tests.engine.index_stage import IndexStage, staged

Json = dict[str, Any]


@pytest.fixture
def stage(dynamodb_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexStage]:
    # So that a few events are many steps.
    monkeypatch.setattr(rebuild, "ITEMS_AT_A_TIME", 2)
    with staged(dynamodb_url, engine) as stage:
        yield stage


def event(stage: IndexStage, number: int, name: str = "Product Viewed", **fields: Any) -> Json:
    when = stage.shop.now - timedelta(seconds=number)
    return {
        "type": "track",
        "event": name,
        "messageId": f"m-{number}",
        "timestamp": when.isoformat(),
        **fields,
    }


def order(stage: IndexStage, number: int, **fields: Any) -> Json:
    products = [{"product_id": "p-1", "price": 5, "quantity": 2}]
    properties = {"orderId": f"o-{number}", "revenue": 12.5, "currency": "EUR", "products": products}
    return event(stage, number, "Order Completed", properties=properties, **fields)


def fill(stage: IndexStage) -> None:
    """Users, a visitor, one who became a user, and orders; seen by the indexer."""
    shop = stage.shop
    for number in range(6):
        shop.send(event(stage, number, userId=f"u-{number % 3}"))
        shop.send(event(stage, 10 + number, anonymousId=f"a-{number}"))
    shop.send(event(stage, 20, anonymousId="a-1", userId="u-1"), order(stage, 21, anonymousId="a-1"))
    shop.send(order(stage, 22, userId="u-2"))
    assert stage.index(stage.records()) == []


def work(stage: IndexStage, **overrides: Any) -> Work:
    return Work(stage.shop.table.calls(time.monotonic() + 300), stage.shop.service.settings, stage.shop.now)


def new(stage: IndexStage, **options: Any) -> Rebuild:
    return Rebuild(stage.engine, work(stage), pause=stage.pauses.append, **options)


def done(rebuild_: Rebuild) -> Rebuilt:
    *_, last = rebuild_.run()
    return last


def in_use(stage: IndexStage) -> list[str]:
    """The indices that are searched, and that there are no others."""
    names = Names(stage.engine.prefix)
    there = indices.listed(stage.engine)
    assert all(index.aliases == {names.events, names.month(index.month)} for index in there)
    return [f"{index.month} {index.number}" for index in there]


def spoil(stage: IndexStage) -> None:
    """Documents that are missing, that are another's, and that nobody sent."""
    names = Names(stage.engine.prefix)
    refresh = {"refresh": "true"}
    query = {"terms": {"sentAs": ["u-0", "anon_a-1"]}}
    stage.engine.call("POST", f"/{names.events}/_delete_by_query", {"query": query}, params=refresh)
    for doc_id, user in (("1", "u-2"), ("2", "nobody")):
        spoilt = {
            "user": user,
            "sentAs": user,
            "day": "2035-03-15",
            "receivedAt": epoch_ms(stage.shop.now),
            "metrics": [],
        }
        stage.engine.call("PUT", f"/{names.month('2035-03')}/_doc/{doc_id}", spoilt, params=refresh)


def test_an_index_that_is_wrong_is_made_right(stage: IndexStage) -> None:
    fill(stage)
    before = stage.documents()
    spoil(stage)
    assert stage.documents() != before
    rebuilt = done(new(stage))

    assert stage.documents() == before
    stage.assert_index_is_the_table()
    assert (rebuilt.rebuilt, rebuilt.kept, rebuilt.short, rebuilt.failed) == (["2035-03"], [], {}, 0)
    assert (rebuilt.events, rebuilt.share) == (len(before), 1.0)
    assert in_use(stage) == ["2035-03 2"]
    assert done(new(stage)).rebuilt == ["2035-03"]
    assert in_use(stage) == ["2035-03 3"]
    assert stage.documents() == before


def test_a_first_index_is_filled_from_what_is_there(stage: IndexStage) -> None:
    fill(stage)
    before = stage.documents()
    opensearch_local.removed(stage.engine)
    rebuilt = done(new(stage))

    assert (rebuilt.rebuilt, rebuilt.share) == ([], None)
    assert stage.documents() == before
    assert in_use(stage) == ["2035-03 1"]


def test_searches_are_answered_all_the_time(stage: IndexStage) -> None:
    """From what there was until all changes over, and nothing is found twice."""
    fill(stage)
    names = Names(stage.engine.prefix)
    everything = len(opensearch_local.documents(stage.engine))
    for _ in new(stage).run():
        assert len(opensearch_local.documents(stage.engine, names.events)) == everything


# --- while events keep coming -----------------------------------------------------------------------------------------


def happenings(stage: IndexStage) -> list[Any]:
    """What a shop's life brings, in its order."""
    shop = stage.shop

    def later(sent: Json) -> None:
        # In the moment of an erasure its clock has not passed it.
        shop.now += timedelta(minutes=2)
        shop.send(sent)

    return [
        lambda: shop.send(event(stage, 100, userId="u-0"), order(stage, 101, userId="new")),
        lambda: shop.send(event(stage, 102, anonymousId="a-2", userId="u-2")),
        lambda: shop.send(event(stage, 103, anonymousId="a-2")),
        lambda: shop.request("DELETE", "/v1/users/u-1"),
        lambda: later(event(stage, -60, userId="u-1")),
        lambda: shop.send(event(stage, 104, anonymousId="a-3"), order(stage, 105, anonymousId="a-4")),
        lambda: shop.send(event(stage, 106, anonymousId="a-3", userId="u-0")),
        lambda: shop.request("DELETE", "/v1/users/anon_a-4"),
        lambda: shop.send(event(stage, 107, userId="u-2")),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_what_happens_between_its_steps_is_in_the_index_afterwards(stage: IndexStage, seed: int) -> None:
    """At any step, and the stream may come at once, later, or after the rebuild."""
    chance = random.Random(seed)
    fill(stage)
    if seed % 2:
        spoil(stage)
    left, unseen = happenings(stage), []
    for _ in new(stage).run():
        while left and chance.random() < 0.6:
            left.pop(0)()
        unseen += stage.records()
        if unseen and chance.random() < 0.5:
            assert stage.index(unseen) == []
            unseen = []
    for happening in left:
        happening()
    assert stage.index(unseen + stage.records()) == []

    stage.assert_index_is_the_table()
    assert in_use(stage) == ["2035-03 2"]


def test_a_shop_that_is_really_busy_meanwhile(stage: IndexStage) -> None:
    """One thread sends, one indexes the stream, and three rebuilds follow one another."""
    fill(stage)
    is_over = threading.Event()
    failures: list[BaseException] = []

    def rebuild_thrice() -> None:
        try:
            for _ in range(3):
                done(new(stage))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            is_over.set()

    thread = threading.Thread(target=rebuild_thrice)
    thread.start()
    number = 1000
    while not is_over.is_set():
        stage.shop.send(event(stage, number, anonymousId=f"b-{number % 7}"))
        if number % 5 == 0:
            stage.shop.send(
                event(stage, 50_000 + number, anonymousId=f"b-{number % 7}", userId=f"u-{number % 4}")
            )
        if number % 3 == 0:
            assert stage.index(stage.records()) == []
        number += 1
    thread.join()
    assert stage.index(stage.records()) == []
    print(f"{number - 1000} events meanwhile")

    assert not failures
    stage.assert_index_is_the_table()
    assert in_use(stage) == ["2035-03 4"]


@pytest.mark.parametrize("reads_again", [True, False])
def test_what_the_stream_puts_into_an_index_that_was_read_is_read_again(
    stage: IndexStage, *, reads_again: bool
) -> None:
    """And without that it would be missing."""
    fill(stage)
    running = new(stage).run()
    for rebuilt in running:
        if rebuilt.step == "changing over":
            stage.shop.send(event(stage, 100, userId="late"))
            assert stage.index(stage.records()) == []
        if rebuilt.step == "reading what arrived meanwhile" and not reads_again:
            break
    found = [document for document in stage.documents().values() if document["user"] == "late"]

    assert len(found) == reads_again


def test_an_erasure_between_reading_and_changing_over_is_kept(stage: IndexStage) -> None:
    """The stream has brought it before the fresh index is in use."""
    fill(stage)
    running = new(stage).run()
    for rebuilt in running:
        if rebuilt.step == "changing over":
            erasure.erase(work(stage), "u-0")
            assert stage.index(stage.records()) == []
    assert not [document for document in stage.documents().values() if document["user"] == "u-0"]
    stage.assert_index_is_the_table()


# --- interrupted, or two at once --------------------------------------------------------------------------------------


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
    steps = len(list(new(stage).run()))
    for step in range(1, steps + 1):
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


# --- what is not made anew --------------------------------------------------------------------------------------------


def test_a_month_whose_raw_events_have_expired_in_part_is_kept_and_added_to(
    dynamodb_url: str, engine: Engine
) -> None:
    """With 30 days of raw events on the 15th of March."""
    with staged(dynamodb_url, engine, RAW_TTL_DAYS="30") as stage:
        stage.shop.post(
            "/v1/import", {"batch": [event(stage, 86_400 * days, userId="u") for days in (0, 20, 50)]}
        )
        records = stage.records()
        assert stage.index(records) == []
        before = stage.documents()
        names = Names(engine.prefix)
        query = {"terms": {"day": ["2035-01-24", "2035-03-15"]}}
        engine.call("POST", f"/{names.events}/_delete_by_query", {"query": query}, params={"refresh": "true"})
        expired = {"user": "x", "sentAs": "x", "day": "2035-02-01", "receivedAt": 1, "metrics": []}
        engine.call("PUT", f"/{names.month('2035-02')}/_doc/1", expired, params={"refresh": "true"})
        rebuilt = done(new(stage))

        assert (rebuilt.kept, rebuilt.rebuilt) == (["2035-01", "2035-02"], ["2035-03"])
        assert stage.documents() == {**before, "1": expired}
        assert in_use(stage) == ["2035-01 1", "2035-02 1", "2035-03 2"]


def test_months_older_than_the_index_keeps_are_not_made(dynamodb_url: str, engine: Engine) -> None:
    with staged(dynamodb_url, engine, SEARCH_RETENTION_DAYS="30") as stage:
        stage.shop.post(
            "/v1/import", {"batch": [event(stage, 86_400 * days, userId="u") for days in (0, 20, 50)]}
        )
        done(new(stage))

        assert in_use(stage) == ["2035-02 1", "2035-03 1"]


def test_a_month_does_not_lose_what_only_it_has_unless_told_to(stage: IndexStage) -> None:
    """As when raw events were kept for less long before."""
    fill(stage)
    lost = [event(stage, 86_000 + number, userId="lost") for number in range(3)]
    stage.shop.send(*lost)
    assert stage.index(stage.records()) == []
    table = stage.shop.table
    for sk, item in stage.shop.partition("USER#lost").items():
        if sk.startswith("EVENTS#"):
            table.client.delete_item(TableName=table.name, Key={"PK": item["PK"], "SK": item["SK"]})
    # All of it arrived long before.
    stage.shop.now += timedelta(hours=2)
    before = stage.documents()
    forgotten = next(doc_id for doc_id, document in before.items() if document["user"] == "u-0")
    forget = f"/{Names(stage.engine.prefix).month('2035-03')}/_doc/{forgotten}"
    stage.engine.call("DELETE", forget, params={"refresh": "true"})
    kept = done(new(stage))

    assert kept.short == {"2035-03": (len(before) - 3, len(before) - 1)}
    assert kept.rebuilt == []
    assert stage.documents() == before, "what the table has is added"
    assert in_use(stage) == ["2035-03 1"]
    shrunk = done(new(stage, may_shrink=True))
    assert (shrunk.short, shrunk.rebuilt) == ({}, ["2035-03"])
    assert stage.documents() == {doc_id: doc for doc_id, doc in before.items() if doc["user"] != "lost"}


def test_marks_that_the_stream_has_lost_are_made_up_for(dynamodb_url: str, engine: Engine) -> None:
    """Months that are kept learn of them, and one that is whole is not taken for one that lost events."""
    with staged(dynamodb_url, engine, RAW_TTL_DAYS="30") as stage:
        shop = stage.shop
        for days in (0, 50):
            shop.post(
                "/v1/import",
                {
                    "batch": [
                        event(stage, 86_400 * days + number, **who)
                        for number, who in enumerate(({"anonymousId": "a"}, {"userId": "v"}, {"userId": "w"}))
                    ]
                },
            )
        assert stage.index(stage.records()) == []
        shop.post("/v1/identify", {"anonymousId": "a", "userId": "u"})
        shop.now += timedelta(minutes=1)
        assert shop.request("DELETE", "/v1/users/v").status_code == 200
        assert stage.records(), "which nobody gets"
        # All of it arrived long before.
        shop.now += timedelta(hours=2)
        assert len(stage.documents()) == 6
        rebuilt = done(new(stage))

        assert (rebuilt.kept, rebuilt.rebuilt, rebuilt.short) == (["2035-01"], ["2035-03"], {})
        assert {document["user"] for document in stage.documents().values()} == {"u", "w"}
        stage.assert_index_is_the_table()


def test_an_erasure_while_months_are_compared_makes_none_short(stage: IndexStage) -> None:
    fill(stage)
    stage.shop.now += timedelta(hours=2)
    between = Between(stage.engine, "/_count", lambda: erased(stage))
    # The first is of all there is, to know how far it is.
    rebuilt = done(Rebuild(between, work(stage), pause=stage.pauses.append))  # type: ignore[arg-type]

    assert between.happened == [2]
    assert (rebuilt.short, rebuilt.rebuilt) == ({}, ["2035-03"])
    stage.assert_index_is_the_table()


def erased(stage: IndexStage) -> None:
    erasure.erase(work(stage), "u-0")
    assert stage.index(stage.records()) == []


class Between:
    """An engine at whose second call to a path, when that was carried out, something happens."""

    def __init__(self, engine: Engine, path: str, happening: Callable[[], object]) -> None:
        self._engine = engine
        self._path = path
        self._happening = happening
        self._calls = 0
        self.happened: list[int] = []

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._engine, name)
        if name != "call":
            return member

        def called(method: str, path: str, *arguments: Any, **options: Any) -> Any:
            reply = member(method, path, *arguments, **options)
            if path.endswith(self._path):
                self._calls += 1
                if self._calls == 2:
                    self.happened.append(self._calls)
                    self._happening()
            return reply

        return called


def test_another_tables_index_is_left_alone(stage: IndexStage) -> None:
    indices.setup(stage.engine, "another-table")
    with pytest.raises(Unavailable, match="of the table another-table"):
        done(new(stage))
    assert indices.listed(stage.engine) == []


def test_another_time_zone_than_the_tables_is_refused(stage: IndexStage) -> None:
    fill(stage)
    before = stage.documents()
    given = work(stage)
    wrong = replace(given, settings=replace(given.settings, timezone=ZoneInfo("Asia/Tokyo")))
    with pytest.raises(Unavailable, match="FOOTFALL_TIMEZONE"):
        done(Rebuild(stage.engine, wrong))
    assert stage.documents() == before


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
            continue
        break
    assert failing.lost
    assert done(new(stage)).rebuilt == ["2035-03"]
    assert stage.documents() == before
    assert len(in_use(stage)) == 1


# --- the command ------------------------------------------------------------------------------------------------------


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
    engine = Engine.connect(opensearch_url)
    try:
        with staged(dynamodb_url, engine) as stage:
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
    finally:
        opensearch_local.removed(engine)


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
