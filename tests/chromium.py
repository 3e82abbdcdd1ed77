"""The system's Chromium, for every test that needs a browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.conftest import skip_or_fail

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Debian and most others name it so.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def launched(**options: Any) -> Iterator[Browser]:
    """A Chromium without a window; `options` are those of Playwright's launch. Skips where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("the Python package playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        skip_or_fail("no Chromium on the PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # Its sandbox needs rights that root in a container does not have; the pages are our own.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], **options)
        try:
            yield started
        finally:
            started.close()
