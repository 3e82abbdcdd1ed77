"""The page at /docs in a real browser: it works under its strict policy and asks no other host."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from tests import server
from tests.chromium import launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STRICT_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "font-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# The browser's own remark on an input field; it is advice, neither an error nor a violation.
HARMLESS = "Input elements should have autocomplete attributes"

COLLECT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile}`);
});
"""


@dataclasses.dataclass(frozen=True)
class Watch:
    """Everything the page said and asked for since it was opened."""

    page: Page
    messages: list[str]
    hosts: set[str]

    def violations(self) -> list[str]:
        """What the page's Content-Security-Policy has stopped."""
        found: list[str] = self.page.evaluate("window.violations")
        return found


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server.running() as started:
        yield started.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture
def docs(browser: Browser, url: str) -> Iterator[Watch]:
    context = browser.new_context(viewport={"width": 1200, "height": 1400})
    page = context.new_page()
    watch = Watch(page, [], set())
    page.on("console", lambda message: watch.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: watch.messages.append(f"error: {error}"))
    page.on("request", lambda request: watch.hosts.add(urlsplit(request.url).netloc))
    page.add_init_script(COLLECT_VIOLATIONS)
    page.goto(f"{url}/docs")
    page.wait_for_selector(".opblock")
    yield watch
    context.close()


def _authorize(page: Page, field: str, key: str) -> None:
    page.click(".btn.authorize")
    page.fill(field, key)
    page.click(f".auth-container:has({field}) button.authorize")
    page.click(".auth-container .btn-done >> nth=0")


def _execute(page: Page, method: str, path: str, **inputs: str) -> int:
    """Open an operation, try it out, and say with which status it was answered."""
    block = page.locator(f".opblock-{method}").filter(has=page.locator(f'[data-path="{path}"]'))
    block.locator(".opblock-summary-control").click()
    block.locator(".try-out__btn").click()
    for name, value in inputs.items():
        block.locator(f'tr[data-param-name="{name}"] input').fill(value)
    if method == "post":
        body = '{"batch": [{"type": "page", "anonymousId": "docs-page", "messageId": "docs-1"}]}'
        block.locator("textarea.body-param__text").fill(body)
    block.locator(".btn.execute").click()
    status = block.locator(".live-responses-table tbody .response-col_status").first
    return int(status.inner_text().split()[0])


def test_the_page_shows_every_operation_and_breaks_no_rule(docs: Watch, url: str) -> None:
    described = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    operations = sum(len(methods) for methods in described["paths"].values())

    assert docs.page.locator(".opblock").count() == operations
    assert docs.violations() == []
    assert [message for message in docs.messages if HARMLESS not in message] == []
    assert docs.hosts == {urlsplit(url).netloc}


def test_both_keys_work_from_the_page(docs: Watch) -> None:
    _authorize(docs.page, "#auth-basic-username", "dev-write-key")
    posted = _execute(docs.page, "post", "/v1/batch")
    docs.page.reload()
    docs.page.wait_for_selector(".opblock")
    _authorize(docs.page, "#auth-bearer-value", "dev-secret-key")
    read = _execute(docs.page, "get", "/v1/users/{userId}/metrics", userId="anon_docs-page")

    assert posted == 200
    assert read == 200
    assert docs.violations() == []
    assert [message for message in docs.messages if HARMLESS not in message] == []


def test_a_key_is_forgotten_when_the_page_is_left(docs: Watch) -> None:
    _authorize(docs.page, "#auth-bearer-value", "dev-secret-key")
    docs.page.reload()
    docs.page.wait_for_selector(".opblock")
    read = _execute(docs.page, "get", "/v1/users/{userId}/metrics", userId="u-1")

    assert read == 401
    assert docs.page.evaluate("Object.keys(localStorage).concat(Object.keys(sessionStorage))") == []


def test_the_address_bar_cannot_bring_in_another_description(docs: Watch, url: str) -> None:
    docs.page.goto(
        f"{url}/docs?url=https://other.example/openapi.json&configUrl=https://other.example/c.json"
    )
    docs.page.wait_for_selector(".opblock")

    assert docs.hosts == {urlsplit(url).netloc}
    assert docs.violations() == []


@pytest.mark.parametrize(
    ("deed", "directive"),
    [
        (
            "document.body.append(Object.assign(document.createElement('style'), {textContent: '*{}'}))",
            "style-src",
        ),
        (
            "document.body.append(Object.assign(document.createElement('script'), {textContent: '1'}))",
            "script-src",
        ),
        ("document.body.setAttribute('onclick', '1')", "script-src"),
        ("new Image().src = 'https://other.example/pixel.png'", "img-src"),
        ("fetch('https://other.example/').catch(() => 0)", "connect-src"),
    ],
)
def test_the_watch_sees_what_the_policy_stops(docs: Watch, deed: str, directive: str) -> None:
    docs.page.evaluate(f"() => {{ {deed} }}")
    docs.page.wait_for_function("window.violations.length > 0")

    assert [found.startswith(directive) for found in docs.violations()] == [True]


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/init.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"]
)
def test_each_file_comes_with_the_strict_policy(url: str, path: str) -> None:
    response = httpx.get(f"{url}{path}", trust_env=False)
    directives = (
        part.strip().partition(" ") for part in response.headers["content-security-policy"].split(";")
    )

    assert response.status_code == 200
    assert {name: value for name, _, value in directives if name} == STRICT_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/docs/nothing.js",
        "/docs/../openapi.json",
        "/docs/%2e%2e/__init__.py",
        "/docs/..%2f..%2fapp.py",
    ],
)
def test_nothing_else_is_served_from_the_folder(url: str, path: str) -> None:
    # httpx would tidy the path up before sending it; this client sends it as it is.
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()

    assert response.status == 404
