"""A request's head as a value, the same whichever way it came: from an ASGI scope, or from the bytes of a connection.

Who asks is no part of it: the same head means the same from anybody, so what was decided about one holds for all who
send it. `Policy.client_of` tells who asks.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette._utils import get_route_path

from sse_fast.access.local import FORWARDED

READ = FORWARDED | frozenset(
    b"accept accept-encoding access-control-request-headers access-control-request-method "
    b"access-control-request-private-network authorization content-encoding content-length content-type cookie host "
    b"idempotency-key last-event-id origin x-forwarded-for".split()
)
# Two keys or credentials are none, and are refused as one: to take either would be to guess.
LISTS = frozenset(
    (
        *(b"accept", b"accept-encoding", b"access-control-request-headers", b"authorization", b"cookie"),
        *(b"idempotency-key", b"x-forwarded-for", b"x-forwarded-proto"),
    )
)
SEPARATORS = {b"cookie": b"; "}  # RFC 9113, section 8.2.3
SLASH = "\udc2f"  # one that was escaped, in a decoded path: no bytes decode to it


class Request(NamedTuple):
    """path: decoded, below where the edge is mounted. query: as it came. headers: those of READ, by their names in
    lower case. version: "1.0", "1.1" or "2". root: where the edge is mounted, as clients write it before each path.
    scheme: by which it came here, which before a proxy may have been another."""

    method: str
    path: str
    query: bytes = b""
    headers: Mapping[bytes, bytes] = MappingProxyType({})
    version: str = "1.1"
    root: str = ""
    scheme: str = "http"

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any], read: frozenset[bytes] = READ) -> "Request":
        """Of an ASGI scope. read: the headers that count."""
        return cls(
            scope["method"],
            route_path(scope),
            scope["query_string"],
            read_headers(scope["headers"], read),
            scope.get("http_version", "1.1"),
            scope.get("root_path", ""),
            scope.get("scheme", "http"),
        )

    @classmethod
    def from_head(
        cls,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        version: str,
        read: frozenset[bytes] = READ,
    ) -> "Request":
        """Of a head as it stands in HTTP/1: the target whole, the names of headers in lower case."""
        if not target.startswith(b"/"):  # a request to a proxy, or OPTIONS *
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return cls(method, path_of(path), query, read_headers(headers, read), version)

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None


def path_of(raw: bytes) -> str:
    """A path as it came, decoded: slashes that were escaped are SLASH."""
    text = raw.decode("latin-1")
    if "%2F" not in text and "%2f" not in text:
        return unquote(text)
    return "/".join([unquote(segment).replace("/", SLASH) for segment in text.split("/")])


def route_path(scope: Mapping[str, Any]) -> str:
    """Of an ASGI scope, as `path_of` has it, below where the edge is mounted."""
    raw = (scope.get("raw_path") or b"").partition(b"?")[0]
    if b"%2F" in raw or b"%2f" in raw:
        path = path_of(raw)
        if path.replace(SLASH, "/") == scope["path"]:  # else somebody has rewritten it
            return get_route_path({"path": path, "root_path": scope.get("root_path", "")})
    return get_route_path(scope)  # type: ignore[arg-type]


def named(segments: Iterable[str]) -> str:
    """The channel that these segments of a path name."""
    return ":".join(segments).replace(SLASH, "/")


def below(path: str, where: str) -> str | None:
    """The rest of a path that is `where` or under it; None: it is not. Both without a slash behind."""
    if not path.startswith(where) or path[len(where) :][:1] not in ("", "/"):
        return None
    return path[len(where) :]


def read_headers(headers: Iterable[tuple[bytes, bytes]], those: frozenset[bytes] = READ) -> dict[bytes, bytes]:
    """Those that count. What is given several times is one list (RFC 9110, section 5.3); of what is no list the last
    counts."""
    read: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in those:
            if name in LISTS and (before := read.get(name)):
                value = before + SEPARATORS.get(name, b", ") + value if value.strip() else before
            read[name] = value
    return read
