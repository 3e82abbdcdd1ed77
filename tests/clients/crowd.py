"""Many visitors at once through the page's client: crowd.py <visits as JSON: [[visitor, user, order]…]>."""

import json
import sys
from collections.abc import Callable

from shop_analytics import analytics  # type: ignore[import-not-found]  # the page's, in the folder where this runs

people = json.loads(sys.argv[1])
steps: list[Callable[[str, str, str], object]] = [
    lambda visitor, user, order: analytics.page(anonymous_id=visitor, name="Home"),
    lambda visitor, user, order: analytics.page(anonymous_id=visitor, name="Jackets"),
    lambda visitor, user, order: analytics.track(anonymous_id=visitor, event="Product Viewed"),
    lambda visitor, user, order: analytics.track(anonymous_id=visitor, event="Product Added"),
    lambda visitor, user, order: analytics.identify(user, anonymous_id=visitor),
    lambda visitor, user, order: analytics.track(
        user,
        "Order Completed",
        {"order_id": order, "revenue": 59.90, "currency": "EUR", "products": [{"quantity": 2}, {}]},
    ),
    lambda visitor, user, order: analytics.page(user, name="Thank you"),
    lambda visitor, user, order: analytics.track(user, "Newsletter Signed Up"),
]
for number, step in enumerate(steps):
    for person in people:
        step(*person)
    if number % 2:
        analytics.flush()  # it would wait for a hundred events otherwise
analytics.shutdown()
