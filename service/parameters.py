"""What paths and queries say, read by hand: FastAPI, which would repeat a bad value in its answer, gets text alone."""

import re
from datetime import date, timedelta
from typing import Annotated

from fastapi import Path, Query
from pydantic import WithJsonSchema

from . import ids
from .problems import InvalidRequest

RANGE_DAYS_MAX = 366
RANGE_DAYS_DEFAULT = 30
UserPath = Annotated[
    str, Path(description="A user id, or an anonymous id with its `anon_`, percent-encoded.")
]
UserOnlyPath = Annotated[
    str, Path(description="A user id, percent-encoded; an anonymous one is refused as `invalid_id`.")
]
Day = WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-22"]})
FirstDay = Annotated[
    str | None, Day, Query(alias="from", description="First day, YYYY-MM-DD; default 29 days before `to`.")
]
LastDay = Annotated[
    str | None, Day, Query(alias="to", description="Last day, YYYY-MM-DD, inclusive; default today.")
]
Flag = WithJsonSchema({"type": "string", "enum": ["true", "false", "1", "0"]})
Text = WithJsonSchema({"type": "string"})
Limit = WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,3}$", "examples": ["100"]})


def distinct_id_of(text: str) -> str:
    """The user or anonymous id a path names. Raises InvalidRequest."""
    try:
        distinct_id = ids.distinct_id(text)
    except ids.InvalidIdError as error:
        raise InvalidRequest(f"{error}.".capitalize(), code="invalid_id") from None
    if distinct_id is None:
        raise InvalidRequest("The path names a user.", code="invalid_id")
    return distinct_id


def day_range(today: date, first: str | None, last: str | None) -> tuple[date, date]:
    """The days of a range, both inclusive. Raises InvalidRequest."""
    last_day = day_of("to", last) if last is not None else today
    if first is not None:
        first_day = day_of("from", first)
    elif last_day.toordinal() >= RANGE_DAYS_DEFAULT:
        first_day = last_day - timedelta(days=RANGE_DAYS_DEFAULT - 1)
    else:
        first_day = date.min
    if first_day > last_day:
        raise InvalidRequest("from is not after to.", code="invalid_range")
    if (last_day - first_day).days >= RANGE_DAYS_MAX:
        raise InvalidRequest(f"A range has at most {RANGE_DAYS_MAX} days.", code="invalid_range")
    return first_day, last_day


def day_of(name: str, text: str) -> date:
    """A day. Raises InvalidRequest."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidRequest(f"{name} is a day, YYYY-MM-DD.", code="invalid_range")


def limit_of(text: str, most: int) -> int:
    """How many at most. Raises InvalidRequest."""
    if re.fullmatch(r"\d{1,4}", text, re.ASCII) and 1 <= int(text) <= most:
        return int(text)
    raise InvalidRequest(f"limit is a whole number from 1 to {most}.")


def flag_of(name: str, text: str) -> bool:
    """A yes or no. Raises InvalidRequest."""
    if text not in ("true", "false", "1", "0"):
        raise InvalidRequest(f"{name} is true or false.")
    return text in ("true", "1")
