"""What a fuzz run found out, for the person who reads its last lines."""

from __future__ import annotations

from collections.abc import Mapping

lines: list[str] = []


def show(headline: str, rows: Mapping[str, object] | None = None) -> None:
    lines.append(headline)
    lines.extend(f"  {name}: {value}" for name, value in (rows or {}).items())
