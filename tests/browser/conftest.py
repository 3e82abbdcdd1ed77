"""The stage of the SDK's tests: one service and one browser for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.shop import Gate, Stage, staged

# What makes a request of another origin a "simple" one, and what browsers add by themselves.
SIMPLE_TYPE = "text/plain;charset=UTF-8"
OWN_OF_BROWSERS = {
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "host",
    "origin",
    "referer",
    "user-agent",
}
BODY_BYTES_MAX = 60_000


@pytest.fixture(scope="module")
def _stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


@pytest.fixture
def stage(_stage: Stage) -> Iterator[Stage]:
    """The module's stage, as nobody has been on it. Whatever a test does, each request of it is a simple one."""
    _stage.gate.clear()
    _stage.shop.pages.clear()
    _stage.shop.headers.clear()
    _stage.shop.plain = _stage.shop.page()
    yield _stage
    while _stage.contexts:
        _stage.contexts.pop().close()
    check_requests(_stage.gate)


def check_requests(gate: Gate) -> None:
    """None asks for a preflight, or is larger than what a leaving page may send."""
    assert gate.preflights == 0
    for post in gate.posts:
        names = {name for name in post.headers if not name.startswith("sec-")}
        assert names <= OWN_OF_BROWSERS
        assert post.headers["content-type"] == SIMPLE_TYPE
        assert len(post.body) <= BODY_BYTES_MAX
        assert len(post.events) <= 20
