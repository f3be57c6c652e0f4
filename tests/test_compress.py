"""Streams in gzip: what a client reads is what a plain one reads, wherever it joins; and a piece is deflated once."""

import asyncio
import gzip
import random
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from front_port import connect, edge_of
from hold_port import HoldPort
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from support import until

from sse_fast import Hub
from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.front.table import Watched
from sse_fast._native.log.ring import Log
from sse_fast._native.wire.gzip import HEAD, Deflater, check_of, ending, joined, shift_of, stored
from sse_fast.edge.app import Edge
from sse_fast.ends import ENDS
from sse_fast.errors import EndReason
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Subscribe
from sse_fast.protocol.encodings import accepts_gzip
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request

HTML = b"".join(b'<tr id="row-%d" class="price"><td>ACME</td><td class="num">%d</td></tr>' % (n, n) for n in range(28))
GZIP = {"accept-encoding": "gzip"}


def unzipped(stream: bytes) -> bytes:
    """Of a stream that goes on. Fails where something of it is not there yet."""
    reading = zlib.decompressobj(31)
    plain = reading.decompress(stream)
    assert not reading.unused_data
    return plain + reading.flush()


# ---- the bytes ----

pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda seed, length: (b"data: %d " % seed) * length, st.integers(0, 3), st.integers(0, 900)),
        st.integers(0, 200_000).map(random.Random(7).randbytes),
    ),
    max_size=12,
)


@given(pieces, st.integers(0, 12), st.sampled_from([0, 100]))
@settings(max_examples=60, deadline=None)
def test_a_client_reads_from_any_piece_on_and_the_check_is_of_what_it_was_sent(
    made_of: list[bytes], joins: int, least: int
) -> None:
    deflater = Deflater(least)
    shared = [deflater.deflated(piece) for piece in made_of]
    stream, check, plain = HEAD, check_of(b""), b"".join(made_of[joins:])
    for piece, form in zip(made_of[joins:], shared[joins:], strict=True):
        stream += form
        check = joined(check, shift_of(len(piece)), check_of(piece))
    assert unzipped(stream) == plain
    assert gzip.decompress(stream + ending(check, len(plain))) == plain


@given(st.binary(max_size=300_000))
@settings(max_examples=20, deadline=None)
def test_nothing_grows_by_more_than_five_bytes_in_64_kilobytes(data: bytes) -> None:
    for form in (stored(data), Deflater().deflated(data)):
        assert zlib.decompressobj(-15).decompress(form) == data
        assert len(form) <= len(data) + 5 * max(1, -(-len(data) // 65535))


def test_what_is_short_is_stored() -> None:
    deflater = Deflater(200)
    assert deflater.deflated(b"a" * 199) == stored(b"a" * 199)
    assert len(deflater.deflated(b"a" * 200)) < 30


def test_what_is_long_is_deflated_quickly_and_what_is_longer_still_is_stored() -> None:
    """So that no turn of the loop is held up by it, however large events may be."""
    kib, text = 1024, b"".join(b"%d apples, " % number for number in range(200_000))

    def made(size: int, quick: bool = False, apart: bool = False) -> bytes:
        return Deflater().deflated(text[:size], apart, quick)

    assert made(64 * kib) != made(64 * kib, quick=True)
    for size in (64 * kib + 1, 128 * kib):
        assert made(size) == made(size, quick=True)
        assert len(made(size)) < size / 2
    for size in (128 * kib + 1, 1024 * kib):
        for apart in (False, True):
            assert made(size, apart=apart) == stored(text[:size])


def test_no_piece_tells_of_another() -> None:
    """By its length: it is the same whatever was made before."""
    secret, guesses = b"data: token=4711-%s\n\n" % (b"x" * 80), (b"4711", b"0815")
    alone = Deflater().deflated(secret)
    for guess in guesses:
        deflater = Deflater()
        deflater.deflated(b"data: token=%s-%s\n\n" % (guess, b"x" * 80))
        assert deflater.deflated(secret) == alone


def test_no_event_of_one_channel_tells_of_another_channel_s() -> None:
    secret, guess = b"data: token=4711-%s\n\n" % (b"x" * 80), b"data: token=4711-%s\n\n" % (b"x" * 80)
    deflater = Deflater()
    assert len(deflater.deflated(secret + guess, True)) == 2 * len(deflater.deflated(secret))
    assert len(deflater.deflated(secret + guess)) < 1.5 * len(deflater.deflated(secret))


# ---- who takes it ----


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip ; q=0.001", True),
        ("deflate, br", False),
        ("identity", False),
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity;q=1", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("gzip;q=1, identity;q=0", True),
        ("gzip;q=2", False),
        ("gzip;q=0.1234", False),
        ("gzip;level=9", False),
        ("gzip deflate", False),
        ("gzip;q", False),
        (",, gzip ,", True),
        ("gzipped", False),
        ("gzip, " + "a," * 300, False),
    ],
)
def test_gzip_is_for_who_says_so(header: str | None, taken: bool) -> None:
    assert accepts_gzip(header.encode() if header is not None else None) == taken


