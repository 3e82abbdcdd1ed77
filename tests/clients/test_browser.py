"""Segment's browser library, as docs/clients.md has it, in Chromium on a page of another site than the service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.chromium import launched
from tests.clients import chromium, snippets, visit
from tests.clients.conftest import Run
from tests.clients.gateway import Deed, Gateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SETTINGS_FROM_SERVICE = "analytics.js"
STANDARD = "analytics-inline.js"
BATCHING = "analytics-batching.js"
# What is around the page's example: how many of its events the library has taken, for tests that leave the page then.
AROUND = """
import { analytics } from './analytics.js'
window.analytics = analytics
window.taken = 0
for (const kind of ['page', 'track', 'identify']) analytics.on(kind, () => { window.taken += 1 })
"""
HTML = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/bundle.js"></script>'
# A page cannot be hidden without a window, so it is told what a hidden one is told.
SET_VISIBILITY = """(state) => {
  Object.defineProperty(document, 'visibilityState', { value: state, configurable: true })
  document.dispatchEvent(new Event('visibilitychange'))
}"""


@dataclass
class Tab:
    """A page of the shop, and what it asked for and complained of."""

    page: Page
    url: str
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture
def files() -> dict[str, str]:
    """What the shop serves; a test puts the scripts in."""
    return {"index.html": HTML, "elsewhere.html": "<!doctype html><title>Another page</title>"}


@pytest.fixture
def tab(browser: Browser, files: dict[str, str]) -> Iterator[Tab]:
    with chromium.shop(files) as url:
        context = browser.new_context()
        opened = Tab(context.new_page(), url)
        opened.page.on("request", lambda request: opened.hosts.add(urlsplit(request.url).netloc))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on(
            "console",
            lambda message: opened.complaints.append(message.text) if message.type == "error" else None,
        )
        yield opened
        context.close()


@dataclass(frozen=True)
class Bundler:
    """Makes the shop's bundle of the page's files, as a shop's own build does."""

    folder: Path
    node: Run
    files: dict[str, str]
    wire: Gateway

    def build(self, setup: str, user: str, order: str, program: str | None = None) -> None:
        texts = snippets.files("Browser")
        texts = {"analytics.js": texts[setup], "shop.js": program or texts["shop.js"], "around.js": AROUND}
        words = {} if program else {snippets.USER: user, snippets.ORDER: order}
        texts["entry.js"] = "import './around.js'\nimport './shop.js'\n"
        snippets.write(self.folder, snippets.fill(texts, self.wire.url, words))
        esbuild = "node_modules/esbuild/bin/esbuild"
        self.node(esbuild, "entry.js", "--bundle", "--format=esm", "--outfile=bundle.js", "--log-level=error")
        self.files["bundle.js"] = (self.folder / "bundle.js").read_text(encoding="utf-8")


@pytest.fixture
def bundler(tmp_path: Path, node: Run, files: dict[str, str], wire: Gateway) -> Bundler:
    return Bundler(tmp_path, node, files, wire)


def taken(tab: Tab, number: int) -> None:
    """The library has this many events, sent or waiting."""
    tab.page.wait_for_function(f"window.taken >= {number}")


def delivered(tab: Tab, wire: Gateway, events: int, times: int = 1) -> None:
    """So many events have arrived so often."""

    def is_so() -> bool:
        deliveries = wire.deliveries()
        return len(deliveries) == events and min(deliveries.values()) >= times

    chromium.until(tab.page, is_so, lambda: f"{events} events, {times} times each: {wire.deliveries()}")


def visitor_of(wire: Gateway) -> str:
    """The one anonymous id that all events had."""
    (visitor,) = {event["anonymousId"] for request in wire.requests for event in request.events}
    return str(visitor)


@pytest.mark.parametrize("setup", [SETTINGS_FROM_SERVICE, STANDARD, BATCHING])
def test_the_page_s_example_is_counted_exactly(
    setup: str, bundler: Bundler, tab: Tab, wire: Gateway, service: str
) -> None:
    one = visit.Visit()
    bundler.build(setup, one.user, one.order)
    tab.page.goto(tab.url)
    delivered(tab, wire, visit.SENT)

    visit.check(service, one.user, visitor_of(wire))
    assert set(wire.deliveries().values()) == {1}
    assert wire.rejected() == []
    # It asked nobody but the shop and the service, across origins, and was refused nothing.
    assert tab.hosts == {urlsplit(tab.url).netloc, urlsplit(wire.url).netloc}
    assert tab.complaints == []
    assert {request.headers["origin"] for request in wire.requests} == {tab.url}
    paths = {"/v1/b"} if setup == BATCHING else {"/v1/p", "/v1/t", "/v1/i"}
    assert set(wire.preflights) == paths
    decided = [request for request in wire.requests if request.reply]
    assert len(decided) == (1 if setup == BATCHING else visit.SENT)


