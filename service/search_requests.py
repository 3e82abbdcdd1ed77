"""What may be searched for: a closed grammar. A field it does not have is refused, and so is a value out of bounds.

Pure: no I/O, no clock. The same models describe the API. null is the same as absent, as everywhere.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from . import metrics, money
from .problems import InvalidRequest

DAYS_MAX = 400
STEPS_MAX = 10
ROWS_MAX = 1_000
CONDITIONS_MAX = 10
WINDOW_HOURS_MAX = 8_760
# Times as many hours, with those of a clock that is put back, fit ROWS_MAX.
HOURLY_DAYS_MAX = 41
# Beyond what any number of events adds up to.
NUMBER_MAX = 10**18
# A user id of 128 characters that each take four bytes, and what stands beside it.
CURSOR_CHARACTERS_MAX = 2_000

MONEY_METRICS = ("revenue", "refunds")
_COUNTERS = tuple(metrics.camel(name) for name in metrics.COUNTERS)

# The codes of problems, as the types of pydantic's errors.
_RANGE, _RULE = "invalid_range", "invalid_request"
_UNKNOWN = "extra_forbidden"  # pydantic's own


# --- values ---------------------------------------------------------------------------------------------------------


def _day(value: object) -> date:
    # Python takes 2026-W47-7 too.
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise PydanticCustomError(_RANGE, "a day")


def _whole(value: object) -> object:
    """A number as the reader of bodies makes it: 3.0 is a Decimal, True is none."""
    if isinstance(value, Decimal) and value.is_finite() and abs(value) <= NUMBER_MAX and value % 1 == 0:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError(_RULE, "a whole number")


def _number(value: object) -> Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        if number.is_finite() and 0 <= number <= NUMBER_MAX:
            return number
    raise PydanticCustomError(_RULE, "a number")


def _currency(value: object) -> str:
    try:
        return money.currency(value, "")
    except money.InvalidAmountError:
        raise PydanticCustomError(_RULE, "a currency") from None


Day = Annotated[
    date,
    BeforeValidator(_day),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-22"]}),
]
Count = Annotated[int, Field(ge=0, le=NUMBER_MAX), BeforeValidator(_whole)]
Rows = Annotated[int, Field(ge=1, le=ROWS_MAX), BeforeValidator(_whole)]
WindowHours = Annotated[int, Field(ge=1, le=WINDOW_HOURS_MAX), BeforeValidator(_whole)]
Number = Annotated[
    Decimal,
    BeforeValidator(_number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": NUMBER_MAX}),
]
# Compared as the counters compare it.
EventName = Annotated[
    str, Field(min_length=1, max_length=metrics.NAME_CHARACTERS_MAX), AfterValidator(metrics.event_name)
]
Currency = Annotated[
    str,
    BeforeValidator(_currency),
    Field(description="ISO 4217; the deployment's own when absent.", examples=["EUR"]),
]
CountOrSum = Literal["events", "users", "revenue"]
_OF_A_VISIT = ("path", "referrerHost", "campaignSource", "campaignMedium", "campaignName")
By = Literal[("event", "productId", "category", *_OF_A_VISIT, "currency", "day")]  # type: ignore[valid-type]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="wrap")
    @classmethod
    def _without_null(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, Mapping):
            value = {name: member for name, member in value.items() if member is not None}
        return handler(value)


class Ranged(_Closed):
    """A search of some days."""

    first_day: Day = Field(alias="from", description="First day, YYYY-MM-DD, in the shop's zone.")
    last_day: Day = Field(
        alias="to", description=f"Last day, YYYY-MM-DD, inclusive; at most {DAYS_MAX} days with the first."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> "Ranged":
        if self.first_day > self.last_day:
            raise PydanticCustomError(_RANGE, "from is not after to.")
        if self.days > DAYS_MAX:
            raise PydanticCustomError(_RANGE, f"A search has at most {DAYS_MAX} days.")
        return self

    @property
    def days(self) -> int:
        """How many, both ends counted."""
        return (self.last_day - self.first_day).days + 1


# --- segments -------------------------------------------------------------------------------------------------------


class EventCondition(_Closed):
    """A user has so many events of this name in the range."""

    event: EventName = Field(
        description="As Segment or Google Analytics 4 names it, or any other name as sent."
    )
    least: Count = Field(1, alias="min", description="At least so many.")
    most: Count | None = Field(None, alias="max", description="At most so many; no bound when absent.")

    @model_validator(mode="after")
    def _is_possible(self) -> "EventCondition":
        if self.most is not None and self.least > self.most:
            raise PydanticCustomError(_RULE, "min is not over max, and is 1 when absent")
        return self


class MetricCondition(_Closed):
    """A user's metric over the range lies between these. Names them as the range query does."""

    metric: Literal[("sessions", *_COUNTERS, *MONEY_METRICS)] = Field(  # type: ignore[valid-type]
        description="As in the totals of a range query; sessions are distinct."
    )
    currency: Currency | None = Field(
        None, description="Of revenue and refunds; the deployment's own when absent."
    )
    least: Number | None = Field(
        None, alias="min", description="At least so much, money in major units; no bound when absent."
    )
    most: Number | None = Field(None, alias="max", description="At most so much; no bound when absent.")

    @model_validator(mode="after")
    def _is_possible(self) -> "MetricCondition":
        if self.least is None and self.most is None:
            raise PydanticCustomError(_RULE, "min or max is there with a metric")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise PydanticCustomError(_RULE, "min is not over max")
        if self.currency is not None and self.metric not in MONEY_METRICS:
            raise PydanticCustomError(_RULE, "a currency is that of revenue or refunds")
        return self

    def bounds(self, decimals: int) -> tuple[int, int | None]:
        """The same in whole minor units of so many decimals; what is counted is counted in units of 0 decimals."""
        least = math.ceil(_scaled(self.least, decimals)) if self.least is not None else 0
        return least, math.floor(_scaled(self.most, decimals)) if self.most is not None else None


