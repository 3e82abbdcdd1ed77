"""Every case of the corpus through both doors: the documented answer, small, repeating nothing, and harming nobody."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests import canned_engine
from tests.builders import (
    counts,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    new_table,
    post,
    rejections,
    totals,
    uvicorn_client,
)
from tests.codes import problem_codes, rejection_codes
from tests.fuzz.corpus import CASES, MARK, USER, Case
from tests.fuzz.figures import show

# A guard against what hangs, not a measurement.
SECONDS_MAX = 20
took: dict[str, float] = {}


@pytest.fixture(scope="module", params=["lambda", "uvicorn"])
def door(request: pytest.FixtureRequest, dynamodb_client: Any) -> Iterator[tuple[str, httpx.Client]]:
    """One service for all cases, so that what one of them spoils the others meet."""
    with canned_engine.running() as engine:
        app = make_app(make_settings(opensearch_url=engine.url), new_table(dynamodb_client, "footfall"))
        opened = lambda_client(app) if request.param == "lambda" else uvicorn_client(app)
        with opened as client:
            yield request.param, client


def _named(case: Case) -> str:
    return re.sub(r"\W+", "-", case.name)


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_bad_input_gets_its_answer_and_harms_nobody(door: tuple[str, httpx.Client], case: Case) -> None:
    kind, client = door
    if kind not in case.doors:
        return
    user = f"u-{CASES.index(case)}"
    body = (
        case.body if case.headers.get("Content-Encoding") else case.body.replace(USER.encode(), user.encode())
    )
    started = time.perf_counter()
    reply = client.request(
        case.method, case.path.replace(USER, user), content=body, headers=dict(case.headers)
    )
    took[f"{case.name} ({kind})"] = elapsed = time.perf_counter() - started

    _check(reply, case)
    if case.totals:
        found = totals(client, user)
        assert {name: found[name] for name in case.totals} == _numbers(case.totals)
    assert elapsed < SECONDS_MAX
    good = make_event(userId=f"{user}-good")
    assert counts(post(client, [good])) == (1, 0, 0)
    assert totals(client, f"{user}-good")["events"] == 1


def _check(reply: httpx.Response, case: Case) -> None:
    assert (case.status, case.code) == (reply.status_code, _code(reply)), reply.text[:500]
    assert MARK not in reply.text
    assert all(MARK not in value for value in reply.headers.values())
    if case.counted is not None:
        assert case.counted == counts(reply)
        assert list(case.codes) == [code for _, code in rejections(reply)]
    if reply.status_code >= 400:
        assert len(reply.content) < 16 * 1024
        assert reply.headers["content-type"] == "application/problem+json"
    assert "set-cookie" not in reply.headers
    assert "access-control-allow-credentials" not in reply.headers


def _code(reply: httpx.Response) -> str | None:
    return reply.json()["code"] if reply.status_code >= 400 else None


def _numbers(expected: Any) -> dict[str, Any]:
    """Amounts are written as text in the corpus, so that they are exact."""
    return {
        name: {code: Decimal(text) for code, text in value.items()} if name == "revenue" else value
        for name, value in expected.items()
    }


def test_the_corpus_is_well_made() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.code for case in CASES if case.code} <= problem_codes()
    assert {code for case in CASES for code in case.codes} <= rejection_codes()


# --- connections that misbehave --------------------------------------------------------------------------------------

HEAD = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\n"
WIRES = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "a line without end": b"GET /" + b"a" * 200_000,
    "a body that does not come": HEAD + b"Content-Length: 500\r\n\r\n{",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
    "a length below nothing": HEAD + b"Content-Length: -1\r\n\r\n",
    "a length and pieces": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
    "pieces of no length": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a header of 200 KB": HEAD + b"X-Mark: " + b"x" * 200_000 + b"\r\n\r\n",
    "a header with a line break": HEAD + b"X-Mark: a\r\n b\r\nX\x00: y\r\n\r\n",
    "a NUL in the path": b"GET /v1/users/a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", WIRES.values(), ids=[re.sub(r"\W+", "-", name) for name in WIRES])
def test_a_connection_that_misbehaves_harms_no_other(door: tuple[str, httpx.Client], sent: bytes) -> None:
    kind, client = door
    if kind == "lambda":
        return  # there the gateway has the connections
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=5) as wire:
        with contextlib.suppress(OSError):
            wire.sendall(sent)
            wire.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while part := wire.recv(65536):
                answer += part
    assert len(answer) < 16 * 1024
    assert b" 500 " not in answer.partition(b"\r\n")[0]

    assert counts(post(client, [make_event(userId="wires")])) == (1, 0, 0)


def test_the_slowest() -> None:
    """For the person who reads it."""
    slowest = sorted(took.items(), key=lambda item: -item[1])[:5]
    show(
        f"{len(CASES)} cases, {len(took)} requests; the slowest",
        {n: f"{s * 1000:.0f} ms" for n, s in slowest},
    )
