"""The SDK in a browser, on a good day and on bad ones: what the service has counted afterwards is exactly right."""

from __future__ import annotations

import json
import threading

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
    queues,
    settle,
    stored,
    until,
    view_and,
)

ORDER = {
    "order_id": "1001",
    "revenue": 59.9,
    "currency": "EUR",
    "products": [{"product_id": "sku-9", "quantity": 2}, {"product_id": "sku-7"}],
}
HIDE = """
  Object.defineProperty(document, 'hidden', { value: true });
  document.dispatchEvent(new Event('visibilitychange'))
"""
PAST_DOUBT_MS = 5 * 60_000 + 10_000


def deliveries(stage: Stage, name: str) -> list[str]:
    """Each delivery of the events of this name, as text."""
    return [json.dumps(event, sort_keys=True) for event in stage.gate.named(name)]


def test_a_purchase_over_several_pages(stage: Stage) -> None:
    page = stage.visit(path="/")
    visitor = identity(page)
    page.evaluate("footfall.productsSearched({query: 'shoes'}); footfall.productListViewed()")
    stage.move_on(page, "/shoe")
    page.evaluate("footfall.productViewed({product_id: 'sku-9'}); footfall.productAddedToWishlist()")
    page.evaluate("footfall.productAdded(); footfall.productRemoved(); footfall.promotionClicked()")
    stage.move_on(page, "/cart")
    page.evaluate("footfall.cartViewed(); footfall.checkoutStarted()")
    stage.move_on(page, "/thanks")
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
    page = stage.visit_in_stopped_time()
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
    stage.gate.faults.append(Fault(status, {"Retry-After": str(seconds)}))
    other = stage.visit(page.context, "/other")
    page.evaluate("footfall.track('Click'); footfall.flush()")
    until(lambda: len(stage.gate.posts) >= 2)
    until(lambda: all(tab.evaluate("localStorage['footfall.wait']") for tab in (page, other)))
    expected = view_and({"Click": 1}) | {"events": 3, "pageViews": 2}
    stage.until_counted(identity(page), expected, lambda: flush(other))

    # Each has something to send, and nobody did before it was time.
    assert min(post.at for post in stage.gate.posts[2:]) - stage.gate.posts[1].at >= seconds


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
    left = queues(leaving)
    leaving.close()
    gone.set()

    leaving.context.clock.install()
    staying = stage.visit(leaving.context)
    flush(staying)
    until(lambda: queues(staying) not in ([], left))
    assert [event.get("event") for event in queued(staying)] == ["Last"]
    assert len(deliveries(stage, "Last")) == 1  # it has most likely arrived: no hurry
    staying.clock.fast_forward(PAST_DOUBT_MS)
    until(lambda: not queued(staying))

    assert len(deliveries(stage, "Last")) == 2
    assert len(set(deliveries(stage, "Last"))) == 1
    assert stage.counted(visitor) == view_and({"Last": 1}) | {"events": 3, "pageViews": 2}


def test_one_of_two_tabs_takes_over_what_a_third_could_not_send(stage: Stage) -> None:
    context = stage.visitor()
    closing = stage.visit(context)
    visitor = identity(closing)
    tabs = [closing, stage.visit(closing.context), stage.visit(closing.context)]
    for tab in tabs:
        flush(tab)
    context.set_offline(True)
    # Within one task, so that the tab is not closed in the middle of a try: the others would wait for five minutes.
    closing.evaluate("window.fetch = () => Promise.reject(new TypeError()); 0")
    closing.evaluate("footfall.track('First'); footfall.flush()")
    closing.evaluate("footfall.track('Second')")
    closing.close()
    until(lambda: len(queued(tabs[1])) == 2)
    context.set_offline(False)
    expected = view_and({"First": 1, "Second": 1}) | {"events": 5, "pageViews": 3}
    stage.until_counted(visitor, expected, lambda: [flush(tab) for tab in tabs[1:]])

    assert len(deliveries(stage, "First")) == len(deliveries(stage, "Second")) == 1


def test_a_tab_that_crashed_is_found_by_its_heart(stage: Stage) -> None:
    page = stage.visit()
    flush(page)
    event = {"type": "track", "event": "Orphan", "messageId": "orphan-1", "anonymousId": identity(page)}
    entry = {"e": event, "at": page.evaluate("Date.now()")}
    owned = entry | {"e": event | {"event": "Owned", "messageId": "owned-1"}}
    for tab, queue, beat_ms in (("crashed", [entry], -20_000), ("alive", [owned], 0)):
        page.evaluate(
            """([tab, queue, beat]) => {
              localStorage['footfall.b.' + tab] = Date.now() + beat;
              localStorage['footfall.q.' + tab] = queue;
            }""",
            [tab, json.dumps(queue), beat_ms],
        )
    page.evaluate("localStorage['footfall.q.garbage'] = '{]'")

    def live() -> bool:
        page.evaluate("localStorage['footfall.b.alive'] = Date.now()")
        return flush(page)

    stage.until_counted(identity(page), view_and({"Orphan": 1}), live)
    until(lambda: live() and "footfall.q.garbage" not in stored(page))
    until(lambda: live() and [left["event"] for left in queued(page)] == ["Owned"])
    assert stage.gate.named("Owned") == []


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
    until(lambda: flush(other) and stage.gate.named("Second"), seconds=60)
    busy.wait_for_function("window.isAwake", timeout=60_000)
    expected = view_and({"First": 1, "Second": 1, "Third": 1}) | {"events": 5, "pageViews": 2}
    stage.until_counted(identity(other), expected, lambda: flush(busy))
    until(lambda: not queued(other))

    # Storage reaches a tab that was busy late, so it may send the same again: it is the same, and counts once.
    assert [len(set(deliveries(stage, name))) for name in ("First", "Second", "Third")] == [1, 1, 1]
    assert busy.evaluate("footfall.lost") + other.evaluate("footfall.lost") == 0


def test_a_visitor_who_leaves_at_once_is_counted(stage: Stage) -> None:
    page = stage.visit()
    visitor = identity(page)
    page.evaluate("footfall.track('Click')")
    page.close()
    until(lambda: stage.gate.named("Click"))
    until(lambda: stage.counted(visitor) == view_and({"Click": 1}))


def test_a_page_that_is_left_does_not_wait_for_the_next_try(stage: Stage) -> None:
    page = stage.visit_in_stopped_time()
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
    settle(page)
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
    page = stage.visit_in_stopped_time()
    page.evaluate(HIDE)
    until(lambda: not queued(page))

    assert stage.counted(identity(page)) == ONE_VIEW
