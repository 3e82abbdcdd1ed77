"""What the stream's records do to the index, in whatever order and however often they come: the protocol.

1. What the table says of every identity is read (`attribution.standings`): the owner its documents get, and until when
   it is erased. What is erased is left out.
2. The documents are put, each by an id made of the event alone: one that is there already stays (`bulk`).
3. What the table says is read again. Identities of which it changed meanwhile, of which a document was there already
   (by an earlier try that may have died before this step), of which something was left out as erased or is gone (an
   earlier try may have put it), or whose mark is among the records are settled (`attribution.settle`): documents change
   hands, and those of before an erasure go.

A mark that changes after step 3 has read it makes a record that comes later, so nothing is missed; and a mark's record
says no more than that it changed, so old ones do no harm. (docs/design/0010-indexing.md)

What cannot be read or is never taken by the engine is kept in the index of failures with the reason, and the rest goes
on. What could not be done now is left for another try of the same records.
"""

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import attribution, changes, documents, indices, keys, logs, raw_events
from .attribution import Settled, Standing
from .bulk import Bulk, Document, Failure, Refused, Sent
from .changes import Change, Record
from .events import epoch_ms
from .index_template import Names, failed_index, first_kept_month, month_of
from .keys import Key
from .models import Raw
from .opensearch import Engine, EngineRefusedError, EngineUnavailableError, Json
from .problems import Unavailable
from .store import Work

# The engine's reason may quote what it was sent, and its mapping takes no keyword of more than 1,024.
REASON_CHARACTERS_MAX = 1000


class Item(NamedTuple):
    """Raw events of the table as DynamoDB gives them, binary as bytes. `raw` is empty of an item that is gone: it was
    erased, or has expired."""

    key: Key
    raw: Raw

    @property
    def distinct_id(self) -> str:
        """Whose partition it is of."""
        return keys.distinct_id_of(self.key.pk) or self.key.pk

    @staticmethod
    def of(raw: Raw) -> "Item":
        """As a Query or a Scan answers it."""
        return Item(keys.of_item(raw), raw)


@dataclass(frozen=True, slots=True)
class Target:
    """Where documents go: `alias` is what a month's are written to, `make` makes the index behind it. Months before
    `first_month` (YYYY-MM) are left out, as they would be deleted at once; where `months` are given, all others."""

    alias: Callable[[str], str]
    make: Callable[[str], object]
    first_month: str = ""
    months: Collection[str] | None = None

    def takes(self, month: str) -> bool:
        """Whether documents of this month go there."""
        return month >= self.first_month and (self.months is None or month in self.months)

    @staticmethod
    def in_use(engine: Engine, work: Work) -> "Target":
        """Where searches look."""
        today = work.now.astimezone(work.settings.timezone).date()
        return Target(
            Names(engine.prefix).month,
            lambda month: indices.make_month(
                engine, month, work.calls.table.name, replicas=work.settings.search_replicas
            ),
            first_kept_month(today, work.settings.search_retention_days),
        )


@dataclass(slots=True)
class Indexed:
    """What became of items. `undone` are the positions of those to be tried again, and `facts`, for a log, what the
    engine has said to them."""

    items: int = 0
    events: int = 0
    created: int = 0
    there: int = 0
    erased: int = 0
    failed: int = 0
    retries: int = 0
    settled: Settled = field(default_factory=Settled)
    undone: set[int] = field(default_factory=set)
    facts: Json = field(default_factory=dict)


