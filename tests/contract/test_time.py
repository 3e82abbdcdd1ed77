"""Which day an event is on, whatever clock it comes from and whenever it arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from service.dynamodb import Table
from tests.builders import (
    NOON,
    READER,
    TODAY,
    Clock,
    at,
    counts,
    day,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    metrics,
    post,
    rejections,
)


@contextlib.contextmanager
def shop(table: Table, now: datetime, timezone: str = "UTC", **settings: Any) -> Iterator[httpx.Client]:
    """A shop in this zone at this moment."""
    app = make_app(make_settings(timezone=ZoneInfo(timezone), **settings), table, Clock(now))
    with lambda_client(app) as client:
        yield client


def by_day(client: httpx.Client, first: str, last: str, user: str = "u-1") -> dict[str, int]:
    """The events of each day that has any."""
    answer = metrics(client, user, **{"from": first, "to": last})
    return {numbers["day"]: numbers["events"] for numbers in answer["days"]}


def instants(*texts: str, **fields: Any) -> list[dict[str, Any]]:
    return [make_event(timestamp=text, **fields) for text in texts]


# --- midnight --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timezone", "before", "after", "days"),
    [
        ("UTC", "2026-11-20T23:59:59Z", "2026-11-21T00:00:01Z", ("2026-11-20", "2026-11-21")),
        ("Europe/Berlin", "2026-11-20T22:59:59Z", "2026-11-20T23:00:01Z", ("2026-11-20", "2026-11-21")),
        # The same two moments, as a visitor's own clock in Auckland has them.
        (
            "Europe/Berlin",
            "2026-11-21T11:59:59+13:00",
            "2026-11-21T12:00:01+13:00",
            ("2026-11-20", "2026-11-21"),
        ),
        # 5:45 ahead of UTC.
        ("Asia/Kathmandu", "2026-11-20T18:14:59Z", "2026-11-20T18:15:01Z", ("2026-11-20", "2026-11-21")),
        ("America/Los_Angeles", "2026-11-21T07:59:59Z", "2026-11-21T08:00:01Z", ("2026-11-20", "2026-11-21")),
        ("Pacific/Kiritimati", "2026-11-20T09:59:59Z", "2026-11-20T10:00:01Z", ("2026-11-20", "2026-11-21")),
    ],
)
def test_two_seconds_over_midnight_in_the_shops_zone_are_two_days(
    table: Table, timezone: str, before: str, after: str, days: tuple[str, str]
) -> None:
    with shop(table, NOON, timezone) as client:
        post(client, instants(before, after))

        assert by_day(client, "2026-11-01", "2026-11-30") == dict.fromkeys(days, 1)


@pytest.mark.parametrize(
    ("now", "day", "first", "last"),
    [
        # Clocks go forward: 23 hours.
        ("2026-03-30T12:00:00+00:00", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z"),
        # And back: 25 hours, one of them twice.
        ("2026-10-26T12:00:00+00:00", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"),
    ],
)
def test_a_day_on_which_clocks_change_is_one_day_to_its_second(
    table: Table, now: str, day: str, first: str, last: str
) -> None:
    span = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() + 1
    middle = [f"{day}T0{hour}:30:00Z" for hour in range(4)]
    outside = [
        datetime.fromtimestamp(datetime.fromisoformat(first).timestamp() - 1, UTC).isoformat(),
        datetime.fromtimestamp(datetime.fromisoformat(last).timestamp() + 1, UTC).isoformat(),
    ]
    with shop(table, datetime.fromisoformat(now), "Europe/Berlin") as client:
        batch = instants(first, last, *middle, *outside)

        assert [counts(post(client, batch)) for _ in range(2)] == [(8, 0, 0), (0, 8, 0)]
        found = by_day(client, day[:8] + "01", day[:8] + "31")
        assert found.pop(day) == 6
        assert list(found.values()) == [1, 1]
        assert span in (23 * 3600, 25 * 3600)


def test_the_repeated_hour_is_two_hours(table: Table) -> None:
    with shop(table, datetime(2026, 10, 26, tzinfo=UTC), "Europe/Berlin") as client:
        # 02:30 in summer time, and 02:30 an hour later.
        batch = instants("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", messageId=...)

        assert counts(post(client, batch)) == (2, 0, 0)
        assert by_day(client, "2026-10-25", "2026-10-25") == {"2026-10-25": 2}


def test_a_leap_day_is_a_day(table: Table) -> None:
    with shop(table, datetime(2028, 3, 1, 12, tzinfo=UTC), "Asia/Kathmandu") as client:
        post(client, instants("2028-02-28T18:14:59Z", "2028-02-28T18:15:00Z", "2028-02-29T18:14:59Z"))
        post(client, instants("2028-02-29T18:15:00Z"))

        assert by_day(client, "2028-02-28", "2028-03-01") == {
            "2028-02-28": 1,
            "2028-02-29": 2,
            "2028-03-01": 1,
        }
        assert by_day(client, "2028-02-29", "2028-02-29") == {"2028-02-29": 2}
        year = metrics(client, **{"from": "2028-01-01", "to": "2028-12-31"}, fill="true")
        assert len(year["days"]) == 366


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kathmandu", "America/Los_Angeles"])
def test_a_retry_after_midnight_meets_the_day_it_was_counted_on(table: Table, timezone: str) -> None:
    midnight = datetime(2026, 11, 23, tzinfo=ZoneInfo(timezone))
    event = make_event(timestamp=datetime.fromtimestamp(midnight.timestamp() - 1, UTC).isoformat())
    replies = []
    for seconds in (0, 1, 3600, 6 * 86_400):
        with shop(table, datetime.fromtimestamp(midnight.timestamp() + seconds, UTC), timezone) as client:
            replies.append(counts(post(client, [event])))

    assert replies == [(1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0)]
    with shop(table, NOON, timezone) as client:
        assert by_day(client, "2026-11-01", "2026-11-30") == {"2026-11-22": 1}


def test_a_merge_after_midnight_takes_the_day_of_before_and_its_late_copy(table: Table) -> None:
    early, late = instants("2026-11-22T23:59:58Z", "2026-11-22T23:59:59Z", userId=..., anonymousId="a1")
    clock = Clock(datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))
    with lambda_client(make_app(make_settings(), table, clock)) as client:
        post(client, [early])
        clock.move(seconds=2)
        merged = client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)

        assert merged.json()["days"] == 1
        assert counts(post(client, [early, late])) == (1, 1, 0)
        assert by_day(client, "2026-11-01", "2026-11-30") == {"2026-11-22": 2}


def test_an_event_that_has_grown_too_old_meanwhile_is_rejected_and_stays_counted(table: Table) -> None:
    event = make_event(timestamp=at(days=-7))
    clock = Clock()
    with lambda_client(make_app(make_settings(), table, clock)) as client:
        first = post(client, [event])
        clock.move(seconds=1)
        late = post(client, [event])

        assert counts(first) == (1, 0, 0)
        assert rejections(late) == [(0, "timestamp_out_of_range")]
        assert by_day(client, day(-7), TODAY) == {day(-7): 1}


# --- wrong clocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age_days", [1, 7, 31])
def test_the_window_is_exact_at_both_of_its_ends(table: Table, age_days: int) -> None:
    inside = [at(days=-age_days), at(hours=24), at()]
    outside = [at(days=-age_days, seconds=-0.001), at(hours=24, seconds=0.001), at(days=-400), at(days=40)]
    with shop(table, NOON, max_event_age_days=age_days) as client:
        reply = post(client, instants(*inside, *outside))

        assert rejections(reply) == [(index, "timestamp_out_of_range") for index in range(3, 7)]
        assert by_day(client, day(-age_days), day(1)) == {day(-age_days): 1, TODAY: 1, day(1): 1}


@pytest.mark.parametrize(
    "timestamp",
    ["1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2036-02-07T06:28:16Z", "0001-01-01T00:00:00+14:00"],
)
def test_a_clock_that_was_never_set_is_rejected_and_never_moved_to_today(
    table: Table, timestamp: str
) -> None:
    with shop(table, NOON) as client:
        reply = post(client, [make_event(timestamp=timestamp, sentAt=at()), make_event()], sentAt=at())

        assert rejections(reply) == [(0, "timestamp_out_of_range")]
        assert by_day(client, day(-300), day(1)) == {TODAY: 1}


def test_when_a_batch_was_sent_corrects_nothing(table: Table) -> None:
    """A client whose clock is an hour ahead: its events keep the day they say, at every attempt."""
    ahead = make_event(timestamp="2026-11-23T00:30:00Z")
    with shop(table, datetime(2026, 11, 22, 23, 30, tzinfo=UTC)) as client:
        first = post(client, [ahead], sentAt="2026-11-23T00:30:01Z")
        again = post(client, [ahead], sentAt="2026-11-23T04:00:00Z")

        assert (counts(first), counts(again)) == ((1, 0, 0), (0, 1, 0))
        assert by_day(client, day(-1), day(2)) == {day(1): 1}


# --- history ---------------------------------------------------------------------------------------------------------


def imported(client: httpx.Client, batch: list[dict[str, Any]]) -> httpx.Response:
    return client.post("/v1/import", json={"batch": batch}, headers=READER)


def test_an_import_takes_any_day_since_2000(table: Table) -> None:
    with shop(table, NOON, "Asia/Kathmandu") as client:
        batch = instants(
            "2000-01-01T00:00:00Z", "1999-12-31T23:59:59Z", at(hours=24), at(hours=24, seconds=1)
        )
        reply = imported(client, batch)

        assert rejections(reply) == [(1, "timestamp_out_of_range"), (3, "timestamp_out_of_range")]
        assert by_day(client, "2000-01-01", "2000-01-02") == {"2000-01-01": 1}


def test_an_import_takes_no_day_that_would_expire_at_once(table: Table) -> None:
    """With its day, what it has seen would be gone, and the next run would count again."""
    with shop(table, NOON, day_ttl_days=30) as client:
        batch = instants(at(days=-30), at(days=-30, seconds=-1), "2000-01-01T00:00:00Z")
        reply = imported(client, batch)

        assert rejections(reply) == [(1, "timestamp_out_of_range"), (2, "timestamp_out_of_range")]
        assert "30 days" in reply.json()["rejected"][0]["reason"]
        assert counts(imported(client, batch)) == (0, 1, 2)
        found = table.client.scan(TableName=table.name)["Items"]
        ends = [int(item["expiresAt"]["N"]) for item in found if item["SK"]["S"].startswith("DAY#")]
        assert [end > NOON.timestamp() for end in ends] == [True]


def test_a_ttl_longer_than_since_2000_takes_all_of_it(table: Table) -> None:
    with shop(table, NOON, day_ttl_days=36_500) as client:
        assert counts(imported(client, instants("2000-01-01T00:00:00Z", "1999-12-31T23:59:59Z"))) == (1, 0, 1)


def test_no_table_of_a_test_expires_by_the_clock_of_today(table: Table) -> None:
    """What expired at the noon of these tests, or will, is for them to look at."""
    described = table.client.describe_time_to_live(TableName=table.name)

    assert described["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED"
