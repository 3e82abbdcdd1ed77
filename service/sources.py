"""A file to import: NDJSON, or CSV under a mapping, read line by line into records that each have a messageId.

An event without one gets one made of its line and of how many equal lines came before, so the same file read again has
the same ids, and two equal lines are two events.
"""

import codecs
import contextlib
import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from . import wire
from .columns import Columns, MappingError, has_message_id
from .problems import InvalidJson
from .records import CannotImportError, Line, Record

# A line that could not be sent alone.
LINE_BYTES_MAX = wire.BODY_BYTES_MAX


_GZIP = b"\x1f\x8b"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def require_regular(path: Path) -> None:
    """An import reads a file from its beginning, several times. Raises CannotImportError."""
    if not path.is_file():
        raise CannotImportError(
            f"{path} is no regular file: an import reads it more than once. Write it to a file first."
        )


def inner_suffix(path: Path) -> str:
    """What the name says of the content: `.csv` of `orders.csv.gz`, too."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


@dataclass
class Source:
    """A file of events, compressed with gzip or not. With `columns` it is CSV, else an event is a line of JSON."""

    path: Path
    columns: Columns | None = None
    # Bytes of the file that were read, for the progress: nothing else rests on it.
    offset: int = 0

    def check(self) -> None:
        """Look before anything is sent. Raises CannotImportError."""
        with self._opened() as (_, file):
            beginning = file.read(64)
        if self.columns is None:
            if beginning.startswith(_UTF_16):
                raise CannotImportError(f"{self.path} is in UTF-16, and NDJSON is UTF-8.")
            if beginning.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                raise CannotImportError(
                    f"{self.path} is one JSON array, and NDJSON has an event a line: jq -c '.[]' makes it so."
                )
            return
        # Without its mark it has a zero in every other byte of plain English.
        is_utf_16 = beginning.startswith(_UTF_16) or b"\0" in beginning
        if is_utf_16 and not codecs.lookup(self.columns.encoding).name.startswith(("utf-16", "utf-32")):
            raise CannotImportError(
                f'{self.path} looks like UTF-16, which the mapping has to say: [csv], encoding = "utf-16"'
            )
        if self.columns.group_by:
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

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """The file as it lies there, and what is in it: the same, unless it is compressed."""
        with self.path.open("rb") as file:
            is_compressed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            if not is_compressed:
                yield file, file
                return
            try:
                with gzip.GzipFile(fileobj=file) as inside:
                    yield file, cast(BinaryIO, inside)
            except EOFError:
                raise CannotImportError(
                    f"{self.path} ends too early for a gzip file: it was cut off."
                ) from None
            except (gzip.BadGzipFile, zlib.error):
                raise CannotImportError(f"{self.path} is a damaged gzip file.") from None

    def _read(self) -> Iterator[Record]:
        with self._opened() as (raw, file):
            if self.columns is None:
                yield from self._objects(raw, file)
                return
            header, lines = self._lines(raw, file, self.columns)
            yield from self.columns.records(header, lines)

    def _objects(self, raw_file: BinaryIO, file: BinaryIO) -> Iterator[Record]:
        number = 0
        while raw := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            is_whole = len(raw) <= LINE_BYTES_MAX
            rest = raw
            while not is_whole and rest and not rest.endswith(b"\n"):
                rest = file.readline(LINE_BYTES_MAX)
            self.offset = raw_file.tell()
            if not is_whole:
                text = raw.decode("utf-8", "replace")
                reason = f"a line has at most {LINE_BYTES_MAX} bytes"
                yield Record(number, text, code="event_too_large", reason=reason)
            elif content := (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).strip():
                yield _object(number, content)

    def _lines(self, raw: BinaryIO, file: BinaryIO, columns: Columns) -> tuple[Sequence[str], Iterator[Line]]:
        # What is not in the encoding becomes surrogates, so that it spoils its own line alone.
        text = io.TextIOWrapper(file, columns.encoding, errors="surrogateescape", newline="")
        delimiter = columns.delimiter or ("\t" if inner_suffix(self.path) == ".tsv" else ",")
        lines = self._cells(raw, text, delimiter)
        header = next(lines, None)
        if header is None or header.flaw:
            flaw = f": {header.flaw}" if header and header.flaw else ""
            raise CannotImportError(f"{self.path} has no line with the columns' names{flaw}.")
        names = [name.strip() for name in header.cells]
        try:
            columns.check_header(names)
        except MappingError as error:
            raise CannotImportError(f"The mapping does not fit {self.path}: {error}.") from None
        return names, (_filled_up(line, names) for line in lines)

    def _cells(self, raw: BinaryIO, text: TextIO, delimiter: str) -> Iterator[Line]:
        physical = _PhysicalLines(text)
        # Strict, as a quotation mark that is never closed would take the rest of the file into one cell.
        reader = csv.reader(physical, delimiter=delimiter, strict=True)
        number = 1
        while True:
            cells, flaw = self._next(reader, text)
            if cells is None and flaw is None:
                return
            content = "".join(physical.taken).rstrip("\r\n")
            if flaw is None and any("\ud800" <= character <= "\udfff" for character in content):
                flaw = f"not in the encoding {text.encoding}"
            self.offset = raw.tell()
            count = len(physical.taken)
            if flaw and count > 1:
                flaw = f"{flaw} (lines {number} to {number + count - 1})"
            if content.strip() or flaw:
                yield Line(number, content, cells or (), flaw)
            number += count
            physical.taken.clear()

    def _next(self, reader: Iterator[list[str]], text: TextIO) -> tuple[list[str] | None, str | None]:
        try:
            return next(reader, None), None
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None, "no CSV: a quotation mark is not closed"
            if "field larger" in str(error):
                return None, "no CSV: a quotation mark is not closed, or a cell is too long"
            return None, f"no CSV: {error}"
        except _TooLongError as error:
            return None, str(error)
        except UnicodeError:
            raise CannotImportError(f"{self.path} is not in the encoding {text.encoding}.") from None

    def _check_groups(self, columns: Columns) -> None:
        """An event whose lines are apart would be sent twice, in parts. Nothing is sent of such a file."""
        seen: set[bytes] = set()
        current: tuple[str, ...] | None = None
        with self._opened() as (raw, file):
            header, lines = self._lines(raw, file, columns)
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


class _TooLongError(Exception):
    """A line that is read to its end and not kept."""


class _PhysicalLines:
    """The lines of a text as an editor numbers them. `taken` are those since somebody cleared it."""

    def __init__(self, text: TextIO) -> None:
        self.taken: list[str] = []
        self._text = text

    def __iter__(self) -> "_PhysicalLines":
        return self

    def __next__(self) -> str:
        """Raises _TooLongError, and goes on after it."""
        line = self._text.readline(LINE_BYTES_MAX + 1)
        if not line:
            raise StopIteration
        self.taken.append(line)
        if len(line) > LINE_BYTES_MAX:
            while line and not line.endswith(("\n", "\r")):
                line = self._text.readline(LINE_BYTES_MAX)
            raise _TooLongError(f"a line has at most {LINE_BYTES_MAX} characters")
        return line


def _filled_up(line: Line, names: Sequence[str]) -> Line:
    """Spreadsheets write delimiters for columns that have no name, and leave them out in some of the lines."""
    missing = names[len(line.cells) :]
    if line.flaw or not missing or any(missing):
        return line
    return replace(line, cells=[*line.cells, *missing])


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
    return Record(number, text, text, has_message_id=has_message_id(event))


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
