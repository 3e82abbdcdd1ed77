"""The way to a running Footfall: one request, sent again until it is answered, or one line about why it cannot be."""

import http.client
import math
import random
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3

from . import __version__

CONNECT_TIMEOUT_SECONDS = 10
# The function has 30 s at most behind API Gateway.
READ_TIMEOUT_SECONDS = 60
WAIT_SECONDS_MAX = 30
NOTICE_SECONDS = 10
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Say = Callable[[str], None]


class CannotReachError(Exception):
    """One line that says what to do."""


@dataclass
class Consumed:
    """What requests cost, as the service says it."""

    wru: float = 0
    rru: float = 0
    is_estimated: bool = False
    # Requests sent again: what their first try had counted is among the duplicates.
    resent: int = 0

    def add(self, header: str | None) -> None:
        """Footfall-Capacity of a reply."""
        for part in (header or "").split(","):
            name, _, number = part.strip().partition("=")
            try:
                if name == "wru":
                    self.wru += float(number)
                elif name == "rru":
                    self.rru += float(number)
                elif name == "estimated":
                    self.is_estimated = True
            except ValueError:
                continue


@dataclass(frozen=True)
class Reply:
    """What came back: no 5xx, but to the last of so many attempts, and no wrong key."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def checked_url(url: str) -> str:
    """The address, without the slash at its end. Raises CannotReachError."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise CannotReachError(f"{url} is no address: --url https://… or http://127.0.0.1:8000")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether this machine itself answers there."""
    return urlsplit(url).hostname in LOOPBACK


class Client:
    """Speaks with the service at a checked `url`, and tries again for `patience` seconds."""

    def __init__(self, url: str, key: str, patience: float, say: Say) -> None:
        if not key.isascii() or not key.isprintable():
            raise CannotReachError("The key holds what no key of Footfall's does.")
        self.url = url
        self._patience = patience
        self._say = say
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": f"Footfall/{__version__}"}
        self._pool = _pool(url)
        if urlsplit(url).scheme == "http" and not is_loopback(url):
            say("The key goes over the network unencrypted: https would keep it secret.")

    def request(
        self,
        method: str,
        path: str,
        consumed: Consumed,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        attempts_max: int | None = None,
    ) -> Reply:
        """One request, as often as it takes. Raises CannotReachError.

        From the last of `attempts_max` on a 5xx is a reply, too: it is more than there is time for, perhaps, which the
        function answers with 503, and the gateway with 500 where the function's time was over.
        """
        last_answer = last_notice = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            reply, trouble = self._request(method, path, headers, body)
            if reply is not None:
                consumed.add(reply.headers.get("Footfall-Capacity"))
                is_last = reply.status >= 500 and attempt >= (attempts_max or math.inf)
                if is_last or (reply.status not in (408, 425, 429) and reply.status < 500):
                    return self._with_right_key(Reply(reply.status, reply.headers, reply.data))
            now = time.monotonic()
            wait = _wait(attempt, None if reply is None else reply.headers.get("Retry-After"))
            if now - last_answer + wait > self._patience:
                raise CannotReachError(f"{self.url} {trouble}.")
            if attempt == 1 or now - last_notice > NOTICE_SECONDS:
                last_notice = now
                self._say(f"{self.url} {trouble}; trying again …")
            consumed.resent += 1
            time.sleep(wait)

    def no_footfall(self, status: int) -> CannotReachError:
        """For a reply that the service does not give."""
        return CannotReachError(
            f"{self.url} answers {status}, and not as Footfall does. Is it the right --url?"
        )

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[urllib3.BaseHTTPResponse | None, str]:
        try:
            reply = self._pool.request(
                method,
                f"{self.url}{path}",
                body=body,
                headers={**self._headers, **headers},
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.LocationParseError:
            raise CannotReachError(f"{self.url} is no address.") from None
        except urllib3.exceptions.NewConnectionError:
            return None, "does not answer: nothing listens there"
        except urllib3.exceptions.SSLError as error:
            raise CannotReachError(
                f"{self.url} has no certificate that this machine trusts: {error}."
            ) from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            return None, f"does not answer ({type(error).__name__})"
        return reply, f"answers {reply.status}"

    def _with_right_key(self, reply: Reply) -> Reply:
        if reply.status == 401:
            raise CannotReachError(
                f"{self.url} does not know this key (401). Put the secret key into FOOTFALL_SECRET_KEY."
            )
        if reply.status == 403:
            raise CannotReachError(
                f"{self.url} refuses this key (403): it is a write key, and the secret one is needed."
            )
        return reply


def _pool(url: str) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS)
    proxy = _proxy(url)
    if proxy is None:
        return urllib3.PoolManager(timeout=timeout)
    try:
        # curl, too, takes one without a scheme.
        return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", timeout=timeout)
    except urllib3.exceptions.LocationValueError:
        scheme = urlsplit(url).scheme
        raise CannotReachError(
            f"The proxy for {scheme} is none that can be used: {scheme}_proxy=http://host:port, or no_proxy."
        ) from None


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if is_loopback(url) or urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _wait(attempt: int, retry_after: str | None) -> float:
    asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    backoff: float = min(WAIT_SECONDS_MAX, 0.5 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
    return max(min(asked, 2 * WAIT_SECONDS_MAX), backoff)
