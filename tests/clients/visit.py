"""What each client sends in these tests, and what the service has to count of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from service.dev import DEV_SECRET_KEY
from tests.clients import snippets

# Two views, a product, a cart; then the login, the order, one more view and an event of the shop's own.
COUNTED: Mapping[str, Any] = {
    "events": 7,
    "pageViews": 3,
    "productViews": 1,
    "cartAdds": 1,
    "orders": 1,
    "itemsSold": 3,
    "revenue": {"EUR": 59.9},
    "byEvent": {"Newsletter Signed Up": 1},
}
# The same and the login itself, which is an event too and is not counted.
SENT = 8


@dataclass(frozen=True)
class Visit:
    """Somebody new, under whose ids the page's snippets are run."""

    user: str = field(default_factory=lambda: f"u-{uuid.uuid4().hex}")
    visitor: str = field(default_factory=lambda: uuid.uuid4().hex)
    order: str = field(default_factory=lambda: uuid.uuid4().hex)

    def words(self) -> dict[str, str]:
        """What to write in the snippets for the ids they have."""
        return {snippets.USER: self.user, snippets.VISITOR: self.visitor, snippets.ORDER: self.order}


def metrics(url: str, id_: str) -> dict[str, Any]:
    """The answer of a range query, as the shop's back office asks for it."""
    reply = httpx.get(
        f"{url}/v1/users/{id_}/metrics",
        headers={"Authorization": f"Bearer {DEV_SECRET_KEY}"},
        trust_env=False,
        timeout=30,
    )
    reply.raise_for_status()
    answer: dict[str, Any] = reply.json()
    return answer


def counted(url: str, id_: str) -> dict[str, Any]:
    """All that is not zero in somebody's totals but the number of days, which is one."""
    totals = metrics(url, id_)["totals"]
    return {name: value for name, value in totals.items() if value and name != "activeDays"}


def check(url: str, user: str, anonymous: str, expected: Mapping[str, Any] = COUNTED) -> None:
    """The service counts exactly this for the user, and the visitor's history is the user's."""
    assert counted(url, user) == expected
    answer = metrics(url, f"anon_{anonymous}")
    assert (answer["userId"], answer.get("requestedId")) == (user, f"anon_{anonymous}")
