"""The SDK on pages that are unkind to it: wrong settings, old libraries, strict policies, storage that others wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser.shop import ONE_VIEW, Stage, flush, identity, queued, stored, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

SETTLE = "new Promise((resolve) => setTimeout(resolve, 20))"
# As Prototype.js until 1.6.
PROTOTYPE_JS = """
  Array.prototype.toJSON = function () { return '[' + this.map((each) => JSON.stringify(each)).join(', ') + ']' };
"""


def watched(stage: Stage, path: str = "/") -> tuple[Page, list[str], list[str]]:
    """A tab, what it throws, and what it prints as an error."""
    thrown: list[str] = []
    printed: list[str] = []
    page = stage.visitor().new_page()
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.on("console", lambda message: printed.append(message.text) if message.type == "error" else None)
    page.goto(stage.shop.url + path)
    page.evaluate(SETTLE)
    return page, thrown, printed


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "null",
        "{}",
        "{endpoint: 'https://api.shop.example'}",
        "{writeKey: '', endpoint: 'https://api.shop.example'}",
        "{writeKey: 'w', endpoint: 'api.shop.example'}",
        "{writeKey: 'w', endpoint: 5}",
        "{writeKey: 'w', endpoint: {}}",
    ],
)
def test_settings_that_cannot_work_are_said_and_break_nothing(stage: Stage, settings: str) -> None:
    right = json.dumps({"writeKey": "dev-write-key", "endpoint": stage.gate_url, "engagement": False})
    stage.shop.plain = stage.shop.document(
        f'<script src="{stage.gate_url}/sdk/footfall.js"></script>'
        f"<script>footfall.init({settings}); footfall.track('Click'); window.goesOn = true</script>"
    )
    page, thrown, printed = watched(stage)

    assert page.evaluate("goesOn")
    assert thrown == []
    assert [line for line in printed if line.startswith("footfall: init needs")] == printed != []
    assert page.evaluate("Object.keys(localStorage)") == []
    # One that works may still come.
    page.evaluate(f"footfall.init({right})")
    page.evaluate(SETTLE)
    flush(page)
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "byEvent": {"Click": 1}}


def test_an_endpoint_may_be_a_path_of_the_shops_own_host(stage: Stage) -> None:
    stage.shop.plain = stage.shop.page(endpoint="/footfall/")
    page = stage.visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("footfall.flush()")

    until(lambda: page.evaluate("1") and asked)
    assert set(asked) == {f"{stage.shop.url}/footfall/v1/batch"}


# --- what pages do to their own world ---------------------------------------------------------------------------------


def test_an_old_library_that_makes_lists_text_changes_nothing(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(PROTOTYPE_JS)
    page = stage.visit(visitor)
    anonymous = identity(page)
    page.evaluate("footfall.identify('u-prototype')")
    page.evaluate("footfall.orderCompleted({revenue: 5, currency: 'EUR', products: [{quantity: 2}, {}]})")
    assert [event["type"] for event in queued(page)] == ["page", "identify", "track"]
    stage.move_on(page)
    flush(page)

    assert page.evaluate("JSON.stringify([1])") == '"[1]"'  # the shop's own code finds it as it was
    assert [event.get("userId") for event in stage.gate.events()] == [None, *["u-prototype"] * 3]
    assert stage.metrics(anonymous)["userId"] == "u-prototype"
    assert stage.counted("u-prototype") == ONE_VIEW | {
        "events": 3,
        "pageViews": 2,
        "orders": 1,
        "itemsSold": 3,
        "revenue": {"EUR": 5},
    }


def test_a_page_that_lets_nobody_change_its_history_is_counted(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(
        "Object.freeze(history); Object.prototype.extend = () => 1; Object.prototype.id = 'x'"
    )
    stage.shop.plain = stage.shop.page("footfall.track('Click')")
    page = stage.visit(visitor)
    flush(page)

    assert identity(page).startswith("anon_")
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "byEvent": {"Click": 1}}


def test_a_strict_policy_needs_no_more_than_the_guide_says(stage: Stage) -> None:
    stage.shop.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {stage.gate_url} 'nonce-1'; connect-src {stage.gate_url};"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    stage.shop.plain = stage.shop.plain.replace("<script>", '<script nonce="1">')
    page, thrown, printed = watched(stage)
    page.evaluate("footfall.track('Click'); history.pushState({}, '', '/next')")
    page.evaluate(SETTLE)
    flush(page)

    assert (thrown, printed) == ([], [])
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 3, "pageViews": 2, "byEvent": {"Click": 1}}


def test_values_of_every_kind_are_sent_or_counted_as_lost(stage: Stage) -> None:
    page, thrown, _ = watched(stage)
    page.evaluate(
        """() => {
          const loop = {}; loop.loop = loop;
          for (const value of [loop, 10n, {get bad() { throw new Error() }}, 'x'.repeat(40_000)]) {
            footfall.track('Lost', {value});
          }
          for (const value of [undefined, NaN, Symbol(), () => 1, new Date(NaN), '\\ud800', '🛒'.repeat(7_900)]) {
            footfall.track('Sent', {value});
          }
          footfall.track('Sent', {['\\ud83d']: '\\0'});
          footfall.track(); footfall.track({}); footfall.track('x'.repeat(129)); footfall.track('Sent', 'text');
        }"""
    )
    flush(page)

    assert thrown == []
    # Four that JSON cannot say or that are too large, and four that are no events.
    assert page.evaluate("footfall.lost") == 8
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 9, "byEvent": {"Sent": 8}}


def test_traits_that_cannot_be_sent_do_not_part_the_user_from_the_history(stage: Stage) -> None:
    page, thrown, _ = watched(stage)
    anonymous = identity(page)
    page.evaluate("footfall.identify('u-traits', {window, big: 'x'.repeat(40_000)})")
    flush(page)

    assert thrown == []
    assert page.evaluate("footfall.lost") == 0
    assert stage.metrics(anonymous)["userId"] == "u-traits"


# --- storage that others wrote ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", ["x", "[null]", "{]", "x" * 40_000, '["undefined"]', "anon_/", "NaN NaN"])
def test_small_values_of_somebody_else_spoil_nothing(stage: Stage, garbage: str) -> None:
    visitor = stage.visitor()
    visitor.add_init_script(
        "if (!localStorage.written) for (const key of ['id', 'user', 'session', 'clock', 'wait', 'written'])"
        f"localStorage[key === 'written' ? key : 'footfall.' + key] = {json.dumps(garbage)}"
    )
    page = stage.visit(visitor)
    page.evaluate("footfall.track('Click')")
    flush(page)

    assert page.evaluate("footfall.lost") == 0
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "byEvent": {"Click": 1}}
    stage.move_on(page)
    flush(page)
    assert stage.counted(identity(page))["sessions"] == 1


def test_an_answer_that_is_none_of_ours_is_no_yes(stage: Stage) -> None:
    visitor = stage.visitor()
    visitor.add_init_script("localStorage['footfall.consent'] = 'denied'")
    page = stage.visit(visitor)
    page.evaluate("footfall.track('Click')")
    flush(page)

    assert stage.gate.posts == []
    assert page.evaluate("Object.keys(localStorage)") == ["footfall.consent"]


def test_a_queue_of_somebody_else_holds_up_nothing(stage: Stage) -> None:
    page = stage.visit()
    flush(page)
    page.evaluate(
        """(anonymousId) => {
          const event = (messageId, more) => ({type: 'track', event: 'Click', messageId, anonymousId, ...more});
          const at = Date.now();
          const queue = [
            null, 1, 'text', [], {}, {e: null, at}, {e: {}, at}, {at},
            {e: event('no-time')}, {e: event('text'), at: 'x'},
            {e: event('large', {properties: {text: 'x'.repeat(40_000)}}), at},
            {e: event('no-instant', {timestamp: 'yesterday'}), at},
            {e: event('number', {timestamp: 7}), at},
            {e: event('old'), at: 0}, {e: event('future'), at: at + 1e13},
            {e: event('waits', {properties: null}), at, s: 'x'},
            {e: event('good'), at},
          ];
          localStorage['footfall.q.theirs'] = JSON.stringify(queue);
          localStorage['footfall.q.'] = 'x'.repeat(1_000_000);
          localStorage['footfall.q.number'] = '7';
        }""",
        identity(page),
    )
    page.evaluate("footfall.track('Own')")
    until(lambda: flush(page) and not [key for key in stored(page) if key[9:11] in ("q.", "b.")])

    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 4, "byEvent": {"Click": 2, "Own": 1}}
