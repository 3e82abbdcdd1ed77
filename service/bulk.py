"""Documents put into the index in bulk: sent in parts, each document's answer told apart.

    created, or there already     done: the id of a document is made of the event alone
    429, 5xx, 401, 403            tried again, with growing pauses, for as long as the call has time
    404                           the month's index is made, and it is tried again
    other 4xx                     it never will be: kept in the index of failures, with the reason

A call that is refused as a whole is one that some document spoils, and is sent in halves; or the engine takes no call
at all, which is asked before the first half is sent, and then says nothing of a document.

The next part is made while the last is under way.
"""

import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .opensearch import Engine, EngineRefusedError, EngineUnavailableError, Json

# Of a batch of the stream that makes a few parts, so that one is made while another is under way. Larger ones are no
# faster, and a node of Amazon's smallest kinds takes 10 MB.
PART_BYTES_MAX = 1024 * 1024
PART_SECONDS = 60.0
# Together some ten seconds: a queue is empty again by then, and whoever calls tries again by itself.
ATTEMPTS_MAX = 8
_PAUSE_SECONDS = 0.1
_PAUSE_SECONDS_MAX = 4.0

_CONFLICT = 409
_NO_INDEX = 404
# Of the whole call: there is no `_bulk` at this address, whatever is sent.
_NO_BULK_STATUSES = frozenset({404, 405})
# A node that is full or starting, a queue, an index that somebody has closed: none of it says anything of a document.
_NOT_NOW_STATUSES = frozenset({401, 403, 408, 429})
_NOT_NOW_TYPES = frozenset({"index_closed_exception", "cluster_block_exception"})
# The month's alias has a second index, and neither is the one to write to.
_NO_WRITE_INDEX = "no write index is defined for alias"


@dataclass(frozen=True, slots=True)
class Document:
    """One document on its way. `position` is that of what it was made of, `earliest` is in epoch milliseconds."""

    position: int
    doc_id: str
    alias: str
    month: str
    sent_as: str
    owner: str
    earliest: int
    source: bytes

    @property
    def lines(self) -> bytes:
        """As `_bulk` takes it."""
        action = f'{{"create":{{"_index":"{self.alias}","_id":"{self.doc_id}"}}}}\n'
        return action.encode() + self.source + b"\n"


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be indexed, on its way to the index of such. That is no alias, so it has to be there."""

    doc_id: str
    index: str
    source: bytes
    position: int = 0
    month: str = ""

    @property
    def lines(self) -> bytes:
        """As `_bulk` takes it."""
        action = f'{{"create":{{"_index":"{self.index}","_id":"{self.doc_id}","require_alias":false}}}}\n'
        return action.encode() + self.source + b"\n"


_Put = TypeVar("_Put", Document, Failure)


@dataclass(frozen=True, slots=True)
class Refused(Generic[_Put]):
    """A document that the engine never takes, and how it says so: of the document, or of a call that holds no other."""

    document: _Put
    error: EngineRefusedError
    is_of_call: bool = False

    @property
    def reason(self) -> str:
        """In the engine's words, which may quote the document."""
        return f"{self.error.kind}: {self.error.reason}"


@dataclass(slots=True)
class Sent(Generic[_Put]):
    """What became of documents: `undone` are the positions of those that the engine could not take now, and `facts`,
    for a log, what it last said to a call as a whole."""

    created: int = 0
    there: list[_Put] = field(default_factory=list)
    refused: list[Refused[_Put]] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)
    retries: int = 0
    facts: Json = field(default_factory=dict)


