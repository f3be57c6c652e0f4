"""What an intermediary changes in a message: the heads of requests and of responses as they are forwarded, as bytes.

Headers that are meant for one connection are dropped both ways (RFC 9110, section 7.6.1), and so is what says who the
client is where a stranger says it. Everything else stays as it came, in its order. No I/O.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

Header = tuple[bytes, bytes]

HOP_BY_HOP = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())
"""Trailers are not forwarded, and so not announced."""
PLAIN_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))  # of `Connection`: names of no header that matters
NEVER_NAMED = frozenset((b"content-length", b"host"))  # what `Connection` cannot take out of a message
FORWARDING = frozenset((b"forwarded", b"x-real-ip"))
NOT_TUNNELLED = (b"h2c", b"http", b"tls")  # what a client says within those would be taken for the relay's word

WHO = b"x-forwarded-for"
LOCAL = b"grip-local"  # of a request that comes from this machine itself: see access/local
NOBODY = b"unknown"  # a client without an address (RFC 7239, section 6.2)


def tokens(headers: Iterable[Header], name: bytes) -> set[bytes]:
    """What the lists of this name hold (RFC 9110, section 5.6.1), in lower case."""
    return {
        token
        for has, value in headers
        if has.lower() == name
        for item in value.split(b",")
        if (token := item.strip().lower())
    }


def upgrade_of(method: str, minor: str, headers: list[Header]) -> bytes | None:
    """The protocol that a request asks to go on in, as it says it, where it may be asked for (RFC 9110, section 7.8).
    The names of headers are in lower case."""
    asked = [value for name, value in headers if name == b"upgrade"]
    if len(asked) != 1 or method != "GET" or minor != "1.1" or b"upgrade" not in tokens(headers, b"connection"):
        return None
    if any(protocol.strip().lower().startswith(NOT_TUNNELLED) for protocol in asked[0].split(b",")):
        return None
    return asked[0]


def origin_form(method: str, target: bytes) -> bytes:
    """Of a request's target, which may be in absolute form too (RFC 9112, section 3.2.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    behind = target.partition(b"://")[2]
    path, asked, query = behind.partition(b"?")
    path = b"/" + path.partition(b"/")[2]
    if method == "OPTIONS" and b"/" not in behind and not asked:
        return b"*"
    return path + asked + query


def request_lines(
    method: str,
    target: bytes,
    headers: list[Header],
    *,
    trusted: bool,
    authority: bytes,
    chunked: bool = False,
    upgrade: bytes | None = None,
) -> bytes:
    """The head of a request as the app server gets it, in HTTP/1.1, by a connection that is kept; but for who asks,
    which `asked_by` adds.

    `headers`: names in lower case, at most one Content-Length among them. `trusted`: what the request says of who asks
    is a trusted proxy's word. `authority`: of a request without a Host. That its client waits for
    100 (Continue) is seen to here.
    """
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), origin_form(method, target))]
    named: set[bytes] = set()
    hosted = False
    for name, value in headers:
        if name == b"connection" and value.lower() not in PLAIN_OPTIONS:
            named = tokens(headers, b"connection") - NEVER_NAMED
            break
    for header in headers:
        name = header[0]
        if name in HOP_BY_HOP or name in named:
            continue
        if (word := _whose(name)) is not None and not (trusted and word is PROXYS):
            continue
        if name == b"expect":
            continue
        hosted = hosted or name == b"host"
        lines.append(b": ".join(header))
    if not hosted:
        lines.insert(1, b"host: " + authority)
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    if upgrade is not None:
        lines += (b"connection: upgrade", b"upgrade: " + upgrade)
    return b"\r\n".join((*lines, b""))


def asked_by(lines: bytes, client: str, marks: bytes = b"") -> bytes:
    """The whole head: `request_lines`, who asks, and `marks`, lines to add, each with its end."""
    return b"%bx-forwarded-for: %b\r\n%b\r\n" % (lines, client.encode("latin-1", "replace") or NOBODY, marks)


PROXYS, NOBODYS = "a proxy's word", "nobody's word"


@lru_cache(maxsize=1024)
def _whose(name: bytes) -> str | None:
    """Whose word a header is that a client may not say; None: anybody's. Servers of other kinds do not tell `_` from
    `-`, so what would be another header to them is nobody's."""
    plain = name.replace(b"_", b"-")
    if plain.startswith(b"grip-") or plain == WHO:
        return NOBODYS
    forwarding = plain in FORWARDING or plain.startswith(b"x-forwarded-")
    if plain != name:
        return NOBODYS if forwarding or plain in HOP_BY_HOP or plain in NEVER_NAMED else None
    return PROXYS if forwarding else None


class Outcome(NamedTuple):
    """Of the headers of a response: the lines that are for the client, as the app server wrote them. options: what
    `Connection` says. codings: transfer codings, as they stand there. length: Content-Length."""

    lines: list[bytes]
    options: set[bytes]
    codings: list[bytes]
    length: bytes | None


def response_headers(status: int, headers: list[Header]) -> Outcome:
    """`headers`: as the app server wrote them, Content-Length once at most."""
    lines, codings, length = [], [], None
    options: set[bytes] = set()
    for header in headers:
        name, value = header
        low = name.lower()
        if low == b"content-length":
            length = value
            # Some read it where there may be none (RFC 9110, section 8.6), and would take what follows for a body.
            if status >= 200 and status != 204:
                lines.append(b": ".join(header))
        elif low == b"transfer-encoding":
            codings.append(value.lower())
        elif low == b"connection":
            options |= tokens(headers, b"connection")
        elif low not in HOP_BY_HOP and not low.startswith(b"grip-"):
            lines.append(b": ".join(header))
    if not options <= PLAIN_OPTIONS:
        named = options - NEVER_NAMED
        lines = [line for line in lines if line.partition(b":")[0].lower() not in named]
    return Outcome(lines, options, codings, length)


def response_head(status: int, reason: bytes, lines: list[bytes], *added: bytes) -> bytes:
    """The head of a response as the client gets it."""
    return b"\r\n".join((b"HTTP/1.1 %d %b" % (status, reason), *lines, *added, b"", b""))
