"""The mapping of CSV lines to events: what each part of the language comes to, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.columns import Columns, MappingError
from service.mapping import read_mapping
from service.records import Line, Record

HEADER = ["Order", "Who", "When", "Pieces", "Price", "Status"]
TOP = 'event = "Order Completed"\ntimestamp = "{When}"\n'


def read(mapping: str, *rows: str, header: list[str] = HEADER) -> list[Record]:
    """The records of lines, of which the first is the file's second."""
    columns = read_mapping(mapping)
    columns.check_header(header)
    cells = csv.reader(io.StringIO("\n".join(rows)), delimiter=columns.delimiter or ",")
    lines = (Line(number, row, cell) for number, (row, cell) in enumerate(zip(rows, cells, strict=True), 2))
    return list(columns.records(header, lines))


def event(mapping: str, *rows: str) -> dict[str, Any]:
    (record,) = read(mapping, *rows)
    assert record.event is not None, record.reason
    found: dict[str, Any] = json.loads(record.event)
    return found


def flaw(mapping: str, *rows: str) -> str:
    (record,) = read(mapping, *rows)
    assert record.event is None, record.event
    assert record.code == "bad_columns"
    return record.reason


def group(mapping: str) -> str:
    return 'group_by = "Order"\n' + TOP + mapping


# --- texts and numbers -----------------------------------------------------------------------------------------------


def test_a_text_takes_columns_and_an_empty_one_leaves_the_field_out() -> None:
    mapping = TOP + 'userId = "shop-{Who}"\nmessageId = "{Order}/{Status}"\n'

    assert event(mapping, "7, u1 ,2010-12-01,1,2,") == {
        "type": "track",
        "event": "Order Completed",
        "timestamp": "2010-12-01",
        "userId": "shop-u1",
    }


def test_braces_are_doubled() -> None:
    assert event(TOP + 'userId = "{{{Who}}}"', "7,u1,2010-12-01,1,2,")["userId"] == "{u1}"


@pytest.mark.parametrize("text", ["{Who", "Who}", "{}", "a{b{Who}}"])
def test_a_single_brace_is_a_mistake(text: str) -> None:
    with pytest.raises(MappingError, match="userId"):
        read_mapping(TOP + f'userId = "{text}"')


def test_a_match_takes_the_first_group_or_all_of_it() -> None:
    mapping = (
        TOP
        + 'userId = { value = "{Who}", match = "^([0-9]+)" }\nmessageId = { value = "{Who}", match = "[0-9]+" }'
    )
    found = event(mapping, "7,17850.0,2010-12-01,1,2,")

    assert (found["userId"], found["messageId"]) == ("17850", "17850")
    assert "Who" in flaw(mapping, "7,abc,2010-12-01,1,2,")
    assert "userId" not in event(mapping, "7,,2010-12-01,1,2,")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("3", 3),
        ("3.0", 3),
        ("-3", -3),
        ("2.55", "2.55"),
        ("0.10", "0.10"),
        ("90071992547409930", "90071992547409930"),
    ],
)
def test_a_number_is_exact(text: str, sent: object) -> None:
    mapping = TOP + 'properties.n = { value = "{Price}", number = true }'

    assert event(mapping, f"7,u1,2010-12-01,1,{text},")["properties"] == {"n": sent}


@pytest.mark.parametrize("text", ["abc", "1,5", "NaN", "1 000", "0x10", "٣"])
def test_what_is_no_number_is_a_bad_line(text: str) -> None:
    assert "Price" in flaw(
        TOP + 'properties.n = { value = "{Price}", number = true }', f'7,u1,2010-12-01,1,"{text}",'
    )


def test_numbers_are_shaped() -> None:
    mapping = TOP + (
        'properties.a = { value = "{Price}", number = true, absolute = true }\n'
        'properties.b = { value = "{Price}", number = true, negate = true }\n'
        'properties.c = { value = "{Price}", number = true, min = 0 }\n'
    )

    assert event(mapping, "7,u1,2010-12-01,1,-2.5,")["properties"] == {"a": "2.5", "b": "2.5", "c": 0}


