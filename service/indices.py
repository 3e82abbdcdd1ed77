"""The search engine's indices: made, listed, and deleted when they are too old. `rebuild` fills them again.

Every call may be made again, and by several processes at once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from urllib.parse import quote

from .events import epoch_ms
from .index_template import Names, failed_index, first_kept_month, template
from .opensearch import Engine, EngineRefusedError, EngineUnavailableError, Json
from .problems import Unavailable

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


class AnotherTableError(Unavailable):
    """The indices are made from another table: two deployments have been given one cluster."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"The search cluster holds the index of the table {table}, and another deployment needs another cluster.",
            code="misconfigured",
        )


def check_table(engine: Engine, table: str | None) -> str | None:
    """The table that this cluster's indices are made from, as far as it is known. Raises AnotherTableError when that
    is another one."""
    found = engine.call("GET", _template_path(engine), accept=(404,)).get("index_templates", [])
    return _checked(found, table)


def _checked(found: Sequence[Json], table: str | None) -> str | None:
    known: str | None = None
    for one in found:
        known = one["index_template"].get("_meta", {}).get("table")
    if known is not None and table is not None and known != table:
        raise AnotherTableError(known)
    return known


def _template_path(engine: Engine) -> str:
    return f"/_index_template/{Names(engine.prefix).events}"


def setup(engine: Engine, table: str | None = None, *, replicas: int = 0) -> Json:
    """Tell the engine the mapping of the indices to come and whose they are, and make the failed store. Answers what
    the engine is: `{"distribution", "number"}`, and in `stale` the months whose mapping cannot become the new one.

    Months that are there are told what is new in the mapping; the rest of it, and their settings, they get with a
    rebuild. `table` is the one they are made from; None leaves open which. Raises TooOldError, AnotherTableError,
    EngineUnavailableError and EngineRefusedError, as all here do.
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
    known = check_table(engine, table)
    body = template(names, replicas=replicas, flat=flat, table=table or known)
    engine.call("PUT", _template_path(engine), body)
    make(engine, names.failed, failed_index(replicas=replicas))
    stale = list(_not_mapped(engine, body["template"]["mappings"]))
    return {"distribution": distribution, "number": number, "stale": stale}


def _not_mapped(engine: Engine, mappings: Json) -> Iterator[str]:
    """Add to the mapping of the months in use; those of which a field would have to change."""
    names = Names(engine.prefix)
    for index in listed(engine):
        if index.is_in_use(names):
            try:
                engine.call("PUT", f"/{index.name}/_mapping", mappings, accept=(404,))
            except EngineRefusedError as error:
                if error.status != 400:
                    raise
                yield index.month


def make_month(engine: Engine, month: str, table: str | None = None, *, replicas: int = 0) -> None:
    """Make the index of a month (YYYY-MM), unless it has one; the rest too, where nobody has called `setup`."""
    names = Names(engine.prefix)
    found = engine.call("GET", _template_path(engine), accept=(404,))
    _checked(found.get("index_templates", []), table)
    if "error" in found:
        setup(engine, table, replicas=replicas)
    body = {"aliases": {names.month(month): {"is_write_index": True}, names.events: {}}}
    if any(index.is_in_use(names) for index in listed(engine, month)):
        return
    try:
        make(engine, names.index(month, 1), body)
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


def retire(engine: Engine, today: date, retention_days: int, table: str | None = None) -> list[str]:
    """Delete the months that are wholly older than so many days, and what failed before them. Answers which months
    those were."""
    check_table(engine, table)
    first_kept = first_kept_month(today, retention_days)
    gone = sorted({index.month for index in listed(engine) if index.month < first_kept})
    for month in gone:
        for index in listed(engine, month):
            delete(engine, index.name)
    at = epoch_ms(datetime.fromisoformat(f"{first_kept}-01").replace(tzinfo=UTC))
    engine.call(
        "POST",
        f"/{Names(engine.prefix).failed}/_delete_by_query",
        {"query": {"range": {"at": {"lt": at}}}},
        params={"ignore_unavailable": "true", "conflicts": "proceed"},
        timeout_seconds=MAKE_SECONDS,
    )
    return gone


def abandon(engine: Engine, index: Index) -> bool:
    """Delete an index that a rebuild was filling. Answers whether it was: not where that one, or another who deletes
    it, was quicker.

    Who changes over to it takes this alias away too, and one of them gets it.
    """
    alias = Names(engine.prefix).filling(index.month, index.number)
    if alias in index.aliases:
        claim = {"remove": {"index": index.name, "alias": alias, "must_exist": True}}
        if "error" in engine.call("POST", "/_aliases", {"actions": [claim]}, accept=(404,)):
            return False
    delete(engine, index.name)
    return True


def delete(engine: Engine, name: str) -> None:
    """Delete an index, if it is there."""
    engine.call("DELETE", f"/{name}", accept=(404,), timeout_seconds=MAKE_SECONDS)


def make(engine: Engine, name: str, body: Mapping[str, object]) -> bool:
    """Make an index of these aliases, settings and mappings, beside those of the template. Answers whether it was made:
    not where there is one of this name."""
    try:
        engine.call("PUT", f"/{name}", body, timeout_seconds=MAKE_SECONDS)
    except EngineRefusedError as error:
        if error.kind != _EXISTS:
            raise
        return False
    return True
