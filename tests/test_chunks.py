"""Chunked bodies of requests (RFC 9112, section 7.1): what is in them, and where they end."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sse_fast.transports import body as bodies
from sse_fast.transports.body import Chunks
from sse_fast.transports.head import BadHead

LINE_ENDS = b"\r\n\r\n0\r\n\r\n"
BEHIND = b"GET /next HTTP/1.1\r\n\r\n"

content = st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 8).map(lambda n: LINE_ENDS * n))
framing = st.sampled_from(("%x", "%X", "000%x"))
extensions = st.sampled_from((b"", b";a", b";a=b", b';a="b c"'))
trailers = st.sampled_from((b"", b"A: b\r\n", b"A: b\r\nX-C: d e\r\n"))


def framed(pieces: list[bytes], size: str, extension: bytes, trailer: bytes) -> bytes:
    lines = [(size % len(piece)).encode() + extension + b"\r\n" + piece + b"\r\n" for piece in pieces]
    return b"".join(lines) + b"0" + extension + b"\r\n" + trailer + b"\r\n"


def read(whole: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """The body, and what came behind its end, of bytes that are cut there."""
    chunks, found = Chunks(), b""
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    for start, stop in pairwise(edges):
        piece, end = chunks.feed(whole[start:stop])
        found += piece
        if end is not None:
            return found, whole[start + end :]
    raise AssertionError("it did not end")


@given(st.lists(content, max_size=6), framing, extensions, trailers, st.lists(st.integers(0, 500), max_size=8))
@example([LINE_ENDS], "%x", b"", b"", [])
def test_a_body_is_what_its_chunks_have_and_ends_at_the_byte_wherever_it_is_cut(pieces, size, extension, trailer, cuts):
    whole = framed(pieces, size, extension, trailer)
    assert read(whole + BEHIND, cuts) == (b"".join(pieces), BEHIND)
    assert read(whole + BEHIND, list(range(len(whole)))) == (b"".join(pieces), BEHIND)


@pytest.mark.parametrize("filling", [b"x", b"\r\n\r\n", b"0\r\n\r\n", b"\n"])
def test_whatever_is_in_a_chunk_it_is_read_in_one_go(monkeypatch, filling):
    """To stop at whatever looks like an end would cost a stranger nothing and the loop all its time."""
    fed = []

    class Counting(bodies.HttpRequestParser):
        def feed_data(self, data):
            fed.append(len(data))
            super().feed_data(data)

    monkeypatch.setattr(bodies, "HttpRequestParser", Counting)
    chunks = Chunks()
    fed.clear()
    data = (filling * 65536)[:65536]
    assert chunks.feed(b"%x\r\n" % (2 * len(data)) + data) == (data, None)
    assert chunks.feed(data) == (data, None)
    assert len(fed) == 2


@pytest.mark.parametrize(
    "odd",
    [
        b"3 \r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b";a\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nab\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"3;a\x00\r\nabc\r\n0\r\n\r\n",
        b"10000000000000000\r\nabc\r\n0\r\n\r\n",
        b"0000000000000000000003\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\n\n",
        b"3\r\nabc\r\n0\r\n\n",
        b"3\r\nabc\r\n0\r\nA b\r\n\r\n",
        b"3\r\nabc\r\n0\r\nA: b\n\r\n",
        b"3\r\nabc\r\n0\r\n A: b\r\n\r\n",
        b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_chunks_that_two_readers_could_take_for_two_things_are_refused(odd):
    for cuts in ([], list(range(len(odd)))):
        with pytest.raises(BadHead) as refused:
            read(odd, cuts)
        assert refused.value.status == 400


def test_what_stands_between_chunks_is_bounded():
    for begun in (b"1;", b"0\r\nA: "):
        with pytest.raises(BadHead, match="too little in them"):
            read(begun + b"a" * 20_000, list(range(1000, 20_000, 1000)))