@dataclass(slots=True)
class Bulk:
    """One call's way into the index, until `deadline` (of time.monotonic). `make` makes the index behind a month's
    alias."""

    engine: Engine
    deadline: float
    make: Callable[[str], object]
    pause: Callable[[float], object] = time.sleep
    _is_down: bool = False
    # Whether a call was answered document by document.
    _is_taken: bool = False

    def send(self, documents: Iterable[_Put]) -> Sent[_Put]:
        """Send them all. Raises nothing for an engine that cannot take them: they are undone."""
        sent: Sent[_Put] = Sent()
        under_way: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="bulk") as sender:
            for part in _parts(documents):
                if under_way is not None:
                    under_way.result()
                under_way = sender.submit(self._part, part, sent)
            if under_way is not None:
                under_way.result()
        return sent

    def _part(self, waiting: list[_Put], sent: Sent[_Put]) -> None:
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                sent.retries += 1
                self._wait(attempt)
            if self._is_down or self._seconds_left <= 0:
                break
            try:
                waiting = self._attempt(waiting, sent)
            except EngineUnavailableError as error:
                sent.facts = error.facts
                continue
            if not waiting:
                return
        # What comes after need not try as long.
        self._is_down = True
        sent.undone.update(document.position for document in waiting)

    @property
    def _seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def _attempt(self, documents: list[_Put], sent: Sent[_Put]) -> list[_Put]:
        """Send once; those to be sent again."""
        left = self._seconds_left
        if left <= 0:
            return documents
        lines = b"".join([document.lines for document in documents])
        try:
            reply = self.engine.bulk(lines, timeout_seconds=min(left, PART_SECONDS))
        except EngineRefusedError as error:
            return self._refused(documents, sent, error)
        items = reply.get("items", [])
        if len(items) != len(documents):
            raise EngineUnavailableError
        self._is_taken = True
        if not reply.get("errors"):
            sent.created += len(documents)
            return []
        answers = [
            (document, next(iter(item.values()))) for document, item in zip(documents, items, strict=True)
        ]
        again = [
            (document, answer) for document, answer in answers if not self._is_decided(document, answer, sent)
        ]
        # What cannot be made now is found missing again, by those alone that are not decided.
        with contextlib.suppress(EngineUnavailableError):
            self._make({document.month for document, answer in again if answer["status"] == _NO_INDEX})
        return [document for document, _ in again]

    def _refused(self, documents: list[_Put], sent: Sent[_Put], error: EngineRefusedError) -> list[_Put]:
        """The call as a whole was: those to be sent again. Raises EngineUnavailableError where every call would be."""
        if error.status in _NO_BULK_STATUSES or not self._is_any_taken():
            raise EngineUnavailableError(error) from error
        if len(documents) == 1:
            sent.refused.append(Refused(documents[0], error, is_of_call=True))
            return []
        # One of them spoils the call, or they are too large together.
        middle = len(documents) // 2
        again: list[_Put] = []
        for half in (documents[:middle], documents[middle:]):
            try:
                again += self._attempt(half, sent)
            except EngineUnavailableError:
                # What has become of the other half is known.
                again += half
        return again

    def _is_any_taken(self) -> bool:
        """Whether the engine takes a call that no document can spoil. This one writes nothing: there is no such alias,
        and its only answer is a 404."""
        if not self._is_taken:
            action = f'{{"create":{{"_index":"{self.engine.prefix}-nowhere","require_alias":true}}}}\n{{}}\n'
            try:
                reply = self.engine.bulk(
                    action.encode(), timeout_seconds=min(self._seconds_left, PART_SECONDS)
                )
            except EngineRefusedError:
                return False
            self._is_taken = len(reply.get("items", [])) == 1
        return self._is_taken

    def _make(self, months: Collection[str]) -> None:
        for month in sorted(months):
            try:
                self.make(month)
            except EngineRefusedError as error:
                # The deployment is at fault, and no document.
                raise EngineUnavailableError(error) from error

    @staticmethod
    def _is_decided(document: _Put, answer: Json, sent: Sent[_Put]) -> bool:
        status, error = answer["status"], answer.get("error") or {}
        if status < 300:
            sent.created += 1
        elif status == _CONFLICT:
            sent.there.append(document)
        else:
            refused = EngineRefusedError(status, str(error.get("type")), str(error.get("reason")))
            if _is_not_now(refused):
                return False
            sent.refused.append(Refused(document, refused))
        return True

    def _wait(self, attempt: int) -> None:
        seconds = min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS * 2**attempt)
        seconds = random.uniform(seconds / 2, seconds)  # noqa: S311 - jitter
        self.pause(max(0.0, min(seconds, self._seconds_left)))


def _is_not_now(error: EngineRefusedError) -> bool:
    """Whether this answer says nothing of the document."""
    return (
        error.status >= 500
        or error.status in _NOT_NOW_STATUSES
        or error.status == _NO_INDEX
        or error.kind in _NOT_NOW_TYPES
        or error.reason.startswith(_NO_WRITE_INDEX)
    )


def _parts(documents: Iterable[_Put]) -> Iterator[list[_Put]]:
    part: list[_Put] = []
    size_bytes = 0
    for document in documents:
        if part and size_bytes + len(document.source) > PART_BYTES_MAX:
            yield part
            part, size_bytes = [], 0
        part.append(document)
        size_bytes += len(document.source) + 128
    if part:
        yield part
