"""The files of the /docs page and the browser SDK, served from the package and from nowhere else."""

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import Response

from .problems import NotFound

_PAGES = Path(__file__).parent / "pages"
_MEDIA_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".map": "application/json",
}
# No inline script or style, and no other host.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Any page may load the SDK, also where a gateway in front would add nothing: a cache may hold a reply to a request
# without an Origin, and a script with `integrity` is refused without this header.
_ANY_PAGE = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
_HOUR = "public, max-age=3600"
_FOR_EVER = "public, max-age=31536000, immutable"
_VERSIONED = re.compile(r"-\d+\.\d+\.\d+\.")


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    media_type: str
    # Weak, because it stands for the file whether it is compressed or not.
    etag: str


def page(name: str, accept_encoding: str | None) -> Response:
    """One file of /docs. Raises NotFound for any other name."""
    file = _file("docs", name)
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": _HOUR}
    return _response(file, headers, accept_encoding)


def sdk(name: str, accept_encoding: str | None, if_none_match: str | None) -> Response:
    """One file of /sdk; without a version in its name it is that of the newest. Raises NotFound for any other name.

    A file with a version never changes, so that a page can name its hash.
    """
    file = _file("sdk", name if _VERSIONED.search(name) else _newest().get(name, name))
    headers = {
        **_ANY_PAGE,
        "Cache-Control": _FOR_EVER if _VERSIONED.search(name) else _HOUR,
        "ETag": file.etag,
    }
    if if_none_match is not None and file.etag in if_none_match:
        return Response(status_code=304, headers=headers | {"Vary": "Accept-Encoding"})
    return _response(file, headers, accept_encoding)


def _response(file: _File, headers: dict[str, str], accept_encoding: str | None) -> Response:
    headers = headers | {"Vary": "Accept-Encoding"}
    content = file.content
    if "gzip" in (accept_encoding or ""):
        headers["Content-Encoding"] = "gzip"
        content = file.compressed
    return Response(content, media_type=file.media_type, headers=headers)


@lru_cache
def _newest() -> dict[str, str]:
    """The files of the newest version by their names without one."""
    about = json.loads((_PAGES / "sdk" / "footfall.json").read_bytes())
    paths = (Path(about[kind]["path"]).name for kind in ("script", "module"))
    return {f"footfall{Path(name).suffix}": name for name in paths}


@lru_cache
def _names(folder: str) -> frozenset[str]:
    return frozenset(path.name for path in (_PAGES / folder).iterdir())


def _file(folder: str, name: str) -> _File:
    media_type = _MEDIA_TYPES.get(Path(name).suffix)
    if media_type is None or name not in _names(folder):
        raise NotFound
    return _read(folder, name, media_type)


@lru_cache
def _read(folder: str, name: str, media_type: str) -> _File:
    content = (_PAGES / folder / name).read_bytes()
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'
    return _File(content, gzip.compress(content), media_type, etag)
