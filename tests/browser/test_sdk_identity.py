"""Who an event is of, and when it was: frozen before it is first sent, and right though the device's clock is not."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.browser.shop import (
    DOWN,
    ONE_VIEW,
    REPLY_LOST,
    Fault,
    Stage,
    flush,
    identity,
    queued,
    restaged,
    stored,
    until,
)

PAST_DOUBT_MS = 5 * 60_000 + 10_000


def test_the_history_becomes_the_users(stage: Stage) -> None:
    page = stage.visit()
    visitor = identity(page)
    page.evaluate(
        "footfall.productViewed(); footfall.identify('u-1', {plan: 'gold'}); footfall.track('Later')"
    )
    flush(page)
    stage.move_on(page)
    flush(page)
    (identified,) = (event for event in stage.gate.events() if event["type"] == "identify")
    (later,) = stage.gate.named("Later")

    assert re.fullmatch(r"anon_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", visitor)
    assert (identified["userId"], identified["anonymousId"]) == ("u-1", visitor)
    assert identified["traits"] == {"plan": "gold"}
    assert later["userId"] == "u-1"
    assert "anonymousId" not in later
    assert stage.counted("u-1") == ONE_VIEW | {
        "events": 4,
        "pageViews": 2,
        "productViews": 1,
        "byEvent": {"Later": 1},
    }
    assert stage.metrics(visitor)["userId"] == "u-1"


def test_late_events_of_before_the_login_follow(stage: Stage) -> None:
    page = stage.visit()
    visitor = identity(page)
    stage.gate.faults.extend([REPLY_LOST, DOWN])
    page.evaluate("footfall.productViewed(); footfall.flush()")
    until(lambda: stage.gate.posts)
    page.evaluate("footfall.identify('u-2'); footfall.productAdded()")
    until(lambda: not queued(page))
    views = [json.dumps(event, sort_keys=True) for event in stage.gate.named("Product Viewed")]

    # A retry says what the first try said, though somebody has logged in since.
    assert len(views) == 3
    assert len(set(views)) == 1
    assert all(event["anonymousId"] == visitor for event in stage.gate.named("Product Viewed"))
    assert stage.counted("u-2") == ONE_VIEW | {"events": 3, "productViews": 1, "cartAdds": 1}


def test_the_caller_cannot_change_an_event_afterwards(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("const cart = {size: 1}; footfall.track('Click', cart); cart.size = 2; footfall.flush()")
    until(lambda: not queued(page))

    assert [event["properties"] for event in stage.gate.named("Click")] == [{"size": 1}]


def test_the_token_proves_each_event_of_the_user(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("footfall.identify(42, {}, {token: 'proof'})")
    stage.move_on(page)
    page.evaluate("footfall.reset(); footfall.track('Out')")
    flush(page)
    tokens = [(event["type"], event["context"].get("userToken")) for event in stage.gate.events()]

    assert tokens == [("page", None), ("identify", "proof"), ("page", "proof"), ("track", None)]
    assert [event.get("userId") for event in stage.gate.events()] == [None, "42", "42", None]


def test_a_secret_makes_the_service_believe_the_right_token_alone(stage: Stage) -> None:
    secret = "of the shop's server"
    token = hmac.new(secret.encode(), b"u-proved", hashlib.sha256).hexdigest()
    with restaged(stage, {"FOOTFALL_IDENTITY_SECRET": secret}) as guarded:
        proved = guarded.visit()
        anonymous = identity(proved)
        proved.evaluate(f"footfall.identify('u-proved', {{}}, {{token: '{token}'}}); footfall.track('Right')")
        flush(proved)
        guarded.move_on(proved)
        proved.evaluate("footfall.identify('u-proved')")  # the token is still known
        flush(proved)
        assert guarded.metrics(anonymous)["userId"] == "u-proved"
        assert guarded.counted("u-proved") == ONE_VIEW | {
            "events": 3,
            "pageViews": 2,
            "byEvent": {"Right": 1},
        }

        for pretended in (
            f"footfall.identify('u-other', {{}}, {{token: '{token}'}})",
            "footfall.identify('u-other')",
        ):
            page = guarded.visit()
            anonymous = identity(page)
            page.evaluate(pretended + "; footfall.track('Wrong')")
            flush(page)
            # What was theirs as a visitor is; what they pretend to do as the user is refused and not sent again.
            assert (page.evaluate("footfall.lost"), queued(page)) == (2, [])
            assert guarded.counted(anonymous) == ONE_VIEW
            assert guarded.metrics(anonymous)["userId"] == anonymous
        assert guarded.counted("u-other") == {}


@pytest.mark.parametrize(
    ("user", "how"), [("u-logs-out", "footfall.reset()"), ("u-is-followed", "footfall.identify('u-follows')")]
)
def test_somebody_else_on_the_same_device_is_somebody_else(stage: Stage, user: str, how: str) -> None:
    page = stage.visit()
    first = identity(page)
    page.evaluate(f"footfall.identify('{user}'); footfall.identify('{user}')")
    assert identity(page) == first
    page.evaluate(how)
    page.evaluate("footfall.track('Theirs')")
    second = identity(page)
    flush(page)

    assert second != first
    assert stage.counted(user) == ONE_VIEW
    assert stage.counted(second) == {"activeDays": 1, "sessions": 1, "events": 1, "byEvent": {"Theirs": 1}}
    sessions = {event["context"]["sessionId"] for event in stage.gate.events()}
    assert len(sessions) == 2


def test_what_waits_of_a_closed_tab_stays_of_whom_it_was(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    closing = stage.visit(visitor)
    first = identity(closing)
    staying = stage.visit(closing.context)
    for tab in (closing, staying):
        flush(tab)
    staying.context.set_offline(True)
    closing.evaluate("footfall.track('Anonymous'); footfall.identify('u-first'); footfall.track('Known')")
    closing.close()
    until(lambda: len(queued(staying)) == 3)
    staying.evaluate("footfall.identify('u-second'); footfall.track('Theirs')")
    staying.context.set_offline(False)
    visitor.clock.fast_forward(PAST_DOUBT_MS)  # a slow machine may have closed the tab in the middle of a try
    until(lambda: flush(staying) and not queued(staying))

    assert identity(staying) != first
    assert stage.counted("u-first")["byEvent"] == {"Anonymous": 1, "Known": 1}
    assert stage.counted("u-second")["byEvent"] == {"Theirs": 1}


def test_an_empty_user_id_is_nobody(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("footfall.identify(''); footfall.identify(null); footfall.identify(undefined)")
    flush(page)

    assert [event["type"] for event in stage.gate.events()] == ["page"]
    assert "footfall.user" not in stored(page)


def test_ids_are_random_on_pages_without_https_too(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script("delete Crypto.prototype.randomUUID")
    page = stage.visit(visitor)
    page.evaluate("for (let n = 0; n < 18; n++) footfall.track('Click')")
    flush(page)
    ids = {event["messageId"] for event in stage.gate.events()} | {identity(page).removeprefix("anon_")}

    assert len(ids) == 20
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)
        for one in ids
    )


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_is_shared_by_tabs_and_ends_after_half_an_hour(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    other = stage.visit(visitor, "/other")
    for minutes, tab, name in (
        (0, page, "Still"),
        (29, other, "Still"),
        (29, page, "Still"),
        (31, page, "Again"),
    ):
        visitor.clock.fast_forward(minutes * 60_000)
        tab.evaluate(f"footfall.track('{name}')")
        for each in (page, other):
            flush(each)
    (again,) = stage.gate.named("Again")
    sessions = {event["context"]["sessionId"] for event in stage.gate.events()}

    assert len(sessions) == 2
    assert {event["context"]["sessionId"] for event in stage.gate.named("Still")} == sessions - {
        again["context"]["sessionId"]
    }


# --- the clock --------------------------------------------------------------------------------------------------------


def per_day(stage: Stage, visitor: str) -> dict[int, dict[str, int]]:
    """Events by how many days from the service's today they were counted."""
    today = datetime.now(ZoneInfo(stage.metrics(visitor)["timezone"])).date()
    days = stage.metrics(
        visitor, **{"from": f"{today - timedelta(days=30)}", "to": f"{today + timedelta(days=30)}"}
    )
    return {
        (datetime.fromisoformat(day["day"]).date() - today).days: {"events": day["events"], **day["byEvent"]}
        for day in days["days"]
    }


