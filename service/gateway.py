"""The application behind API Gateway's HTTP API, payload 2.0.

Shape of the event: AWS, "Create AWS Lambda proxy integrations for HTTP APIs in API Gateway".
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from fastapi import FastAPI
from mangum import Mangum

from .problems import MEDIA_TYPE

# Mangum's own list lacks problem+json, and what it does not list leaves in base64.
_TEXT_MIME_TYPES = ["text/", "application/json", "application/javascript", MEDIA_TYPE]


def as_lambda(app: FastAPI) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """The function's handler."""
    # Lifespan "auto" would run start and stop around every single invocation.
    adapter = Mangum(app, lifespan="off", text_mime_types=_TEXT_MIME_TYPES)

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return adapter(_with_path_as_sent(event), context)

    return handler


def _with_path_as_sent(event: dict[str, Any]) -> dict[str, Any]:
    """Encode again what the gateway has decoded, because Mangum decodes it too: the user `a%41` is not the user `aA`.

    The gateway also cuts a path at a `?` it has decoded (a%3Fb arrives as `a`), which is another user's path; then the
    route it chose and the parameters it found there are the path. Events without such a route are left alone: those of
    function URLs arrive as sent.
    """
    method, _, template = event.get("routeKey", "").partition(" ")
    if not method or not template.startswith("/"):
        return event
    request = event["requestContext"]
    path = request["http"]["path"]
    parameters = event.get("pathParameters") or {}
    if any("?" in unquote(value) for value in parameters.values()):
        path = template
        for name, value in parameters.items():
            path = path.replace(f"{{{name}}}", value if "?" in value else unquote(value))
    return {
        **event,
        "requestContext": {**request, "http": {**request["http"], "path": quote(path, safe="/")}},
    }
