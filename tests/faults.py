"""Cuts the wire to DynamoDB where a test says so: under botocore, hence also under its own retries.

No engine throttles, conflicts or loses a reply on demand, so this does: each attempt of each database call
passes `URLLib3Session.send`, and a `Fault` names the attempts to spoil.

    with faults.injected(faults.Fault("lose_reply", call=3)) as log:
        client.post("/v1/batch", ...)
    assert ["GetItem", "UpdateItem", "UpdateItem", "Query"] == log.operations

A *call* is what the program asked for, an *attempt* one sending of it: botocore sends a call up to three
times. A server process takes its plan from the environment (`tests/faulty_server.py`). Only calls that
leave the process are seen, so none of the embedded engine. Calls of several threads are numbered in the
order in which they happen to come.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import signal
import socket
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import botocore.endpoint
import botocore.exceptions
import botocore.httpsession
import botocore.retries.quota
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

PLAN_VARIABLE = "FAULTS_PLAN"
LOG_VARIABLE = "FAULTS_LOG"
NOW_VARIABLE = "FAULTS_NOW"  # where a server of the nursery has its clock
PLAN_HEADER = "x-faults"  # by which its requests bring plans of their own
KILLED_EXIT_CODE = -signal.SIGKILL  # as subprocess and os.waitstatus_to_exitcode report it


def silent_url() -> str:
    """Where nobody answers as long as this process lives: the port is held, so that no other server is given it."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    atexit.register(held.close)
    return f"http://127.0.0.1:{held.getsockname()[1]}"


Action = Literal[
    "lose_request",  # the connection breaks before anything was sent
    "lose_reply",  # sent and carried out, then the connection breaks
    "time_out_reply",  # sent and carried out, the reply does not come in time (without waiting for it)
    "truncate_reply",  # sent and carried out, half of the reply arrives
    "refuse",  # not sent; answered with the error `code`
    "error_after",  # sent and carried out, answered with the error `code` all the same
    "kill_before",  # the process dies before the call
    "kill_after",  # the process dies right after the call was carried out
]
Send = Callable[[botocore.httpsession.URLLib3Session, AWSPreparedRequest], AWSResponse]


class Killed(BaseException):
    """The process is dead: no `except Exception` may go on after this, as none does after a real kill."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """Which attempts are spoiled, and how.

    Without `call` every matching call is hit, with it the k-th (from 1) of those that match. A call matches
    when it is of the `operation` and each of `values` is a string value somewhere in its request, such as
    a partition key. Of a call that is hit, the first `attempts` are spoiled; None means each.
    """

    action: Action
    call: int | None = None
    operation: str | None = None
    values: tuple[str, ...] = ()
    attempts: int | None = 1
    code: str = "InternalServerError"
    # With the code TransactionCanceledException: why, as said of the transaction's first item.
    reason: str = "TransactionConflict"

    def matches(self, operation: str, body: str) -> bool:
        """Whether a call is of the kind that this fault counts."""
        return self.operation in (None, operation) and all(json.dumps(value) in body for value in self.values)


@dataclasses.dataclass
class Call:
    """One database call, with what became of each attempt: an HTTP status, or the action that spoiled it."""

    operation: str
    request: dict[str, Any]
    attempts: list[str]


class Wire:
    """The log of the calls so far, and the faults still to come."""

    def __init__(
        self, planned: Sequence[Fault], kill: Callable[[], NoReturn], log_file: Path | None = None
    ) -> None:
        self.calls: list[Call] = []
        self._planned = planned
        self._kill = kill
        self._log_file = log_file
        self._by_invocation: dict[str, tuple[Call, list[Fault]]] = {}
        self._matched = [0] * len(planned)
        self._lock = threading.Lock()

    def plan(self, planned: Sequence[Fault]) -> None:
        """From now on other faults, and calls counted from one again."""
        with self._lock:
            self.calls = []
            self._planned = planned
            self._by_invocation = {}
            self._matched = [0] * len(planned)

    @property
    def operations(self) -> list[str]:
        """The operation of each call, in order."""
        return [call.operation for call in self.calls]

    @property
    def spoiled(self) -> int:
        """How many attempts were hit; a test that hit nothing has proved nothing."""
        return sum(not outcome.isdecimal() for call in self.calls for outcome in call.attempts)

    def send(
        self, really_send: Send, session: botocore.httpsession.URLLib3Session, request: AWSPreparedRequest
    ) -> AWSResponse:
        """Take the place of `URLLib3Session.send`."""
        target = _header(request, "X-Amz-Target")
        if not target.startswith("DynamoDB_"):
            return really_send(session, request)
        call, fault = self._attempt(target.partition(".")[2], request)
        if fault is None:
            reply = really_send(session, request)
            call.attempts.append(str(reply.status_code))
            return reply
        call.attempts.append(fault.action)
        return self._spoil(fault, call, lambda: really_send(session, request), request)

    def _attempt(self, operation: str, request: AWSPreparedRequest) -> tuple[Call, Fault | None]:
        """The call to which this attempt belongs, and the fault that hits it."""
        invocation = _header(request, "amz-sdk-invocation-id")
        with self._lock:
            if invocation not in self._by_invocation:
                self._by_invocation[invocation] = self._new_call(operation, _text(request.body))
            call, faults = self._by_invocation[invocation]
            number = len(call.attempts)
            return call, next((f for f in faults if f.attempts is None or number < f.attempts), None)

    def _new_call(self, operation: str, body: str) -> tuple[Call, list[Fault]]:
        call = Call(operation, json.loads(body), [])
        self.calls.append(call)
        if self._log_file is not None:
            # One short line in append mode is written whole, also when several processes share the file.
            with self._log_file.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"pid": os.getpid(), "operation": operation}) + "\n")
        faults = []
        for index, fault in enumerate(self._planned):
            if fault.matches(operation, body):
                self._matched[index] += 1
                if fault.call in (None, self._matched[index]):
                    faults.append(fault)
        return call, faults

    def _spoil(
        self,
        fault: Fault,
        call: Call,
        send: Callable[[], AWSResponse],
        request: AWSPreparedRequest,
    ) -> AWSResponse:
        if fault.action == "kill_before":
            self._kill()
        if fault.action == "lose_request":
            raise _connection_closed(request)
        if fault.action == "refuse":
            return _error_reply(fault, call, request)
        reply = send()
        if fault.action == "kill_after":
            self._kill()
        if fault.action == "lose_reply":
            raise _connection_closed(request)
        if fault.action == "time_out_reply":
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url)
        if fault.action == "truncate_reply":
            half = reply.content[: len(reply.content) // 2]
            return _reply(request, reply.status_code, dict(reply.headers), half)
        return _error_reply(fault, call, request)


@contextlib.contextmanager
def injected(*planned: Fault) -> Iterator[Wire]:
    """Spoil calls of this process as planned; without a plan, only list them.

    The pauses between botocore's attempts are left out, so that a test can walk through every call; and so is their
    quota, which hundreds of faults on one client use up: how often it tries again would depend on the tests before.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.retries.quota.RetryQuota, "acquire", lambda quota, amount: True)
        yield _install(patch, Wire(planned, _raise_killed))


