"""A bulk that is refused as a whole: halved while there is time, where the engine takes any; answers one by one; and
what becomes of those that could not be indexed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from service import attribution, bulk, indices
from service.attribution import Settled, Standing
from service.bulk import Bulk, Document, Refused, Sent
from service.dynamodb import Table
from service.index_template import Names
from service.indexer import Indexed, Indexer, Target, _Failed
from service.opensearch import Engine, EngineRefusedError
from service.problems import Unavailable
from service.store import Work
from tests import opensearch_local
from tests.builders import make_settings
from tests.contract.test_opensearch import Answers, answering

Json = dict[str, Any]
# Status and body of an answer to a call with these actions and sources.
Rule = Callable[[Sequence[tuple[Json, bytes]]], tuple[int, Json]]
ERROR = {"error": {"type": "x", "reason": "y"}}
MONTH = "2026-11"


def documents(number: int) -> list[Document]:
    return [
        Document(position, f"d-{position}", "months", MONTH, "u", "u", 0, b"{}") for position in range(number)
    ]


def sent(
    url: str, number: int, seconds: float = 30, make: Callable[[str], object] = lambda _: None
) -> Sent[Document]:
    bulk = Bulk(Engine.connect(url), time.monotonic() + seconds, make, lambda _: None)
    return bulk.send(documents(number))


def positions(refused: Sequence[Refused[Document]]) -> list[int]:
    return [one.document.position for one in refused]


def asked(handler: type[Answers]) -> list[list[str]]:
    """The ids of each call's documents; the one call that asks whether any is taken has none."""
    return [[action.get("_id", "") for action, _ in _put(body)] for _, _, _, body in handler.asked]


def _put(body: bytes) -> list[tuple[Json, bytes]]:
    lines = body.splitlines()
    return [
        (json.loads(action)["create"], source) for action, source in zip(lines[::2], lines[1::2], strict=True)
    ]


