"""Footfall's own script on the pages of docs/clients.md: a plain one, a theme's, and one with Google Tag Manager."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.chromium import launched
from tests.clients import chromium, snippets, visit
from tests.clients.conftest import HERE, Run
from tests.clients.gateway import Deed, Gateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ICON = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
# A shop's page with GA4's data layer, filled before the tag is there and afterwards.
DATA_LAYER = f"""{ICON}
<script>
  window.dataLayer = window.dataLayer || []
  function gtag() {{ dataLayer.push(arguments) }}
  gtag('js', new Date())
  dataLayer.push({{ event: 'gtm.js' }})
  dataLayer.push({{ event: 'view_item', ecommerce: {{ currency: 'EUR', items: [{{ item_id: 'sku-9' }}] }} }})
</script>
"""
# Tag Manager puts a tag's scripts into the page one by one; a script that comes with innerHTML would not run.
PLAY_TAG_MANAGER = """(tag) => {
  const holder = document.createElement('template')
  holder.innerHTML = tag
  for (const given of holder.content.querySelectorAll('script')) {
    const script = document.createElement('script')
    script.text = given.text
    document.body.append(script)
  }
}"""
SHOP_AND_LOGIN = """(words) => {
  dataLayer.push({ ecommerce: null })
  dataLayer.push({ event: 'add_to_cart', ecommerce: { currency: 'EUR', items: [{ item_id: 'sku-9', quantity: 2 }] } })
  dataLayer.push({ event: 'login', user_id: words.user })
  gtag('event', 'purchase', {
    transaction_id: words.order, value: 59.9, currency: 'EUR',
    items: [{ item_id: 'sku-9', quantity: 2 }, { item_id: 'sku-12' }],
  })
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture
def files() -> dict[str, str]:
    return {}


@pytest.fixture
def shop(files: dict[str, str]) -> Iterator[str]:
    with chromium.shop(files) as url:
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


def _sent(page: Page, wire: Gateway, wanted: dict[str, int]) -> None:
    """Every event has arrived, so often of each name, beside those that say how long a page was used."""

    def names() -> dict[str, int]:
        found: dict[str, int] = {}
        for event in wire.events():
            name = event.get("event") or event["type"]
            found[name] = found.get(name, 0) + (name != "Page Left")
        return {name: number for name, number in found.items() if number}

    page.evaluate("footfall.flush()")
    chromium.until(page, lambda: names() == wanted, lambda: f"{wanted}: {names()}")
    assert wire.rejected() == []
    assert wire.preflights == []


def _check(page: Page, wire: Gateway, service: str, one: visit.Visit, counted: dict[str, Any]) -> None:
    """Exactly this, with what the script measured of the visitor's time."""

    def expected() -> dict[str, Any]:
        left = [event for event in wire.events() if event.get("event") == "Page Left"]
        seconds = sum(event["properties"]["engagedSeconds"] for event in left)
        used = {"engagedSeconds": seconds} if left else {}
        return counted | {"events": counted["events"] + len(left)} | used

    # How long the page before was used may arrive after all that this page has sent.
    chromium.until(
        page, lambda: visit.counted(service, one.user) == expected(), "what has arrived is counted"
    )
    (visitor,) = {event["anonymousId"] for event in wire.events() if "anonymousId" in event}
    visit.check(service, one.user, visitor.removeprefix("anon_"), expected())


@pytest.mark.parametrize("plan", [[Deed.PASS], [Deed.LOSE]], ids=["quiet", "replies are lost"])
def test_a_plain_page(
    plan: list[Deed], wire: Gateway, service: str, page: Page, shop: str, files: dict[str, str]
) -> None:
    one = visit.Visit()
    wire.plan = plan
    words = {snippets.USER: one.user, snippets.ORDER: one.order}
    texts = snippets.fill(snippets.files("A plain page"), wire.url, words)
    files |= {name: ICON + text for name, text in texts.items()}
    page.goto(f"{shop}/product.html")
    page.click("#add")
    page.goto(f"{shop}/thank-you.html")
    page.reload()
    _sent(
        page, wire, {"page": 3, "Product Viewed": 1, "Product Added": 1, "identify": 2, "Order Completed": 2}
    )
    if Deed.LOSE in plan:
        chromium.until(page, lambda: max(wire.deliveries().values()) > 1, "something is sent again")

    counted = {
        "sessions": 1,
        "events": 6,
        "pageViews": 3,
        "productViews": 1,
        "cartAdds": 1,
        "orders": 1,
        "itemsSold": 3,
        "revenue": {"EUR": 59.9},
    }
    _check(page, wire, service, one, counted)


@pytest.fixture
def rendered(node: Run, tmp_path: Path, wire: Gateway) -> Callable[..., str]:
    """A page made of one of the theme's files and its objects."""
    snippets.write(tmp_path, snippets.fill(snippets.files("A theme"), wire.url, {}))
    shutil.copy(HERE / "liquid.mjs", tmp_path)

    def render(name: str, **objects: Any) -> str:
        return ICON + node("liquid.mjs", name, json.dumps(objects))

    return render


def test_a_theme(
    rendered: Callable[..., str], wire: Gateway, service: str, page: Page, files: dict[str, str], shop: str
) -> None:
    # Ids of a Shopify kind: numbers.
    one = visit.Visit(user=str(uuid.uuid4().int)[:13], order=str(uuid.uuid4().int)[:13])
    product = {
        "product": {"id": 7, "title": 'Jacket "North" </script>', "price": 1990},
        "cart": {"currency": {"iso_code": "EUR"}},
    }
    form = '<form action="/cart/add"><input name="quantity" value="2"><button id="add">Add</button></form>'
    order = {
        "id": int(one.order),
        "subtotal_price": 5990,
        "customer": {"id": int(one.user)},
        "line_items": [{"product_id": 7, "quantity": 2}, {"product_id": 8, "quantity": 1}],
    }
    files |= {
        "index.html": rendered("theme.liquid", request={"page_type": "index"}),
        "product.html": rendered("theme.liquid", request={"page_type": "product"}, **product) + form,
        "cart/add": ICON,
        "order.html": rendered("order-status.liquid", order=order, shop={"currency": "EUR"}),
        "again.html": rendered(
            "theme.liquid", request={"page_type": "index"}, customer={"id": int(one.user)}
        ),
    }
    for name in ("index.html", "product.html"):
        page.goto(f"{shop}/{name}")
    page.click("#add")
    page.wait_for_url("**/cart/add*")
    for name in ("order.html", "order.html", "again.html"):
        page.goto(f"{shop}/{name}")
    _sent(
        page, wire, {"page": 5, "Product Viewed": 1, "Product Added": 1, "identify": 3, "Order Completed": 2}
    )

    counted = {
        "sessions": 1,
        "events": 8,
        "pageViews": 5,
        "productViews": 1,
        "cartAdds": 1,
        "orders": 1,
        "itemsSold": 3,
        "revenue": {"EUR": 59.9},
    }
    _check(page, wire, service, one, counted)


def test_google_tag_manager(
    wire: Gateway, service: str, page: Page, shop: str, files: dict[str, str]
) -> None:
    one = visit.Visit()
    (tag,) = snippets.fill(snippets.files("Google Tag Manager"), wire.url, {}).values()
    files["index.html"] = DATA_LAYER + "<body></body>"
    page.goto(shop)
    page.evaluate(PLAY_TAG_MANAGER, tag)
    page.wait_for_function("window.footfall && footfall.anonymousId")
    page.evaluate(SHOP_AND_LOGIN, {"user": one.user, "order": one.order})
    _sent(page, wire, {"page": 1, "view_item": 1, "add_to_cart": 1, "identify": 1, "purchase": 1})

    counted = {
        "sessions": 1,
        "events": 4,
        "pageViews": 1,
        "productViews": 1,
        "cartAdds": 1,
        "orders": 1,
        "itemsSold": 3,
        "revenue": {"EUR": 59.9},
    }
    _check(page, wire, service, one, counted)
