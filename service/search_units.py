"""Days, weeks, months and hours in the shop's zone, as the rows of a search have them. Pure: no I/O, no clock."""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from .events import epoch_ms

# No zone's offset has been anything else since the year 2000.
_SLOT = timedelta(minutes=15)
_MINUTE = timedelta(minutes=1)
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


def unit_of(day: date, unit: str) -> date:
    """The first day of the day, week or month that this day is in; a week begins on Monday."""
    if unit == "month":
        return day.replace(day=1)
    if unit == "week":
        return date.fromordinal(max(1, day.toordinal() - day.weekday()))
    return day


def units(first_day: date, last_day: date, unit: str) -> list[date]:
    """Every unit with a day between these, in order."""
    every = (date.fromordinal(number) for number in range(first_day.toordinal(), last_day.toordinal() + 1))
    return list(dict.fromkeys(unit_of(day, unit) for day in every))


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of some days, on days when the clock moves 23 or 25. `starts` are epoch milliseconds, `texts` the
    same with the zone's offset. A slot of `slot_ms`, counted from 1970, is never in two of them."""

    starts: Sequence[int]
    texts: Sequence[str]
    slot_ms: int

    def of(self, instant_ms: int) -> int:
        """The number of the hour that this is in."""
        return max(0, bisect.bisect_right(self.starts, instant_ms) - 1)


def hours(first_day: date, last_day: date, timezone: tzinfo) -> Hours:
    """The hours of these days, both inclusive. An hour is what has the same hour on the clock and the same offset."""
    starts: dict[tuple[object, ...], datetime] = {}
    for instant in _steps(first_day, last_day, timezone):
        local = instant.astimezone(timezone)
        if first_day <= local.date() <= last_day:
            starts.setdefault((local.date(), local.hour, local.utcoffset()), instant)
    instants = sorted(starts.values())
    starts_ms = [epoch_ms(start) for start in instants]
    # Newfoundland moved its clock at one minute past midnight until 2011.
    is_even = all(start % (_SLOT // _MILLISECOND) == 0 for start in starts_ms)
    return Hours(
        starts_ms,
        [start.astimezone(timezone).isoformat() for start in instants],
        (_SLOT if is_even else _MINUTE) // _MILLISECOND,
    )


def _steps(first_day: date, last_day: date, timezone: tzinfo) -> Iterator[datetime]:
    """Instants from before the first day to after the last: every quarter of an hour, and each minute of one in which
    the clock is moved."""
    instant = datetime.combine(first_day, time.min, UTC) - _DAY
    end = datetime.combine(last_day, time.min, UTC) + 2 * _DAY
    while instant < end:
        yield instant
        following = instant + _SLOT
        if instant.astimezone(timezone).utcoffset() != following.astimezone(timezone).utcoffset():
            yield from (instant + minutes * _MINUTE for minutes in range(1, _SLOT // _MINUTE))
        instant = following