def test_constants_are_sent_as_they_are() -> None:
    mapping = TOP + 'properties = { a = 3, b = true, c = 2.50, d = "x" }\ncontext.sessionId = "{Order}"'
    found = event(mapping, "7,u1,2010-12-01,1,2,")

    assert found["properties"] == {"a": 3, "b": True, "c": "2.50", "d": "x"}
    assert found["context"] == {"sessionId": "7"}


def test_a_decimal_comma_is_read() -> None:
    mapping = (
        TOP + 'properties.n = { value = "{Price}", number = true }\n[csv]\ndelimiter = ";"\ndecimal = ","'
    )

    assert event(mapping, "7;u1;2010-12-01;1;2,55;")["properties"] == {"n": "2.55"}
    assert "Price" in flaw(mapping, "7;u1;2010-12-01;1;1.234,50;")


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "text", "sent"),
    [
        ('{ value = "{When}", format = "%d.%m.%Y %H:%M" }', "01.12.2010 08:26", "2010-12-01T08:26:00+00:00"),
        (
            '{ value = "{When}", format = "%Y-%m-%d", timezone = "Asia/Tokyo" }',
            "2010-07-01",
            "2010-07-01T00:00:00+09:00",
        ),
        ('{ value = "{When}", timezone = "Europe/Berlin" }', "2010-12-01 08:26", "2010-12-01T08:26:00+01:00"),
        (
            '{ value = "{When}", timezone = "Europe/Berlin" }',
            "2010-12-01T08:26Z",
            "2010-12-01T08:26:00+00:00",
        ),
        ('{ value = "{When}", format = "unix" }', "1291191960", "2010-12-01T08:26:00+00:00"),
        ('{ value = "{When}", format = "unix_ms" }', "1291191960500", "2010-12-01T08:26:00.500000+00:00"),
        # Before the first that Windows' own conversion takes.
        ('{ value = "{When}", format = "unix" }', "-86400.5", "1969-12-30T23:59:59.500000+00:00"),
    ],
)
def test_a_time_is_an_instant(spec: str, text: str, sent: str) -> None:
    assert event(f"timestamp = {spec}", f"7,u1,{text},1,2,")["timestamp"] == sent


@pytest.mark.parametrize("text", ["2010-12-01", "31.02.2010", "1291191960000000000", "1e400"])
@pytest.mark.parametrize("shape", ["%d.%m.%Y", "unix"])
def test_what_is_no_time_is_a_bad_line(shape: str, text: str) -> None:
    assert "When" in flaw(f'timestamp = {{ value = "{{When}}", format = "{shape}" }}', f"7,u1,{text},1,2,")


@pytest.mark.parametrize(
    "shape",
    ["%d/%m/%y %I:%M %p", "%Y-%m-%dT%H:%M:%S.%f%z", "%G-W%V-%u", "%a, %d %b %Y %H:%M:%S %Z", "%j%%%Y"],
)
def test_what_strptime_knows_is_a_format(shape: str) -> None:
    read_mapping(f'timestamp = {{ value = "{{When}}", format = "{shape}" }}')


# --- lines that make one event ---------------------------------------------------------------------------------------


def test_lines_of_a_group_make_one_event_with_a_product_each() -> None:
    mapping = group('products.sku = "{Status}"\nproperties.revenue = { sum = ["Pieces", "Price"] }')
    rows = ["7,u1,2010-12-01,3,0.10,a", "7,u1,2010-12-01,1,0.20,b", "8,u2,2010-12-02,1,1.005,c"]
    first, second = read(mapping, *rows)

    assert (first.line, second.line) == (2, 4)
    assert first.content == "\n".join(rows[:2])
    assert json.loads(first.event or "")["properties"] == {
        "revenue": "0.50",
        "products": [{"sku": "a"}, {"sku": "b"}],
    }
    assert json.loads(second.event or "")["properties"]["revenue"] == "1.005"


