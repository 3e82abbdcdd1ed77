"""The ways a database call can fail, and what the client may be answered then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests import faults
from tests.engine.cases import GET, QUERY, TRANSACT

CONFLICT_ATTEMPTS = 5
LOST, LATE, THROTTLED, CONFLICT = "connection lost", "timed out", "throttled", "conflict"
ERROR, BROKEN, KILLED = "HTTP 500", "half a reply", "process killed"
KINDS_OF_FAULT = (LOST, LATE, THROTTLED, CONFLICT, ERROR, BROKEN, KILLED)


@dataclass(frozen=True)
class Way:
    """A way a call can fail, the kind of fault it is counted as, and what the client may be answered."""

    kind: str
    action: faults.Action
    answers: tuple[int, ...]
    # None means each attempt, so that botocore's own retries meet it too.
    attempts: int | None = 1
    code: str = "InternalServerError"
    reason: str = "TransactionConflict"
    # The service tries again by itself, as often as this; each is a call of its own.
    calls: int = 1

    def faults(self, call: int) -> list[faults.Fault]:
        """What spoils this call of a request."""
        return [
            faults.Fault(
                self.action, call=call + number, attempts=self.attempts, code=self.code, reason=self.reason
            )
            for number in range(self.calls)
        ]


READ_WAYS = {
    "every reply lost": Way(LOST, "lose_reply", (503,), None),
    "timed out each time": Way(LATE, "time_out_reply", (503,), None),
    "throttled": Way(THROTTLED, "refuse", (503,), None, "ThrottlingException"),
    "error 500": Way(ERROR, "refuse", (503,), None),
    # botocore takes half a reply for a whole one without content, or for an error without a code.
    "half a reply": Way(BROKEN, "truncate_reply", (200, 503)),
}
WAYS = READ_WAYS | {
    "a reply lost": Way(LOST, "lose_reply", (200,)),
    "never sent": Way(LOST, "lose_request", (503,), None),
    "timed out": Way(LATE, "time_out_reply", (200,)),
    "error 500 after it landed": Way(ERROR, "error_after", (200,)),
    "error 500 after it landed each time": Way(ERROR, "error_after", (503,), None),
}
CONFLICTS = {
    "a conflict": Way(CONFLICT, "refuse", (200,), None, "TransactionConflictException"),
    "conflicts": Way(
        CONFLICT, "refuse", (503,), None, "TransactionConflictException", calls=CONFLICT_ATTEMPTS
    ),
}
CANCELLED = "TransactionCanceledException"
TRANSACTION_WAYS = {
    "a conflict": Way(CONFLICT, "refuse", (200,), None, CANCELLED),
    "conflicts": Way(CONFLICT, "refuse", (503,), None, CANCELLED, calls=CONFLICT_ATTEMPTS),
    "cancelled by throttling": Way(THROTTLED, "refuse", (503,), None, CANCELLED, "ThrottlingError"),
}
KILLS: tuple[faults.Action, ...] = ("kill_before", "kill_after")

# One of a kind, after which the client has to come back.
FEW = ("every reply lost", "timed out each time", "throttled", "conflicts", "error 500", "half a reply")
# What a process killed before a call leaves is what it leaves after the one before.
FEW_KILLS: tuple[faults.Action, ...] = ("kill_after",)


def calls_of(operations: Sequence[str], *, is_few: bool) -> list[int]:
    """The number of each of these calls; if few, of calls alike in a row only the first and the last."""
    padded = ["", *operations, ""]
    return [
        call
        for call in range(1, len(operations) + 1)
        if not is_few or not padded[call - 1] == padded[call] == padded[call + 1]
    ]


def ways_of(operations: Sequence[str], *, is_few: bool) -> Iterator[tuple[int, str, Way]]:
    """Every way in which each of these calls can fail and its process go on, or few of them."""
    for call in calls_of(operations, is_few=is_few):
        operation = operations[call - 1]
        if operation in (GET, QUERY):
            ways = READ_WAYS
        else:
            ways = WAYS | (TRANSACTION_WAYS if operation == TRANSACT else CONFLICTS)
        for title, way in ways.items():
            if title in FEW or not is_few:
                yield call, title, way
