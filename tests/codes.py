"""Every code that a client can see, read off the sources."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from service import problems

SERVICE = Path(problems.__file__).parent


def problem_codes() -> set[str]:
    """Of the classes of `problems`, and of every `code=` that one of them is raised with."""
    return set(problem_statuses())


def problem_statuses() -> dict[str, int]:
    """The status that each code comes with."""
    classes = {
        name: found
        for name, found in vars(problems).items()
        if inspect.isclass(found) and issubclass(found, problems.Problem)
    }
    statuses = {found.code: found.status for found in classes.values()}
    for call in _calls():
        if found := classes.get(_name(call)):
            codes = [text for word in call.keywords if word.arg == "code" for text in _texts(word.value)]
            statuses |= dict.fromkeys(codes, found.status)
    return statuses


def rejection_codes() -> set[str]:
    """The codes that a Rejection, or what becomes one, is made with: its argument of this name, or in its place."""
    codes: set[str] = set()
    places = {"Rejection": 2, "_RefusedError": 0}
    for call in _calls():
        place = places.get(_name(call))
        if place is not None:
            given = call.args[place : place + 1] + [w.value for w in call.keywords if w.arg == "code"]
            codes |= {text for value in given for text in _texts(value)}
    return codes


def _calls() -> Iterator[ast.Call]:
    for path in sorted(SERVICE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node


def _name(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def _texts(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
