"""Which Java to run an engine on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import EngineMissingError

# Where installers put them, beside the one that JAVA_HOME or the PATH names.
FOLDERS = [
    Path("/usr/lib/jvm"),
    Path("/Library/Java/JavaVirtualMachines"),
    Path.home() / ".sdkman" / "candidates" / "java",
    Path.home() / ".jdks",
    *(Path(r"C:\Program Files") / vendor for vendor in ("Java", "Eclipse Adoptium", "Amazon Corretto")),
]


@dataclass(frozen=True)
class Java:
    """A Java that runs: its program and its major version."""

    program: str
    version: int

    @property
    def compiler(self) -> str | None:
        """Its javac; None where it is a runtime alone."""
        return shutil.which("javac", path=str(Path(self.program).resolve().parent))

    def options(self, collector: str = "Serial") -> list[str]:
        """What every engine is started with: the first compiler tier and the serial collector halve its start."""
        options = [f"-XX:+Use{collector}GC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        # From Java 22 on, loading a native library without this prints a warning; 17 does not need it.
        return [*options, "--enable-native-access=ALL-UNNAMED"] if self.version > 17 else options


def find(engine: str, minimum: int, *, with_compiler: bool = False) -> Java:
    """The Java of JAVA_HOME, else the one on the PATH, else the newest installed: the first that will do.

    Raises EngineMissingError.
    """
    kind = f"JDK {minimum} or newer, with javac" if with_compiler else f"Java {minimum} or newer"
    said = "`java` is not on the PATH"
    for program in _chosen():
        shown = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
        found = re.search(r'version "(\d+)', shown)
        java = Java(program, int(found[1]) if found else 0)
        if _will_do(java, minimum, with_compiler=with_compiler):
            return java
        said = f"{program} says: {next(iter(shown.splitlines()), 'nothing')}"
    installed = [java for java in _installed() if _will_do(java, minimum, with_compiler=with_compiler)]
    if installed:
        return max(installed, key=lambda java: java.version)
    raise EngineMissingError(f"{engine} needs {kind}; {said}")


def _will_do(java: Java, minimum: int, *, with_compiler: bool) -> bool:
    return java.version >= minimum and (java.compiler is not None or not with_compiler)


def _chosen() -> Iterator[str]:
    home = os.environ.get("JAVA_HOME")
    for program in (
        shutil.which("java", path=str(Path(home) / "bin")) if home else None,
        shutil.which("java"),
    ):
        if program:
            yield program


def _installed() -> Iterator[Java]:
    """By the `release` file that each has, without starting any."""
    for folder in FOLDERS:
        for home in sorted(folder.glob("*")) if folder.is_dir() else ():
            if sys.platform == "darwin" and (home / "Contents" / "Home").is_dir():
                home /= "Contents/Home"
            try:
                release = (home / "release").read_text(encoding="utf-8")
            except OSError:
                continue
            found = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
            program = shutil.which("java", path=str(home / "bin"))
            if found and program:
                yield Java(program, int(found[1]))
