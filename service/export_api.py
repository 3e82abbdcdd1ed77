"""GET /v1/users/{userId}/export: everything held on a person, from the first page to the last."""

import json
from collections.abc import Callable
from urllib.parse import quote, urlencode

from . import ids
from .client import CannotReachError, Client, Consumed, Reply
from .exporting import Totals

_NDJSON = "application/x-ndjson"


def person(client: Client, user: str, write: Callable[[bytes], object], consumed: Consumed) -> Totals:
    """Write the lines of a user, or of the user that an anonymous id became. Raises CannotReachError."""
    _require_id(user)
    totals = Totals()
    path = f"/v1/users/{quote(user, safe='')}/export"
    cursor: str | None = None
    while True:
        query = "" if cursor is None else "?" + urlencode({"cursor": cursor})
        reply = client.request("GET", path + query, consumed, headers={"Accept": _NDJSON})
        _require_page(client, reply)
        for line in reply.data.splitlines():
            if line.startswith(b'{"receivedAt":'):
                totals.raw_events += 1
            elif b'"day":' in line:
                totals.days += 1
            else:
                totals.aliases += 1
        write(reply.data)
        next_cursor = reply.headers.get("Footfall-Next-Cursor")
        if not next_cursor:
            return totals
        if next_cursor == cursor:
            raise CannotReachError(f"{client.url} answers the same page again and again.")
        cursor = next_cursor


def _require_id(user: str) -> None:
    """One with a slash in it would lead to another route."""
    try:
        distinct_id = ids.distinct_id(user)
    except ids.InvalidIdError as error:
        raise CannotReachError(f"--user: {error}.") from None
    if distinct_id is None:
        raise CannotReachError("--user names somebody.")


def _require_page(client: Client, reply: Reply) -> None:
    content_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if reply.status == 200 and content_type == _NDJSON:
        return
    try:
        problem = json.loads(reply.data)
        detail = str(problem["detail"]) if "code" in problem else ""
    except (ValueError, KeyError, TypeError):
        detail = ""
    if reply.status in (400, 422) and detail:
        raise CannotReachError(f"{client.url} refuses: {detail}")
    raise client.no_footfall(reply.status)
