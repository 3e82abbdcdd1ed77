"""A shop's CSV lines as events: the mapping that `python -m service import` reads, in TOML.

No file is opened here and no clock is asked: text in, events out. The language is described in docs/import.md.
"""

import decimal
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from . import money

# A group is held in memory until its last line has come.
GROUP_LINES_MAX = 100_000
# What does not fit so many digits is refused, not rounded.
_EXACT = decimal.Context(prec=400, traps=[*decimal.DefaultContext.traps, decimal.Inexact])

_DOUBTFUL = "the line before it cannot be read, and may have held a part of it"

Row = Mapping[str, str]
Json = dict[str, Any]


class MappingError(ValueError):
    """The mapping is wrong, or does not fit the file; the message names the place in it."""


class LineError(ValueError):
    """A line that makes no event. `index` is its place among the lines of its event."""

    def __init__(self, reason: str, index: int = 0) -> None:
        super().__init__(reason)
        self.index = index


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: its number, its text, and its cells, or why it has none."""

    number: int
    text: str
    cells: Sequence[str] = ()
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One event of a file, or why there is none. `line` is the number of its first line, `content` all its text."""

    line: int
    content: str
    event: str | None = None
    has_message_id: bool = False
    code: str = ""
    reason: str = ""


class Value(Protocol):
    """What a field of the mapping comes to, given the lines of an event. None leaves the field out."""

    def __call__(self, rows: Sequence[Row]) -> object:
        """Raises LineError."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The same for every event."""

    value: object

    def __call__(self, rows: Sequence[Row]) -> object:  # noqa: ARG002 - a Value
        """Itself."""
        return self.value


@dataclass(frozen=True, slots=True)
class Template:
    """Text with columns in it, of the first line. Nothing where one of its columns is empty."""

    # Text, column, text, column, … text.
    parts: tuple[str, ...]

    def __call__(self, rows: Sequence[Row]) -> str | None:
        """The text."""
        text = ""
        for position, part in enumerate(self.parts):
            if position % 2 == 0:
                text += part
            elif not (cell := rows[0][part]):
                return None
            else:
                text += cell
        return text or None


@dataclass(frozen=True, slots=True)
class Matched:
    """The part of a text that a pattern matches: its first group, or all of the match."""

    source: Template
    pattern: re.Pattern[str]

    def __call__(self, rows: Sequence[Row]) -> str | None:
        """The part."""
        text = self.source(rows)
        if text is None:
            return None
        match = self.pattern.search(text)
        if match is None:
            raise LineError(f"nothing in {_named(self.source)} matches {self.pattern.pattern}")
        return match[1 if self.pattern.groups else 0] or None


@dataclass(frozen=True, slots=True)
class Shaping:
    """What is done to a number before it is sent."""

    negate: bool = False
    absolute: bool = False
    at_least: Decimal | None = None

    def __call__(self, number: Decimal) -> Decimal:
        """The number, shaped. The sign is a copy: arithmetic would round."""
        number = number.copy_negate() if self.negate and number else number
        number = number.copy_abs() if self.absolute else number
        return number if self.at_least is None else max(number, self.at_least)


@dataclass(frozen=True, slots=True)
class Number:
    """A text that is a number. Whole ones are sent as numbers, others as text, which nothing rounds."""

    source: Template
    shaping: Shaping
    decimal_sign: str

    def __call__(self, rows: Sequence[Row]) -> int | str | None:
        """The number."""
        text = self.source(rows)
        if text is None:
            return None
        return _number(self.shaping(_decimal(text, _named(self.source), self.decimal_sign)))


