"""Requests on a connection of the front, one after the other: bodies, what is published in place, what is relayed."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import h11
import httpx
import pytest
from front_port import ORIGIN, connect
from support import no_garbage_of, until

from sse_fast._native.front.connection import Connection
from sse_fast.access.asking import NOTHING_FOUND
from sse_fast.edge.app import Edge
from sse_fast.protocol.decision import Answer, Elsewhere, Publish
from sse_fast.protocol.problem import problem
from sse_fast.settings import Settings
from sse_fast.transports import exchange
from sse_fast.transports.exchange import Relayed
from sse_fast.transports.front import Front
from sse_fast.transports.head import Head, parsed
from sse_fast.transports.kernel import bound_socket

pytestmark = pytest.mark.usefixtures("nothing_set")
PATIENCE = 30.0


class Relayer:
    """A relay that takes everything in, and answers each with what it was: the line, the headers, the body."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.begun: list[Echo] = []
        self.busy = 0
        self.told: list[str] = []

    def begin(self, connection: Connection, head: Head, **how: Any) -> Relayed:
        self.begun.append(Echo(self, connection, head, how))
        return self.begun[-1]

    def tick(self, now: float) -> None:
        pass

    def leave(self) -> None:
        self.told.append("leave")

    async def finish(self, seconds: float) -> None:
        self.told.append("finish")

    def close(self) -> None:
        self.told.append("close")


class Echo:
    at_once = True

    def __init__(self, relay: Relayer, connection: Connection, head: Head, how: dict[str, Any]) -> None:
        self.relay, self.connection, self.head, self.how = relay, connection, head, how
        self.data = b""
        self.pieces: list[tuple[bytes, bool]] = []
        self.told: list[str] = []
        if how["length"] == 0:
            self.answer()
        elif self.at_once:
            connection.read()

    def body(self, piece: bytes, last: bool) -> None:
        self.pieces.append((piece, last))
        self.data += piece
        if last and self.at_once:
            self.answer()

    def answer(self) -> None:
        said = b"%b %b %b" % (self.head.method.encode(), self.head.target, self.data)
        last = not self.how["keep"]
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n" % (
            len(said),
            b"connection: close\r\n" if last else b"",
        )
        self.connection.send(head + said)
        self.connection.finish(last)

    def writable(self) -> None:
        self.told.append("writable")

    def late(self) -> None:
        self.told.append("late")

    def gone(self) -> None:
        self.told.append("gone")

    def broken(self) -> bool:
        self.told.append("broken")
        return True

    def tunnelled(self, data: bytes) -> None:
        self.data += data
        if data:
            self.connection.send(data)
        else:
            self.connection.finish(True)


FRONT = ("head_seconds", "body_seconds", "idle_seconds", "publish")


class FrontOf:
    """An edge in this process, whose front is at a port; everything else is echoed."""

    def __init__(self, **settings: Any) -> None:
        front = {name: settings.pop(name) for name in FRONT if name in settings}
        self.edge = Edge(Settings(**settings))
        self.front = Front(
            self.edge._streams,
            self.edge.policy,
            **{"most": 1000, "publish": self.edge._publishing.publish, "relay": Relayer} | front,
        )

    @classmethod
    @asynccontextmanager
    async def opened(cls, **settings: Any) -> AsyncIterator["FrontOf"]:
        made = cls(**settings)
        made.edge._start_up()
        made.front.open(bound_socket("127.0.0.1", 0, None))
        try:
            yield made
            assert not made.front.exchanges
            assert made.front.held == 0
        finally:
            await made.edge.close()
            made.front.close()

    @property
    def relay(self) -> Relayer:
        assert isinstance(self.front.relay, Relayer)
        return self.front.relay

    @property
    def kept(self) -> list[tuple[str, str]]:
        records = self.edge.hub.log.records()
        frames = [(record.channel.decode(), record.frame.decode().rpartition("id: ")[0]) for record in records]
        return [(channel, frame.partition("data:")[2].strip()) for channel, frame in frames]

    def connect(self, request: bytes = b"", **options: Any) -> socket.socket:
        return connect(self.front.port, request, **options)

    @property
    def answering(self) -> int:
        assert self.front.listener is not None
        return self.front.listener.answering

    async def client(self) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.front.port))


