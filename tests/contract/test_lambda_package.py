"""The package as `sam build` makes it, run by AWS's own runtime client against a Runtime API of ours.

Everything else in the tests imports the service from the source tree and its dependencies from the virtual
environment. Here the process sees only what ships: a dependency that was forgotten or pruned too far, a file that was
not copied, or .pyc of another Python show up nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from tests import runtime_api
from tests.conftest import skip_or_fail
from tests.contract.test_template import read_template
from tests.lambda_transport import LambdaTransport
from tests.runtime_api import RuntimeApi

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "lambda-test"
RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
TABLE = "lambda-package"
WRITE_KEY, SECRET_KEY = "a-write-key", "a-secret-key"


@pytest.fixture(scope="module")
def interpreter() -> tuple[str, str]:
    """A Python of the minor version of the template's runtime if there is one, else the one that runs the tests."""
    runtime: str = read_template()["Resources"]["HttpFunction"]["Properties"]["Runtime"]
    version = runtime.removeprefix("python")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    base = str(Path(sys.executable).resolve())
    for candidate in (f"python{version}", *map(str, pyenv.glob(f"versions/{version}.*/bin/python"))):
        if minor_version(candidate) == version:
            return candidate, version
    return base, minor_version(base)


def minor_version(python: str) -> str:
    """The minor version of an interpreter, empty where it is absent or does not run."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run(
            [python, "-c", program], capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def package(interpreter: tuple[str, str]) -> Path:
    """The built tree for this machine. Its dependencies are cached by the Makefile, so only the first build waits."""
    if sys.platform != "linux":
        skip_or_fail("the package holds Linux wheels")
    architecture = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    tree = CACHE / f"package-{interpreter[1]}"
    subprocess.run(["rm", "-rf", tree], check=True)
    make(
        "build-HttpFunction",
        f"ARTIFACTS_DIR={tree}",
        f"LAMBDA_ARCHITECTURE={architecture}",
        f"LAMBDA_PYTHON={interpreter[1]}",
    )
    return tree


def make(*arguments: str) -> None:
    result = subprocess.run(
        ["make", "--silent", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def runtime_client(interpreter: tuple[str, str]) -> Path:
    """awslambdaric for that interpreter, beside the package and not in it, as on Lambda."""
    lock = (ROOT / "requirements-dev.txt").read_text().replace("\\\n", "").splitlines()
    wanted = "\n".join(line for line in lock if line.partition("==")[0] in RUNTIME_CLIENT) + "\n"
    assert wanted.count("\n") == len(RUNTIME_CLIENT)
    folder = CACHE / f"awslambdaric-{interpreter[1]}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not (folder / "installed").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "requirements.txt").write_text(wanted)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--no-deps",
            "--require-hashes",
        ]
        target = ["--only-binary=:all:", "--python-version", interpreter[1], "--target", str(folder)]
        subprocess.run([*pip, *target, "-r", str(folder / "requirements.txt")], check=True)
        (folder / "installed").touch()
    return folder


@pytest.fixture(scope="module")
def table(dynamodb_url: str) -> None:
    """The table as the template describes it."""
    properties = read_template()["Resources"]["Table"]["Properties"]
    client = boto3.client("dynamodb", endpoint_url=dynamodb_url)
    client.create_table(
        TableName=TABLE,
        **{name: properties[name] for name in ("AttributeDefinitions", "KeySchema", "BillingMode")},
    )


@pytest.fixture(scope="module")
def function(
    interpreter: tuple[str, str], package: Path, runtime_client: Path, table: None, dynamodb_url: str
) -> Iterator[RuntimeApi]:
    """The package under AWS's runtime client: event → Runtime API → awslambdaric → handler, and back."""
    declared = read_template()["Resources"]["HttpFunction"]["Properties"]["Environment"]["Variables"]
    literals = {name: value for name, value in declared.items() if isinstance(value, str)}
    environment = literals | {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "AWS_LAMBDA_FUNCTION_NAME": "footfall",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "FOOTFALL_TABLE": TABLE,
        "FOOTFALL_WRITE_KEYS": WRITE_KEY,
        "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(SECRET_KEY.encode()).hexdigest(),
        "LAMBDA_TASK_ROOT": str(package),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
    }
    # -I and -S keep every other site-packages of this machine out.
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]\n"
        "from awslambdaric.__main__ import main; main([sys.argv[0], 'service.lambda_http.handler'])"
    )
    command = [interpreter[0], "-I", "-S", "-c", program, str(package), str(runtime_client)]
    with runtime_api.running(command, cwd=package, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def client(function: RuntimeApi) -> Iterator[httpx.Client]:
    """A client of the package behind the gateway."""
    with httpx.Client(transport=LambdaTransport(function.invoke), base_url="https://api.example") as http:
        yield http


def test_health_is_answered_without_a_key(client: httpx.Client) -> None:
    reply = client.get("/health")

    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("application/json")


def test_the_docs_and_their_assets_are_in_the_package(client: httpx.Client) -> None:
    page = client.get("/docs")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert client.get("/openapi.json").json()["info"]["title"] == "Footfall"


def test_an_error_leaves_as_readable_problem_json(client: httpx.Client) -> None:
    reply = client.get("/v1/users/u-42/metrics")

    assert reply.status_code == 401
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.json()["code"]


def test_events_posted_are_found_by_the_range_query(client: httpx.Client) -> None:
    now = datetime.now(UTC)
    batch: dict[str, Any] = {
        "writeKey": WRITE_KEY,
        "batch": [
            {"type": "page", "messageId": "m-1", "userId": "u-42", "timestamp": now.isoformat()},
            {
                "type": "track",
                "event": "Product Viewed",
                "messageId": "m-2",
                "userId": "u-42",
                "timestamp": now.isoformat(),
            },
        ],
    }

    accepted = client.post("/v1/batch", json=batch)
    again = client.post("/v1/batch", json=batch)
    # From a day before to a day after: midnight may pass in between.
    days = {"from": f"{now - timedelta(days=1):%Y-%m-%d}", "to": f"{now + timedelta(days=1):%Y-%m-%d}"}
    found = client.get(
        "/v1/users/u-42/metrics", params=days, headers={"Authorization": f"Bearer {SECRET_KEY}"}
    )

    assert (accepted.status_code, accepted.json()["accepted"]) == (200, 2)
    assert (again.status_code, again.json()["duplicates"]) == (200, 2)
    assert found.status_code == 200
    totals = found.json()["totals"]
    assert (totals["events"], totals["pageViews"], totals["productViews"]) == (2, 1, 1)


def test_a_person_can_be_exported_and_erased(client: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {SECRET_KEY}"}
    event = {"type": "page", "messageId": "m-9", "userId": "u-43", "timestamp": datetime.now(UTC).isoformat()}
    client.post("/v1/batch", json={"writeKey": WRITE_KEY, "batch": [event]})
    before = client.get("/v1/users/u-43/export", headers=headers)
    erased = client.delete("/v1/users/u-43", headers=headers)
    after = client.get("/v1/users/u-43/export", headers=headers)

    assert before.headers["content-type"] == "application/x-ndjson"
    assert before.json()["events"] == 1
    assert (erased.status_code, erased.json()["days"]) == (200, 1)
    assert (after.status_code, after.content) == (200, b"")


def test_the_schedules_event_sweeps(function: RuntimeApi) -> None:
    (target,) = read_template()["Resources"]["SweepSchedule"]["Properties"]["Targets"]

    assert function.invoke(json.loads(target["Input"])) == {"merges": 0, "erasures": 0, "undecided": 0}


def test_the_package_holds_what_runs_and_nothing_more(package: Path, client: httpx.Client) -> None:
    shipped = {path.name for path in package.iterdir()}

    assert not shipped & {
        "tests",
        "events",
        "bench",
        "Makefile",
        "template.yaml",
        "bin",
        ".fetched",
        ".compiled",
    }
    assert [path.name for path in (package / "botocore" / "data").iterdir() if path.is_dir()] == ["dynamodb"]
    # Installed metadata is read at run time, by FastAPI's and OpenTelemetry's entry points among others.
    assert list(package.glob("fastapi-*.dist-info/METADATA"))


def test_every_source_file_is_shipped_compiled_for_the_runtime(
    interpreter: tuple[str, str], package: Path
) -> None:
    tag = f"cpython-{interpreter[1].replace('.', '')}"
    sources = list((package / "service").rglob("*.py"))
    compiled = list(package.rglob("*.pyc"))

    assert {path.with_suffix("").suffix for path in compiled} == {f".{tag}"}
    assert {(path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc").is_file() for path in sources} == {True}
    # Bits 0 and 1 of the flags: checked by hash, and not checked at all: the only kind that survives a zip's times.
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}


def test_the_lock_means_the_same_on_every_machine_that_builds() -> None:
    # pip evaluates markers for the machine it runs on, not for the target it fetches wheels for.
    requirements = (ROOT / "requirements.txt").read_text()

    assert " ; " not in requirements
