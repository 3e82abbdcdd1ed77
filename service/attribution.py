"""Whose the documents of an id are: what the table says, and the index brought to it.

One item of the table speaks of an id as a whole, its mark: of an anonymous id the ALIAS, of a user ERASED. It says who
the owner is and until when all is erased, and nothing else does. An erasure of a user marks each anonymous id of the
user by itself; what a user's own mark says is not said of visitors that became the user later, whose history of before
is the user's. So documents are deleted and change hands by the id they were sent with (`sentAs`) alone.

`settle` reads the marks, changes the index, and reads them again until they are the same: whichever of two processes
ends last leaves what the table says.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from . import keys
from .dynamodb import Calls
from .index_template import Names
from .models import AliasItem, check_schema, erased_at_of
from .opensearch import Engine, EngineRefusedError, EngineUnavailableError, Json

# Of an erased id three clauses of a query, as a range is two, of another one two; an engine takes 1,024 together.
IDS_PER_QUERY = 250
ROUNDS_MAX = 20
REFRESH_SECONDS = 30.0
# A person's whole history; what has changed by then stays changed, and the next try has less to do.
BY_QUERY_SECONDS = 240.0
# Ours, the same each time, so that it is compiled once; what differs are its parameters.
_SCRIPT = "ctx._source.user = params.owners[ctx._source.sentAs]"


class Standing(NamedTuple):
    """Who owns what an id has sent, and until when it is erased: epoch milliseconds, 0 for never."""

    owner: str
    erased_at: int


@dataclass(slots=True)
class Settled:
    """What changed in the index."""

    updated: int = 0
    deleted: int = 0


def standings(calls: Calls, distinct_ids: Collection[str]) -> dict[str, Standing]:
    """What the table says of these ids now. Raises Unavailable."""
    marks = calls.get_all([keys.mark_key(distinct_id) for distinct_id in distinct_ids])
    found: dict[str, Standing] = {}
    for distinct_id in distinct_ids:
        mark = marks.get(keys.mark_key(distinct_id), {})
        check_schema(mark)
        user = mark.get(AliasItem.user_id.attr_name)
        found[distinct_id] = Standing(user["S"] if user else distinct_id, erased_at_of(mark))
    return found


def settle(
    engine: Engine, calls: Calls, distinct_ids: Iterable[str], known: Mapping[str, Standing] | None = None
) -> Settled:
    """Make the index say of these ids what the table says, in the indices that a rebuild is filling too.

    `known` is what the table said a moment ago. Raises Unavailable; what was done then is done.
    """
    settled = Settled()
    waiting = sorted(distinct_ids)
    said = {distinct_id: known[distinct_id] for distinct_id in waiting} if known else {}
    for _ in range(ROUNDS_MAX):
        if not waiting:
            return settled
        said = said or standings(calls, waiting)
        _apply(engine, calls.deadline, said, settled)
        now = standings(calls, waiting)
        waiting = [distinct_id for distinct_id in waiting if now[distinct_id] != said[distinct_id]]
        said = {distinct_id: now[distinct_id] for distinct_id in waiting}
    raise EngineUnavailableError


def _apply(engine: Engine, deadline: float, said: Mapping[str, Standing], settled: Settled) -> None:
    names = Names(engine.prefix)
    waiting = list(said.items())
    for first in range(0, len(waiting), IDS_PER_QUERY):
        part = waiting[first : first + IDS_PER_QUERY]
        erased = [(distinct_id, at) for distinct_id, (_, at) in part if at]
        if erased:
            query = _any([[_sent_as(distinct_id), _until(at)] for distinct_id, at in erased])
            settled.deleted += _by_query(engine, deadline, names.every, "_delete_by_query", {"query": query})
            _by_query(engine, deadline, names.failed, "_delete_by_query", {"query": query}, _IF_THERE)
        query = _any(
            [[_sent_as(distinct_id)] for distinct_id, _ in part],
            [[{"term": {"user": owner}}] for _, (owner, _) in part],
        )
        owners = {distinct_id: owner for distinct_id, (owner, _) in part}
        script = {"lang": "painless", "source": _SCRIPT, "params": {"owners": owners}}
        settled.updated += _by_query(
            engine, deadline, names.every, "_update_by_query", {"query": query, "script": script}
        )


# A closed month is refused, and not passed over: it would be opened again with what was to be changed.
_OPEN_OR_CLOSED = {
    "expand_wildcards": "open,closed",
    "ignore_unavailable": "false",
    "allow_no_indices": "true",
}
_IF_THERE = {"ignore_unavailable": "true", "allow_no_indices": "true"}


def _by_query(
    engine: Engine,
    deadline: float,
    index: str,
    operation: str,
    body: Json,
    which: Mapping[str, str] = _OPEN_OR_CLOSED,
) -> int:
    """Carry it out on every document, also on those that others change meanwhile. Answers how many it changed."""
    changed = 0
    for _ in range(ROUNDS_MAX):
        try:
            # A search sees what was written before the last refresh, and this is one.
            engine.call(
                "POST",
                f"/{index}/_refresh",
                timeout_seconds=_seconds_left(deadline, REFRESH_SECONDS),
                params=which,
            )
            reply = engine.call(
                "POST",
                f"/{index}/{operation}",
                body,
                params={**which, "conflicts": "proceed", **engine.primaries()},
                timeout_seconds=_seconds_left(deadline, BY_QUERY_SECONDS),
            )
        except EngineRefusedError as error:
            # Nothing that a record says can be at fault: the deployment is, and what is to be done waits for it.
            raise EngineUnavailableError(error) from error
        if reply.get("failures"):
            raise EngineUnavailableError  # A queue was full. What was changed stays changed.
        changed += int(reply.get("updated", 0)) + int(reply.get("deleted", 0))
        if not reply.get("version_conflicts"):
            return changed
    raise EngineUnavailableError


def _seconds_left(deadline: float, seconds_max: float) -> float:
    """So many at most. Raises EngineUnavailableError where there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise EngineUnavailableError
    return min(seconds, seconds_max)


def _any(filters: Sequence[list[Json]], excluded: Sequence[list[Json]] | None = None) -> Json:
    clauses: list[Json] = [{"bool": {"filter": one}} for one in filters]
    for clause, not_these in zip(clauses, excluded or [], strict=False):
        clause["bool"]["must_not"] = not_these
    return {"bool": {"should": clauses, "minimum_should_match": 1}}


def _sent_as(distinct_id: str) -> Json:
    return {"term": {"sentAs": distinct_id}}


def _until(erased_at: int) -> Json:
    return {"range": {"earliest": {"lte": erased_at}}}
