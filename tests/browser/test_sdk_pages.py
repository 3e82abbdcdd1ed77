"""Page views by themselves: of the load, of routes of a single-page app, of going back; and how long pages are used."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.shop import ONE_VIEW, Stage, flush, identity, queued, until

SETTLE = "new Promise((resolve) => setTimeout(resolve, 20))"


def views(stage: Stage) -> list[str]:
    """The paths of the page views that have arrived."""
    return [event["context"]["page"]["path"] for event in stage.gate.events() if event["type"] == "page"]


def test_each_route_of_a_single_page_app_is_a_page_view(stage: Stage) -> None:
    page = stage.visit()
    for step in (
        "history.pushState({}, '', '/shoes')",
        "history.pushState({}, '', '/shoes?page=2')",
        "history.replaceState({}, '', '/shoes?page=2&sort=price')",  # state kept in the address is no page
        "history.replaceState({scroll: 100}, '')",
        "history.pushState({dialog: true}, '', '#size')",
        "history.pushState({}, '', '/login'); history.replaceState({}, '', '/account')",  # a redirect
        "history.replaceState({}, '', '/orders')",
        "history.back()",
    ):
        page.evaluate(step)
        page.evaluate(SETTLE)
    until(lambda: page.evaluate("location.pathname") == "/shoes")
    page.evaluate(SETTLE)
    flush(page)

    assert views(stage) == ["/", "/shoes", "/shoes", "/account", "/orders", "/shoes"]
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 6, "pageViews": 6}
    referrers = [
        event["context"]["page"]["referrer"].removeprefix(stage.shop.url) for event in stage.gate.events()
    ]
    assert referrers == ["", "/", "/shoes", "/shoes", "/account", "/orders"]


def test_a_router_that_does_without_the_history_is_followed_too(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("navigation.addEventListener('navigate', (event) => event.intercept({ handler() {} }))")
    for step in (
        "navigation.navigate('/shoes')",
        "navigation.navigate('/shoes?sort=price', { history: 'replace' })",
        "navigation.navigate('/shoes?page=2')",
        "navigation.navigate('/login', { history: 'replace' })",
        "navigation.back()",
    ):
        page.evaluate(f"{step}.finished.then(() => {SETTLE})")
    flush(page)

    assert views(stage) == ["/", "/shoes", "/shoes", "/login", "/shoes"]


def test_a_router_that_calls_page_itself_counts_each_view_once(stage: Stage) -> None:
    stage.shop.plain = stage.shop.page("footfall.page('Home')")
    page = stage.visit()
    page.evaluate("history.pushState({}, '', '/shoes'); footfall.page('Shoes', {season: 'autumn'})")
    page.evaluate(SETTLE)
    flush(page)

    assert [(event["name"], event.get("properties")) for event in stage.gate.events()] == [
        ("Home", None),
        ("Shoes", {"season": "autumn"}),
    ]
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "pageViews": 2}


def test_a_page_that_is_left_at_once_is_a_view_too(stage: Stage) -> None:
    """Before the timer that waits for a `page` of its own; the events that the page has sent are never without."""
    leaves = "footfall.track('Seen'); dispatchEvent(new PageTransitionEvent('pagehide'))"
    stage.shop.plain = stage.shop.page(leaves)
    page = stage.visit()
    page.evaluate(SETTLE)
    flush(page)

    assert [event["type"] for event in stage.gate.posts[0].events] == ["track", "page"]
    assert views(stage) == ["/"]


def test_page_views_can_be_left_to_the_shop(stage: Stage) -> None:
    stage.shop.plain = stage.shop.page(autoPage=False)
    page = stage.visit()
    page.evaluate("history.pushState({}, '', '/shoes')")
    page.evaluate(SETTLE)
    page.evaluate("footfall.page()")
    flush(page)

    assert views(stage) == ["/shoes"]
    assert stage.counted(identity(page)) == ONE_VIEW


def test_a_page_that_comes_back_from_the_cache_is_viewed_again(stage: Stage) -> None:
    page = stage.visit()
    visitor = identity(page)
    page.evaluate(
        "window.stayed = true; addEventListener('pageshow', (event) => (window.persisted = event.persisted))"
    )
    flush(page)  # a page that still waits for a reply might not be kept
    stage.move_on(page)
    page.evaluate("footfall.track('On the next')")
    page.go_back(wait_until="commit")
    until(lambda: page.evaluate("window.persisted"))
    page.evaluate("footfall.track('Back again')")
    flush(page)

    # The page and its SDK lived on; what the next one had not sent, or not heard of, is in nobody's way.
    assert page.evaluate("window.stayed")
    assert identity(page) == visitor
    both = {"On the next": 1, "Back again": 1}
    stage.until_counted(visitor, ONE_VIEW | {"events": 5, "pageViews": 3, "byEvent": both})


def test_a_page_drawn_ahead_counts_when_it_is_looked_at(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(
        "Object.defineProperty(document, 'prerendering', { value: true, configurable: true })"
    )
    page = stage.visit(visitor)
    page.evaluate("footfall.productViewed()")
    flush(page)
    assert stage.gate.posts == []
    assert page.evaluate("Object.keys(localStorage)") == []
    page.evaluate("delete document.prerendering; document.dispatchEvent(new Event('prerenderingchange'))")
    page.evaluate(SETTLE)
    flush(page)

    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "productViews": 1}


def hide(hidden: bool) -> str:
    """A script that hides the tab, or shows it again."""
    return (
        f"Object.defineProperty(document, 'hidden', {{ value: {str(hidden).lower()}, configurable: true }});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


@pytest.fixture
def measured(stage: Stage) -> Any:
    """A page that measures how long it is used, and whose time stands still unless it is told to go on.

    It was used for ten milliseconds, which the SDK keeps as it does every fraction of a second.
    """
    stage.shop.plain = stage.shop.page(engagement=True)
    page = stage.visit_in_stopped_time()
    page.evaluate(hide(True))
    until(lambda: not queued(page))
    stage.gate.posts.clear()
    page.evaluate(hide(False))
    return page


def left(stage: Stage) -> list[int]:
    """What the events say that tell of pages left."""
    return [event["properties"]["engagedSeconds"] for event in stage.gate.named("Page Left")]


def test_engaged_seconds_are_those_visible_and_active(stage: Stage, measured: Any) -> None:
    before = stage.counted(identity(measured)).get("engagedSeconds", 0)
    measured.clock.run_for(10_000)
    measured.evaluate("dispatchEvent(new Event('scroll'))")
    measured.clock.run_for(100_000)  # of which half a minute counts
    measured.evaluate("dispatchEvent(new Event('keydown'))")
    measured.clock.run_for(2_500)
    measured.evaluate(hide(True))
    until(lambda: not queued(measured))
    measured.clock.run_for(60_000)  # in another tab
    measured.evaluate(hide(False))
    measured.clock.run_for(1_600)
    measured.evaluate("history.pushState({}, '', '/next')")
    measured.clock.run_for(20)
    measured.evaluate(hide(True))
    until(lambda: not queued(measured))

    # Half a second is carried over from the first stay to the second.
    assert left(stage) == [42, 2]
    assert [event["context"]["page"]["path"] for event in stage.gate.named("Page Left")] == ["/", "/"]
    assert stage.counted(identity(measured))["engagedSeconds"] - before == 44


def test_a_page_left_open_for_hours_begins_no_session(stage: Stage, measured: Any) -> None:
    measured.clock.run_for(5_000)
    measured.clock.fast_forward(3 * 3600_000)
    measured.evaluate(hide(True))
    until(lambda: not queued(measured))

    assert left(stage) == [30]
    assert stage.counted(identity(measured))["sessions"] == 1
