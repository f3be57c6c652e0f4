"""A response on its way through: from the bytes of the app server to those for the client, and what they mean.

What it keeps: of a head that is not complete at most HEAD_BYTES; of a body nothing.
What it drops: what comes behind a complete response, and then the upstream's connection must go too: nobody may take
those bytes for the answer to another request.
Who is told: whoever feeds it, by its attributes, and by BadResponse where the bytes are no response.

No I/O. llhttp, by httptools, reads heads, each alone, and chunked bodies.
"""

import re
from collections.abc import Callable
from enum import Enum, auto

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sse_fast.transports.forwarding import Header, Outcome, response_head, response_headers, tokens

HEAD_BYTES = 64 * 1024
INTERIM = 16  # responses before the answer
REMEMBERED_BYTES, REMEMBERED_HEADS = 1024, 128  # of a head, and how many
PLAIN_HEADERS = frozenset(
    b"accept-ranges access-control-allow-credentials access-control-allow-origin age allow cache-control connection "
    b"content-encoding content-language content-length content-type date keep-alive last-modified referrer-policy "
    b"server vary x-content-type-options x-frame-options".split()
)
REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9112, section 4; llhttp looks at none of it


class BadResponse(Exception):
    """What came is no response to this request."""


class Body(Enum):
    """Where the end of a response is (RFC 9112, section 6.3)."""

    UNKNOWN = auto()  # no head yet
    NONE = auto()
    COUNTED = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    TUNNEL = auto()


UNKNOWN, NONE, COUNTED, CHUNKED, UNTIL_CLOSE, TUNNEL = Body  # a member is looked up slowly


class _Excess(Exception):
    """Another message begins."""


class _Heard:
    """What the parser has said. Apart from `Response`, or the two and the parser would be a circle, left to the
    collector."""

    __slots__ = ("complete", "headed", "headers", "pieces", "reason")

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.reason = b""
        self.pieces: list[bytes] = []
        self.headed = self.complete = False

    def on_message_begin(self) -> None:
        if self.headed:
            raise _Excess

    def on_status(self, part: bytes) -> None:
        self.reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:  # else of trailers
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.complete = True


class Known:
    """What the head of an answer says. kept: itself, as a client of HTTP/1.1 gets it whose connection is kept; whether
    that is so shows once it is known where the body ends."""

    __slots__ = ("headers", "kept", "outcome", "reason", "status", "version")

    def __init__(self, status: int, version: str, reason: bytes, headers: list[Header]) -> None:
        self.status, self.version, self.reason, self.headers = status, version, reason, headers
        self.outcome: Outcome = response_headers(status, headers)
        self.kept: bytes | None = None

    @property
    def is_plain(self) -> bool:
        """It has nobody's secret, and its body needs no parser that has read it."""
        return not self.outcome.codings and PLAIN_HEADERS.issuperset([name.lower() for name, _ in self.headers])


remembered: dict[bytes, Known] = {}
"""By the bytes of the head: apps say the same of the same, within the second that `Date` has."""