def by(rule: Rule) -> Callable[[Any], None]:
    """A server that answers so."""

    def answer(self: Any) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append((self.command, self.path, {}, body))
        self.status, reply = rule(_put(body))
        text = json.dumps(reply).encode()
        self.send_response(self.status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    return answer


def each(
    put: Sequence[tuple[Json, bytes]], answers: Callable[[str], tuple[int, str, str] | int]
) -> tuple[int, Json]:
    """Answers by id; what has none is asked of an alias that is nowhere."""
    items: list[Json] = []
    for action, _ in put:
        found = answers(action["_id"]) if "_id" in action else (404, "index_not_found_exception", "no such")
        status, *error = (found,) if isinstance(found, int) else found
        of = {"error": dict(zip(("type", "reason"), error, strict=True))} if error else {}
        items.append({"create": {"status": status, **of}})
    return 200, {"errors": any(item["create"]["status"] >= 300 for item in items), "items": items}


# --- calls ------------------------------------------------------------------------------------------------------------


def test_halves_end_when_the_time_of_the_call_is_over() -> None:
    """Each half would have had the whole of it again: a hundred calls, long after the function has ended."""

    def slowly(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        time.sleep(0.2)
        return each(put, lambda _: 201) if "_id" not in put[0][0] else (413, ERROR)

    with answering(do_POST=by(slowly)) as (url, handler):
        found = sent(url, 64, 0.7)

    assert len(handler.asked) <= 4
    assert found.undone | set(positions(found.refused)) == set(range(64))
    assert len(found.undone) > 50


@pytest.mark.parametrize("status", [404, 405])
def test_where_nothing_takes_a_bulk_no_document_is_given_up(status: int) -> None:
    with answering(status, ERROR) as (url, handler):
        found = sent(url, 64)

    assert found.refused == []
    assert found.undone == set(range(64))
    assert {body.count(b"create") for _, _, _, body in handler.asked} == {64}, "halved"


@pytest.mark.parametrize("status", [400, 406, 413, 415])
def test_where_every_bulk_is_refused_no_document_is_given_up(status: int) -> None:
    """An engine that allows no `_index` in a line, say: 400 for whatever is sent."""
    with answering(status, ERROR) as (url, handler):
        found = sent(url, 500)

    assert (found.refused, found.created) == ([], 0)
    assert found.undone == set(range(500))
    assert found.facts["engineStatus"] == status
    assert len(handler.asked) == 2 * bulk.ATTEMPTS_MAX
    assert {body.count(b"create") for _, _, _, body in handler.asked} == {1, 500}, "halved"
    assert all(body.count(b'"require_alias":true') == 1 for _, _, _, body in handler.asked[1::2])


@pytest.mark.parametrize("status", [400, 413])
def test_what_spoils_a_call_is_found_by_halving(status: int) -> None:
    """Or is too large by itself."""

    def spoiled(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        is_spoiled = any(action.get("_id") == "d-3" for action, _ in put)
        return (status, ERROR) if is_spoiled else each(put, lambda _: 201)

    with answering(do_POST=by(spoiled)) as (url, handler):
        found = sent(url, 5)

    assert positions(found.refused) == [3]
    assert [(one.is_of_call, one.reason) for one in found.refused] == [(True, "x: y")]
    assert (found.created, found.undone) == (4, set())
    assert asked(handler).count([""]) == 1


def test_whether_any_call_is_taken_is_asked_no_more_once_one_was() -> None:
    def spoiled(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        is_spoiled = any(action.get("_id") == "d-1" for action, _ in put)
        return (400, ERROR) if is_spoiled else each(put, lambda _: 201)

    with answering(do_POST=by(spoiled)) as (url, handler):
        bulk = Bulk(Engine.connect(url), time.monotonic() + 30, lambda _: None, lambda _: None)
        assert bulk.send(documents(1)).created == 1
        assert positions(bulk.send(documents(2)).refused) == [1]
    assert [""] not in asked(handler)


def test_a_real_engine_finds_what_spoils_a_call_and_is_left_as_it_was(engine: Engine) -> None:
    names = Names(engine.prefix)
    poison = b'{"user":"u"}\n{"x":'
    put = [
        Document(position, f"d-{position}", names.month(MONTH), MONTH, "u", "u", 0, source)
        for position, source in enumerate([b'{"user":"u"}'] * 3 + [poison] + [b'{"user":"u"}'])
    ]
    bulk = Bulk(
        engine, time.monotonic() + 60, lambda month: indices.make_month(engine, month), lambda _: None
    )
    found = bulk.send(put)

    assert (positions(found.refused), found.created, found.undone) == ([3], 4, set())
    assert set(opensearch_local.documents(engine)) == {"d-0", "d-1", "d-2", "d-4"}
    assert set(engine.call("GET", f"/{engine.prefix}*/_alias")) == {names.index(MONTH, 1), names.failed}


# --- answers one by one -----------------------------------------------------------------------------------------------


def test_what_is_decided_is_not_sent_again_where_a_months_index_cannot_be_made() -> None:
    """The first try makes one, refuses one and lacks an index; the second finds that there."""
    tries: list[str] = []

    def answers(doc_id: str) -> int | tuple[int, str, str]:
        if doc_id == "d-0":
            return 201
        if doc_id == "d-1":
            return 400, "mapper_parsing_exception", "no"
        return 201 if tries[1:] else (404, "index_not_found_exception", "no such")

    def make(month: str) -> None:
        tries.append(month)
        if not tries[1:]:
            raise EngineRefusedError(400, "validation_exception", "too many shards")

    def rule(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        return each(put, answers)

    with answering(do_POST=by(rule)) as (url, handler):
        found = sent(url, 3, make=make)

    assert asked(handler) == [["d-0", "d-1", "d-2"], ["d-2"], ["d-2"]]
    assert (found.created, positions(found.refused), found.there, found.undone) == (2, [1], [], set())


def test_an_alias_without_an_index_to_write_to_is_no_documents_fault() -> None:
    reason = "no write index is defined for alias [months]. The write index may be explicitly disabled"
    answers: Iterator[Any] = iter([(400, "illegal_argument_exception", reason), 201])
    with answering(do_POST=by(lambda put: each(put, lambda _: next(answers)))) as (url, _):
        found = sent(url, 1)

    assert (found.created, found.refused, found.undone, found.retries) == (1, [], set(), 1)


# --- what could not be indexed ----------------------------------------------------------------------------------------


def indexer(url: str) -> Indexer:
    """One whose table is never asked."""
    calls = Table(None, "t").calls(time.monotonic() + 30)
    work = Work(calls, make_settings(), datetime(2026, 11, 22, tzinfo=UTC))
    target = Target(lambda _: "months", lambda _: None)
    return Indexer(Engine.connect(url), work, target, lambda _: None)


def failed(*names: str) -> list[_Failed]:
    return [_Failed(name, {"reason": "r", "key": name, "body": f"body of {name}"}) for name in names]


def kept(handler: type[Answers]) -> list[Json]:
    """The records of every call that was made, in order."""
    calls = [body for method, path, _, body in handler.asked if "_bulk" in path]
    return [json.loads(source) for body in calls for action, source in _put(body) if "_id" in action]


@pytest.mark.parametrize("status", [400, 413])
def test_records_of_failures_that_no_call_can_bring_are_not_lost(status: int) -> None:
    """Their documents would be taken for done."""
    with (
        answering(do_POST=by(lambda _: (status, ERROR))) as (url, _),
        pytest.raises(Unavailable),
    ):
        indexer(url)._keep(failed("f-1", "f-2"))


def test_a_record_whose_body_spoils_the_call_is_kept_without_it() -> None:
    """Or it would block the rest for good."""

    def spoiled(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        is_spoiled = any(b"body of f-2" in source for _, source in put)
        return (413, ERROR) if is_spoiled else each(put, lambda _: 201)

    with answering(do_POST=by(spoiled)) as (url, handler):
        indexer(url)._keep(failed("f-1", "f-2", "f-3"))
    assert kept(handler)[-1] == {"reason": "r", "key": "f-2"}


def test_a_record_that_spoils_a_call_without_its_body_holds_the_rest_up() -> None:
    def spoiled(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        is_spoiled = any(action.get("_id") == "f-2" for action, _ in put)
        return (400, ERROR) if is_spoiled else each(put, lambda _: 201)

    with (
        answering(do_POST=by(spoiled)) as (url, _),
        pytest.raises(Unavailable),
    ):
        indexer(url)._keep(failed("f-1", "f-2", "f-3"))


def test_a_record_that_is_refused_itself_is_logged_by_its_kind_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = iter(["strict_dynamic_mapping_exception", "u-1 <a> secret"])
    with answering(
        do_POST=by(lambda put: each(put, lambda _: (400, next(kinds), "secret"))),
    ) as (url, _):
        indexer(url)._keep(failed("f-1", "f-2"))
    printed = capsys.readouterr().out

    assert "secret" not in printed
    logged = [json.loads(line) for line in printed.splitlines()]
    assert [(line["level"], line["engineKind"]) for line in logged] == [
        ("ERROR", "strict_dynamic_mapping_exception"),
        ("ERROR", "other"),
    ]


def test_what_is_refused_when_it_is_put_once_more_is_kept_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events dated ahead, sent again after an erasure."""
    monkeypatch.setattr(attribution, "settle", lambda *_: Settled())

    def rule(put: Sequence[tuple[Json, bytes]]) -> tuple[int, Json]:
        refused = (400, "mapper_parsing_exception", "no")
        return each(put, lambda doc_id: refused if doc_id == "d-1" else 201)

    dated = [Document(n, f"d-{n}", "months", MONTH, "u", "u", 9_000, b'{"n":1}') for n in range(2)]
    indexed = Indexed(created=5, failed=1, retries=1)
    with answering(do_POST=by(rule)) as (url, handler):
        indexer(url)._put_again(Sent(there=dated), {"u": Standing("u", 8_000)}, indexed)

    assert (indexed.created, indexed.failed, indexed.retries, indexed.undone) == (6, 2, 1, set())
    (record,) = kept(handler)[2:]
    assert (record["key"], record["reason"], record["body"]) == (
        "d-1",
        "mapper_parsing_exception: no",
        '{"n":1}',
    )
