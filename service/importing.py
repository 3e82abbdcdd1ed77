"""`python -m service import`: a file of events, sent to the API batch by batch, each line once.

A client like any other: it knows the service's limits and speaks HTTP. An event without a messageId gets one made of
its line and of how many equal lines came before, so the same file sent again changes nothing and two equal lines are
two events. The checkpoint beside the file only spares what was sent already; losing it costs time and nothing else.
"""

import codecs
import csv
import gzip
import hashlib
import http.client
import io
import json
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import urlsplit

import urllib3

from . import __version__, wire
from .columns import Columns, Line, MappingError, Record
from .events import Rejection, Rules
from .problems import InvalidJson

# What surrounds the events of a body.
_HEAD, _TAIL = '{"batch":[', "]}"
BATCH_BYTES_MAX = wire.BODY_BYTES_MAX - len(_HEAD) - len(_TAIL)
# A line that could not be sent alone. Of what is kept back so much is repeated.
LINE_BYTES_MAX = wire.BODY_BYTES_MAX
CONTENT_CHARACTERS_MAX = 64 * 1024
BEGINNING_BYTES = 64 * 1024

CONNECT_TIMEOUT_SECONDS = 10
# The function has 30 s at most behind API Gateway.
READ_TIMEOUT_SECONDS = 60
WAIT_SECONDS_MAX = 30
NOTICE_SECONDS = 10
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Say = Callable[[str], None]


class CannotImportError(Exception):
    """One line that says what to do."""


@dataclass
class Totals:
    """What became of the lines so far."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    bad_lines: int = 0
    wru: float = 0
    rru: float = 0
    is_estimated: bool = False
    # Requests sent again: what their first try had counted is among the duplicates.
    resent: int = 0

    @property
    def kept_back(self) -> int:
        """Lines that did not go in."""
        return self.rejected + self.bad_lines


@dataclass(frozen=True)
class KeptBack:
    """A line that did not go in, and why."""

    line: int
    code: str
    reason: str
    content: str

    def json(self) -> str:
        """A line of the file of these."""
        return json.dumps({**asdict(self), "content": self.content[:CONTENT_CHARACTERS_MAX]}) + "\n"


@dataclass(frozen=True)
class Progress:
    """Where the import is. `kept_back` is what was since the last one."""

    offset: int
    line: int
    totals: Totals
    kept_back: Sequence[KeptBack] = ()


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass
class Source:
    """A file of events. With `columns` it is CSV, else an event is a line of JSON."""

    path: Path
    columns: Columns | None = None
    # Bytes read, for the progress: nothing else rests on it.
    offset: int = 0

    def check(self) -> None:
        """Look before anything is sent. Raises CannotImportError."""
        if self.columns is None:
            with self.path.open("rb") as file:
                if file.read(16).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                    raise CannotImportError(
                        f"{self.path} is one JSON array, and NDJSON has an event a line: jq -c '.[]' makes it so."
                    )
        elif self.columns.group_by:
            self._check_groups(self.columns)
        else:
            next(iter(self.records()), None)

    def records(self) -> Iterator[Record]:
        """Each event, in the file's order, with a messageId of its own. Raises CannotImportError."""
        numbered = _Occurrences()
        for record in self._read():
            if record.event is None or record.has_message_id:
                yield record
            else:
                yield _with_message_id(record, numbered.message_id(record.content))

    def _read(self) -> Iterator[Record]:
        with self.path.open("rb") as file:
            if self.columns is None:
                yield from self._objects(file)
                return
            header, lines = self._lines(file, self.columns)
            yield from self.columns.records(header, lines)

    def _objects(self, file: BinaryIO) -> Iterator[Record]:
        number = 0
        while raw := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            is_whole = len(raw) <= LINE_BYTES_MAX
            rest = raw
            while not is_whole and rest and not rest.endswith(b"\n"):
                rest = file.readline(LINE_BYTES_MAX)
            self.offset = file.tell()
            if not is_whole:
                text = raw.decode("utf-8", "replace")
                reason = f"a line has at most {LINE_BYTES_MAX} bytes"
                yield Record(number, text, code="event_too_large", reason=reason)
            elif content := (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).strip():
                yield _object(number, content)

    def _lines(self, file: BinaryIO, columns: Columns) -> tuple[Sequence[str], Iterator[Line]]:
        # What is not in the encoding becomes surrogates, so that it spoils its own line alone.
        text = io.TextIOWrapper(file, columns.encoding, errors="surrogateescape", newline="")
        lines = self._cells(file, text, columns.delimiter)
        header = next(lines, None)
        if header is None or header.flaw:
            raise CannotImportError(f"{self.path} has no line with the columns' names.")
        names = [name.strip() for name in header.cells]
        try:
            columns.check_header(names)
        except MappingError as error:
            raise CannotImportError(f"The mapping does not fit {self.path}: {error}.") from None
        return names, lines

    def _cells(self, file: BinaryIO, text: TextIO, delimiter: str) -> Iterator[Line]:
        taken: list[str] = []

        def physical() -> Iterator[str]:
            while line := text.readline(LINE_BYTES_MAX):
                taken.append(line)
                yield line

        reader = csv.reader(physical(), delimiter=delimiter)
        number = 1
        while True:
            cells, flaw = self._next(reader, text)
            if cells is None and flaw is None:
                return
            content = "".join(taken).rstrip("\r\n")
            if flaw is None and any("\ud800" <= character <= "\udfff" for character in content):
                flaw = f"not in the encoding {text.encoding}"
            self.offset = file.tell()
            if content.strip() or flaw:
                yield Line(number, content, cells or (), flaw)
            number += len(taken)
            taken.clear()

    def _next(self, reader: Iterator[list[str]], text: TextIO) -> tuple[list[str] | None, str | None]:
        try:
            return next(reader, None), None
        except csv.Error as error:
            return None, f"no CSV: {error}"
        except UnicodeError:
            raise CannotImportError(f"{self.path} is not in the encoding {text.encoding}.") from None

    def _check_groups(self, columns: Columns) -> None:
        """An event whose lines are apart would be sent twice, in parts. Nothing is sent of such a file."""
        seen: set[bytes] = set()
        current: tuple[str, ...] | None = None
        with self.path.open("rb") as file:
            header, lines = self._lines(file, columns)
            for line in lines:
                group = columns.group_of(header, line)
                if group is None or group == current:
                    continue
                current, digest = group, _digest("\x1f".join(group), 8)
                if digest in seen:
                    raise CannotImportError(
                        f"{self.path}, line {line.number}: {', '.join(columns.group_by)} was there before, further up. "
                        "Lines of one event follow each other: sort the file by it."
                    )
                seen.add(digest)


