"""Amounts as integers of a currency's minor unit. Pure: no I/O, no clock.

Currencies and their minor units: ISO 4217 (list one). A test compares this table with a maintained copy.
"""

import re
from decimal import ROUND_HALF_UP, Decimal

AMOUNT_MAX = Decimal(10**12)

_DECIMALS_0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_DECIMALS_3 = "BHD IQD JOD KWD LYD OMR TND"
_DECIMALS_4 = "CLF UYW"
_DECIMALS_2 = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP
COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR
JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN
NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL
THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""
# Withdrawn since 2010, which a shop's history may still hold.
_DECIMALS_2_WITHDRAWN = "ANG BGN CUC EEK HRK LTL LVL SLL VEF ZWL"
DECIMALS: dict[str, int] = {
    code: decimals
    for decimals, codes in (
        (0, _DECIMALS_0),
        (2, _DECIMALS_2 + _DECIMALS_2_WITHDRAWN),
        (3, _DECIMALS_3),
        (4, _DECIMALS_4),
    )
    for code in codes.split()
}

# A JSON number in a string: no thousands separators, no other script's digits, no NaN.
_NUMERIC = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,4})?", re.ASCII)


class InvalidAmountError(ValueError):
    """Not an amount; the message says why and never repeats the value."""


def number(value: object) -> Decimal:
    """A JSON number or a numeric string, exactly. Raises InvalidAmountError."""
    if isinstance(value, Decimal):
        if value.is_finite():
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    elif isinstance(value, str) and _NUMERIC.fullmatch(value.strip()):
        return Decimal(value.strip())
    raise InvalidAmountError("not a number")


def currency(value: object, default: str) -> str:
    """The ISO 4217 code in upper case; `default` when absent. Raises InvalidAmountError."""
    if value is None or value == "":
        return default
    code = value.strip().upper() if isinstance(value, str) else None
    if code not in DECIMALS:
        raise InvalidAmountError("the currency is no ISO 4217 code")
    return code


def minor(value: object, code: str) -> int:
    """An amount of at most 10^12, rounded half up to the currency's minor unit. Raises InvalidAmountError."""
    amount = number(value)
    if not 0 <= amount <= AMOUNT_MAX:
        raise InvalidAmountError("an amount lies between 0 and 10^12")
    # Rounded first, scaled then: scaling rounds to Decimal's 28 digits, and 1.00499…9 would be rounded twice.
    return int(amount.quantize(Decimal(1).scaleb(-DECIMALS[code]), ROUND_HALF_UP).scaleb(DECIMALS[code]))


def decimal_text(amount_minor: int, code: str) -> str:
    """The amount as a JSON number, exact and without trailing zeros: 5990 EUR is 59.9."""
    decimals = DECIMALS[code]
    whole, rest = divmod(amount_minor, 10**decimals)
    fraction = f"{rest:0{decimals}d}".rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