@pytest.mark.parametrize("days", [3, -10, 400])
def test_an_event_of_a_clock_that_is_far_off_is_corrected_and_counted_today(stage: Stage, days: int) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) + timedelta(days=days))
    page = stage.visit(visitor)
    page.evaluate("footfall.track('First')")
    flush(page)
    page.evaluate("footfall.track('Second')")
    flush(page)
    stage.move_on(page)
    page.evaluate("footfall.track('Third')")
    flush(page)

    assert page.evaluate("footfall.lost") == 0
    assert per_day(stage, identity(page)) == {0: {"events": 5, "First": 1, "Second": 1, "Third": 1}}


@pytest.mark.parametrize("hours", [20, -72])
def test_a_clock_that_is_off_within_the_limits_is_right_from_the_first_reply(
    stage: Stage, hours: int
) -> None:
    # Whatever the time is now, these hours lead to another day.
    off = timedelta(hours=hours)
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) + off)
    page = stage.visit(visitor)
    flush(page)
    page.evaluate("footfall.track('Second')")
    stage.move_on(page)  # or the fault would be of the request by which the page before sends the second
    stage.gate.faults.append(REPLY_LOST)
    page.evaluate("footfall.track('Third'); footfall.flush()")
    until(lambda: not [event for event in queued(page) if event.get("event") == "Third"])
    now = datetime.now(UTC)
    told = {
        event["messageId"]: datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
        for event in stage.gate.events()
    }
    first, *later = told.values()

    assert abs(first - now - off) < timedelta(minutes=2)
    assert len(later) == 3
    assert all(abs(instant - now) < timedelta(minutes=2) for instant in later)
    third = {json.dumps(event, sort_keys=True) for event in stage.gate.named("Third")}
    assert (len(stage.gate.named("Third")), len(third)) == (2, 1)


