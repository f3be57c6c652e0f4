"""The body of a request as a native connection reads it: where it ends, to the byte. No I/O."""

from httptools import HttpParserError, HttpRequestParser

from sse_fast._native.front.chunks import ChunkFraming
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


class _Found:
    """What llhttp finds. It ignores trailers (RFC 9112, section 7.1.2)."""

    __slots__ = ("begun", "complete")

    def __init__(self) -> None:
        self.begun = 0
        self.complete = False

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_message_complete(self) -> None:
        self.complete = True


class Chunks:
    """A chunked body, read twice: natively, which tells to the byte where it ends, in one go whatever is in it; and by
    llhttp, which knows the whole grammar and does not tell where it stopped. Where they do not agree it is refused."""

    __slots__ = ("_found", "_framing", "_parser", "_spare")

    def __init__(self) -> None:
        self._framing = ChunkFraming()
        self._found = _Found()
        self._parser = HttpRequestParser(self._found)
        self._parser.feed_data(CHUNKED)
        self._spare = HEAD_BYTES  # bytes that may come beside the body itself: extensions, trailers

    def feed(self, data: bytes) -> tuple[bytes, int | None]:
        """What of it is the body's, and where in `data` that ended, if it did. Raises BadHead."""
        found = self._found
        try:
            body, end = self._framing.feed(data)
            self._parser.feed_data(data if end is None else data[:end])
        except (ValueError, HttpParserError) as error:
            raise BadHead(400, f"the body's chunks cannot be read: {error}") from None
        if found.begun != 1 or found.complete != (end is not None):
            raise BadHead(400, "the body's chunks cannot be read: they do not end where they say")
        # One byte in each chunk is five of framing.
        self._spare += 16 * len(body) - ((len(data) if end is None else end) - len(body))
        if self._spare < 0:
            raise BadHead(400, "the body's chunks have too little in them, or too much between or behind them")
        return body, end
