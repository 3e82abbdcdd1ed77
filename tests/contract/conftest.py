"""Contract tests prove what clients see. `door` is the service behind each of its two doors in turn."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import settings

from tests.builders import lambda_client, uvicorn_client

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
