"""What an erasure does to events that say who somebody is: what is older is refused, what is newer merges."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from service.dynamodb import Table
from tests.builders import (
    READER,
    Clock,
    at,
    counts,
    lambda_client,
    make_app,
    make_event,
    make_settings,
    post,
    rejections,
    totals,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(table: Table, clock: Clock) -> Iterator[httpx.Client]:
    """A minute after Ada was erased, who was nobody yet."""
    with lambda_client(make_app(make_settings(max_event_age_days=1), table, clock)) as opened:
        assert opened.delete("/v1/users/u-ada", headers=READER).status_code == 200
        clock.move(minutes=1)
        yield opened


@pytest.mark.parametrize("order", [(-60, 1), (1, -60)], ids=["older first", "newer first"])
def test_a_batch_from_before_and_after_merges_for_what_is_new(
    client: httpx.Client, order: tuple[int, int]
) -> None:
    events = [
        make_event(userId="u-ada", anonymousId="phone", timestamp=at(minutes=minutes)) for minutes in order
    ]
    reply = post(client, events)

    assert counts(reply) == (1, 0, 1)
    assert rejections(reply) == [(order.index(-60), "erased")]
    assert totals(client, "anon_phone")["events"] == 1


def test_an_identify_from_before_writes_no_id_down(client: httpx.Client, table: Table) -> None:
    late = make_event(type="identify", userId="u-ada", anonymousId="phone", timestamp=at(minutes=-60))
    reply = post(client, [late, make_event(userId="u-ada", anonymousId="phone", timestamp=at(minutes=-60))])

    assert rejections(reply) == [(0, "erased"), (1, "erased")]
    stored = table.client.scan(TableName=table.name)["Items"]
    assert not [item for item in stored if "phone" in str(item)]


def test_the_second_user_of_a_batch_gets_a_visitor_whom_the_first_is_too_old_for(
    client: httpx.Client,
) -> None:
    older = make_event(userId="u-ada", anonymousId="phone", timestamp=at(minutes=-60))
    other = make_event(userId="u-bea", anonymousId="phone", timestamp=at(minutes=1))
    reply = post(client, [older, other])

    assert rejections(reply) == [(0, "erased")]
    assert client.get("/v1/users/u-bea", headers=READER).json()["anonymousIds"] == ["anon_phone"]
