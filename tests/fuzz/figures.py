"""What a fuzz run found out, for the person who reads its output (`pytest -s`)."""

from __future__ import annotations

from collections.abc import Mapping


def show(headline: str, rows: Mapping[str, object] | None = None) -> None:
    print(f"\n{headline}")
    for name, value in (rows or {}).items():
        print(f"  {name}: {value}")
