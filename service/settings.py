"""The configuration, read once from the environment by the doors and checked as a whole."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .events import Rules
from .money import DECIMALS

AGE_DAYS_MAX = 31
RAW_TTL_DAYS_DEFAULT = 90
SEARCH_RETENTION_DAYS_DEFAULT = 400
# Half of what an item holds after a merge (see days.MERGED_DAY_IDS_MAX).
EVENTS_PER_USER_DAY_MAX = 10_000


class SettingsError(ValueError):
    """The environment cannot be used; the message has a line for each variable, saying what it should be."""


_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the service is told. Field names are those of the variables, without FOOTFALL_."""

    table: str = "footfall"
    write_keys: frozenset[str] = frozenset()
    secret_key_hashes: frozenset[bytes] = frozenset()
    identity_secret: bytes | None = None
    revenue_from: str = "any"
    timezone: ZoneInfo = _UTC
    currency: str = "USD"
    max_event_age_days: int = 7
    max_events_per_user_day: int = 2000
    allowed_origins: tuple[str, ...] = ("*",)
    day_ttl_days: int | None = None
    raw_events: bool = False
    raw_ttl_days: int = RAW_TTL_DAYS_DEFAULT
    # It may hold a password. Without it there is no search.
    opensearch_url: str | None = field(default=None, repr=False)
    search_retention_days: int = SEARCH_RETENTION_DAYS_DEFAULT
    search_replicas: int = 0

    def rules(self, now: datetime, *, is_trusted: bool = False, is_import: bool = False) -> Rules:
        """What an event is accepted by at this moment; a trusted caller holds the secret key."""
        return Rules(
            now=now,
            age_max=timedelta(days=self.max_event_age_days),
            timezone=self.timezone,
            currency=self.currency,
            counts_orders=is_trusted or self.revenue_from == "any",
            identity_secret=None if is_trusted else self.identity_secret,
            is_import=is_import,
            kept_days=self.day_ttl_days,
        )


