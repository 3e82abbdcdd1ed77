"""The indexer's package as `sam build` makes it, run by AWS's own runtime client: from the stream into OpenSearch.

What test_lambda_package.py is for the service. The package is another one, and so may lack other things.
"""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service import dynamodb, indices, store
from service.dynamodb import Table
from service.index_template import Names
from service.opensearch import Engine, EngineUnavailableError
from service.problems import Unavailable
from tests import opensearch_local, runtime_api
from tests.contract.test_lambda_package import CACHE, ROOT, interpreter, make, runtime_client
from tests.contract.test_template import read_template
from tests.engine.index_stage import IndexStage
from tests.engine.shop import opened
from tests.faults import silent_url
from tests.lambda_transport import LambdaContext
from tests.runtime_api import RuntimeApi

__all__ = ["interpreter", "runtime_client"]

TABLE = "indexer-package"
DOOR = "service.lambda_indexer"


@pytest.fixture(scope="module")
def package(interpreter: tuple[str, str]) -> Path:
    architecture = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    tree = CACHE / f"indexer-{interpreter[1]}"
    subprocess.run(["rm", "-rf", tree], check=True)
    make(
        "build-IndexerFunction",
        f"ARTIFACTS_DIR={tree}",
        f"LAMBDA_ARCHITECTURE={architecture}",
        f"LAMBDA_PYTHON={interpreter[1]}",
    )
    return tree


@pytest.fixture(scope="module")
def table(dynamodb_url: str) -> Table:
    client = dynamodb.connect(dynamodb_url)
    dynamodb.create_table(client, TABLE, has_stream=True)
    return Table(client, TABLE)


@pytest.fixture(scope="module")
def function(
    interpreter: tuple[str, str],
    package: Path,
    runtime_client: Path,
    table: Table,
    dynamodb_url: str,
    opensearch_url: str,
) -> Iterator[RuntimeApi]:
    """event → Runtime API → awslambdaric → handler, and back."""
    declared = read_template()["Resources"]["IndexerFunction"]["Properties"]["Environment"]["Variables"]
    environment = {name: value for name, value in declared.items() if isinstance(value, str)} | {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "AWS_LAMBDA_FUNCTION_NAME": "footfall-indexer",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "FOOTFALL_TABLE": table.name,
        "FOOTFALL_RAW_EVENTS": "true",
        "FOOTFALL_OPENSEARCH_URL": opensearch_url,
        # The example of events/ gets older and older.
        "FOOTFALL_SEARCH_RETENTION_DAYS": "36500",
        "LAMBDA_TASK_ROOT": str(package),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
    }
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]\n"
        "from awslambdaric.__main__ import main; main([sys.argv[0], 'service.lambda_indexer.handler'])"
    )
    command = [interpreter[0], "-I", "-S", "-c", program, str(package), str(runtime_client)]
    with runtime_api.running(command, cwd=package, environment=environment) as running:
        yield running


@pytest.fixture
def engine(opensearch_url: str) -> Iterator[Engine]:
    """Under the prefix that a deployment has, with nothing set up: the function is the first to come."""
    with opensearch_local.as_deployed(opensearch_url) as engine:
        yield engine


def test_events_of_the_stream_are_found_in_an_index_that_nobody_has_made(
    function: RuntimeApi, table: Table, engine: Engine, dynamodb_url: str
) -> None:
    now = datetime.now(UTC)
    with opened(table, now, RAW_EVENTS="1") as shop:
        stage = IndexStage(dynamodb_url, engine, shop)
        shop.send(
            {"type": "page", "messageId": "m-1", "anonymousId": "a", "timestamp": now.isoformat()},
            {
                "type": "track",
                "event": "view_item",
                "messageId": "m-2",
                "anonymousId": "a",
                "userId": "u",
                "timestamp": now.isoformat(),
            },
        )
        records = stage.records()

        assert function.invoke({"Records": records}) == {"batchItemFailures": []}
        stage.assert_index_is_the_table()
        assert {document["event"] for document in stage.documents().values()} == {
            "Page Viewed",
            "Product Viewed",
        }


