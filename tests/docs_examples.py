"""The examples of docs/data-model.md and docs/api.md, made by the service itself.

python -m tests.docs_examples            says what differs
python -m tests.docs_examples --write    puts it right

A page is read from top to bottom against one new table on DynamoDB Local, at noon of 2026-11-22. A fenced block `http`
that begins with a method is a request, and is sent; the block `http` after it is the reply. A block `json` under a
comment `<!-- item: PK SK -->` is that item of the table, as the AWS command line shows it. Searches are answered by a
real OpenSearch.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import difflib
import hashlib
import io
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from service import dev, identities
from service.dynamodb import Table, connect
from service.index_template import Names
from service.opensearch import Engine
from service.problems import Unavailable
from service.rebuild import Rebuild
from service.service import Service
from service.store import Work
from tests import dynamodb_local, opensearch_local
from tests.builders import NOON, Clock, lambda_client, make_app, make_settings, new_table

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("data-model.md", "api.md")
WIDTH = 110
# What a page may do to the service before the next request; it says so in its own words beside the comment.
CUT = "<!-- the process dies before the first day is sealed -->"
RAW = "<!-- from here on with FOOTFALL_RAW_EVENTS=1 -->"
INDEXED = "<!-- all of this is indexed; from here on with FOOTFALL_OPENSEARCH_URL -->"
_FENCE = re.compile(r"^```(\w*)$")
_ITEM = re.compile(r"^<!-- item: (\S+) (\S+) -->$")
_SHOWN_HEADERS = ("footfall-capacity", "retry-after", "www-authenticate", "content-type")
_NDJSON = "application/x-ndjson"


@dataclass
class Rendered:
    """A page as it should be, and what it asked for on the way."""

    text: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    items: list[tuple[str, str]] = field(default_factory=list)


def render(page: str, client: Any, engine: Engine) -> Rendered:
    """The page with each reply and item as the service makes it now. `client` is botocore's, of DynamoDB Local;
    `engine` is set up and holds nothing."""
    table = new_table(client, "docs")
    settings = make_settings(
        write_keys=frozenset({dev.DEV_WRITE_KEY}),
        secret_key_hashes=frozenset({hashlib.sha256(dev.DEV_SECRET_KEY.encode()).digest()}),
    )
    app = make_app(settings, table, Clock(NOON))
    with_raw_events = make_app(dataclasses.replace(settings, raw_events=True), table, Clock(NOON))
    result = Rendered("")
    lines: list[str] = []
    reply: httpx.Response | None = None
    with lambda_client(app) as door, lambda_client(with_raw_events) as other_door:
        for kind, block in _parts(page):
            if block == [RAW]:
                door = other_door
            if block == [INDEXED]:
                _index(engine, table, with_raw_events)
            if kind == "http" and block[1].startswith("HTTP/"):
                assert reply is not None, "a reply without a request"
                block = ["```http", *_shown(reply).splitlines(), "```"]
            elif kind == "http":
                is_cut = CUT in lines[-4:]
                reply = _sent(door, block[1:-1], is_cut=is_cut)
                result.requests.append((reply.request.method, _template(app, reply.request)))
            elif kind == "json" and (found := _ITEM.match(lines[-1])):
                result.items.append((found[1], found[2]))
                block = ["```json", *_item(table, found[1], found[2]).splitlines(), "```"]
            lines += block
    result.text = "\n".join(lines) + "\n"
    return result


def _index(engine: Engine, table: Table, app: FastAPI) -> None:
    """What `python -m service index rebuild` does, and the same deployment with search."""
    service: Service = app.state.service
    for _ in Rebuild(engine, Work(table.calls(time.monotonic() + 60), service.settings, NOON)).run():
        pass
    engine.call("POST", f"/{Names(engine.prefix).events}/_refresh")
    service.engine = engine


def _parts(page: str) -> Iterator[tuple[str, list[str]]]:
    """Single lines of prose, and whole fenced blocks with their kind."""
    lines = iter(page.splitlines())
    for line in lines:
        fence = _FENCE.match(line)
        block = [line]
        if fence:
            for line in lines:
                block.append(line)
                if line == "```":
                    break
        yield (fence[1] if fence else ""), block


def _sent(door: httpx.Client, lines: list[str], *, is_cut: bool) -> httpx.Response:
    head, _, body = "\n".join(lines).partition("\n\n")
    first, *others = head.splitlines()
    method, path = first.split()
    headers = dict(line.split(": ", 1) for line in others)
    with pytest.MonkeyPatch.context() as patch:
        if is_cut:
            patch.setattr(identities, "seal", _die)
        return door.request(method, path, headers=headers, content=body.encode() or None)


def _die(*_: object) -> None:
    raise Unavailable


def _template(app: FastAPI, request: httpx.Request) -> str:
    """`/v1/users/{userId}` for the path of a request."""
    for route in iter_route_contexts(app.routes):
        pattern = re.sub(r"{[^}]+}", "[^/]+", route.path or "")
        if request.method in (route.methods or ()) and re.fullmatch(pattern, request.url.path):
            return route.path or ""
    return request.url.path


def _shown(reply: httpx.Response) -> str:
    lines = [f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}"]
    names = [name for name in _SHOWN_HEADERS if name in reply.headers]
    is_ndjson = reply.headers["content-type"] == _NDJSON
    if reply.status_code == 200 and not is_ndjson:
        names = [name for name in names if name != "content-type"]
    # DynamoDB Local reports less than AWS of some requests, which the header then says; on AWS it does not.
    lines += [f"{name.title()}: {reply.headers[name].removesuffix(', estimated=1')}" for name in names]
    return "\n".join([*lines, "", reply.text.rstrip("\n") if is_ndjson else folded(reply.json())])


def _item(table: Table, pk: str, sk: str) -> str:
    item = table.client.get_item(TableName=table.name, Key={"PK": {"S": pk}, "SK": {"S": sk}})["Item"]
    names = ["PK", "SK", *sorted(name for name in item if name not in ("PK", "SK"))]
    return folded({name: _as_shown(item[name]) for name in names}, every_line=True)


def _as_shown(typed: Mapping[str, Any]) -> dict[str, Any]:
    """As the AWS command line shows a value: binaries in base64; a set in order, so that pages differ in facts only."""
    ((kind, value),) = typed.items()
    if kind == "B":
        value = base64.b64encode(value).decode()
    if kind == "BS":
        value = [base64.b64encode(member).decode() for member in value]
    return {kind: sorted(value) if kind in ("SS", "NS", "BS") else value}


def folded(value: Any, indent: str = "", *, every_line: bool = False) -> str:
    """JSON, broken where a line would be too long."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (len(indent + line) <= WIDTH and not every_line):
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        parts = [f"{deeper}{json.dumps(name)}: {folded(member, deeper)}" for name, member in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + folded(member, deeper) for member in value) + f"\n{indent}]"


def main(arguments: list[str]) -> int:
    """Compare or rewrite the pages; answer the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs_examples")
    parser.add_argument("--write", action="store_true", help="rewrite the examples of the pages")
    options = parser.parse_args(arguments)
    is_different = False
    with (
        pytest.MonkeyPatch.context() as patch,
        dynamodb_local.running() as url,
        opensearch_local.running() as search,
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = connect(url)
        for name in PAGES:
            path = DOCS / name
            page = path.read_text(encoding="utf-8")
            # Not the service's log.
            with contextlib.redirect_stdout(io.StringIO()), opensearch_local.connected(search) as engine:
                wanted = render(page, client, engine).text
            if page == wanted:
                continue
            is_different = True
            if options.write:
                path.write_text(wanted, encoding="utf-8")
            sys.stdout.writelines(
                difflib.unified_diff(page.splitlines(True), wanted.splitlines(True), name, "made now")
            )
    return 1 if is_different and not options.write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
