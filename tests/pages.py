"""README.md and docs/ as tests read them: headings, links, fenced blocks, and the commands of `console` blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a `console` block, and what the page shows of its output."""

    text: str
    output: str


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path, level: int | None = None) -> list[str]:
    """The text of the headings, of one level or of all."""
    marks = "#" * level if level else "#+"
    return re.findall(rf"^{marks} (.+?) *$", prose(page), re.MULTILINE)


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    """Where the links lead that do not leave the repository."""
    found = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def commands(page: Path) -> Iterator[Command]:
    """The commands of the page's `console` blocks; one goes on until its quotes are closed."""
    for kind, block in _FENCED.findall(page.read_text(encoding="utf-8")):
        if kind == "console":
            yield from _commands(block.splitlines())


def _commands(lines: list[str]) -> Iterator[Command]:
    while lines:
        assert lines[0].startswith("$ "), lines[0]
        text = lines.pop(0).removeprefix("$ ")
        while not _is_whole(text):
            text += "\n" + lines.pop(0)
        output = ""
        while lines and not lines[0].startswith("$ "):
            output += lines.pop(0) + "\n"
        yield Command(text, output)


def _is_whole(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.endswith("\\")
