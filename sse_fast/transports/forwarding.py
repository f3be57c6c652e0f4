"""What an intermediary changes in a message: the heads of requests and of responses as they are forwarded, as bytes.

Headers that are meant for one connection are dropped both ways (RFC 9110, section 7.6.1), and so is what says who the
client is where a stranger says it. Everything else stays as it came, in its order. No I/O.
"""

from collections.abc import Iterable
from functools import lru_cache

Header = tuple[bytes, bytes]

HOP_BY_HOP = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())
"""Trailers are not forwarded, and so not announced."""
NEVER_NAMED = frozenset((b"content-length", b"host"))  # what `Connection` cannot take out of a message
FORWARDING = frozenset((b"forwarded", b"x-real-ip"))
NOT_TUNNELLED = (b"h2c", b"http", b"tls")  # what a client says within those would be taken for the relay's word

WHO = b"x-forwarded-for"
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


def request_head(
    method: str,
    target: bytes,
    headers: list[Header],
    *,
    client: str,
    trusted: bool,
    authority: bytes,
    chunked: bool = False,
    upgrade: bytes | None = None,
    expects: bool = False,
    marks: bytes = b"",
) -> bytes:
    """The head of a request as the app server gets it, in HTTP/1.1, by a connection that is kept.

    `headers`: names in lower case, at most one Content-Length among them. `client`: the address of who asks;
    `trusted`: what the request says of that beside it is a trusted proxy's word. `authority`: of a request without a
    Host. `expects`: it waits for 100 (Continue). `marks`: lines to add.
    """
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), origin_form(method, target))]
    named: set[bytes] | frozenset[bytes] = frozenset()
    hosted = False
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close", b"upgrade"):
            named = tokens(headers, b"connection") - NEVER_NAMED
            break
    for name, value in headers:
        if name in HOP_BY_HOP or name in named:
            continue
        if (spoken := _forged(name)) and not (trusted and spoken is PROXYS):
            continue
        if name == b"expect" and not expects:
            continue
        hosted = hosted or name == b"host"
        lines.append(b"%b: %b\r\n" % (name, value))
    if not hosted:
        lines.insert(1, b"host: %b\r\n" % authority)
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    if upgrade is not None:
        lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade)
    lines.append(b"x-forwarded-for: %b\r\n%b\r\n" % (client.encode("latin-1", "replace") or NOBODY, marks))
    return b"".join(lines)


PROXYS, NOBODYS = "a proxy's word", "nobody's word"


@lru_cache(maxsize=1024)
def _forged(name: bytes) -> str | None:
    """Whose word a header is that a client may not say; None: anybody's. Servers of other kinds do not tell `_` from
    `-`, so what would be another header to them is nobody's."""
    plain = name.replace(b"_", b"-")
    if plain.startswith(b"grip-") or plain == WHO:
        return NOBODYS
    forwarding = plain in FORWARDING or plain.startswith(b"x-forwarded-")
    if plain != name:
        return NOBODYS if forwarding or plain in HOP_BY_HOP or plain in NEVER_NAMED else None
    return PROXYS if forwarding else None


def response_head(status: int, reason: bytes, headers: list[Header], *added: bytes) -> bytes:
    """The head of a response as the client gets it: `headers` as the app server wrote them but for those that are not
    for the client; `added`: whole lines."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    named: set[bytes] | frozenset[bytes] = frozenset()
    if any(name.lower() == b"connection" for name, _ in headers):
        named = tokens(headers, b"connection") - NEVER_NAMED
    # Some read it where there may be none (RFC 9110, section 8.6), and would take what follows for a body.
    bodiless = status < 200 or status == 204
    for name, value in headers:
        low = name.lower()
        if low in HOP_BY_HOP or low in named or low.startswith(b"grip-") or (bodiless and low == b"content-length"):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    lines += added
    lines.append(b"\r\n")
    return b"".join(lines)
