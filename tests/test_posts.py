"""POSTs whose header block is known are answered as those that are parsed and decided about: to the byte."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import until

from sse_fast._native.base.siphash import siphash
from sse_fast._native.front.posts import Posts, is_plain
from sse_fast.edge.app import Edge
from sse_fast.errors import LogBusy
from sse_fast.settings import Settings
from sse_fast.transports.front import Front
from sse_fast.transports.kernel import bound_socket

KEY = "s3cret"
HEADER = f"Authorization: Bearer {KEY}\r\n".encode()
LIMIT = 300  # bytes of an event


class Port:
    """The native transport of an edge, with or without a memory for header blocks."""

    def __init__(self, *, remembers: bool = True, path: str = "", **more: Any) -> None:
        self.edge = Edge(Settings(max_event_size=LIMIT, cors_origins=["https://page.example"], **more))
        self.front = Front(
            self.edge._streams,
            replace(self.edge.policy, path=path),
            most=100,
            publish=self.edge._publishing.publish,
        )
        self.front.open(bound_socket("127.0.0.1", 0, None))
        assert self.front.listener is not None
        assert self.front.listener.posts is not None
        self.posts = self.front.listener.posts
        if not remembers:
            self.front.listener.posts = None

    async def close(self) -> None:
        await self.edge.close()
        self.front.close()

    async def say(self, *pieces: bytes) -> bytes:
        """What is answered to these bytes, until the connection ends; the client's own side ends behind them."""
        got = b""
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", self.front.port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            try:
                for piece in pieces:
                    await loop.sock_sendall(client, piece)
                    for _ in range(3):  # the server is on this loop: it reads
                        await asyncio.sleep(0)
                client.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(20):
                    while part := await loop.sock_recv(client, 65536):
                        got += part
            except OSError:  # it was reset
                pass
        return re.sub(rb"date: [^\r]+\r\n", b"date: NOW\r\n", got).replace(self.edge.hub.log.epoch.encode(), b"EPOCH")

    @property
    def events(self) -> list[tuple[int, tuple[bytes, ...], bytes]]:
        epoch = self.edge.hub.log.epoch.encode()
        records = self.edge.hub.log.records()
        return [(one.position, one.channels, one.frame.replace(epoch, b"EPOCH")) for one in records]


@pytest.fixture
async def port():
    port = Port()
    yield port
    await port.close()


def post(name: str, body: bytes = b"hello", headers: bytes = b"Host: x\r\n") -> bytes:
    return b"POST /publish/%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (name.encode(), headers, len(body), body)


# ---- as slow ones ----

PLAIN = ["a", "b", "room/1", "A-z.9_~", "..", "x" * 256, f"{'x' * 128}/{'y' * 127}"]
STRANGE = ["", "/", "a/", "/a", "a/b/c", "$stats", "%61", "a%2Fb", "%FF", "a:b", "é", "a b", "a?", "a?event=e", "a?b"]
STRANGE += ["a?retry=5", "a#", "a\t", "a;b", "x" * 257, f"{'x' * 128}/{'y' * 128}"]
NAMES = st.sampled_from(PLAIN) | st.sampled_from(STRANGE) | st.from_regex(r"[a-z~./]{1,5}", fullmatch=True)
LINES = st.one_of(
    NAMES.map(lambda name: f"POST /publish/{name} HTTP/1.1\r\n"),
    NAMES.map(lambda name: f"POST /publish/{name} HTTP/1.1\r\n"),
    st.sampled_from(
        [
            "POST /publish/a HTTP/1.0\r\n",
            "POST  /publish/a HTTP/1.1\r\n",
            "post /publish/a HTTP/1.1\r\n",
            "PUT /publish/a HTTP/1.1\r\n",
            "POST http://x/publish/a HTTP/1.1\r\n",
            "POST //publish/a HTTP/1.1\r\n",
            "POST /publish HTTP/1.1\r\n",
            "\r\nPOST /publish/a HTTP/1.1\r\n",
            "POST /publish/a HTTP/1.1\n",
            "POST /publish/a HTTP/1.1 \r\n",
            "GET /publish/a HTTP/1.1\r\n",
            "GET /nothing HTTP/1.1\r\n",
        ]
    ),
)
HEADERS = st.lists(
    st.sampled_from(
        [
            "User-Agent: one",
            "content-type: text/plain",
            f"Authorization: Bearer {KEY}",
            f"Authorization: Bearer {KEY}x",
            f"authorization: bearer  {KEY} ",
            "Origin: https://page.example",
            "Origin: https://other.example",
            "Idempotency-Key: k",
            "Connection: close",
            "Connection: keep-alive",
            "Expect: 100-continue",
            "Content-Encoding: gzip",
            "Host: y",
            "Transfer-Encoding: chunked",
            "Content-Length: 3",
            "X: \x00",
            " folded",
            "Colon : x",
            "X:",
            f"X: {'y' * 5000}",
        ]
    ),
    max_size=3,
)
SIZES = [b"x" * 290, b"x" * 300, b"x" * 301]  # the encoder adds some
BODIES = st.sampled_from([b"", b"hello", b"\xff", b"a\nb\r\nc", *SIZES]) | st.binary(max_size=20)


