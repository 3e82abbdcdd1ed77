"""Reading one event: its day, its identity, and every reason to refuse it."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import EVENT_BYTES_MAX, Event, Rejection, Rules
from service.metrics import Contribution
from tests.builders import NOON, TODAY, at, days_back, make_event, make_settings

WEEK = timedelta(days=7)
IDENTITY_SECRET = b"shop secret"


def rules(
    now: datetime = NOON, timezone: str = "UTC", *, is_trusted: bool = False, **overrides: Any
) -> Rules:
    return make_settings(timezone=ZoneInfo(timezone), **overrides).rules(now, is_trusted=is_trusted)


def read(
    event: object,
    given_rules: Rules | None = None,
    context: dict[str, Any] | None = None,
    *,
    large: bool = False,
) -> Event | Rejection:
    return (given_rules or rules()).read(event, 3, context or {}, may_be_large=large)


def accepted(event: object, given_rules: Rules | None = None, context: dict[str, Any] | None = None) -> Event:
    found = read(event, given_rules, context)
    assert isinstance(found, Event), found
    return found


def part_of(
    event: object, given_rules: Rules | None = None, context: dict[str, Any] | None = None
) -> Contribution:
    part = accepted(event, given_rules, context).part
    assert part is not None
    return part


def code(event: object, given_rules: Rules | None = None, *, large: bool = False) -> str | None:
    found = read(event, given_rules, large=large)
    return found.code if isinstance(found, Rejection) else None


# --- the day ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-7 * 86_400, None),
        (-7 * 86_400 - 1, "timestamp_out_of_range"),
        (-7 * 86_400 - 0.001, "timestamp_out_of_range"),
        (86_400, None),
        (86_400 + 1, "timestamp_out_of_range"),
        (86_400 + 0.001, "timestamp_out_of_range"),
        (0, None),
    ],
)
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Apia", "America/Los_Angeles"])
def test_the_window_ends_to_the_exact_second(seconds: float, expected: str | None, timezone: str) -> None:
    for now in (NOON, NOON + timedelta(hours=11.999), NOON.replace(microsecond=500_000)):
        event = make_event(timestamp=(now + timedelta(seconds=seconds)).isoformat())

        assert expected == code(event, rules(now, timezone))


@pytest.mark.parametrize("days", [1, 31])
def test_the_age_limit_is_the_settings_own(days: int) -> None:
    assert code(make_event(timestamp=at(days=-days)), rules(max_event_age_days=days)) is None
    assert (
        code(make_event(timestamp=at(days=-days, seconds=-1)), rules(max_event_age_days=days))
        == "timestamp_out_of_range"
    )


@pytest.mark.parametrize(
    ("timestamp", "timezone", "day"),
    [
        ("2026-11-22T00:00:00Z", "UTC", "2026-11-22"),
        ("2026-11-21T23:59:59.999Z", "UTC", "2026-11-21"),
        ("2026-11-22T23:30:00Z", "Europe/Berlin", "2026-11-23"),
        ("2026-11-22T22:59:59Z", "Europe/Berlin", "2026-11-22"),
        ("2026-11-22T10:30:00Z", "Pacific/Apia", "2026-11-22"),
        ("2026-11-22T11:00:00Z", "Pacific/Apia", "2026-11-23"),
        ("2026-11-22T07:59:59Z", "America/Los_Angeles", "2026-11-21"),
        ("2026-11-22T18:15:00Z", "Asia/Kathmandu", "2026-11-23"),
        # Offsets say which instant it is; the day is the shop's.
        ("2026-11-22T00:30:00+01:00", "UTC", "2026-11-21"),
        ("2026-11-21T20:00:00-05:00", "UTC", "2026-11-22"),
        ("2026-11-22T00:30:00+01:00", "Europe/Berlin", "2026-11-22"),
        # Without one it is UTC, whatever the shop's zone.
        ("2026-11-22T23:30:00", "Europe/Berlin", "2026-11-23"),
        ("2026-11-22", "UTC", "2026-11-22"),
        ("2026-11-22T09:30:00.123456+0000", "UTC", "2026-11-22"),
        ("2026-11-22 09:30", "UTC", "2026-11-22"),
        # A leap second belongs to the day it ends.
        ("2026-11-21T23:59:60Z", "UTC", "2026-11-21"),
        ("2026-11-21T23:59:60.500Z", "UTC", "2026-11-21"),
    ],
)
def test_the_day_is_the_timestamps_in_the_shops_zone(timestamp: str, timezone: str, day: str) -> None:
    assert day == accepted(make_event(timestamp=timestamp), rules(timezone=timezone)).day


@pytest.mark.parametrize(
    ("timestamp", "day"),
    [
        # Summer time ends on 2026-10-25: the day is 25 hours long, and its third hour comes twice.
        ("2026-10-24T21:59:59Z", "2026-10-24"),
        ("2026-10-24T22:00:00Z", "2026-10-25"),
        ("2026-10-25T00:30:00Z", "2026-10-25"),
        ("2026-10-25T01:30:00Z", "2026-10-25"),
        ("2026-10-25T22:59:59Z", "2026-10-25"),
        ("2026-10-25T23:00:00Z", "2026-10-26"),
    ],
)
def test_the_long_day_at_the_end_of_summer_time_is_one_day(timestamp: str, day: str) -> None:
    given_rules = rules(datetime(2026, 10, 26, tzinfo=UTC), "Europe/Berlin")

    assert day == accepted(make_event(timestamp=timestamp), given_rules).day


@pytest.mark.parametrize(
    ("timestamp", "day"),
    [
        ("2026-03-28T22:59:59Z", "2026-03-28"),
        ("2026-03-28T23:00:00Z", "2026-03-29"),
        ("2026-03-29T21:59:59Z", "2026-03-29"),
        ("2026-03-29T22:00:00Z", "2026-03-30"),
    ],
)
def test_the_short_day_at_its_beginning_is_one_day(timestamp: str, day: str) -> None:
    given_rules = rules(datetime(2026, 3, 30, tzinfo=UTC), "Europe/Berlin")

    assert day == accepted(make_event(timestamp=timestamp), given_rules).day


def test_the_day_that_samoa_left_out_gets_no_events() -> None:
    given_rules = rules(datetime(2011, 12, 31, tzinfo=UTC), "Pacific/Apia")
    found = [
        accepted(make_event(timestamp=timestamp), given_rules).day
        for timestamp in ("2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z")
    ]

    assert found == ["2011-12-29", "2011-12-31"]


YEAR_2026 = st.integers(0, 364 * 86_400).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(
    YEAR_2026,
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/St_Johns"]),
    st.lists(st.timedeltas(-timedelta(days=1), WEEK), min_size=2, max_size=4),
)
def test_the_day_is_the_same_whenever_the_event_arrives(
    instant: datetime, timezone: str, delays: list[timedelta]
) -> None:
    event = make_event(timestamp=instant.isoformat())
    days = {accepted(event, rules(instant + delay, timezone)).day for delay in delays}

    assert days == {instant.astimezone(ZoneInfo(timezone)).date().isoformat()}


@given(
    YEAR_2026,
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "Pacific/Pago_Pago"]),
    st.integers(1, 31),
    st.timedeltas(timedelta(0), timedelta(days=32)),
)
def test_the_days_a_merge_closes_hold_every_accepted_day_and_one_more_on_each_side(
    now: datetime, timezone: str, age_days: int, before: timedelta
) -> None:
    given_rules = rules(now, timezone, max_event_age_days=age_days)
    instant = now + timedelta(days=1) - before
    found = read(make_event(timestamp=instant.isoformat()), given_rules)
    days = given_rules.days()

    assert days_back(days[0], days[-1]) == days
    if isinstance(found, Event):
        assert found.day in days[1:-1]


def test_without_a_timestamp_the_day_is_that_of_receipt() -> None:
    late = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)

    assert accepted(make_event(timestamp=...), rules(late)).day == "2026-11-22"
    assert accepted(make_event(timestamp=None), rules(late, "Europe/Berlin")).day == "2026-11-23"


def test_the_original_timestamp_stands_in_for_a_missing_one() -> None:
    event = make_event(timestamp=..., originalTimestamp=at(days=-2))

    assert accepted(event).day == "2026-11-20"
    assert accepted(event | {"timestamp": at(days=-1)}).day == "2026-11-21"


def test_when_it_was_sent_decides_nothing() -> None:
    event = make_event(timestamp=at(days=-1), sentAt=at(days=-3), receivedAt=at(days=-4))

    assert accepted(event).day == "2026-11-21"


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-11-31T00:00:00Z",
        1795348800,
        1795348800000,
        True,
        ["2026-11-22"],
        "2026-11-22T25:00:00Z",
        "2026-11-22T12:00:61Z",
        "٢٠٢٦-11-22",
        "2026-11-22T12:00:00Z" + " " * 60,
        "�",
        "2026-11-22T11:60:00Z",
        "2026-11-22T11:00:00+01:60",
    ],
)
def test_what_is_no_iso_8601_timestamp_is_refused(timestamp: object) -> None:
    assert code(make_event(timestamp=timestamp)) == "invalid_event"


@pytest.mark.parametrize(
    "timestamp",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31", "9999-12-31", "2026-01-01"],
)
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Apia", "Pacific/Pago_Pago"])
def test_timestamps_at_the_ends_of_time_are_out_of_range(timestamp: str, timezone: str) -> None:
    assert code(make_event(timestamp=timestamp), rules(timezone=timezone)) == "timestamp_out_of_range"


@pytest.mark.parametrize("kind", ["identify", "alias", "group"])
def test_events_that_are_not_counted_need_no_day(kind: str) -> None:
    event = accepted(make_event(type=kind, previousId="a1", timestamp="whenever"))

    assert (event.day, event.part) == (None, None)


# --- identity --------------------------------------------------------------------------------------------------------


def test_ids_are_normalised() -> None:
    event = accepted(make_event(userId=" u-1 ", anonymousId="a1"))

    assert (event.user_id, event.anonymous_id, event.previous_id) == ("u-1", "anon_a1", None)


@pytest.mark.parametrize(
    "ids",
    [
        {"userId": ...},
        {"userId": None, "anonymousId": None},
        {"userId": "", "anonymousId": " "},
        {"userId": "anon_a1"},
        {"userId": "guest"},
        {"userId": "u-1", "anonymousId": "undefined"},
        {"userId": True},
        {"userId": ["u-1"]},
        {"userId": "u/1"},
        {"userId": "\ud800"},
        {"userId": "x" * 129},
        {"messageId": 1.5},
        {"messageId": ["m"]},
        {"messageId": True},
    ],
)
def test_bad_ids_are_refused(ids: dict[str, Any]) -> None:
    assert code(make_event(**ids)) == "invalid_id"


def test_an_alias_takes_its_previous_id_for_an_anonymous_one() -> None:
    event = accepted(make_event(type="alias", userId="u-1", previousId="a1"))

    assert (event.user_id, event.previous_id) == ("u-1", "anon_a1")


@pytest.mark.parametrize("ids", [{"previousId": "a1", "userId": ...}, {"userId": "u-1"}, {"previousId": "0"}])
def test_an_alias_without_both_sides_is_refused(ids: dict[str, Any]) -> None:
    assert code(make_event(type="alias", **ids)) == "invalid_id"


def test_a_previous_id_means_nothing_elsewhere() -> None:
    assert accepted(make_event(previousId="guest")).previous_id is None


def token(user_id: str) -> str:
    return hmac.new(IDENTITY_SECRET, user_id.encode(), hashlib.sha256).hexdigest()


def test_a_user_id_from_a_public_key_brings_its_token_where_a_secret_is_set() -> None:
    strict = rules(identity_secret=IDENTITY_SECRET)

    assert code(make_event(context={"userToken": token("u-1")}), strict) is None
    for wrong in (None, "", token("u-2"), token("u-1").upper(), "é", "\ud800", 5, [token("u-1")]):
        assert code(make_event(context={"userToken": wrong}), strict) == "identity_unverified"
    assert code(make_event(), strict) == "identity_unverified"


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "alias", "group"])
def test_every_type_of_event_is_held_to_that(kind: str) -> None:
    event = make_event(type=kind, anonymousId="a1", previousId="a1")

    assert code(event, rules(identity_secret=IDENTITY_SECRET)) == "identity_unverified"


def test_the_token_is_of_the_normalised_id() -> None:
    event = make_event(userId=" Jose\u0301 ", context={"userToken": token("Jos\u00e9")})

    assert code(event, rules(identity_secret=IDENTITY_SECRET)) is None


def test_anonymous_visitors_and_trusted_callers_need_no_token() -> None:
    assert code(make_event(userId=..., anonymousId="a1"), rules(identity_secret=IDENTITY_SECRET)) is None
    assert code(make_event(), rules(identity_secret=IDENTITY_SECRET, is_trusted=True)) is None


def test_without_a_secret_no_token_is_looked_at() -> None:
    assert code(make_event(context={"userToken": "anything"})) is None


def test_a_trusted_caller_reports_revenue_where_only_the_server_may() -> None:
    order = make_event(event="Order Completed", properties={"revenue": 5})
    public, trusted = (rules(revenue_from="server", is_trusted=is_trusted) for is_trusted in (False, True))

    assert part_of(order, public).revenue is None
    assert part_of(order, trusted).revenue == ("USD", 500)


# --- bots, context, sessions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0)",
        "facebookexternalhit/1.1",
        "Mozilla/5.0 (compatible; Yahoo! Slurp)",
        "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
    ],
)
def test_crawlers_are_refused(agent: str) -> None:
    assert code(make_event(context={"userAgent": agent})) == "bot"


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Linux; Android 9; CUBOT X18 Plus) AppleWebKit/537.36 Chrome/96.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36",
        "",
        None,
        5,
        ["Googlebot"],
    ],
)
def test_everybody_else_is_not(agent: object) -> None:
    assert code(make_event(context={"userAgent": agent})) is None


def test_the_batchs_context_is_the_default_for_each_event() -> None:
    outer = {"userAgent": "Googlebot/2.1", "sessionId": "s-1"}

    assert isinstance(read(make_event(), context=outer), Rejection)
    browser = {"userAgent": "Firefox"}
    inherited = part_of(make_event(context=browser), context=outer)
    own = part_of(make_event(context=browser | {"sessionId": "s-2"}), context=outer)

    assert part_of(make_event(context={"sessionId": "s-1"})).session == inherited.session
    assert own.session != inherited.session


def test_a_null_in_an_events_context_is_absent_and_takes_the_default() -> None:
    part = part_of(make_event(context={"sessionId": None}), context={"sessionId": "s-1"})

    assert part_of(make_event(context={"sessionId": "s-1"})).session == part.session


@pytest.mark.parametrize("session", [None, "", True, 1.5, ["s"], {}])
def test_what_is_no_session_id_is_no_session(session: object) -> None:
    assert part_of(make_event(context={"sessionId": session})).session is None


def test_a_numeric_session_id_is_its_digits() -> None:
    number, text = (
        part_of(make_event(context={"sessionId": sent})).session
        for sent in (1_700_000_000_000, "1700000000000")
    )

    assert number == text is not None


# --- what an event is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [None, 5, "track", [], [{}], True])
def test_what_is_no_object_is_no_event(raw: object) -> None:
    assert Rejection(3, None, "invalid_event", "an event is an object") == read(raw)


@pytest.mark.parametrize("kind", [None, "", "Track", "delete", 5, ["track"], {}, ...])
def test_an_event_has_a_known_type(kind: object) -> None:
    assert code(make_event(type=kind)) == "invalid_event"


@pytest.mark.parametrize(
    "fields", [{"context": "x"}, {"context": []}, {"properties": 5}, {"properties": ["x"]}]
)
def test_context_and_properties_are_objects(fields: dict[str, Any]) -> None:
    assert code(make_event(**fields)) == "invalid_event"


def test_null_is_absent() -> None:
    event = make_event(
        anonymousId=None, properties=None, context=None, originalTimestamp=None, name=None, previousId=None
    )

    assert code(event) is None
    assert code(make_event(type="page", event=None, properties=None)) is None


def test_a_name_may_come_as_name_and_event_goes_first() -> None:
    assert part_of(make_event(event=..., name="Signed Up")).name == "Signed Up"
    assert part_of(make_event(event=None, name="Signed Up")).name == "Signed Up"
    assert part_of(make_event(event="One", name="Other")).name == "One"


def test_unknown_fields_are_ignored() -> None:
    assert code(make_event(integrations={"All": True}, _metadata=[1], userID=5, traits="x")) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"properties": {"revenue": "abc"}}, "invalid_amount"),
        ({"properties": {"revenue": 1, "currency": "?"}}, "invalid_amount"),
        ({"properties": {"products": 5}}, "invalid_event"),
        ({"properties": {"products": [{"quantity": -1}]}}, "invalid_amount"),
    ],
)
def test_a_bad_order_is_refused(fields: dict[str, Any], expected: str) -> None:
    assert expected == code(make_event(event="Order Completed", **fields))


def sized(length_bytes: int) -> dict[str, Any]:
    """An event whose JSON, without spaces, has exactly this many bytes."""
    event = make_event(properties={"text": ""})
    event["properties"]["text"] = "x" * (length_bytes - len(json.dumps(event, separators=(",", ":"))))
    return event


def test_an_event_may_have_32_kb_and_no_byte_more() -> None:
    assert EVENT_BYTES_MAX == 32 * 1024
    assert code(sized(32 * 1024), large=True) is None
    assert code(sized(32 * 1024 + 1), large=True) == "event_too_large"


def test_a_rejection_names_the_message_and_its_place() -> None:
    found = read(make_event(messageId="m-9", type="nonsense"))

    assert isinstance(found, Rejection)
    assert (found.index, found.message_id) == (3, "m-9")


# --- messageIds ------------------------------------------------------------------------------------------------------


def test_a_message_id_alone_tells_events_apart() -> None:
    one, again, other = (
        accepted(make_event(messageId=message_id, userId=user_id)).message_hash
        for message_id, user_id in (("m-1", "u-1"), ("m-1", "u-2"), ("m-2", "u-1"))
    )

    assert one == again != other
    assert len(one) == 6


def test_a_numeric_message_id_is_its_digits() -> None:
    assert accepted(make_event(messageId=7)).message_hash == accepted(make_event(messageId="7")).message_hash


@pytest.mark.parametrize("absent", [None, "", ...])
def test_without_a_message_id_the_event_as_sent_stands_for_it(absent: object) -> None:
    event = make_event(messageId=absent, properties={"a": 1, "b": [1.5, None]})
    same = dict(reversed(event.items()))
    other = make_event(messageId=absent, properties={"a": 2, "b": [1.5, None]})

    assert accepted(event).message_hash == accepted(same).message_hash != accepted(other).message_hash
    assert accepted(event).message_id is None


def test_it_does_not_depend_on_when_the_event_arrives() -> None:
    event = make_event(messageId=...)

    assert accepted(event).message_hash == accepted(event, rules(NOON + timedelta(days=3))).message_hash


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "type",
    "event",
    "name",
    "messageId",
    "userId",
    "anonymousId",
    "previousId",
    "timestamp",
    "properties",
    "context",
]
CODES = {"invalid_event", "invalid_id", "invalid_amount", "timestamp_out_of_range", "event_too_large", "bot"}


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON)
    | st.builds(lambda fields: make_event(**fields), st.dictionaries(st.sampled_from(FIELDS), JSON)),
    st.booleans(),
)
def test_whatever_is_sent_is_an_event_or_a_rejection(raw: dict[str, Any], large: bool) -> None:
    found = read(raw, large=large)

    assert isinstance(found, Event) or found.code in CODES


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "SECRET"},
        {"userId": "SECRET/"},
        {"anonymousId": "SECRET\nSECRET"},
        {"type": "alias", "previousId": "SECRET\x00"},
        {"messageId": ["SECRET"]},
        {"timestamp": "SECRET"},
        {"event": "SECRET" * 30},
        {"event": "SECRET\ud800"},
        {"properties": "SECRET"},
        {"context": "SECRET"},
        {"context": {"userAgent": "SECRET bot"}},
        {"event": "Order Completed", "properties": {"revenue": "SECRET"}},
        {"event": "Order Completed", "properties": {"revenue": 1, "currency": "SECRET"}},
        {"event": "Order Completed", "properties": {"products": "SECRET"}},
        {"event": "Page Left", "properties": {"engagedSeconds": "SECRET"}},
    ],
)
def test_a_reason_never_repeats_what_was_sent(fields: dict[str, Any]) -> None:
    found = read(make_event(**fields))

    assert isinstance(found, Rejection)
    assert "SECRET" not in found.code + found.reason
    assert 5 < len(found.reason) < 200


def test_an_ordinary_event_is_read_as_a_whole() -> None:
    event = accepted(make_event(messageId="m-1", context={"sessionId": "s"}))

    assert (event.index, event.type, event.message_id, event.day) == (3, "track", "m-1", TODAY)
    assert hashlib.sha256(b"m-1").digest()[:6] == event.message_hash
    assert event.part is not None
    assert event.part.counters == {"events": 1, "product_views": 1}
    assert hashlib.sha256(b"s").digest()[:6] == event.part.session


# --- the moment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["track", "page", "identify", "alias", "group"])
def test_every_event_is_of_the_moment_it_says(kind: str) -> None:
    event = make_event(type=kind, anonymousId="a", timestamp="2026-11-22T12:34:56.7899+01:00")

    assert accepted(event).instant_ms == 1_795_347_296_789


@pytest.mark.parametrize("timestamp", [..., None, "nonsense", 7, "0001-01-01T00:00:00+14:00"])
def test_what_is_not_counted_and_says_no_moment_is_of_now(timestamp: object) -> None:
    event = make_event(type="identify", anonymousId="a", timestamp=timestamp)

    assert accepted(event).instant_ms <= NOON.timestamp() * 1000
    if timestamp in (..., None, "nonsense", 7):
        assert accepted(event).instant_ms == NOON.timestamp() * 1000


@pytest.mark.parametrize(
    ("kept_days", "earliest"),
    [(None, "2000-01-01T00:00:00Z"), (30, at(days=-30)), (36_500, "2000-01-01T00:00:00Z")],
)
def test_an_import_reaches_back_as_far_as_days_are_kept(kept_days: int | None, earliest: str) -> None:
    given_rules = make_settings(day_ttl_days=kept_days).rules(NOON, is_trusted=True, is_import=True)
    before = (datetime.fromisoformat(earliest) - timedelta(milliseconds=1)).isoformat()

    assert code(make_event(timestamp=earliest), given_rules) is None
    assert code(make_event(timestamp=before), given_rules) == "timestamp_out_of_range"


def test_an_import_says_when_each_event_was() -> None:
    given_rules = make_settings().rules(NOON, is_trusted=True, is_import=True)

    assert code(make_event(timestamp=...), given_rules) == "invalid_event"


@pytest.mark.parametrize("junk", ["null", "a/b", True, 1.5])
def test_an_order_with_a_junk_id_is_refused(junk: object) -> None:
    order = make_event(event="Order Completed", properties={"orderId": junk})

    assert code(order) == "invalid_id"
    assert code(order, rules(revenue_from="server")) is None
