"""Faults to plant in the service, each of which a scenario must find."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass


@dataclass(frozen=True)
class Plant:
    """A fault: in this module, this text becomes that; the scenario whose name contains `found_by` must go wrong."""

    module: str
    text: str
    becomes: str
    found_by: str


PLANTS = {
    "follow": Plant(
        "service.ingest",
        "owner = alias.user_id if alias and alias.is_merged else event.anonymous_id",
        "owner = alias.user_id if alias else event.anonymous_id",
        "two ingests of one event, a merge",
    ),
    "count-first": Plant(
        "service.ingest",
        "    resolved = _side_by_side(",
        "    for event in events:\n"
        "        if event.user_id and event.anonymous_id and event.day:\n"
        "            store.count(work, event.user_id, event.day, [event])\n"
        "    resolved = _side_by_side(",
        "its retry with both ids, two crashes",
    ),
    "no-seen": Plant(
        "service.store",
        "NoneIn(DayItem.seen, sorted(write.seen)),",
        "",
        "two ingests of one event, a merge",
    ),
    "ignore-seals": Plant(
        "service.store",
        "        DayItem.merged_into.does_not_exist(),\n",
        "",
        "two ingests of one event, a merge",
    ),
    "any-revision": Plant(
        "service.identities",
        "(DayItem.revision == source.revision) & DayItem.merged_into.does_not_exist()",
        "None",
        "two events, a merge",
    ),
    "no-blank-seals": Plant(
        "service.merge",
        "sorted(stored.keys() | set(work.settings.rules(work.now).days()))",
        "sorted(stored)",
        "two ingests of one event, a merge",
    ),
    "last-user-wins": Plant(
        "service.identities",
        "                AliasItem.pk.does_not_exist(),\n",
        "",
        "an ingest, a merge, two crashes",
    ),
    # Writing an old day without looking whether the anonymous id has an owner by now.
    "import-unchecked": Plant(
        "service.ingest",
        "follow = functools.partial(_owner_of, work) if work.is_import and ids.is_anonymous(owner) else None",
        "follow = None",
        "import of an old event",
    ),
    # What DESIGN.md said at first of an event whose anonymous id is another user's: read that user's day, then count.
    "read-then-count": Plant(
        "service.ingest",
        "    return store.count_beside(work, owner, day, events, beside)",
        "    from service import keys\n"
        "    from service.models import stored_day\n"
        "    raw = work.calls.get(keys.day_key(beside, day), is_consistent=True)\n"
        "    seen = stored_day(raw).seen if raw else set()\n"
        "    return store.count(work, owner, day, [event for event in events if event.message_hash not in seen])",
        "a merge to another",
    ),
}


def plant(name: str) -> None:
    """Put a fault into the imported service."""
    fault = PLANTS[name]
    module = importlib.import_module(fault.module)
    source = inspect.getsource(module)
    assert source.count(fault.text) == 1, f"{name}: the text it replaces has changed"
    exec(compile(source.replace(fault.text, fault.becomes), module.__file__ or name, "exec"), module.__dict__)
