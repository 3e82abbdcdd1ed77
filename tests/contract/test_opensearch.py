"""The way to the search engine: whose URL is taken, who is told what, and what each way of not answering means."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service import indices, logs, opensearch
from service.opensearch import Engine, EngineRefusedError, EngineUnavailableError, url_fault
from service.problems import RETRY_AFTER_SECONDS

Json = dict[str, Any]
DOMAIN = "https://search-shop-x1.eu-central-1.es.amazonaws.com"


class Answers(BaseHTTPRequestHandler):
    """Answers what the test says, and remembers what was asked."""

    protocol_version = "HTTP/1.1"
    status = 200
    body = b"{}"
    asked: list[Any] = []  # noqa: RUF012 - each test makes a class of its own
    disable_nagle_algorithm = True

    def answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.asked.append((self.command, self.path, dict(self.headers.items()), self.rfile.read(length)))
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def answering(
    status: int = 200, body: bytes | Json = b"{}", **members: Any
) -> Iterator[tuple[str, type[Answers]]]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler = type("Handler", (Answers,), {"status": status, "body": text, "asked": [], **members})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does to each connection what the test says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=_behave, args=(behave, connection), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _behave(behave: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        behave(connection)


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_call_is_json_and_its_reply_too() -> None:
    with answering(body={"took": 1}) as (url, handler):
        engine = Engine.connect(url + "/behind/")
        assert engine.call("POST", "/a*,b/_search", {"é": 1}, params={"a": "b c/*", "d": "e"}) == {"took": 1}
        assert engine.call("GET", "/_cat") == {"took": 1}
    (method, path, headers, body), (_, _, bare, nothing) = handler.asked

    assert (method, path) == ("POST", "/behind/a*,b/_search?a=b%20c%2F%2A&d=e")
    assert json.loads(body) == {"é": 1}
    assert headers["content-type"] == "application/json"
    assert "authorization" not in {name.lower() for name in headers}
    assert (nothing, "content-type" in bare) == (b"", False)


def test_bulk_lines_go_as_they_are_and_make_no_index() -> None:
    with answering(body={"errors": False}) as (url, handler):
        assert Engine.connect(url).bulk(b'{"create":{}}\n{}\n', timeout_seconds=5) == {"errors": False}
    ((method, path, headers, body),) = handler.asked

    assert (method, body) == ("POST", b'{"create":{}}\n{}\n')
    assert path.startswith("/_bulk?require_alias=true&filter_path=errors%2Citems")
    assert headers["content-type"] == "application/x-ndjson"


def test_one_connection_serves_call_after_call() -> None:
    ports = set()

    def answer(self: Any) -> None:
        ports.add(self.client_address[1])
        Answers.answer(self)

    with answering(do_GET=answer) as (url, _):
        engine = Engine.connect(url)
        for _ in range(5):
            engine.call("GET", "/")

    assert len(ports) == 1


def test_user_and_password_of_the_url_are_sent_and_never_shown() -> None:
    with answering(401, {"error": "no"}) as (url, handler):
        engine = Engine.connect(url.replace("//", "//us%40er:p%3Ass@"))
        with pytest.raises(EngineUnavailableError) as raised:
            engine.call("GET", "/")
    ((_, _, headers, _),) = handler.asked

    assert headers["authorization"] == "Basic " + base64.b64encode(b"us@er:p:ss").decode()
    for shown in (repr(engine), str(raised.value), str(raised.value.__cause__), engine.url):
        assert "p:ss" not in shown
        assert "p%3Ass" not in shown


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (DOMAIN, "eu-central-1"),
        ("https://vpc-shop-x1.cn-north-1.es.amazonaws.com.cn", "cn-north-1"),
        ("https://shop-x1.aos.us-east-2.on.aws/", "us-east-2"),
        ("https://search-shop-x1.EU-WEST-1.es.AMAZONAWS.com", "eu-west-1"),
    ],
)
def test_calls_of_an_amazon_domain_are_signed_for_its_region(url: str, region: str) -> None:
    engine = Engine.connect(url)
    headers = engine._authorized(
        "POST", engine.url + "/a*/_search?a=b", b"{}", {"accept": "application/json"}
    )

    assert re.search(rf"Credential=testing/\d{{8}}/{region}/es/aws4_request", headers["Authorization"])
    assert "SignedHeaders=accept;host;x-amz-date" in headers["Authorization"]
    assert headers["accept"] == "application/json"
    # Of what is sent.
    other = engine._authorized("POST", engine.url + "/a*/_search?a=b", b"[]", {"accept": "application/json"})
    assert headers["Authorization"] != other["Authorization"]


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@search-shop-x1.eu-central-1.es.amazonaws.com",
        "https://es.amazonaws.com.example.org",
    ],
)
def test_other_calls_are_not_signed(url: str) -> None:
    headers = Engine.connect(url)._authorized("GET", url, b"", {})

    assert "AWS4" not in str(headers)


@pytest.mark.parametrize(
    "url", ["https://x1.eu-central-1.aoss.amazonaws.com", "http://u:p@elsewhere", "nowhere", ""]
)
def test_a_url_that_cannot_be_used_is_refused_before_any_call(url: str) -> None:
    fault = url_fault(url)
    assert fault
    with pytest.raises(ValueError, match=re.escape(fault)):
        Engine.connect(url)


# --- what is answered -------------------------------------------------------------------------------------------------

ERROR = {"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404}


def test_a_refusal_says_what_the_engine_says() -> None:
    with answering(404, ERROR) as (url, _):
        engine = Engine.connect(url)
        with pytest.raises(EngineRefusedError) as refused:
            engine.call("GET", "/x")
        assert (refused.value.status, refused.value.kind, refused.value.reason) == (
            404,
            "index_not_found_exception",
            "no such index",
        )
        assert engine.call("GET", "/x", accept=(404,)) == ERROR


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"error":"x"}', b'{"error":{"type":"a"}}', b"[1]", b"\xff"]
)
def test_not_now_is_told_from_never(status: int, body: bytes) -> None:
    with answering(status, body) as (url, _):
        engine = Engine.connect(url)
        calls: list[Callable[[], Json]] = [
            lambda: engine.call("GET", "/"),
            lambda: engine.bulk(b"x\n", timeout_seconds=5),
        ]
        for call in calls:
            with pytest.raises(EngineUnavailableError) as raised:
                call()
            assert isinstance(raised.value.__cause__, EngineRefusedError)
            assert raised.value.__cause__.status == status

    assert (raised.value.status, raised.value.code) == (503, "search_unavailable")
    assert raised.value.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)


@pytest.mark.parametrize("body", [b"", b"<html>it works</html>", b'{"took":', b"\xff\xfe", b"[" * 100_000])
def test_a_reply_that_is_no_json_is_no_reply(body: bytes) -> None:
    with answering(200, body) as (url, _), pytest.raises(EngineUnavailableError):
        Engine.connect(url).call("GET", "/")


@pytest.mark.parametrize(
    "reply",
    [
        {"timed_out": True, "hits": {}},
        {"timed_out": False, "_shards": {"total": 2, "successful": 1, "failed": 1}, "count": 5},
        # One that is nowhere has not failed.
        {"timed_out": False, "_shards": {"total": 2, "successful": 1, "failed": 0}, "count": 5},
    ],
)
def test_half_an_answer_is_none(reply: Json) -> None:
    with answering(body=reply) as (url, _):
        engine = Engine.connect(url)
        for path in ("/x/_search", "/_count"):
            with pytest.raises(EngineUnavailableError):
                engine.call("POST", path, {})


def test_a_refresh_that_failed_somewhere_is_none() -> None:
    """What was written there would not be found; a copy that is nowhere has nothing to be found."""
    for failed in (0, 1):
        shards = {"_shards": {"total": 2, "successful": 1, "failed": failed}}
        with answering(body=shards) as (url, _):
            engine = Engine.connect(url)
            if failed:
                with pytest.raises(EngineUnavailableError):
                    engine.call("POST", "/x/_refresh")
            else:
                assert engine.call("POST", "/x/_refresh") == shards


@pytest.mark.parametrize(
    ("version", "params"),
    [
        ({"distribution": "opensearch", "number": "3.8.0"}, {"preference": "_primary"}),
        ({"number": "8.15.0"}, {}),
    ],
)
def test_primaries_are_asked_where_the_engine_knows_them(version: Json, params: Json) -> None:
    with answering(body={"version": version}) as (url, handler):
        engine = Engine.connect(url)
        assert [engine.primaries(), engine.until(time.monotonic() + 9).primaries()] == [params] * 2
    assert len(handler.asked) == 1


def test_a_refusal_is_told_by_status_and_kind_and_never_by_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind, logged in (
        ("circuit_breaking_exception", "circuit_breaking_exception"),
        ("of u-1 <a>", "other"),
    ):
        with answering(429, {"error": {"type": kind, "reason": "secret"}}) as (url, _):
            with pytest.raises(EngineUnavailableError) as raised:
                Engine.connect(url).call("GET", "/")
            assert (raised.value.engine_status, raised.value.kind) == (429, kind)
            logs.failure("x", raised.value)
        printed = capsys.readouterr().out
        assert "secret" not in printed
        line = json.loads(printed)
        assert (line["engineStatus"], line["engineKind"]) == (429, logged)
    assert EngineUnavailableError().facts == {}


def test_a_reply_that_is_a_list_is_one() -> None:
    with answering(200, b"[1]") as (url, _):
        assert Engine.connect(url).call("GET", "/_cat/indices") == {"reply": [1]}


def test_a_reply_too_large_to_hold_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch, "REPLY_BYTES_MAX", 1000)
    with answering(body=json.dumps("x" * 998).encode()) as (url, _):
        assert Engine.connect(url).call("GET", "/") == {"reply": "x" * 998}
    with answering(body=json.dumps("x" * 999).encode()) as (url, _):
        engine = Engine.connect(url)
        with pytest.raises(EngineRefusedError, match="reply_too_large"):
            engine.call("GET", "/")


# --- nobody answers ---------------------------------------------------------------------------------------------------


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineUnavailableError):
        Engine.connect(f"http://127.0.0.1:{port}").call("GET", "/")


def _read_and_wait(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _drip(connection: socket.socket) -> None:
    """Each byte comes before a read gives up, and all of them never do."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
    while True:
        connection.sendall(b" " * 300_000)
        time.sleep(0.05)


