"""The body of a request as a native connection reads it: where it ends, to the byte. No I/O."""

from httptools import HttpParserError, HttpRequestParser

from sse_fast.transports.head import HEAD_BYTES, BadHead, Head

CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Body:
    """Body(head): `feed` it what comes behind the head. `complete`: it ended; `rest`: what came behind its end."""

    __slots__ = ("_chunks", "_left", "complete", "rest")

    def __init__(self, head: Head) -> None:
        self._chunks = Chunks() if head.chunked else None
        self._left = head.length
        self.complete = not head.has_body
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """What it has of the body, without its framing. Raises BadHead."""
        if self._chunks is not None:
            piece, end = self._chunks.feed(data)
            self.complete = end is not None
            if end is not None:
                self.rest = data[end:]
            return piece
        if len(data) < self._left:
            self._left -= len(data)
            return data
        self.complete, self.rest = True, data[self._left :]
        return data[: self._left]


class _Decoded:
    """What llhttp finds. It ignores trailers (RFC 9112, section 7.1.2)."""

    __slots__ = ("begun", "complete", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.begun = 0
        self.complete = False

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        self.complete = True


class Chunks:
    """A chunked body (RFC 9112, section 7.1). llhttp reads it, in pieces that end where the body may end, at an empty
    line: it does not tell where it stopped."""

    __slots__ = ("_decoded", "_parser", "_spare", "_tail")

    def __init__(self) -> None:
        self._decoded = _Decoded()
        self._parser = HttpRequestParser(self._decoded)
        self._parser.feed_data(CHUNKED)
        self._tail = b""
        self._spare = HEAD_BYTES  # bytes that may come beside the body itself: extensions, trailers

    def feed(self, data: bytes) -> tuple[bytes, int | None]:
        """What of it is the body's, and where in `data` that ended, if it did. Raises BadHead."""
        decoded = self._decoded
        joined = self._tail + data
        at = tail = len(self._tail)
        while at < len(joined) and not decoded.complete:
            line = joined.find(b"\r\n\r\n", max(at - 3, 0))
            end = line + 4 if line >= 0 else len(joined)
            try:
                self._parser.feed_data(joined[at:end])
            except HttpParserError as error:
                raise BadHead(400, f"the body's chunks cannot be read: {error}") from None
            at = end
        if decoded.begun != 1:
            raise BadHead(400, "the body's chunks cannot be read: they do not end where they say")
        body = b"".join(decoded.parts)
        decoded.parts.clear()
        self._tail = joined[-3:]
        # One byte in each chunk is five of framing.
        self._spare += 16 * len(body) - (at - tail - len(body))
        if self._spare < 0:
            raise BadHead(400, "the body's chunks have too little in them, or too much between or behind them")
        return body, at - tail if decoded.complete else None
