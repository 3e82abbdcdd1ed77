"""The table that is explored: any call, applied to any earlier content of it."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends

from service import keys
from service.dynamodb import Table
from service.embedded import embedded_table

Answer = Mapping[str, Any] | ClientError
Frozen = Any


def frozen(value: Any) -> Frozen:
    """A hashable copy."""
    if isinstance(value, Mapping):
        return frozenset((key, frozen(member)) for key, member in value.items())
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    if isinstance(value, (list, tuple)):
        # Sets come as lists in no particular order, and no list of this table has an order that matters.
        return frozenset(Counter(frozen(member) for member in value).items())
    return value


class NextCall(BaseException):
    """The first call that has no recorded answer."""

    def __init__(self, operation: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.operation = operation
        self.arguments = arguments


class Replay:
    """A client that answers from a record."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.answers = iter(answers)

    def __getattr__(self, operation: str) -> Callable[..., Mapping[str, Any]]:
        def call(**arguments: Any) -> Mapping[str, Any]:
            answer = next(self.answers, None)
            if answer is None:
                raise NextCall(operation, copy.deepcopy(arguments))
            if isinstance(answer, ClientError):
                raise answer
            return copy.deepcopy(answer)

        return call


class Engine:
    """Applies one call to a given content of the table. Contents and answers are remembered by number."""

    def __init__(self) -> None:
        self.table: Table = embedded_table("explored")
        self._backend = dynamodb_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
        self.contents: list[dict[keys.Key, dict[str, Any]]] = [{}]
        self._stored: list[Any] = [copy.deepcopy(self._moto_table().items)]
        self._number_of: dict[Frozen, int] = {frozen({}): 0}
        self.answers: list[Answer] = []
        self._answer_number_of: dict[Frozen, int] = {}
        self.steps: dict[tuple[int, str, Frozen], tuple[int, int]] = {}
        self.calls: dict[tuple[int, str, Frozen], dict[str, Any]] = {}

    def apply(self, content: int, call: NextCall) -> tuple[int, int]:
        """The content after the call and its answer, both by number."""
        step = (content, call.operation, frozen(_comparable(call.arguments)))
        if step not in self.steps:
            self._moto_table().items = copy.deepcopy(self._stored[content])
            try:
                answer: Answer = getattr(self.table.client, call.operation)(**call.arguments)
            except ClientError as error:
                answer = error
            self.steps[step] = (self._content_number(), self.answer_number(answer))
            self.calls[step] = call.arguments
        return self.steps[step]

    @contextlib.contextmanager
    def holding(self, content: int) -> Iterator[None]:
        """The table itself, to be used as it likes, with a content that stays as it is."""
        self._moto_table().items = copy.deepcopy(self._stored[content])
        yield

    def items(self) -> list[dict[str, Any]]:
        """What the table holds at the moment."""
        found: list[dict[str, Any]] = self.table.client.scan(TableName=self.table.name)["Items"]
        return found

    def answer_number(self, answer: Answer) -> int:
        """The number of an answer; of its meaning, not of its request id."""
        response: Any = answer.response if isinstance(answer, ClientError) else answer
        meaning = frozen({key: value for key, value in response.items() if key != "ResponseMetadata"})
        if meaning not in self._answer_number_of:
            self._answer_number_of[meaning] = len(self.answers)
            self.answers.append(answer)
        return self._answer_number_of[meaning]

    def _moto_table(self) -> Any:
        # Looked up each time: moto puts another table in its place when a transaction is cancelled.
        return self._backend.get_table(self.table.name)

    def _content_number(self) -> int:
        content = {keys.Key(item["PK"]["S"], item["SK"]["S"]): item for item in self.items()}
        shape = frozen(content)
        if shape not in self._number_of:
            self._number_of[shape] = len(self.contents)
            self.contents.append(content)
            self._stored.append(copy.deepcopy(self._moto_table().items))
        return self._number_of[shape]


def _comparable(arguments: Mapping[str, Any]) -> Any:
    return {key: value for key, value in arguments.items() if key != "ClientRequestToken"}
