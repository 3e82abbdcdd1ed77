"""Keys are built and parsed in one place, and every id survives the round trip."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from service import ids, keys

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=128) | st.sampled_from(
    ["#", "##", "u#1", "DAY#2026-11-22", "ALIAS", "ALIAS#x", "$", "USER#u", "anon_#", "~"]
)
DAYS = st.dates(date(2000, 1, 1), date(2100, 1, 1)).map(date.isoformat)


@given(IDS, DAYS)
def test_a_day_key_gives_its_day_back(distinct_id: str, day: str) -> None:
    key = keys.day_key(distinct_id, day)

    assert key == (f"USER#{distinct_id}", f"DAY#{day}")
    assert day == keys.day_of(key.sk)


@given(IDS, IDS)
def test_a_way_back_gives_its_anonymous_id_back(user_id: str, anonymous_id: str) -> None:
    key = keys.way_back_key(user_id, anonymous_id)

    assert key == (f"USER#{user_id}", f"ALIAS#{anonymous_id}")
    assert anonymous_id == keys.anonymous_id_of(key.sk)


@given(IDS, IDS)
def test_two_ids_never_share_a_partition(one: str, other: str) -> None:
    assert (one == other) == (keys.user_pk(one) == keys.user_pk(other))


@given(IDS, IDS, DAYS)
def test_items_of_one_kind_lie_in_their_range_and_no_others_do(owner: str, other: str, day: str) -> None:
    def is_in(sk: str, span: tuple[str, str]) -> bool:
        # DynamoDB compares sort keys as UTF-8 bytes.
        return span[0].encode() <= sk.encode() <= span[1].encode()

    day_sk = keys.day_key(owner, day).sk
    alias_sk = keys.alias_key(owner).sk
    way_back_sk = keys.way_back_key(owner, other).sk
    erased_sk = keys.erased_key(owner).sk

    assert [is_in(sk, keys.every_day()) for sk in (day_sk, alias_sk, way_back_sk)] == [True, False, False]
    assert [is_in(sk, keys.every_way_back()) for sk in (day_sk, alias_sk, way_back_sk)] == [
        False,
        False,
        True,
    ]
    # What is held on a person; the marks hold nothing.
    events_sk = keys.events_key(owner, 0, "0" * 16).sk
    assert all(keys.is_exported(sk) for sk in (day_sk, way_back_sk, events_sk))
    assert not any(keys.is_exported(sk) for sk in (alias_sk, erased_sk))
    assert [
        is_in(sk, keys.every_events()) for sk in (day_sk, alias_sk, way_back_sk, erased_sk, events_sk)
    ] == [
        *[False] * 4,
        True,
    ]
    assert not is_in(events_sk, keys.every_day())
    assert not is_in(events_sk, keys.every_way_back())
    assert not is_in(erased_sk, keys.every_day())
    assert not is_in(erased_sk, keys.every_way_back())
    assert [keys.is_day(sk) for sk in (day_sk, alias_sk, way_back_sk, erased_sk)] == [
        True,
        False,
        False,
        False,
    ]


# From 1970, the earliest that is counted, to the year 9000.
INSTANTS_MS = st.integers(0, 221_845_046_400_000)


@given(INSTANTS_MS, INSTANTS_MS, INSTANTS_MS, st.sampled_from(["0" * 16, "f" * 16]))
def test_raw_events_lie_in_the_order_of_their_first(
    first_ms: int, last_ms: int, instant_ms: int, digest: str
) -> None:
    sk = keys.events_key("u", instant_ms, digest).sk
    low, high = keys.events_between(first_ms, last_ms)

    assert (first_ms <= instant_ms <= last_ms) == (low <= sk <= high)
    assert keys.first_ms_of(sk) == instant_ms
    assert keys.is_events(sk)


def test_a_sort_key_of_the_longest_id_leaves_room() -> None:
    longest = ids.ANONYMOUS_PREFIX + "💶" * ids.ID_CHARACTERS_MAX

    assert len(keys.way_back_key("u", longest).sk.encode()) < keys.SORT_KEY_BYTES_MAX


@given(DAYS, DAYS, DAYS)
def test_a_range_of_days_holds_exactly_the_days_between(first: str, last: str, day: str) -> None:
    low, high = keys.day_range(first, last)

    assert (first <= day <= last) == (low <= keys.day_key("u", day).sk <= high)


def test_pending_rows_spread_over_sixteen_partitions() -> None:
    partitions = {keys.pending_key("2026-11-22T12:00:00.000+00:00", f"anon_{n}").pk for n in range(500)}

    assert {f"PENDING#{shard}" for shard in "0123456789abcdef"} == partitions


@given(IDS)
def test_a_pending_row_sorts_by_its_start_and_names_its_id(distinct_id: str) -> None:
    started_at = "2026-11-22T12:00:00.000+00:00"
    key = keys.pending_key(started_at, distinct_id)

    assert keys.pending_of(key.sk) == (started_at, distinct_id)
    assert key.pk in keys.pending_pks()
    assert key == keys.pending_key(started_at, distinct_id)


@given(st.text(st.characters(), min_size=1, max_size=128))
def test_keys_of_accepted_ids_fit_into_dynamodb(text: str) -> None:
    try:
        user, anonymous = ids.user_id(text), ids.anonymous_id(text)
    except ids.InvalidIdError:
        return
    if user and anonymous:
        assert len(keys.user_pk(anonymous).encode()) <= 2048
        assert len(keys.way_back_key(user, anonymous).sk.encode()) <= 1024
        assert len(keys.pending_key("2026-11-22T12:00:00.000+00:00", anonymous).sk.encode()) <= 1024


def test_the_longest_id_of_the_widest_characters_fits_too() -> None:
    anonymous = ids.anonymous_id("💶" * 128)
    assert anonymous is not None

    assert len(keys.way_back_key("u", anonymous).sk.encode()) <= 1024


STARTS = st.integers(946_684_800, 4_102_444_800).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
)


@given(STARTS, STARTS, IDS)
def test_the_rows_begun_before_a_moment_lie_in_its_range(begun: str, moment: str, distinct_id: str) -> None:
    low, high = keys.pending_until(moment)

    assert (begun < moment) == (low <= keys.pending_key(begun, distinct_id).sk <= high)


@given(IDS, IDS)
def test_nothing_lies_between_a_sort_key_and_the_following_one(one: str, other: str) -> None:
    sk = keys.way_back_key("u", one).sk
    next_sk = keys.following(sk).encode()

    assert sk.encode() < next_sk
    assert (keys.way_back_key("u", other).sk.encode() > sk.encode()) == (
        keys.way_back_key("u", other).sk.encode() >= next_sk
    )


@given(IDS, IDS)
def test_an_orders_claim_is_found_by_its_id_alone_and_does_not_tell_it(one: str, other: str) -> None:
    key = keys.order_key(one)

    assert (key == keys.order_key(other)) == (one == other)
    assert (key.sk, len(key.pk)) == ("ORDER", len("ORDER#") + 64)
    assert key.pk.startswith("ORDER#")


def test_the_mark_of_an_id_is_its_alias_or_its_erasure() -> None:
    assert keys.mark_key("anon_a") == keys.alias_key("anon_a") == ("USER#anon_a", "ALIAS")
    assert keys.mark_key("u") == keys.erased_key("u") == ("USER#u", "ERASED")