def test_a_sum_is_not_rounded() -> None:
    mapping = group('properties.revenue = { sum = ["Pieces", "Price"], negate = true }')
    found = event(
        mapping, "7,u1,2010-12-01,-3,0.1234567890123456789012345678901,", "7,u1,2010-12-01,-1,1e20,"
    )

    assert found["properties"]["revenue"] == "100000000000000000000.3703703670370370367037037036703"


def test_an_amount_of_too_many_digits_is_a_bad_line() -> None:
    mapping = group('properties.revenue = { sum = ["Price"] }')

    assert "digits" in flaw(mapping, "7,u1,2010-12-01,1,1e-900,", "7,u1,2010-12-01,1,1e20,")


def test_a_bad_line_keeps_its_event_back_and_no_other() -> None:
    mapping = group('properties.revenue = { sum = ["Pieces", "Price"] }')
    rows = ["7,u1,2010-12-01,3,1,", "7,u1,2010-12-01,x,1,", "8,u1,2010-12-01,1,1,"]
    first, second = read(mapping, *rows)

    assert (first.event, first.line, first.content) == (None, 2, "\n".join(rows[:2]))
    assert first.reason == "line 3: Pieces is not a number"
    assert second.event is not None


@pytest.mark.parametrize("row", ["7,u1,2010-12-01,1", "7,u1,2010-12-01,1,1,,", ",u1,2010-12-01,1,1,"])
def test_a_line_that_may_be_part_of_an_event_keeps_it_back(row: str) -> None:
    mapping = group('properties.revenue = { sum = ["Price"] }')
    first, second = read(mapping, "7,u1,2010-12-01,1,1,", row, "8,u1,2010-12-01,1,1,")

    assert (first.event, first.content.count("\n")) == (None, 1)
    assert second.event is not None


def test_an_event_after_a_line_that_swallowed_others_is_kept_back_too() -> None:
    columns = read_mapping(group('properties.revenue = { sum = ["Price"] }'))
    lines = [
        Line(2, "7,...", ["7", "u1", "2010-12-01", "1", "1", ""]),
        Line(3, '7,"u1\n8,u2,…\n', ["7", "u1\n8,u2"]),
        Line(5, "8,...", ["8", "u2", "2010-12-01", "1", "1", ""]),
        Line(6, "9,...", ["9", "u2", "2010-12-01", "1", "1", ""]),
    ]
    records = list(columns.records(HEADER, lines))

    assert [record.line for record in records if record.event is None] == [2, 5]
    assert [record.line for record in records if record.event is not None] == [6]


# --- kinds -----------------------------------------------------------------------------------------------------------

KINDS = (
    'timestamp = "{When}"\nuserId = "{Who}"\n[properties]\norderId = "{Order}"\n'
    '[[event]]\nwhen = { Status = "^back$" }\nevent = "Order Refunded"\nproperties.total = "{Price}"\n'
    '[[event]]\nwhen = { Status = "^test$" }\nskip = true\n'
    '[[event]]\nwhen = { Status = "^$", Order = "^[0-9]+$" }\nevent = "Order Completed"\n'
)


def test_the_first_kind_that_fits_is_taken_and_inherits_the_rest() -> None:
    refunded, completed, unknown = read(
        KINDS,
        "7,u1,2010-12-01,1,2,back",
        "8,u1,2010-12-01,1,2,test",
        "9,u1,2010-12-01,1,2,",
        "x,u1,2010-12-01,1,2,",
    )

    assert json.loads(refunded.event or "")["properties"] == {"orderId": "7", "total": "2"}
    assert json.loads(completed.event or "")["event"] == "Order Completed"
    assert json.loads(completed.event or "")["properties"] == {"orderId": "9"}
    assert "[[event]]" in unknown.reason


