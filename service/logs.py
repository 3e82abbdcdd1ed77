"""One JSON object a line on standard output, with counts and durations; never an id, a key or a body."""

import json
import sys
import traceback
from datetime import UTC, datetime


def line(level: str, message: str, **fields: object) -> None:
    """Write one line. Fields are numbers, route templates and fixed words.

    Lambda files a line by its `timestamp` and `level`; one without is INFO to it, whatever it says.
    """
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    text = json.dumps(
        {"timestamp": moment, "level": level, "message": message, **fields}, ensure_ascii=True, default=str
    )
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def failure(message: str, error: BaseException, **fields: object) -> None:
    """An error by its type and where it came from, and what it says itself that may be logged, its `facts`. Its text
    is left out: it may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    line(
        "ERROR",
        message,
        error=type(error).__name__,
        cause=type(error.__cause__).__name__ if error.__cause__ else None,
        at=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-8:]],
        **getattr(error, "facts", {}),
        **fields,
    )
