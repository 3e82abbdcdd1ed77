"""What is measured with: a shop's events, and a client of the real Lambda handler on a clock that can be moved."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.app import create_app
from service.dynamodb import Table
from service.gateway import as_lambda
from service.settings import Settings
from tests.lambda_transport import LambdaTransport

API_URL = "https://api.shop.example"
WRITE_KEY = "bench-write-key"
SECRET_KEY = "bench-secret-key"
SECRET_KEY_HASH = hashlib.sha256(SECRET_KEY.encode())
WRITER = {"Authorization": "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()}
READER = {"Authorization": f"Bearer {SECRET_KEY}"}
SETTINGS = Settings(
    write_keys=frozenset({WRITE_KEY}), secret_key_hashes=frozenset({SECRET_KEY_HASH.digest()}), currency="EUR"
)

# A visit as Google Analytics 4 names it: what fills a metric, and what is counted by its name alone.
VISIT = (
    "page",
    "view_item_list",
    "view_item",
    "scroll",
    "page",
    "view_item",
    "add_to_cart",
    "user_engagement",
    "page",
    "view_cart",
    "begin_checkout",
    "add_shipping_info",
    "add_payment_info",
    "purchase",
    "page",
    "search",
    "view_search_results",
    "view_item",
    "video_start",
    "newsletter_signup",
)
SESSION_EVENTS = 25
USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)
CONTEXT = {
    "userAgent": USER_AGENT,
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "library": {"name": "analytics.js", "version": "npm:next-1.75.0"},
    "page": {
        "path": "/products/espresso-machine",
        "referrer": "https://search.example/",
        "search": "?utm_source=newsletter&utm_medium=email",
        "title": "Espresso machine - the example shop",
        "url": f"{API_URL}/products/espresso-machine?utm_source=newsletter&utm_medium=email",
    },
    "campaign": {"source": "newsletter", "medium": "email", "name": "autumn"},
}
PRODUCT = {"productId": "sku-1042", "name": "Espresso machine", "category": "Kitchen", "price": 129.9}
Identity = dict[str, str]


def new_id(kind: str, *parts: object) -> str:
    """A UUID as browsers make them, and the same one in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{API_URL}/{kind}/" + "/".join(map(str, parts))))


def plain_event(identity: Identity, moment: datetime, number: int) -> dict[str, Any]:
    """A page view and nothing else: what a day item costs at the least."""
    message_id = new_id("message", *identity.values(), moment.date(), number)
    return {"type": "page", **identity, "messageId": message_id, "timestamp": moment.isoformat()}


def visit_event(identity: Identity, moment: datetime, number: int) -> dict[str, Any]:
    """Event `number` of a day as a browser's SDK sends it, half a kilobyte and more of JSON."""
    name = VISIT[number % len(VISIT)]
    session = new_id("session", *identity.values(), moment.date(), number // SESSION_EVENTS)
    event = plain_event(identity, moment + timedelta(seconds=number), number)
    event["context"] = {**CONTEXT, "sessionId": session}
    if name == "page":
        return {**event, "properties": CONTEXT["page"]}
    properties: dict[str, Any] = dict(PRODUCT)
    if name == "purchase":
        properties = {
            "transaction_id": new_id("order", *identity.values(), moment.date(), number),
            "value": 129.9,
            "currency": "EUR",
            "items": [{"item_id": "sku-1042", "quantity": 1}],
        }
    return {**event, "type": "track", "event": name, "properties": properties}


@dataclass(frozen=True)
class Reply:
    """What a request came to, and what it consumed by its own Footfall-Capacity."""

    body: dict[str, Any]
    wru: float
    rru: float


@dataclass
class Shop:
    """The service behind its Lambda handler, on a table of its own."""

    table: Table
    now: datetime
    has_raw_events: bool = False

    def __post_init__(self) -> None:
        settings = replace(SETTINGS, raw_events=self.has_raw_events)
        app = create_app(settings, self.table, now=lambda: self.now)
        # Once in an environment's life, while it starts; so no request pays for it.
        app.state.service.check_timezone(self.table.calls(time.monotonic() + 10))
        self.client = httpx.Client(transport=LambdaTransport(as_lambda(app)), base_url=API_URL)

    def send(self, events: list[dict[str, Any]]) -> Reply:
        """One request of these events, each of which has to be decided."""
        reply = _reply(self.client.post("/v1/batch", json={"batch": events}, headers=WRITER))
        assert reply.body["rejectedCount"] == 0, reply.body
        return reply

    def get(self, path: str, **parameters: str) -> Reply:
        """One query with the secret key."""
        return _reply(self.client.get(path, params=parameters, headers=READER))

    def bring(self, events: list[dict[str, Any]]) -> Reply:
        """One request of history."""
        return _reply(self.client.post("/v1/import", json={"batch": events}, headers=READER))

    def erase(self, user_id: str) -> Reply:
        """Remove a user."""
        return _reply(self.client.delete(f"/v1/users/{user_id}", headers=READER))

    def merge(self, user_id: str, anonymous_id: str) -> Reply:
        """The merge as the shop's own backend asks for it."""
        document = {"anonymousId": anonymous_id}
        return _reply(self.client.post(f"/v1/users/{user_id}/merge", json=document, headers=READER))

    def live(
        self,
        identity: Identity,
        days: int,
        events_of_day: Callable[[int], int],
        make: Callable[[Identity, datetime, int], dict[str, Any]] = visit_event,
    ) -> None:
        """Give an identity a history of so many days up to today, each sent on its day."""
        today = self.now
        for age in reversed(range(days)):
            self.now = today - timedelta(days=age)
            events = [make(identity, self.now, number) for number in range(events_of_day(age))]
            # A browser sends a visit in several requests; the price of history is not what is measured here.
            for start in range(0, len(events), 50):
                self.send(events[start : start + 50])
        self.now = today


def varied(age: int) -> int:
    """Days of 10, 20, … 100 events, over and over: the events of the day so many days ago."""
    return 10 * (1 + age % 10)


def noon(moment: datetime) -> datetime:
    """Noon of that day, UTC."""
    return moment.astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def settings_environment() -> dict[str, str]:
    """SETTINGS as the function's environment has them."""
    assert replace(SETTINGS, write_keys=frozenset(), secret_key_hashes=frozenset()) == Settings(
        currency="EUR"
    )
    return {
        "FOOTFALL_WRITE_KEYS": WRITE_KEY,
        "FOOTFALL_SECRET_KEY_HASHES": SECRET_KEY_HASH.hexdigest(),
        "FOOTFALL_CURRENCY": SETTINGS.currency,
        "FOOTFALL_TABLE": SETTINGS.table,
    }


def _reply(response: httpx.Response) -> Reply:
    assert response.status_code == 200, response.text
    members = (part.strip().split("=") for part in response.headers["footfall-capacity"].split(","))
    units = {member[0]: member[-1] for member in members}
    return Reply(response.json(), float(units["wru"]), float(units["rru"]))