@pytest.mark.parametrize("behave", [_read_and_wait, _drip])
def test_no_call_takes_longer_than_it_may(behave: Callable[[socket.socket], None]) -> None:
    """It ends at all: what is asserted is no figure."""
    with serving(behave) as url, pytest.raises(EngineUnavailableError):
        Engine.connect(url).call("GET", "/", timeout_seconds=0.3)


def test_an_engine_that_has_a_deadline_ends_by_it() -> None:
    with serving(_read_and_wait) as url, pytest.raises(EngineUnavailableError):
        Engine.connect(url).until(time.monotonic() + 0.3).call("GET", "/", timeout_seconds=600)
    with answering() as (url, handler), pytest.raises(EngineUnavailableError):
        Engine.connect(url).until(time.monotonic()).call("GET", "/")
    assert handler.asked == []


def test_a_call_with_no_time_left_is_not_made() -> None:
    with answering() as (url, handler), pytest.raises(EngineUnavailableError):
        Engine.connect(url).call("GET", "/", timeout_seconds=0)

    assert handler.asked == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_wire_that_is_cut_is_tried_once_more(text: bytes) -> None:
    connections = []

    def cut_first(connection: socket.socket) -> None:
        connections.append(1)
        connection.recv(65536)
        connection.sendall(
            text if len(connections) == 1 else b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        )

    with serving(cut_first) as url:
        assert Engine.connect(url).call("GET", "/", timeout_seconds=10) == {}
    assert len(connections) == 2