def _object(number: int, raw: bytes) -> Record:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return Record(number, raw.decode("utf-8", "replace"), code="invalid_json", reason="not UTF-8")
    try:
        event = wire.parsed(raw)
    except InvalidJson as problem:
        reason = "nested too deeply" if "deep" in problem.detail else "not JSON"
        return Record(number, text, code="invalid_json", reason=reason)
    if not isinstance(event, dict):
        return Record(number, text, code="invalid_event", reason="an event is an object")
    # As sent: what has been through a parser may not be the same number any more.
    return Record(number, text, text, has_message_id=event.get("messageId") not in (None, ""))


def _with_message_id(record: Record, message_id: str) -> Record:
    """Put at the end: where a name comes twice, the last one counts."""
    assert record.event is not None
    members = record.event.removesuffix("}").rstrip()
    comma = "" if members.endswith("{") else ","
    return Record(
        record.line, record.content, f'{members}{comma}"messageId":"{message_id}"}}', has_message_id=True
    )


class _Occurrences:
    """How often each line came so far: eight bytes stand for a line."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._again: Counter[int] = Counter()

    def message_id(self, content: str) -> str:
        """The same for the same line at the same turn, in every file."""
        short = int.from_bytes(_digest(content, 8), "big")
        if short in self._seen:
            self._again[short] += 1
        self._seen.add(short)
        again = self._again.get(short, 0)
        return f"import-{_digest(content, 16).hex()}-{again + 1}"


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


# --- the checkpoint -------------------------------------------------------------------------------------------------


@dataclass
class Checkpoint:
    """How far an import came. Of another file, mapping or service it is none."""

    path: Path
    size: int
    beginning: str
    target: str
    records: int = 0
    line: int = 0
    offset: int = 0
    kept_back_bytes: int = 0
    totals: Totals = field(default_factory=Totals)

    @classmethod
    def of(cls, source: Path, target: str) -> "Checkpoint":
        """That of an import that has not begun."""
        with source.open("rb") as file:
            beginning = hashlib.sha256(file.read(BEGINNING_BYTES)).hexdigest()
        path = source.with_name(source.name + ".footfall.json")
        return cls(path, source.stat().st_size, beginning, hashlib.sha256(target.encode()).hexdigest())

    def resume(self) -> bool:
        """Take over what is written, if it is of the same import. Answers whether it was."""
        try:
            written = json.loads(self.path.read_text(encoding="utf-8"))
            if any(written[name] != getattr(self, name) for name in ("size", "beginning", "target")):
                return False
            records, line, offset = (int(written[name]) for name in ("records", "line", "offset"))
            kept_back_bytes, totals = int(written["kept_back_bytes"]), Totals(**written["totals"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        self.records, self.line, self.offset = records, line, offset
        self.kept_back_bytes, self.totals = kept_back_bytes, totals
        return True

    def write(self) -> None:
        """Whole or not at all."""
        written = self.path.with_name(self.path.name + ".partial")
        facts = {name: value for name, value in asdict(self).items() if name != "path"}
        written.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        written.replace(self.path)


# --- sending --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A reply that decides: 200, or a 4xx that sending again would not change."""

    status: int
    body: Mapping[str, Any]