def asked(method: str = "GET", compress: bool = True, **headers: str) -> Any:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return decide(Request(method, "/sse/a", headers=named), Policy(compress=compress))


def test_a_stream_says_that_it_is_gzip_and_a_cache_that_it_might_be() -> None:
    for accept, encoded in (("gzip", {b"content-encoding": b"gzip"}), ("br", {})):
        wanted = asked(accept_encoding=accept)
        assert isinstance(wanted, Subscribe)
        assert encoded.items() <= dict(wanted.opening_headers).items()
        assert (b"content-encoding" in dict(wanted.opening_headers)) == bool(encoded)
        assert (b"vary", b"Accept-Encoding") in wanted.opening_headers
        assert b"content-encoding" not in dict(wanted.headers), "it is not one yet"
        head = asked("HEAD", accept_encoding=accept)
        assert isinstance(head, Answer)
        assert head.headers == wanted.opening_headers


def test_nobody_is_compressed_for_unless_it_is_set() -> None:
    wanted = asked(compress=False, accept_encoding="gzip")
    assert not wanted.gzip
    assert b"vary" not in dict(wanted.opening_headers)


# ---- the fan-out ----


class Kept(Sink):
    def __init__(self) -> None:
        self.handed: list[bytes] = []

    def write(self, data: bytes) -> bool:
        self.handed.append(data)
        return True


class Crowd:
    """Plain and gzip streams of one fan-out, half of each."""

    def __init__(self, many: int = 0, **options: Any) -> None:
        self.log = Log.private(1 << 20)
        self.fanout = FanOut(self.log, **options)
        self.sinks = [self.join(n % 2 == 0)[0] for n in range(many)]

    def join(self, compressed: bool = True, *channels: bytes, **options: Any) -> tuple[Kept, Any]:
        sink = Kept()
        if compressed:
            sink.handed.append(sink.gzip(b"retry: 1\n"))
        subscriber = self.fanout.subscribe(list(channels) or [b"a"], sink, **options)
        self.fanout.unblock(subscriber, 0.0)
        return sink, subscriber

    def drain(self) -> None:
        while self.fanout.drain(0.0):
            pass


def test_a_piece_is_deflated_once_however_many_get_it() -> None:
    crowd = Crowd(200)
    for number in range(5):
        crowd.log.append(b"a", b"data: %d %b\n\n" % (number, HTML))
        crowd.drain()
    assert crowd.fanout.deflated == 5
    plain = b"".join(crowd.sinks[1].handed)
    assert plain.count(HTML) == 5
    for number, sink in enumerate(crowd.sinks):
        handed = b"".join(sink.handed)
        assert handed == plain if number % 2 else unzipped(handed) == b"retry: 1\n" + plain
        assert sink.handed[-1] is crowd.sinks[number % 2].handed[-1], "the same bytes, and not another copy"
    assert crowd.fanout.uncompressed_bytes == 100 * len(plain)
    compressed = 100 * sum(map(len, crowd.sinks[0].handed[1:]))
    assert crowd.fanout.compressed_bytes == compressed < 25 * len(plain)
    assert crowd.fanout.delivered_bytes == compressed + 100 * len(plain)


def test_a_replay_is_deflated_once_for_those_who_come_back_to_the_same_place() -> None:
    crowd = Crowd()
    for number in range(100):
        crowd.log.append(b"a", b"data: %d %b\n\n" % (number, HTML))
    crowd.drain()
    plain, _ = crowd.join(False, after=EARLIEST)
    crowd.drain()
    once = None
    for _ in range(20):
        sink, subscriber = crowd.join(after=EARLIEST)
        crowd.drain()
        assert unzipped(b"".join(sink.handed)) == b"retry: 1\n" + b"".join(plain.handed)
        crowd.fanout.unsubscribe(subscriber)
        once = once or crowd.fanout.deflated
        assert crowd.fanout.deflated == once == len(plain.handed)


