"""A shop on one origin, the service on another, and a gate between them that can spoil what passes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

from tests import server
from tests.chromium import launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

Found = TypeVar("Found")

WAIT_SECONDS = 30
SECRET = {"Authorization": "Bearer dev-secret-key"}
# Of one hop, or the server's own. Its Date would be old when the gate is slow to pass it on.
_NOT_FORWARDED = {"connection", "date", "host", "keep-alive", "server", "transfer-encoding"}
# As the gateway lets pages of other origins read what it answers by itself.
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Date,Retry-After,Footfall-Capacity",
}


def until(condition: Callable[[], Found], seconds: float = WAIT_SECONDS) -> Found:
    """Wait for something true, and hand it over."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


# --- the gate ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to one POST instead of the ordinary."""

    # None for a reply that never comes: the connection is closed.
    status: int | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b"{}"
    reaches_the_service: bool = False
    # The request goes on when it is set.
    until: threading.Event | None = None


DOWN = Fault()
REPLY_LOST = Fault(reaches_the_service=True)


@dataclasses.dataclass(frozen=True)
class Post:
    """A request as it came to the gate."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it holds, each with the outer context under its own."""
        sent = json.loads(self.body)
        return [
            {**event, "context": {**sent["context"], **event.get("context", {})}} for event in sent["batch"]
        ]


class Gate:
    """Between the browser and the service: notes each request, and spoils those it is told to."""

    def __init__(self, service_url: str) -> None:
        self._service = urlsplit(service_url).netloc
        self.posts: list[Post] = []
        # The messageIds that the service has decided. A request is noted in `posts` before it is passed on.
        self.arrived: set[str] = set()
        self.preflights = 0
        self.faults: collections.deque[Fault] = collections.deque()
        self.always: Fault | None = None
        # Whether pages may read what the service lets them read.
        self.exposes = True

    def clear(self) -> None:
        """Forget what came, and spoil nothing any more."""
        self.posts.clear()
        self.arrived.clear()
        self.faults.clear()
        self.always = None
        self.exposes = True

    def events(self) -> list[dict[str, Any]]:
        """Every event of every request, as often as it came."""
        return [event for post in list(self.posts) for event in post.events]

    def named(self, name: str) -> list[dict[str, Any]]:
        """The deliveries of events of this name."""
        return [event for event in self.events() if event.get("event") == name]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Handle one request of the browser."""
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        fault: Fault | None = None
        if handler.command == "OPTIONS":
            self.preflights += 1
        elif handler.command == "POST":
            sent = {name.lower(): value for name, value in handler.headers.items()}
            self.posts.append(Post(time.monotonic(), sent, body))
            fault = self.faults.popleft() if self.faults else self.always
        if fault is None:
            _reply(handler, *self._forward(handler, body))
            return
        if fault.until is not None:
            fault.until.wait(WAIT_SECONDS)
        if fault.reaches_the_service:
            self._forward(handler, body)
        if fault.status is not None:
            _reply(handler, fault.status, _CORS | fault.headers, fault.body)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: text for name, text in handler.headers.items() if name.lower() not in _NOT_FORWARDED}
        connection = http.client.HTTPConnection(self._service, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            connection.request(handler.command, handler.path, body or None, headers)
            reply = connection.getresponse()
            kept = {
                name.lower(): text for name, text in reply.getheaders() if name.lower() not in _NOT_FORWARDED
            }
            if not self.exposes:
                kept.pop("access-control-expose-headers", None)
            text = reply.read()
            if handler.command == "POST" and reply.status == 200:
                self.arrived |= _message_ids(body)
            return reply.status, kept, text


def _message_ids(body: bytes) -> set[str]:
    """Those of a batch; none of anything else."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return {event["messageId"] for event in json.loads(body)["batch"]}
    return set()


