"""The mapping of CSV columns to events, as TOML declares it: read and checked as a whole.

Text in, Columns out; the language is described in docs/import.md.
"""

import re
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from .columns import (
    Columns,
    Constant,
    Json,
    Kind,
    MappingError,
    Matched,
    Moment,
    Number,
    Shaping,
    Sum,
    Template,
    Value,
    json_number,
)


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
_NO_DELIMITERS = ('"', "\r", "\n", "\0")
_SOME_TIME = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
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
        delimiter, encoding = shape.get("delimiter"), shape.get("encoding", "utf-8-sig")
        if delimiter is not None and (len(delimiter) != 1 or delimiter in _NO_DELIMITERS):
            raise MappingError("csv.delimiter is one character, and no quotation mark or line's end")
        if self.decimal_sign not in (".", ","):
            raise MappingError("csv.decimal is . or ,")
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
            return Constant(json_number(spec))
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
        _check_format(shape)
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


def _check_format(shape: str | None) -> None:
    """strptime says what it does not know only to a text that fits so far: one that was written so does."""
    if shape in (None, "unix", "unix_ms"):
        return
    try:
        datetime.strptime(_SOME_TIME.strftime(shape), shape)  # noqa: DTZ007 - only tried
    # Of a directive that comes twice it says so as of a pattern.
    except (ValueError, re.error):
        raise MappingError(
            f"timestamp: {shape} is no format of Python's strptime, nor unix or unix_ms"
        ) from None


def _shaping(table: Json, where: str) -> Shaping:
    negate, absolute, least = table.get("negate", False), table.get("absolute", False), table.get("min")
    if not isinstance(negate, bool) or not isinstance(absolute, bool):
        raise MappingError(f"{where}: negate and absolute are true or false")
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | Decimal)):
        raise MappingError(f"{where}: min is a number")
    return Shaping(negate, absolute, None if least is None else Decimal(least))
