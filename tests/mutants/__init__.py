"""Mutants: the modules that write, each time with one condition or branch changed; a test must fail for each.

`python -m tests.mutants` makes and tries them all, and prints those that no test noticed.
"""
