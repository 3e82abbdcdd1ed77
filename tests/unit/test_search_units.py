"""Days, weeks, months and hours of a shop's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import epoch_ms
from service.search_units import hours, unit_of, units

DAYS = st.dates(date(2000, 1, 1), date(2030, 12, 31))


@given(first=DAYS, days=st.integers(0, 399), unit=st.sampled_from(["day", "week", "month"]))
def test_every_day_is_in_one_unit_and_units_are_in_order(first: date, days: int, unit: str) -> None:
    last = first + timedelta(days=days)
    found = units(first, last, unit)

    assert found == sorted(set(found))
    assert {unit_of(first + timedelta(days=number), unit) for number in range(days + 1)} == set(found)
    assert all(unit_of(start, unit) == start for start in found)


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    assert unit_of(date(2026, 11, 22), "week") == date(2026, 11, 16)
    assert unit_of(date(2026, 11, 16), "week") == date(2026, 11, 16)
    assert unit_of(date(2026, 11, 22), "month") == date(2026, 11, 1)
    assert unit_of(date(1, 1, 1), "week") == date(1, 1, 1)


@pytest.mark.parametrize(
    ("zone", "day", "count", "shown"),
    [
        ("Europe/Berlin", "2026-03-29", 23, ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]),
        ("Europe/Berlin", "2026-10-25", 25, ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]),
        ("Asia/Kolkata", "2026-10-25", 24, ["2026-10-25T00:00:00+05:30", "2026-10-25T01:00:00+05:30"]),
        # The clock goes back half an hour, at two: what is left of the hour from one is a row of its own.
        ("Australia/Lord_Howe", "2026-04-05", 25, ["2026-04-05T01:00:00+11:00", "2026-04-05T01:30:00+10:30"]),
        ("Australia/Lord_Howe", "2026-10-04", 24, ["2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00"]),
        # The day begins at one, and the other ends at midnight for a second time.
        ("Asia/Beirut", "2026-03-29", 23, ["2026-03-29T01:00:00+03:00", "2026-03-29T02:00:00+03:00"]),
        ("America/St_Johns", "2006-10-28", 25, ["2006-10-28T23:00:00-02:30", "2006-10-28T23:01:00-03:30"]),
    ],
)
def test_hours_are_those_of_the_shops_clock(zone: str, day: str, count: int, shown: list[str]) -> None:
    found = hours(date.fromisoformat(day), date.fromisoformat(day), ZoneInfo(zone))

    assert len(found.texts) == count
    place = found.texts.index(shown[0])
    assert found.texts[place : place + len(shown)] == shown


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
@pytest.mark.parametrize("day", [date(2, 1, 1), date(9998, 12, 31)])
def test_hours_of_the_first_and_the_last_year_that_have_them(zone: str, day: date) -> None:
    """Those beside them have none: a day there would be looked for outside of the calendar."""
    found = hours(day, day, ZoneInfo(zone))

    assert len(found.starts) == len(found.texts) == 24
    assert found.texts[0].startswith(day.isoformat())
    assert found.texts[-1].startswith(f"{day.isoformat()}T23:")


@pytest.mark.parametrize("unit", ["day", "week", "month"])
def test_units_go_to_the_calendars_ends(unit: str) -> None:
    assert units(date.min, date.min, unit) == [date.min]
    (last,) = units(date.max, date.max, unit)
    assert unit_of(last, unit) == last <= date.max


@given(
    zone=st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "UTC"]),
    first=DAYS,
    days=st.integers(0, 3),
    data=st.data(),
)
def test_an_instant_is_in_the_hour_of_its_clock(
    zone: str, first: date, days: int, data: st.DataObject
) -> None:
    last, timezone = first + timedelta(days=days), ZoneInfo(zone)
    found = hours(first, last, timezone)
    start = datetime.combine(first, datetime.min.time(), UTC) - timedelta(days=1)
    instant = start + timedelta(minutes=data.draw(st.integers(0, (days + 3) * 1440)))
    local = instant.astimezone(timezone)
    number = found.of(epoch_ms(instant))

    if first <= local.date() <= last:
        said = datetime.fromisoformat(found.texts[number])
        assert (said.date(), said.hour, said.utcoffset()) == (local.date(), local.hour, local.utcoffset())
        assert said <= local
    assert 0 <= number < len(found.texts)
