"""The index made anew on real engines while events keep coming: it ends as the table is, whatever came between."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service import documents, erasure, indices, rebuild
from service.events import epoch_ms
from service.index_template import Names
from service.opensearch import Engine
from service.problems import Unavailable
from service.rebuild import Rebuild
from tests import opensearch_local
from tests.engine.index_stage import IndexStage, staged
from tests.engine.rebuilding import Between, done, event, fill, in_use, new, order, spoil, work

# A machine that is slow has no more to do than another.
BUSY_EVENTS = 200
BUSY_SECONDS = 120

Json = dict[str, Any]


@pytest.fixture
def stage(dynamodb_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexStage]:
    # So that a few events are many steps.
    monkeypatch.setattr(rebuild, "ITEMS_AT_A_TIME", 2)
    with staged(dynamodb_url, engine) as stage:
        yield stage


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


def test_a_shop_that_is_really_busy_meanwhile(stage: IndexStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread sends and indexes the stream, and in another three rebuilds follow one another."""
    monkeypatch.setattr(rebuild, "ITEMS_AT_A_TIME", 50)
    fill(stage)
    failures: list[BaseException] = []

    def rebuild_thrice() -> None:
        try:
            for _ in range(3):
                done(new(stage))
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=rebuild_thrice, daemon=True)
    thread.start()
    number = 1000
    while thread.is_alive() and number < 1000 + BUSY_EVENTS:
        stage.shop.send(event(stage, number, anonymousId=f"b-{number % 7}"))
        if number % 5 == 0:
            stage.shop.send(
                event(stage, 50_000 + number, anonymousId=f"b-{number % 7}", userId=f"u-{number % 4}")
            )
        if number % 3 == 0:
            assert stage.index(stage.records()) == []
        number += 1
    thread.join(BUSY_SECONDS)
    assert not thread.is_alive(), "the rebuilds have not come to their end"
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
    remove_raw_events(stage, "lost")
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


def remove_raw_events(stage: IndexStage, user: str) -> None:
    table = stage.shop.table
    for sk, item in stage.shop.partition(f"USER#{user}").items():
        if sk.startswith("EVENTS#"):
            table.client.delete_item(TableName=table.name, Key={"PK": item["PK"], "SK": item["SK"]})


def late(stage: IndexStage, number: int, **fields: Any) -> Json:
    """An event of 90 minutes ago, or so many seconds before."""
    return event(stage, 5_400 + number, **fields)


def test_an_event_that_was_sent_again_in_other_company_is_not_taken_for_lost(stage: IndexStage) -> None:
    """The index has the receipt of the first copy, and the fresh one that of the second: in the table's order the item
    with the earlier event comes first."""
    again = event(stage, 1, userId="u")
    stage.shop.send(again)
    assert stage.index(stage.records()) == []
    first = epoch_ms(stage.shop.now)
    stage.shop.now += timedelta(hours=3)
    stage.shop.send(event(stage, 5 * 3_600, userId="u", messageId="m-0"), again)
    second = epoch_ms(stage.shop.now)
    assert stage.index(stage.records()) == []
    before = receipts(stage)
    assert before == {"m-0": second, "m-1": first}
    stage.shop.now += timedelta(minutes=30)
    rebuilt = done(new(stage))

    assert (rebuilt.short, rebuilt.rebuilt) == ({}, ["2035-03"])
    assert receipts(stage) == {"m-0": second, "m-1": second}, "or this proves nothing"


def receipts(stage: IndexStage) -> dict[str, int]:
    return {document["messageId"]: document["receivedAt"] for document in stage.documents().values()}


def test_events_that_came_late_do_not_make_up_for_lost_ones(stage: IndexStage) -> None:
    """More of them than were lost; the index in use has them as late too."""
    stage.shop.send(event(stage, 1, userId="lost"), event(stage, 2, userId="kept"))
    assert stage.index(stage.records()) == []
    remove_raw_events(stage, "lost")
    stage.shop.now += timedelta(hours=3)
    stage.shop.send(*(late(stage, number, userId="late") for number in range(10, 15)))
    assert stage.index(stage.records()) == []
    before = stage.documents()
    stage.shop.now += timedelta(minutes=30)
    rebuilt = done(new(stage))

    assert (rebuilt.short, rebuilt.rebuilt) == ({"2035-03": (1, 2)}, [])
    assert stage.documents() == before


def test_what_cannot_be_indexed_is_counted_whenever_it_is_read(
    stage: IndexStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what arrived after the first reading."""
    fill(stage)
    really = documents.document

    def poisoned(raw: Any, *arguments: Any) -> tuple[str, Json]:
        doc_id, fields = really(raw, *arguments)
        return doc_id, {**fields, "unheardOf": 1} if raw.event.message_id == "m-100" else fields

    monkeypatch.setattr(documents, "document", poisoned)
    for rebuilt in new(stage).run():
        if rebuilt.step == "changing over":
            assert rebuilt.failed == 0
            stage.shop.send(event(stage, 100, userId="u-0"))

    assert rebuilt.failed == 1
    assert [failure["sentAs"] for failure in stage.failures()] == ["u-0"]


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

    def erased() -> None:
        erasure.erase(work(stage), "u-0")
        assert stage.index(stage.records()) == []

    between = Between(stage.engine, "/_count", erased)
    # The first is of all there is, to know how far it is.
    rebuilt = done(Rebuild(between, work(stage), pause=stage.pauses.append))  # type: ignore[arg-type]

    assert between.happened == [2]
    assert (rebuilt.short, rebuilt.rebuilt) == ({}, ["2035-03"])
    stage.assert_index_is_the_table()


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
