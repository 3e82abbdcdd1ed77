"""The search engine's indices: made, listed, and deleted when they are too old. `rebuild` fills them again.

Every call may be made again, and by several processes at once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from urllib.parse import quote

from .index_template import Names, failed_index, first_kept_month, template
from .opensearch import Engine, EngineRefusedError, EngineUnavailableError, Json

# A new index is there when its shard is.
MAKE_SECONDS = 30.0
_EXISTS = "resource_already_exists_exception"


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a month, its aliases, and how much it holds."""

    name: str
    month: str
    number: int
    aliases: frozenset[str]

    def is_in_use(self, names: Names) -> bool:
        """Whether it is the one its month is written to and searched in."""
        return names.month(self.month) in self.aliases


class TooOldError(Exception):
    """The engine is of a version that lacks what is needed here; the message says which is needed."""


def setup(engine: Engine, *, replicas: int = 0) -> Json:
    """Tell the engine the mapping of the indices to come, and make the failed store. Answers what the engine is:
    `{"distribution", "number"}`.

    Months that are there stay as they are until a rebuild. Raises TooOldError, EngineUnavailableError and
    EngineRefusedError, as all here do.
    """
    names = Names(engine.prefix)
    version = engine.call("GET", "/")["version"]
    distribution, number = version.get("distribution", "elasticsearch"), version["number"]
    major = int(re.split(r"\D", number, maxsplit=1)[0])
    flat = "flat_object"
    if distribution != "opensearch":
        flat = "flattened"
    elif major < 2 or number.startswith(("2.0.", "2.1.", "2.2.", "2.3.", "2.4.", "2.5.", "2.6.")):
        raise TooOldError("OpenSearch 2.7 is the first with flat fields")
    body = template(names, replicas=replicas, flat=flat)
    engine.call("PUT", f"/_index_template/{names.events}", body)
    _make(engine, names.failed, failed_index(replicas=replicas))
    return {"distribution": distribution, "number": number}


def make_month(engine: Engine, month: str, *, replicas: int = 0) -> None:
    """Make the index of a month (YYYY-MM), unless it has one; the rest too, where nobody has called `setup`."""
    names = Names(engine.prefix)
    if "error" in engine.call("GET", f"/_index_template/{names.events}", accept=(404,)):
        setup(engine, replicas=replicas)
    body = {"aliases": {names.month(month): {"is_write_index": True}, names.events: {}}}
    if any(index.is_in_use(names) for index in listed(engine, month)):
        return
    try:
        _make(engine, names.index(month, 1), body)
    except (EngineRefusedError, EngineUnavailableError):
        # Made meanwhile, and rebuilt: an alias with a second index to write to is a status of 500.
        if not any(index.is_in_use(names) for index in listed(engine, month)):
            raise


def listed(engine: Engine, month: str | None = None) -> list[Index]:
    """The indices of a month, or of all, those a rebuild is filling too; the oldest first."""
    names = Names(engine.prefix)
    pattern = names.every if month is None else f"{names.month(month)}-*"
    found = engine.call("GET", f"/{quote(pattern, safe='*')}/_alias", accept=(404,))
    return sorted(_indices(names, found), key=lambda index: index.name)


def _indices(names: Names, found: Mapping[str, Json]) -> Iterator[Index]:
    for name, facts in found.items():
        if (of := names.of_index(name)) is not None:
            yield Index(name, *of, frozenset(facts["aliases"]))


def retire(engine: Engine, today: date, retention_days: int) -> list[str]:
    """Delete the months that are wholly older than so many days. Answers which those were."""
    first_kept = first_kept_month(today, retention_days)
    gone = sorted({index.month for index in listed(engine) if index.month < first_kept})
    for month in gone:
        for index in listed(engine, month):
            delete(engine, index.name)
    return gone


def delete(engine: Engine, name: str) -> None:
    """Delete an index, if it is there."""
    engine.call("DELETE", f"/{name}", accept=(404,), timeout_seconds=MAKE_SECONDS)


def make(engine: Engine, name: str, aliases: Mapping[str, Json]) -> bool:
    """Make an index by the template. Answers whether it was made: not where there is one of this name."""
    return _make(engine, name, {"aliases": dict(aliases)})


def _make(engine: Engine, name: str, body: Mapping[str, object]) -> bool:
    try:
        engine.call("PUT", f"/{name}", body, timeout_seconds=MAKE_SECONDS)
    except EngineRefusedError as error:
        if error.kind != _EXISTS:
            raise
        return False
    return True
