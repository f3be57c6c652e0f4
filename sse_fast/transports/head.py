"""The head of a request as a native connection reads it, and what was decided about those that come again and again."""

import re
from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sse_fast.protocol.decision import Ask, Decision
from sse_fast.protocol.native import query_is_plain
from sse_fast.protocol.request import Request

HEAD_BYTES = 16 * 1024
EMPTY_LINES = 4  # before a request (RFC 9112, section 2.2)
BEGINNING = re.compile(rb"\r?\Z|[A-Z-]+(?: |\Z)")
TEXT = bytes([*b"\t\r\n", *range(0x20, 0x7F), *range(0x80, 0x100)])
FRAMING = frozenset((b"connection", b"content-length", b"expect", b"host", b"transfer-encoding"))
END_TO_END = frozenset((b"content-length", b"host", b"transfer-encoding"))  # dropped as a hop's they would mean another
LENGTH = re.compile(rb"[0-9]{1,18}")
HOST = re.compile(rb"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
TARGET = re.compile(rb"[\x21\x22\x24-\x7e]+")
ABSOLUTE = re.compile(rb"http://([^/?]+)((?:[/?].*)?)", re.I)
REMEMBERED_BYTES, REMEMBERED_HEADS = 1024, 256  # of a head, and how many


class BadHead(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Forwarded(NamedTuple):
    """A request without a body as the app server gets it, but for who asks. trusted: by a trusted proxy's word."""

    trusted: bool
    upgrade: bytes | None
    lines: bytes


class Head:
    """A request's head. data: its bytes, if it is whole. headers: their names in lower case, in their order. minor:
    "1.0" or "1.1". keep_alive: another request may come behind it. length, chunked: of its body. expects: the client
    waits for "100 Continue". forwarded: how the relay asks, without a body, if it has asked."""

    __slots__ = (
        "chunked",
        "data",
        "expects",
        "forwarded",
        "headers",
        "keep_alive",
        "length",
        "method",
        "minor",
        "target",
    )

    def __init__(self) -> None:
        self.data = b""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.method, self.minor = "GET", "1.1"
        self.keep_alive, self.expects, self.chunked = True, False, False
        self.length = 0
        self.forwarded: Forwarded | None = None

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


class _Found:
    """What llhttp finds in a head. Apart from the parser, or the two would be a circle, left to the collector."""

    __slots__ = ("begun", "complete", "excess", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.begun = 0
        self.complete = self.excess = False

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, part: bytes) -> None:
        self.excess = True


def parsed(data: bytes) -> Head:
    """A head that is whole, from its first line to the empty one. Raises BadHead."""
    found, head = _Found(), Head()
    parser = HttpRequestParser(found)
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass  # whoever it is for may answer with another protocol
    except HttpParserError as error:
        raise BadHead(400, f"this is not an HTTP/1.1 request: {error}") from None
    if found.begun != 1 or not found.complete or found.excess:
        raise BadHead(400, "this is not an HTTP/1.1 request: its head does not end where its empty line is")
    head.data, head.target, head.headers = data, found.target, found.headers
    head.method = parser.get_method().decode("ascii")
    head.minor = parser.get_http_version()
    if head.minor not in ("1.0", "1.1"):
        raise BadHead(505, "this port speaks HTTP/1.1")
    line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), head.target, head.minor.encode())
    if not data.startswith(line):
        raise BadHead(400, "this is not an HTTP/1.1 request: it does not begin with METHOD TARGET HTTP/1.1")
    refuse_odd(data)
    host = _framed(head)
    _aim(head, host)
    return head


def refuse_odd(data: bytes) -> None:
    """Raise BadHead for bytes that others may read as the end of a line, or of the head."""
    ends = data.count(b"\r\n")
    if data.count(b"\n") != ends or data.count(b"\r") != ends or data.translate(None, TEXT):
        raise BadHead(
            400, "this is not an HTTP/1.1 request: lines end with CR LF, and have no other control characters"
        )


def _framed(head: Head) -> bytes | None:
    """Read from the headers how the request is framed, and what comes behind it. Returns its Host. Raises BadHead for
    whatever two readers could take for two things."""
    host: bytes | None = None
    length: bytes | None = None
    options: list[bytes] = []
    for name, value in head.headers:
        if name not in FRAMING:
            continue
        if name == b"connection":
            options += [option.strip(b" \t").lower() for option in value.split(b",")]
        elif name == b"host":
            if host is not None:
                raise BadHead(400, "an HTTP/1.1 request has one Host; this has two")
            host = value
        elif name == b"content-length":
            if length is not None:
                raise BadHead(400, "an HTTP/1.1 request has one Content-Length; this has two")
            length = value
        elif name == b"transfer-encoding":
            if head.chunked or head.minor == "1.0":
                raise BadHead(400, "an HTTP/1.1 request has one Transfer-Encoding, and one of HTTP/1.0 has none")
            if value.lower() != b"chunked":
                raise BadHead(501, "the one transfer coding that HTTP/1.1 requests may have here is chunked")
            head.chunked = True
        elif head.minor == "1.1":  # of HTTP/1.0 it is ignored (RFC 9110, section 10.1.1)
            if value.lower() != b"100-continue":
                raise BadHead(417, "the one expectation that HTTP/1.1 requests may have here is 100-continue")
            head.expects = True
    if length is not None:
        if head.chunked:
            raise BadHead(400, "an HTTP/1.1 request has a Content-Length or a Transfer-Encoding, not both")
        if not LENGTH.fullmatch(length):
            raise BadHead(400, "an HTTP/1.1 request's Content-Length is a number of bytes, in digits")
        head.length = int(length)
    if not END_TO_END.isdisjoint(options):
        raise BadHead(400, "an HTTP/1.1 request's Connection cannot name Host, or how its body is framed")
    head.keep_alive = b"close" not in options and (head.minor == "1.1" or b"keep-alive" in options)
    return host


