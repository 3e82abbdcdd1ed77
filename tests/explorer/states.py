"""States of a scenario, and the search through all of them."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from service import erasure, identities, keys, store
from service.dynamodb import Table
from service.models import AliasItem, stored_day
from service.problems import Unavailable
from service.settings import Settings
from tests.explorer import raw
from tests.explorer.table import Engine, Frozen, NextCall, Replay, frozen

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings()
# The anonymous id whose alias may be read stale.
A = "anon_a"
# The reply of a request that could not be decided: what it wanted may have happened, and is asked for again.
UNDECIDED = "503"


@dataclass(frozen=True)
class Process:
    """A request that can be sent again: what it does, given its means, and what its reply says."""

    name: str
    run: Callable[[store.Work], str]
    # Whether it matters when it begins: each such beginning is a second after the one before.
    is_timed: bool = False
    # Of one to which it does not matter: how many seconds after NOW it begins, and begins again.
    seconds: int = 0
    # The messageIds it sends.
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Where everything stands. `answered` holds, for each process, the numbers of its answers."""

    content: int
    answered: tuple[tuple[int, ...], ...]
    faults_left: int
    # Contents before the last changes of an alias: what a stale read may still see.
    before: tuple[int, ...] = ()
    # When each process began, in seconds after NOW; 0 for one that has not, or to which it does not matter.
    begun: tuple[int, ...] = ()
    clock: int = 0


