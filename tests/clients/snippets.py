"""docs/clients.md as programs: what stands there is what the tests run, with a few words put in place of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from service.dev import DEV_WRITE_KEY
from tests.pages import ROOT, commands

PAGE = ROOT / "docs" / "clients.md"
# What the page writes where a shop has its own.
HOST = "api.shop.example"
WRITE_KEY = "your-write-key"
USER = "u-42"
VISITOR = "7f3c"
ORDER = "1001"
_NAME = re.compile(r"^(?://|#|<!--|/\*) (\S+\.\w+)")


def section(heading: str) -> str:
    """What stands under a heading of the page, up to the next of its level."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{PAGE.name} has no section {heading}"
    return found[1]


def files(heading: str) -> dict[str, str]:
    """The fenced blocks of a section whose first line says which file they are."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)
    named = [(name[1], block) for block in blocks if (name := _NAME.match(block))]
    assert len(named) == len({name for name, _ in named}), f"{heading}: two files of one name"
    return dict(named)


def fill(texts: Mapping[str, str], url: str, words: Mapping[str, str]) -> dict[str, str]:
    """The files for the service at this URL, with these words in the place of others, none of them in vain."""
    words = {WRITE_KEY: DEV_WRITE_KEY, **words}
    together = "".join(texts.values())
    assert HOST in together
    for word in words:
        assert word in together, f"no snippet says {word}"
    return {name: _filled(text, url, words) for name, text in texts.items()}


def _filled(text: str, url: str, words: Mapping[str, str]) -> str:
    scheme, _, netloc = url.partition("://")
    # A development server has no certificate, and some clients are told the scheme and the host apart.
    text = text.replace(f"https://{HOST}", url).replace(HOST, netloc)
    text = text.replace("protocol: 'https'", f"protocol: '{scheme}'")
    for word, replacement in words.items():
        text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", replacement, text)
    return text


def console(heading: str, url: str, words: Mapping[str, str]) -> list[str]:
    """The commands of a section, for the service at this URL."""
    text = section(heading)
    shown = [command.text for command in commands(PAGE) if f"$ {command.text}\n" in text]
    return list(fill({str(number): command for number, command in enumerate(shown)}, url, words).values())


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Put the files into a folder."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
