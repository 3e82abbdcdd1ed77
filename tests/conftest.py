"""What every test runs under: an environment that cannot reach AWS, loopback sockets only, and the engine."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests import dynamodb_local

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from service.dynamodb import Table
    from service.opensearch import Engine
    from service.settings import Settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Those that take longest, the soak first, which mostly waits: at the end one process would wait for the other.
LONGEST = (
    "test_soak",
    "test_explorer",
    "test_description",
    "test_indexer_story",
    "test_stateful",
    "test_erasure",
)


def in_ci() -> bool:
    """Whether this is the run that decides, in which nothing may be skipped."""
    return bool(os.environ.get("CI"))


def skip_or_fail(reason: str) -> NoReturn:
    """Skip what this machine cannot run; in CI, where nothing may be skipped, fail."""
    if in_ci():
        pytest.fail(f"{reason} (in CI this may not be skipped)", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed test: a green run then means that everything ran."""
    report = yield
    if report.skipped and in_ci() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole while it is imported."""
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"Skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest; the rest stays as it is."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def _reason(longrepr: Any) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """No credentials, endpoints or settings of the developer's own machine reach a test or its servers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "FOOTFALL_")) or name in ("PORT", "WEB_CONCURRENCY"):
                patch.delenv(name)
        # DynamoDB Local takes letters and digits only in an access key id.
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("NO_PROXY", ",".join(LOOPBACK))
        yield


@pytest.fixture(scope="session", autouse=True)
def _loopback_only(_environment: None) -> Iterator[None]:
    """A test that would talk to another machine fails at once and says which."""
    look_up = socket.getaddrinfo

    def check(host: object) -> None:
        if host not in LOOPBACK:
            raise RuntimeError(f"a test tried to reach {host!r}; tests talk to this machine alone")

    def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connect_here(self: socket.socket, address: Any) -> Any:
            # Sockets of other families, such as Unix ones, do not leave the machine.
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(address[0])
            return connect(self, address)

        return connect_here

    def look_up_here(host: Any, *arguments: Any, **options: Any) -> Any:
        # No host at all means this machine: servers ask so for the address to listen on.
        if host is not None:
            check(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", look_up_here)
        yield


@pytest.fixture(scope="session")
def dynamodb_url() -> Iterator[str]:
    """A DynamoDB Local of this test run, empty at its start; tests part by their table's name."""
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(dynamodb_local.running())
        except dynamodb_local.EngineMissingError as error:
            skip_or_fail(str(error))
        yield url


@pytest.fixture(scope="session")
def opensearch_url() -> Iterator[str]:
    """An OpenSearch node of this test run; tests part by the prefix of their indices."""
    from tests import opensearch_local

    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(opensearch_local.running())
        except opensearch_local.EngineMissingError as error:
            skip_or_fail(str(error))
        yield url


@pytest.fixture
def engine(opensearch_url: str) -> Iterator[Engine]:
    """That node under a prefix of this test's own, set up."""
    from tests import opensearch_local

    with opensearch_local.connected(opensearch_url) as connected:
        yield connected


# The service is imported where it is needed: it takes half a second, and the suite's tests of itself start a dozen
# times over without it.


@pytest.fixture(scope="session")
def dynamodb_client(dynamodb_url: str) -> Any:
    """The service's own kind of connection to that engine; making one costs more than most tests."""
    from service.dynamodb import connect

    return connect(dynamodb_url)


@pytest.fixture
def table(dynamodb_client: Any) -> Table:
    """A new table of this test's own."""
    from tests.builders import new_table

    return new_table(dynamodb_client, "footfall")


@pytest.fixture
def settings() -> Settings:
    """A deployment with one key of each kind."""
    from tests.builders import make_settings

    return make_settings()


@pytest.fixture
def app(settings: Settings, table: Table) -> FastAPI:
    """The service on that table, whose clock stands at noon."""
    from tests.builders import make_app

    return make_app(settings, table)


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of it behind the Lambda handler."""
    from tests.builders import lambda_client

    with lambda_client(app) as opened:
        yield opened
