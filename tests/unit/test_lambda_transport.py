"""The transport makes the events that API Gateway makes, and refuses replies that it would garble."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import httpx
import pytest

from tests.lambda_transport import Handler, LambdaTransport


class Echo:
    """A handler that keeps what it was given and answers as told."""

    def __init__(self, **reply: Any) -> None:
        self.reply = {
            "statusCode": 200,
            "headers": {"content-type": "application/json"},
            "body": "{}",
        } | reply
        self.event: dict[str, Any] = {}
        self.context: Any = None

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        self.event, self.context = event, context
        return self.reply


def client(handler: Handler, **options: Any) -> httpx.Client:
    return httpx.Client(transport=LambdaTransport(handler, **options), base_url="https://api.shop.example")


def test_the_event_has_the_documented_fields() -> None:
    echo = Echo()
    with client(echo) as http:
        http.get("/v1/users/u-1/metrics?from=2026-11-01&tag=a&tag=b%20c", headers={"X-Thing": "1"})

    event = echo.event
    assert event["version"] == "2.0"
    assert event["routeKey"] == "$default"
    assert event["rawPath"] == "/v1/users/u-1/metrics"
    assert event["rawQueryString"] == "from=2026-11-01&tag=a&tag=b%20c"
    assert event["queryStringParameters"] == {"from": "2026-11-01", "tag": "a,b c"}
    assert event["headers"]["x-thing"] == "1"
    assert event["headers"]["host"] == "api.shop.example"
    assert all(name == name.lower() for name in event["headers"])
    assert "body" not in event
    assert event["isBase64Encoded"] is False
    http_part = event["requestContext"]["http"]
    assert {"method", "path", "protocol", "sourceIp", "userAgent"} == set(http_part)
    assert (http_part["method"], http_part["path"]) == ("GET", "/v1/users/u-1/metrics")
    assert isinstance(event["requestContext"]["timeEpoch"], int)


def test_repeated_headers_are_joined_and_cookies_set_apart() -> None:
    echo = Echo()
    with client(echo) as http:
        http.get("/", headers=[("x-a", "1"), ("x-a", "2"), ("cookie", "one=1; two=2")])

    assert echo.event["headers"]["x-a"] == "1,2"
    assert echo.event["cookies"] == ["one=1", "two=2"]
    assert "cookie" not in echo.event["headers"]


def test_the_path_arrives_decoded_and_ends_at_a_decoded_question_mark() -> None:
    echo = Echo()
    with client(echo) as http:
        http.get("/v1/users/a%2541%20%C3%A9/metrics")
        decoded = echo.event["rawPath"]
        http.get("/v1/users/a%3Fb/metrics?from=x")

    assert decoded == "/v1/users/a%41 é/metrics"
    assert echo.event["rawPath"] == "/v1/users/a"
    assert echo.event["rawQueryString"] == "from=x"


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain;charset=UTF-8", "TEXT/HTML", "application/xml"]
)
def test_text_arrives_as_text(content_type: str) -> None:
    echo = Echo()
    with client(echo) as http:
        http.post("/", content='{"a":"é"}'.encode(), headers={"content-type": content_type})

    assert (echo.event["isBase64Encoded"], echo.event["body"]) == (False, '{"a":"é"}')


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/problem+json"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_anything_else_arrives_in_base64(headers: dict[str, str]) -> None:
    echo = Echo()
    content = gzip.compress(b"{}")
    with client(echo) as http:
        http.post("/", content=content, headers=headers)

    assert echo.event["isBase64Encoded"] is True
    assert content == base64.b64decode(echo.event["body"])


def test_a_streamed_body_arrives_whole_and_measured() -> None:
    echo = Echo()
    with client(echo) as http:
        http.post("/", content=iter([b"ab", b"cd"]), headers={"content-type": "text/plain"})

    assert echo.event["body"] == "abcd"
    assert echo.event["headers"]["content-length"] == "4"
    assert "transfer-encoding" not in echo.event["headers"]


def test_the_time_left_is_the_tests_to_set() -> None:
    echo = Echo()
    with client(echo, remaining_ms=300) as http:
        http.get("/")

    assert echo.context.get_remaining_time_in_millis() == 300


def test_the_reply_comes_back() -> None:
    echo = Echo(
        statusCode=503,
        headers={"Content-Type": "application/problem+json", "retry-after": "2"},
        body='{"é":1}',
        cookies=["a=1; Path=/", "b=2"],
    )
    with client(echo) as http:
        response = http.get("/")

    assert response.status_code == 503
    assert response.json() == {"é": 1}
    assert response.headers["retry-after"] == "2"
    assert str(len('{"é":1}'.encode())) == response.headers["content-length"]
    assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]


def test_binary_replies_may_be_base64() -> None:
    body = base64.b64encode(b"\x89PNG").decode()
    echo = Echo(headers={"content-type": "image/png"}, body=body, isBase64Encoded=True)
    with client(echo) as http:
        assert http.get("/").content == b"\x89PNG"


@pytest.mark.parametrize("content_type", ["application/problem+json", "text/html", ""])
def test_text_replies_in_base64_are_refused(content_type: str) -> None:
    echo = Echo(headers={"content-type": content_type}, body="e30=", isBase64Encoded=True)
    with client(echo) as http, pytest.raises(AssertionError, match="left as base64"):
        http.get("/")


def test_a_reply_that_is_no_json_is_refused() -> None:
    with client(Echo(body=b"{}")) as http, pytest.raises(TypeError, match="not JSON serializable"):
        http.get("/")