def test_what_was_deflated_is_remembered_up_to_a_bound() -> None:
    deflater = Deflater()
    noise = [random.Random(seed).randbytes(16_000) for seed in range(100)]
    for piece in noise:
        deflater.deflated(piece)
    before = deflater.pieces
    deflater.deflated(noise[-1])
    assert deflater.pieces == before
    deflater.deflated(noise[0])
    assert deflater.pieces == before + 1, "a megabyte is kept, the oldest went"


def test_events_of_several_channels_or_of_patterns_stand_apart_within_a_piece() -> None:
    crowd = Crowd()
    body = b"data: %b\n\n" % (b"token=4711" * 40)
    several, _ = crowd.join(True, b"a", b"b")
    pattern, _ = crowd.join(True, b"c", patterns=[b"*"])
    one, _ = crowd.join(True, b"a")
    crowd.log.append_many([(b"a", body), (b"a", body)])
    crowd.drain()
    assert len(several.handed[-1]) == len(pattern.handed[-1]) > 1.5 * len(one.handed[-1])
    assert unzipped(b"".join(several.handed)) == unzipped(b"".join(one.handed))


# ---- both transports ----


class ByAsgi:
    """One request to an ASGI app, as far as its answer has come."""

    def __init__(self, app: Any, target: str, headers: dict[str, str], method: str = "GET") -> None:
        path, _, query = target.partition("?")
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        raw = [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": raw, "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": None,
            "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"]) if self.sent else {}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", True)

    async def close(self) -> None:
        self.gone.set()
        await asyncio.wait_for(self.task, 30)


def dechunked(raw: bytes) -> bytes:
    """The body of an answer, as far as it has come."""
    body, at = [], raw.find(b"\r\n\r\n") + 4
    while 3 < at < len(raw) and (end := raw.find(b"\r\n", at)) > 0:
        length = int(raw[at:end], 16)
        if len(raw) < end + length + 4:
            break
        body.append(raw[end + 2 : end + 2 + length])
        at = end + length + 4
    return b"".join(body)


class AtFront:
    """The same at the front's port."""

    version = b"1.1"

    def __init__(self, edge: Edge | HoldPort, target: str, headers: dict[str, str], method: str = "GET") -> None:
        assert edge.front is not None
        self.raw = b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = b"%b %b HTTP/%b\r\nHost: localhost\r\n%b\r\n"
        self._request = request % (method.encode(), target.encode(), self.version, lines.encode())
        self.task = asyncio.create_task(self._read(edge.front.port))

    async def _read(self, port: int) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(self._request)
        while data := await reader.read(65536):
            self.raw += data

    @property
    def headers(self) -> dict[bytes, bytes]:
        head, whole, _ = self.raw.partition(b"\r\n\r\n")
        lines = (line.partition(b": ") for line in head.split(b"\r\n")[1:])
        return {name: value for name, _, value in lines} if whole else {}

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2] if self.version == b"1.0" else dechunked(self.raw)

    @property
    def complete(self) -> bool:
        return self.raw.endswith(b"\r\n0\r\n\r\n")

    async def close(self) -> None:
        self._writer.close()
        self.task.cancel()


class AtFrontInHttp10(AtFront):
    version = b"1.0"


Client = ByAsgi | AtFront
Clients = Callable[..., Client]
BOTH = pytest.mark.parametrize("kind", [ByAsgi, AtFront])
ALL = pytest.mark.parametrize("kind", [ByAsgi, AtFront, AtFrontInHttp10])


@asynccontextmanager
async def clients(kind: Any, edge: Edge | HoldPort) -> AsyncIterator[Clients]:
    opened: list[Client] = []

    def ask(target: str = "/sse/a", method: str = "GET", **headers: str) -> Client:
        client: Client = kind(edge, target, {name.replace("_", "-"): value for name, value in headers.items()}, method)
        opened.append(client)
        return client

    try:
        yield ask
    finally:
        for client in opened:
            await client.close()


