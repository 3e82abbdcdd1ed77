"""Contract tests prove what clients see. `door` is the service behind each of its two doors in turn."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import settings

from service.dynamodb import Table
from tests.builders import NOON, SECRET_KEY, WRITE_KEY, lambda_client, uvicorn_client

# The same examples each time, and none of them timed.
settings.load_profile("ci")


@pytest.fixture(params=["lambda", "uvicorn"])
def door(request: pytest.FixtureRequest, app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the service behind the Lambda handler, and once more behind uvicorn."""
    if request.param == "lambda":
        with lambda_client(app) as opened:
            yield opened
    else:
        with uvicorn_client(app) as opened:
            yield opened


@pytest.fixture
def deployed(table: Table, dynamodb_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`service.lambda_http` as Lambda imports it, on that table and with its variables. Its sweep begins at noon."""
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": table.name,
        "FOOTFALL_WRITE_KEYS": WRITE_KEY,
        "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(SECRET_KEY.encode()).hexdigest(),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sys.modules.pop("service.lambda_http", None)
    module = importlib.import_module("service.lambda_http")
    monkeypatch.setattr(module, "utc_now", lambda: NOON)
    yield module
    del sys.modules["service.lambda_http"]