ODD_LENGTHS = [
    "0{0}",
    "+{0}",
    "-{0}",
    "{0} ",
    "{0},{0}",
    "{0}, 5",
    "0x{0}",
    "{0}.0",
    "{0}_0",
    "",
    "0",
    "00",
    "301",
    "1000000",
]
ODD_LENGTHS += [
    "9" * 18,
    "9" * 19,
    "18446744073709551621",
    "4294967301",
    "{0}\t",
    "{0}\r",
    "{0}\r\nContent-Length: {0}",
]
ODD_LENGTHS += ["\u0665", "5\x00"]
CUTS = st.lists(st.integers(0, 2000), max_size=4)


@st.composite
def plain_request(draw: st.DrawFn) -> bytes:
    headers = b"".join(draw(st.sampled_from([[], [HEADER], [HEADER, b"X: y\r\n"]])))
    return post(draw(st.sampled_from(PLAIN)), draw(BODIES), b"Host: x\r\n" + headers)


@st.composite
def any_request(draw: st.DrawFn) -> bytes:
    line, body = draw(LINES), draw(BODIES)
    headers = ["Host: x"] if draw(st.integers(0, 9)) else []
    headers += draw(st.one_of(st.just([f"Authorization: Bearer {KEY}"]), HEADERS))
    if draw(st.integers(0, 9)):
        name = draw(st.sampled_from(["Content-Length: ", "content-length:", "CONTENT-LENGTH: ", "Content-Length:  "]))
        length = draw(st.sampled_from(ODD_LENGTHS)) if draw(st.integers(0, 7)) == 7 else "{0}"
        headers.insert(draw(st.sampled_from([len(headers), 0])), name + length.format(len(body)))
    return (line + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode() + body


@pytest.mark.parametrize("protected", [True, False], ids=["with a key", "open"])
def test_a_known_request_is_answered_and_published_as_one_that_is_parsed(protected: bool) -> None:
    key = {"publish_key": KEY} if protected else {}
    with asyncio.Runner() as runner:

        async def opened() -> tuple[Port, Port]:
            return Port(**key), Port(remembers=False, **key)

        fast, slow = runner.run(opened())

        @settings(max_examples=150, deadline=None)
        @given(
            st.lists(plain_request() | plain_request() | any_request(), min_size=3, max_size=6),
            st.lists(st.integers(0, 2000), max_size=4),
        )
        def same(requests: list[bytes], cuts: list[int]) -> None:
            for at in range(len(requests)):  # one after the other first, then all in one breath, then in pieces
                check([requests[at]])
            check([b"".join(requests)])
            edges = sorted({0, *(cut % (len(b"".join(requests)) + 1) for cut in cuts), len(b"".join(requests))})
            check([b"".join(requests)[start:end] for start, end in pairwise(edges)])
            assert fast.events == slow.events

        def check(pieces: list[bytes]) -> None:
            assert runner.run(fast.say(*pieces)) == runner.run(slow.say(*pieces))

        same()
        assert fast.posts.taken > 100  # or else nothing was shown
        assert slow.posts.taken == 0
        for one in (fast, slow):
            runner.run(one.close())


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (b"a", True), (b"a/b", True), (b"A-Za.z0_9~", True), (b"x" * 256, True), (b"x" * 257, False),
        (b"", False), (b"/", False), (b"a/", False), (b"/a", False), (b"a//b", False), (b"a/b/c", False),
        (b"a%62", False), (b"a b", False), (b"a?b", False), (b"$a", False), (b"a:b", False), (b"\xc3\xa9", False),
    ],
)  # fmt: skip
def test_a_plain_name_is_one_segment_or_two_of_harmless_characters(name: bytes, plain: bool) -> None:
    assert is_plain(name) == plain


