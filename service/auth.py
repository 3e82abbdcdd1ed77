"""Who is calling: a write key may post events, a secret key may do everything."""

import hashlib
import hmac
from dataclasses import dataclass, field

from .problems import Forbidden, Unauthorized
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid key; trusted with the secret one."""

    is_trusted: bool


@dataclass(frozen=True)
class Keys:
    """The keys of a deployment, as SHA-256 digests, so that every comparison is of 32 bytes and in constant time."""

    write_digests: frozenset[bytes]
    secret_digests: frozenset[bytes] = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys of these settings."""
        return cls(frozenset(map(digest, settings.write_keys)), settings.secret_key_hashes)

    def caller(self, key: str | None) -> Caller:
        """Whose key this is. Raises Unauthorized, the same for a missing and for an unknown one."""
        given = digest(key or "")
        is_secret = _is_any(given, self.secret_digests)
        is_write = _is_any(given, self.write_digests)
        if not key or not (is_secret or is_write):
            raise Unauthorized
        return Caller(is_trusted=is_secret)

    def require_secret(self, key: str | None) -> None:
        """Raises Unauthorized without a valid key, Forbidden with a write key."""
        if not self.caller(key).is_trusted:
            raise Forbidden


def digest(key: str) -> bytes:
    """SHA-256 of a key; lone surrogates, which JSON can bring, are hashed like anything else."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _is_any(given: bytes, digests: frozenset[bytes]) -> bool:
    # Summed: all are compared, whichever fits.
    return sum(hmac.compare_digest(given, known) for known in digests) > 0
