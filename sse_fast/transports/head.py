"""The head of a request as a native connection reads it, and what was decided about those that come again and again."""

from collections import OrderedDict

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from sse_fast.protocol.decision import Decision
from sse_fast.protocol.native import query_is_plain
from sse_fast.protocol.request import Request

HEAD_BYTES = 16 * 1024
REMEMBERED_BYTES, REMEMBERED_HEADS = 1024, 256  # of a head, and how many


class BadHead(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _EndOfHead(Exception):
    """Stops the parser: what comes behind the head, a body or another request, is nobody's."""


class Head:
    """A request's head. The parser calls its `on_*`."""

    __slots__ = ("complete", "headers", "method", "minor", "size", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.size = 0
        self.complete = False
        self.method, self.minor = "GET", "1.1"

    def on_url(self, part: bytes) -> None:
        self.target += part
        self.size += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))
        self.size += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        self.complete = True
        raise _EndOfHead


class Reading:
    """A head while it comes. Apart from `Head`, or the two and the parser would be a circle, left to the collector."""

    __slots__ = ("_parser", "head", "size")

    def __init__(self) -> None:
        self.head = Head()
        self._parser = HttpRequestParser(self.head)
        self.size = 0

    def feed(self, data: bytes) -> bool:
        """True: the head is complete. Raises BadHead."""
        head = self.head
        self.size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            raise BadHead(400, "this is not an HTTP/1.1 request") from None  # an HTTP/2 preface
        except HttpParserError as error:
            if not head.complete:
                raise BadHead(400, f"this is not an HTTP/1.1 request: {error}") from None
        if (head.size if head.complete else self.size) > HEAD_BYTES:
            raise BadHead(431, f"a request's head has at most {HEAD_BYTES} bytes")
        if not head.complete:
            return False
        head.method = self._parser.get_method().decode("ascii")
        head.minor = self._parser.get_http_version()
        if head.minor not in ("1.0", "1.1"):
            head.minor = "1.0"
            raise BadHead(505, "this port speaks HTTP/1.1")
        return True


# Headers that hold nobody's secret. What is not named here, a cookie or somebody's own token, is read anew each time.
PLAIN_HEADERS = frozenset(
    b"host user-agent accept accept-language accept-encoding cache-control pragma connection keep-alive te priority "
    b"origin last-event-id dnt upgrade-insecure-requests x-requested-with x-real-ip "
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)
PLAIN_FAMILIES = (b"sec-fetch-", b"sec-ch-", b"sec-gpc")


def holds_no_secret(head: Head) -> bool:
    target = head.target
    if not target.startswith(b"/") or b"#" in target:
        return False
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


Known = tuple[Request, Decision]


class RememberedHeads:
    """What was decided, by the bytes of the head: clients of one program send the same words, after a cut thousands at
    once. None with a secret in it: those are hardly ever the same, and have no business to stay in memory."""

    def __init__(self, most: int = REMEMBERED_HEADS) -> None:
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._most = most

    def get(self, data: bytes) -> Known | None:
        return self._known.get(data)

    def keep(self, data: bytes, head: Head, known: Known) -> None:
        """`data`: what has come from a client, all in one piece. It is kept if it is this head, and no more."""
        if len(data) <= REMEMBERED_BYTES and data.find(b"\r\n\r\n") == len(data) - 4 and holds_no_secret(head):
            if len(self._known) == self._most:
                self._known.popitem(last=False)
            self._known[data] = known
