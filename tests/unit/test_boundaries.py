"""Which module may know what: the layering, read from the imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import service

SERVICE = Path(service.__file__).parent
MODULES = sorted(path.stem for path in SERVICE.glob("*.py"))
SOURCES = {module: (SERVICE / f"{module}.py").read_text(encoding="utf-8") for module in MODULES}
TREES = {module: ast.parse(source) for module, source in SOURCES.items()}
PURE = [module for module, tree in TREES.items() if "Pure: no I/O" in (ast.get_docstring(tree) or "")]

# Of the standard library, what reaches out of the process, or is not the same each time.
IMPURE_STANDARD = {
    "asyncio",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
}
IMPURE_STANDARD |= {"select", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "uuid"}


def imports(module: str) -> set[str]:
    """What a module imports, at any place: packages by their first name, modules of the service as `.name`."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            found |= {f".{node.module}"} if node.module else {f".{alias.name}" for alias in node.names}
    return found


def importers(package: str) -> set[str]:
    return {module for module in MODULES if package in imports(module)}


def test_the_pure_modules_are_known() -> None:
    expected = {
        "keys",
        "ids",
        "money",
        "metrics",
        "days",
        "capacity",
        "events",
        "wire",
        "problems",
        "replies",
        "records",
        "columns",
        "packing",
        "changes",
        "documents",
        "index_template",
        "search_queries",
        "search_requests",
        "search_units",
    }

    assert expected == set(PURE)


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_impure(module: str) -> None:
    for name in imports(module):
        if name.startswith("."):
            assert name[1:] in PURE, f"{module} imports {name}, which is not pure"
        elif name not in ("pydantic", "pydantic_core"):
            assert name in sys.stdlib_module_names, f"{module} imports {name}"
            assert name not in IMPURE_STANDARD, f"{module} imports {name}"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_asks_no_clock(module: str) -> None:
    called = {node.attr for node in ast.walk(TREES[module]) if isinstance(node, ast.Attribute)}

    assert not called & {"now", "utcnow", "today", "monotonic", "perf_counter"} - {"now"}
    for node in ast.walk(TREES[module]):
        # `self.now` is a value; `datetime.now()` is a clock.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "now", f"{module}:{node.lineno}"


def test_only_the_modules_that_talk_to_dynamodb_know_botocore() -> None:
    # The search engine's calls are signed by it.
    assert importers("botocore") == {"dynamodb", "embedded", "dev", "opensearch"}
    assert importers("boto3") == set()


def test_only_the_embedded_engine_knows_moto() -> None:
    assert importers("moto") == {"embedded"}
    assert importers(".embedded") == {"dev"}


def test_pynamodbs_expressions_stay_near_the_table() -> None:
    near = {"models", "store", "counting", "identities", "erasure", "recount", "dynamodb"}
    assert importers("pynamodb") <= near


def test_only_the_http_side_knows_the_framework() -> None:
    http = {"app", "gateway", "routes", "user_routes", "search_routes", "parameters", "service", "assets"}
    http |= {"openapi", "dev"}

    assert importers("fastapi") <= http
    assert importers("starlette") <= http
    assert importers("mangum") == {"gateway"}
    assert importers("uvicorn") == {"dev"}


def test_only_the_doors_read_the_environment() -> None:
    doors = {"lambda_http", "lambda_indexer", "dev", "__main__"}
    doors |= {"cli_export", "cli_index", "cli_sweep", "cli_recount"}
    assert importers("os") <= doors
    for module, source in SOURCES.items():
        if module not in doors:
            assert "os.environ" not in source, module
            assert "getenv" not in source, module


def test_only_the_commands_know_the_terminal() -> None:
    commands = {"__main__", "cli_import", "cli_export", "cli_index", "cli_sweep", "cli_recount"}

    assert importers("click") == commands | {"terminal"}
    assert importers(".terminal") <= commands


def test_an_import_is_a_client_and_shares_only_rules_with_the_service() -> None:
    assert importers("urllib3") == {"client", "opensearch"}
    for module in ("client", "import_api", "importing", "sources", "checkpoint", "mapping"):
        assert not imports(module) & {".dynamodb", ".store", ".settings", ".service", ".ingest"}, module


def reached(module: str) -> set[str]:
    """All of the service that a module brings along, itself too, at any time."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        found |= waiting
        waiting = {name[1:] for one in waiting for name in imports(one) if name[1:] in MODULES} - found
    return found


INDEXING = {"attribution", "bulk", "changes", "indexer", "lambda_indexer", "rebuild", "stream"}


def test_the_indexers_function_and_that_of_requests_do_not_grow_by_each_other() -> None:
    assert not reached("lambda_http") & INDEXING
    for module in reached("lambda_indexer"):
        assert not imports(module) & {"fastapi", "starlette", "mangum", "pydantic", "pydantic_core"}, module


def test_only_the_local_way_starts_engines() -> None:
    assert importers("engines") <= {"local_search"}
    assert not reached("lambda_http") & {"local_search", "dev"}


def test_who_searches_writes_nothing() -> None:
    """A request reads the index, and asks whose it is; only the sweep, hourly, deletes from it."""
    may = {"indexer", "lambda_indexer", "rebuild", "cli_index", "lambda_http", "local_search", "service"}
    assert importers(".indices") <= may
    used = {
        node.attr
        for node in ast.walk(TREES["service"])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "indices"
    }
    assert used == {"check_table", "AnotherTableError"}


def test_nothing_below_the_routes_knows_them() -> None:
    above = {"app", "gateway", "routes", "user_routes", "search_routes", "lambda_http", "dev", "__main__"}
    above |= {"cli_import", "cli_export", "cli_index", "cli_sweep", "cli_recount"}
    for module in set(MODULES) - above:
        assert not imports(module) & {f".{name}" for name in above}, module


def test_no_module_reads_the_order_of_the_merge_but_the_merge_and_ingest() -> None:
    steps = {"link", "seal", "finish"}
    for module in set(MODULES) - {"merge", "identities"}:
        called = {
            node.attr
            for node in ast.walk(TREES[module])
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "identities"
        }
        assert not called & steps, module
