"""Consent, Global Privacy Control, and storage that is blocked or full."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.browser.shop import ONE_VIEW, Fault, Stage, flush, identity, queued, settle, stored, until

GPC = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', { get: () => true });"
BUSY = "footfall.track('Click'); footfall.identify('u-consent'); footfall.page(); footfall.reset(); footfall.flush()"


def kept(stage: Stage, visitor: Any) -> tuple[list[str], list[str]]:
    """Everything a browser has stored of the shop: keys of localStorage, names of cookies."""
    page = visitor.pages[0]
    keys = page.evaluate("Object.keys(localStorage).concat(Object.keys(sessionStorage))")
    return keys, [cookie["name"] for cookie in visitor.cookies()]


def test_without_consent_nothing_is_stored_and_nothing_sent(stage: Stage) -> None:
    stage.shop.plain = stage.shop.page(consent=False)
    page = stage.visit()
    page.evaluate(BUSY)
    page.goto(stage.shop.url + "/next")
    page.evaluate(BUSY)

    assert kept(stage, page.context) == ([], [])
    assert stage.gate.posts == []
    assert page.evaluate("footfall.anonymousId") == ""


def test_with_the_answer_the_page_counts_and_the_next_one_remembers(stage: Stage) -> None:
    stage.shop.plain = stage.shop.page(consent=False)
    page = stage.visit()
    page.evaluate("footfall.track('Before'); footfall.setConsent(true); footfall.setConsent(true)")
    page.evaluate("footfall.track('After')")
    stage.move_on(page)
    flush(page)

    assert stage.counted(identity(page)) == ONE_VIEW | {
        "events": 3,
        "pageViews": 2,
        "byEvent": {"After": 1},
    }


def test_a_refusal_removes_everything_and_lasts(stage: Stage) -> None:
    page = stage.visit()
    page.evaluate("footfall.identify('u-refusing')")
    other = stage.visit(page.context, "/other")
    other.evaluate("footfall.track('Click')")
    assert queued(page)
    page.evaluate("footfall.setConsent(false)")
    until(
        lambda: other.evaluate("localStorage['footfall.consent']") == "0"
    )  # storage reaches other tabs late
    for tab in (page, other):
        tab.evaluate(BUSY)
    page.goto(stage.shop.url + "/next")
    page.evaluate(BUSY)
    other.close()

    # The answer itself is all that is kept; it says nothing of who gave it.
    assert kept(stage, page.context) == (["footfall.consent"], [])
    assert page.evaluate("localStorage['footfall.consent']") == "0"
    assert stage.gate.posts == []


def test_a_reply_that_comes_after_the_refusal_stores_nothing(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.clock.install(time=datetime.now(UTC) + timedelta(hours=3))
    page = stage.visit(visitor)
    refused = threading.Event()
    stage.gate.faults.append(Fault(429, {"Retry-After": "60"}, until=refused))
    page.evaluate("window.sent = footfall.flush(); 0")
    until(lambda: stage.gate.posts)
    page.evaluate("footfall.setConsent(false)")
    refused.set()
    page.evaluate("window.sent")

    assert kept(stage, visitor) == (["footfall.consent"], [])


def test_the_visitor_may_change_the_answer_and_is_somebody_new(stage: Stage) -> None:
    page = stage.visit()
    before = identity(page)
    page.evaluate("footfall.setConsent(false); footfall.setConsent(true)")
    flush(page)

    assert identity(page) != before
    assert stage.counted(before) == {}
    assert stage.counted(identity(page)) == ONE_VIEW


def test_global_privacy_control_is_honoured(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(GPC)
    page = stage.visit(visitor)
    page.evaluate(BUSY)
    page.goto(stage.shop.url + "/next")

    assert kept(stage, visitor) == ([], [])
    assert stage.gate.posts == []


def test_global_privacy_control_that_comes_later_removes_what_was_stored(stage: Stage) -> None:
    visitor = stage.visitor()
    page = stage.visit(visitor)
    flush(page)
    assert stored(page)
    visitor.add_init_script(GPC)
    page.goto(stage.shop.url + "/next")

    assert kept(stage, visitor) == ([], [])


def test_an_explicit_yes_to_this_shop_outweighs_the_signal_to_all(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(GPC)
    page = stage.visit(visitor)
    page.evaluate("footfall.setConsent(true)")
    stage.move_on(page)
    flush(page)

    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "pageViews": 2}


def test_no_query_string_and_no_fragment_is_sent(stage: Stage) -> None:
    page = stage.visit(path="/reset?token=secret&utm_source=mail&utm_campaign=autumn#secret")
    page.evaluate("history.pushState({}, '', '/account?email=secret')")
    settle(page)
    stage.move_on(page, referer=stage.shop.url + "/account?email=secret")
    flush(page)
    first, second, third = (event["context"] for event in stage.gate.events())

    assert b"secret" not in b"".join(post.body for post in stage.gate.posts)
    assert first["page"] == {
        "path": "/reset",
        "url": stage.shop.url + "/reset",
        "referrer": "",
        "title": "Shop",
    }
    assert first["campaign"] == {"source": "mail", "name": "autumn"}
    assert second["page"]["referrer"] == stage.shop.url + "/reset"
    assert third["page"]["referrer"].startswith(stage.shop.url)
    assert "campaign" not in third
    assert first["userAgent"] == page.evaluate("navigator.userAgent")
    assert first["locale"] == page.evaluate("navigator.language")
    assert first["library"]["name"] == "footfall-js"


def test_no_query_string_is_sent_as_the_referer_either_whatever_the_shops_own_policy(stage: Stage) -> None:
    stage.shop.headers["Referrer-Policy"] = "unsafe-url"
    page = stage.visit(path="/reset?token=secret")
    flush(page)

    assert [post.headers["referer"] for post in stage.gate.posts] == [stage.shop.url + "/"]


# --- storage ----------------------------------------------------------------------------------------------------------


def test_blocked_storage_is_no_error(stage: Stage) -> None:
    # In a sandbox without an origin the browser itself refuses localStorage and cookies.
    stage.shop.headers["Content-Security-Policy"] = "sandbox allow-scripts"
    visitor = stage.visitor()
    page = visitor.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(stage.shop.url)
    refused = page.evaluate("(() => { try { localStorage } catch { return true } })()")
    page.evaluate("footfall.track('Click'); footfall.identify('u-blocked'); footfall.track('Later')")
    page.evaluate("history.replaceState({}, '')")
    flush(page)

    assert refused
    assert errors == []
    assert page.evaluate("footfall.lost") == 0
    assert stage.counted("u-blocked") == ONE_VIEW | {"events": 3, "byEvent": {"Click": 1, "Later": 1}}
    page.evaluate("footfall.setConsent(false); footfall.track('Refused')")
    flush(page)
    assert stage.gate.named("Refused") == []


def test_without_local_storage_a_cookie_remembers(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error() } })")
    page = stage.visit(visitor)
    first = identity(page)
    flush(page)
    page.goto(stage.shop.url + "/next")
    settle(page)
    flush(page)

    assert identity(page) == first
    assert stage.counted(first) == ONE_VIEW | {"events": 2, "pageViews": 2}
    page.evaluate("footfall.setConsent(false)")
    assert [cookie["name"] for cookie in visitor.cookies()] == ["footfall.consent"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_full_storage_loses_nothing(stage: Stage, when: str) -> None:
    visitor = stage.visitor()
    fill = """
      for (let size = 1 << 22, n = 0; size > 0; ) {
        try { localStorage['shop' + n++] = 'x'.repeat(size) } catch { size >>= 1 }
      }"""
    if when == "before":
        visitor.add_init_script(fill)
    page = stage.visit(visitor)
    page.evaluate("footfall.track('Click')")
    page.evaluate(fill)
    page.evaluate("for (let n = 0; n < 25; n++) footfall.track('More', {text: 'x'.repeat(500)})")
    flush(page)
    first = identity(page)
    page.goto(stage.shop.url + "/next")
    settle(page)
    flush(page)

    assert identity(page) == first
    assert page.evaluate("footfall.lost") == 0
    expected = ONE_VIEW | {"events": 28, "pageViews": 2, "byEvent": {"Click": 1, "More": 25}}
    stage.until_counted(first, expected, lambda: flush(page))