def _scaled(number: Decimal, decimals: int) -> Decimal:
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    return Decimal((sign, digits, exponent + decimals))  # scaleb would round to the context's digits


def _kind(value: object) -> str:
    """Which condition is meant; also of one that has been read."""
    is_metric = "metric" in value if isinstance(value, Mapping) else isinstance(value, MetricCondition)
    return _METRIC if is_metric else _EVENT


_EVENT, _METRIC = "<event>", "<metric>"
Condition = Annotated[
    Annotated[EventCondition, Tag(_EVENT)] | Annotated[MetricCondition, Tag(_METRIC)], Discriminator(_kind)
]
Conditions = Annotated[list[Condition], Field(max_length=CONDITIONS_MAX)]


class SegmentsRequest(Ranged):
    """Who holds all of these conditions, at least one of those, and none of these. Of everybody with an event in the
    range; at least one list has a condition."""

    all: Conditions = Field(default=[], description="Each of these holds.")
    any: Conditions = Field(default=[], description="At least one of these holds, if there are any.")
    none: Conditions = Field(default=[], description="None of these holds.")
    limit: Rows = Field(100, description="How many users a page has at most.")
    cursor: str | None = Field(
        None,
        max_length=CURSOR_CHARACTERS_MAX,
        description="nextCursor of the page before; absent for the first.",
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> "SegmentsRequest":
        if not (self.all or self.any or self.none):
            raise PydanticCustomError(_RULE, "There is a condition in all, any or none.")
        return self


# --- the other kinds ------------------------------------------------------------------------------------------------


class FunnelsRequest(Ranged):
    """How many users came how far: through the steps in this order, each later than the one before."""

    steps: list[EventName] = Field(
        min_length=1,
        max_length=STEPS_MAX,
        description="Names of events, as Segment or Google Analytics 4 names them or as sent. One may be there twice.",
        examples=[["Product Viewed", "Product Added", "Order Completed"]],
    )
    window_hours: WindowHours = Field(
        168,
        alias="windowHours",
        description="All steps lie within so many hours of the first.",
    )


class _Measured(Ranged):
    event: EventName | None = Field(None, description="Events of this name alone; all when absent.")
    metric: CountOrSum = Field(
        description="events: how many. users: of how many different users and anonymous visitors. revenue: of the "
        "orders, in one currency."
    )
    currency: Currency | None = Field(None, description="Of revenue; the deployment's own when absent.")

    @model_validator(mode="after")
    def _has_a_use_for_currency(self) -> "_Measured":
        if self.currency is not None and self.metric != "revenue":
            raise PydanticCustomError(_RULE, "A currency is that of revenue.")
        return self


class BreakdownsRequest(_Measured):
    """The largest rows of a table of events."""

    by: By = Field(
        description="What makes a row. Revenue by productId or category is price times quantity of the orders' lines; "
        "by currency each row is in its own."
    )
    limit: Rows = Field(20, description="How many rows at most.")

    @model_validator(mode="after")
    def _has_one_currency(self) -> "BreakdownsRequest":
        if self.currency is not None and self.by == "currency":
            raise PydanticCustomError(_RULE, "By currency, each row is in its own.")
        return self


class TimeseriesRequest(_Measured):
    """A number for each hour, day, week or month of the range."""

    interval: Literal["hour", "day", "week", "month"] = Field(
        description=f"In the shop's zone; a week begins on Monday. Hours of at most {HOURLY_DAYS_MAX} days."
    )

    @model_validator(mode="after")
    def _has_its_hours(self) -> "TimeseriesRequest":
        if self.interval == "hour" and self.days > HOURLY_DAYS_MAX:
            raise PydanticCustomError(_RANGE, f"By the hour, a search has at most {HOURLY_DAYS_MAX} days.")
        # They are found from a day before to two after, in years that a date can have.
        if self.interval == "hour" and not 2 <= self.first_day.year <= self.last_day.year <= 9998:
            raise PydanticCustomError(_RANGE, "By the hour, a search is of the years 2 to 9998.")
        return self


class RetentionRequest(Ranged):
    """Of the users who did the one for the first time in a unit of the range, how many did the other in the units
    after."""

    start_event: EventName = Field(
        alias="startEvent", description="A user's first one in the range decides the cohort."
    )
    return_event: EventName = Field(
        alias="returnEvent", description="What is looked for after that; may be the same."
    )
    unit: Literal["day", "week", "month"] = Field(description="In the shop's zone; a week begins on Monday.")


REQUESTS: tuple[type[BaseModel], ...] = (
    SegmentsRequest,
    FunnelsRequest,
    BreakdownsRequest,
    TimeseriesRequest,
    RetentionRequest,
)


# --- reading --------------------------------------------------------------------------------------------------------

_NAME = f"the name of an event, 1 to {metrics.NAME_CHARACTERS_MAX} characters"
_IS = {
    **dict.fromkeys(("from", "to"), "a day, YYYY-MM-DD"),
    **dict.fromkeys(("all", "any", "none"), f"a list of at most {CONDITIONS_MAX} conditions"),
    **dict.fromkeys(("event", "startEvent", "returnEvent"), _NAME),
    "steps": f"a list of 1 to {STEPS_MAX} names of events",
    "windowHours": f"a whole number from 1 to {WINDOW_HOURS_MAX}",
    "limit": f"a whole number from 1 to {ROWS_MAX}",
    "cursor": "what nextCursor of the page before said, and goes with the same search",
    "currency": "an ISO 4217 code, such as EUR",
}
_OF_A_CONDITION = {
    _EVENT: dict.fromkeys(("min", "max"), f"a whole number from 0 to {NUMBER_MAX}"),
    _METRIC: dict.fromkeys(("min", "max"), f"a number from 0 to {NUMBER_MAX}"),
}
_Request = TypeVar("_Request", bound=BaseModel)


def read(model: type[_Request], document: Mapping[str, Any]) -> _Request:
    """A request of this kind. Raises InvalidRequest, which names the field and never repeats what it holds."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    code = _RANGE if first["type"] == _RANGE else None
    if first["loc"] == ("cursor",) and first["type"] != _UNKNOWN:
        code = "invalid_cursor"
    raise InvalidRequest(_said(model, first), code=code)


def _said(model: type[BaseModel], error: ErrorDetails) -> str:
    kind, place = error["type"], list(error["loc"])
    if kind == _UNKNOWN:
        # The last of it is what was sent.
        return f"{_path(place[:-1]) or 'The body'} has {_fields(model, place)} and no other field."
    where, what = _path(place), _what(place, error)
    if what is not None:
        return f"{where} is {what}."
    said = error["msg"]
    return f"{where}: {said}." if where else said


def _what(place: Sequence[int | str], error: ErrorDetails) -> str | None:
    """What stands at this place; None where the error itself says what is wrong."""
    if _METRIC in place and place[-1] == "metric":
        return "a metric of the range query, such as orders, sessions or revenue"
    if place[-1:] in (["metric"], ["by"], ["interval"], ["unit"]):
        return "one of " + error["ctx"]["expected"] if "ctx" in error else "one of those that /docs names"
    if error["type"] == "model_type":
        return "a condition: an event or a metric, and min and max"
    if not place or place[-1] in (_EVENT, _METRIC):
        return None
    if isinstance(place[-1], int):
        return _NAME
    of_condition = next((_OF_A_CONDITION[part] for part in place if part in _OF_A_CONDITION), {})
    return of_condition.get(str(place[-1])) or _IS.get(str(place[-1]))


def _path(place: Sequence[int | str]) -> str:
    """`all[0].min`. Each part is an index or a name of the grammar's own."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in (_EVENT, _METRIC):
            text += f".{part}" if text else part
    return text


def _fields(model: type[BaseModel], place: Sequence[int | str]) -> str:
    of = EventCondition if _EVENT in place else MetricCondition if _METRIC in place else model
    return ", ".join(field.alias or name for name, field in of.model_fields.items())
