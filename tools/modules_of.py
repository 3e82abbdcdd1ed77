"""The files of the service that a module of it needs, itself among them: what a package of its own has to hold.

    python tools/modules_of.py lambda_indexer

Read from the import statements, those inside functions too; nothing is imported.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

SERVICE = Path(__file__).resolve().parent.parent / "service"


def modules_of(first: str) -> list[Path]:
    """In the order of their names."""
    found = {"__init__"}
    waiting = [first]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imported(SERVICE / f"{module}.py")
    return [SERVICE / f"{module}.py" for module in sorted(found)]


def imported(path: Path) -> list[str]:
    """The modules of the service that a file names."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names += [node.module] if node.module else [alias.name for alias in node.names]
    return [name for name in names if (SERVICE / f"{name}.py").is_file()]


if __name__ == "__main__":
    sys.stdout.writelines(f"{path.relative_to(Path.cwd())}\n" for path in modules_of(sys.argv[1]))
