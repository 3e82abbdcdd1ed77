"""compose.yaml and events/env.json: not run here, so held against what they have to agree with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from engines import __main__ as engines
from engines.install import pinned_version
from service import dev
from service.settings import load_settings
from tests.contract.test_template import read_template

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose) == {"name", "services"}, "no volumes: nothing is kept unless somebody asks for it"
    found: dict[str, Any] = compose["services"]
    return found


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    env: dict[str, dict[str, str]] = json.loads((ROOT / "events" / "env.json").read_text(encoding="utf-8"))
    assert list(env) == ["HttpFunction"]
    return env["HttpFunction"]


def test_the_containers_are_of_the_versions_that_maven_fetches(services: dict[str, Any]) -> None:
    opensearch = ".".join(pinned_version("opensearch").split(".")[:3])

    assert {name: service["image"] for name, service in services.items()} == {
        "dynamodb": f"amazon/dynamodb-local:{pinned_version('dynamodb')}",
        "opensearch": f"opensearchproject/opensearch:{opensearch}",
    }


def test_they_listen_where_make_engines_does_and_on_this_machine_alone(services: dict[str, Any]) -> None:
    outside = {name: service["ports"] for name, service in services.items()}

    assert outside == {
        "dynamodb": [f"127.0.0.1:{engines.DYNAMODB_PORT}:8042"],
        "opensearch": [f"127.0.0.1:{engines.OPENSEARCH_PORT}:9200"],
    }
    assert services["dynamodb"]["command"].split()[-2:] == ["-port", "8042"]


def test_they_keep_nothing_and_say_when_they_are_ready(services: dict[str, Any]) -> None:
    for service in services.values():
        assert "volumes" not in service
        kind, command = service["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        assert "curl" in command
    assert "-inMemory" in services["dynamodb"]["command"]


def test_sam_local_passes_every_variable_on(variables: dict[str, str]) -> None:
    # SAM drops those that the template does not name.
    declared = read_template()["Resources"]["HttpFunction"]["Properties"]["Environment"]["Variables"]

    assert set(variables) <= set(declared)


def test_what_the_template_adds_for_sam_local_is_empty_on_aws(variables: dict[str, str]) -> None:
    declared = read_template()["Resources"]["HttpFunction"]["Properties"]["Environment"]["Variables"]

    assert declared[dev.ENDPOINT] == ""


def test_the_function_has_the_keys_of_make_run_and_finds_the_container(
    services: dict[str, Any], variables: dict[str, str]
) -> None:
    settings = load_settings(variables)
    endpoint = urlsplit(variables[dev.ENDPOINT])

    assert settings.write_keys == {dev.DEV_WRITE_KEY}
    assert settings.secret_key_hashes == {hashlib.sha256(dev.DEV_SECRET_KEY.encode()).digest()}
    assert endpoint.port == engines.DYNAMODB_PORT
    assert [endpoint.hostname] == services["dynamodb"]["networks"]["default"]["aliases"]
