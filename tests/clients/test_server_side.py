"""The clients that a shop's server uses, as docs/clients.md has them: exact totals, whatever the wire does."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import snippets, visit
from tests.clients.conftest import HERE, Run, run_program
from tests.clients.gateway import Deed, Gateway

QUIET = [Deed.PASS]
LOSES_FIRST = [Deed.LOSE, *[Deed.PASS] * 9]
REFUSES_FIRST = [Deed.REFUSE, *[Deed.PASS] * 9]
PEOPLE = 3
BATCH = 6


@dataclass(frozen=True)
class Client:
    """The client's section of the page, the file of it that is run, and how it labels its bodies."""

    heading: str
    program: str
    encoding: str | None
    # What an owner may write otherwise than the page: here and there.
    without: str = ""
    small_batches: tuple[str, str] = ("", "")
    # RudderStack's takes half a reply for an answer it cannot read, and gives up on what has arrived.
    spoils: Sequence[Deed] = (Deed.LOSE, Deed.REFUSE, Deed.HALVE, Deed.PASS)


NODE = Client("Node", "shop.mjs", None, small_batches=("host:", f"flushAt: {BATCH}, host:"))
RUDDER = Client(
    "RudderStack on Node",
    "shop.mjs",
    "gzip",
    small_batches=("dataPlaneUrl:", f"flushAt: {BATCH}, dataPlaneUrl:"),
    spoils=(Deed.LOSE, Deed.REFUSE, Deed.PASS),
)
PYTHON = Client("Python", "shop.py", "gzip")
PYTHON_PLAIN = Client("Python", "shop.py", None, without="analytics.gzip = True")


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Runs a program by its ending, where its client is installed."""

    def run_by_ending(program: str, *arguments: str) -> str:
        if program.endswith(".py"):
            return run_program([sys.executable, program, *arguments], tmp_path)
        node: Run = request.getfixturevalue("node")
        return node(program, *arguments)

    return run_by_ending


def texts_of(client: Client) -> dict[str, str]:
    """The section's files; without what the page says may be left out."""
    texts = snippets.files(client.heading)
    if client.without:
        assert sum(client.without in text for text in texts.values()) == 1
    return {name: text.replace(client.without, "") for name, text in texts.items()}


def check_wire(wire: Gateway, people: int, spoils: set[Deed], client: Client) -> None:
    """The wire did what it was to do, and every event got through, or the totals would show nothing."""
    assert wire.deeds() == spoils | {Deed.PASS}
    assert {request.headers.get("content-encoding") for request in wire.requests} == {client.encoding}
    assert wire.rejected() == []
    assert len(wire.deliveries()) == people * visit.SENT
    assert (max(wire.deliveries().values()) > 1) == (Deed.LOSE in spoils)


@pytest.mark.parametrize(
    "plan", [QUIET, LOSES_FIRST, REFUSES_FIRST], ids=["quiet", "a reply is lost", "a 503"]
)
@pytest.mark.parametrize(
    "client", [NODE, RUDDER, PYTHON, PYTHON_PLAIN], ids=["node", "rudder", "python", "python without gzip"]
)
def test_the_page_s_example_is_counted_exactly(
    client: Client, plan: list[Deed], service: str, wire: Gateway, run: Callable[..., str], tmp_path: Path
) -> None:
    one = visit.Visit()
    wire.plan = plan
    snippets.write(tmp_path, snippets.fill(texts_of(client), wire.url, one.words()))
    run(client.program)

    check_wire(wire, 1, set(plan[:1]), client)
    visit.check(service, one.user, one.visitor)


@pytest.mark.parametrize("client", [NODE, RUDDER, PYTHON], ids=["node", "rudder", "python"])
def test_a_crowd_on_a_bad_wire_is_counted_exactly(
    client: Client, service: str, wire: Gateway, run: Callable[..., str], tmp_path: Path
) -> None:
    """Several requests of one client, under way together, of which every second or so is spoilt in turn."""
    people = [visit.Visit() for _ in range(PEOPLE)]
    wire.plan = client.spoils
    texts = {
        name: text.replace(*client.small_batches)
        for name, text in texts_of(client).items()
        if name != client.program
    }
    snippets.write(tmp_path, snippets.fill(texts, wire.url, {}))
    crowd = f"crowd{Path(client.program).suffix}"
    shutil.copy(HERE / crowd, tmp_path)
    as_json = json.dumps([[one.visitor, one.user, one.order] for one in people])
    run(crowd, *(f"./{name}" for name in texts if name.endswith(".mjs")), as_json)

    check_wire(wire, PEOPLE, set(client.spoils), client)
    for one in people:
        visit.check(service, one.user, one.visitor)


def test_half_a_reply_ends_rudderstack_s_process_and_not_what_it_sent(
    service: str, wire: Gateway, node: Run, tmp_path: Path
) -> None:
    """As the page says: the events are counted, and a `flush()` that nobody catches throws."""
    one = visit.Visit()
    wire.plan = [Deed.PASS, Deed.HALVE]
    snippets.write(tmp_path, snippets.fill(texts_of(RUDDER), wire.url, one.words()))
    with pytest.raises(AssertionError, match="ERR_BAD_RESPONSE"):
        node(RUDDER.program)

    assert set(wire.deliveries().values()) == {1}
    visit.check(service, one.user, one.visitor)
