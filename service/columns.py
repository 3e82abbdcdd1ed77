"""A shop's CSV lines as events: what each field of an event comes to, given the lines that make it.

Pure: no I/O, no clock. What is built here is declared in TOML, which `mapping` reads.
"""

import decimal
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Protocol

from . import money
from .records import Line, Record

# A group is held in memory until its last line has come.
GROUP_LINES_MAX = 100_000
# What does not fit so many digits is refused, not rounded.
_EXACT = decimal.Context(prec=400, traps=[*decimal.DefaultContext.traps, decimal.Inexact])

_DOUBTFUL = "the line before it cannot be read, and may have held a part of it"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = Mapping[str, str]
Json = dict[str, Any]


class MappingError(ValueError):
    """The mapping is wrong, or does not fit the file; the message names the place in it."""


class LineError(ValueError):
    """A line that makes no event. `index` is its place among the lines of its event."""

    def __init__(self, reason: str, index: int = 0) -> None:
        super().__init__(reason)
        self.index = index


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
        return json_number(self.shaping(_decimal(text, _named(self.source), self.decimal_sign)))


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
            # Windows' own conversion knows no time before 1970.
            return _EPOCH + timedelta(seconds=float(seconds))
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
    # None where the mapping does not say it: then the file's name does.
    delimiter: str | None

    def check_header(self, header: Sequence[str]) -> None:
        """Raises MappingError for a header that lacks a column or has one twice."""
        # What has no name cannot be meant.
        if twice := sorted({name for name in header if name and header.count(name) > 1}):
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
        return Record(number, content, text, has_message_id=has_message_id(event))

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


def has_message_id(event: Json) -> bool:
    """A blank one would make one event of all that have it."""
    message_id = event.get("messageId")
    return bool(message_id.strip()) if isinstance(message_id, str) else message_id is not None


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


def json_number(number: Decimal) -> int | str:
    """A number where it is whole and JavaScript, too, reads it exactly; else text."""
    is_whole = abs(number) < 2**53 and number == number.to_integral_value()
    return int(number) if is_whole else format(number, "f")


def _named(template: Template) -> str:
    return " and ".join(template.parts[1::2]) or "the text"