def test_an_event_that_was_sent_keeps_its_time_though_the_clock_is_known_by_now(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) - timedelta(hours=72))
    # Counted, and yet to be sent again: with another time it would count on another day too.
    stage.gate.faults.append(Fault(503, reaches_the_service=True))
    page = stage.visit(visitor)
    flush(page)
    until(lambda: not queued(page))
    page.evaluate("footfall.track('Later')")
    flush(page)
    days = per_day(stage, identity(page))

    assert len({event["timestamp"] for event in stage.gate.events() if event["type"] == "page"}) == 1
    assert days == {-3: {"events": 1}, 0: {"events": 1, "Later": 1}}


def test_events_that_wait_for_the_first_reply_are_corrected_before_they_are_sent(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) - timedelta(hours=72))
    page = stage.visit(visitor)
    page.evaluate("for (let n = 0; n < 20; n++) footfall.track(n < 19 ? 'First' : 'Waiting')")
    flush(page)
    days = per_day(stage, identity(page))

    assert days[0] == {"events": 1, "Waiting": 1}
    assert days[-3] == {"events": 20, "First": 19}


@pytest.mark.parametrize("days", [3, -400])
def test_what_a_page_sent_when_it_was_left_is_corrected_too(stage: Stage, days: int) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) + timedelta(days=days))
    page = stage.visit(visitor)
    stage.move_on(page)
    flush(page)
    until(lambda: len(queued(page)) == 1)  # what the page before has heard nothing of
    visitor.clock.fast_forward(PAST_DOUBT_MS)
    until(lambda: not queued(page))

    assert page.evaluate("footfall.lost") == 0
    assert per_day(stage, identity(page)) == {0: {"events": 2}}


def test_a_clock_that_is_set_wrong_meanwhile_loses_nothing(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    flush(page)
    visitor.clock.set_system_time(datetime.now(UTC) - timedelta(days=10))
    page.evaluate("footfall.track('Later')")
    flush(page)

    assert page.evaluate("footfall.lost") == 0
    assert per_day(stage, identity(page)) == {0: {"events": 2, "Later": 1}}


def test_where_no_clock_can_be_learnt_a_refused_event_is_lost_and_not_sent_again(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) + timedelta(days=3))
    stage.gate.exposes = False
    page = stage.visit(visitor)
    flush(page)

    assert (page.evaluate("footfall.lost"), queued(page), len(stage.gate.posts)) == (1, [], 1)


def test_a_clock_that_has_been_set_right_is_believed_again(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) + timedelta(days=3))
    page = stage.visit(visitor)
    flush(page)
    visitor.clock.set_system_time(datetime.now(UTC))
    stage.move_on(page)
    flush(page)

    assert per_day(stage, identity(page)) == {0: {"events": 2}}
    assert "footfall.clock" not in stored(page)


def test_a_good_clock_is_left_alone(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    flush(page)
    made = page.evaluate("footfall.track('Click'), Date.now()")
    flush(page)
    (click,) = stage.gate.named("Click")

    assert (
        abs(datetime.fromisoformat(click["timestamp"].replace("Z", "+00:00")).timestamp() * 1000 - made)
        < 1000
    )
    assert "footfall.clock" not in stored(page)