class Response:
    """Response(method, minor="1.1", *, upgrade=None, keep=True): to one request.

    `method` and `minor`: of the request. `upgrade`: the protocols it asks to go on in, of which a 101 may name some;
    100 (Continue) is for nobody.
    `keep`: the client's connection may be kept; this counts when the head comes.
    `claim(status, headers)`, to be set: asked about the head of the answer; True: nothing of it is for the client.
    """

    __slots__ = (
        "_heard",
        "_input",
        "_interims",
        "_left",
        "_parser",
        "body",
        "claim",
        "claimed",
        "complete",
        "excess",
        "keep",
        "keeps_upstream",
        "method",
        "minor",
        "status",
        "upgrade",
    )

    def __init__(self, method: str, minor: str = "1.1", *, upgrade: bytes | None = None, keep: bool = True) -> None:
        self.method, self.minor = method, minor
        self.upgrade, self.keep = upgrade, keep
        self.claim: Callable[[int, list[Header]], bool] | None = None
        self.claimed = False
        self.status = 0
        """Of the answer, once its head has come; interim ones are none."""
        self.body = UNKNOWN
        self.complete = False
        self.excess = False
        self.keeps_upstream = False
        """Once it is complete: another request may go the same way."""
        self._input = b""
        self._left = self._interims = 0

    @property
    def tunnel(self) -> bool:
        """From here on both sides say what they like to each other."""
        return self.body is TUNNEL

    def feed(self, data: bytes) -> bytes:
        """What the client is to be sent, now that the app server has sent this. Raises BadResponse; then nothing of
        this was for the client."""
        if self.body is UNKNOWN:
            return self._heads(data)
        return self._piece(data)

    def ended(self) -> bool:
        """The app server's connection has come to its end. Whether the response is complete."""
        self.keeps_upstream = False
        if self.body is UNTIL_CLOSE:
            self.complete = True
        return self.complete

    # ---- heads ------------------------------------------------------------------------------------------------------

    def _heads(self, data: bytes) -> bytes:
        """Of interim responses, and at last of the answer."""
        out = b""
        seen = len(self._input)
        data = self._input + data if self._input else data
        while self.body is UNKNOWN:
            end = data.find(b"\r\n\r\n", max(0, seen - 3)) + 4
            if (end if end > 3 else len(data)) > HEAD_BYTES:
                raise BadResponse(f"the head of the response has more than {HEAD_BYTES} bytes")
            if end == 3:
                self._input = data
                return out
            head, data, seen = data[:end], data[end:], 0
            out += self._head(head)
        self._input = b""
        if data:
            out += self._piece(data)
        return out

    def _head(self, head: bytes) -> bytes:
        """One head, all of it."""
        if (known := remembered.get(head)) is not None:
            return self._answer(known)
        heard = self._heard = _Heard()
        parser = self._parser = HttpResponseParser(heard)
        if not head.startswith(b"HTTP/1."):
            raise BadResponse("the response does not begin with HTTP/1.1")
        try:
            parser.feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise BadResponse(f"this is not the head of an HTTP/1.1 response: {error}") from None
        version = parser.get_http_version()
        if not heard.headed or version not in ("1.0", "1.1"):
            raise BadResponse("this is not the head of an HTTP/1.1 response")
        if not REASON.fullmatch(heard.reason):
            raise BadResponse("the response's reason has control characters")
        status = parser.get_status_code()
        if status < 100:
            raise BadResponse(f"there is no status {status}")
        if status == 101:
            return self._switch()
        if status < 200:
            return self._interim(status)
        known = Known(status, version, heard.reason, heard.headers)
        if len(head) <= REMEMBERED_BYTES and known.is_plain:
            if len(remembered) >= REMEMBERED_HEADS:
                remembered.clear()  # most have the date of seconds ago
            remembered[head] = known
        return self._answer(known)

    def _interim(self, status: int) -> bytes:
        self._interims += 1
        if self._interims > INTERIM:
            raise BadResponse(f"there are more than {INTERIM} interim responses before the answer")
        if self.minor == "1.0" or status == 100:
            return b""
        return response_head(status, self._heard.reason, response_headers(status, self._heard.headers).lines)

    def _switch(self) -> bytes:
        """To protocols that were asked for (RFC 9110, section 7.8)."""
        headers = self._heard.headers
        protocol = [value for name, value in headers if name.lower() == b"upgrade"]
        agreed = tokens(headers, b"upgrade")
        if len(protocol) != 1 or not agreed or not agreed <= tokens([(b"upgrade", self.upgrade or b"")], b"upgrade"):
            raise BadResponse("the response is 101, and goes on in no protocol that was asked for")
        self.status, self.body, self.keep = 101, TUNNEL, False
        lines = response_headers(101, headers).lines
        return response_head(101, self._heard.reason, lines, b"connection: upgrade", b"upgrade: " + protocol[0])

    def _answer(self, known: "Known") -> bytes:
        status, outcome = known.status, known.outcome
        self.status, self.body = status, self._framing(status, known.version, outcome)
        reusable = known.version == "1.1" and self.body is not UNTIL_CLOSE
        self.keeps_upstream = reusable and b"close" not in outcome.options
        self.complete = self.body is NONE or (self.body is COUNTED and not self._left)
        if self.claim is not None and self.claim(status, known.headers):
            self.claimed = True
            return b""
        plain = self.keep and self.minor == "1.1" and self.body is not UNTIL_CLOSE
        if plain and known.kept is not None:
            return known.kept
        lines = outcome.lines.copy()
        if self.body is CHUNKED:
            if self.minor == "1.1":
                lines.append(b"transfer-encoding: chunked")
            else:
                self.keep = False
        elif self.body is UNTIL_CLOSE:
            self.keep = False
        if not self.keep:
            lines.append(b"connection: close")
        elif self.minor == "1.0":
            lines.append(b"connection: keep-alive")
        head = response_head(status, known.reason, lines)
        if plain:
            known.kept = head
        return head

    def _framing(self, status: int, version: str, outcome: Outcome) -> Body:
        """Raises BadResponse for what two readers could understand in two ways."""
        codings, length = outcome.codings, outcome.length
        if codings and (codings != [b"chunked"] or version != "1.1"):
            raise BadResponse("the response has another transfer coding than chunked")
        if length is not None and (codings or not length.isdigit()):
            raise BadResponse("the response has a Content-Length that says nothing")
        if self.method == "HEAD" or status in (204, 304):
            return NONE
        if codings:
            return CHUNKED
        if length is not None:
            self._left = int(length)
            return COUNTED
        return UNTIL_CLOSE

    # ---- bodies -----------------------------------------------------------------------------------------------------

    def _piece(self, data: bytes) -> bytes:
        if self.complete:
            self._exceeded()
            return b""
        if self.body is COUNTED:
            if len(data) > self._left:
                self._exceeded()
                data = data[: self._left]
            self._left -= len(data)
            self.complete = not self._left
        elif self.body is CHUNKED:
            data = self._chunks(data)
        return b"" if self.claimed else data

    def _chunks(self, data: bytes) -> bytes:
        heard = self._heard
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not heard.complete:
                raise BadResponse(f"the response's chunks are malformed: {error}") from None
            self._exceeded()
        pieces, heard.pieces = heard.pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.complete = heard.complete
        if self.minor == "1.0":
            return body
        last = b"0\r\n\r\n" if heard.complete else b""
        return b"%x\r\n%b\r\n%b" % (len(body), body, last) if body else last

    def _exceeded(self) -> None:
        """More came than the response has."""
        self.excess = True
        self.keeps_upstream = False
