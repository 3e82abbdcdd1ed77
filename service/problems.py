"""Every error a client can see, and its RFC 9457 body. Pure: no I/O, no clock.

    Problem
    ├── Unauthorized        401  unauthorized
    ├── Forbidden           403  forbidden
    ├── NotFound            404  not_found
    ├── MethodNotAllowed    405  method_not_allowed
    ├── IdentityConflict    409  identity_conflict
    ├── TooLarge            413  body_too_large, batch_too_large
    ├── UnsupportedEncoding 415  unsupported_encoding
    ├── InvalidJson         400  invalid_json
    ├── InvalidRequest      422  invalid_request, invalid_id, invalid_range, invalid_cursor
    ├── Unexpected          500  internal_error
    ├── NotEnabled          501  raw_events_off, search_off
    ├── Unavailable         503  unavailable, misconfigured
    └── SearchUnavailable   503  search_unavailable

A body never repeats what was sent, and never exceeds a few hundred bytes.
"""

import json

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


class Problem(Exception):
    """An answer that is not what was asked for."""

    status = 500
    code = "internal_error"
    title = "Internal error"
    detail = "Something went wrong on our side. Sending the same request again is safe."

    def __init__(self, detail: str | None = None, *, code: str | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail
        self.code = code or self.code
        self.headers: dict[str, str] = {}

    def body(self) -> bytes:
        """The JSON body. `code` and `message` are what Segment's clients read of an error."""
        return json.dumps(
            {
                "type": f"urn:footfall:problem:{self.code}",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "code": self.code,
                "message": self.detail,
            }
        ).encode()


class Unauthorized(Problem):
    """No key or an unknown one: the same body for all causes."""

    status = 401
    code = "unauthorized"
    title = "Unauthorized"
    detail = (
        "A valid key is needed: the write key as HTTP Basic user name or as writeKey in the body to post events, \
the secret key as a Bearer token for everything else."
    )

    def __init__(self) -> None:
        super().__init__()
        self.headers["WWW-Authenticate"] = 'Bearer realm="footfall"'


class Forbidden(Problem):
    """A write key where a secret one is needed."""

    status = 403
    code = "forbidden"
    title = "Forbidden"
    detail = "A write key may only post events; this needs the secret key as a Bearer token."


class NotFound(Problem):
    """No such path."""

    status = 404
    code = "not_found"
    title = "Not found"
    detail = "There is nothing at this path; /docs lists what there is."


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"
    detail = "This path does not answer this method; /docs lists those it does."


class IdentityConflict(Problem):
    """The anonymous id is somebody else's."""

    status = 409
    code = "identity_conflict"
    title = "Identity conflict"
    detail = "This anonymous id already belongs to another user, who keeps it."


class TooLarge(Problem):
    """Body or batch over a limit."""

    status = 413
    code = "body_too_large"
    title = "Body too large"


class UnsupportedEncoding(Problem):
    """A Content-Encoding other than gzip."""

    status = 415
    code = "unsupported_encoding"
    title = "Unsupported encoding"
    detail = "Content-Encoding may be gzip or absent."


class InvalidJson(Problem):
    """The body cannot be read at all."""

    status = 400
    code = "invalid_json"
    title = "Invalid JSON"


class InvalidRequest(Problem):
    """The body or the query can be read, and is not what this route takes."""

    status = 422
    code = "invalid_request"
    title = "Invalid request"


class Unexpected(Problem):
    """Our own mistake."""


class NotEnabled(Problem):
    """A part of the service that this deployment has not turned on."""

    status = 501
    code = "raw_events_off"
    title = "Not enabled"
    detail = (
        "This deployment keeps no raw events. Deploy with the parameter RawEvents=true, or set FOOTFALL_RAW_EVENTS=1, \
to keep them from then on."
    )


def search_off() -> NotEnabled:
    """The problem of a search where there is no engine to ask."""
    return NotEnabled(
        "This deployment has no search. Deploy with the parameters OpenSearchUrl and RawEvents=true, or set \
FOOTFALL_OPENSEARCH_URL and FOOTFALL_RAW_EVENTS=1; `python -m service index rebuild` indexes the raw events of before.",
        code="search_off",
    )


class Unavailable(Problem):
    """Not decided now; the same request can be sent again, and counts once."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"
    detail = "Not every part of this could be decided in time. Sending the same request again is safe."

    def __init__(self, detail: str | None = None, *, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)


class SearchUnavailable(Unavailable):
    """No search engine that answers whole and in time."""

    code = "search_unavailable"
    title = "Search unavailable"
    detail = (
        "The search engine did not answer this in time. Ask again later, or for fewer days; events and user \
metrics do without it."
    )
