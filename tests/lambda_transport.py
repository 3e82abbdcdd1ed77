"""An httpx transport that reaches a Lambda handler the way an API Gateway HTTP API does.

Each request becomes an event of payload format 2.0 and the handler's reply an `httpx.Response`, so one test
can run through the Lambda door and through a real server. The event's shape, and the joining of repeated
headers, are those of
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
That page does not say two things which others observed on AWS, and which are kept here: the path arrives
percent-decoded and ends at a decoded `?`, and a body is text only under `text/*` and three media types.
"""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx

# All other bodies arrive in base64, also those without a content type and those of HTML forms.
TEXT_MEDIA_TYPES = ("application/json", "application/xml", "application/javascript")
BINARY_REPLY_MEDIA_TYPES = ("image/", "font/", "audio/", "video/", "application/octet-stream")

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


class LambdaContext:
    """What Lambda hands a function beside the event; the time left is the test's to set."""

    function_name = "footfall"
    function_version = "$LATEST"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:footfall"
    memory_limit_in_mb = "512"
    log_group_name = "/aws/lambda/footfall"
    log_stream_name = "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef"

    def __init__(self, remaining_ms: int) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        """The milliseconds until Lambda would stop the function: here always what the test has set."""
        return self._remaining_ms


class LambdaTransport(httpx.BaseTransport):
    """`httpx.Client(transport=LambdaTransport(handler), base_url="https://shop.example")`."""

    def __init__(self, handler: Handler, *, routes: Iterable[str] = (), remaining_ms: int = 10_000) -> None:
        """`routes` are the API's own, such as `GET /v1/users/{userId}`; any other request comes by `$default`."""
        self.handler = handler
        self.routes = tuple(routes)
        self.remaining_ms = remaining_ms

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request through the handler."""
        # The event crosses a process border on Lambda, so it must survive JSON; so must the reply.
        event = json.loads(json.dumps(event_of(request, self.routes)))
        reply = json.loads(json.dumps(self.handler(event, LambdaContext(self.remaining_ms)), allow_nan=False))
        return response_of(reply, request)


def event_of(request: httpx.Request, routes: Iterable[str] = ()) -> dict[str, Any]:
    """The event that the gateway makes of a request."""
    headers: dict[str, str] = {}
    for name, value in request.headers.multi_items():
        lowered = name.lower()
        headers[lowered] = f"{headers[lowered]},{value}" if lowered in headers else value
    # Cookies have a field of their own and are no longer among the headers.
    cookies = [cookie.strip() for cookie in headers.pop("cookie", "").split(";") if cookie.strip()]
    # The gateway ends the connection and unwraps chunked bodies.
    headers.pop("connection", None)
    body = request.read()
    if headers.pop("transfer-encoding", None) is not None:
        headers["content-length"] = str(len(body))
    headers |= {
        "x-amzn-trace-id": "Root=1-69210f00-0123456789abcdef01234567",
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    path = unquote(request.url.raw_path.partition(b"?")[0].decode("ascii")).partition("?")[0]
    query_string = request.url.query.decode("ascii")
    route_key, path_parameters = _route(request, routes)
    now = time.time()
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query_string,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": request.url.host,
            "domainPrefix": request.url.host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": route_key,
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if path_parameters:
        event["pathParameters"] = path_parameters
    if cookies:
        event["cookies"] = cookies
    if query_string:
        parameters: dict[str, str] = {}
        for name, value in parse_qsl(query_string, keep_blank_values=True):
            parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
        event["queryStringParameters"] = parameters
    if body:
        event["isBase64Encoded"] = not _is_text(headers)
        # An event is JSON: bytes under a text label that are no UTF-8 cannot arrive as they were.
        event["body"] = (
            base64.b64encode(body).decode() if event["isBase64Encoded"] else body.decode(errors="replace")
        )
    return event


def _route(request: httpx.Request, routes: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The route the gateway chooses, by the path as sent, and its parameters, decoded."""
    path_as_sent = request.url.raw_path.partition(b"?")[0].decode("ascii")
    for route_key in routes:
        method, _, template = route_key.partition(" ")
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))
        match = re.fullmatch(pattern, path_as_sent)
        if match and method == request.method:
            return route_key, {name: unquote(value) for name, value in match.groupdict().items()}
    return "$default", {}


def response_of(reply: dict[str, Any], request: httpx.Request) -> httpx.Response:
    """What the client receives for a handler's reply."""
    headers = {str(name).lower(): str(value) for name, value in reply.get("headers", {}).items()}
    assert "set-cookie" not in headers, "cookies belong into `cookies`: joined by commas they are unreadable"
    body = reply.get("body", "")
    if reply.get("isBase64Encoded", False):
        media_type = headers.get("content-type", "")
        binary = "content-encoding" in headers or media_type.startswith(BINARY_REPLY_MEDIA_TYPES)
        assert binary, f"{request.method} {request.url.path} left as base64, but {media_type!r} is text"
        content = base64.b64decode(body, validate=True)
    else:
        content = str(body).encode()
    # The gateway measures what it sends.
    headers["content-length"] = str(len(content))
    pairs = [*headers.items(), *(("set-cookie", cookie) for cookie in reply.get("cookies", []))]
    return httpx.Response(reply["statusCode"], headers=pairs, content=content, request=request)


def _is_text(headers: dict[str, str]) -> bool:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    compressed = headers.get("content-encoding", "identity").strip().lower() != "identity"
    return not compressed and (media_type.startswith("text/") or media_type in TEXT_MEDIA_TYPES)