def test_a_blank_message_id_is_none() -> None:
    (record,) = read(TOP + 'messageId = " "', "7,u1,2010-12-01,1,2,")

    assert not record.has_message_id


def test_the_fallback_is_for_events_without_a_user() -> None:
    mapping = TOP + 'userId = "{Who}"\nfallbackAnonymousId = "order-{Order}"'

    assert "anonymousId" not in event(mapping, "7,u1,2010-12-01,1,2,")
    assert event(mapping, "7,,2010-12-01,1,2,")["anonymousId"] == "order-7"


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        ("event = [", "Invalid value"),
        ('event = "x"', "timestamp"),
        (TOP + "user = 'x'", "user"),
        (TOP + "userId = { column = 'Who' }", "column"),
        (TOP + "userId = { value = '{Who}' }", "userId"),
        (TOP + "userId = { value = '{Who}', match = '(' }", "userId"),
        (TOP + "userId = ['Who']", "userId"),
        (TOP + "properties = 'x'", "properties"),
        (TOP + "properties.n = { sum = 'Price' }", "sum"),
        (TOP + "properties.n = { sum = ['Price'], match = 'x' }", "match"),
        (TOP + "properties.n = { sum = ['Price'], min = 'x' }", "min"),
        (TOP + "properties.n = { sum = ['Price'], negate = 1 }", "negate"),
        (TOP + "group_by = 3", "group_by"),
        ("timestamp = { value = '{When}', timezone = 'Entenhausen' }", "Entenhausen"),
        ("timestamp = { value = '{When}', timezone = '/etc/passwd' }", "time zone"),
        (TOP + "[csv]\ndelimiter = '::'", "delimiter"),
        (TOP + "[csv]\ndelimiter = '\"'", "delimiter"),
        (TOP + '[csv]\ndelimiter = "\\n"', "delimiter"),
        (TOP + "[csv]\nencoding = 'klingon'", "klingon"),
        ("timestamp = { value = '{When}', format = '%Q' }", "%Q"),
        ("timestamp = { value = '{When}', format = '%-d.%m.%Y' }", "strptime"),
        ("timestamp = { value = '{When}', format = '%Y-%' }", "strptime"),
        ("timestamp = { value = '{When}', format = '%Y %Y' }", "strptime"),
        (TOP + "[csv]\nquote = 'x'", "quote"),
        ("timestamp = '{When}'\nevent = []", "event"),
        ("timestamp = '{When}'\n[[event]]\nwhen = { Status = '(' }", "Status"),
        ("timestamp = '{When}'\n[[event]]\nwhen = 'x'", "when"),
        ("timestamp = '{When}'\n[[event]]\nskip = 1", "skip"),
    ],
)
def test_a_mistake_is_named(mapping: str, named: str) -> None:
    with pytest.raises(MappingError, match=named.replace("(", r"\(")):
        read_mapping(mapping)


def test_a_header_without_a_named_column_is_refused() -> None:
    columns = read_mapping(KINDS)

    with pytest.raises(MappingError, match="no column Status, Who"):
        columns.check_header(["Order", "When", "Price"])
    with pytest.raises(MappingError, match="more than one column Order"):
        columns.check_header([*HEADER, "Order"])
    # Spreadsheets leave such behind.
    columns.check_header([*HEADER, "", ""])
    assert isinstance(columns, Columns)


def test_the_documented_mapping_is_the_example() -> None:
    docs = Path(__file__).parent.parent.parent / "docs"
    (block,) = re.findall(r"```toml\n(.*?)```", (docs / "import.md").read_text(encoding="utf-8"), re.DOTALL)
    example = (docs / "examples" / "online-retail.toml").read_text(encoding="utf-8")

    assert example.endswith("\n\n" + block)
    assert read_mapping(block).columns == {
        "InvoiceNo",
        "CustomerID",
        "InvoiceDate",
        "Quantity",
        "UnitPrice",
    }
