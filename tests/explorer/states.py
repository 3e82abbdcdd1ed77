"""States of a scenario, and the search through all of them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service import identities, keys, store
from service.dynamodb import Table
from service.models import AliasItem, stored_day
from service.settings import Settings
from tests.explorer.table import Engine, Frozen, NextCall, Replay, frozen

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings()
# The anonymous id whose alias may be read stale.
A = "anon_a"


@dataclass(frozen=True)
class Process:
    """A request that can be sent again: what it does, given its means, and what its reply says."""

    name: str
    run: Callable[[store.Work], str]


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
