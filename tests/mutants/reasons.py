"""Mutants that no test can notice, and why not."""

REASONS: dict[str, str] = {}
