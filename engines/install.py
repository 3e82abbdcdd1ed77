"""The engines' jars, fetched by Maven into .engines/ on the first call."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from .errors import EngineError, EngineMissingError

POM = Path(__file__).resolve().parent / "pom.xml"
CACHE = POM.parent.parent / ".engines"


def jars(engine: str, profile: str, finish: Callable[[Path], None] | None = None) -> Path:
    """The folder with an engine's jars, and with what `finish` adds to them.

    They are copied beside their place and renamed into it when all has succeeded, so a download that broke off is
    never taken for a whole one, and two runs at once do no harm to each other.
    """
    version = pinned_version(profile)
    folder = CACHE / f"{engine.lower().replace(' ', '-')}-{version}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise EngineMissingError(f"{engine} needs Maven at its first start; `mvn` is not on the PATH")
    CACHE.mkdir(exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=CACHE))
    try:
        run(
            f"Maven could not fetch {engine} {version}",
            [
                maven,
                "--quiet",
                "--batch-mode",
                f"--file={POM}",
                f"--activate-profiles={profile}",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={unfinished}",
            ],
        )
        if finish is not None:
            finish(unfinished)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another run was faster: its folder is as good as ours. Anything else is a real error.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def run(failure: str, command: list[str]) -> None:
    """Run a command to its end. Raises EngineError with its last words."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"{failure}: {last_lines(done.stdout)}")


def pinned_version(profile: str) -> str:
    """The version that pom.xml names."""
    found = re.search(rf"<{profile}\.version>([^<]+)</{profile}\.version>", POM.read_text(encoding="utf-8"))
    if found is None:
        raise EngineError(f"{POM} names no {profile}.version")
    return found[1]


def last_lines(output: str, count: int = 4) -> str:
    """The end of an output, as one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip() not in ("", "[ERROR]")]
    return " | ".join(lines[-count:]) or "it printed nothing"
