"""The files of the /docs page, served from the package and from nowhere else."""

import gzip
from functools import lru_cache
from pathlib import Path

from fastapi import Response

from .problems import NotFound

_FOLDER = Path(__file__).parent / "pages" / "docs"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# No inline script or style, and no other host.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(name: str, accept_encoding: str | None) -> Response:
    """One file of the folder. Raises NotFound for any other name."""
    media_type = _MEDIA_TYPES.get(Path(name).suffix)
    if media_type is None or name not in _names():
        raise NotFound
    headers = {
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "public, max-age=3600",
        "Vary": "Accept-Encoding",
    }
    content, compressed = _content(name)
    if "gzip" in (accept_encoding or ""):
        headers["Content-Encoding"] = "gzip"
        content = compressed
    return Response(content, media_type=media_type, headers=headers)


@lru_cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in _FOLDER.iterdir())


@lru_cache
def _content(name: str) -> tuple[bytes, bytes]:
    content = (_FOLDER / name).read_bytes()
    return content, gzip.compress(content)
