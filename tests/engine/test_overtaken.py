"""Requests that stop between two database calls while others run to their end: what the slow one does then.

Each is a schedule that once ended wrong. The explorer tries all schedules of a few processes; these are of more
processes, of clocks that disagree, or of bounds that it does not reach.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from service import days, erasure, identities, ingest, keys, merge, person
from service.capacity import Capacity
from service.dynamodb import Calls, Table
from service.events import Event, epoch_ms
from service.models import Raw
from service.problems import Unavailable
from service.settings import Settings
from service.store import Work
from service.sweep import Swept, sweep
from tests.builders import item_at, items, make_settings, new_table
from tests.engine.conftest import NOON

TODAY = NOON.date().isoformat()
OLD = "2019-12-24T18:00:00Z"
READ, QUERY, TRANSACT = ("get_item", "batch_get_item"), ("query",), ("transact_write_items",)
WRITE = ("put_item", "delete_item", *TRANSACT)
DAY_SECONDS = 86_400
STUCK_SECONDS = 60
ITEM_BYTES_MAX = 400 * 1024

Counts = tuple[int, int, list[str]]
ACCEPTED: Counts = (1, 0, [])


@dataclass
class Before:
    """What happens before the first call of one of these operations that speaks of `about`."""

    operations: tuple[str, ...]
    about: str
    then: Callable[[], object]
    is_over: bool = False


class Slow(Calls):
    """The calls of a request that waits before some of them."""

    befores: Sequence[Before] = ()

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        for before in self.befores:
            if not before.is_over and operation in before.operations and before.about in str(arguments):
                before.is_over = True
                before.then()
        return super()._call(operation, arguments)


class StaleAlias(Calls):
    """The calls of a request whose eventually consistent reads find an alias as it was."""

    alias: Raw | None = None

    def get(self, key: keys.Key, *, is_consistent: bool = False) -> Raw | None:
        return super().get(key, is_consistent=True) if is_consistent else self.alias


class Shop:
    """One table, and requests whose clocks stand so many seconds after noon."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.settings = make_settings()

    def work(self, seconds: float, *befores: Before, settings: Settings | None = None) -> Work:
        calls = Slow(self.table, time.monotonic() + STUCK_SECONDS, Capacity())
        calls.befores = befores
        return Work(calls, settings or self.settings, NOON + timedelta(seconds=seconds))

    def send(self, seconds: float, message_id: str, *, at: float | str | None = None, **event: Any) -> Counts:
        """One event, of that moment or of another."""
        return self.sent(self.work(seconds), message_id, at=at, **event)

    def sent(self, work: Work, message_id: str, *, at: float | str | None = None, **event: Any) -> Counts:
        if not isinstance(at, str):
            at = (work.now if at is None else NOON + timedelta(seconds=at)).isoformat()
        work = replace(work, is_import=at == OLD)
        rules = work.settings.rules(work.now, is_trusted=True, is_import=work.is_import)
        raw = {"type": "page", "messageId": message_id, "timestamp": at, **event}
        read = rules.read(raw, 0, {}, may_be_large=False)
        assert isinstance(read, Event), read
        outcome = ingest.ingest(work, [read])
        if outcome.undecided:
            raise outcome.undecided
        return outcome.accepted, outcome.duplicates, [rejected.code for rejected in outcome.rejected]

    def identify(self, seconds: float, anonymous_id: str, user_id: str) -> Counts:
        return self.send(seconds, uuid.uuid4().hex, type="identify", anonymousId=anonymous_id, userId=user_id)

    def merge(self, seconds: float, anonymous_id: str, user_id: str) -> None:
        work = self.work(seconds)
        assert merge.join(work, f"anon_{anonymous_id}", user_id, None, epoch_ms(work.now)).user_id == user_id

    def erase(self, seconds: float, distinct_id: str, *befores: Before) -> erasure.Erased:
        erased = erasure.erase(self.work(seconds, *befores), distinct_id)
        # Otherwise the schedule is another one than the test's name says.
        assert all(before.is_over for before in befores)
        return erased

    def erase_and_die(self, seconds: float, distinct_id: str, *, settings: Settings | None = None) -> None:
        """After the mark."""
        death = Before(QUERY, f"USER#{distinct_id}", _die)
        with pytest.raises(Unavailable):
            erasure.erase(self.work(seconds, death, settings=settings), distinct_id)

    def sweep(self, seconds: float) -> Swept:
        work = self.work(seconds)
        *_, last = sweep(work.calls, work.settings, lambda: work.now)
        return last

    def item(self, key: keys.Key) -> dict[str, Any]:
        found = item_at(self.table, key)
        assert found is not None
        return found

    def events(self) -> dict[tuple[str, str], int]:
        """How many are counted, by item."""
        found = {key: item["events"]["N"] for key, item in items(self.table).items() if "events" in item}
        return {key: int(number) for key, number in found.items()}


def _die() -> None:
    raise Unavailable


@pytest.fixture
def shop(dynamodb_client: Any) -> Shop:
    return Shop(new_table(dynamodb_client, "overtaken"))