def events_in(stream: bytes) -> list[bytes]:
    """But for what says how its own stream begins."""
    return [frame for frame in stream.split(b"\n\n") if b"$connected" not in frame]


@ALL
@pytest.mark.usefixtures("nothing_set")
async def test_a_gzip_stream_is_the_plain_one_byte_for_byte_from_where_it_joins(kind: Any) -> None:
    async with edge_of(compress=True, retry=1000) as edge, clients(kind, edge) as ask:
        plain = ask(accept_encoding="identity")
        early = ask(accept_encoding="gzip, deflate")
        await until(lambda: edge.hub.fanout.connections == 2)
        for number in range(3):
            await edge.hub.publish("a", f"{number} {HTML.decode()}")
        await until(lambda: plain.body.count(b"</tr>\nid: ") == 3)
        late = ask("/sse/a?history=2", accept_encoding="gzip, deflate")
        await until(lambda: edge.hub.fanout.connections == 3)
        edge.hub.say("a", b"event: $said\ndata: now\n\n")
        for text in ("short", HTML.decode()):
            await edge.hub.publish("a", text)
        await until(lambda: plain.body.count(b"\nid: ") == 6)
        expected = events_in(plain.body)
        await until(lambda: events_in(unzipped(early.body)) == expected)
        await until(lambda: events_in(unzipped(late.body))[-5:] == expected[-5:])
        assert len(events_in(unzipped(late.body))) == len(expected) - 1
        assert early.headers[b"content-encoding"] == b"gzip"
        assert b"content-encoding" not in plain.headers
        assert plain.headers[b"vary"] == early.headers[b"vary"] == b"Accept-Encoding"
        assert len(late.body) < len(unzipped(late.body)) / 3


@BOTH
@pytest.mark.usefixtures("nothing_set")
async def test_who_resumes_goes_on_exactly_and_is_told_of_a_gap(kind: Any) -> None:
    async with edge_of(compress=True, log_size=64 * 1024, max_event_size=8192) as edge, clients(kind, edge) as ask:
        ids = [str(await edge.hub.publish("a", f"{number} {HTML.decode()}")) for number in range(60)]
        for last, gap in ((ids[-3], False), (ids[0], True)):
            plain, packed = (ask(accept_encoding=coding, last_event_id=last) for coding in ("identity", "gzip"))
            await until(lambda: ids[-1].encode() in plain.body and ids[-1].encode() in unzipped(packed.body))  # noqa: B023
            assert events_in(unzipped(packed.body)) == events_in(plain.body)
            assert (b"event: $gap" in unzipped(packed.body)) == gap
        assert edge.hub.fanout.slow == 0


@BOTH
@pytest.mark.parametrize("reason", [EndReason.APP, EndReason.OPERATOR, EndReason.AGE, EndReason.SHUTDOWN])
@pytest.mark.usefixtures("nothing_set")
async def test_a_gzip_stream_has_its_proper_end_where_its_answer_has_one(kind: Any, reason: EndReason) -> None:
    async with edge_of(compress=True) as edge, clients(kind, edge) as ask:
        stream = ask(accept_encoding="gzip")
        await until(lambda: edge.hub.fanout.connections == 1)
        for text in ("short", HTML.decode()):
            await edge.hub.publish("a", text)
        await until(lambda: HTML in unzipped(stream.body))
        if reason is EndReason.SHUTDOWN:
            await edge.hub.drain(1.0)
        edge.hub.fanout.end_all(reason)
        stream.gone.set() if isinstance(stream, ByAsgi) else None
        await asyncio.wait_for(stream.task, 30)
        assert stream.complete == (not ENDS[reason].comes_back)
        read = gzip.decompress(stream.body) if stream.complete else unzipped(stream.body)
        assert read.endswith(b'data: {"reason":"%b"}\n\n' % ENDS[reason].told.encode())
        assert HTML in read


@BOTH
@pytest.mark.usefixtures("nothing_set")
async def test_who_is_turned_away_can_read_why(kind: Any) -> None:
    async with edge_of(compress=True, max_connections=1) as edge, clients(kind, edge) as ask:
        ask(accept_encoding="gzip")
        await until(lambda: edge.hub.fanout.connections == 1)
        refused = ask(accept_encoding="gzip")
        await until(lambda: refused.task.done() or b"$closing" in refused.body)
        assert b"content-encoding" not in refused.headers
        assert b'"overloaded"' in refused.body


