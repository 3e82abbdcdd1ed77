"""The environment, read once and refused as a whole."""

from __future__ import annotations

import hashlib
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.settings import VARIABLES, Settings, SettingsError, load_settings

DIGEST = hashlib.sha256(b"key").hexdigest()
OTHER_DIGEST = hashlib.sha256(b"other").hexdigest()

GOOD: list[tuple[str, str, str, Any]] = [
    ("FOOTFALL_TABLE", "shop.events-1", "table", "shop.events-1"),
    ("FOOTFALL_WRITE_KEYS", "a,b", "write_keys", {"a", "b"}),
    ("FOOTFALL_WRITE_KEYS", " a , b ,, ", "write_keys", {"a", "b"}),
    ("FOOTFALL_SECRET_KEY_HASHES", DIGEST, "secret_key_hashes", {bytes.fromhex(DIGEST)}),
    (
        "FOOTFALL_SECRET_KEY_HASHES",
        f"{DIGEST.upper()}, {OTHER_DIGEST}",
        "secret_key_hashes",
        {bytes.fromhex(DIGEST), bytes.fromhex(OTHER_DIGEST)},
    ),
    ("FOOTFALL_IDENTITY_SECRET", "geheim é", "identity_secret", "geheim é".encode()),
    ("FOOTFALL_REVENUE_FROM", "server", "revenue_from", "server"),
    ("FOOTFALL_REVENUE_FROM", "any", "revenue_from", "any"),
    ("FOOTFALL_TIMEZONE", "Europe/Berlin", "timezone", ZoneInfo("Europe/Berlin")),
    ("FOOTFALL_CURRENCY", "eur", "currency", "EUR"),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "1", "max_event_age_days", 1),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "31", "max_event_age_days", 31),
    ("FOOTFALL_MAX_EVENTS_PER_USER_DAY", "1", "max_events_per_user_day", 1),
    ("FOOTFALL_MAX_EVENTS_PER_USER_DAY", "10000", "max_events_per_user_day", 10_000),
    (
        "FOOTFALL_ALLOWED_ORIGINS",
        "https://a.example, https://b.example",
        "allowed_origins",
        ("https://a.example", "https://b.example"),
    ),
    ("FOOTFALL_DAY_TTL_DAYS", "400", "day_ttl_days", 400),
    ("FOOTFALL_DAY_TTL_DAYS", "10", "day_ttl_days", 10),
    ("FOOTFALL_DAY_TTL_DAYS", "0", "day_ttl_days", None),
    ("FOOTFALL_RAW_EVENTS", "1", "raw_events", True),
    ("FOOTFALL_RAW_EVENTS", "true", "raw_events", True),
    ("FOOTFALL_RAW_EVENTS", "0", "raw_events", False),
    ("FOOTFALL_RAW_EVENTS", "false", "raw_events", False),
    ("FOOTFALL_RAW_TTL_DAYS", "1", "raw_ttl_days", 1),
    ("FOOTFALL_RAW_TTL_DAYS", "36500", "raw_ttl_days", 36_500),
    ("FOOTFALL_OPENSEARCH_URL", "0", "opensearch_url", None),
    ("FOOTFALL_SEARCH_RETENTION_DAYS", "1", "search_retention_days", 1),
    ("FOOTFALL_SEARCH_RETENTION_DAYS", "36500", "search_retention_days", 36_500),
    ("FOOTFALL_SEARCH_REPLICAS", "2", "search_replicas", 2),
]
BAD = [
    ("FOOTFALL_TABLE", "ab"),
    ("FOOTFALL_TABLE", "my table"),
    ("FOOTFALL_TABLE", "x" * 256),
    ("FOOTFALL_SECRET_KEY_HASHES", "dev-secret-key"),
    ("FOOTFALL_SECRET_KEY_HASHES", DIGEST[:-1]),
    ("FOOTFALL_SECRET_KEY_HASHES", f"{DIGEST},plain"),
    ("FOOTFALL_REVENUE_FROM", "Server"),
    ("FOOTFALL_TIMEZONE", "Entenhausen"),
    ("FOOTFALL_TIMEZONE", "../../etc/passwd"),
    ("FOOTFALL_TIMEZONE", "America"),
    ("FOOTFALL_TIMEZONE", "/etc/localtime"),
    ("FOOTFALL_CURRENCY", "EURO"),
    ("FOOTFALL_CURRENCY", "ABC"),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "0"),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "32"),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "7.5"),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "-7"),
    ("FOOTFALL_MAX_EVENT_AGE_DAYS", "\u0667"),
    ("FOOTFALL_MAX_EVENTS_PER_USER_DAY", "0"),
    ("FOOTFALL_MAX_EVENTS_PER_USER_DAY", "10001"),
    ("FOOTFALL_MAX_EVENTS_PER_USER_DAY", "many"),
    ("FOOTFALL_DAY_TTL_DAYS", "9"),
    ("FOOTFALL_DAY_TTL_DAYS", "-1"),
    ("FOOTFALL_DAY_TTL_DAYS", "99999999999"),
    ("FOOTFALL_RAW_EVENTS", "yes"),
    ("FOOTFALL_RAW_EVENTS", "2"),
    ("FOOTFALL_RAW_TTL_DAYS", "0"),
    ("FOOTFALL_RAW_TTL_DAYS", "36501"),
    ("FOOTFALL_RAW_TTL_DAYS", "90.5"),
    ("FOOTFALL_OPENSEARCH_URL", "http://127.0.0.1:9200"),
    ("FOOTFALL_OPENSEARCH_URL", "shop.invalid:9200"),
    ("FOOTFALL_OPENSEARCH_URL", "ftp://search.example"),
    ("FOOTFALL_OPENSEARCH_URL", "https:///search"),
    ("FOOTFALL_OPENSEARCH_URL", "https://search.example:99999"),
    ("FOOTFALL_OPENSEARCH_URL", "https://search.example/?pretty"),
    ("FOOTFALL_OPENSEARCH_URL", "https://[::1"),
    ("FOOTFALL_OPENSEARCH_URL", "http://user:password@search.example"),
    ("FOOTFALL_SEARCH_RETENTION_DAYS", "0"),
    ("FOOTFALL_SEARCH_RETENTION_DAYS", "36501"),
    ("FOOTFALL_SEARCH_REPLICAS", "3"),
]