# --- what is counted after an erasure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl_days", [None, 400])
def test_what_is_counted_on_a_fence_does_not_expire_with_it(shop: Shop, ttl_days: int | None) -> None:
    shop.settings = make_settings(day_ttl_days=ttl_days)
    shop.send(0, "before", userId="u")
    shop.erase(1, "u")
    fence = int(shop.item(keys.day_key("u", TODAY))["expiresAt"]["N"])
    assert shop.send(10, "after", userId="u") == ACCEPTED
    day = shop.item(keys.day_key("u", TODAY))

    assert (day["events"]["N"], "erasedAt" in day) == ("1", True)
    assert ("expiresAt" in day) == (ttl_days is not None)
    if ttl_days:
        assert int(day["expiresAt"]["N"]) > fence + (ttl_days - 60) * DAY_SECONDS


# --- at the bound of a merged day -------------------------------------------------------------------------------------


def test_a_merge_whose_ids_are_on_the_full_day_already_ends(shop: Shop) -> None:
    """Five times the cap is on the user's day; a sixth visitor brings what the fifth has brought."""
    shop.settings = make_settings(max_events_per_user_day=2)
    for visitor in range(1, 7):
        for number in range(2):
            shop.send(0, f"m{min(visitor, 5)}-{number}", anonymousId=f"a{visitor}")
    answers = [shop.identify(visitor, f"a{visitor}", "u") for visitor in range(1, 7)]

    assert answers == [ACCEPTED] * 6
    assert shop.identify(DAY_SECONDS, "a6", "u") == ACCEPTED
    # Where the sixth visitor's later events go.
    assert shop.send(DAY_SECONDS, "later", anonymousId="a6") == ACCEPTED
    assert ("USER#u", (NOON + timedelta(days=1)).strftime("DAY#%Y-%m-%d")) in shop.events()
    assert shop.sweep(DAY_SECONDS) == Swept()


def test_a_merge_whose_sessions_are_on_the_full_day_already_ends(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days, "MERGED_DAY_IDS_MAX", 10)
    shop.settings = make_settings(max_events_per_user_day=4)
    for visitor in range(1, 7):
        for number in range(2):
            session = {"sessionId": f"s{min(visitor, 5)}-{number}"}
            shop.send(0, f"m{visitor}-{number}", anonymousId=f"a{visitor}", context=session)
    answers = [shop.identify(visitor, f"a{visitor}", "u") for visitor in range(1, 7)]
    day = shop.item(keys.day_key("u", TODAY))

    assert answers == [ACCEPTED] * 6
    assert (day["events"]["N"], len(day["sessions"]["BS"])) == ("12", 10)


# --- erasures and merges at once --------------------------------------------------------------------------------------


def test_an_erasure_by_a_slow_clock_ends_the_merges_before_its_mark(shop: Shop) -> None:
    """It read its clock before the merge and wrote its mark after it; then an event meets the alias as it was."""
    stale: list[Raw] = []

    def merged() -> None:
        shop.merge(0.005, "a", "u")
        stale.append(shop.table.calls(time.monotonic() + 10).get(keys.alias_key("anon_a")) or {})

    erased = shop.erase(0, "u", Before(TRANSACT, "USER#u", merged))
    calls = StaleAlias(shop.table, time.monotonic() + STUCK_SECONDS, Capacity())
    calls.alias = stale[0]
    with pytest.raises(Unavailable):
        shop.sent(Work(calls, shop.settings, NOON + timedelta(seconds=5)), "n", at=4, anonymousId="a")
    again = shop.send(6, "n", at=4, anonymousId="a")

    assert erased.anonymous_ids == 1
    assert erased.erased_at > epoch_ms(NOON) + 5
    # The mark, the alias and each fence say the same time.
    times = {item["erasedAt"]["N"] for item in items(shop.table).values() if "erasedAt" in item}
    assert times == {str(erased.erased_at)}
    assert again == ACCEPTED
    assert shop.events() == {("USER#anon_a", f"DAY#{TODAY}"): 1}


def test_an_erasure_that_was_overtaken_leaves_a_later_merge_alone(shop: Shop) -> None:
    """It is slow before its fences; its retry ends, the person comes back, and only then it goes on."""
    shop.identify(-10, "a", "u")

    def meanwhile() -> None:
        assert shop.erase(1, "u").anonymous_ids == 1
        assert shop.identify(2, "a", "u") == ACCEPTED
        assert shop.send(3, "n", anonymousId="a") == ACCEPTED

    # It knows of the alias that was.
    first = shop.erase(0, "u", Before(READ, "USER#anon_a", meanwhile))
    # Had it freed the visitor, this would count there.
    again = shop.send(4, "n", at=3, anonymousId="a")

    assert (first.anonymous_ids, first.days) == (0, 0)
    assert again == (0, 1, [])
    assert shop.events() == {("USER#u", f"DAY#{TODAY}"): 1}
    assert shop.item(keys.alias_key("anon_a"))["userId"] == {"S": "u"}
    assert shop.sweep(DAY_SECONDS) == Swept()


