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
_TEXT_MIME_TYPES = ["text/", "application/json", "application/javascript", "application/x-ndjson", MEDIA_TYPE]


def as_lambda(app: FastAPI) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """The function's handler."""
    # Lifespan "auto" would run start and stop around every single invocation.
    adapter = Mangum(app, lifespan="off", text_mime_types=_TEXT_MIME_TYPES)

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return adapter(_with_path_as_sent(event), context)

    return handler


def _with_path_as_sent(event: dict[str, Any]) -> dict[str, Any]:
    """Encode again what the gateway has decoded, because Mangum decodes it too: the user `a%41` is not the user `aA`.

    Events without a route of the API's are left alone: those of function URLs arrive as sent.
    """
    method, _, template = event.get("routeKey", "").partition(" ")
    if not method or not template.startswith("/"):
        return event
    request = event["requestContext"]
    path = _whole(request["http"]["path"], template, event.get("pathParameters") or {})
    return {
        **event,
        "requestContext": {**request, "http": {**request["http"], "path": quote(path, safe="/")}},
    }


def _whole(path: str, template: str, parameters: dict[str, str]) -> str:
    """The path before the gateway cut it at a `?` it had decoded: /v1/users/a is another user's than /v1/users/a%3Fb.

    The route it chose and the parameters it found there say what was cut off.
    """
    for decode in (str, unquote):
        filled = template
        for name, value in parameters.items():
            filled = filled.replace(f"{{{name}}}", decode(value))
        if path in (filled, filled.partition("?")[0]):
            return filled
    return path
