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
        "if alias not in others and alias.is_merged]",
        "if alias not in others]",
        "two ingests of one event, a merge",
    ),
    "count-first": Plant(
        "service.ingest",
        "    resolved = _side_by_side(",
        "    for event in events:\n"
        "        if event.user_id and event.anonymous_id and event.day:\n"
        "            counting.count(work, Owner(event.user_id), event.day, [event])\n"
        "    resolved = _side_by_side(",
        "its retry with both ids, two crashes",
    ),
    "no-seen": Plant(
        "service.counting",
        "NoneIn(DayItem.seen, sorted(write.seen)),",
        "",
        "two ingests of one event, a merge",
    ),
    "ignore-seals": Plant(
        "service.counting",
        "            DayItem.merged_into.does_not_exist(),\n",
        "",
        "two ingests of one event, a merge",
    ),
    "any-revision": Plant(
        "service.identities",
        "AllOf(DayItem.revision == source.revision, *_is_as_read(alias, source))",
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
        "AllOf(AliasItem.user_id.does_not_exist(), may_begin)",
        "may_begin",
        "an ingest, merges to two users",
    ),
    # Writing an old day without looking whether its owner has another owner, or was erased, by now.
    "import-unchecked": Plant(
        "service.counting",
        "        if work.is_import:\n",
        "        if False:\n",
        "import of an old event",
    ),
    # What DESIGN.md said at first of an event whose anonymous id is another user's: read that user's day, then count.
    "read-then-count": Plant(
        "service.ingest",
        "    owner, day, beside = key\n",
        "    owner, day, beside = key\n"
        "    if beside:\n"
        "        from service import keys\n"
        "        from service.models import stored_day\n"
        "        raw = work.calls.get(keys.day_key(beside, day), is_consistent=True)\n"
        "        seen = stored_day(raw).seen if raw else set()\n"
        "        rest = [event for event in group.events if event.message_hash not in seen]\n"
        "        return counting.count(work, Owner(owner), day, rest)\n",
        "a merge to another",
    ),
    # An order counts as often as somebody sends it.
    "no-claim": Plant(
        "service.counting",
        "OrderItem.pk.does_not_exist() | (OrderItem.expires_at < now_seconds)",
        "None",
        "an order of two visitors",
    ),
    "no-fence": Plant(
        "service.counting",
        "            ErasedBefore(before_ms),\n",
        "",
        "an event of the user, an erasure",
    ),
    # What DESIGN.md said at first of an import: read whether its user was erased, then write.
    "read-then-import": Plant(
        "service.counting",
        "        if work.is_import:\n",
        "        if work.is_import:\n"
        "            for owner in owners:\n"
        "                mark = work.calls.get(keys.mark_key(owner.distinct_id), is_consistent=True)\n"
        "                if mark and erased_at_of(mark) >= oldest_ms:\n"
        "                    raise Unavailable\n"
        "        if False:\n",
        "an import of the user, an erasure",
    ),
    # The user's own days before those that a merge may still move there.
    "own-days-first": Plant(
        "service.erasure",
        "    erased = Erased(erased_at)\n",
        "    erased = Erased(erased_at)\n    _clear(work, distinct_id, distinct_id, erased_at)\n",
        "a merge, an erasure, a crash",
    ),
    "merge-while-erasing": Plant(
        "service.identities",
        "            work.calls.check_action(keys.erased_key(user_id), may_begin),\n",
        "            work.calls.check_action(keys.erased_key(user_id), None),\n",
        "a merge, an erasure, a crash",
    ),
    # Following an alias that was read before the erasure of whom it names.
    "stale-alias": Plant(
        "service.counting",
        "oldest_ms if owner.since_ms is None else min(oldest_ms, owner.since_ms)",
        "oldest_ms",
        "after an erasure, a later event twice",
    ),
    # A merge that was erased goes on.
    "merge-outlives-erasure": Plant(
        "service.identities",
        "    if stored.erased_at >= alias.begun_ms:\n        raise Unavailable\n",
        "",
        "a merge, an erasure, a later event",
    ),
}


def plant(name: str) -> None:
    """Put a fault into the imported service."""
    fault = PLANTS[name]
    module = importlib.import_module(fault.module)
    source = inspect.getsource(module)
    assert source.count(fault.text) == 1, f"{name}: the text it replaces has changed"
    exec(compile(source.replace(fault.text, fault.becomes), module.__file__ or name, "exec"), module.__dict__)
