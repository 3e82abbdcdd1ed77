"""Events with both ids whose anonymous id is another user's: counted once, for the right one, at a bounded price."""

from __future__ import annotations

import httpx
import pytest

from service.dynamodb import Table
from tests import builders
from tests.builders import (
    READER,
    capacity,
    counts,
    lambda_client,
    make_event,
    make_events,
    make_settings,
    post,
    rejections,
    totals,
)


@pytest.fixture(autouse=True)
def _first_user(client: httpx.Client) -> None:
    """The anonymous id is u-1's."""
    merged = client.post("/v1/users/u-1/merge", json={"anonymousId": "a1"}, headers=READER)
    assert merged.status_code == 200


def test_sending_a_large_batch_again_costs_about_what_it_cost_first(client: httpx.Client) -> None:
    events = [event | {"userId": "u-2", "anonymousId": "a1"} for event in make_events(90)]
    first = post(client, events)
    again = post(client, events)
    with_one_new = post(client, [*events[:89], make_event(userId="u-2", anonymousId="a1", messageId="new")])

    assert counts(first) == (90, 0, 0)
    assert counts(again) == (0, 90, 0)
    assert counts(with_one_new) == (1, 89, 0)
    # The other day has 90 ids twice, as seen and as counted elsewhere, which are over 1 KB.
    assert capacity(first)[0] == 6
    # A transaction that fails, and what it then comes to; nothing by halves.
    assert capacity(again)[0] <= 6
    assert capacity(with_one_new)[0] <= 16
    assert totals(client, "u-2")["events"] == 91


def test_an_event_whose_first_copy_may_be_on_a_full_day_is_day_full(table: Table) -> None:
    app = builders.make_app(make_settings(max_events_per_user_day=2), table)
    with lambda_client(app) as client:
        for number in range(6):
            visitor = f"v{number}"
            events = [
                make_event(userId=..., anonymousId=visitor, messageId=f"{visitor}-{copy}") for copy in (1, 2)
            ]
            assert counts(post(client, events)) == (2, 0, 0)
            client.post("/v1/users/u-1/merge", json={"anonymousId": visitor}, headers=READER)
        # Counted for u-1, whose day has forgotten it; the client sends it again after another user has logged in.
        again = post(client, [make_event(userId="u-2", anonymousId="v5", messageId="v5-1")])

        assert rejections(again) == [(0, "day_full")]
        assert totals(client, "u-1")["events"] == 12
        assert totals(client, "u-2")["events"] == 0


def test_a_day_with_no_room_takes_no_first_copy_so_the_event_counts(table: Table) -> None:
    app = builders.make_app(make_settings(max_events_per_user_day=2), table)
    with lambda_client(app) as client:
        post(client, [make_event(userId="u-1", messageId=f"m-{number}") for number in range(2)])
        reply = post(
            client, [make_event(userId="u-2", anonymousId="a1", messageId=f"n-{n}") for n in range(2)]
        )

        assert counts(reply) == (2, 0, 0)
        assert counts(post(client, [make_event(userId=..., anonymousId="a1", messageId="n-0")])) == (0, 0, 1)
        assert (totals(client, "u-1")["events"], totals(client, "u-2")["events"]) == (2, 2)


def test_more_events_than_the_other_day_has_room_for_all_count(table: Table) -> None:
    app = builders.make_app(make_settings(max_events_per_user_day=10), table)
    with lambda_client(app) as client:
        post(client, [make_event(userId="u-1", messageId=f"m-{number}") for number in range(7)])
        events = [make_event(userId="u-2", anonymousId="a1", messageId=f"n-{number}") for number in range(9)]

        assert counts(post(client, events)) == (9, 0, 0)
        assert counts(post(client, events)) == (0, 9, 0)
        assert (totals(client, "u-1")["events"], totals(client, "u-2")["events"]) == (7, 9)


def test_an_alias_of_another_users_previous_id_merges_nothing(client: httpx.Client) -> None:
    alias = make_event(type="alias", userId="u-9", previousId="a1", anonymousId="a2")

    assert rejections(post(client, [alias])) == [(0, "identity_conflict")]
    assert client.get("/v1/users/anon_a2", headers=READER).json()["userId"] == "anon_a2"