# ---- what is remembered ----


async def test_a_block_is_known_after_its_first_request_whatever_its_channel_and_body(port: Port) -> None:
    await port.say(post("a"), post("b", b"world"), post("room/1", b"12345"))
    assert port.posts.taken == 2
    assert [channels for _, channels, _ in port.events] == [(b"a",), (b"b",), (b"room:1",)]


async def test_bodies_of_all_lengths_are_known_by_one_block(port: Port) -> None:
    await port.say(post("a"))
    await port.say(*(post("a", b"x" * length) for length in range(LIMIT - 100)))
    assert (port.posts.taken, len(port.posts)) == (LIMIT - 100, 1)


@pytest.mark.parametrize("length", [b"05", b"+5", b"5 ", b"5,5", b"-5", b"", b"5\r\nContent-Length: 5", b"9" * 19])
async def test_a_length_that_is_written_otherwise_is_not_known(port: Port, length: bytes) -> None:
    await port.say(post("a"))
    for _ in range(2):
        await port.say(b"POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\nhello" % length)
    assert port.posts.taken == 0


async def test_a_length_over_the_limit_is_413_though_its_block_is_known(port: Port) -> None:
    await port.say(post("a"))
    for length in (LIMIT + 1, 10**18 - 1):
        request = b"POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
        assert b" 413 " in await port.say(request)
    assert port.posts.taken == 0


async def test_blocks_that_differ_in_more_than_their_length_are_two(port: Port) -> None:
    """Digits of one header do not pass for those of another, nor does the length's place."""
    await port.say(post("a"), post("a", headers=b"Host: x\r\nX: 1\r\n"), post("a", headers=b"Host: x\r\nX: 2\r\n"))
    first = b"POST /publish/a HTTP/1.1\r\nContent-Length: 5\r\nHost: x\r\n\r\nhello"
    assert b" 200 " in await port.say(first)
    assert b" 200 " in await port.say(b"POST /publish/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (port.posts.taken, len(port.posts)) == (0, 5)


async def test_a_wrong_key_is_not_known_by_a_right_one() -> None:
    port = Port(publish_key=KEY)
    right, wrong = (f"Host: x\r\nAuthorization: Bearer {key}\r\n".encode() for key in (KEY, "S3cret"))
    assert b" 200 " in await port.say(post("a", headers=right), post("b", headers=right))
    assert port.posts.taken == 1
    for headers in (wrong, b"Host: x\r\n"):
        assert b" 401 " in await port.say(post("a", headers=headers))
    assert len(port.events) == 2
    await port.close()


async def test_no_more_blocks_are_remembered_than_so_many() -> None:
    posts = Posts(b"POST /publish/", 100, lambda event: None, lambda: None, most=3)
    for number in range(10):
        posts.remember(b"X: %d\r\n\r\n" % number, b"", b"")
        assert len(posts) <= 3
    posts.remember(b"X: %b\r\n\r\n" % (b"x" * 5000), b"", b"")  # far longer than those of clients
    assert len(posts) == 3
    posts.forget()
    assert len(posts) == 0


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        (b"Idempotency-Key: k\r\n", "a"),
        (b"Connection: close\r\n", "a"),
        (b"Expect: 100-continue\r\n", "a"),
        (b"", "a?event=e"),
        (b"", "%61"),
    ],
)
async def test_what_is_not_plain_is_parsed_each_time(port: Port, headers: bytes, target: str) -> None:
    for _ in range(2):
        assert b" 200 " in await port.say(post(target, headers=b"Host: x\r\n" + headers))
    assert port.posts.taken == len(port.posts) == 0


async def test_a_body_in_chunks_is_parsed_each_time(port: Port) -> None:
    request = b"POST /publish/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert (await port.say(request, request)).count(b" 200 ") == 2
    assert port.posts.taken == len(port.posts) == 0


# ---- how it is answered ----


