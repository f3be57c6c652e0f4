"""Which pages of other origins may read an answer: the rules of Starlette's CORS middleware, as values."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

ALLOWED_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
ALLOWED_HEADERS = ("Last-Event-ID", "Cache-Control", "Authorization", "Content-Type", "Idempotency-Key")
EXPOSED_HEADERS = (
    "Idempotent-Replayed",
    "Last-Event-ID",
    "Link",
    "Mercure-Last-Event-ID",
    "Retry-After",
    "WWW-Authenticate",
)  # of answers, beside those that any page may read

MOST_BYTES = 256  # of an origin that is said again; one has a name of 253 bytes at most, and few have half of that


class Listed(frozenset[str]):
    """Origins as pages send theirs; with `*` for a port, as in `http://localhost:*`, any port or none is meant."""

    def __contains__(self, origin: object) -> bool:
        if super().__contains__(origin):
            return True
        before, _, port = str(origin).rpartition(":")
        return super().__contains__(f"{before if port.isdecimal() else origin}:*")


class Origins:
    """Pages of these origins, with cookies; or, by "*", of any, without. With both it would be any origin that sends a
    cookie: so no credentials then."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._rules = CORSMiddleware(
            _nobody,
            allow_origins=Listed(allowed),
            allow_methods=ALLOWED_METHODS,
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            allow_credentials="*" not in allowed,
        )
        self.headers_for = lru_cache(maxsize=256)(self._headers_for)

    def _headers_for(self, origin: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
        """What any answer says of who may read it; `origin`: the header of the request."""
        rules, headers = self._rules, MutableHeaders()
        name = origin.decode("latin-1") if origin is not None else None
        if name is not None:
            headers.update(rules.simple_headers)
        if name is not None and not rules.allow_all_origins and rules.is_allowed_origin(name):
            rules.allow_explicit_origin(headers, name)
        else:
            headers["Vary"] = "Origin"
        # Who may read it stands first, what else of it may be read behind.
        return tuple(sorted(headers.raw, key=lambda header: header[0] == b"access-control-expose-headers"))

    def preflight(self, headers: Mapping[bytes, bytes]) -> Response:
        """The answer to a request that `is_preflight`."""
        return self._rules.preflight_response(Headers(raw=list(headers.items())))


def readable_by(origin: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """What a refusal says of who may read it: the page that is refused, whose own origin is all that it says."""
    if origin is None or len(origin) > MOST_BYTES:
        return ()
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    )


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


async def _nobody(*_: Any) -> None:
    """The middleware is asked for its rules only."""