@pytest.mark.parametrize(
    "plan",
    [[Deed.LOSE, Deed.PASS], [Deed.REFUSE, Deed.PASS, Deed.PASS]],
    ids=["replies are lost", "503s"],
)
@pytest.mark.parametrize("setup", [STANDARD, BATCHING])
def test_a_bad_wire_changes_nothing(
    setup: str, plan: list[Deed], bundler: Bundler, tab: Tab, wire: Gateway, service: str
) -> None:
    one = visit.Visit()
    wire.plan = plan
    bundler.build(setup, one.user, one.order)
    tab.page.goto(tab.url)
    chromium.until(tab.page, lambda: len(wire.acknowledged()) == visit.SENT, "every event acknowledged")

    visit.check(service, one.user, visitor_of(wire))
    assert wire.deeds() == set(plan)
    assert (max(wire.deliveries().values()) > 1) == (Deed.LOSE in plan)


def test_events_that_wait_while_the_tab_is_hidden_are_sent_twice_and_counted_once(
    bundler: Bundler, tab: Tab, wire: Gateway, service: str
) -> None:
    one = visit.Visit()
    bundler.build(BATCHING, one.user, one.order)
    tab.page.goto(tab.url)
    taken(tab, visit.SENT)
    tab.page.evaluate(SET_VISIBILITY, "hidden")
    delivered(tab, wire, visit.SENT)
    tab.page.evaluate(SET_VISIBILITY, "visible")
    delivered(tab, wire, visit.SENT, times=2)

    visit.check(service, one.user, visitor_of(wire))


def test_events_that_wait_when_the_page_is_left_are_counted(
    bundler: Bundler, tab: Tab, wire: Gateway, service: str
) -> None:
    one = visit.Visit()
    bundler.build(BATCHING, one.user, one.order)
    tab.page.goto(tab.url)
    taken(tab, visit.SENT)
    tab.page.goto(f"{tab.url}/elsewhere.html")
    delivered(tab, wire, visit.SENT)

    visit.check(service, one.user, visitor_of(wire))


def test_what_arrives_of_more_than_a_leaving_page_may_send_is_counted(
    bundler: Bundler, tab: Tab, wire: Gateway, service: str
) -> None:
    """Browsers let a page that is left send 64 KB; of larger requests nothing arrives, and the library drops them."""
    program = """
      import { analytics } from './analytics.js'
      for (let number = 0; number < 9; number += 1) analytics.track('Large', { padding: 'x'.repeat(16000) })
    """
    bundler.build(BATCHING, "", "", program=program)
    tab.page.goto(tab.url)
    taken(tab, 9)
    tab.page.goto(f"{tab.url}/elsewhere.html")

    # The browser decides how many; whichever they are, they are counted.
    def are_counted() -> bool:
        names = visit.counted(service, f"anon_{visitor_of(wire)}").get("byEvent", {})
        return bool(sum(names.values()) == len(wire.deliveries()))

    chromium.until(tab.page, lambda: bool(wire.deliveries()) and are_counted(), "what arrived is counted")
    assert len(wire.deliveries()) < 9


def test_a_retry_that_brings_the_user_along_is_the_visitor_s_event(
    bundler: Bundler, tab: Tab, wire: Gateway, service: str
) -> None:
    """The library writes the user into events that it sent before the login and has had no reply to."""
    one = visit.Visit()
    bundler.build(STANDARD, one.user, one.order, program="import { analytics } from './analytics.js'\n")
    tab.page.goto(tab.url)
    wire.is_mute = True
    tab.page.evaluate("() => { analytics.page('Home'); analytics.track('Product Viewed') }")
    delivered(tab, wire, 2)
    tab.page.evaluate("(user) => { analytics.identify(user) }", one.user)
    delivered(tab, wire, 3)
    wire.is_mute = False
    chromium.until(tab.page, lambda: len(wire.acknowledged()) == 3, "every event acknowledged")

    visit.check(service, one.user, visitor_of(wire), {"events": 2, "pageViews": 1, "productViews": 1})
    sent = [
        (event["messageId"], event.get("userId")) for request in wire.requests for event in request.events
    ]
    both = {id_ for id_, user in sent if user is None} & {id_ for id_, user in sent if user == one.user}
    assert both, "no event was sent under both identities"