def test_nothing_set_is_a_whole_configuration() -> None:
    assert Settings() == load_settings({})


def test_every_default_is_the_documented_one() -> None:
    settings = load_settings({})

    assert settings.table == "footfall"
    assert not settings.write_keys | settings.secret_key_hashes
    assert settings.identity_secret is None
    assert (settings.revenue_from, settings.timezone.key, settings.currency) == ("any", "UTC", "USD")
    assert (settings.max_event_age_days, settings.max_events_per_user_day) == (7, 2000)
    assert (settings.allowed_origins, settings.day_ttl_days) == (("*",), None)
    assert (settings.raw_events, settings.raw_ttl_days) == (False, 90)
    assert (settings.opensearch_url, settings.search_retention_days) == (None, 400)
    assert settings.search_replicas == 0


@pytest.mark.parametrize(("variable", "text", "field", "value"), GOOD)
def test_a_variable_sets_its_field_and_no_other(variable: str, text: str, field: str, value: Any) -> None:
    settings = load_settings({variable: text})

    assert value == getattr(settings, field)
    for other in Settings.__dataclass_fields__:
        if other != field:
            assert getattr(Settings(), other) == getattr(settings, other)


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_is_absent(variable: str) -> None:
    assert Settings() == load_settings({variable: " "})


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_a_fault_names_the_variable_and_not_its_value(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({variable: text})

    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{variable}: ")
    assert text not in line.removeprefix(variable) or len(text) < 3


def test_all_faults_are_told_at_once() -> None:
    environment = dict(BAD)
    with pytest.raises(SettingsError) as refused:
        load_settings(environment)

    assert set(environment) == {line.partition(":")[0] for line in str(refused.value).splitlines()}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9200",
        "http://user:password@localhost:9200/",
        "http://opensearch:9200",
        "https://user:p%40ss@search.example:9200/behind/a/proxy",
        "https://search-shop-x1.eu-central-1.es.amazonaws.com",
        "https://shop-x1.aos.eu-central-1.on.aws",
    ],
)
def test_search_is_turned_on_together_with_raw_events(url: str) -> None:
    settings = load_settings({"FOOTFALL_OPENSEARCH_URL": url, "FOOTFALL_RAW_EVENTS": "1"})

    assert settings.opensearch_url == url
    assert url not in repr(settings)
    with pytest.raises(SettingsError, match="needs FOOTFALL_RAW_EVENTS=1"):
        load_settings({"FOOTFALL_OPENSEARCH_URL": url})


@pytest.mark.parametrize("host", ["x1.eu-central-1.aoss.amazonaws.com", "x1.aoss.eu-central-1.on.aws"])
def test_serverless_is_refused_and_says_why(host: str) -> None:
    with pytest.raises(SettingsError, match="Serverless has neither _refresh nor _update_by_query"):
        load_settings({"FOOTFALL_OPENSEARCH_URL": f"https://{host}", "FOOTFALL_RAW_EVENTS": "1"})


def test_secrets_are_never_repeated() -> None:
    secrets = {
        "FOOTFALL_OPENSEARCH_URL": "http://user:opensearch-value@search.example",
        "FOOTFALL_WRITE_KEYS": "write-key-value",
        "FOOTFALL_SECRET_KEY_HASHES": f"plain-secret-key-value,{DIGEST}",
        "FOOTFALL_IDENTITY_SECRET": "identity-secret-value",
    }
    with pytest.raises(SettingsError) as refused:
        load_settings(secrets | {"FOOTFALL_CURRENCY": "ABC"})

    assert "value" not in str(refused.value)
    assert DIGEST not in str(refused.value)


def test_days_may_not_expire_while_their_events_are_still_accepted() -> None:
    with pytest.raises(SettingsError, match="FOOTFALL_DAY_TTL_DAYS"):
        load_settings({"FOOTFALL_DAY_TTL_DAYS": "33", "FOOTFALL_MAX_EVENT_AGE_DAYS": "31"})

    assert (
        load_settings({"FOOTFALL_DAY_TTL_DAYS": "34", "FOOTFALL_MAX_EVENT_AGE_DAYS": "31"}).day_ttl_days == 34
    )


def test_every_field_of_the_settings_has_its_variable() -> None:
    assert {f"FOOTFALL_{field.upper()}" for field in Settings.__dataclass_fields__} <= set(VARIABLES)
