"""Every interleaving of the real ingest and merge, with crashes, lost replies and stale alias reads.

    python -m tests.explorer                  every scenario; exit status 1 when one goes wrong
    python -m tests.explorer --plant follow   with a fault planted in the service, which must be found
    python -m tests.explorer --plant list     the faults there are

Each database call is a point where another process may come in. A process is a real request (`ingest.ingest`,
`merge.join`) whose client answers from a record; at the first call that is not recorded it stops, and what it asked for
is its next step. So a process can be put back to any point by replaying what it was answered. A step is applied to the
table by moto, one at a time, as atomic as DynamoDB's own (`tests/engine/test_explorer.py` repeats the steps on DynamoDB
Local and compares).

A state is the table, what each process was answered, and the faults left. Schedules that lead to one state have one
future, so states are explored and schedules only counted.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib
import inspect
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends

from service import events, identities, ingest, keys, merge, store
from service.dynamodb import Table
from service.embedded import embedded_table
from service.events import Event
from service.models import AliasItem, stored_day
from service.settings import Settings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TODAY = "2026-11-22"
# The days an event may be on. Two are enough to have a day with an item and one without.
WINDOW = ["2026-11-21", TODAY]
SETTINGS = Settings()
A, U, V = "anon_a", "u", "v"

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


# --- one process ----------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Process:
    """A request that can be sent again: what it does, given its means, and what its reply says."""

    name: str
    run: Callable[[store.Work], str]


def sent(name: str, *batch: Event, is_import: bool = False) -> Process:
    """A request with these events. Replies with the number accepted."""

    def run(work: store.Work) -> str:
        work = dataclasses.replace(work, is_import=is_import)
        outcome = ingest.ingest(work, batch)
        assert outcome.undecided is None, "nothing is undecided where nothing fails"
        return f"{outcome.accepted} accepted"

    return Process(name, run)


def merging(anonymous_id: str, user_id: str) -> Process:
    """A request to merge. Replies with whose the anonymous id is."""

    def run(work: store.Work) -> str:
        alias = identities.alias_of(work.calls, anonymous_id)
        return merge.join(work, anonymous_id, user_id, alias).user_id

    return Process(f"merge {anonymous_id} into {user_id}", run)


def page(
    message_id: str,
    *,
    anonymous_id: str | None = None,
    user_id: str | None = None,
    timestamp: str | None = None,
) -> Event:
    """A page view, read as a request would be; one with a timestamp as an import would be."""
    raw = {
        "type": "page",
        "messageId": message_id,
        "anonymousId": anonymous_id,
        "userId": user_id,
        "timestamp": timestamp,
    }
    event = SETTINGS.rules(NOW, is_import=timestamp is not None).read(raw, 0, {}, may_be_large=False)
    assert isinstance(event, Event)
    return event


# --- the table ------------------------------------------------------------------------------------------------------


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
        found = self.table.client.scan(TableName="explored")["Items"]
        content = {keys.Key(item["PK"]["S"], item["SK"]["S"]): item for item in found}
        shape = frozen(content)
        if shape not in self._number_of:
            self._number_of[shape] = len(self.contents)
            self.contents.append(content)
            self._stored.append(copy.deepcopy(self._moto_table().items))
        return self._number_of[shape]


def _comparable(arguments: Mapping[str, Any]) -> Any:
    return {key: value for key, value in arguments.items() if key != "ClientRequestToken"}


# --- states ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """Where everything stands. `answered` holds, for each process, the numbers of its answers."""

    content: int
    answered: tuple[tuple[int, ...], ...]
    faults_left: int
    # Contents before the last changes of an alias: what a stale read may still see.
    before: tuple[int, ...] = ()


@dataclass
class Scenario:
    """Some requests under way at once, and what must hold when all have ended."""

    name: str
    processes: list[Process]
    faults: int
    # Each event sent, once, and who may end up with it.
    events_count: int
    owners: frozenset[str]


@dataclass
class Report:
    """What was found."""

    states: int = 0
    schedules: int = 0
    wrong: str | None = None


@dataclass
class Explorer:
    """Explores one scenario on one engine."""

    engine: Engine
    scenario: Scenario
    progress: Callable[[int], None] = lambda _: None
    _next: dict[tuple[int, tuple[int, ...]], NextCall | str] = field(default_factory=dict)

    def run(self) -> Report:
        """Depth first over all states, stopping at the first that is wrong."""
        report = Report()
        start = State(0, ((),) * len(self.scenario.processes), self.scenario.faults)
        schedules: dict[State, int] = {}
        stack: list[tuple[State, tuple[str, ...], list[tuple[str, State]] | None]] = [(start, (), None)]
        while stack:
            state, path, successors = stack.pop()
            if successors is None:
                if state in schedules:
                    continue
                fault = self.wrong(state)
                if fault:
                    report.states = len(schedules) + 1
                    report.wrong = (
                        f"{fault}\n    " + "\n    ".join(path) + f"\n    table: {self._described(state)}"
                    )
                    return report
                successors = list(self.successors(state))
                stack.append((state, path, successors))
                stack.extend(
                    (after, (*path, step), None) for step, after in successors if after not in schedules
                )
            else:
                schedules[state] = int(self.has_ended(state)) + sum(
                    schedules[after] for _, after in successors
                )
                self.progress(len(schedules))
        report.states = len(schedules)
        report.schedules = schedules[start]
        return report

    def next_of(self, process: int, answered: tuple[int, ...]) -> NextCall | str:
        """The next call of a process that was so answered, or its reply."""
        if (process, answered) not in self._next:
            answers = tuple(self.engine.answers[number] for number in answered)
            calls = Table(Replay(answers), "explored").calls(time.monotonic() + 3600)
            try:
                following: NextCall | str = self.scenario.processes[process].run(
                    store.Work(calls, SETTINGS, NOW)
                )
            except NextCall as call:
                following = call
            self._next[process, answered] = following
        return self._next[process, answered]

    def has_ended(self, state: State) -> bool:
        """Whether every process has replied."""
        return all(isinstance(self.next_of(number, a), str) for number, a in enumerate(state.answered))

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        """Every state one step away, with the step in words."""
        for number, answered in enumerate(state.answered):
            call = self.next_of(number, answered)
            name = f"{number + 1} ({self.scenario.processes[number].name})"
            if state.faults_left and answered:
                # It dies, or its reply is lost after its last call: the client sends the request again.
                restarted = self._with(state, number, ())
                yield f"{name} dies, is sent again", _faulty(restarted)
            if isinstance(call, str):
                continue
            content, answer = self.engine.apply(state.content, call)
            after = self._with(state, number, (*answered, answer), content)
            yield f"{name} {call.operation} {_target(call)}", after
            if state.faults_left and call.operation in ("update_item", "put_item"):
                # The reply is lost and the SDK calls again. (A transaction's token makes the second call the first.)
                twice, again = self.engine.apply(content, call)
                after = self._with(state, number, (*answered, again), twice)
                yield f"{name} {call.operation} {_target(call)} twice", _faulty(after)
            if call.operation == "get_item" and not call.arguments["ConsistentRead"]:
                for earlier in state.before:
                    _, stale = self.engine.apply(earlier, call)
                    if stale != answer:
                        after = self._with(state, number, (*answered, stale))
                        yield f"{name} {call.operation} {_target(call)} stale", after

    def wrong(self, state: State) -> str | None:
        """What does not hold in this state: never an event twice, at the end each event once and all merges ended."""
        items = self.engine.contents[state.content]
        days = {key.pk: stored_day(item) for key, item in items.items() if key.sk.startswith("DAY#")}
        counted = {pk: day.metrics.counters["events"] for pk, day in days.items() if day.metrics.counters}
        total = sum(counted.values())
        if total > self.scenario.events_count:
            return f"{total} counted of {self.scenario.events_count}: {counted}"
        if not self.has_ended(state):
            return None
        if total != self.scenario.events_count:
            return f"{total} counted of {self.scenario.events_count}: {counted}"
        aliases = [
            AliasItem.from_raw_data(copy.deepcopy(item)) for key, item in items.items() if key.sk == "ALIAS"
        ]
        owners = {alias.user_id for alias in aliases} or self.scenario.owners
        allowed = {keys.user_pk(owner) for owner in self.scenario.owners | owners}
        if not counted.keys() <= allowed:
            return f"counted for {set(counted)}, allowed are {allowed}"
        if any(alias.status != identities.MERGED for alias in aliases) or any(
            "PENDING" in key.pk for key in items
        ):
            return "a merge has not ended"
        return None

    def _with(
        self, state: State, number: int, answered: tuple[int, ...], content: int | None = None
    ) -> State:
        every = (*state.answered[:number], answered, *state.answered[number + 1 :])
        content = state.content if content is None else content
        before = state.before
        if self._alias(content) != self._alias(state.content):
            before = (*before, state.content)
        return State(content, every, state.faults_left, before)

    def _alias(self, content: int) -> Frozen:
        return frozen(self.engine.contents[content].get(keys.alias_key(A)))

    def _described(self, state: State) -> str:
        return repr(sorted(self.engine.contents[state.content].values(), key=repr))


def _faulty(state: State) -> State:
    return State(state.content, state.answered, state.faults_left - 1, state.before)


def _target(call: NextCall) -> str:
    arguments = call.arguments
    if "TransactItems" in arguments:
        parts = [part for action in arguments["TransactItems"] for part in action.values()]
    else:
        parts = [arguments]
    named = (part.get("Key") or part.get("Item") for part in parts)
    return " + ".join(f"{key['PK']['S']}/{key['SK']['S']}" for key in named if key)


# --- scenarios ------------------------------------------------------------------------------------------------------


def scenarios() -> list[Scenario]:
    """What is explored."""
    anonymous = page("m", anonymous_id=A)
    both = page("m", anonymous_id=A, user_id=U)
    into_u = merging(A, U)
    ingest_a = sent("event of a", anonymous)
    retry = sent("the event with both ids", both)
    # Of a day that no seal covers.
    old = sent("import of a", page("m", anonymous_id=A, timestamp="2019-12-24T18:00:00Z"), is_import=True)
    old_both = sent(
        "the import with both ids",
        page("m", anonymous_id=A, user_id=U, timestamp="2019-12-24T18:00:00Z"),
        is_import=True,
    )
    to_u, to_either = frozenset({U}), frozenset({U, V})
    return [
        Scenario("two ingests of one event, a merge", [ingest_a, ingest_a, into_u], 1, 1, to_u),
        Scenario("an ingest, a merge, two crashes", [ingest_a, into_u], 2, 1, to_u),
        Scenario("an ingest, merges to two users", [ingest_a, into_u, merging(A, V)], 1, 1, to_either),
        Scenario("an ingest, the same merge twice", [ingest_a, into_u, into_u], 1, 1, to_u),
        Scenario("an event, its retry with both ids, two crashes", [ingest_a, retry], 2, 1, to_u),
        Scenario("an event, its retry with both ids, the same merge", [ingest_a, retry, into_u], 0, 1, to_u),
        Scenario(
            "an event, its retry with both ids, a merge to another",
            [ingest_a, retry, merging(A, V)],
            1,
            1,
            to_either,
        ),
        Scenario(
            "two events in one request, one of them again, a merge",
            [sent("two events of a", anonymous, page("n", anonymous_id=A)), ingest_a, into_u],
            1,
            2,
            to_u,
        ),
        Scenario("two imports of one old event, a merge", [old, old, into_u], 0, 1, to_u),
        Scenario(
            "an import of an old event, merges to two users", [old, into_u, merging(A, V)], 1, 1, to_either
        ),
        Scenario("an old event, its import with both ids, two crashes", [old, old_both], 2, 1, to_u),
    ]


# --- planted faults -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plant:
    """A fault: in this module, this text becomes that; the scenario whose name contains `found_by` must go wrong."""

    module: str
    text: str
    becomes: str
    found_by: str


PLANTS = {
    "follow": Plant(
        "service.ingest",
        "owner = alias.user_id if alias and alias.is_merged else event.anonymous_id",
        "owner = alias.user_id if alias else event.anonymous_id",
        "two ingests of one event, a merge",
    ),
    "count-first": Plant(
        "service.ingest",
        "    resolved = _side_by_side(",
        "    for event in events:\n"
        "        if event.user_id and event.anonymous_id and event.day:\n"
        "            store.count(work, event.user_id, event.day, [event])\n"
        "    resolved = _side_by_side(",
        "its retry with both ids, two crashes",
    ),
    "no-seen": Plant(
        "service.store",
        "NoneIn(DayItem.seen, sorted(write.seen)),",
        "",
        "two ingests of one event, a merge",
    ),
    "ignore-seals": Plant(
        "service.store",
        "        DayItem.merged_into.does_not_exist(),\n",
        "",
        "two ingests of one event, a merge",
    ),
    "any-revision": Plant(
        "service.identities",
        "(DayItem.revision == source.revision) & DayItem.merged_into.does_not_exist()",
        "None",
        "two ingests of one event, a merge",
    ),
    "no-blank-seals": Plant(
        "service.merge",
        "sorted(stored.keys() | set(work.settings.rules(work.now).days()))",
        "sorted(stored)",
        "two ingests of one event, a merge",
    ),
    "last-user-wins": Plant(
        "service.identities",
        "                AliasItem.pk.does_not_exist(),\n",
        "",
        "an ingest, a merge, two crashes",
    ),
    # Writing an old day without looking whether the anonymous id has an owner by now.
    "import-unchecked": Plant(
        "service.ingest",
        "follow = functools.partial(_owner_of, work) if work.is_import and ids.is_anonymous(owner) else None",
        "follow = None",
        "import of an old event",
    ),
    # What DESIGN.md said at first of an event whose anonymous id is another user's: read that user's day, then count.
    "read-then-count": Plant(
        "service.ingest",
        "    return store.count_beside(work, owner, day, events, beside)",
        "    from service import keys\n"
        "    from service.models import stored_day\n"
        "    raw = work.calls.get(keys.day_key(beside, day), is_consistent=True)\n"
        "    seen = stored_day(raw).seen if raw else set()\n"
        "    return store.count(work, owner, day, [event for event in events if event.message_hash not in seen])",
        "a merge to another",
    ),
}


def plant(name: str) -> None:
    """Put a fault into the imported service."""
    fault = PLANTS[name]
    module = importlib.import_module(fault.module)
    source = inspect.getsource(module)
    assert source.count(fault.text) == 1, f"{name}: the text it replaces has changed"
    exec(compile(source.replace(fault.text, fault.becomes), module.__file__ or name, "exec"), module.__dict__)


def explore(only: str | None = None, *, show_progress: bool = False) -> tuple[Engine, dict[str, Report]]:
    """Explore every scenario, or those whose name contains `only`, on one engine."""
    engine = Engine()
    reports: dict[str, Report] = {}
    window = events.Rules.days
    events.Rules.days = lambda _: list(WINDOW)  # type: ignore[assignment,method-assign]
    try:
        for scenario in scenarios():
            if only is None or only in scenario.name:
                show = functools.partial(_show, scenario.name) if show_progress else (lambda _: None)
                reports[scenario.name] = Explorer(engine, scenario, show).run()
                if show_progress:
                    _result(scenario.name, reports[scenario.name])
    finally:
        events.Rules.days = window  # type: ignore[method-assign]
    return engine, reports


def _show(name: str, states: int) -> None:
    if states % 500 == 0 and sys.stderr.isatty():
        print(f"\r{name}: {states:,} states", end="", file=sys.stderr, flush=True)


def _result(name: str, report: Report) -> None:
    if report.wrong:
        print(f"{name}: WRONG after {report.states:,} states: {report.wrong}", flush=True)
    else:
        print(f"{name}: {report.states:,} states, {report.schedules:,} schedules, none wrong", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.explorer", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--plant", metavar="NAME", help="plant this fault first; `list` names them")
    parser.add_argument("--only", metavar="TEXT", help="only scenarios whose name contains this")
    options = parser.parse_args()
    if options.plant == "list":
        print("\n".join(PLANTS))
        return 0
    only = options.only
    if options.plant:
        plant(options.plant)
        only = only or PLANTS[options.plant].found_by
    started = time.monotonic()
    engine, reports = explore(only, show_progress=True)
    states = sum(report.states for report in reports.values())
    schedules = sum(report.schedules for report in reports.values())
    print(
        f"{states:,} states, {schedules:,} schedules, {len(engine.steps):,} distinct steps, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if any(report.wrong for report in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
