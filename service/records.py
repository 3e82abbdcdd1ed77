"""What a file to import is read into: its lines, and the records, an event each or the reason why there is none.

Pure: no I/O, no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class CannotImportError(Exception):
    """One line that says what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: its number, its text, and its cells, or why it has none."""

    number: int
    text: str
    cells: Sequence[str] = ()
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One event of a file, or why there is none. `line` is the number of its first line, `content` all its text."""

    line: int
    content: str
    event: str | None = None
    has_message_id: bool = False
    code: str = ""
    reason: str = ""
