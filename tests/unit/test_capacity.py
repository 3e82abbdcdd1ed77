"""Sizes and units, against the examples and rules of the DynamoDB Developer Guide."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import capacity
from service.capacity import Capacity


@pytest.mark.parametrize(
    ("item", "size_bytes"),
    [
        # "An attribute named shirt-color with value R has a total size of 12 bytes."
        ({"shirt-color": {"S": "R"}}, 12),
        ({}, 0),
        # Strings are UTF-8, names too.
        ({"é": {"S": "€💶"}}, 2 + 3 + 4),
        ({"a": {"S": ""}}, 1),
        # A number takes a byte for two significant digits and one more; zeros at both ends are left off.
        ({"a": {"N": "7"}}, 1 + 2),
        ({"a": {"N": "27"}}, 1 + 2),
        ({"a": {"N": "270"}}, 1 + 2),
        ({"a": {"N": "123"}}, 1 + 3),
        ({"a": {"N": "1000000"}}, 1 + 2),
        ({"a": {"N": "0.0012"}}, 1 + 2),
        ({"a": {"N": "-27"}}, 1 + 3),
        ({"a": {"N": "1" * 38}}, 1 + 20),
        # Sets are their members, a boolean is one byte.
        ({"a": {"SS": ["xy", "é"]}}, 1 + 4),
        ({"a": {"BS": [b"123456", b"abcdef"]}}, 1 + 12),
        ({"a": {"BOOL": True}}, 1 + 1),
        ({"a": {"S": "x"}, "bc": {"N": "1"}}, 2 + 4),
    ],
)
def test_an_item_is_as_large_as_its_names_and_values(item: dict[str, Any], size_bytes: int) -> None:
    assert size_bytes == capacity.item_bytes(item)


@pytest.mark.parametrize(
    ("sizes", "units"),
    [((), 1), ((0,), 1), ((1,), 1), ((1024,), 1), ((1025,), 2), ((3500, 10), 4), ((10, 3500), 4)],
)
def test_a_write_costs_a_unit_for_each_kilobyte_of_the_larger_item(
    sizes: tuple[int, ...], units: int
) -> None:
    assert units == capacity.write_units(*sizes)


@pytest.mark.parametrize(
    ("sizes", "is_consistent", "units"),
    [
        ([], False, 0.5),
        ([], True, 1),
        ([4096], True, 1),
        ([4096], False, 0.5),
        ([4097], True, 2),
        ([4097], False, 1),
        # A query's items are summed before they are rounded.
        ([1000] * 4, True, 1),
        ([1500] * 6, False, 1.5),
    ],
)
def test_a_read_costs_a_unit_for_each_four_kilobytes_and_half_where_it_may_be_stale(
    sizes: list[int], is_consistent: bool, units: float
) -> None:
    assert units == capacity.read_units(sizes, is_consistent=is_consistent)


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_a_stale_read_costs_half(sizes: list[int]) -> None:
    assert capacity.read_units(sizes, is_consistent=True) == 2 * capacity.read_units(
        sizes, is_consistent=False
    )


@pytest.mark.parametrize(
    ("units", "header"),
    [
        (Capacity(), "wru=0, rru=0"),
        (Capacity(1, 0.5), "wru=1, rru=0.5"),
        (Capacity(12.0, 3.0), "wru=12, rru=3"),
        (Capacity(1, 0.5, is_estimated=True), "wru=1, rru=0.5, estimated=1"),
        (Capacity(123_456, 0), "wru=123456, rru=0"),
        (Capacity(12_345, 12_345.5), "wru=12345, rru=12345.5"),
    ],
)
def test_the_header_is_a_dictionary_of_exact_numbers(units: Capacity, header: str) -> None:
    assert header == units.header()