def _aim(head: Head, host: bytes | None) -> None:
    """Raise BadHead for a request that does not say in one way whom it is for. In absolute-form (RFC 9112, section
    3.2.2) it says so twice, and goes on in origin-form."""
    target = head.target
    if host is None:
        if head.minor == "1.1":
            raise BadHead(400, "an HTTP/1.1 request has a Host (RFC 9112, section 3.2); this has none")
    elif not HOST.fullmatch(host):
        raise BadHead(400, "an HTTP/1.1 request's Host is a name or an address, and maybe a port")
    if not TARGET.fullmatch(target):
        raise BadHead(400, "an HTTP/1.1 request's target has printable ASCII characters, and no '#'")
    if head.method == "CONNECT":
        raise BadHead(400, "an HTTP/1.1 request may not be CONNECT: this server is no proxy")
    if target.startswith(b"/") or (target == b"*" and head.method == "OPTIONS"):
        return
    found = ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadHead(400, "an HTTP/1.1 request's target is a path, or an http:// URL; * is for OPTIONS")
    if host is None or found[1].lower() != host.lower():
        raise BadHead(400, "an HTTP/1.1 request's URL names the same as its Host")
    path = found[2]
    head.target = path if path.startswith(b"/") else b"/" + path if path or head.method != "OPTIONS" else b"*"


def partly(data: bytes) -> Head:
    """As much of a head as is there and can be read."""
    found, head = _Found(), Head()
    parser = HttpRequestParser(found)
    with suppress(HttpParserError, HttpParserUpgrade):
        parser.feed_data(data)
    head.target, head.headers = found.target, found.headers
    with suppress(UnicodeDecodeError):
        head.method = parser.get_method().decode("ascii")
    head.minor = "1.0" if parser.get_http_version() != "1.1" else "1.1"
    return head


class Reading:
    """A head while it comes."""

    __slots__ = ("_data", "_empty")

    def __init__(self) -> None:
        self._data = b""
        self._empty = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The whole head, and what came behind it; or None: it is not all there. Raises BadHead."""
        searched = max(len(self._data) - 3, 0)
        data = self._data = self._data + data if self._data else data
        while data.startswith(b"\r\n"):
            data, searched = data[2:], 0
            self._data = data
            self._empty += 1
            if self._empty > EMPTY_LINES:
                raise BadHead(400, "this is not an HTTP/1.1 request: there are only empty lines")
        end = data.find(b"\r\n\r\n", searched) + 4
        if (end if end > 3 else len(data)) > HEAD_BYTES:
            raise BadHead(431, f"a request's head has at most {HEAD_BYTES} bytes")
        if end <= 3:
            if not BEGINNING.match(data):
                raise BadHead(400, "this is not an HTTP/1.1 request: it does not begin with a method")
            refuse_odd(data.removesuffix(b"\r"))
            return None
        self._data = data[:end]
        return self._data, data[end:]

    @property
    def partly(self) -> Head:
        """What can be said of it so far, or of what is wrong with it."""
        return partly(self._data)


# Headers that hold nobody's secret. What is not named here, a cookie or somebody's own token, is read anew each time.
PLAIN_HEADERS = frozenset(
    b"host user-agent accept accept-language accept-encoding cache-control pragma connection keep-alive te priority "
    b"origin last-event-id dnt upgrade-insecure-requests x-requested-with x-real-ip "
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)
PLAIN_FAMILIES = (b"sec-fetch-", b"sec-ch-", b"sec-gpc")


def holds_no_secret(head: Head) -> bool:
    target = head.target
    if b"?" in target and not query_is_plain(target.partition(b"?")[2]):
        return False
    if PLAIN_HEADERS.issuperset([name for name, _ in head.headers]):
        return True
    return all(
        name in PLAIN_HEADERS
        or name.startswith(PLAIN_FAMILIES)
        or (name == b"referer" and value.count(b"/") == 3 and value.endswith(b"/"))  # a page's origin, not its address
        for name, value in head.headers
    )


class Known(NamedTuple):
    """A request, and what was decided about it."""

    head: Head
    request: Request
    decision: Decision | Ask


class RememberedHeads:
    """What was decided, by the bytes of the head: clients of one program send the same words, after a cut thousands at
    once. None with a secret in it: those are hardly ever the same, and have no business to stay in memory."""

    def __init__(self, most: int = REMEMBERED_HEADS) -> None:
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._most = most

    def get(self, data: bytes) -> Known | None:
        return self._known.get(data)

    def keep(self, data: bytes, known: Known) -> None:
        """`data`: the head, as it came."""
        if len(data) <= REMEMBERED_BYTES and holds_no_secret(known.head):
            if len(self._known) == self._most:
                self._known.popitem(last=False)
            self._known[data] = known
