"""What may be an id, and how it is normalised. Pure: no I/O, no clock.

Every anonymous id begins with `anon_` and no user id does, so a public key can never move or overwrite a user's
own partition by naming it as an anonymous one.
"""

import re
import unicodedata

ANONYMOUS_PREFIX = "anon_"
ID_CHARACTERS_MAX = 128
ID_CHARACTERS_SENT_MAX = 4 * (len(ANONYMOUS_PREFIX) + ID_CHARACTERS_MAX)

# What broken clients send in place of an id. Taken as an id, it would fuse all such visitors into one person.
_JUNK = frozenset(
    {
        "null",
        "undefined",
        "none",
        "nan",
        "0",
        "guest",
        "anonymous",
        "[object object]",
        "00000000-0000-0000-0000-000000000000",
    }
)
# C0 and C1 control characters, DEL, lone surrogates (not encodable as UTF-8) and the path separator.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff/]")


class InvalidIdError(ValueError):
    """The value cannot be an id; the message says why and never repeats the value."""


def user_id(value: object) -> str | None:
    """A user id, normalised; None when absent (null or empty).

    Raises InvalidIdError, also for an id that begins with `anon_`.
    """
    text = _normalised(value)
    if text is None:
        return None
    if text.startswith(ANONYMOUS_PREFIX):
        raise InvalidIdError("a user id may not begin with anon_")
    return _checked(text)


def anonymous_id(value: object) -> str | None:
    """An anonymous id with its `anon_` prefix, which is not doubled; None when absent. Raises InvalidIdError."""
    text = _normalised(value)
    return None if text is None else ANONYMOUS_PREFIX + _checked(text.removeprefix(ANONYMOUS_PREFIX).strip())


def distinct_id(value: object) -> str | None:
    """Either kind, told apart by the prefix: what a path names. Raises InvalidIdError."""
    text = _normalised(value)
    if text is None:
        return None
    return anonymous_id(text) if text.startswith(ANONYMOUS_PREFIX) else _checked(text)


def order_id(value: object) -> str | None:
    """The id of an order, normalised; None when absent. Raises InvalidIdError."""
    text = _normalised(value)
    return None if text is None else _checked(text)


def is_anonymous(distinct: str) -> bool:
    """Whether a normalised id is an anonymous one."""
    return distinct.startswith(ANONYMOUS_PREFIX)


def _normalised(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        # 128 digits are 426 bits. Printing a longer integer is quadratic, and refused by Python beyond 4,300 digits.
        if value.bit_length() > 426:
            raise InvalidIdError(f"an id has at most {ID_CHARACTERS_MAX} characters")
        value = str(value)
    if not isinstance(value, str):
        raise InvalidIdError("an id is a string or an integer")
    # Before normalising, which takes quadratic time over combining marks; it shortens by a factor of 3 at the most.
    value = value.strip()
    if len(value) > ID_CHARACTERS_SENT_MAX:
        raise InvalidIdError(f"an id has at most {ID_CHARACTERS_MAX} characters")
    return unicodedata.normalize("NFC", value).strip() or None


def _checked(text: str) -> str:
    if not 1 <= len(text) <= ID_CHARACTERS_MAX:
        raise InvalidIdError(f"an id has 1 to {ID_CHARACTERS_MAX} characters")
    if _FORBIDDEN.search(text):
        raise InvalidIdError("an id holds no control characters, no lone surrogates and no /")
    if text in (".", "..") or text.casefold() in _JUNK:
        raise InvalidIdError("this is a placeholder, not an id")
    return text