def test_a_reply_that_is_cut_between_its_headers_is_no_empty_one() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nconte")

    with serving(cut) as url, pytest.raises(EngineUnavailableError):
        Engine.connect(url).call("GET", "/")


def test_a_wire_that_is_cut_each_time_is_no_answer() -> None:
    connections = []

    def cut(connection: socket.socket) -> None:
        connections.append(1)
        connection.recv(65536)

    with serving(cut) as url, pytest.raises(EngineUnavailableError):
        Engine.connect(url).call("GET", "/", timeout_seconds=10)
    assert len(connections) == 2


# --- which engines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "flat"),
    [
        ({"distribution": "opensearch", "number": "2.7.0"}, "flat_object"),
        ({"distribution": "opensearch", "number": "2.19.1"}, "flat_object"),
        ({"distribution": "opensearch", "number": "10.0.0-SNAPSHOT"}, "flat_object"),
        ({"number": "8.15.0"}, "flattened"),
    ],
)
def test_each_engine_is_told_its_own_flat_field(version: Json, flat: str) -> None:
    with answering(body={"version": version}) as (url, handler):
        assert indices.setup(Engine.connect(url))["number"] == version["number"]
    puts = {path: json.loads(body) for method, path, _, body in handler.asked if method == "PUT"}

    assert puts["/_index_template/footfall-events"]["template"]["mappings"]["properties"]["properties"] == {
        "type": flat
    }
    assert "/footfall-failed" in puts


@pytest.mark.parametrize("number", ["1.3.2", "2.6.0", "2.0.1"])
def test_an_engine_without_flat_fields_is_refused(number: str) -> None:
    with answering(body={"version": {"distribution": "opensearch", "number": number}}) as (url, handler):
        engine = Engine.connect(url)
        with pytest.raises(indices.TooOldError, match=re.escape("2.7")):
            indices.setup(engine)
    assert [method for method, *_ in handler.asked] == ["GET"]
