"""An import: the records of a file, sent to the API batch by batch, and what of them was kept back.

A client like any other: it knows the service's limits and speaks HTTP.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from . import import_api, wire
from .checkpoint import Checkpoint, Totals
from .client import Client
from .events import Rejection, Rules
from .records import Record
from .sources import Source

# What surrounds the events of a body.
_HEAD, _TAIL = '{"batch":[', "]}"
BATCH_BYTES_MAX = wire.BODY_BYTES_MAX - len(_HEAD) - len(_TAIL)
# Of what is kept back so much is repeated.
CONTENT_CHARACTERS_MAX = 64 * 1024
# Then it is tried in halves.
ATTEMPTS_WHOLE = 3
# After so many answers requests grow again: it may have been an outage. Where it was not, three more are in vain, and
# it is twice as many answers until the next time.
ANSWERS_AT_A_SIZE = 20


@dataclass(frozen=True)
class KeptBack:
    """A line that did not go in, and why."""

    line: int
    code: str
    reason: str
    content: str

    def json(self) -> str:
        """A line of the file of these."""
        content = self.content[:CONTENT_CHARACTERS_MAX]
        facts = {"line": self.line, "code": self.code, "reason": self.reason, "content": content}
        # Nobody shall mend the half of a line and send that.
        return json.dumps(facts | ({} if content == self.content else {"truncated": True})) + "\n"


class Reading:
    """A file's records from the first on, and a digest of those that were taken."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.count = 0
        self._records = source.records()
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """The same for the same events at the same lines."""
        return self._hash.hexdigest()

    def skip(self, count: int) -> None:
        """Take so many, if there are so many, and nothing else."""
        for record in islice(self._records, count):
            self._note(record)

    def batches(self) -> Iterator[list[Record]]:
        """The rest of it, in what goes into a request."""
        for records in _batches(self._records):
            for record in records:
                self._note(record)
            yield records

    def _note(self, record: Record) -> None:
        text = record.content if record.event is None else record.event
        self._hash.update(f"{record.line} {len(text)} ".encode() + text.encode("utf-8", "surrogatepass"))
        self.count += 1


@dataclass
class Sender:
    """Sends batches and says what of them did not go in."""

    client: Client
    totals: Totals
    # A request has time for so many; fewer, once it had none for as many. More again after `answers_wanted`.
    events_max: int = wire.BATCH_EVENTS_MAX
    answers: int = 0
    answers_wanted: int = ANSWERS_AT_A_SIZE
    has_grown: bool = False

    def send(self, records: Sequence[Record]) -> list[KeptBack]:
        """Have each of these events decided. Raises CannotReachError."""
        if not records:
            return []
        if len(records) > self.events_max:
            return self._halves(records)
        answer = self._post(records, None if len(records) == 1 else ATTEMPTS_WHOLE)
        if answer.status == 200:
            self._grow()
            self.totals.accepted += int(answer.body["accepted"])
            self.totals.duplicates += int(answer.body["duplicates"])
            rejected = self._rejected(records, answer.body)
            self.totals.rejected += len(rejected)
            return rejected
        if answer.status >= 500:
            self._shrink(len(records))
        if len(records) > 1:
            # Else one of them spoils it for all.
            return self._halves(records)
        self.totals.rejected += 1
        return [_kept_back(records[0], str(answer.body["code"]), str(answer.body["detail"]))]

    def _shrink(self, sent: int) -> None:
        # Each of thousands of people takes its own calls of the database, also when it is counted already.
        self.events_max, self.answers = (sent + 1) // 2, 0
        if self.has_grown:
            self.answers_wanted *= 2
        self.has_grown = False

    def _grow(self) -> None:
        self.answers += 1
        if self.answers >= self.answers_wanted and self.events_max < wire.BATCH_EVENTS_MAX:
            self.events_max, self.answers = min(2 * self.events_max, wire.BATCH_EVENTS_MAX), 0
            self.has_grown = True

    def _halves(self, records: Sequence[Record]) -> list[KeptBack]:
        middle = len(records) // 2
        return self.send(records[:middle]) + self.send(records[middle:])

    def _rejected(self, records: Sequence[Record], body: Mapping[str, Any]) -> list[KeptBack]:
        listed = [one for one in body["rejected"] if 0 <= int(one["index"]) < len(records)]
        found = [
            _kept_back(records[int(one["index"])], str(one["code"]), str(one["reason"])) for one in listed
        ]
        unlisted = int(body["rejectedCount"]) - len(found)
        rest = records[int(listed[-1]["index"]) + 1 :] if listed else ()
        if unlisted > 0 and rest:
            # A reply lists the first hundred. The rest is asked for by sending it again, which counts nothing twice.
            before = replace(self.totals)
            more = self.send(rest)
            found += more
            # Whatever is not refused any more went in.
            self.totals.accepted = before.accepted + max(0, unlisted - len(more))
            self.totals.duplicates, self.totals.rejected = before.duplicates, before.rejected
        return found

    def _post(self, records: Sequence[Record], attempts_max: int | None) -> import_api.Answer:
        body = _HEAD + ",".join(record.event or "" for record in records) + _TAIL
        return import_api.post(self.client, body, self.totals, attempts_max)