@dataclass(frozen=True, slots=True)
class Sum:
    """Over all lines of the event, the product of these columns. Sent as text, which nothing rounds."""

    columns: tuple[str, ...]
    shaping: Shaping
    decimal_sign: str

    def __call__(self, rows: Sequence[Row]) -> str:
        """The amount."""
        total = Decimal(0)
        for index, row in enumerate(rows):
            try:
                product = Decimal(1)
                for column in self.columns:
                    product *= _decimal(row[column], column, self.decimal_sign)
                total += product
            except LineError as error:
                raise LineError(str(error), index) from None
        return format(self.shaping(total), "f")


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant in a format of strptime's, as ISO 8601."""

    source: Template
    format: str | None
    zone: tzinfo

    def __call__(self, rows: Sequence[Row]) -> str | None:
        """The timestamp."""
        text = self.source(rows)
        if text is None:
            return None
        try:
            instant = self._read(text)
        except (ValueError, OverflowError, ArithmeticError):
            wanted = self.format or "ISO 8601"
            raise LineError(f"{_named(self.source)} is no time in the format {wanted}") from None
        return instant.isoformat()

    def _read(self, text: str) -> datetime:
        if self.format in ("unix", "unix_ms"):
            seconds = money.number(text) / (1000 if self.format == "unix_ms" else 1)
            return datetime.fromtimestamp(float(seconds), UTC)
        read = datetime.fromisoformat
        # Given a zone here, unless the text has one of its own.
        instant = read(text) if self.format is None else datetime.strptime(text, self.format)  # noqa: DTZ007
        return instant if instant.tzinfo else instant.replace(tzinfo=self.zone)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event: which lines make it, and from what its fields come."""

    conditions: tuple[tuple[str, re.Pattern[str]], ...]
    is_skipped: bool
    fields: Mapping[str, Value]
    properties: Mapping[str, Value]
    context: Mapping[str, Value]
    products: Mapping[str, Value]

    def matches(self, row: Row) -> bool:
        """Whether lines like this one make it."""
        return all(pattern.search(row[column]) for column, pattern in self.conditions)

    def event(self, rows: Sequence[Row]) -> Json:
        """The event. Raises LineError."""
        event = _present(self.fields, rows)
        fallback = event.pop("fallbackAnonymousId", None)
        if fallback is not None and "userId" not in event:
            event.setdefault("anonymousId", fallback)
        properties = _present(self.properties, rows)
        if self.products:
            properties["products"] = [self._product(row, index) for index, row in enumerate(rows)]
        if properties:
            event["properties"] = properties
        if context := _present(self.context, rows):
            event["context"] = context
        return event

    def _product(self, row: Row, index: int) -> Json:
        try:
            return _present(self.products, [row])
        except LineError as error:
            raise LineError(str(error), index) from None


@dataclass(frozen=True)
class Columns:
    """A mapping: how the file is written, which lines make one event, and of which kind it is."""

    kinds: Sequence[Kind]
    group_by: tuple[str, ...]
    columns: frozenset[str]
    encoding: str
    delimiter: str

    def check_header(self, header: Sequence[str]) -> None:
        """Raises MappingError for a header that lacks a column or has one twice."""
        if len(set(header)) != len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise MappingError(f"the file has more than one column {', '.join(twice)}")
        if missing := sorted(self.columns - set(header)):
            raise MappingError(
                f"the file has no column {', '.join(missing)}; it has {', '.join(name or '(empty)' for name in header)}"
            )

    def group_of(self, header: Sequence[str], line: Line) -> tuple[str, ...] | None:
        """What the lines of an event have in common; None for a line of which it cannot be said."""
        try:
            group = tuple(line.cells[header.index(column)].strip() for column in self.group_by)
        except IndexError:
            return None
        return group if any(group) else None

    def records(self, header: Sequence[str], lines: Iterable[Line]) -> Iterator[Record]:
        """The events of the lines, in their order. Lines of one event follow each other."""
        for group in self._groups(header, lines):
            record = self._record(header, group)
            if record is not None:
                yield record

    def _groups(self, header: Sequence[str], lines: Iterable[Line]) -> Iterator[list[Line]]:
        held: list[Line] = []
        held_group: tuple[str, ...] | None = None
        is_doubtful = False
        for line in lines:
            group = self.group_of(header, line) if self.group_by else None
            # A line that does not say where it belongs may belong to the lines before it: they are kept back with it.
            belongs = bool(self.group_by and held) and (group == held_group or group is None)
            if held and (not belongs or len(held) > GROUP_LINES_MAX):
                yield held
                held = []
            if not held:
                held_group = group
                if is_doubtful and self.group_by:
                    line = replace(line, flaw=_DOUBTFUL)
            # A quotation mark that is never closed takes whole lines with it, also of the event that follows.
            is_doubtful = len(line.cells) != len(header) and (group is None or "\n" in line.text)
            held.append(line)
        if held:
            yield held

    def _record(self, header: Sequence[str], lines: Sequence[Line]) -> Record | None:
        number, content = lines[0].number, "\n".join(line.text for line in lines)
        try:
            with decimal.localcontext(_EXACT):
                event = self._event([self._row(header, line, index) for index, line in enumerate(lines)])
        except LineError as error:
            at = lines[error.index].number
            reason = str(error) if len(lines) == 1 else f"line {at}: {error}"
            return Record(number, content, code="bad_columns", reason=reason)
        except ArithmeticError:
            return Record(number, content, code="bad_columns", reason="an amount has too many digits")
        if event is None:
            return None
        text = json.dumps(event, separators=(",", ":"))
        return Record(number, content, text, has_message_id="messageId" in event)

    def _row(self, header: Sequence[str], line: Line, index: int) -> Row:
        if line.flaw:
            raise LineError(line.flaw, index)
        if len(line.cells) != len(header):
            raise LineError(f"{len(line.cells)} columns where the header has {len(header)}", index)
        row = {name: cell.strip() for name, cell in zip(header, line.cells, strict=True)}
        if self.group_by and not any(row[column] for column in self.group_by):
            raise LineError(f"{', '.join(self.group_by)} is empty", index)
        return row

    def _event(self, rows: Sequence[Row]) -> Json | None:
        if len(rows) > GROUP_LINES_MAX:
            raise LineError(f"an event has at most {GROUP_LINES_MAX} lines")
        for kind in self.kinds:
            if kind.matches(rows[0]):
                return None if kind.is_skipped else kind.event(rows)
        raise LineError("no [[event]] of the mapping is for this line")


def read_mapping(text: str) -> Columns:
    """The mapping of a TOML text. Raises MappingError."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(str(error)) from None
    return _Reader().read(document)


