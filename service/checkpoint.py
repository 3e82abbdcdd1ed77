"""How far an import is, and what came of it so far: written beside its file after each batch, so that it can go on.

It only spares what was sent already; losing it costs time and nothing else.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .client import Consumed
from .records import CannotImportError


@dataclass
class Totals(Consumed):
    """What became of the lines so far."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    bad_lines: int = 0

    @property
    def kept_back(self) -> int:
        """Lines that did not go in."""
        return self.rejected + self.bad_lines


@dataclass
class Checkpoint:
    """How far an import came. Of another mapping or service, or of lines that are others by now, it is none."""

    path: Path
    target: str
    # How many of the file's records are decided, and the digest of them all.
    records: int = 0
    digest: str = ""
    line: int = 0
    # Of the file's bytes, for the progress.
    offset: int = 0
    size: int = 0
    kept_back_bytes: int = 0
    totals: Totals = field(default_factory=Totals)

    @classmethod
    def of(cls, source: Path, target: str) -> "Checkpoint":
        """That of an import that has not begun."""
        path = source.with_name(source.name + ".footfall.json")
        return cls(path, hashlib.sha256(target.encode()).hexdigest(), size=source.stat().st_size)

    def written(self) -> "Checkpoint | None":
        """What was noted of the same import, if anything was."""
        try:
            facts = json.loads(self.path.read_text(encoding="utf-8"))
            if facts["target"] != self.target:
                return None
            records, line, offset, kept_back_bytes = (
                int(facts[name]) for name in ("records", "line", "offset", "kept_back_bytes")
            )
            digest, totals = str(facts["digest"]), Totals(**facts["totals"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Checkpoint(
            self.path, self.target, records, digest, line, offset, self.size, kept_back_bytes, totals
        )

    def write(self) -> None:
        """Whole or not at all."""
        partial = self.path.with_name(self.path.name + ".partial")
        facts = {name: value for name, value in asdict(self).items() if name not in ("path", "size")}
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)


@contextlib.contextmanager
def alone(source: Path) -> Iterator[None]:
    """One import of a file at a time: two would write over each other's notes. Raises CannotImportError.

    The system gives the lock back when the process ends, however it ends.
    """
    busy = CannotImportError(f"{source} is being imported already, by another command.")
    if sys.platform == "win32":
        import msvcrt

        # Windows' locks keep others from reading, so it is on a file of its own.
        path = source.with_name(source.name + ".footfall.lock")
        with path.open("ab") as file:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                raise busy from None
            yield
        # Where another has it open by now, it stays.
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        import fcntl

        with source.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy from None
            except OSError:
                # Some network file systems have no locks. It is safe without: what comes twice counts once.
                pass
            yield