class Api:
    """The way to POST /v1/import. Tries again for `patience` seconds where that may help."""

    def __init__(self, url: str, key: str, patience: float, say: Say) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise CannotImportError(f"{url} is no address: --url https://… or http://127.0.0.1:8000")
        if not key.isascii() or not key.isprintable():
            raise CannotImportError("The key holds what no key of Footfall's does.")
        self.url = url.rstrip("/")
        self._patience = patience
        self._say = say
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Accept": "application/json",
            "User-Agent": f"Footfall-Import/{__version__}",
        }
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS)
        proxy = _proxy(url)
        self._pool = (
            urllib3.ProxyManager(proxy, timeout=timeout) if proxy else urllib3.PoolManager(timeout=timeout)
        )

    def post(self, body: str, totals: Totals) -> Answer:
        """One request, as often as it takes. Raises CannotImportError."""
        compressed = gzip.compress(body.encode(), 6)
        last_answer = last_notice = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            reply, trouble = self._request(compressed)
            if reply is not None:
                _add_capacity(totals, reply.headers.get("Footfall-Capacity"))
                if reply.status not in (408, 425, 429) and reply.status < 500:
                    return self._answer(reply)
            now = time.monotonic()
            wait = _wait(attempt, None if reply is None else reply.headers.get("Retry-After"))
            if now - last_answer + wait > self._patience:
                raise CannotImportError(f"{self.url} {trouble}.")
            if attempt == 1 or now - last_notice > NOTICE_SECONDS:
                last_notice = now
                self._say(f"{self.url} {trouble}; trying again …")
            totals.resent += 1
            time.sleep(wait)

    def _request(self, body: bytes) -> tuple[urllib3.BaseHTTPResponse | None, str]:
        try:
            reply = self._pool.request(
                "POST",
                f"{self.url}/v1/import",
                body=body,
                headers=self._headers,
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.LocationParseError:
            raise CannotImportError(f"{self.url} is no address.") from None
        except urllib3.exceptions.NewConnectionError:
            return None, "does not answer: nothing listens there"
        except urllib3.exceptions.SSLError as error:
            raise CannotImportError(
                f"{self.url} has no certificate that this machine trusts: {error}."
            ) from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            return None, f"does not answer ({type(error).__name__})"
        return reply, f"answers {reply.status}"

    def _answer(self, reply: urllib3.BaseHTTPResponse) -> Answer:
        if reply.status == 401:
            raise CannotImportError(
                f"{self.url} does not know this key (401). Put the secret key into FOOTFALL_SECRET_KEY."
            )
        if reply.status == 403:
            raise CannotImportError(
                f"{self.url} refuses this key (403): it is a write key, and an import needs the secret one."
            )
        try:
            body = json.loads(reply.data)
        except ValueError:
            body = None
        if (reply.status == 200 and _is_decided(body)) or (
            reply.status in (400, 413, 422) and _is_problem(body)
        ):
            return Answer(reply.status, body)
        raise CannotImportError(
            f"{self.url} answers {reply.status}, and not as Footfall does. Is it the right --url?"
        )


def _is_decided(body: Any) -> bool:
    try:
        counts = [int(body[name]) for name in ("accepted", "duplicates", "rejectedCount")]
        return (
            min(counts + [int(one["index"]) for one in body["rejected"] if one["code"] and one["reason"]])
            >= 0
        )
    except (KeyError, TypeError, ValueError):
        return False


def _is_problem(body: Any) -> bool:
    return isinstance(body, dict) and {"code", "detail"} <= body.keys()


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK or urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _wait(attempt: int, retry_after: str | None) -> float:
    asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    backoff: float = min(WAIT_SECONDS_MAX, 0.5 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
    return max(min(asked, 2 * WAIT_SECONDS_MAX), backoff)


def _add_capacity(totals: Totals, header: str | None) -> None:
    for part in (header or "").split(","):
        name, _, number = part.strip().partition("=")
        try:
            if name == "wru":
                totals.wru += float(number)
            elif name == "rru":
                totals.rru += float(number)
            elif name == "estimated":
                totals.is_estimated = True
        except ValueError:
            continue


@dataclass
class Sender:
    """Sends batches and says what of them did not go in."""

    api: Api
    totals: Totals

    def send(self, records: Sequence[Record]) -> list[KeptBack]:
        """Have each of these events decided. Raises CannotImportError."""
        if not records:
            return []
        answer = self.api.post(
            _HEAD + ",".join(record.event or "" for record in records) + _TAIL, self.totals
        )
        if answer.status == 200:
            self.totals.accepted += int(answer.body["accepted"])
            self.totals.duplicates += int(answer.body["duplicates"])
            rejected = self._rejected(records, answer.body)
            self.totals.rejected += len(rejected)
            return rejected
        if len(records) > 1:
            # One of them spoils it for all.
            middle = len(records) // 2
            return self.send(records[:middle]) + self.send(records[middle:])
        self.totals.rejected += 1
        return [_kept_back(records[0], str(answer.body["code"]), str(answer.body["detail"]))]

    def _rejected(self, records: Sequence[Record], body: Mapping[str, Any]) -> list[KeptBack]:
        listed = [one for one in body["rejected"] if 0 <= int(one["index"]) < len(records)]
        found = [
            _kept_back(records[int(one["index"])], str(one["code"]), str(one["reason"])) for one in listed
        ]
        unlisted = int(body["rejectedCount"]) - len(found)
        rest = records[int(listed[-1]["index"]) + 1 :] if listed else ()
        if unlisted > 0 and rest:
            # A reply lists the first hundred. The rest is asked for by sending it again, which counts nothing twice.
            answer = self.api.post(
                _HEAD + ",".join(record.event or "" for record in rest) + _TAIL, self.totals
            )
            if answer.status == 200:
                more = self._rejected(rest, answer.body)
                found += more
                # Whatever is not refused any more went in.
                self.totals.accepted += max(0, unlisted - len(more))
        return found


def _kept_back(record: Record, code: str, reason: str) -> KeptBack:
    return KeptBack(record.line, code, reason, record.content)


# --- the import -----------------------------------------------------------------------------------------------------


def import_file(source: Source, api: Api, checkpoint: Checkpoint, kept_back_path: Path) -> Iterator[Progress]:
    """Send the file from the checkpoint on, and say after each batch how far it is. Raises CannotImportError."""
    totals = checkpoint.totals
    sender = Sender(api, totals)
    # What was written after the checkpoint comes again.
    with kept_back_path.open("ab") as file:
        file.truncate(min(checkpoint.kept_back_bytes, file.tell()))
    read, skipped = 0, checkpoint.records
    for records in _batches(source.records()):
        read += len(records)
        if read <= skipped:
            continue
        records = records[max(0, len(records) - (read - skipped)) :]
        kept_back = [
            _kept_back(record, record.code, record.reason) for record in records if record.event is None
        ]
        totals.bad_lines += len(kept_back)
        kept_back += sender.send([record for record in records if record.event is not None])
        kept_back.sort(key=lambda one: one.line)
        with kept_back_path.open("ab") as file:
            file.writelines(one.json().encode() for one in kept_back)
            checkpoint.kept_back_bytes = file.tell()
        checkpoint.records, checkpoint.line, checkpoint.offset = read, records[-1].line, source.offset
        checkpoint.write()
        yield Progress(source.offset, records[-1].line, totals, kept_back)
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