_FIELDS = (
    "type",
    "event",
    "messageId",
    "userId",
    "anonymousId",
    "fallbackAnonymousId",
    "previousId",
    "timestamp",
)
_TABLES = ("properties", "context", "products")
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass
class _Reader:
    """Reads a mapping, and remembers the columns it names."""

    columns: set[str] = field(default_factory=set)
    decimal_sign: str = "."

    def read(self, document: Json) -> Columns:
        shape = _table(document.pop("csv", {}), "csv", {"encoding", "delimiter", "decimal"})
        for name, value in shape.items():
            if not isinstance(value, str):
                raise MappingError(f"csv.{name} is a text")
        self.decimal_sign = shape.get("decimal", ".")
        delimiter, encoding = shape.get("delimiter", ","), shape.get("encoding", "utf-8-sig")
        if len(delimiter) != 1 or self.decimal_sign not in (".", ","):
            raise MappingError("csv.delimiter is one character, and csv.decimal is . or ,")
        try:
            "".encode(encoding)
        except LookupError:
            raise MappingError(f"csv.encoding: {encoding} is unknown") from None
        group_by = self._group_by(document.pop("group_by", []))
        kinds = document.pop("event", None)
        if not isinstance(kinds, list):
            # A name, or nothing: then the top of the file is the only kind.
            kinds, document = [{}], document | ({} if kinds is None else {"event": kinds})
        if not kinds:
            raise MappingError("event: at least one kind")
        return Columns(
            [self._kind(document, own, f"event {number}") for number, own in enumerate(kinds, 1)],
            group_by,
            frozenset(self.columns),
            encoding,
            delimiter,
        )

    def _group_by(self, value: object) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise MappingError("group_by is a column or a list of columns")
        self.columns.update(names)
        return tuple(names)

    def _kind(self, shared: Json, own: object, where: str) -> Kind:
        """What an [[event]] does not say, the top of the file says."""
        known = {*_FIELDS, *_TABLES, "when", "skip"}
        own = _table(own, where, known)
        shared = _table(shared, "the mapping", known - {"when", "skip"})
        merged: Json = {"type": "track"} | shared | own
        for name in _TABLES:
            merged[name] = _table(shared.get(name, {}), name) | _table(own.get(name, {}), name)
        skip = merged.get("skip", False)
        if not isinstance(skip, bool):
            raise MappingError(f"{where}: skip is true or false")
        if not skip and "timestamp" not in merged:
            raise MappingError(f"{where}: timestamp is missing")
        return Kind(
            tuple(
                (self._column(column), _pattern(pattern, f"{where}: when.{column}"))
                for column, pattern in _table(merged.get("when", {}), "when").items()
            ),
            skip,
            {
                name: self._moment(merged[name]) if name == "timestamp" else self._value(merged[name], name)
                for name in _FIELDS
                if name in merged
            },
            *(
                {key: self._value(value, f"{name}.{key}") for key, value in merged[name].items()}
                for name in _TABLES
            ),
        )

    def _column(self, name: str) -> str:
        self.columns.add(name)
        return name

    def _value(self, spec: object, where: str) -> Value:
        if isinstance(spec, str):
            return self._template(spec, where)
        if isinstance(spec, Decimal):
            return Constant(_number(spec))
        if isinstance(spec, bool | int):
            return Constant(spec)
        shaping = {"negate", "absolute", "min"}
        table = _table(spec, where, {"value", "match", "number", "sum", *shaping})
        if "sum" in table:
            _table(spec, where, {"sum", *shaping})
            columns = table["sum"]
            if not isinstance(columns, list) or not columns or not all(isinstance(c, str) for c in columns):
                raise MappingError(f"{where}: sum is a list of columns")
            self.columns.update(columns)
            return Sum(tuple(columns), _shaping(table, where), self.decimal_sign)
        source = self._template(table.get("value"), f"{where}: value")
        if "match" in table:
            _table(spec, where, {"value", "match"})
            return Matched(source, _pattern(table["match"], f"{where}: match"))
        if table.get("number") is True:
            return Number(source, _shaping(table, where), self.decimal_sign)
        raise MappingError(f"{where}: a table has sum, or value with match or number = true")

    def _moment(self, spec: object) -> Value:
        if isinstance(spec, str):
            return self._template(spec, "timestamp")
        table = _table(spec, "timestamp", {"value", "format", "timezone"})
        shape, zone = table.get("format"), table.get("timezone", "UTC")
        if not isinstance(shape, str | None) or not isinstance(zone, str):
            raise MappingError("timestamp: format and timezone are texts")
        try:
            known_zone = ZoneInfo(zone)
        except (ValueError, OSError, LookupError):
            raise MappingError(f"timestamp: there is no time zone {zone}") from None
        return Moment(self._template(table.get("value"), "timestamp: value"), shape, known_zone)

    def _template(self, text: object, where: str) -> Template:
        if not isinstance(text, str):
            raise MappingError(f"{where} is a text, with {{Column}} where a column goes")
        parts, end = [""], 0
        for token in [*_TOKEN.finditer(text), None]:
            literal = text[end : token.start() if token else None]
            if "{" in literal or "}" in literal:
                raise MappingError(f"{where}: write {{{{ and }}}} for braces that name no column")
            parts[-1] += literal
            if token and token[1]:
                self.columns.add(token[1])
                parts += [token[1], ""]
            elif token:
                parts[-1] += token[0][0]
            end = token.end() if token else end
        return Template(tuple(parts))


