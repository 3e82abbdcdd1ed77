"""Brings Swagger UI, which draws the page at /docs, into service/pages/docs.

The files are committed, so running and deploying the service needs Python only; this script alone needs
npm. It fetches one pinned version, refuses it when the integrity hash differs, and writes the few files
the page loads, plus the licences under which they are passed on. `npm pack` only downloads: no install
script runs and no dependency comes along.

    python tools/docs_assets.py            write the files
    python tools/docs_assets.py --check    exit 1 when a committed file differs from the pinned version
"""

# ruff: noqa: S603, T201 - it runs npm and talks to the person who started it.

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "swagger-ui-dist"
VERSION = "5.35.0"
INTEGRITY = "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ=="

# Name in the package, name in our folder.
FILES = {
    "swagger-ui-bundle.js": "swagger-ui-bundle.js",
    "swagger-ui.css": "swagger-ui.css",
    "LICENSE": "LICENSE",
    "NOTICE": "NOTICE",
    "swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundle.js.LICENSE.txt",
}
FOLDER = Path(__file__).resolve().parent.parent / "service" / "pages" / "docs"

# The maps are larger than the code and are not shipped; a pointer to them would be a 404 in the console.
SOURCE_MAP_POINTER = re.compile(rb"\s*(?://# sourceMappingURL=\S+|/\*# sourceMappingURL=\S+\*/)\s*\Z")


class AssetsError(Exception):
    """The pinned package could not be had, or is not what was pinned."""


def download(into: Path) -> Path:
    """The package's tarball, whose integrity hash was found to be the pinned one."""
    npm = shutil.which("npm")
    if npm is None:
        raise AssetsError("npm is not on the PATH; install Node.js to rebuild the docs page's assets")
    done = subprocess.run(
        [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--prefer-offline", f"--pack-destination={into}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssetsError(f"npm pack {PACKAGE}@{VERSION} failed: {done.stderr.strip()[-500:]}")
    tarball = into / f"{PACKAGE}-{VERSION}.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if integrity != INTEGRITY:
        raise AssetsError(f"{PACKAGE}@{VERSION} has the integrity {integrity}, pinned is {INTEGRITY}")
    return tarball


def wanted_files() -> dict[str, bytes]:
    """What the folder must hold, by file name."""
    with tempfile.TemporaryDirectory() as name, tarfile.open(download(Path(name))) as package:
        found: dict[str, bytes] = {}
        for source, target in FILES.items():
            member = package.extractfile(f"package/{source}")
            if member is None:
                raise AssetsError(f"{PACKAGE}@{VERSION} has no file {source}")
            content = member.read()
            if target.endswith((".js", ".css")):
                content = SOURCE_MAP_POINTER.sub(b"\n", content)
            found[target] = content
    return found


def main(arguments: list[str]) -> int:
    """Write the files, or with --check compare them."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        wanted = wanted_files()
    except AssetsError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments == ["--check"]:
        wrong = [
            name
            for name, content in wanted.items()
            if not (FOLDER / name).is_file() or (FOLDER / name).read_bytes() != content
        ]
        if wrong:
            print(f"{FOLDER} differs from {PACKAGE} {VERSION}: {', '.join(wrong)}", file=sys.stderr)
            print("Run: python tools/docs_assets.py", file=sys.stderr)
            return 1
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in wanted.items():
        (FOLDER / name).write_bytes(content)
    print(f"{FOLDER}: {PACKAGE} {VERSION}, {len(wanted)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