def environment(planned: Sequence[Fault], log_file: Path | None = None) -> dict[str, str]:
    """The variables by which a server started through `tests.faulty_server` takes the same plan."""
    variables = {PLAN_VARIABLE: as_json(planned)}
    if log_file is not None:
        variables[LOG_VARIABLE] = str(log_file)
    return variables


def install_from_environment(variables: Mapping[str, str]) -> Wire:
    """Spoil calls of this process until its end; a kill is then a real one."""
    planned = from_json(variables[PLAN_VARIABLE])
    log_file = Path(variables[LOG_VARIABLE]) if LOG_VARIABLE in variables else None
    return _install(pytest.MonkeyPatch(), Wire(planned, _kill_this_process, log_file))


def as_json(planned: Sequence[Fault]) -> str:
    """A plan on its way to another process."""
    return json.dumps([dataclasses.asdict(fault) for fault in planned])


def from_json(plan: str) -> list[Fault]:
    """A plan that came from another process."""
    return [Fault(**(fault | {"values": tuple(fault["values"])})) for fault in json.loads(plan)]


def logged_operations(log_file: Path) -> list[str]:
    """The operations a server process wrote to its log file so far."""
    if not log_file.exists():
        return []
    return [str(json.loads(line)["operation"]) for line in log_file.read_text(encoding="utf-8").splitlines()]


def _install(patch: pytest.MonkeyPatch, wire: Wire) -> Wire:
    really_send: Send = botocore.httpsession.URLLib3Session.send

    def send(session: botocore.httpsession.URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        return wire.send(really_send, session, request)

    patch.setattr(botocore.httpsession.URLLib3Session, "send", send)
    patch.setattr(botocore.endpoint, "time", types.SimpleNamespace(sleep=_do_not_wait))
    return wire


def _do_not_wait(seconds: float) -> None:
    pass


def _raise_killed() -> NoReturn:
    raise Killed


def _kill_this_process() -> NoReturn:
    """`kill -9`: nothing is flushed, no handler runs, and no other thread gets any further."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _connection_closed(request: AWSPreparedRequest) -> botocore.exceptions.ConnectionClosedError:
    return botocore.exceptions.ConnectionClosedError(endpoint_url=request.url, request=request)


def _error_reply(fault: Fault, call: Call, request: AWSPreparedRequest) -> AWSResponse:
    """An error as DynamoDB words it."""
    status = {"InternalServerError": 500, "ServiceUnavailable": 503}.get(fault.code, 400)
    error: dict[str, Any] = {
        "__type": f"com.amazonaws.dynamodb.v20120810#{fault.code}",
        "message": f"{fault.code}, made by a test",
    }
    if fault.code == "TransactionCanceledException":
        others = len(call.request["TransactItems"]) - 1
        reasons = [{"Code": fault.reason, "Message": "made by a test"}, *[{"Code": "None"}] * others]
        names = ", ".join(reason["Code"] for reason in reasons)
        error["message"] = (
            f"Transaction cancelled, please refer cancellation reasons for specific reasons [{names}]"
        )
        error["CancellationReasons"] = reasons
    headers = {"content-type": "application/x-amz-json-1.0", "x-amzn-requestid": "MADEBYATEST"}
    return _reply(request, status, headers, json.dumps(error).encode())


def _reply(request: AWSPreparedRequest, status: int, headers: Mapping[str, str], body: bytes) -> AWSResponse:
    named = HTTPHeaders()
    for name, value in headers.items():
        named[name] = value
    return AWSResponse(request.url, status, named, types.SimpleNamespace(stream=lambda: iter([body])))


def _header(request: AWSPreparedRequest, name: str) -> str:
    # Signing turns some of the headers into bytes.
    return _text(request.headers.get(name, ""))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes | bytearray) else str(value)