def _table(value: object, where: str, known: set[str] | None = None) -> Json:
    if not isinstance(value, dict):
        raise MappingError(f"{where} is a table")
    if known is not None and (unknown := sorted(set(value) - known)):
        raise MappingError(
            f"{where}: {', '.join(unknown)} is unknown here; known are {', '.join(sorted(known))}"
        )
    return value


def _pattern(text: object, where: str) -> re.Pattern[str]:
    if not isinstance(text, str):
        raise MappingError(f"{where} is a regular expression")
    try:
        return re.compile(text)
    except re.error as error:
        raise MappingError(f"{where}: {error}") from None


def _shaping(table: Json, where: str) -> Shaping:
    negate, absolute, least = table.get("negate", False), table.get("absolute", False), table.get("min")
    if not isinstance(negate, bool) or not isinstance(absolute, bool):
        raise MappingError(f"{where}: negate and absolute are true or false")
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | Decimal)):
        raise MappingError(f"{where}: min is a number")
    return Shaping(negate, absolute, None if least is None else Decimal(least))


def _present(values: Mapping[str, Value], rows: Sequence[Row]) -> Json:
    computed = ((name, value(rows)) for name, value in values.items())
    return {name: value for name, value in computed if value is not None}


def _decimal(text: str, column: str, decimal_sign: str) -> Decimal:
    if not text:
        raise LineError(f"{column} is empty")
    try:
        return money.number(text if decimal_sign == "." else _with_point(text))
    except money.InvalidAmountError:
        raise LineError(f"{column} is not a number") from None


def _with_point(text: str) -> str:
    """`12,5`. A point in it would be a thousand's, which is no part of a number here either."""
    return "" if "." in text else text.replace(",", ".")


def _number(number: Decimal) -> int | str:
    # What JavaScript, too, reads exactly.
    is_whole = abs(number) < 2**53 and number == number.to_integral_value()
    return int(number) if is_whole else format(number, "f")


def _named(template: Template) -> str:
    return " and ".join(template.parts[1::2]) or "the text"