def example() -> dict[str, Any]:
    batch: dict[str, Any] = json.loads((ROOT / "events" / "stream.json").read_text(encoding="utf-8"))
    return batch


def test_the_example_of_the_events_folder_is_indexed(function: RuntimeApi, engine: Engine) -> None:
    assert function.invoke(example()) == {"batchItemFailures": []}
    documents = opensearch_local.documents(engine, Names(engine.prefix).every)
    assert sorted(document["event"] for document in documents.values()) == [
        "Order Completed",
        "Product Viewed",
    ]
    assert {document["user"] for document in documents.values()} == {"u-42"}


# --- what is checked at a cold start ----------------------------------------------------------------------------------


Door = Callable[..., ModuleType]


@pytest.fixture
def door(
    table: Table, dynamodb_url: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Door]:
    """The module as a new execution environment imports it, with these variables beside its own. None is left over."""

    def opened(**variables: str) -> ModuleType:
        for name, value in {
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
            "FOOTFALL_TABLE": table.name,
            "FOOTFALL_RAW_EVENTS": "1",
            "FOOTFALL_OPENSEARCH_URL": opensearch_url,
            "FOOTFALL_SEARCH_RETENTION_DAYS": "36500",
            **variables,
        }.items():
            monkeypatch.setenv(name, value)
        sys.modules.pop(DOOR, None)
        return importlib.import_module(DOOR)

    assert store.remembered_timezone(table.calls(time.monotonic() + 10), "UTC") == "UTC"
    yield opened
    sys.modules.pop(DOOR, None)


def test_a_table_of_another_time_zone_is_not_mixed_in(door: Door) -> None:
    """The days of the index would be other days than those that were counted."""
    opened = door(FOOTFALL_TIMEZONE="Europe/Berlin")
    with pytest.raises(Unavailable, match="FOOTFALL_TIMEZONE"):
        opened.handler({"Records": []}, LambdaContext(20_000))


def test_the_index_of_another_table_is_left_alone(door: Door, engine: Engine) -> None:
    """Until the cluster is this table's: what was refused is checked again, and what was found is not."""
    indices.setup(engine, "another-table")
    # Where one had to be made, that would be refused too.
    indices.make_month(engine, "2026-11", "another-table")
    opened = door()
    for _ in range(2):
        with pytest.raises(indices.AnotherTableError, match="of the table another-table"):
            opened.handler(example(), LambdaContext(20_000))
    assert opensearch_local.documents(engine) == {}
    opensearch_local.removed(engine)

    assert opened.handler(example(), LambdaContext(20_000)) == {"batchItemFailures": []}
    assert len(opensearch_local.documents(engine)) == 2
    assert opened._deployment.is_checked


def test_a_cluster_that_does_not_answer_is_asked_again(door: Door) -> None:
    opened = door(FOOTFALL_OPENSEARCH_URL=silent_url())
    for _ in range(2):
        with pytest.raises(EngineUnavailableError):
            opened.handler({"Records": []}, LambdaContext(20_000))
        assert not opened._deployment.is_checked


def test_the_package_holds_what_the_handler_imports_and_nothing_of_the_http_side(package: Path) -> None:
    modules = {path.stem for path in (package / "service").glob("*.py")}
    shipped = {path.name for path in package.iterdir()}

    assert {"lambda_indexer", "indexer", "opensearch", "documents"} <= modules
    assert not modules & {"app", "routes", "lambda_http", "pages", "erasure", "ingest", "search", "dev"}
    assert not shipped & {"fastapi", "starlette", "pydantic", "pydantic_core", "mangum", "anyio", "tests"}
    assert [path.name for path in (package / "botocore" / "data").iterdir() if path.is_dir()] == ["dynamodb"]