@dataclass
class Scenario:
    """Some requests under way at once, and what must hold when all have ended."""

    name: str
    processes: list[Process]
    faults: int
    # Each event sent, once, and who may end up with it.
    events_count: int
    owners: frozenset[str]
    # What happened before, one after the other, a second apart.
    prelude: list[Process] = field(default_factory=list)
    # How many events are counted at the end, given what became of the aliases; all of them unless it says otherwise.
    counted: Callable[[Sequence[AliasItem]], Collection[int]] | None = None
    # Whether raw events are kept, and must be right.
    has_raw_events: bool = False

    @property
    def messages(self) -> set[str]:
        """All that is sent."""
        return {message for process in [*self.prelude, *self.processes] for message in process.messages}


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
    _next: dict[tuple[int, tuple[int, ...], int], NextCall | str] = field(default_factory=dict)
    _raw: dict[int, str | None] = field(default_factory=dict)
    _facts: dict[int, raw.Table] = field(default_factory=dict)

    def run(self) -> Report:
        """Depth first over all states, stopping at the first that is wrong."""
        report = Report()
        start = self._start()
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

    def next_of(self, process: int, answered: tuple[int, ...], begun: int) -> NextCall | str:
        """The next call of a process that began then and was so answered, or its reply."""
        if (process, answered, begun) not in self._next:
            following = self._following(self.scenario.processes[process], answered, begun)
            self._next[process, answered, begun] = following
        return self._next[process, answered, begun]

    def _following(self, process: Process, answered: tuple[int, ...], begun: int) -> NextCall | str:
        answers = tuple(self.engine.answers[number] for number in answered)
        calls = Table(Replay(answers), "explored").calls(time.monotonic() + 3600)
        try:
            now = NOW + timedelta(seconds=begun or process.seconds)
            settings = raw.SETTINGS if self.scenario.has_raw_events else SETTINGS
            return process.run(store.Work(calls, settings, now))
        except NextCall as call:
            return call
        except Unavailable:
            return UNDECIDED

    def _start(self) -> State:
        """After the prelude."""
        content, before, clock = 0, [], 0
        for process in self.scenario.prelude:
            clock += 1
            answered: tuple[int, ...] = ()
            while isinstance(call := self._following(process, answered, clock), NextCall):
                after, answer = self.engine.apply(content, call)
                if self._alias(after) != self._alias(content):
                    before.append(content)
                content, answered = after, (*answered, answer)
            assert call != UNDECIDED, f"{process.name} before {self.scenario.name}"
        each = len(self.scenario.processes)
        return State(content, ((),) * each, self.scenario.faults, tuple(before), (0,) * each, clock)

    def _asked_again(self, state: State) -> int | None:
        """The content after whatever could not be decided has been asked for again; None if it still cannot be."""
        content, clock = state.content, state.clock
        for number, answered in enumerate(state.answered):
            if self.next_of(number, answered, state.begun[number]) != UNDECIDED:
                continue
            process = self.scenario.processes[number]
            again: tuple[int, ...] = ()
            clock += 1
            while isinstance(call := self._following(process, again, clock), NextCall):
                content, answer = self.engine.apply(content, call)
                again = (*again, answer)
            if call == UNDECIDED:
                return None
        return content

    def replies(self, state: State) -> list[str]:
        """What has been replied."""
        following = (self.next_of(n, a, state.begun[n]) for n, a in enumerate(state.answered))
        return [reply for reply in following if isinstance(reply, str)]

    def has_ended(self, state: State) -> bool:
        """Whether every process has replied."""
        return len(self.replies(state)) == len(state.answered)

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        """Every state one step away, with the step in words."""
        for number, answered in enumerate(state.answered):
            yield from self._steps(state, number, answered)

    def _steps(self, state: State, number: int, answered: tuple[int, ...]) -> Iterator[tuple[str, State]]:
        """What one process may do."""
        if not answered and not state.begun[number] and self.scenario.processes[number].is_timed:
            state = _begun(state, number)
        call = self.next_of(number, answered, state.begun[number])
        name = f"{number + 1} ({self.scenario.processes[number].name})"
        if state.faults_left and answered:
            # It dies, or its reply is lost after its last call: the client sends the request again.
            restarted = self._with(state, number, ())
            yield f"{name} dies, is sent again", _faulty(_not_begun(restarted, number))
        if isinstance(call, str):
            return
        content, answer = self.engine.apply(state.content, call)
        after = self._with(state, number, (*answered, answer), content)
        yield f"{name} {call.operation} {_target(call)}", after
        if state.faults_left and call.operation in ("update_item", "put_item"):
            # The reply is lost and the SDK calls again. (A transaction's token makes the second call the first.)
            twice, again = self.engine.apply(content, call)
            after = self._with(state, number, (*answered, again), twice)
            yield f"{name} {call.operation} {_target(call)} twice", _faulty(after)
        yield from self._stale(state, number, name, call, answer)

    def _stale(
        self, state: State, number: int, name: str, call: NextCall, answer: int
    ) -> Iterator[tuple[str, State]]:
        """What an eventually consistent read may answer instead."""
        if call.operation != "get_item" or call.arguments["ConsistentRead"]:
            return
        for earlier in state.before:
            _, stale = self.engine.apply(earlier, call)
            if stale != answer:
                after = self._with(state, number, (*state.answered[number], stale))
                yield f"{name} {call.operation} {_target(call)} stale", after

    def wrong(self, state: State) -> str | None:
        """What does not hold in this state: never an event twice, at the end each event once and all merges ended."""
        if self.has_ended(state):
            content = self._asked_again(state)
            return "one is never decided" if content is None else self._wrong_at_end(content)
        if self.scenario.has_raw_events and (fault := self._unkept(state)):
            return fault
        items = self.engine.contents[state.content]
        # What lies where an erasure is under way is on its way out.
        leaving = {key.pk for key, item in items.items() if "erasing" in item}
        counted = self._counted(state.content)
        if sum(events for pk, events in counted.items() if pk not in leaving) > self.scenario.events_count:
            return f"more counted than {self.scenario.events_count}: {counted}"
        return None

    def _wrong_at_end(self, content: int) -> str | None:
        items, counted = self.engine.contents[content], self._counted(content)
        aliases = [
            AliasItem.from_raw_data(copy.deepcopy(item)) for key, item in items.items() if key.sk == "ALIAS"
        ]
        expected = self.scenario.counted or (lambda _: [self.scenario.events_count])
        if sum(counted.values()) not in expected(aliases):
            return f"{sum(counted.values())} counted of {self.scenario.events_count}: {counted}"
        owners = {alias.user_id for alias in aliases if alias.user_id} or self.scenario.owners
        allowed = {keys.user_pk(owner) for owner in self.scenario.owners | owners}
        if not counted.keys() <= allowed:
            return f"counted for {set(counted)}, allowed are {allowed}"
        if any(alias.status == identities.MERGING for alias in aliases) or any(
            ("PENDING" in key.pk and item["kind"]["S"] != erasure.LEFTOVERS) or "erasing" in item
            for key, item in items.items()
        ):
            return "a merge or an erasure has not ended"
        return self._raw_fault(content) if self.scenario.has_raw_events else None

    def _raw_fault(self, content: int) -> str | None:
        if content not in self._raw:
            is_cleared = not any(process.messages for process in self.scenario.processes)
            self._raw[content] = raw.wrong_at_end(
                self.engine, content, self.scenario.messages, NOW, is_cleared=is_cleared
            )
        return self._raw[content]

    def _unkept(self, state: State) -> str | None:
        """What was acknowledged already, counts, and is not kept."""
        acknowledged: set[str] = set()
        accepted: set[str] = set()
        for number, answered in enumerate(state.answered):
            messages = self.scenario.processes[number].messages
            reply = self.next_of(number, answered, state.begun[number]) if messages else UNDECIDED
            if isinstance(reply, str) and reply != UNDECIDED:
                acknowledged.update(messages)
                accepted.update(messages if reply == f"{len(messages)} accepted" else ())
        if state.content not in self._facts:
            items = self.engine.contents[state.content].values()
            self._facts[state.content] = raw.Table.of(items, self.scenario.messages)
        return raw.wrong_now(self._facts[state.content], acknowledged, accepted)

    def _counted(self, content: int) -> dict[str, int]:
        """How many events are counted in each partition that has any."""
        counted: Counter[str] = Counter()
        for key, item in self.engine.contents[content].items():
            if keys.is_day(key.sk):
                counted[key.pk] += stored_day(item).metrics.counters.get("events", 0)
        return dict(+counted)

    def _with(
        self, state: State, number: int, answered: tuple[int, ...], content: int | None = None
    ) -> State:
        every = (*state.answered[:number], answered, *state.answered[number + 1 :])
        content = state.content if content is None else content
        before = state.before
        if self._alias(content) != self._alias(state.content):
            before = (*before, state.content)
        return replace(state, content=content, answered=every, before=before)

    def _alias(self, content: int) -> Frozen:
        return frozen(self.engine.contents[content].get(keys.alias_key(A)))

    def _described(self, state: State) -> str:
        return repr(sorted(self.engine.contents[state.content].values(), key=repr))


def _faulty(state: State) -> State:
    return replace(state, faults_left=state.faults_left - 1)


def _begun(state: State, number: int) -> State:
    clock = state.clock + 1
    return replace(state, clock=clock, begun=(*state.begun[:number], clock, *state.begun[number + 1 :]))


def _not_begun(state: State, number: int) -> State:
    return replace(state, begun=(*state.begun[:number], 0, *state.begun[number + 1 :]))


def _target(call: NextCall) -> str:
    arguments = call.arguments
    if "TransactItems" in arguments:
        parts = [part for action in arguments["TransactItems"] for part in action.values()]
    else:
        parts = [arguments]
    named = (part.get("Key") or part.get("Item") for part in parts)
    return " + ".join(f"{key['PK']['S']}/{key['SK']['S']}" for key in named if key)