def _kept_back(record: Record, code: str, reason: str) -> KeptBack:
    return KeptBack(record.line, code, reason, record.content)


def import_file(
    reading: Reading, client: Client, checkpoint: Checkpoint, kept_back_path: Path
) -> Iterator[list[KeptBack]]:
    """Send what is left to read, and name after each batch what of it did not go in.

    Raises CannotImportError and CannotReachError; the checkpoint says how far it came.
    """
    totals = checkpoint.totals
    sender = Sender(client, totals)
    for records in reading.batches():
        kept_back = [
            _kept_back(record, record.code, record.reason) for record in records if record.event is None
        ]
        totals.bad_lines += len(kept_back)
        kept_back += sender.send([record for record in records if record.event is not None])
        kept_back.sort(key=lambda one: one.line)
        # Only now: what an earlier import left there is kept until this one has something to say.
        with kept_back_path.open("ab") as file:
            # What was written after the checkpoint comes again.
            file.truncate(min(checkpoint.kept_back_bytes, file.tell()))
            file.writelines(one.json().encode() for one in kept_back)
            checkpoint.kept_back_bytes = file.tell()
        checkpoint.records, checkpoint.digest = reading.count, reading.digest
        checkpoint.line, checkpoint.offset = records[-1].line, reading.source.offset
        checkpoint.write()
        yield kept_back
    checkpoint.path.unlink(missing_ok=True)
    if not totals.kept_back:
        kept_back_path.unlink(missing_ok=True)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """What goes into a request, with the bad lines between. The same each time."""
    batch: list[Record] = []
    size = 0
    for record in records:
        record_size = len((record.event or record.content).encode("utf-8", "surrogatepass")) + 1
        if batch and (len(batch) == wire.BATCH_EVENTS_MAX or size + record_size > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += record_size
    if batch:
        yield batch


@dataclass
class Trial:
    """What an import would send: nothing is sent."""

    events: Counter[str] = field(default_factory=Counter)
    first_day: str | None = None
    last_day: str | None = None
    example: str | None = None
    kept_back: int = 0


def try_file(source: Source, trial: Trial) -> Iterator[KeptBack]:
    """Read the whole file by the service's own rules, and answer with what would be kept back."""
    rules = Rules(
        datetime.now(UTC), timedelta(0), UTC, "USD", counts_orders=True, identity_secret=None, is_import=True
    )
    for record in source.records():
        if record.event is None:
            kept_back = _kept_back(record, record.code, record.reason)
        else:
            parsed: Any = wire.parsed(record.event.encode("utf-8", "surrogatepass"))
            event = rules.read(parsed, 0, {}, may_be_large=True)
            if not isinstance(event, Rejection):
                trial.example = trial.example or record.event
                trial.events[str(parsed.get("event") or parsed.get("name") or event.type)] += 1
                if event.day:
                    trial.first_day = min(trial.first_day or event.day, event.day)
                    trial.last_day = max(trial.last_day or event.day, event.day)
                continue
            kept_back = _kept_back(record, event.code, event.reason)
        trial.kept_back += 1
        yield kept_back