VARIABLES = (
    "FOOTFALL_TABLE",
    "FOOTFALL_WRITE_KEYS",
    "FOOTFALL_SECRET_KEY_HASHES",
    "FOOTFALL_IDENTITY_SECRET",
    "FOOTFALL_REVENUE_FROM",
    "FOOTFALL_TIMEZONE",
    "FOOTFALL_CURRENCY",
    "FOOTFALL_MAX_EVENT_AGE_DAYS",
    "FOOTFALL_MAX_EVENTS_PER_USER_DAY",
    "FOOTFALL_ALLOWED_ORIGINS",
    "FOOTFALL_DAY_TTL_DAYS",
    "FOOTFALL_RAW_EVENTS",
    "FOOTFALL_RAW_TTL_DAYS",
    "FOOTFALL_OPENSEARCH_URL",
    "FOOTFALL_SEARCH_RETENTION_DAYS",
    "FOOTFALL_SEARCH_REPLICAS",
)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the FOOTFALL_ variables; an empty one is absent. Raises SettingsError naming every fault at once."""
    reader = _Reader(environ)
    age_days = reader.integer("FOOTFALL_MAX_EVENT_AGE_DAYS", 7, 1, AGE_DAYS_MAX)
    ttl_days = reader.integer("FOOTFALL_DAY_TTL_DAYS", 0, 0, 36_500)
    if ttl_days and ttl_days <= age_days + 2:
        # An expired day forgets what it has seen, and a retry would count again.
        reader.faults.append(
            f"FOOTFALL_DAY_TTL_DAYS: over {age_days + 2} days, or events still accepted could be forgotten"
        )
    settings = Settings(
        table=reader.matching(
            "FOOTFALL_TABLE", "footfall", r"[A-Za-z0-9_.-]{3,255}", "3 to 255 of A-Z a-z 0-9 _ . -"
        ),
        write_keys=frozenset(reader.items("FOOTFALL_WRITE_KEYS")),
        secret_key_hashes=reader.digests("FOOTFALL_SECRET_KEY_HASHES"),
        identity_secret=reader.text("FOOTFALL_IDENTITY_SECRET", "").encode() or None,
        revenue_from=reader.matching("FOOTFALL_REVENUE_FROM", "any", "any|server", "any or server"),
        timezone=reader.timezone("FOOTFALL_TIMEZONE"),
        currency=reader.currency("FOOTFALL_CURRENCY"),
        max_event_age_days=age_days,
        max_events_per_user_day=reader.integer(
            "FOOTFALL_MAX_EVENTS_PER_USER_DAY", 2000, 1, EVENTS_PER_USER_DAY_MAX
        ),
        allowed_origins=tuple(reader.items("FOOTFALL_ALLOWED_ORIGINS")) or ("*",),
        day_ttl_days=ttl_days or None,
        raw_events=reader.flag("FOOTFALL_RAW_EVENTS"),
        raw_ttl_days=reader.integer("FOOTFALL_RAW_TTL_DAYS", RAW_TTL_DAYS_DEFAULT, 1, 36_500),
        opensearch_url=reader.opensearch_url("FOOTFALL_OPENSEARCH_URL"),
        search_retention_days=reader.integer(
            "FOOTFALL_SEARCH_RETENTION_DAYS", SEARCH_RETENTION_DAYS_DEFAULT, 1, 36_500
        ),
        search_replicas=reader.integer("FOOTFALL_SEARCH_REPLICAS", 0, 0, 2),
    )
    if settings.opensearch_url is not None and not settings.raw_events:
        reader.faults.append(
            "FOOTFALL_OPENSEARCH_URL: search needs FOOTFALL_RAW_EVENTS=1: raw events are what is indexed"
        )
    if reader.faults:
        raise SettingsError("\n".join(reader.faults))
    return settings


class _Reader:
    """Reads variables and collects what is wrong with them. A fault never repeats the value: it may be a secret."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self.environ.get(name, "").strip() or default

    def items(self, name: str) -> list[str]:
        return [item for item in (part.strip() for part in self.text(name, "").split(",")) if item]

    def matching(self, name: str, default: str, pattern: str, expected: str) -> str:
        value = self.text(name, default)
        if not re.fullmatch(pattern, value):
            self.faults.append(f"{name}: {expected}")
        return value

    def flag(self, name: str) -> bool:
        value = self.text(name, "0").lower()
        if value not in ("0", "1", "true", "false"):
            self.faults.append(f"{name}: 1 or true turns it on, 0 or false off")
        return value in ("1", "true")

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        value = self.text(name, str(default))
        if re.fullmatch(r"\d{1,9}", value, re.ASCII) and least <= int(value) <= most:
            return int(value)
        self.faults.append(f"{name}: a whole number from {least} to {most}")
        return default

    def digests(self, name: str) -> frozenset[bytes]:
        values = self.items(name)
        if all(re.fullmatch(r"[0-9a-fA-F]{64}", value) for value in values):
            return frozenset(bytes.fromhex(value) for value in values)
        self.faults.append(f"{name}: SHA-256 digests, 64 hexadecimal digits each, separated by commas")
        return frozenset()

    def timezone(self, name: str) -> ZoneInfo:
        try:
            return ZoneInfo(self.text(name, "UTC"))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.faults.append(f"{name}: a name of the IANA time zone database, such as Europe/Berlin")
            return _UTC

    def currency(self, name: str) -> str:
        code = self.text(name, "USD").upper()
        if code not in DECIMALS:
            self.faults.append(f"{name}: an ISO 4217 code, such as EUR")
        return code

    def opensearch_url(self, name: str) -> str | None:
        url = self.text(name, "")
        if url in ("", "0"):
            return None
        # Not at the top: most deployments have no search.
        from .opensearch import url_fault

        fault = url_fault(url)
        if fault is not None:
            self.faults.append(f"{name}: {fault}")
        return None if fault else url
