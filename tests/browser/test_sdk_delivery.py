"""The SDK in a browser, on a good day and on bad ones: what the service has counted afterwards is exactly right."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.browser.shop import (
    DOWN,
    REPLY_LOST,
    Fault,
    Stage,
    flush,
    identity,
    is_one_left,
    queued,
    stored,
    until,
)

ORDER = {
    "order_id": "1001",
    "revenue": 59.9,
    "currency": "EUR",
    "products": [{"product_id": "sku-9", "quantity": 2}, {"product_id": "sku-7"}],
}
ONE_VIEW = {"activeDays": 1, "sessions": 1, "events": 1, "pageViews": 1}
HIDE = """
  Object.defineProperty(document, 'hidden', { value: true });
  document.dispatchEvent(new Event('visibilitychange'))
"""
PAST_DOUBT_MS = 5 * 60_000 + 10_000


def view_and(named: dict[str, int]) -> dict[str, Any]:
    """The page view of the visit, and other events by name."""
    return ONE_VIEW | {"events": 1 + sum(named.values()), "byEvent": named}


def deliveries(stage: Stage, name: str) -> list[str]:
    """Each delivery of the events of this name, as text."""
    return [json.dumps(event, sort_keys=True) for event in stage.gate.named(name)]


def test_a_purchase_over_several_pages(stage: Stage) -> None:
    page = stage.visit(path="/")
    visitor = identity(page)
    page.evaluate("footfall.productsSearched({query: 'shoes'}); footfall.productListViewed()")
    page.goto(stage.shop.url + "/shoe")
    page.evaluate("footfall.productViewed({product_id: 'sku-9'}); footfall.productAddedToWishlist()")
    page.evaluate("footfall.productAdded(); footfall.productRemoved(); footfall.promotionClicked()")
    page.goto(stage.shop.url + "/cart")
    page.evaluate("footfall.cartViewed(); footfall.checkoutStarted()")
    page.goto(stage.shop.url + "/thanks")
    page.evaluate("order => { footfall.orderCompleted(order); footfall.track('Survey Answered') }", ORDER)
    page.evaluate("footfall.orderRefunded({total: '9.90', currency: 'EUR'}); footfall.orderCancelled()")
    flush(page)

    assert identity(page) == visitor
    assert stage.counted(visitor) == {
        "activeDays": 1,
        "sessions": 1,
        "events": 17,
        "pageViews": 4,
        "searches": 1,
        "listViews": 1,
        "productViews": 1,
        "promotionClicks": 1,
        "cartAdds": 1,
        "cartRemoves": 1,
        "cartViews": 1,
        "wishlistAdds": 1,
        "checkouts": 1,
        "orders": 1,
        "refundedOrders": 1,
        "cancelledOrders": 1,
        "itemsSold": 3,
        "revenue": {"EUR": 59.9},
        "refunds": {"EUR": 9.9},
        "byEvent": {"Survey Answered": 1},
    }
    # A page that is left hears nothing of its last request, and still nothing is sent twice in the usual case.
    ids = [event["messageId"] for event in stage.gate.events()]
    assert len(ids) == len(set(ids)) == 17


def test_events_are_sent_together_within_five_seconds(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("footfall.track('A'); footfall.track('B')")
    until(lambda: stage.gate.posts)

    assert [len(post.events) for post in stage.gate.posts] == [3]
    until(lambda: not queued(page))
    assert stage.counted(identity(page)) == view_and({"A": 1, "B": 1})


def test_twenty_events_are_sent_at_once(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    visitor.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    page.evaluate("for (let n = 0; n < 19; n++) footfall.track('Click')")
    until(lambda: not queued(page))

    assert [len(post.events) for post in stage.gate.posts] == [20]
    assert stage.counted(identity(page)) == view_and({"Click": 19})


def test_offline_and_back(stage: Stage) -> None:
    page = stage.visit()
    flush(page)
    page.context.set_offline(True)
    page.evaluate("footfall.track('In a tunnel'); footfall.flush()")
    page.evaluate("footfall.track('Still in it')")
    assert len(queued(page)) == 2
    page.context.set_offline(False)
    until(lambda: not queued(page))

    assert stage.counted(identity(page)) == view_and({"In a tunnel": 1, "Still in it": 1})


def test_the_service_is_down_for_a_while(stage: Stage) -> None:
    page = stage.visit()
    stage.gate.faults.extend([DOWN, Fault(500), Fault(408)])
    page.evaluate("footfall.track('Click'); footfall.flush()")
    until(lambda: not queued(page))

    assert len(deliveries(stage, "Click")) == 4
    assert len(set(deliveries(stage, "Click"))) == 1
    assert stage.counted(identity(page)) == view_and({"Click": 1})
    gaps = [later.at - post.at for post, later in zip(stage.gate.posts, stage.gate.posts[1:], strict=False)]
    assert all(gap >= 0.5 * 2**number for number, gap in enumerate(gaps))


@pytest.mark.parametrize(("status", "seconds"), [(429, 2), (503, 1)])
def test_every_tab_waits_as_long_as_it_is_asked_to(stage: Stage, status: int, seconds: int) -> None:
    page = stage.visit()
    flush(page)
    other = stage.visit(page.context, "/other")
    stage.gate.faults.append(Fault(status, {"Retry-After": str(seconds)}))
    page.evaluate("footfall.track('Click'); footfall.flush()")
    until(lambda: len(stage.gate.posts) == 2)
    until(lambda: page.evaluate("localStorage['footfall.wait']"))
    flush(other)
    assert len(stage.gate.posts) == 2
    until(lambda: flush(other) and not queued(page))

    assert min(post.at for post in stage.gate.posts[2:]) - stage.gate.posts[1].at >= seconds
    assert stage.counted(identity(page)) == view_and({"Click": 1}) | {"events": 3, "pageViews": 2}


def test_a_lost_reply_counts_nothing_twice(stage: Stage) -> None:
    page = stage.visit()
    stage.gate.faults.append(REPLY_LOST)
    page.evaluate(
        "order => { footfall.orderCompleted(order); footfall.track('Click') }", ORDER | {"order_id": "1"}
    )
    page.evaluate("footfall.flush()")
    until(lambda: not queued(page))

    assert len(deliveries(stage, "Click")) == 2
    assert len(set(deliveries(stage, "Click"))) == 1
    assert stage.counted(identity(page)) == view_and({"Click": 1}) | {
        "events": 3,
        "orders": 1,
        "itemsSold": 3,
        "revenue": {"EUR": 59.9},
    }


def test_another_tab_sends_what_a_closed_one_never_heard_of(stage: Stage) -> None:
    leaving = stage.visit()
    visitor = identity(leaving)
    flush(leaving)
    gone = threading.Event()
    stage.gate.faults.append(Fault(reaches_the_service=True, until=gone))
    leaving.evaluate("footfall.track('Last'); void footfall.flush()")
    until(lambda: stage.gate.named("Last"))
    leaving.close()
    gone.set()

    leaving.context.clock.install()
    staying = stage.visit(leaving.context)
    flush(staying)
    until(lambda: [event.get("event") for event in queued(staying)] == ["Last"])
    assert len(deliveries(stage, "Last")) == 1  # it has most likely arrived: no hurry
    until(
        lambda: staying.evaluate("Object.keys(localStorage).filter((key) => /[.]b[.]/.test(key)).length") == 1
    )
    staying.clock.fast_forward(PAST_DOUBT_MS)
    until(lambda: not queued(staying))

    assert len(deliveries(stage, "Last")) == 2
    assert len(set(deliveries(stage, "Last"))) == 1
    assert stage.counted(visitor) == view_and({"Last": 1}) | {"events": 3, "pageViews": 2}


def test_one_of_two_tabs_takes_over_what_a_third_could_not_send(stage: Stage) -> None:
    context = stage.visitor()
    context.clock.install()
    closing = stage.visit(context)
    visitor = identity(closing)
    tabs = [closing, stage.visit(closing.context), stage.visit(closing.context)]
    for tab in tabs:
        flush(tab)
    context.set_offline(True)
    closing.evaluate("footfall.track('First'); footfall.flush()")
    closing.evaluate("footfall.track('Second')")
    closing.close()
    until(lambda: is_one_left(tabs[1]))
    context.set_offline(False)
    context.clock.fast_forward(PAST_DOUBT_MS)  # a slow machine may have closed the tab in the middle of a try
    until(lambda: all(flush(tab) for tab in tabs[1:]) and not queued(tabs[1]))

    assert len(deliveries(stage, "First")) == len(deliveries(stage, "Second")) == 1
    assert stage.counted(visitor) == view_and({"First": 1, "Second": 1}) | {"events": 5, "pageViews": 3}


def test_a_tab_that_crashed_is_found_by_its_heart(stage: Stage) -> None:
    page = stage.visit()
    flush(page)
    event = {"type": "track", "event": "Orphan", "messageId": "orphan-1", "anonymousId": identity(page)}
    entry = {"e": event, "at": page.evaluate("Date.now()")}
    owned = entry | {"e": event | {"event": "Owned", "messageId": "owned-1"}}
    for tab, queue, beat_ms in (("crashed", [entry], -20_000), ("alive", [owned], 10_000)):
        page.evaluate(
            """([tab, queue, beat]) => {
              localStorage['footfall.b.' + tab] = Date.now() + beat;
              localStorage['footfall.q.' + tab] = queue;
            }""",
            [tab, json.dumps(queue), beat_ms],
        )
    page.evaluate("localStorage['footfall.q.garbage'] = '{]'")
    until(lambda: flush(page) and stage.gate.named("Orphan"))
    until(lambda: "footfall.q.garbage" not in stored(page))
    until(lambda: [left["event"] for left in queued(page)] == ["Owned"])

    assert stage.counted(identity(page)) == view_and({"Orphan": 1})


def test_what_was_taken_over_from_a_tab_that_was_only_busy_counts_once(stage: Stage) -> None:
    busy = stage.visit()
    flush(busy)
    other = stage.visit(busy.context, "/other")
    flush(other)
    stage.gate.faults.append(Fault(500))
    busy.evaluate("footfall.track('First'); footfall.flush()")
    busy.evaluate(
        """setTimeout(() => {
          footfall.track('Second');
          const from = performance.now();
          while (performance.now() - from < 25_000);
          footfall.track('Third');
          window.isAwake = true;
        })"""
    )
    until(lambda: flush(other) and stage.gate.named("Second"))
    busy.wait_for_function("window.isAwake", timeout=60_000)
    until(lambda: flush(busy) and not queued(other))

    # Storage reaches a tab that was busy late, so it may send the same again: it is the same, and counts once.
    assert [len(set(deliveries(stage, name))) for name in ("First", "Second", "Third")] == [1, 1, 1]
    assert busy.evaluate("footfall.lost") + other.evaluate("footfall.lost") == 0
    assert stage.counted(identity(other)) == view_and({"First": 1, "Second": 1, "Third": 1}) | {
        "events": 5,
        "pageViews": 2,
    }


def test_a_visitor_who_leaves_at_once_is_counted(stage: Stage) -> None:
    page = stage.visit()
    visitor = identity(page)
    page.evaluate("footfall.track('Click')")
    page.close()
    until(lambda: stage.gate.named("Click"))
    until(lambda: stage.counted(visitor) == view_and({"Click": 1}))


def test_a_page_that_is_left_does_not_wait_for_the_next_try(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    visitor.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    stage.gate.faults.append(Fault(500))
    flush(page)
    flush(page)
    assert len(stage.gate.posts) == 1
    page.evaluate(HIDE)
    until(lambda: not queued(page))

    assert stage.counted(identity(page)) == ONE_VIEW


def test_a_page_that_is_left_waits_all_the_same_if_the_service_has_asked_for_it(stage: Stage) -> None:
    page = stage.visit()
    stage.gate.faults.append(Fault(503, {"Retry-After": "60"}))
    flush(page)
    page.goto(stage.shop.url + "/next")
    flush(page)

    assert len(stage.gate.posts) == 1
    assert [event["type"] for event in queued(page)] == ["page", "page"]


def test_each_request_may_outlive_its_page_and_carries_no_cookie(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(
        "const send = fetch; window.sent = []; window.fetch = (url, given) => (sent.push(given), send(url, given))"
    )
    page = stage.visit(visitor)
    flush(page)

    # On this machine alone a request is too quick to see it: other pages lose what does not ask for it.
    assert page.evaluate("sent.map(({keepalive, credentials}) => [keepalive, credentials])") == [
        [True, "omit"]
    ]


def test_a_tab_that_is_hidden_sends_at_once(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install()
    page = stage.visit(visitor)
    visitor.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    page.evaluate(HIDE)
    until(lambda: not queued(page))

    assert stage.counted(identity(page)) == ONE_VIEW


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
    until(lambda: flush(page) and stage.counted(visitor) == expected)


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
    until(lambda: len(queued(page)) == 1_000)
    page.context.set_offline(False)
    until(lambda: not queued(page))

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