@BOTH
@pytest.mark.usefixtures("nothing_set")
async def test_head_says_what_get_would(kind: Any) -> None:
    async with edge_of(compress=True) as edge, clients(kind, edge) as ask:
        for coding, encoding in (("gzip", b"gzip"), ("gzip;q=0", None)):
            head = ask(method="HEAD", accept_encoding=coding)
            await until(lambda: head.headers)  # noqa: B023
            assert head.headers.get(b"content-encoding") == encoding
            assert head.headers[b"vary"] == b"Accept-Encoding"
            assert head.body == b""


@BOTH
@pytest.mark.usefixtures("nothing_set")
async def test_heartbeats_are_gzip_too_and_nothing_is_deflated_for_them(kind: Any) -> None:
    async with edge_of(compress=True, keepalive=0.2) as edge, clients(kind, edge) as ask:
        stream = ask(accept_encoding="gzip")
        await until(lambda: unzipped(stream.body).count(b"\n:\n") >= 2 if stream.body else False)
        assert edge.hub.fanout.deflated == 0


@pytest.mark.usefixtures("nothing_set")
async def test_what_waits_for_who_does_not_read_is_a_piece_at_most_and_he_goes_on_exactly() -> None:
    noise = [random.Random(seed).randbytes(6000).hex() for seed in range(60)]
    async with edge_of(compress=True, log_size=1 << 20, max_event_size=1 << 16) as edge:
        assert edge.front is not None
        request = b"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n"
        with connect(edge.front.port, request, buffer=4096) as client:
            await until(lambda: edge.hub.fanout.connections == 1)
            for text in noise:
                await edge.hub.publish("a", text)
            await until(lambda: edge.hub.fanout.blocked == 1)
            [subscriber], _ = edge.hub.fanout.page(0, 1, 10)
            sink = subscriber.sink
            assert isinstance(sink, Watched)
            assert 0 < sink.unsent <= 32768 + 100
            raw, loop = b"", asyncio.get_running_loop()
            while noise[-1].encode() not in (read := unzipped(dechunked(raw))):
                raw += await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 10)
        assert [text.decode() for text in re.findall(rb"^data: ([0-9a-f]{12000})$", read, re.M)] == noise


# ---- in an app of one's own ----


async def test_a_hub_in_an_app_compresses_what_is_not_filtered_for_each_client() -> None:
    async with Hub(compress=True) as hub:
        shared = ByAsgi(partial(_answer, hub, {}), "/", GZIP)
        filtered = ByAsgi(partial(_answer, hub, {"filter": lambda event: True}), "/", GZIP)
        await until(lambda: hub.fanout.connections == 2)
        await hub.publish("a", HTML.decode())
        await until(lambda: HTML in filtered.body and HTML in unzipped(shared.body))
        assert shared.headers[b"content-encoding"] == b"gzip"
        assert b"content-encoding" not in filtered.headers
        for stream in (shared, filtered):
            await stream.close()


@pytest.mark.usefixtures("nothing_set")
async def test_a_stream_that_is_held_for_an_app_is_gzip_by_the_server_s_setting_whatever_its_middlewares_do() -> None:
    def app() -> Starlette:
        hub = Hub()

        async def held(request: Any) -> Any:
            return hub.response(request, ["a"])

        async def filtered(request: Any) -> Any:
            return hub.response(request, ["a"], filter=lambda event: True)

        routes = [Route("/held", held), Route("/filtered", filtered)]
        return Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=1)])

    async with HoldPort.opened(app, compress=True) as port, clients(AtFront, port) as ask:
        held, filtered = ask("/held", accept_encoding="gzip"), ask("/filtered", accept_encoding="gzip")
        plain = ask("/held")
        await until(lambda: (port.native, port.by_asgi) == (2, 1))
        await port.hub.publish("a", HTML.decode())
        await until(lambda: HTML in filtered.body and HTML in plain.body and HTML in unzipped(held.body))
        assert events_in(unzipped(held.body)) == events_in(plain.body)
        assert held.headers[b"content-encoding"] == b"gzip"
        assert b"accept-encoding" in plain.headers[b"vary"].lower()


def _answer(hub: Hub, options: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
    return hub.response(scope, ["a"], **options)(scope, receive, send)
