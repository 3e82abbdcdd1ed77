"""Keys: who may do what, compared as digests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth import Keys, digest
from service.problems import Forbidden, Unauthorized

KEYS = Keys(
    frozenset({digest("write-1"), digest("write-2"), digest("clé")}),
    frozenset({digest("secret-1"), digest("secret-2")}),
)


def test_each_of_several_keys_is_good_so_that_they_can_be_rotated() -> None:
    assert [KEYS.caller(key).is_trusted for key in ("write-1", "write-2", "clé")] == [False] * 3
    assert [KEYS.caller(key).is_trusted for key in ("secret-1", "secret-2")] == [True] * 2


@given(st.none() | st.text(st.characters()))
def test_any_other_key_is_refused(key: str | None) -> None:
    if key in ("write-1", "write-2", "clé", "secret-1", "secret-2"):
        return
    with pytest.raises(Unauthorized):
        KEYS.caller(key)
    with pytest.raises(Unauthorized):
        KEYS.require_secret(key)


@pytest.mark.parametrize("key", ["write-1 ", "WRITE-1", "write-", "cle\u0301", "\ud800", "\x00"])
def test_a_key_that_is_nearly_right_is_wrong(key: str) -> None:
    with pytest.raises(Unauthorized):
        KEYS.caller(key)


def test_a_write_key_is_not_a_secret_key() -> None:
    with pytest.raises(Forbidden):
        KEYS.require_secret("write-1")
    KEYS.require_secret("secret-2")


def test_an_empty_key_is_none_even_if_somebody_has_configured_it() -> None:
    keys = Keys(frozenset({digest("")}), frozenset({digest("")}))
    for key in (None, ""):
        with pytest.raises(Unauthorized):
            keys.caller(key)


def test_without_keys_nobody_comes_in() -> None:
    with pytest.raises(Unauthorized):
        Keys(frozenset(), frozenset()).caller("anything")


def test_secret_digests_stay_out_of_what_may_be_printed() -> None:
    assert digest("secret-1").hex() not in repr(KEYS)
    assert repr(digest("secret-1")) not in repr(KEYS)
