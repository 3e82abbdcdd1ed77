"""Puts a mutant in place of what was imported: its function gets other code, and whoever holds it runs that."""

from __future__ import annotations

import importlib
import types

from tests.mutants.generate import Mutant


def swap(mutant: Mutant) -> None:
    """Let the function of the module that is imported be as in the mutant."""
    module = importlib.import_module(f"service.{mutant.module}")
    assert module.__file__ is not None
    code = _code(compile(mutant.source, module.__file__, "exec"), mutant.function)
    assert code is not None, f"{mutant.name} has no {mutant.function}"
    function_of(module, mutant.function).__code__ = code


def function_of(module: types.ModuleType, name: str) -> types.FunctionType:
    """A function, or the one behind a property, a generator's context manager or a cache."""
    found: object = module
    for part in name.split("."):
        found = vars(found)[part]
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    assert isinstance(found, types.FunctionType)
    return found


def _code(within: types.CodeType, name: str) -> types.CodeType | None:
    for constant in within.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_qualname == name:
                return constant
            if (code := _code(constant, name)) is not None:
                return code
    return None
