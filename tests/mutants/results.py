"""What became of each mutant, kept beside the build: a run goes on where the one before stopped."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants.generate import Mutant

# So many tests are tried first on a module that nothing is known of.
LIKELIEST = 12
NOTICED, SURVIVED = "noticed", "survived"


@dataclass(frozen=True)
class Result:
    """Noticed `by` a test, which failed or took far longer than it does; `digest` is of that test's file.

    Survived, it is of all tests.
    """

    name: str
    status: str
    digest: str
    by: str = ""
    seconds: float = 0.0
    is_late: bool = False


class Results:
    """By the digest of the mutant."""

    def __init__(self, path: Path, root: Path, files: Iterable[str], *, is_fresh: bool = False) -> None:
        self._path = path
        self._digests = {file: digest_of(root / file) for file in files}
        known = json.loads(path.read_text()) if path.exists() and not is_fresh else {}
        self._known = {key: Result(**result) for key, result in known.items()}

    def get(self, mutant: Mutant) -> Result | None:
        """What became of it, if the test that noticed it is still the same; if it survived, all tests."""
        known = self._known.get(mutant.digest)
        if known is None or known.digest != self._digest(known.by):
            return None
        return known

    def noticing(self, module: str) -> list[str]:
        """The tests that noticed mutants in runs before: the likeliest of all modules, then those of this one.

        In each the one that noticed most comes last.
        """
        known = [result for result in self._known.values() if result.by]
        every = Counter(result.by for result in known)
        own = Counter(result.by for result in known if result.name.startswith(f"{module}:"))
        return [
            name
            for counts in (every.most_common(LIKELIEST), own.most_common())
            for name, _ in reversed(counts)
        ]

    def add(self, mutant: Mutant, by: str, seconds: float, *, is_late: bool) -> Result:
        """Remember it; `by` is empty for one that survived."""
        status = NOTICED if by else SURVIVED
        result = Result(mutant.name, status, self._digest(by), by, round(seconds, 1), is_late)
        self._known[mutant.digest] = result
        self._path.write_text(json.dumps({key: asdict(one) for key, one in self._known.items()}, indent=1))
        return result

    def _digest(self, by: str) -> str:
        if by:
            return self._digests.get(by.partition("::")[0], "")
        return hashlib.sha256("".join(self._digests.values()).encode()).hexdigest()


def digest_of(*paths: Path) -> str:
    """Of what these files hold."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
