"""The one module that speaks HTTP with OpenSearch: calls, their time, their signature, and what their errors mean.

urllib3, which botocore brings along, carries them, and botocore signs them for Amazon's domains: no package more than
without search. Both are imported when a cluster is connected to, so that who has none does not wait for them.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from .problems import SearchUnavailable

Json = dict[str, Any]

CONNECT_TIMEOUT_SECONDS = 1.0
CONNECTIONS_MAX = 16
# A page of 10,000 users with ten numbers each has 3 MB; read, it takes some ten times as much memory.
REPLY_BYTES_MAX = 16 * 1024 * 1024
TOO_LARGE = "reply_too_large"
_CHUNK_BYTES = 256 * 1024

# Statuses that say: not now. 401 and 403 are a deployment that is not finished, or a disk that is full: what is to be
# indexed must wait for both.
_NOT_NOW = frozenset({401, 403, 408, 429})

# search-shop-x1.eu-central-1.es.amazonaws.com; shop-x1.aos.eu-central-1.on.aws
_DOMAIN = re.compile(
    r"\.(?P<region>[a-z0-9-]+)\.(es|aos)\.amazonaws\.com(\.cn)?|\.aos\.(?P<dual>[a-z0-9-]+)\.on\.aws"
)
_SERVERLESS = re.compile(r"\.aoss\.amazonaws\.com(\.cn)?|\.aoss\.[a-z0-9-]+\.on\.aws")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# What an engine calls its errors. What else stands there may quote what was sent.
_KIND = re.compile(r"[a-z0-9_]{1,100}", re.ASCII)


class EngineRefusedError(Exception):
    """The engine does not take this call, and never will: a status of 400 and more, and its reason."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(f"{status} {kind}: {reason}")
        self.status = status
        self.kind = kind
        self.reason = reason

    @property
    def facts(self) -> dict[str, object]:
        """What a log may say of it: never the reason, which quotes what was sent."""
        kind = self.kind if _KIND.fullmatch(self.kind) else "other"
        return {"engineStatus": self.status, "engineKind": kind}


class EngineUnavailableError(SearchUnavailable):
    """No answer, or none that is whole: the same call may succeed later.

    Where the engine has said why, `engine_status` and `kind` say it; `status` is that of the reply to a search.
    """

    def __init__(self, refused: EngineRefusedError | None = None) -> None:
        super().__init__()
        self.engine_status = refused.status if refused is not None else None
        self.kind = refused.kind if refused is not None else None
        self.facts = refused.facts if refused is not None else {}
        if refused is not None:
            self.__cause__ = refused