@dataclass(slots=True)
class Indexer:
    """One invocation's work: the engine, the table until the deadline of its calls, and where documents go."""

    engine: Engine
    work: Work
    target: Target
    pause: Callable[[float], object] = time.sleep

    def index_records(self, records: Sequence[Record]) -> list[str]:
        """Do what these records of the stream say. Answers the sequence number to begin again at, if any.

        Raises Unavailable when nothing of it is sure to be done.
        """
        began = time.monotonic()
        found = [(position, changes.change(record)) for position, record in enumerate(records)]
        wanted = [(position, change) for position, change in found if change is not None]
        marks = {change.distinct_id for _, change in wanted if change.is_mark}
        items = self._items([change for _, change in wanted if not change.is_mark])
        positions = [position for position, change in wanted if not change.is_mark]
        indexed = self.index_items(items, marks)
        first = min((positions[position] for position in indexed.undone), default=None)
        self._log(records, indexed, took_seconds=time.monotonic() - began)
        return [] if first is None else [changes.sequence_number(records[first])]

    def index_items(self, items: Sequence[Item], marks: Collection[str] = ()) -> Indexed:
        """Put the events of these items into the index, and settle the ids of `marks`.

        Raises Unavailable when nothing of it is sure to be done.
        """
        made = _Made(self, items)
        distinct_ids = made.distinct_ids
        made.before = attribution.standings(self.work.calls, distinct_ids)
        sent = self._bulk().send(made.documents())
        self._keep(made.failures + [_failure(self.work, refused) for refused in sent.refused])
        after = attribution.standings(self.work.calls, distinct_ids | set(marks))
        unsettled = {one for one in distinct_ids if after[one] != made.before[one]}
        unsettled |= {document.sent_as for document in sent.there} | made.left_out | set(marks)
        settled = attribution.settle(self.engine, self.work.calls, unsettled, after)
        indexed = Indexed(
            items=len(items),
            events=made.events,
            created=sent.created,
            there=len(sent.there),
            erased=made.erased,
            failed=len(made.failures) + len(sent.refused),
            retries=sent.retries,
            settled=settled,
            undone=sent.undone,
            facts=sent.facts if sent.undone else {},
        )
        self._put_again(sent, after, indexed)
        return indexed

    def _bulk(self) -> Bulk:
        return Bulk(self.engine, self.work.calls.deadline, self.target.make, self.pause)

    def _items(self, found: Sequence[Change]) -> list[Item]:
        """The records' items; those that they do not bring, from the table."""
        missing = [change.key for change in found if change.item is None]
        read = self.work.calls.get_all(missing) if missing else {}
        return [
            Item(change.key, read.get(change.key, {}) if change.item is None else change.item)
            for change in found
        ]

    def _put_again(self, sent: Sent[Document], after: Mapping[str, Standing], indexed: Indexed) -> None:
        """Events dated ahead, sent before an erasure and counted again after it: the document of before had their id
        until now."""
        again = [
            document for document in sent.there if 0 < after[document.sent_as].erased_at < document.earliest
        ]
        if not again:
            return
        once_more = self._bulk().send(again)
        self._keep([_failure(self.work, refused) for refused in once_more.refused])
        indexed.created += once_more.created
        indexed.failed += len(once_more.refused)
        indexed.retries += once_more.retries
        indexed.undone |= once_more.undone
        # They were made for the owner of then.
        attribution.settle(self.engine, self.work.calls, {document.sent_as for document in again})

    def _keep(self, failures: Sequence["_Failed"]) -> None:
        """Put them into the index of failures, without the document where that spoils the call. Raises Unavailable when
        it cannot be done now."""
        if not failures:
            return
        name = Names(self.engine.prefix).failed
        self._make_failed(name)
        bulk = Bulk(self.engine, self.work.calls.deadline, lambda _: self._make_failed(name), self.pause)
        sent = bulk.send(
            Failure(failed.doc_id, name, _json(failed.fields), position)
            for position, failed in enumerate(failures)
        )
        for refused in sent.refused:
            if not refused.is_of_call:
                # Nothing may block the rest.
                logs.line("ERROR", "a failure could not be kept", **refused.error.facts)
        spoiled = [failures[refused.document.position] for refused in sent.refused if refused.is_of_call]
        if sent.undone or not all(failed.has_body for failed in spoiled):
            raise Unavailable
        self._keep([failed.without_body() for failed in spoiled])

    def _make_failed(self, name: str) -> None:
        """Without it the engine would make one of its own, whose mapping grows with what fails."""
        try:
            self.engine.call("PUT", f"/{name}", failed_index(replicas=self.work.settings.search_replicas))
        except EngineRefusedError as error:
            if error.kind != "resource_already_exists_exception":
                raise EngineUnavailableError(error) from error

    def _log(self, records: Sequence[Record], indexed: Indexed, *, took_seconds: float) -> None:
        capacity = self.work.calls.capacity
        logs.line(
            "WARN" if indexed.failed or indexed.undone else "INFO",
            "indexed",
            records=len(records),
            items=indexed.items,
            events=indexed.events,
            created=indexed.created,
            there=indexed.there,
            erased=indexed.erased,
            failed=indexed.failed,
            undone=len(indexed.undone),
            updated=indexed.settled.updated,
            deleted=indexed.settled.deleted,
            retries=indexed.retries,
            rru=capacity.read_units,
            tookMs=round(took_seconds * 1000),
            **indexed.facts,
        )


