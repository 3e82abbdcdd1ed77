"""Reads and writes that a request does without: what it knows already it does not ask, and what must fail is not tried.

And the ones it does not do without.
"""

from __future__ import annotations

from typing import Any

from service.dynamodb import Table
from tests import faults
from tests.builders import counts, day, lambda_client, make_app, make_event, make_settings, post

Event = dict[str, Any]
ORDER: Event = {"type": "track", "event": "Order Completed", "properties": {"orderId": "o-1"}}


def calls_of(table: Table, *batches: list[Event], **settings: Any) -> tuple[list[str], tuple[int, int, int]]:
    """The calls that the last batch makes, in any order, and what it comes to."""
    with lambda_client(make_app(make_settings(**settings), table)) as client:
        for batch in batches[:-1]:
            post(client, batch)
        with faults.injected() as log:
            decided = counts(post(client, batches[-1]))
    return sorted(log.operations), decided


def test_more_than_a_day_takes_is_read_before_it_is_written_in_vain(table: Table) -> None:
    day = [make_event(messageId=f"m-{n}") for n in range(2)]
    more = [make_event(messageId=f"n-{n}") for n in range(3)]

    assert calls_of(table, day, more, max_events_per_user_day=2) == (["GetItem"], (0, 0, 3))


def test_an_order_twice_in_a_batch_needs_no_read_where_no_raw_events_are_kept(table: Table) -> None:
    batch = [make_event(messageId=f"m-{n}", **ORDER) for n in range(2)]

    assert calls_of(table, [make_event(userId="u-2")], batch) == (["TransactWriteItems"], (1, 1, 0))


def test_an_order_that_somebody_else_has_claimed_needs_no_read(table: Table) -> None:
    """The write has asked the day for this very event."""
    first, again = make_event(userId="u-2", messageId="m-1", **ORDER), make_event(messageId="m-2", **ORDER)

    assert calls_of(table, [first], [again], raw_events=True) == (["TransactWriteItems"], (0, 1, 0))


def test_nor_does_it_beside_an_event_that_the_day_has_shown_to_know(table: Table) -> None:
    known, first = make_event(messageId="m-1"), make_event(userId="u-2", messageId="m-2", **ORDER)
    batch = [known, make_event(messageId="m-3", **ORDER)]
    operations, decided = calls_of(table, [known], [first], batch, raw_events=True)

    # The event known is kept again under its key, by the put.
    assert (operations, decided) == (["PutItem", "TransactWriteItems"], (0, 2, 0))


def test_nor_beside_one_that_the_day_of_the_visitors_user_knows(table: Table) -> None:
    """The visitor is the user's who came first, and has sent an event of this batch already."""
    link = make_event(type="identify", anonymousId="a1", userId="u-2", messageId="m-0")
    known = make_event(anonymousId="a1", userId=..., messageId="m-1")
    first = make_event(userId="u-3", messageId="m-2", **ORDER)
    batch = [
        make_event(userId="u-1", anonymousId="a1", messageId="m-1"),
        make_event(userId="u-1", anonymousId="a1", messageId="m-3", **ORDER),
    ]
    operations, decided = calls_of(table, [link], [known], [first], batch, raw_events=True)

    # Whose the visitor is, the write that fails, and the raw event of what the other day had seen.
    assert (operations, decided) == (["GetItem", "PutItem", "TransactWriteItems"], (0, 2, 0))


def test_a_full_day_does_not_hide_what_the_day_of_the_visitors_user_knows(table: Table) -> None:
    """Before an event is refused for want of room, both days are read."""
    link = make_event(type="identify", anonymousId="a1", userId="u-2", messageId="m-0")
    known = make_event(anonymousId="a1", userId=..., messageId="m-1")
    full = [make_event(messageId=f"n-{n}") for n in range(2)]
    batch = [make_event(anonymousId="a1", messageId=f"m-{n}") for n in range(1, 4)]
    operations, decided = calls_of(table, [link], [known], full, batch, max_events_per_user_day=2)

    # Whose the visitor is, and the two days.
    assert (operations, decided) == (["GetItem", "GetItem", "GetItem"], (0, 1, 2))


def test_a_day_that_a_merge_has_closed_takes_no_event(table: Table) -> None:
    """Which events it holds is not known any more, so none can be told from its own retry."""
    key = {"PK": {"S": "USER#u-1"}, "SK": {"S": f"DAY#{day()}"}}
    table.client.put_item(
        TableName=table.name,
        Item={
            **key,
            "events": {"N": "9"},
            "revision": {"N": "1"},
            "full": {"BOOL": True},
            "schema": {"N": "1"},
        },
    )

    assert calls_of(table, [make_event()])[1] == (0, 0, 1)
    assert table.client.get_item(TableName=table.name, Key=key)["Item"]["events"] == {"N": "9"}