async def test_many_requests_in_one_breath_are_answered_in_their_order_some_in_each_turn(port: Port) -> None:
    count = 1000
    await port.say(post("a"))
    log = port.edge.hub.log
    positions = [log.position]

    async def look() -> None:
        while True:
            await asyncio.sleep(0)
            positions.append(log.position)

    looking = asyncio.create_task(look())
    ids = re.findall(rb'{"id":"EPOCH-(\d+)"}', await port.say(post("a") * count))
    looking.cancel()
    assert [int(id) for id in ids] == [*range(2, count + 2)]
    assert port.posts.taken == count
    assert max(later - earlier for earlier, later in pairwise(positions)) <= 129  # the first, and AHEAD_A_TURN


async def test_who_reads_is_told_after_the_last_one_of_a_turn_here_and_in_other_workers(port: Port) -> None:
    await port.say(post("a"))
    await until(lambda: not port.edge.hub.fanout.busy)
    log, told = port.edge.hub.log, []
    backplane: Any = port.edge.hub.backplane
    backplane._peers = SimpleNamespace(notify=lambda: told.append(log.position))
    backplane._wake = pytest.fail  # the drain is in the same turn
    with socket.create_connection(("127.0.0.1", port.front.port)) as client:
        client.sendall(post("a") * 3)
        await until(lambda: log.position == 4)
        assert told == [4]
        assert not port.edge.hub.fanout.busy
    assert port.posts.taken == 3


async def test_while_it_is_left_every_answer_is_the_last_of_its_connection(port: Port) -> None:
    await port.say(post("a"))
    client = socket.create_connection(("127.0.0.1", port.front.port))
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, post("a")[:-1])
    await until(lambda: port.front.busy)
    port.front.leave()
    await loop.sock_sendall(client, post("a")[-1:] + post("a"))
    answer = b""
    while part := await loop.sock_recv(client, 65536):
        answer += part
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer
    assert port.posts.taken == 0
    client.close()


@contextmanager
def append_fails(port: Port, error: Exception | None, *, first: bool) -> Iterator[None]:
    """The next append fails, or has to wait, before it has published or behind it."""
    backplane: Any = port.edge.hub.backplane
    append = backplane.append_one

    def fails(event: Any) -> str | None:
        del backplane.append_one
        if not first:
            append(event)
        if error is not None:
            raise error
        return None

    backplane.append_one = fails
    yield
    assert "append_one" not in vars(backplane)


async def test_what_has_to_wait_or_cannot_be_published_is_answered_by_who_parses(port: Port) -> None:
    await port.say(post("a"))
    for error in (None, LogBusy("busy")):
        with append_fails(port, error, first=True):
            assert b" 200 " in await port.say(post("a"))
    assert len(port.events) == 3
    assert port.posts.taken == 0


async def test_what_may_have_been_published_when_memory_ran_out_is_not_published_again(port: Port) -> None:
    await port.say(post("a"))
    with append_fails(port, MemoryError(), first=False):
        assert await port.say(post("a")) == b""
    assert len(port.events) == 2
    assert b" 200 " in await port.say(post("a"))


async def test_of_a_client_that_reads_no_answer_no_more_requests_are_taken(port: Port) -> None:
    await port.say(post("a"))
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port.front.port))
    client.setblocking(False)
    waited = 0
    while waited < 1000:  # turns in which it was not read, either
        try:
            client.send(post("a") * 100)
            waited = 0
        except BlockingIOError:
            waited += 1
        await asyncio.sleep(0)
    before = port.edge.hub.log.position
    for _ in range(100):
        await asyncio.sleep(0)
    assert port.edge.hub.log.position == before > 1
    client.close()


async def test_the_path_that_the_edge_has_is_part_of_such_a_request() -> None:
    port = Port(path="/edge")
    request = post("a").replace(b"/publish", b"/edge/publish")
    assert (await port.say(request, request)).count(b" 200 ") == 2
    assert port.posts.taken == 1
    assert await port.say(post("a")) == b""  # nobody's, and there is no relay here
    await port.close()


# ---- the digest ----


def test_the_digest_is_siphash_2_4_of_128_bits() -> None:
    """The reference's own vectors: github.com/veorq/SipHash, vectors.h."""
    key = bytes(range(16))
    assert siphash(key, b"").hex() == "a3817f04ba25a8e66df67214c7550293"
    assert siphash(key, bytes(range(1))).hex() == "da87c1d86b99af44347659119b22fc45"
    assert siphash(key, bytes(range(2))).hex() == "8177228da4a45dc7fca38bdef60affe4"
    with pytest.raises(ValueError, match="16 bytes"):
        siphash(b"short", b"")
