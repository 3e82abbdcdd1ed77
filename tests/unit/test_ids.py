"""What may be an id, against the rules of the wire written out a second time."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import ids

JUNK = [
    "null",
    "undefined",
    "none",
    "nan",
    "0",
    "guest",
    "anonymous",
    "[object Object]",
    "00000000-0000-0000-0000-000000000000",
]
KINDS: list[Callable[[object], str | None]] = [ids.user_id, ids.anonymous_id, ids.distinct_id]


def is_allowed(text: str) -> bool:
    """Whether a normalised text may be an id: the rules once more, in other words."""
    return (
        1 <= len(text) <= 128
        and not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
        and "/" not in text
        and text not in (".", "..")
        and text.lower() not in [junk.lower() for junk in JUNK]
    )


@given(st.text(st.characters(), max_size=140))
def test_a_text_is_a_user_id_exactly_when_the_rules_allow_it(text: str) -> None:
    normalised = unicodedata.normalize("NFC", text).strip()
    if not normalised:
        assert ids.user_id(text) is None
    elif is_allowed(normalised) and not normalised.startswith("anon_"):
        assert normalised == ids.user_id(text)
    else:
        with pytest.raises(ids.InvalidIdError):
            ids.user_id(text)


@given(st.text(st.characters(), max_size=140))
def test_a_text_is_an_anonymous_id_exactly_when_the_rules_allow_it(text: str) -> None:
    normalised = unicodedata.normalize("NFC", text).strip()
    if not normalised:
        assert ids.anonymous_id(text) is None
    elif is_allowed(normalised.removeprefix("anon_")):
        assert "anon_" + normalised.removeprefix("anon_") == ids.anonymous_id(text)
    else:
        with pytest.raises(ids.InvalidIdError):
            ids.anonymous_id(text)


@given(st.text(st.characters(), max_size=130))
def test_what_is_normalised_stays_as_it_is(text: str) -> None:
    for kind in KINDS:
        try:
            first = kind(text)
        except ids.InvalidIdError:
            continue
        assert first == (None if first is None else kind(first))


@given(st.text(st.characters(), max_size=130))
def test_no_text_is_both_a_user_id_and_an_anonymous_id(text: str) -> None:
    try:
        user, anonymous = ids.user_id(text), ids.anonymous_id(text)
    except ids.InvalidIdError:
        return
    assert (user is None) == (anonymous is None)
    if user and anonymous:
        assert not ids.is_anonymous(user)
        assert ids.is_anonymous(anonymous)
        assert ids.distinct_id(user) == user
        assert anonymous == ids.distinct_id(anonymous)


def test_both_spellings_of_a_letter_are_one_id() -> None:
    assert ids.user_id("Jose\u0301") == "Jos\u00e9" == ids.user_id("Jos\u00e9")


def test_the_prefix_is_added_and_not_doubled() -> None:
    assert ids.anonymous_id("a1") == "anon_a1"
    assert ids.anonymous_id("anon_a1") == "anon_a1"
    assert ids.anonymous_id(" anon_a1 ") == "anon_a1"


def test_a_user_id_may_not_begin_like_an_anonymous_one() -> None:
    for text in ("anon_a1", "anon_", "  anon_a1", "anon_" + "x" * 200):
        with pytest.raises(ids.InvalidIdError):
            ids.user_id(text)
    assert ids.user_id("ANON_a1") == "ANON_a1"


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("kind", KINDS)
def test_placeholders_are_refused_in_any_letter_case(junk: str, kind: Callable[[object], str | None]) -> None:
    for text in (junk, junk.upper(), junk.lower(), junk.title(), f"  {junk}\t"):
        with pytest.raises(ids.InvalidIdError):
            kind(text)


@pytest.mark.parametrize("junk", JUNK)
def test_placeholders_behind_the_prefix_are_refused_too(junk: str) -> None:
    for kind in (ids.anonymous_id, ids.distinct_id):
        with pytest.raises(ids.InvalidIdError):
            kind(f"anon_{junk}")


@pytest.mark.parametrize("absent", [None, "", " ", "\t\n", "\u2003"])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_is_absent(absent: object, kind: Callable[[object], str | None]) -> None:
    assert kind(absent) is None


@pytest.mark.parametrize("length", [1, 128])
def test_lengths_from_1_to_128_are_accepted_before_the_prefix(length: int) -> None:
    assert ids.user_id("x" * length) == "x" * length
    assert ids.anonymous_id("x" * length) == "anon_" + "x" * length
    assert ids.anonymous_id("anon_" + "x" * length) == "anon_" + "x" * length


def test_129_characters_are_too_many() -> None:
    for text in ("x" * 129, "anon_" + "x" * 129):
        with pytest.raises(ids.InvalidIdError):
            ids.anonymous_id(text)
    with pytest.raises(ids.InvalidIdError):
        ids.anonymous_id("anon_")


def test_characters_are_counted_after_normalising() -> None:
    assert len(ids.user_id("e\u0301" * 128) or "") == 128


@pytest.mark.parametrize("number", [1, -7, 42, 10**128 - 1, -(10**127 - 1)])
def test_an_integer_becomes_its_digits(number: int) -> None:
    assert str(number) == ids.user_id(number)
    assert f"anon_{number}" == ids.anonymous_id(number)


@pytest.mark.parametrize("number", [0, 10**128, -(10**128), 10**4299])
def test_zero_and_integers_of_over_128_digits_are_refused(number: int) -> None:
    for kind in KINDS:
        with pytest.raises(ids.InvalidIdError):
            kind(number)


@pytest.mark.parametrize("value", [True, False, 1.5, ["u"], {"id": "u"}, b"u"])
def test_other_types_are_refused(value: object) -> None:
    for kind in KINDS:
        with pytest.raises(ids.InvalidIdError):
            kind(value)


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1f", "\x7f", "\x80", "\x9f", "\ud800", "/"])
def test_characters_that_break_keys_logs_or_paths_are_refused(character: str) -> None:
    for kind in KINDS:
        with pytest.raises(ids.InvalidIdError):
            kind(f"a{character}b")


@pytest.mark.parametrize("text", [".", ".."])
def test_what_a_path_would_swallow_is_refused(text: str) -> None:
    for kind in KINDS:
        with pytest.raises(ids.InvalidIdError):
            kind(text)


@pytest.mark.parametrize(
    "text", ["#", "u#1", "%2F", "a.b", "..a", "a?b=c", "💶", "u 1", "ALIAS", "DAY#2026-11-22"]
)
def test_other_odd_ids_are_fine(text: str) -> None:
    assert ids.user_id(text) == text


@given(st.text(st.characters(), min_size=8, max_size=140))
def test_a_refusal_never_repeats_what_was_sent(text: str) -> None:
    for kind in KINDS:
        said = ""
        try:
            kind(text)
        except ids.InvalidIdError as error:
            said = str(error)
        assert text not in said


# --- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (1001, "1001"),
        (" 1001 ", "1001"),
        ("A-1", "A-1"),
        ("anon_1", "anon_1"),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_an_order_has_an_id_of_its_own(sent: object, expected: str | None) -> None:
    assert expected == ids.order_id(sent)


@pytest.mark.parametrize("sent", ["null", "0", 0, "a/b", "x" * 129, True, 1.0, [], "\ud800"])
def test_an_order_with_a_junk_id_is_refused(sent: object) -> None:
    with pytest.raises(ids.InvalidIdError):
        ids.order_id(sent)