@pytest.fixture
async def front() -> AsyncIterator[FrontOf]:
    async with FrontOf.opened() as opened:
        yield opened


class Said:
    """A response: status, headers, body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Said) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


class Client:
    """Reads one response after the other; whoever sends what it likes writes to `writer`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._left = b""
        self.informed: list[int] = []

    async def said(self, method: str = "GET") -> Said | None:
        """The next response; None: the connection is closed."""
        reading = h11.Connection(h11.CLIENT)
        reading.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        reading.send(h11.EndOfMessage())
        if self._left:
            reading.receive_data(self._left)
        body = b""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    event = reading.next_event()
                except h11.RemoteProtocolError:  # it ended before, or within
                    return None
                if event is h11.NEED_DATA:
                    try:
                        reading.receive_data(await self.reader.read(65536))
                    except ConnectionResetError:
                        return None
                elif isinstance(event, h11.InformationalResponse):
                    self.informed.append(event.status_code)
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._left = reading.trailing_data[0]
                    return Said(status, headers, body)
                else:
                    return None

    async def ask(self, request: bytes) -> Said:
        self.writer.write(request)
        said = await self.said("HEAD" if request.startswith(b"HEAD") else "GET")
        assert said is not None
        return said

    async def up_to(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(end)

    async def closed(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                return self._left == b"" and await self.reader.read() == b""
        except ConnectionResetError:
            return True
        finally:
            self.writer.close()


def post(target: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    head = [f"POST {target} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(target: str, *pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


# ---- one after the other ----

SEQUENCE = [
    post("/publish/a", b"one"),
    chunked("/publish/a", b"t", b"\r\n\r\n", b"wo", end=b"0\r\nX: y\r\n\r\n"),
    get("/echo/1"),
    b"\r\n" + post("/publish", b'[{"channel":"a","data":"three"},{"channel":"a","data":"four"}]'),
    post("/echo/2", b"POST /publish/a HTTP/1.1\r\n\r\n"),
    chunked("/echo/3", b"\r\n\r\n" * 3, b"0\r\n\r\n"),
    b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
    post("/publish/a", b""),
    get("/sse/a/b/c"),
    post("/publish/a", b"last", "Connection: close"),
]
METHODS = [request.strip().split(b" ")[0].decode() for request in SEQUENCE]


async def answers(front: FrontOf, pieces: list[bytes]) -> list[tuple[int, bytes]]:
    client = await front.client()
    for piece in pieces:
        client.writer.write(piece)
        await client.writer.drain()
        await asyncio.sleep(0)
    said = [await client.said(method) for method in METHODS]
    assert await client.closed()
    assert all(said)
    return [(each.status, b"id" if b'"id' in each.body else each.body) for each in said if each is not None]


async def test_pipelined_requests_are_answered_in_order_wherever_they_are_cut(front: FrontOf) -> None:
    whole = b"".join(SEQUENCE)
    alone = [await (await front.client()).ask(request) for request in SEQUENCE]
    events = front.kept
    assert [data for _, data in events] == ["one", "t\ndata:\ndata: wo", "three", "four", "", "last"]
    expected = [(each.status, b"id" if b'"id' in each.body else each.body) for each in alone]
    assert [status for status, _ in expected] == [200, 200, 200, 200, 200, 200, 200, 200, 400, 200]
    assert await answers(front, [whole]) == expected
    assert await answers(front, [bytes([byte]) for byte in whole]) == expected
    step = max(1, len(whole) // 150)
    for cut in range(1, len(whole), step):
        assert await answers(front, [whole[:cut], whole[cut:]]) == expected, whole[:cut]
    assert front.kept == events * (len(front.kept) // len(events))


async def test_a_thousand_requests_at_once_are_a_thousand_answers(front: FrontOf) -> None:
    client = await front.client()
    client.writer.write(b"".join(post("/publish/a", b"%d" % number) for number in range(1000)))
    ids = []
    for _ in range(1000):
        said = await client.said("POST")
        assert said is not None
        ids.append(json.loads(said.body)["id"])
    assert len(set(ids)) == 1000
    assert [data for _, data in front.kept] == [str(number) for number in range(1000)]


@pytest.mark.parametrize(
    ("version", "line", "kept"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close", False),
        ("1.1", "Connection: Keep-Alive, CLOSE", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive", True),
        ("1.0", "Connection: keep-alive, close", False),
    ],
)
@pytest.mark.parametrize("target", ["/publish/a", "/echo"])
async def test_a_connection_is_kept_as_its_client_wants_it(
    front: FrontOf, version: str, line: str, kept: bool, target: str
) -> None:
    request = post(target, b"x", *([line] if line else []), version=version)
    client = await front.client()
    said = await client.ask(request)
    assert said.status == 200
    if kept:
        if target == "/publish/a":
            assert said.headers.get("connection") == ("keep-alive" if version == "1.0" else None)
        assert (await client.ask(request)).status == 200
        client.writer.close()
    else:
        assert said.headers["connection"] == "close"
        assert await client.closed()


async def test_every_answer_has_a_date(front: FrontOf) -> None:
    client = await front.client()
    assert (await client.ask(post("/publish/a", b"x"))).headers["date"].endswith("GMT")
    client.writer.close()


async def test_a_stream_follows_on_a_connection_that_published(front: FrontOf) -> None:
    client = await front.client()
    assert (await client.ask(post("/publish/a", b"before"))).status == 200
    client.writer.write(get("/sse/a?history=1"))
    assert (await client.up_to(b"data: before")).startswith(b"HTTP/1.1 200 OK\r\n")
    client.writer.close()


# ---- in place, as by ASGI ----

JSON, LINES = "Content-Type: application/json", "Content-Type: application/x-ndjson"
PUBLISHED: list[tuple[str, bytes, list[str]]] = [
    ("/publish/a", b"x", []),
    ("/publish/room/1?event=e&retry=5", b"x\ny", [f"Origin: {ORIGIN}"]),
    ("/publish/a", b"x" * 65536, []),
    ("/publish/a", b"\xff", []),
    ("/publish/a", b"", []),
    ("/publish/a?evnt=x", b"x", []),
    ("/publish/$a", b"x", []),
    ("/publish", b'{"channel":"a","data":{"x":1}}', [JSON]),
    ("/publish", b'[{"channel":"a","data":1},{"channel":"b","data":2}]', [JSON]),
    ("/publish", b'{"channel":"a"', [JSON]),
    ("/publish", b'{"channel":"a","data":"x"}\n{"channel":"b","data":"y"}\n', [LINES]),
    ("/publish", b'{"channel":"a","data":"x"}\nno\n', [LINES]),
    ("/publish", b'[{"channel":"a","data":1,"key":"k"}]', [JSON]),
    ("/publish/a", b"x", ['Idempotency-Key: "k1"']),
    ("/publish/a", b"x", ['Idempotency-Key: "k1"']),
    ("/publish/a", b"y", ['Idempotency-Key: "k1"']),
    ("/publish/a", b"x", ["Origin: http://elsewhere.example"]),
    ("/publish/a", b"x" * 65537, []),
    ("/publish/a", b"x", ["Content-Encoding: gzip"]),
]
OF_THE_SERVER = {"date", "server", "connection"}


async def by_asgi(edge: Edge, target: str, body: bytes, lines: list[str]) -> Said:
    headers = dict(line.split(": ", 1) for line in lines) | {"host": "x"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as asgi:  # type: ignore[arg-type]
        said = await asgi.post(target, content=body, headers=headers)
    return Said(said.status_code, dict(said.headers), said.content)


async def test_what_is_published_is_answered_as_by_asgi() -> None:
    async with FrontOf.opened(cors_origins=[ORIGIN]) as front, FrontOf.opened(cors_origins=[ORIGIN]) as other:
        for target, body, lines in PUBLISHED:
            client = await front.client()
            native = await client.ask(post(target, body, *lines))
            client.writer.close()
            asgi = await by_asgi(other.edge, target, body, lines)
            epochs = [each.edge.hub.log.epoch.encode() for each in (front, other)]
            native.body = native.body.replace(*epochs)
            for said in (native, asgi):
                for name in OF_THE_SERVER & said.headers.keys():
                    del said.headers[name]
            assert native == asgi, (target, body[:100], lines)
        assert front.kept == other.kept
        assert len(front.kept) > 8


async def test_with_a_key_nobody_else_publishes_and_what_is_refused_before_its_body_closes(front: FrontOf) -> None:
    async with FrontOf.opened(publish_key="secret" * 4) as keyed:
        client = await keyed.client()
        said = await client.ask(post("/publish/a", b"x"))
        assert (said.status, said.headers["connection"]) == (401, "close")
        assert said.headers["www-authenticate"].startswith("Bearer")
        assert await client.closed()
        client = await keyed.client()
        for _ in range(2):
            said = await client.ask(post("/publish/a", b"x", f"Authorization: Bearer {'secret' * 4}"))
            assert said.status == 200
        assert len(keyed.kept) == 2
        client.writer.close()


async def test_an_answer_that_has_to_wait_holds_its_own_connection_only() -> None:
    ready = asyncio.Event()

    def publish(wanted: Publish, body: bytes, client: str) -> Answer | Coroutine[Any, Any, Answer]:
        async def later() -> Answer:
            await ready.wait()
            return problem(503, "later")

        return later() if body == b"later" else problem(409, "now")

    async with FrontOf.opened(publish=publish) as front:
        waits, other, gone = await front.client(), await front.client(), await front.client()
        waits.writer.write(post("/publish/a", b"later") + post("/publish/a", b"behind"))
        gone.writer.write(post("/publish/a", b"later"))
        await until(lambda: len(front.front.exchanges) == 2)
        gone.writer.close()
        for _ in range(3):
            assert (await other.ask(post("/publish/a", b"x"))).detail == "now"
        await until(lambda: front.front.listener is not None and front.front.listener.open == 2)
        assert front.front.busy == 2, "what was asked is done, whoever is there to hear of it"
        ready.set()
        said = [await waits.said("POST") for _ in range(2)]
        assert [each.detail for each in said if each is not None] == ["later", "now"]
        for client in (waits, other):
            client.writer.close()


async def test_whoever_publishes_and_fails_costs_its_own_connection_only(front: FrontOf) -> None:
    async def later() -> Answer:
        raise RuntimeError("not now")

    async with FrontOf.opened(publish=lambda wanted, body, client: later()) as failing:
        client = await failing.client()
        client.writer.write(post("/publish/a", b"x"))
        assert await client.closed()


# ---- bodies ----


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 70_000, bytes(range(256)) * 1000])
@pytest.mark.parametrize("in_chunks", [False, True])
async def test_a_body_of_any_size_is_relayed_whole(front: FrontOf, body: bytes, in_chunks: bool) -> None:
    pieces = [body[at : at + 9999] for at in range(0, len(body), 9999)]
    client = await front.client()
    request = chunked("/echo", *pieces) if in_chunks else post("/echo", body)
    assert (await client.ask(request)).body == b"POST /echo " + body
    assert (await client.ask(get("/echo"))).body == b"GET /echo "
    (first, _) = front.relay.begun
    assert first.how["length"] == (None if in_chunks else len(body))
    client.writer.close()


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_what_is_too_large_to_be_published_in_place_is_relayed_with_what_was_read(
    front: FrontOf, in_chunks: bool
) -> None:
    line = json.dumps({"channel": "a", "data": "x" * 1000}).encode() + b"\n"
    body = line * 300
    assert len(body) > exchange.IN_PLACE
    request = chunked("/publish", *[line] * 300) if in_chunks else post("/publish", body)
    request = request.replace(b"Host: x\r\n", b"Host: x\r\nContent-Type: application/x-ndjson\r\n")
    client = await front.client()
    assert (await client.ask(request)).body == b"POST /publish " + body
    assert front.kept == []
    (relayed,) = front.relay.begun
    if in_chunks:
        assert len(relayed.pieces[0][0]) > exchange.IN_PLACE
    client.writer.close()


async def test_an_event_that_grows_too_large_is_refused_when_it_does(front: FrontOf) -> None:
    client = await front.client()
    client.writer.write(chunked("/publish/a", *[b"x" * 10_000] * 7, end=b""))
    said = await client.said("POST")
    assert said is not None
    assert (said.status, said.headers["connection"]) == (413, "close")
    assert "65536 bytes" in said.detail
    assert await client.closed()


async def test_all_bodies_together_have_a_bound(front: FrontOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BODIES", 100_000)
    slow = [await front.client() for _ in range(4)]
    for number, client in enumerate(slow):
        client.writer.write(post("/publish/a", b"x" * 30_000)[:-1])
        if number < 3:
            await until(lambda number=number: front.front.held >= 29_999 * (number + 1))
    said = await slow[3].said("POST")
    assert said is not None
    assert (said.status, said.headers["retry-after"], said.headers["connection"]) == (503, "1", "close")
    for client in slow[:3]:
        client.writer.write(b"x")
        answer = await client.said("POST")
        assert answer is not None
        assert answer.status == 200
    assert front.front.held == 0
    for client in slow:
        client.writer.close()


async def test_a_body_that_does_not_come_in_time_is_told_so() -> None:
    async with FrontOf.opened(body_seconds=0.3) as front:
        client = await front.client()
        client.writer.write(post("/publish/a", b"hello")[:-1])
        said = await client.said("POST")
        assert said is not None
        assert (said.status, said.headers["connection"]) == (408, "close")
        assert "within 0.3 s" in said.detail
        assert await client.closed()


async def test_who_reads_late_that_its_body_is_waited_for_has_the_body_s_time_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = exchange.CONTINUE * 400_000  # more than the kernel takes
    monkeypatch.setattr(exchange, "CONTINUE", many)
    async with FrontOf.opened(body_seconds=0.3) as front:
        request = post("/publish/a", b"hello", "Expect: 100-continue")[:-5]
        reader, writer = await asyncio.open_connection(sock=front.connect(request, buffer=65536))
        await until(lambda: front.answering)
        client = Client(reader, writer)
        async with asyncio.timeout(PATIENCE):
            await reader.readexactly(len(many))
        said = await client.said("POST")
        assert said is not None
        assert (said.status, said.headers["connection"]) == (408, "close")
        assert await client.closed()


async def test_a_head_on_a_kept_connection_has_its_own_time() -> None:
    async with FrontOf.opened(head_seconds=0.3) as front:
        client = await front.client()
        assert (await client.ask(get("/echo"))).status == 200
        await asyncio.sleep(0.8)
        client.writer.write(b"GET /ec")
        said = await client.said()
        assert said is not None
        assert (said.status, said.headers["connection"]) == (408, "close")


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"5\nhello\n0\n\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"-5\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"1;" + b"x" * 17_000,
        b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 6000,
    ],
)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("target", ["/publish/a", "/echo"])
async def test_chunks_that_are_none_are_refused(front: FrontOf, target: str, chunks: bytes, apart: bool) -> None:
    client = await front.client()
    client.writer.write(chunked(target, end=b""))
    await until(lambda: front.front.busy or front.relay.begun)
    size = 1 if apart else len(chunks)
    for at in range(0, len(chunks), size):
        client.writer.write(chunks[at : at + size])
        await asyncio.sleep(0)
    said = await client.said()
    assert said is not None
    assert (said.status, said.headers["connection"]) == (400, "close")
    assert "chunks" in said.detail
    assert [each.told for each in front.relay.begun] == ([["broken"]] if target == "/echo" else [])
    assert await client.closed()


# ---- Expect: 100-continue ----

EXPECTS = "Expect: 100-continue"


async def test_a_client_that_waits_is_told_to_go_on(front: FrontOf) -> None:
    client = await front.client()
    for number in range(2):
        client.writer.write(post("/publish/a", b"hello", EXPECTS)[:-5])
        await until(lambda: front.front.exchanges)
        assert await client.up_to(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"hello")).status == 200
        assert len(front.kept) == number + 1
    said = await client.ask(post("/publish/a", b"hello", EXPECTS))
    assert (said.status, client.informed) == (200, []), "whose body comes with its head does not wait"
    client.writer.close()


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        ("/publish/a?x=y", [], 400),
        ("/publish/a", ["Content-Encoding: br"], 415),
        ("/publish/a", ["Origin: http://elsewhere.example"], 403),
        ("/sse/a", [], 405),
    ],
)
async def test_a_client_that_waits_in_vain_is_told_so_instead(
    front: FrontOf, target: str, lines: list[str], status: int
) -> None:
    client = await front.client()
    said = await client.ask(post(target, b"hello", EXPECTS, *lines)[:-5])
    assert (said.status, said.headers["connection"], client.informed) == (status, "close", [])
    assert await client.closed()


async def test_a_client_that_waits_with_too_large_a_body_is_told_so_at_once(front: FrontOf) -> None:
    for target in ("/publish/a", "/publish"):
        client = await front.client()
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\n{EXPECTS}\r\nContent-Length: {2**40}\r\n\r\n"
        said = await client.ask(head.encode())
        assert (said.status, said.headers["connection"], client.informed) == (413, "close", [])
        assert await client.closed()
    assert not front.relay.begun


@pytest.mark.parametrize("expects", [EXPECTS, "Expect: the-unexpected"])
async def test_http_1_0_expects_nothing(front: FrontOf, expects: str) -> None:
    client = await front.client()
    client.writer.write(post("/publish/a", b"hello", expects, version="1.0")[:-5])
    await until(lambda: front.front.exchanges)
    said = await client.ask(b"hello")
    assert (said.status, client.informed) == (200, [])
    client.writer.close()


async def test_a_connection_is_idle_for_so_long_at_most() -> None:
    async with FrontOf.opened(idle_seconds=0.3) as front:
        client = await front.client()
        assert (await client.ask(post("/publish/a", b"x"))).status == 200
        assert await client.closed()


async def test_a_relayed_client_that_waits_is_told_to_go_on_too(front: FrontOf) -> None:
    client = await front.client()
    client.writer.write(post("/echo", b"hello", EXPECTS)[:-5])
    await until(lambda: front.relay.begun)
    assert await client.up_to(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(b"hello")).status == 200
    said = await client.ask(post("/echo", b"hello", EXPECTS))
    assert (said.status, client.informed) == (200, [])
    client.writer.close()


# ---- what is relayed ----


async def test_a_relayed_client_that_goes_is_told_of_once(front: FrontOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "at_once", False)
    client = await front.client()
    client.writer.write(post("/echo", b"hello")[:-1])
    await until(lambda: front.relay.begun)
    client.writer.close()
    (relayed,) = front.relay.begun
    await until(lambda: relayed.told == ["gone"])
    assert front.front.busy == 0


async def test_a_relayed_body_waits_until_it_is_wanted(front: FrontOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "at_once", False)
    client = await front.client()
    client.writer.write(post("/echo", b"x" * 300_000)[:200_000])
    await until(lambda: front.relay.begun)
    (relayed,) = front.relay.begun
    await asyncio.sleep(0.05)
    read = len(relayed.data)
    assert read <= 65536
    relayed.connection.read()
    await until(lambda: len(relayed.data) > read)
    client.writer.close()
    await until(lambda: relayed.told == ["gone"])


async def test_a_tunnel_is_bytes_both_ways_until_both_sides_end(front: FrontOf) -> None:
    client = await front.client()

    def switch(self: Echo) -> None:
        self.connection.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.connection.tunnel()
        self.connection.read()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Echo, "answer", switch)
        client.writer.write(get("/socket", "Upgrade: websocket", "Connection: upgrade") + b"early ")
        await client.up_to(b"\r\n\r\n")
    client.writer.write(b"GET /not HTTP/1.1\r\n\r\n")
    assert await client.up_to(b"\r\n\r\n") == b"early GET /not HTTP/1.1\r\n\r\n"
    client.writer.write_eof()
    assert await client.closed()
    await until(lambda: front.front.listener is not None and front.front.listener.open == 0)


async def test_who_asks_is_told_to_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FrontOf.opened(trusted_proxies=["127.0.0.1"]) as front:
        client = await front.client()
        await client.ask(get("/echo", "X-Forwarded-For: 192.0.2.7"))
        stranger = Client(*await asyncio.open_connection("127.0.0.1", front.front.port, local_addr=("127.0.0.9", 0)))
        await stranger.ask(get("/echo", "X-Forwarded-For: 192.0.2.7"))
        told = [(each.how["client"], each.how["trusted"]) for each in front.relay.begun]
        assert told == [("192.0.2.7", True), ("127.0.0.9", False)]
        for each in (client, stranger):
            each.writer.close()


# ---- the end ----


async def test_who_leaves_answers_each_connection_for_the_last_time(front: FrontOf) -> None:
    idle, half, publishing, relayed = [await front.client() for _ in range(4)]
    for client in (idle, half, publishing, relayed):
        assert (await client.ask(get("/echo"))).status == 200
    half.writer.write(b"GET /sse/a/b/c HTTP/1.1\r\nHost: x\r\n")
    publishing.writer.write(post("/publish/a", b"hello")[:-1])
    await until(lambda: front.front.exchanges)
    await asyncio.sleep(0.05)
    front.front.leave()
    said = await idle.ask(get("/sse/a/b/c"))
    assert (said.status, said.headers["connection"]) == (400, "close")
    assert await idle.closed()
    said = await half.ask(b"\r\n")
    assert (said.status, said.headers["connection"]) == (400, "close")
    finishing = asyncio.create_task(front.front.finish(PATIENCE))
    said = await publishing.ask(b"o")
    assert (said.status, said.headers["connection"]) == (200, "close")
    await finishing
    late = await front.client()
    said = await late.ask(post("/publish/a", b"hello"))
    assert (said.status, said.headers["connection"]) == (503, "close")
    assert "shutting down" in said.detail
    assert front.relay.told == ["leave", "finish"]
    for client in (half, publishing, relayed, late):
        client.writer.close()


async def test_the_end_waits_until_answers_are_all_out_and_no_longer_than_it_may(front: FrontOf) -> None:
    body = b"x" * 8_000_000  # more than the kernel takes
    clients = []
    for _ in range(2):
        client = Client(*await asyncio.open_connection(sock=front.connect(buffer=65536)))
        client.writer.write(post("/echo", body))
        clients.append(client)
    await until(lambda: front.answering == 2)
    reads, does_not = clients
    does_not.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert not front.front.busy
    front.front.leave()
    finishing = asyncio.create_task(front.front.finish(PATIENCE))
    assert not (await asyncio.wait((finishing,), timeout=0.05))[0]
    said = await reads.said("POST")
    assert said is not None
    assert len(said.body) == len(b"POST /echo " + body)
    assert front.answering == 1
    assert not finishing.done()
    await front.front.finish(0)
    assert front.answering == 1
    does_not.writer.transport.abort()
    await finishing
    reads.writer.close()


async def test_without_a_relay_what_is_elsewhere_costs_its_own_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FrontOf.opened() as front:
        monkeypatch.setattr(front.front, "relay", None)
        client = await front.client()
        client.writer.write(get("/elsewhere"))
        assert await client.closed()
        assert isinstance(front.front._decided(parsed(get("/elsewhere")), NOTHING_FOUND).decision, Elsewhere)


async def test_nothing_of_an_exchange_is_left_to_the_garbage_collector(front: FrontOf) -> None:
    async def everything() -> None:
        for request in SEQUENCE:
            client = await front.client()
            await client.ask(request)
            client.writer.close()
        for half in (chunked("/publish/a", b"x", end=b""), chunked("/echo", b"x", end=b""), b"GET /a HTT"):
            with front.connect(half):
                await until(lambda: front.front.listener is not None and front.front.listener.open)
        front.relay.begun.clear()
        await until(lambda: front.front.listener is not None and front.front.listener.open == 0)

    await everything()
    with no_garbage_of("sse_fast", "httptools"):
        await everything()
