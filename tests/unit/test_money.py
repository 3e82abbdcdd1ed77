"""Amounts, against exact fractions; currencies, against the maintained copy of ISO 4217."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import Currency

from service import money

CODES = st.sampled_from(sorted(money.DECIMALS))
AMOUNTS = st.decimals(0, 10**12, allow_nan=False, places=None) | st.decimals(0, 10**12, places=5)
WITHDRAWN = {"ANG", "BGN", "CUC", "EEK", "HRK", "LTL", "LVL", "SLL", "VEF", "ZWL"}


def rounded_half_up(amount: Fraction, decimals: int) -> int:
    return floor(amount * Fraction(10) ** decimals + Fraction(1, 2))


@given(AMOUNTS, CODES)
def test_an_amount_is_rounded_half_up_to_the_minor_unit(amount: Decimal, code: str) -> None:
    expected = rounded_half_up(Fraction(amount), money.DECIMALS[code])

    assert expected == money.minor(amount, code)
    assert expected == money.minor(str(amount), code)


@given(st.integers(0, 10**12), CODES)
def test_a_whole_amount_is_exact(amount: int, code: str) -> None:
    assert amount * 10 ** money.DECIMALS[code] == money.minor(amount, code)


@pytest.mark.parametrize(
    ("amount", "code", "expected"),
    [
        ("0.005", "EUR", 1),
        ("0.0049999999999999999999999999999999999999", "EUR", 0),
        ("1.00499999999999999999999999999999999999", "EUR", 100),
        ("2.675", "USD", 268),
        ("0.5", "JPY", 1),
        ("1.0005", "KWD", 1001),
        ("1.00005", "CLF", 10001),
        ("999999999999.994", "EUR", 99_999_999_999_999),
        ("999999999999.995", "EUR", 100_000_000_000_000),
        ("1e12", "CLF", 10**16),
        ("1E+3", "EUR", 100_000),
        (".5", "EUR", 50),
        ("  12.50 ", "EUR", 1250),
        ("-0", "EUR", 0),
    ],
)
def test_rounding_by_example(amount: str, code: str, expected: int) -> None:
    assert expected == money.minor(amount, code)
    assert expected == money.minor(Decimal(amount.strip()), code)


@pytest.mark.parametrize(
    "value",
    [
        "-0.01",
        "1000000000000.01",
        "1e13",
        "1e400",
        "1e9999",
        "nan",
        "Infinity",
        "",
        " ",
        "1,5",
        "1 000",
        "12€",
        "0x10",
        "1_000",
        "٣",
        "1e",
        "--1",
        "1" * 4301,
        "1e99999",
        True,
        False,
        None,
        [],
        {},
        [5],
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("-1"),
        -1,
        10**12 + 1,
        10**4299,
    ],
)
def test_what_is_no_amount_is_refused_without_being_repeated(value: object) -> None:
    with pytest.raises(money.InvalidAmountError) as refused:
        money.minor(value, "EUR")

    assert len(str(refused.value)) < 100
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(refused.value)


@given(st.text(max_size=20))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        amount = money.minor(text, "EUR")
    except money.InvalidAmountError:
        return
    assert rounded_half_up(Fraction(Decimal(text.strip())), 2) == amount


@given(st.integers(0, 10**22), CODES)
def test_the_text_of_an_amount_is_a_json_number_that_reads_back_exactly(minor: int, code: str) -> None:
    text = money.decimal_text(minor, code)

    assert Fraction(minor, 10 ** money.DECIMALS[code]) == Fraction(json.loads(text, parse_float=Decimal))
    assert "." not in text or not text.endswith(("0", "."))


@given(AMOUNTS, CODES)
def test_a_stored_amount_reads_back_as_itself(amount: Decimal, code: str) -> None:
    minor = money.minor(amount, code)
    # A sum over an amount's limit is told too, but not taken.
    if minor <= 10 ** (12 + money.DECIMALS[code]):
        assert minor == money.minor(money.decimal_text(minor, code), code)


@pytest.mark.parametrize(
    ("minor", "code", "text"),
    [
        (5990, "EUR", "59.9"),
        (6000, "EUR", "60"),
        (5, "EUR", "0.05"),
        (0, "EUR", "0"),
        (7, "JPY", "7"),
        (1001, "KWD", "1.001"),
        (10**16 + 1, "EUR", "100000000000000.01"),
        (1, "CLF", "0.0001"),
    ],
)
def test_amounts_are_written_without_trailing_zeros(minor: int, code: str, text: str) -> None:
    assert text == money.decimal_text(minor, code)


def test_the_currencies_are_those_of_iso_4217_and_the_withdrawn_ones() -> None:
    published = {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}
    current = {code: decimals for code, decimals in money.DECIMALS.items() if code not in WITHDRAWN}

    assert published == current
    assert set(money.DECIMALS) >= WITHDRAWN


@pytest.mark.parametrize("sent", ["eur", "EUR", " Eur "])
def test_a_currency_is_read_in_any_letter_case(sent: str) -> None:
    assert money.currency(sent, "USD") == "EUR"


@pytest.mark.parametrize("absent", [None, ""])
def test_an_absent_currency_is_the_default(absent: object) -> None:
    assert money.currency(absent, "USD") == "USD"


@pytest.mark.parametrize("value", ["EURO", "XXX", "€", 978, True, ["EUR"], "E\u0301UR"])
def test_what_is_no_currency_is_refused(value: object) -> None:
    with pytest.raises(money.InvalidAmountError):
        money.currency(value, "USD")
