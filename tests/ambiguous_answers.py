"""What an app's server may answer, or send instead of an answer, each with the one thing that a client may be told.

What was `said` to a request by the method `asked` reaches the client as `means`: status and body; or it is no answer,
and the client is told 502; or its head is right and what follows is not, and the client sees it break off, or is told
502 where the head was not on its way yet. Whatever comes behind an answer is never anybody's: the next request gets its
own.
"""

from typing import NamedTuple

HEAD_MOST = 64 * 1024


class Said(NamedTuple):
    """means: status and body. breaks: its head is right, and there is no whole body. closes: the app
    closes behind it, and that is its end. asked: the method. extra: comes with its last byte."""

    name: str
    said: bytes
    means: tuple[int, bytes] = (502, b"")
    breaks: bool = False
    closes: bool = False
    asked: str = "GET"
    extra: bytes = b""


def answer(*lines: bytes, body: bytes = b"", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((first, *lines, b"", b"")) + body


def bad(name: str, said: bytes, **more: object) -> Said:
    return Said(name, said, **more)  # type: ignore[arg-type]


def good(name: str, said: bytes, body: bytes = b"hello", status: int = 200, **more: object) -> Said:
    return Said(name, said, (status, body), **more)  # type: ignore[arg-type]


def broken(name: str, said: bytes) -> Said:
    return Said(name, said, (200, b""), breaks=True, closes=True)


CL = b"Content-Length: 5"
TE = b"Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
WHOLE = answer(CL, body=b"hello")
EVIL = answer(b"Content-Length: 4", body=b"evil")

ANSWERS = [
    good("counted", WHOLE),
    good("chunked", answer(TE, body=CHUNKS)),
    good("chunks with extensions and trailers", answer(TE, body=b'5;a="b"\r\nhello\r\n0\r\nX: y\r\n\r\n')),
    good("until it closes", answer(b"Connection: close", body=b"hello"), closes=True),
    good("of HTTP/1.0 until it closes", answer(body=b"hello", first=b"HTTP/1.0 200 OK"), closes=True),
    good("of HTTP/1.0, counted", answer(CL, body=b"hello", first=b"HTTP/1.0 200 OK")),
    good("without a reason", answer(CL, body=b"hello", first=b"HTTP/1.1 200 ")),
    good("with a status of its own", answer(CL, body=b"hello", first=b"HTTP/1.1 299 Eh"), status=299),
    good("nothing, counted", answer(b"Content-Length: 0"), b""),
    good("nothing, in chunks", answer(TE, body=b"0\r\n\r\n"), b""),
    good("204", answer(first=b"HTTP/1.1 204 No Content"), b"", 204),
    good("204 with a length", answer(CL, first=b"HTTP/1.1 204 No Content"), b"", 204),
    good("304 with the length of what it is not", answer(CL, first=b"HTTP/1.1 304 Not Modified"), b"", 304),
    good("HEAD, with a length", answer(CL), b"", asked="HEAD"),
    good("HEAD, with chunks that do not come", answer(TE), b"", asked="HEAD"),
    good("HEAD, with a body all the same", answer(CL), b"", asked="HEAD", extra=b"hello"),
    good("204 with a body all the same", answer(CL, first=b"HTTP/1.1 204 No Content"), b"", 204, extra=b"hello"),
    good("100, which nobody waits for", answer(first=b"HTTP/1.1 100 Continue") + WHOLE),
    good("103", answer(b"Link: </a>", first=b"HTTP/1.1 103 Early Hints") + WHOLE),
    good("103 three times", answer(b"Link: </a>", first=b"HTTP/1.1 103 Early Hints") * 3 + WHOLE),
    good("more than it has", WHOLE, extra=b"more"),
    good("another answer behind", WHOLE, extra=EVIL),
    good("another answer behind chunks", answer(TE, body=CHUNKS), extra=EVIL),
    good("another answer behind nothing", answer(first=b"HTTP/1.1 204 No Content"), b"", 204, extra=EVIL),
    good("another answer behind a HEAD's", answer(CL), b"", asked="HEAD", extra=EVIL),
    bad("nothing at all", b"", closes=True),
    bad("half a head", b"HTTP/1.1 200 OK\r\nContent-", closes=True),
    bad("an end behind 100", answer(first=b"HTTP/1.1 100 Continue"), closes=True),
    bad("garbage", b"\x16\x03\x01garbage\r\n\r\n"),
    bad("a body alone", b"hello\r\n\r\n"),
    bad("an empty line first", b"\r\n" + WHOLE),
    bad("a request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    bad("HTTP/2.0", answer(CL, body=b"hello", first=b"HTTP/2.0 200 OK")),
    bad("HTTP/1.2", answer(CL, body=b"hello", first=b"HTTP/1.2 200 OK")),
    bad("http/1.1", answer(CL, body=b"hello", first=b"http/1.1 200 OK")),
    bad("RTSP/1.0", answer(CL, body=b"hello", first=b"RTSP/1.0 200 OK")),
    bad("ICY", answer(CL, body=b"hello", first=b"ICY 200 OK")),
    bad("status 99", answer(CL, body=b"hello", first=b"HTTP/1.1 099 OK")),
    bad("status 1000", answer(CL, body=b"hello", first=b"HTTP/1.1 1000 OK")),
    bad("status of letters", answer(CL, body=b"hello", first=b"HTTP/1.1 OK OK")),
    bad("status of two digits", answer(CL, body=b"hello", first=b"HTTP/1.1 20 OK")),
    bad("101 that nobody asked for", answer(b"Upgrade: x", b"Connection: upgrade", first=b"HTTP/1.1 101 Switching")),
    bad("101 without more", answer(first=b"HTTP/1.1 101 Switching Protocols") + WHOLE),
    bad("bare LF", WHOLE.replace(b"\r\n", b"\n"), closes=True),
    bad("a bare LF behind the status", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello"),
    bad("a bare LF in a value", answer(CL, b"X: y\nSet-Cookie: evil", body=b"hello")),
    bad("a bare CR in a value", answer(CL, b"X: y\rSet-Cookie: evil", body=b"hello")),
    bad("NUL in a value", answer(CL, b"X: y\0z", body=b"hello")),
    bad("a control character in a value", answer(CL, b"X: y\x01z", body=b"hello")),
    bad("NUL in the reason", answer(CL, body=b"hello", first=b"HTTP/1.1 200 O\0K")),
    bad("obsolete folding", answer(CL, b"X: y", b" z", body=b"hello")),
    bad("a space before a colon", answer(b"Content-Length : 5", body=b"hello")),
    bad("an empty name", answer(CL, b": y", body=b"hello")),
    bad("a line without a colon", answer(CL, b"X", body=b"hello")),
    bad("a name with a space", answer(CL, b"X Y: z", body=b"hello")),
    bad("two lengths", answer(CL, b"Content-Length: 0", body=b"hello")),
    bad("a list of lengths", answer(b"Content-Length: 5, 5", body=b"hello")),
    bad("a negative length", answer(b"Content-Length: -5", body=b"hello")),
    bad("a length with a plus", answer(b"Content-Length: +5", body=b"hello")),
    bad("a length in hexadecimal", answer(b"Content-Length: 0x5", body=b"hello")),
    bad("an empty length", answer(b"Content-Length:", body=b"hello")),
    bad("a length over 64 bits", answer(b"Content-Length: 18446744073709551621", body=b"hello")),
    bad("a length and chunks", answer(CL, TE, body=CHUNKS)),
    bad("chunks and a length", answer(TE, CL, body=CHUNKS)),
    bad("gzip", answer(b"Transfer-Encoding: gzip", body=b"hello"), closes=True),
    bad("gzip, then chunked", answer(b"Transfer-Encoding: gzip, chunked", body=CHUNKS)),
    bad("chunked, then identity", answer(b"Transfer-Encoding: chunked, identity", body=CHUNKS)),
    bad("chunked twice", answer(TE, TE, body=CHUNKS)),
    bad("chunks in HTTP/1.0", answer(TE, body=CHUNKS, first=b"HTTP/1.0 200 OK")),
    bad("a head that is too long", answer(CL, b"X: " + b"y" * HEAD_MOST, body=b"hello")),
    bad("a head without end", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (HEAD_MOST // 6 + 1)),
    broken("less than it says", answer(b"Content-Length: 9", body=b"hello")),
    broken("chunks without the last", answer(TE, body=b"5\r\nhello\r\n")),
    broken("half a chunk", answer(TE, body=b"9\r\nhello")),
    broken("chunks without their end", answer(TE, body=b"5\r\nhello\r\n0\r\n")),
    broken("a chunk's size that is none", answer(TE, body=b"5\r\nhello\r\nx\r\n")),
    broken("a chunk's size over 64 bits", answer(TE, body=b"5\r\nhello\r\nfffffffffffffffff\r\n")),
    broken("a chunk that is longer than it says", answer(TE, body=b"5\r\nhellos\r\n0\r\n\r\n")),
    broken("a chunk with a bare LF", answer(TE, body=b"5\nhello\r\n0\r\n\r\n")),
    broken("a length for a trailer", answer(TE, body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n")),
]
