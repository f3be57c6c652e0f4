"""Errors as `application/problem+json` (RFC 9457), and which status each kind has. Their sentences stand where they are
raised: what was wrong, where, and what would be right."""

import math
import re
from http import HTTPStatus

import orjson

from sse_fast.errors import (
    AmbiguousCredentials,
    BadToken,
    BatchTooLarge,
    Behind,
    EngineUnavailable,
    EventTooLarge,
    Forbidden,
    ForeignHost,
    ForeignOrigin,
    HubClosed,
    InvalidEvent,
    KeyReused,
    LogBusy,
    Overloaded,
    RateLimited,
    Silent,
    SSEFastError,
    Unauthorized,
    Undecided,
    Unsupported,
    WrongKey,
)
from sse_fast.protocol.decision import Answer, Headers, in_order

NOT_DESCRIBING = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # what an error_description cannot have
AGAIN: Headers = ((b"retry-after", b"1"),)
FAILED = "the server failed to answer this; its log says why"
OUT_OF_MEMORY = "the server has run out of memory; try again later"


class TooMuch(SSEFastError):
    """A body over its limit."""


class TooLate(SSEFastError):
    """A body that took too long to come."""


class NotPlain(SSEFastError):
    """A body in an encoding that nobody here undoes."""


PROBLEMS: dict[type[Exception], tuple[int, Headers]] = {
    InvalidEvent: (400, ()),
    AmbiguousCredentials: (400, ()),
    Unauthorized: (401, ()),
    Forbidden: (403, ()),
    ForeignOrigin: (403, ()),
    TooLate: (408, ()),
    EventTooLarge: (413, ()),
    BatchTooLarge: (413, ()),
    TooMuch: (413, ()),
    NotPlain: (415, ((b"accept-encoding", b"identity"),)),
    ForeignHost: (421, ()),
    KeyReused: (422, ()),
    Unsupported: (501, ()),
    HubClosed: (503, AGAIN),
    LogBusy: (503, AGAIN),
    Overloaded: (503, AGAIN),
    RateLimited: (429, ()),
    Silent: (503, AGAIN),
    EngineUnavailable: (503, ()),
}
"""What each error is answered with: status and headers. The nearest class of an error counts."""


REASONS: dict[type[Exception], str] = {
    SSEFastError: "invalid",
    EventTooLarge: "too_large",
    BatchTooLarge: "too_large",
    TooMuch: "too_large",
    Unauthorized: "unauthorized",
    WrongKey: "wrong_key",
    Forbidden: "forbidden",
    ForeignOrigin: "foreign_origin",
    ForeignHost: "foreign_host",
    HubClosed: "shutdown",
    Behind: "behind",
    LogBusy: "overloaded",
    Overloaded: "overloaded",
    Undecided: "undecided",
    EngineUnavailable: "backplane",
}
"""What each is called where it is said of somebody who is refused. The nearest class of an error counts."""


def reason_of(error: Exception) -> str:
    return getattr(error, "limit", "") or next((REASONS[kind] for kind in type(error).__mro__ if kind in REASONS), "")


def problem(status: int, detail: str, headers: Headers = (), refused: str = "") -> Answer:
    detail = detail.encode("utf-8", "backslashreplace").decode()  # a path may hold what UTF-8 has not got
    body = orjson.dumps({"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail})
    length = (b"content-length", b"%d" % len(body))
    headers = in_order((b"content-type", b"application/problem+json"), *headers, length)
    return Answer(status, headers, body, refused=refused, detail=detail)


AWAY = "the backplane takes no events now; nothing was published: try again"
MAYBE = (
    "the backplane has not acknowledged it; it may be published: try again, with the same Idempotency-Key, "
    "with which nothing is published twice"
)


def problem_of(error: Exception, headers: Headers = ()) -> Answer:
    """Raises KeyError for an error that is none of PROBLEMS."""
    kind = next((kind for kind in type(error).__mro__ if kind in PROBLEMS), type(error))
    status, own = PROBLEMS[kind]
    if isinstance(error, Unauthorized | Forbidden):
        own = ((b"www-authenticate", challenge(error)),)
    if isinstance(error, RateLimited | EngineUnavailable):
        own = ((b"retry-after", b"%d" % math.ceil(error.seconds)),)
    told = str(error)
    if isinstance(error, EngineUnavailable):  # where it is, and what it says, is for who operates the server
        told = AWAY if not error.maybe else MAYBE
    answer = problem(status, told, (*own, *headers), reason_of(error))._replace(detail=str(error))
    return answer._replace(bad_token=True) if isinstance(error, BadToken) else answer


def challenge(error: Unauthorized | Forbidden) -> bytes:
    """What credentials are taken, and what was wrong with those that came (RFC 6750, section 3); where none came,
    nothing was."""
    word = error.error if isinstance(error, Unauthorized) else "insufficient_scope"
    if word is None:
        return b"Bearer"
    described = NOT_DESCRIBING.sub("'", str(error)).encode("ascii", "replace")
    return b'Bearer error="%b", error_description="%b"' % (word.encode(), described)