def _reply(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response_only(status)
    if not any(name.lower() == "date" for name in headers):
        handler.send_header("Date", handler.date_time_string())
    for name, text in headers.items():
        if name.lower() != "content-length":
            handler.send_header(name, text)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(ConnectionError):  # a tab that was closed
        handler.wfile.write(body)


# --- the shop ---------------------------------------------------------------------------------------------------------

STUB = """
<script>
  window.footfall = new Proxy({ q: [] }, {
    get: (stub, name) => stub[name] || ((...given) => stub.q.push([name, given])),
  });
</script>
"""


class Shop:
    """The shop's own pages: those that a test gave it, and for any other path the plain one."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        self.url = ""
        self.plain = self.page()
        self.pages: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def page(self, script: str = "", **config: object) -> str:
        """A page with the SDK, on which time of use is not measured unless it is asked for."""
        given = {"writeKey": "dev-write-key", "endpoint": self.api_url, "engagement": False} | config
        return self.document(
            f'<script src="{self.api_url}/sdk/footfall.js"></script>'
            f"<script>footfall.init({json.dumps(given)});{script}</script>"
        )

    def document(self, head: str) -> str:
        """A page with this in its head."""
        return f'<!doctype html><html><head><meta charset="utf-8"><title>Shop</title>{head}</head><body></body></html>'

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Handle one request of the browser."""
        path = urlsplit(handler.path).path
        if path.endswith(".ico"):
            _reply(handler, 204, {}, b"")
            return
        headers = {"Content-Type": "text/html; charset=utf-8"} | self.headers
        _reply(handler, 200, headers, self.pages.get(path, self.plain).encode())


@contextlib.contextmanager
def _serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing: tests read what was noted."""

        def _answer(self) -> None:
            answer(self)

        do_GET = do_POST = do_OPTIONS = _answer  # noqa: N815 - http.server's names

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_address[1]}"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a test plays on."""

    gate: Gate
    shop: Shop
    browser: Browser
    service: httpx.Client
    contexts: list[BrowserContext] = dataclasses.field(default_factory=list)

    @property
    def gate_url(self) -> str:
        """The service, by way of the gate."""
        return self.shop.api_url

    def visitor(self) -> BrowserContext:
        """Somebody with a browser of their own."""
        context = self.browser.new_context()
        self.contexts.append(context)
        return context

    def visit(self, visitor: BrowserContext | None = None, path: str = "/") -> Page:
        """A tab in which a page of the shop has loaded and its page view is made."""
        page = (visitor or self.visitor()).new_page()
        page.goto(self.shop.url + path)
        settle(page)
        return page

    def visit_in_stopped_time(self) -> Page:
        """The same where time stands still until `page.clock` runs it. The page is ten milliseconds old."""
        visitor = self.visitor()
        # Playwright plays this back in each new page, so its time never ran, however slow the machine is.
        now = time.time()
        visitor.clock.install(time=now)
        visitor.clock.pause_at(now)
        # Without it performance.now() might be 0, which no page's is and which the SDK takes for "not visible".
        visitor.clock.run_for(1_000)
        page = visitor.new_page()
        page.goto(self.shop.url)
        visitor.clock.run_for(10)
        return page

    def move_on(self, page: Page, path: str = "/next", referer: str | None = None) -> None:
        """Go to another page in the same tab, until its page view is made and what the one before had has arrived.

        Not where something is spoiled: the one before sends once, and what fails waits for minutes.
        """
        waiting = {event["messageId"] for event in queued(page)}
        page.goto(self.shop.url + path, referer=referer)
        settle(page)
        until(lambda: waiting <= self.gate.arrived)

    def counted(self, user_id: str, **days: str) -> dict[str, Any]:
        """The totals of a user that are not zero."""
        totals: dict[str, Any] = self.metrics(user_id, **days)["totals"]
        return {name: value for name, value in totals.items() if value}

    def until_counted(
        self, user_id: str, expected: dict[str, Any], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Wait until a user's totals are these, doing something before each look."""
        deadline = time.monotonic() + WAIT_SECONDS
        meanwhile()
        while (found := self.counted(user_id)) != expected:
            assert time.monotonic() < deadline, f"{found} and not {expected}"
            time.sleep(0.02)
            meanwhile()

    def metrics(self, user_id: str, **days: str) -> dict[str, Any]:
        """What the service answers about a user."""
        reply = self.service.get(f"/v1/users/{user_id}/metrics", params=days)
        assert reply.status_code == 200
        found: dict[str, Any] = reply.json()
        return found


def _around(stack: contextlib.ExitStack, environment: Mapping[str, str]) -> tuple[Gate, Shop, httpx.Client]:
    started = stack.enter_context(server.running(server.at_noon() | dict(environment)))
    gate = Gate(started.url)
    shop = Shop(stack.enter_context(_serving(gate.answer)))
    shop.url = stack.enter_context(_serving(shop.answer))
    return (
        gate,
        shop,
        stack.enter_context(httpx.Client(base_url=started.url, headers=SECRET, trust_env=False)),
    )


@contextlib.contextmanager
def restaged(stage: Stage, environment: Mapping[str, str]) -> Iterator[Stage]:
    """The same browser, and a shop with a service of these settings."""
    with contextlib.ExitStack() as stack:
        gate, shop, service = _around(stack, environment)
        yield Stage(gate, shop, stage.browser, service, stage.contexts)


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """A service, a gate in front of it, a shop, and a browser."""
    with contextlib.ExitStack() as stack:
        gate, shop, service = _around(stack, {})
        # Playwright turns the back/forward cache off, which visitors have.
        browser = stack.enter_context(launched(ignore_default_args=["--disable-back-forward-cache"]))
        yield Stage(gate, shop, browser, service)


# --- what is counted --------------------------------------------------------------------------------------------------

ONE_VIEW = {"activeDays": 1, "sessions": 1, "events": 1, "pageViews": 1}


def view_and(named: dict[str, int]) -> dict[str, Any]:
    """The page view of the visit, and other events by name."""
    return ONE_VIEW | {"events": 1 + sum(named.values()), "byEvent": named}


# --- what a page says -------------------------------------------------------------------------------------------------


def settle(page: Page) -> None:
    """Wait until tasks that the page has set for now are done, such as a page view."""
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")


def identity(page: Page) -> str:
    """The visitor's anonymous id."""
    found: str = page.evaluate("footfall.anonymousId")
    return found


def stored(page: Page) -> list[str]:
    """The keys of what the SDK has stored, without the tabs' own part."""
    keys: list[str] = page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('footfall.'))")
    return sorted(keys)


def queued(page: Page) -> list[dict[str, Any]]:
    """The events in every queue of the shop's storage."""
    texts: list[str] = page.evaluate(
        "Object.keys(localStorage).filter((key) => key.startsWith('footfall.q.')).map((key) => localStorage[key])"
    )
    return [entry["e"] for text in texts for entry in json.loads(text)]


def queues(page: Page) -> list[str]:
    """The keys of every queue, one for each tab in which something waits; cheaper than what is in them."""
    return [key for key in stored(page) if key.startswith("footfall.q.")]


def flush(page: Page) -> bool:
    """Send what is queued, and wait until that is done. True, so that a condition can begin with it."""
    page.evaluate("footfall.flush()")
    return True
