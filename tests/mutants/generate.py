"""One change to a module's source for every operand of a condition and every branch."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

# At their bounds; what is equal, in or None is told by the branches and operands themselves.
_SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
# Calls whose last positional argument is the condition a write is made under, when they have so many.
_CONDITIONED = {"put": 2, "put_action": 2, "update": 3, "update_action": 3}


@dataclass(frozen=True)
class Mutant:
    """A module with one change, inside one function, on these lines."""

    module: str
    function: str
    lines: range
    change: str
    source: str

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.module}:{self.lines.start}: {self.change}"

    @property
    def reason_key(self) -> str:
        """The same whatever stands above it in its module."""
        return f"{self.module}.{self.function}: {self.change}"

    @property
    def digest(self) -> str:
        """What a result is remembered by."""
        return hashlib.sha256(f"{self.module}\n{self.source}".encode()).hexdigest()


@dataclass(frozen=True)
class _Place:
    """Where a node stands: the function, and the lines of its statement without those of the statements within."""

    function: str
    lines: range


def mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, those that read the same left out."""
    tree = ast.parse(source)
    unchanged = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    names: Counter[str] = Counter()
    for node, place in _places(tree):
        for change in _changes(node):
            text = ast.unparse(_replaced(tree, change.before, change.after))
            if text != unchanged and text not in found:
                name = f"{place.function}: {change.text}"
                names[name] += 1
                nth = f" ({names[name]})" if names[name] > 1 else ""
                found[text] = Mutant(module, place.function, place.lines, change.text + nth, text)
    return sorted(found.values(), key=lambda mutant: (mutant.lines.start, mutant.change))


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, _Place]]:
    """All that runs and decides, in functions; what is outside them runs once, while it is imported."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield from _in_function(node, node.name)
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield from _in_function(member, f"{node.name}.{member.name}")


def _in_function(function: ast.FunctionDef, name: str) -> Iterator[tuple[ast.AST, _Place]]:
    for statement in function.body:
        yield from _code(statement, _Place(name, _lines(statement)))


def _code(node: ast.AST, place: _Place) -> Iterator[tuple[ast.AST, _Place]]:
    """No annotations, and no assertions, which are there for the types."""
    if isinstance(node, ast.Assert):
        return
    yield node, place
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.stmt):
                yield from _code(child, _Place(place.function, _lines(child)))
            elif isinstance(child, ast.AST):
                yield from _code(child, place)


def _lines(statement: ast.stmt) -> range:
    assert statement.end_lineno is not None
    within = [
        node.lineno for node in ast.walk(statement) if isinstance(node, ast.stmt) and node is not statement
    ]
    return range(statement.lineno, max(min(within, default=statement.end_lineno + 1), statement.lineno + 1))


@dataclass(frozen=True)
class _Change:
    """What takes the place of what."""

    before: ast.AST
    after: ast.AST
    left_out: ast.AST | None = None

    @property
    def text(self) -> str:
        """In a line."""
        if self.left_out is not None:
            return f"{_short(self.before)} without {_short(self.left_out)}"
        return f"{_short(self.before)} -> {_short(self.after)}"


def _changes(node: ast.AST) -> Iterator[_Change]:  # noqa: C901, PLR0912 - a case a kind of node
    match node:
        case ast.BoolOp():
            for operand in node.values:
                yield _Change(node, _without(node, operand), operand)
        case ast.Compare():
            for at, op in enumerate(node.ops):
                if type(op) in _SWAPPED:
                    ops = [*node.ops[:at], _SWAPPED[type(op)](), *node.ops[at + 1 :]]
                    yield _Change(node, ast.Compare(node.left, ops, node.comparators))
        case ast.Return(value=ast.Compare() | ast.UnaryOp(op=ast.Not()) as value):
            yield _Change(value, ast.UnaryOp(ast.Not(), value))
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
            yield _Change(node, node.left)
            yield _Change(node, node.right)
        case ast.AugAssign(op=ast.BitAnd() | ast.BitOr()):
            yield _Change(node, ast.copy_location(ast.Assign([node.target], node.value), node))
        case ast.If() | ast.IfExp():
            yield _Change(node.test, ast.Constant(True))
            yield _Change(node.test, ast.Constant(False))
        case ast.While():
            yield _Change(node.test, ast.Constant(False))
        case ast.comprehension():
            for condition in node.ifs:
                yield _Change(condition, ast.Constant(True))
                yield _Change(condition, ast.Constant(False))
        case ast.Call():
            yield from _changes_of_call(node)


def _changes_of_call(call: ast.Call) -> Iterator[_Change]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "AllOf" and len(call.args) > 1:
        for argument in call.args:
            rest = [other for other in call.args if other is not argument]
            yield _Change(call, ast.Call(call.func, rest, call.keywords), argument)
    elif name in _CONDITIONED and len(call.args) == _CONDITIONED[name]:
        yield _Change(call.args[-1], ast.Constant(None))
    elif name in ("min", "max") and len(call.args) == 2:
        for argument in call.args:
            yield _Change(call, argument)


def _without(node: ast.BoolOp, operand: ast.expr) -> ast.expr:
    rest = [other for other in node.values if other is not operand]
    return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _replaced(tree: ast.Module, before: ast.AST, after: ast.AST) -> ast.Module:
    """A copy of the tree, in which one node is another."""
    memo: dict[int, object] = {id(before): copy.deepcopy(after)}
    return ast.fix_missing_locations(copy.deepcopy(tree, memo))


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else text[:87] + "..."