class _Failed(NamedTuple):
    doc_id: str
    fields: Json

    @property
    def has_body(self) -> bool:
        return "body" in self.fields

    def without_body(self) -> "_Failed":
        return _Failed(self.doc_id, {name: value for name, value in self.fields.items() if name != "body"})


@dataclass(slots=True)
class _Made:
    """Documents made of items one by one, while those before are on their way. `left_out` are the ids of items that
    are erased or gone: an earlier try may have put documents of theirs and died before it could see that."""

    indexer: Indexer
    items: Sequence[Item]
    before: Mapping[str, Standing] = field(default_factory=dict)
    failures: list[_Failed] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    events: int = 0
    erased: int = 0

    @property
    def distinct_ids(self) -> set[str]:
        """Whose partitions the items are of."""
        return {item.distinct_id for item in self.items}

    def documents(self) -> Iterator[Document]:
        """Those of what is not erased; what cannot be read becomes a failure."""
        for position, item in enumerate(self.items):
            if not item.raw:
                self.left_out.add(item.distinct_id)
                continue
            try:
                made = list(self._of_item(position, item))
            except Unavailable:
                raise  # A newer version wrote it, which will read it too.
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one item must not keep the others
                self._fail(item, error)
            else:
                yield from made

    def _of_item(self, position: int, item: Item) -> Iterator[Document]:
        sent_as = item.distinct_id
        standing = self.before[sent_as]
        first_ms = raw_events.first_ms_of(item.raw)
        is_erased = raw_events.is_erased(item.raw, standing.erased_at)
        if is_erased:
            self.left_out.add(sent_as)
        for raw in raw_events.read(item.raw, self.indexer.work.settings.timezone):
            self.events += 1
            if is_erased:
                self.erased += 1
                continue
            month = month_of(raw.key[0])
            if not self.indexer.target.takes(month):
                continue
            doc_id, fields = documents.document(raw, sent_as, standing.owner, first_ms)
            alias = self.indexer.target.alias(month)
            yield Document(
                position, doc_id, alias, month, sent_as, standing.owner, fields["earliest"], _json(fields)
            )

    def _fail(self, item: Item, error: BaseException) -> None:
        sent_as = item.distinct_id
        standing = self.before[sent_as]
        earliest = _earliest(item)
        if 0 < standing.erased_at >= earliest:
            self.erased += 1
            self.left_out.add(sent_as)
            return
        self.failures.append(
            _Failed(
                _failure_id(item.key.pk, item.key.sk),
                {
                    "at": epoch_ms(self.indexer.work.now),
                    "reason": f"{type(error).__name__}: the item cannot be read",
                    "key": f"{item.key.pk} {item.key.sk}",
                    "sentAs": sent_as,
                    "user": standing.owner,
                    "earliest": earliest,
                    "body": json.dumps(item.raw, default=_base64),
                },
            )
        )


def _failure(work: Work, refused: Refused[Document]) -> _Failed:
    document = refused.document
    fields = {
        "at": epoch_ms(work.now),
        "reason": refused.reason[:REASON_CHARACTERS_MAX],
        "key": document.doc_id,
        "sentAs": document.sent_as,
        "user": document.owner,
        "earliest": document.earliest,
        "body": document.source.decode(),
    }
    return _Failed(_failure_id(document.month, document.doc_id), fields)


def _failure_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:40]


def _earliest(item: Item) -> int:
    """By which an erasure finds it, as far as it can be read; what says no time is of before every one."""
    known: list[int] = []
    for read in (raw_events.received_ms_of, raw_events.first_ms_of):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            known.append(read(item.raw))
    return min(known, default=0)


def _json(fields: Json) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
