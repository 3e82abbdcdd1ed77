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
        "alias if alias and alias.is_merged and not other else None",
        "alias if alias and not other else None",
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
        "            before_ms = min(before_ms, owner.since_ms)\n",
        "            pass\n",
        "after an erasure, a later event twice",
    ),
    # A merge that was erased goes on.
    "merge-outlives-erasure": Plant(
        "service.identities",
        "    if stored.is_erased_since(alias.begun_ms):\n        raise Unavailable\n",
        "",
        "a merge, an erasure, a later event",
    ),
    # Raw events before what decides whether they count.
    "raw-first": Plant(
        "service.ingest",
        "    admissions = dict(_side_by_side(",
        "    for (owner, _, _), group in groups.items():\n"
        "        for event in group.events if work.origin else ():\n"
        "            raw_events.keep(work, event.anonymous_id or owner, [event])\n"
        "    admissions = dict(_side_by_side(",
        "raw: an order of two visitors",
    ),
    # A retry repairs nothing.
    "raw-of-new-only": Plant(
        "service.ingest",
        "in admission.admitted + admission.seen:",
        "in admission.admitted:",
        "raw: an event twice",
    ),
    "raw-digest-of-an-attempt": Plant(
        "service.packing",
        'b"".join(sorted(event.message_hash for event in events))',
        'b"".join(sorted(event.message_hash for event in events)) + str(origin.received_ms).encode()',
        "raw: an event twice",
    ),
    # An event that another user's day knows of, and has not counted.
    "no-elsewhere": Plant(
        "service.counting",
        "[*actions(work.settings, self.day, fence), Add(DayItem.elsewhere, fence.seen)]",
        "actions(work.settings, self.day, fence)",
        "raw: an event, its retry with both ids, another's visitor",
    ),
    "elsewhere-unread": Plant(
        "service.counting",
        "        stored = stored_day(item) if item else StoredDay(self.day)\n",
        "        stored = stored_day(item) if item else StoredDay(self.day)\n        stored.elsewhere = set()\n",
        "raw: an event, its retry with both ids, another's visitor",
    ),
    "raw-with-anothers-visitor": Plant(
        "service.ingest",
        "event.user_id if beside else event.anonymous_id or event.user_id",
        "event.anonymous_id or event.user_id",
        "raw: an event, its retry with both ids, another's visitor",
    ),
    "raw-of-first-copy-missing": Plant(
        "service.ingest",
        "        for event in admission.seen_beside:\n",
        "        for event in admission.seen_beside[:0]:\n",
        "raw: an event, its retry with both ids, another's visitor",
    ),
    # An order that was claimed is a duplicate, whoever has counted it.
    "raw-of-claimed-order-missing": Plant(
        "service.counting",
        "(decided.rejections or self._may_have_seen(decided))",
        "decided.rejections",
        "raw: an order",
    ),
    "raw-stays": Plant(
        "service.erasure",
        "            erased.raw_events += raw_events.remove(work, anonymous_id, erased_at)\n",
        "",
        "raw: a merge, an erasure",
    ),
    "no-leftovers": Plant(
        "service.erasure",
        "        row = _leftovers(work, distinct_id, erased_at)\n",
        "        row = work.calls.delete_action(keys.pending_key(began_at(erased_at), distinct_id))\n",
        "raw: an event of the user, an erasure",
    ),
    "no-leftovers-of-visitors": Plant(
        "service.erasure",
        "*([_leftovers(work, anonymous_id, erased_at)] if work.settings.raw_events else []),",
        "",
        "raw: an event of a merged visitor, an erasure",
    ),
    "leftovers-shown": Plant(
        "service.timeline",
        "(item for item in items if not raw_events.is_erased(item, source.erased_at))",
        "iter(items)",
        "raw: an event of a merged visitor, an erasure",
    ),
    # What was received before an erasure and is dated after it counts, as the last of three rules allowed at first.
    "counted-before-now": Plant(
        "service.counting",
        "before_ms = min(oldest_ms, epoch_ms(self.work.now))",
        "before_ms = oldest_ms",
        "raw: an event of a visitor dated ahead",
    ),
    "first-receipt-stays": Plant(
        "service.raw_events",
        "EventsItem.pk.does_not_exist() | is_older",
        "EventsItem.pk.does_not_exist()",
        "raw: an event of the user dated ahead",
    ),
    "raw-deleted-unread": Plant(
        "service.raw_events",
        "if received_ms_of(item) < first_ms_of(item):",
        "if False:",
        "raw: an event of the user dated ahead",
    ),
    # Days of which an erasure may let one count and not the other.
    "raw-days-together": Plant(
        "service.ingest",
        "kept.setdefault((distinct_id, key), [])",
        "kept.setdefault((distinct_id, next(iter(groups))), [])",
        "raw: events of two days",
    ),
}


def plant(name: str) -> None:
    """Put a fault into the imported service."""
    fault = PLANTS[name]
    module = importlib.import_module(fault.module)
    source = inspect.getsource(module)
    assert source.count(fault.text) == 1, f"{name}: the text it replaces has changed"
    exec(compile(source.replace(fault.text, fault.becomes), module.__file__ or name, "exec"), module.__dict__)
