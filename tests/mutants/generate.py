"""One change to a module's source for every operand of a condition and every branch."""

from __future__ import annotations

import ast
import copy
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
_CONDITIONED = {"put": 2, "put_action": 2, "update": 3, "update_action": 3, "check_action": 2}


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    line: int
    change: str
    source: str

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.module}:{self.line}: {self.change}"


def mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, those that read the same left out."""
    tree = ast.parse(source)
    found: dict[str, Mutant] = {}
    for function in _functions(tree):
        for node in _code(function):
            for before, after in _changes(node):
                changed = _replaced(tree, before, after)
                text = ast.unparse(changed)
                if text != ast.unparse(tree) and text not in found:
                    line = getattr(before, "lineno", 0)
                    found[text] = Mutant(module, line, f"{_short(before)} -> {_short(after)}", text)
    return sorted(found.values(), key=lambda mutant: (mutant.line, mutant.change))


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """All that runs and decides: no annotations, and no assertions, which are there for the types."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.Assert):
                yield from _code(child)


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:  # noqa: C901 - a case a kind of node
    """What may take the place of what."""
    match node:
        case ast.BoolOp():
            for operand in node.values:
                yield node, _without(node, operand)
        case ast.Compare(ops=[op]) if type(op) in _SWAPPED:
            yield node, ast.Compare(node.left, [_SWAPPED[type(op)]()], node.comparators)
        case ast.Return(value=ast.Compare() | ast.UnaryOp(op=ast.Not()) as value):
            yield value, ast.UnaryOp(ast.Not(), value)
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
            yield node, node.left
            yield node, node.right
        case ast.If() | ast.IfExp():
            yield node.test, ast.Constant(True)
            yield node.test, ast.Constant(False)
        case ast.comprehension():
            for condition in node.ifs:
                yield condition, ast.Constant(True)
        case ast.Call():
            yield from _changes_of_call(node)


def _changes_of_call(call: ast.Call) -> Iterator[tuple[ast.AST, ast.AST]]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "AllOf" and len(call.args) > 1:
        for argument in call.args:
            rest = [other for other in call.args if other is not argument]
            yield call, ast.Call(call.func, rest, call.keywords)
    elif name in _CONDITIONED and len(call.args) == _CONDITIONED[name] and name != "check_action":
        yield call.args[-1], ast.Constant(None)
    elif name in ("min", "max") and len(call.args) == 2:
        for argument in call.args:
            yield call, argument


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