def url_fault(url: str) -> str | None:
    """What is wrong with the URL of a cluster, in words that do not repeat it: it may hold a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        return "a URL such as https://user:password@search.example:9200"
    if _is(_SERVERLESS, host):
        return (
            "a domain of Amazon OpenSearch Service or a cluster of your own: OpenSearch Serverless has neither "
            "_refresh nor _update_by_query, by which a visitor's events become a user's"
        )
    if parts.scheme == "http" and parts.password and host not in _LOOPBACK:
        return "https, or the password would cross the network in the open"
    return None


@dataclass(frozen=True)
class Engine:
    """One cluster. Threads may share it; connections are kept open.

    `prefix` is what the names of its indices begin with. No call ends after `deadline`, by the monotonic clock.
    """

    url: str
    prefix: str
    _pool: Any = field(repr=False)
    # Given method, URL, body and headers: those headers and what proves who asks.
    _authorized: Callable[[str, str, bytes, dict[str, str]], dict[str, str]] = field(repr=False)
    deadline: float | None = None
    # What is known of the cluster, once it was asked.
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def connect(url: str, *, prefix: str = "footfall") -> "Engine":
        """The cluster at this URL. A user and a password in it go as basic auth; calls of an Amazon domain without
        them are signed with the process's own credentials, for the region that its name tells.

        Makes no call. Raises ValueError for what `url_fault` finds.
        """
        if (fault := url_fault(url)) is not None:
            raise ValueError(fault)
        import urllib3
        from botocore.httpsession import get_cert_path

        parts = urlsplit(url)
        host = parts.hostname or ""
        pool = urllib3.PoolManager(
            maxsize=CONNECTIONS_MAX,
            retries=False,
            ca_certs=get_cert_path(True) if parts.scheme == "https" else None,
        )
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        domain = _is(_DOMAIN, host)
        if parts.username is not None:
            authorized = _basic(unquote(parts.username), unquote(parts.password or ""))
        elif domain is not None:
            authorized = _signed(domain["region"] or domain["dual"])
        else:
            authorized = _open
        return Engine(base, prefix, pool, authorized)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout_seconds: float = 10,
        accept: Collection[int] = (),
    ) -> Json:
        """One call, and its reply; for one that is no object `{"reply": …}`.

        `path` begins with a slash. Of the statuses of `accept` the body is the reply too. An answer to a search that
        lacks a shard is none. Raises EngineUnavailableError and EngineRefusedError.
        """
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        reply, _ = self._reply(method, self._url(path, params or {}), data, timeout_seconds, accept=accept)
        return _whole(path, reply)

    def search(
        self, path: str, body: Mapping[str, Any], *, params: Mapping[str, str], timeout_seconds: float
    ) -> tuple[Json, int]:
        """A search's reply, and how many bytes it has. As `call`."""
        data = json.dumps(body, separators=(",", ":")).encode()
        reply, size_bytes = self._reply("POST", self._url(path, params), data, timeout_seconds)
        return _whole(path, reply), size_bytes

    def until(self, deadline: float) -> "Engine":
        """The same, whose calls all end by then."""
        return replace(self, deadline=deadline)

    def primaries(self) -> Mapping[str, str]:
        """The parameters by which a search is one of the primary shards: another copy may lag behind what was just
        written. Elasticsearch knows no such thing any more.

        Raises EngineUnavailableError and EngineRefusedError, the first time.
        """
        if "distribution" not in self._known:
            version = self.call("GET", "/").get("version", {})
            self._known["distribution"] = version.get("distribution", "elasticsearch")
        return {"preference": "_primary"} if self._known["distribution"] == "opensearch" else {}

    def bulk(self, lines: bytes, *, timeout_seconds: float) -> Json:
        """Newline-delimited actions, as `_bulk` takes them, on aliases alone: `{"errors", "items": [{"create":
        {"status", "error"?: {"type", "reason"}}}]}` in their order. An index that is not there is not made: 404.

        Raises EngineUnavailableError and EngineRefusedError.
        """
        params = {
            "require_alias": "true",
            "filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason",
        }
        url = self._url("/_bulk", params)
        return self._reply("POST", url, lines, timeout_seconds, media_type="application/x-ndjson")[0]

    def _url(self, path: str, params: Mapping[str, str]) -> str:
        query = "?" + urlencode(params, quote_via=quote, safe="-_.~") if params else ""
        return self.url + path + query

    def _reply(
        self,
        method: str,
        url: str,
        body: bytes,
        timeout_seconds: float,
        *,
        media_type: str = "application/json",
        accept: Collection[int] = (),
    ) -> tuple[Json, int]:
        headers = {"accept": "application/json"}
        if body:
            headers["content-type"] = media_type
        status, text = self._sent(method, url, body, headers, timeout_seconds)
        if status >= 500 or status in _NOT_NOW:
            raise EngineUnavailableError(EngineRefusedError(status, *_error(_json(text))))
        reply = _json(text)
        if reply is None:
            # Whatever answered is no OpenSearch: a proxy's page.
            raise EngineUnavailableError(EngineRefusedError(status, "no_json", "the reply is no JSON"))
        if status >= 400 and status not in accept:
            raise EngineRefusedError(status, *_error(reply))
        return reply, len(text)

    def _sent(
        self, method: str, url: str, body: bytes, headers: dict[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """Status and body. Raises EngineUnavailableError, EngineRefusedError."""
        from urllib3.exceptions import HTTPError, ProtocolError

        deadline = time.monotonic() + timeout_seconds
        if self.deadline is not None:
            deadline = min(deadline, self.deadline)
        for attempt in (1, 2):
            try:
                return self._attempt(method, url, body, headers, deadline)
            except ProtocolError as error:
                # A connection that the other side has closed while nobody used it; every call may be made twice.
                if attempt == 2 or time.monotonic() > deadline:
                    raise EngineUnavailableError from error
            except (HTTPError, OSError) as error:
                raise EngineUnavailableError from error
        raise AssertionError("unreachable")

    def _attempt(
        self, method: str, url: str, body: bytes, headers: dict[str, str], deadline: float
    ) -> tuple[int, bytes]:
        from urllib3 import Timeout

        left = deadline - time.monotonic()
        if left <= 0:
            raise EngineUnavailableError
        response = self._pool.request(
            method,
            url,
            body=body or None,
            headers=self._authorized(method, url, body, headers),
            timeout=Timeout(connect=min(CONNECT_TIMEOUT_SECONDS, left), read=left),
            redirect=False,
            preload_content=False,
        )
        parts: list[bytes] = []
        size_bytes = 0
        is_whole = False
        try:
            # urllib3's timeout is that of each read, and a slow sender has many.
            for part in response.stream(_CHUNK_BYTES):
                size_bytes += len(part)
                if size_bytes > REPLY_BYTES_MAX:
                    raise EngineRefusedError(response.status, TOO_LARGE, f"over {REPLY_BYTES_MAX} bytes")
                if time.monotonic() > deadline:
                    raise EngineUnavailableError
                parts.append(part)
            is_whole = True
        finally:
            if is_whole:
                response.release_conn()
            else:
                response.close()
        return response.status, b"".join(parts)


def _is(pattern: re.Pattern[str], host: str) -> re.Match[str] | None:
    """How a host's name ends."""
    found = pattern.search(host.lower())
    return found if found and found.end() == len(host) else None


def _open(_method: str, _url: str, _body: bytes, headers: dict[str, str]) -> dict[str, str]:
    return headers


def _basic(user: str, password: str) -> Callable[[str, str, bytes, dict[str, str]], dict[str, str]]:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return lambda _method, _url, _body, headers: {**headers, "authorization": f"Basic {token}"}


def _signed(region: str) -> Callable[[str, str, bytes, dict[str, str]], dict[str, str]]:
    """Signature version 4 by the credentials of the process, which may change while it runs."""
    import botocore.session
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    session = botocore.session.get_session()

    def authorized(method: str, url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        credentials = session.get_credentials()
        if credentials is None:
            raise EngineUnavailableError(EngineRefusedError(401, "no_credentials", "of AWS, to sign with"))
        request = AWSRequest(method=method, url=url, data=body, headers=headers)
        SigV4Auth(credentials.get_frozen_credentials(), "es", region).add_auth(request)
        return dict(request.headers.items())

    return authorized


def _json(text: bytes) -> Json | None:
    """None for what is none. The engine's replies are never empty: what is was cut between its headers."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else {"reply": value}


def _error(reply: Json | None) -> tuple[str, str]:
    """Type and reason of an error, as the engine words them."""
    error = (reply or {}).get("error")
    if isinstance(error, dict):
        return str(error.get("type")), str(error.get("reason"))
    return "error", str(error)


def _whole(path: str, reply: Json) -> Json:
    """The reply. Raises EngineUnavailableError for a part of one."""
    if reply.get("timed_out") is True or _lacks_a_shard(path, reply):
        raise EngineUnavailableError
    return reply


def _lacks_a_shard(path: str, reply: Json) -> bool:
    shards = reply.get("_shards")
    if not isinstance(shards, dict) or not path.endswith(("/_search", "/_count", "/_refresh")):
        return False
    if shards.get("failed", 0) > 0:
        return True
    # A shard that is nowhere has not failed; a copy of one that is nowhere needs no refresh.
    return not path.endswith("/_refresh") and shards.get("successful", 0) < shards.get("total", 0)
