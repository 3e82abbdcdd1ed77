"""What the mutants are, how one is put in place, and which tests it meets."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.baseline import Test, Tracer, chosen
from tests.mutants.generate import Mutant, mutants
from tests.mutants.results import NOTICED, SURVIVED, Results
from tests.mutants.swapped import swap

MODULE = "made_up"


def made(body: str) -> list[str]:
    """What is changed in a function of these lines."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return [mutant.change for mutant in mutants(MODULE, f"def f(a, b, calls):\n{lines}\n")]


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("x = a and b", ["a and b without a", "a and b without b"]),
        ("x = a < b", ["a < b -> a <= b"]),
        ("x = 0 < a <= b", ["0 < a <= b -> 0 < a < b", "0 < a <= b -> 0 <= a <= b"]),
        ("return a == b", ["a == b -> not a == b"]),
        ("if a: b()", ["a -> False", "a -> True"]),
        ("x = b if a else 1", ["a -> False", "a -> True"]),
        ("while a: b()", ["a -> False"]),
        ("x = [y for y in b if a]", ["a -> False", "a -> True"]),
        ("x = min(a, b)", ["min(a, b) -> a", "min(a, b) -> b"]),
        ("x = AllOf(a, *b)", ["AllOf(a, *b) without *b", "AllOf(a, *b) without a"]),
        ("calls.put(a, b)", ["b -> None"]),
        ("calls.update(a, b, calls)", ["calls -> None"]),
        ("x = a | b", ["a | b -> a", "a | b -> b"]),
        ("a |= b", ["a |= b -> a = b"]),
        ("assert a < b", []),
        ("x: a | b = 1", []),
        ("if a: pass\nif a: pass", ["a -> False", "a -> True", "a -> False (2)", "a -> True (2)"]),
    ],
)
def test_every_operand_and_every_branch_is_changed(body: str, changes: list[str]) -> None:
    assert made(body) == changes


def test_a_mutant_is_of_its_function_and_of_its_statements_own_lines() -> None:
    body = "        if (\n            a\n            and b\n        ):\n            return a > b\n"
    source = f"class C:\n    def f(self, a, b):\n{body}"

    assert {(mutant.function, mutant.lines, mutant.change) for mutant in mutants(MODULE, source)} == {
        ("C.f", range(3, 7), "a and b -> False"),
        ("C.f", range(3, 7), "a and b -> True"),
        ("C.f", range(3, 7), "a and b without a"),
        ("C.f", range(3, 7), "a and b without b"),
        ("C.f", range(7, 8), "a > b -> a >= b"),
        ("C.f", range(7, 8), "a > b -> not a > b"),
    }


SOURCE = """
import contextlib

def f(a):
    return a > 1

class C:
    @property
    def p(self):
        return [x for x in (0, 1, 2) if x > 1]

    @contextlib.contextmanager
    def m(self):
        yield 1 if self else 2
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of the service's, imported from SOURCE."""
    made_up = ModuleType(f"service.{MODULE}")
    made_up.__file__ = f"{MODULE}.py"
    exec(compile(SOURCE, made_up.__file__, "exec"), made_up.__dict__)
    monkeypatch.setitem(sys.modules, made_up.__name__, made_up)
    return made_up


def test_whoever_holds_a_function_runs_the_mutants(module: ModuleType) -> None:
    f, instance = module.f, module.C()
    by_change = {(mutant.function, mutant.change): mutant for mutant in mutants(MODULE, SOURCE)}
    assert (f(1), instance.p) == (False, [2])
    swap(by_change["f", "a > 1 -> a >= 1"])
    swap(by_change["C.p", "x > 1 -> True"])
    swap(by_change["C.m", "self -> False"])

    assert (f(1), instance.p) == (True, [0, 1, 2])
    with instance.m() as given:
        assert given == 2


def test_the_lines_that_run_are_noted_until_they_are_taken(module: ModuleType) -> None:
    tracer = Tracer({f"{MODULE}.py": MODULE})
    with tracer.tracing():
        module.f(1)
        first = tracer.taken()
        second = tracer.taken()
    module.f(1)

    assert (first, second, tracer.taken()) == ({MODULE: [4, 5]}, {}, {})


def mutant(line: int = 1, source: str = "changed") -> Mutant:
    return Mutant(MODULE, "f", range(line, line + 1), "a -> b", source)


def test_a_mutant_meets_who_runs_its_lines_the_last_to_notice_one_like_it_first() -> None:
    quick, slow = Test("quick", 0.1, {MODULE: [1]}), Test("slow", 0.2, {MODULE: [1]})
    wide = Test("wide", 0.1, {MODULE: [1, 2, 3]})
    other = Test("other", 0.1, {MODULE: [2], "days": [1]})
    tests = [wide, other, slow, quick]

    assert chosen(tests, mutant()) == [quick, slow, wide]
    assert chosen(tests, mutant(), ["wide", "slow"]) == [slow, wide, quick]


def test_one_that_takes_long_waits_for_the_quick_ones_whatever_it_has_noticed() -> None:
    quick, long, longer = (
        Test(name, seconds, {MODULE: [1]}) for name, seconds in (("quick", 0.1), ("long", 5), ("longer", 20))
    )

    assert chosen([longer, long, quick], mutant()) == [quick, long, longer]
    assert chosen([longer, long, quick], mutant(), ["longer"]) == [quick, longer, long]


def test_a_result_holds_until_the_mutant_or_who_noticed_it_changes(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(name)

    def results(*, is_fresh: bool = False) -> Results:
        return Results(known, tmp_path, ["one.py", "two.py"], is_fresh=is_fresh)

    noticed, survivor = mutant(), mutant(source="changed otherwise")
    first = results()
    first.add(noticed, "one.py::test_it", 1, is_late=False)
    first.add(survivor, "", 1, is_late=False)

    def found(of: Results) -> list[str | None]:
        known_of = [of.get(one) for one in (noticed, survivor, mutant(source="new"))]
        return [None if result is None else result.status for result in known_of]

    assert found(results()) == [NOTICED, SURVIVED, None]
    assert found(results(is_fresh=True)) == [None, None, None]
    (tmp_path / "two.py").write_text("more")
    assert found(results()) == [NOTICED, None, None]
    (tmp_path / "one.py").write_text("more")
    assert found(results()) == [None, None, None]
