"""What the SDK keeps and what it gives up: sizes, refusals, and events that wait too long."""

from __future__ import annotations

import pytest

from tests.browser.shop import DOWN, ONE_VIEW, Fault, Stage, flush, identity, queued, queues, until, view_and


def test_large_events_go_in_bodies_that_browsers_take(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("for (let n = 0; n < 8; n++) footfall.track('Large', {text: '€'.repeat(9_000)})")
    page.evaluate("footfall.track('Too large', {text: '€'.repeat(11_000)})")
    flush(page)

    assert [len(post.events) for post in stage.gate.posts] == [3, 2, 2, 2]
    assert page.evaluate("footfall.lost") == 1
    assert stage.counted(identity(page)) == view_and({"Large": 8})


def test_what_is_large_arrives_from_a_page_that_is_left(stage: Stage) -> None:
    page = stage.visit()
    visitor = identity(page)
    page.evaluate("for (let n = 0; n < 6; n++) footfall.track('Large', {text: '€'.repeat(9_000)})")
    page.goto(stage.shop.url + "/next")
    expected = view_and({"Large": 6}) | {"events": 8, "pageViews": 2}

    # What was more than browsers let a leaving page send, the next one has adopted.
    stage.until_counted(visitor, expected, lambda: flush(page))


def test_a_batch_refused_as_too_large_is_split(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("for (let n = 0; n < 7; n++) footfall.track('Click')")
    stage.gate.faults.extend([Fault(413), Fault(413)])
    flush(page)

    assert [len(post.events) for post in stage.gate.posts] == [8, 4, 2, 4, 2]
    assert page.evaluate("footfall.lost") == 0
    assert stage.counted(identity(page)) == view_and({"Click": 7})


def test_an_event_for_which_its_batch_is_refused_is_lost_alone(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate(
        """() => {
          let deep = [];
          for (let depth = 0; depth < 3_000; depth++) deep = [deep];
          for (let n = 0; n < 16; n++) footfall.track(n === 9 ? 'Deep' : 'Click', n === 9 ? {deep} : {});
        }"""
    )
    flush(page)
    tries = len(stage.gate.posts)
    stage.gate.clear()  # nor could this test read it
    page.evaluate("for (let n = 0; n < 16; n++) footfall.track('Click')")
    flush(page)

    assert tries == 11  # of 17, 8, 9, 4, 2, 4, 2, 1, 1, 2 and 3 events
    assert [len(post.events) for post in stage.gate.posts] == [8, 8]
    assert page.evaluate("footfall.lost") == 1
    assert stage.counted(identity(page)) == view_and({"Click": 31})


@pytest.mark.parametrize("status", [400, 401, 422])
def test_what_is_refused_for_good_is_given_up_and_counted_as_lost(stage: Stage, status: int) -> None:
    page = stage.visit()
    stage.gate.faults.append(Fault(status))
    flush(page)
    page.evaluate("footfall.track('Click')")
    flush(page)

    assert page.evaluate("footfall.lost") == 1
    assert stage.counted(identity(page)) == {
        "activeDays": 1,
        "sessions": 1,
        "events": 1,
        "byEvent": {"Click": 1},
    }


def test_one_bad_event_is_lost_alone(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("footfall.orderCompleted({revenue: 'much'}); footfall.track('Circular', {window})")
    flush(page)

    assert page.evaluate("footfall.lost") == 2
    assert stage.counted(identity(page)) == ONE_VIEW


@pytest.mark.parametrize("body", [b"<html>Welcome to our hotel!</html>", b'{"success": false}', b"null"])
def test_a_page_of_somebody_else_is_no_acknowledgement(stage: Stage, body: bytes) -> None:
    page = stage.visit()
    stage.gate.faults.append(Fault(200, body=body))
    page.evaluate("footfall.flush()")
    until(lambda: not queued(page))

    assert len(stage.gate.posts) == 2
    assert page.evaluate("footfall.lost") == 0
    assert stage.counted(identity(page)) == ONE_VIEW


def test_a_thousand_events_are_kept_and_the_oldest_go_first(stage: Stage) -> None:
    page = stage.visit()
    page.context.set_offline(True)
    page.evaluate("for (let n = 0; n < 1_009; n++) footfall.track(n < 10 ? 'Old' : 'New')")
    assert len(queued(page)) == 1_000
    page.context.set_offline(False)
    # Fifty requests one after the other, and what is left is written anew before and after each.
    until(lambda: not queues(page), seconds=120)

    assert page.evaluate("footfall.lost") == 10
    assert stage.counted(identity(page)) == {"activeDays": 1, "sessions": 1, "events": 1_000} | {
        "byEvent": {"Old": 1, "New": 999}
    }


def test_an_event_is_given_up_after_five_days(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    flush(page)
    stage.gate.always = DOWN
    page.evaluate("footfall.track('Old'); footfall.flush()")
    until(lambda: stage.gate.named("Old"))
    visitor.clock.fast_forward(5 * 24 * 3600_000 + 1)
    stage.gate.always = None
    until(lambda: not queued(page))

    assert page.evaluate("footfall.lost") == 1
    assert stage.counted(identity(page)) == ONE_VIEW