def test_after_two_erasures_at_once_the_device_can_be_another_users(shop: Shop) -> None:
    """Both stand before the transaction that frees the visitor; the first goes first."""
    shop.identify(-10, "a", "u")
    first_stands, second_stands = threading.Event(), threading.Event()

    def wait() -> None:
        first_stands.set()
        assert second_stands.wait(STUCK_SECONDS)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(shop.erase, 0, "u", Before(TRANSACT, "USER#anon_a", wait))
        assert first_stands.wait(STUCK_SECONDS)

        def first_ends() -> None:
            second_stands.set()
            first.result(STUCK_SECONDS)

        shop.erase(0.010, "u", Before(TRANSACT, "USER#anon_a", first_ends))

    # Said between the two clocks.
    assert shop.identify(0.005, "a", "v") == ACCEPTED
    assert shop.send(DAY_SECONDS, "p", anonymousId="a") == ACCEPTED
    assert shop.item(keys.alias_key("anon_a"))["userId"] == {"S": "v"}
    assert shop.sweep(DAY_SECONDS) == Swept()


def test_an_erasure_that_was_overtaken_deletes_no_history_merged_since(shop: Shop) -> None:
    """It has read which days of long ago there are; its retry ends, and a visitor brings the same day."""
    shop.send(-10, "h0", at=OLD, userId="u")
    shop.send(-10, "h1", at=OLD, anonymousId="b")

    def meanwhile() -> None:
        assert shop.erase(1, "u").days == 1
        shop.merge(2, "b", "u")

    # The first write to a day follows what it has read.
    first = shop.erase(0, "u", Before(WRITE, "DAY#", meanwhile))

    assert first.anonymous_ids == 0
    assert shop.events() == {("USER#u", "DAY#2019-12-24"): 1}


def test_two_dead_erasures_do_not_keep_a_visitor_from_becoming_a_user(shop: Shop) -> None:
    for distinct_id in ("anon_a", "u"):
        shop.erase_and_die(0, distinct_id)

    assert shop.identify(120, "a", "u") == ACCEPTED
    assert shop.item(keys.alias_key("anon_a"))["status"] == {"S": "merged"}
    assert shop.sweep(DAY_SECONDS) == Swept()


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bytes_max", "pages_count"),
    [(10**6, 1), (600, 3), (1, 5)],
    ids=["one page", "a day a page", "a line a page"],
)
def test_an_export_has_the_days_of_a_merge_under_way(shop: Shop, bytes_max: int, pages_count: int) -> None:
    expected = [("DAY", (NOON - timedelta(days=back)).date().isoformat()) for back in (2, 1, 0)]
    shop.send(0, "m0", userId="u", at=-DAY_SECONDS)
    for number, back in enumerate((0, 2)):
        shop.send(0, f"m{number + 1}", anonymousId="a", at=-back * DAY_SECONDS)
    shop.merge(0, "b", "u")
    # Its process dies after the first step.
    identities.link(shop.work(1), "anon_a", "u", epoch_ms(NOON) + 1000)
    pages: list[bytes] = []
    cursor: str | None = None
    while not pages or cursor is not None:
        page = person.page(shop.work(2), "u", cursor, bytes_max)
        pages.append(page.body)
        cursor = page.next_cursor
    lines = [json.loads(line) for line in b"".join(pages).splitlines()]

    assert [
        ("DAY", line["day"]) if "day" in line else (line["anonymousId"], line["status"]) for line in lines
    ] == [("anon_a", "merged"), ("anon_b", "merged"), *expected]
    assert len(pages) == pages_count


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_sweep_with_a_smaller_age_fences_every_day_an_event_may_come_for(shop: Shop) -> None:
    """The command's settings are not always the deployment's."""
    deployed = make_settings(max_event_age_days=31)
    long_ago = -20 * DAY_SECONDS
    shop.sent(shop.work(0, settings=deployed), "m", at=long_ago, userId="u")
    shop.erase_and_die(1, "u", settings=deployed)
    swept = shop.sweep(3600)

    assert swept == Swept(erasures=1)
    assert shop.sent(shop.work(3700, settings=deployed), "m", at=long_ago, userId="u") == (0, 0, ["erased"])
    assert shop.events() == {}


def test_a_sweep_goes_on_after_one_that_raises(shop: Shop) -> None:
    """A day that DynamoDB refuses, for the item would be too large, is a fault that no retry mends."""
    shop.send(0, "m", anonymousId="a")
    name = "x" * (ITEM_BYTES_MAX - 50)
    pk, sk = keys.day_key("u", TODAY)
    large = {"PK": {"S": pk}, "SK": {"S": sk}, "names": {"SS": [name]}, "revision": {"N": "1"}}
    shop.table.client.put_item(TableName=shop.table.name, Item=large)
    others = [f"anon_other-{number}" for number in range(8)]
    for number, anonymous_id in enumerate(["anon_a", *others]):
        identities.link(shop.work(1), anonymous_id, "v" if number else "u", epoch_ms(NOON) + 1000)
    swept = shop.sweep(3600)

    assert (swept.merges, swept.undecided) == (len(others), 1)
    # The next one tries it again.
    again = shop.sweep(7200)
    assert (again.merges, again.undecided) == (0, 1)
