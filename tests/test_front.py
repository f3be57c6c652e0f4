"""The front, seen from bare sockets: streams of the same grammar and with the same answers as by ASGI."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import h11
import pytest
from conftest import Edges
from e2e.client import Chunks
from front_port import ORIGIN, FrontPort, by_asgi, connect, edge_of
from support import no_garbage_of, until
from whatwg import Parser

from sse_fast._native.front.connection import Connection
from sse_fast.errors import EndReason
from sse_fast.protocol.decision import Decision, Elsewhere, Form, Publish
from sse_fast.transports import exchange
from sse_fast.transports import front as transport
from sse_fast.transports.front import Front
from sse_fast.transports.head import HEAD_BYTES, REMEMBERED_HEADS, Reading
from sse_fast.transports.life import Transport

GET = b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE = 30.0


@pytest.fixture
async def port() -> AsyncIterator[FrontPort]:
    async with FrontPort.opened(log_size=1 << 20) as opened:
        yield opened
        opened.check()


class Answer:
    """What came back on one connection, read as HTTP."""

    def __init__(self, raw: bytes, method: str = "GET", *, ended: bool = True) -> None:
        self.raw = raw
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(raw)
        if ended:
            reader.receive_data(b"")
        self.body, self.whole = b"", False
        with suppress(h11.RemoteProtocolError):
            while True:
                event = reader.next_event()
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                    self.version = event.http_version
                    self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    self.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.whole = True
                    break
                elif event in (h11.NEED_DATA, h11.PAUSED):
                    break

    @property
    def detail(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        problem = json.loads(self.body)
        assert problem["status"] == self.status
        return str(problem["detail"])

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.data) for event in Parser().feed(self.body)]


async def raw_answer(
    where: int | Path, request: bytes, *, enough: bytes | None = None, source: str = "127.0.0.1", pieces: int = 1 << 20
) -> bytes:
    """What is answered at a port, or a Unix socket, up to its end, or until `enough` is there."""
    method = "HEAD" if request.startswith(b"HEAD") else "GET"
    if isinstance(where, Path):
        reader, writer = await asyncio.open_unix_connection(where)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", where, local_addr=(source, 0))
    got = b""
    try:
        async with asyncio.timeout(PATIENCE):
            for at in range(0, len(request), pieces):
                writer.write(request[at : at + pieces])
                await writer.drain()
                await asyncio.sleep(0)
            while not (enough and enough in got) and (part := await reader.read(65536)):
                got += part
                if Answer(got, method, ended=False).whole:
                    break
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    return got


async def ask(port: FrontPort, request: bytes, **how: Any) -> Answer:
    """The answer to a request that is no stream."""
    return Answer(await raw_answer(port.number, request, **how), request.split(b" ")[0].decode("latin-1"))


async def listen(port: FrontPort, request: bytes = GET, **how: Any) -> Answer:
    """The beginning of a stream."""
    return Answer(await raw_answer(port.number, request, enough=b"$connected", **how), ended=False)


# ---- both transports ----

TARGETS = [
    "/sse/a",
    "/sse/room/1",
    "/sse?channel=a&channel=b",
    "/sse?channel=room%3A1",
    "/sse/%C3%A9",
    "/sse/a%25b",
    "/sse/$stats",
    "/sse/a?last_event_id=zzzzzzzz-5",
    "/sse/a?history=3",
    "/sse",
    "/sse?",
    "/sse/",
    "/sse/a/",
    "/sse//a",
    "/sse/a/b/c",
    "/sse?channel=",
    "/sse?channel=a%20b",
    "/sse?channel=%FF",
    "/sse/%FF",
    "/sse/a%2Fb",
    "/sse/a%00b",
    "/sse?channel=" + "x" * 2049,
    "/sse/$nothing",
    "/sse/a?histroy=3",
    "/sse/a?_=1700000000000&evs_preamble=2056",
    "/sse/a?history=-1",
    "/sse/a?history=1000001",
    "/sse/a?last_event_id=" + "x" * 513,
    "/sse?" + "&".join(f"channel={number}" for number in range(129)),
]
HEADERS = [
    {},
    {"Last-Event-ID": "zzzzzzzz-5  "},
    {"Last-Event-ID": "x" * 513},
    {"last-event-ID": "earliest"},
    {"Origin": ORIGIN},
    {"Origin": "http://elsewhere.example"},
    {"Accept": "application/json"},
    {"Cookie": "a=b", "Origin": ORIGIN},
]
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "Last-Event-ID",
}
PREFLIGHT_HEAD = (
    f"OPTIONS /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nAccess-Control-Request-Method: GET\r\n\r\n".encode()
)
OF_THE_SERVER = {"date", "server", "connection", "transfer-encoding", "content-length"}


def requests() -> list[tuple[str, str, dict[str, str]]]:
    asked = [("GET", target, HEADERS[0]) for target in TARGETS]
    asked += [(method, "/sse/a", headers) for headers in HEADERS for method in ("GET", "HEAD")]
    asked += [
        ("OPTIONS", "/sse/a", headers) for headers in (*HEADERS[:1], PREFLIGHT, {**PREFLIGHT, "Origin": "http://no"})
    ]
    return asked


async def test_both_transports_give_the_same_answer_to_the_same_request(edge: Edges) -> None:
    server = edge("--cors-origins", ORIGIN)
    for method, target, headers in requests():
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        asked = [(server.port, lines), (server.behind(), [*lines, "grip-local: 1"])]  # as the relay says it
        native, by_asgi = [
            Answer(await raw_answer(where, "\r\n".join([*told, "", ""]).encode(), enough=b"id: "), method)
            for where, told in asked
        ]
        for answer in (native, by_asgi):
            answer.headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_SERVER}
        assert (native.status, native.headers) == (by_asgi.status, by_asgi.headers), (method, target, headers)
        if native.events:
            assert native.events == by_asgi.events, target
        elif native.status != 200:
            assert native.body == by_asgi.body, target
    stats = server.stats()
    assert stats["transports"]["asgi"]["accepted"] == stats["transports"]["native"]["accepted"] > 10


# ---- heads that are odd, but right ----


async def test_a_stream_is_chunked_and_has_no_end_of_its_own(port: FrontPort) -> None:
    answer = await listen(port)
    assert (answer.status, answer.version, answer.whole) == (200, b"1.1", False)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert "connection" not in answer.headers, "undici takes whatever is cut off for whole, if it was told of the end"
    assert "date" in answer.headers


async def test_http_1_0_gets_the_bytes_as_they_are(port: FrontPort) -> None:
    raw = await raw_answer(port.number, b"GET /sse/a HTTP/1.0\r\n\r\n", enough=b"id: ")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b":\nretry: ")
    assert b"$connected" in body


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://somewhere.example/sse/a HTTP/1.1\r\nHost: Somewhere.example\r\n\r\n",
        b"GET /sse/a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /sse/a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        b"\r\nGET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + GET,
        GET + b"POST /sse/b HTTP/1.0\r\nLast-Event-ID: earliest\r\nX: y\r\n\r\n",
        GET + b"\x00\xff nonsense",
    ],
)
@pytest.mark.parametrize("pieces", [1 << 20, 1])
async def test_what_comes_with_a_request_and_behind_it_changes_nothing(
    port: FrontPort, request_: bytes, pieces: int
) -> None:
    answer = await listen(port, request_, pieces=pieces)
    assert (answer.status, answer.version) == (200, b"1.1")
    assert answer.events == [("$connected", '{"resume":"live"}')]
    await until(lambda: port.listener.open == 0)


async def test_head_and_options_are_answered(port: FrontPort) -> None:
    head = await ask(port, b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (head.status, head.body, head.whole) == (200, b"", True)
    options = await ask(port, b"OPTIONS /sse/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    preflight = await ask(
        port,
        PREFLIGHT_HEAD,
    )
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert port.counts.accepted == 0


# ---- what is remembered of heads ----


def holders(backwards: bytes) -> list[object]:
    """Who of all that the collector knows has these bytes; given backwards, so as to have none of its own."""
    gc.collect()

    def has(held: object) -> bool:
        if isinstance(held, bytes):
            return backwards in held[::-1]
        return type(held) is tuple and any(has(part) for part in held)

    return [owner for owner in gc.get_objects() if any(has(held) for held in gc.get_referents(owner))]


@pytest.mark.parametrize(
    "request_",
    [
        "GET /sse/a?token={} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /sse/a?history=1&access_token={} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /sse/a?histroy={} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /sse/a#{} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://me:{}@x/sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /sse/a HTTP/1.1\r\nHost: x\r\nX-Api-Key: {}\r\n\r\n",
        "GET /sse/a HTTP/1.1\r\nHost: x\r\nReferer: http://x/page?invitation={}\r\n\r\n",
        "GET /sse/a HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{}",
        *(f"GET /sse/a HTTP/1.1\r\nHost: x\r\n{name}: a={{}}\r\n\r\n" for name in ("Cookie", "COOKIE", "cOOkIE")),
        *(f"GET /sse/a HTTP/1.1\r\nHost: x\r\n{name}: {{}}\r\n\r\n" for name in ("authorization", "AUTHORIZATION")),
        "GET /sse/a HTTP/1.1\r\nHost: x\r\nProxy-AUTHORIZATION: Basic {}\r\n\r\n",
        *(
            f"GET /sse/a HTTP/1.1\r\nHost: x\r\nX-Forwarded-{what}: {{}}\r\n\r\n"
            for what in ("Access-Token", "User", "Email", "Client-Cert")
        ),
    ],
)
async def test_nobody_s_secret_stays_in_memory(port: FrontPort, request_: str) -> None:
    backwards = token_hex(8).encode()
    answer = Answer(
        await raw_answer(port.number, request_.format(backwards[::-1].decode()).encode(), enough=b"\n\n"), ended=False
    )
    assert answer.status in (200, 400)
    await until(lambda: port.listener.open == 0)
    del answer
    assert not holders(backwards)


async def test_a_head_that_many_send_is_read_once(port: FrontPort, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Reading] = []

    class Counted(Reading):
        def __init__(self) -> None:
            super().__init__()
            read.append(self)

    monkeypatch.setattr(exchange, "Reading", Counted)
    lines = ["Host: x", "User-Agent: Mozilla/5.0", f"Origin: {ORIGIN}", f"Referer: {ORIGIN}/", "Sec-Fetch-Mode: cors"]
    lines += [f"X-Forwarded-{what}: x" for what in ("For", "Proto", "Host", "Port")]
    for target in ("/sse/a", "/sse?channel=a&channel=b&history=3"):
        request = "\r\n".join([f"GET {target} HTTP/1.1", *lines, "Last-Event-ID: abcdefgh-7", "", ""]).encode()
        for _ in range(3):
            assert (await listen(port, request)).status == 200
    assert len(read) == 2
    for number in range(2 * REMEMBERED_HEADS):
        await ask(port, f"HEAD /sse/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert len(port.transport._remembered._known) == REMEMBERED_HEADS


# ---- refusals ----


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nnot a chunk",
    ],
)
@pytest.mark.parametrize("pieces", [1 << 20, 1])
async def test_a_stream_is_not_asked_for_with_a_body(port: FrontPort, framed: bytes, pieces: int) -> None:
    answer = await ask(port, b"GET /sse/a HTTP/1.1\r\nHost: x\r\n" + framed, pieces=pieces)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "no body" in answer.detail
    assert port.counts.accepted == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /sse/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /sse/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"DELETE /sse HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_another_method_than_those_of_a_stream_is_refused(port: FrontPort, request_: bytes) -> None:
    answer = await ask(port, request_)
    assert (answer.status, answer.whole) == (405, True)
    assert "streams are read with GET" in answer.detail
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"BREW /sse/a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /sse/a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /sse/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /sse/a HTTP/3.0\r\n\r\n", 400),
        (b"GET /sse/a HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"GET /sse/a HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
        (b"GET /sse/a HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\n", 400),
        (b"GET /sse/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /sse/a\r\n\r\n", 505),
        (b"GET /sse/a HTTP/2.0\r\n\r\n", 505),
    ],
)
async def test_what_is_no_request_is_told_so_and_closed(port: FrontPort, request_: bytes, status: int) -> None:
    answer = Answer(await raw_answer(port.number, request_))
    assert (answer.status, answer.whole) == (status, True)
    assert "HTTP/1.1" in answer.detail
    assert port.transport.bad_heads == 1
    await until(lambda: port.listener.open == 0)


def lines(*lines: bytes, first: bytes = b"GET /sse/a HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


HOST = b"Host: x"
BODY = b"5\r\nhello\r\n0\r\n\r\n"
ODD = {
    "no Host": lines(),
    "two Hosts": lines(HOST, HOST),
    "two Hosts that differ": lines(HOST, b"host: y"),
    "an empty Host": lines(b"Host:"),
    "a Host that is a list": lines(b"Host: x, y"),
    "a Host with a path": lines(b"Host: x/y"),
    "a Host with userinfo": lines(b"Host: me@x"),
    "a Host with a port that is none": lines(b"Host: x:y"),
    "a Host with a space": lines(b"Host: x y"),
    "two Hosts in HTTP/1.0": lines(HOST, HOST, first=b"GET /sse/a HTTP/1.0"),
    "a Host that is none in HTTP/1.0": lines(b"Host: x y", first=b"GET /sse/a HTTP/1.0"),
    "a space before the colon": lines(HOST, b"Content-Length : 5"),
    "a folded line": lines(HOST, b"X: a", b" b"),
    "a line that begins with a space": lines(b" Host: x"),
    "bare LF": b"GET /sse/a HTTP/1.1\nHost: x\n\n",
    "bare LF in a value": lines(HOST, b"X: a\nContent-Length: 5"),
    "bare LF before the empty line": b"GET /sse/a HTTP/1.1\r\nHost: x\n\r\n",
    "bare CR in a value": lines(HOST, b"X: a\rb"),
    "bare CR in the target": lines(HOST, first=b"GET /sse/a\r HTTP/1.1"),
    "NUL": lines(HOST, b"X: a\0b"),
    "a vertical tab": lines(HOST, b"Transfer-Encoding: \x0bchunked"),
    "DEL": lines(HOST, b"X: \x7f"),
    "two spaces in the first line": lines(HOST, first=b"GET  /sse/a HTTP/1.1"),
    "a tab in the first line": lines(HOST, first=b"GET\t/sse/a HTTP/1.1"),
    "a space behind the first line": lines(HOST, first=b"GET /sse/a HTTP/1.1 "),
    "RTSP": lines(HOST, first=b"GET /sse/a RTSP/1.0"),
    "ICE": lines(HOST, first=b"SOURCE /sse/a ICE/1.0"),
    "two digits of a version": lines(HOST, first=b"GET /sse/a HTTP/1.01"),
    "http in lower case": lines(HOST, first=b"GET /sse/a http/1.1"),
    "a method in lower case": lines(HOST, first=b"get /sse/a HTTP/1.1"),
    "a fragment": lines(HOST, first=b"GET /sse/a#b HTTP/1.1"),
    "no path": lines(HOST, first=b"GET sse/a HTTP/1.1"),
    "* for GET": lines(HOST, first=b"GET * HTTP/1.1"),
    "a tunnel": lines(b"Host: x:443", first=b"CONNECT x:443 HTTP/1.1"),
    "a tunnel to a path": lines(HOST, first=b"CONNECT /sse/a HTTP/1.1"),
    "another scheme": lines(HOST, first=b"GET https://x/sse/a HTTP/1.1"),
    "an authority that is not Host's": lines(HOST, first=b"GET http://y/sse/a HTTP/1.1"),
    "userinfo": lines(HOST, first=b"GET http://me@x/sse/a HTTP/1.1"),
    "two Content-Lengths": lines(HOST, b"Content-Length: 5", b"Content-Length: 5"),
    "a Content-Length that is a list": lines(HOST, b"Content-Length: 5, 5"),
    "a Content-Length with a sign": lines(HOST, b"Content-Length: +5"),
    "a negative Content-Length": lines(HOST, b"Content-Length: -5"),
    "a Content-Length in hex": lines(HOST, b"Content-Length: 0x5"),
    "an empty Content-Length": lines(HOST, b"Content-Length:"),
    "an endless Content-Length": lines(HOST, b"Content-Length: " + b"9" * 30),
    "a length and chunks": lines(HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks and a length": lines(HOST, b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "chunks twice": lines(HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunks in HTTP/1.0": lines(b"Transfer-Encoding: chunked", first=b"POST /publish/a HTTP/1.0"),
    "a transfer coding that is none": lines(HOST, b"Transfer-Encoding: identity"),
    "chunks in chunks": lines(HOST, b"Transfer-Encoding: chunked, chunked"),
    "chunks that are not last": lines(HOST, b"Transfer-Encoding: chunked, gzip"),
    "a hop's Host": lines(HOST, b"Connection: Host"),
    "a hop's Content-Length": lines(HOST, b"Connection: close, content-length", b"Content-Length: 5"),
    "nothing but empty lines": b"\r\n" * 10,
}


@pytest.mark.parametrize("pieces", [1 << 20, 1])
@pytest.mark.parametrize("odd", ODD)
async def test_what_two_readers_could_take_for_two_things_is_refused(port: FrontPort, odd: str, pieces: int) -> None:
    answer = Answer(await raw_answer(port.number, ODD[odd] + BODY, pieces=pieces))
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "HTTP/1.1 request" in answer.detail
    assert port.transport.bad_heads == 1
    assert port.counts.accepted == 0


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Expect: 200-ok", 417),
    ],
)
async def test_what_this_server_cannot_do_is_said_to_be_that(port: FrontPort, line: bytes, status: int) -> None:
    answer = Answer(await raw_answer(port.number, lines(HOST, line, first=b"POST /publish/a HTTP/1.1") + BODY))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("pieces", [1 << 20, 1000])
@pytest.mark.parametrize(
    "request_",
    [
        b"GET /sse/a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
        b"GET /sse/a HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * (HEAD_BYTES // 5) + b"\r\n",
        b"GET /sse/" + b"x" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /sse/a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * HEAD_BYTES,
    ],
)
async def test_a_head_has_a_largest_size_however_it_comes(port: FrontPort, request_: bytes, pieces: int) -> None:
    answer = Answer(await raw_answer(port.number, request_, pieces=pieces))
    assert answer.status == 431
    assert "16384 bytes" in answer.detail


async def test_a_head_just_below_that_is_read(port: FrontPort) -> None:
    request = b"GET /sse/a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (HEAD_BYTES - 100) + b"\r\n\r\n"
    assert (await listen(port, request, pieces=1000)).status == 200


async def test_a_head_that_does_not_come_in_time_is_told_so_and_silence_is_closed() -> None:
    async with FrontPort.opened(head_seconds=0.3) as port:
        answer = Answer(await raw_answer(port.number, b"GET /sse/a HTTP/1.1\r\nHost: x\r\nX: "))
        assert answer.status == 408
        assert "within 0.3 s" in answer.detail
        assert await raw_answer(port.number, b"") == b""
        await until(lambda: port.listener.open == 0)
        assert port.listener.late == 2


# ---- too many ----


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
async def test_over_a_limit_a_browser_is_told_when_to_come_back_and_others_get_503(limit: str) -> None:
    async with FrontPort.opened(**{limit: 1}) as port:
        with port.connect(GET):
            await until(lambda: port.listener.streams == 1)
            browser = await ask(port, GET)
            assert (browser.status, browser.whole) == (200, False)
            assert browser.events == [("$closing", '{"reason":"overloaded"}')]
            program = await ask(port, b"GET /sse/a HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n")
            assert (program.status, program.whole) == (503, True)
            assert 7 <= int(program.headers["retry-after"]) <= 13
            assert port.admission.refused[limit] == 2
        await until(lambda: port.listener.streams == 0)
        assert (await listen(port)).events == [("$connected", '{"resume":"live"}')]
        port.check()


async def full(asked: bytes, **limits: int) -> Answer:
    """What a port without room for it answers to a request; how long to wait is not the same twice."""
    async with FrontPort.opened(**limits) as port:
        with port.connect(GET):
            await until(lambda: port.listener.streams == 1)
            answer = await ask(port, asked)
            if answer.status in (200, 503) and not asked.startswith((b"HEAD", b"OPTIONS")):
                assert port.admission.refused.total() == 1
            assert (port.listener.turned_away == 1) == ("most" in limits)
    for waits in ("retry-after", "content-length", "date", "connection"):
        answer.headers.pop(waits, None)
    return answer


@pytest.mark.parametrize(
    "asked",
    [
        GET,
        f"GET /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\n\r\n".encode(),
        f"GET /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nCookie: who=me\r\n\r\n".encode(),
        b"GET /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: http://elsewhere.example\r\n\r\n",
        f"GET /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nAccept: application/json\r\n\r\n".encode(),
        b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
        PREFLIGHT_HEAD,
        b"GET /sse/a?history=x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"no request at all\r\n\r\n",
    ],
)
async def test_without_room_for_its_connection_a_client_is_told_the_same_in_a_form_that_its_origin_may_read(
    asked: bytes,
) -> None:
    admission, listener = await full(asked, max_connections=1), await full(asked, most=1)
    assert (listener.status, listener.headers) == (admission.status, admission.headers)
    assert listener.events == admission.events


@pytest.mark.parametrize(
    ("rest", "status"), [(b"A: b\r\nno colon\r\n\r\n", 400), (b"X: " + b"x" * HEAD_BYTES, 431), (b"X: ", 408)]
)
async def test_what_is_wrong_with_a_head_may_be_read_by_the_origin_that_it_names(rest: bytes, status: int) -> None:
    async with FrontPort.opened(head_seconds=0.3) as port:
        head = f"GET /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\n".encode()
        answer = Answer(await raw_answer(port.number, head + rest))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)


async def test_a_head_of_which_only_the_origin_has_come_is_turned_away_for_that_origin() -> None:
    answer = await full(f"GET /sse/a HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nCookie: who=".encode(), most=1)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.events == [("$closing", '{"reason":"overloaded"}')]


# ---- the head ----


async def test_who_may_read_it_stands_directly_behind_what_it_is_by_both_transports(edge: Edges) -> None:
    server = edge("--cors-origins", ORIGIN, "--max-connections", "1")
    with connect(server.port, f"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nOrigin: {ORIGIN}\r\n\r\n".encode()):
        server.wait_connections(1)
        for asked in ("GET /sse/a", "HEAD /sse/a", "GET /sse/$nothing", "GET /sse/a\r\nAccept: application/json"):
            target, *more = asked.split("\r\n")
            head = "\r\n".join([f"{target} HTTP/1.1", "Host: localhost", f"Origin: {ORIGIN}", *more, "", ""]).encode()
            for where in (server.port, server.behind()):
                raw = await raw_answer(where, head, enough=b"\r\n\r\n")
                _, first, *rest = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
                assert first.startswith("content-type: ")
                assert {line.split(":")[0] for line in rest[:2]} == {
                    "access-control-allow-origin",
                    "access-control-allow-credentials",
                }


# ---- the end ----


async def test_a_drain_hands_out_what_there_is_says_closing_and_ends_without_a_last_chunk(port: FrontPort) -> None:
    reading = asyncio.create_task(raw_answer(port.number, GET))
    await until(lambda: port.listener.streams == 1)
    await port.hub.publish("a", "last")
    await port.hub.drain(1.0)
    late = await ask(port, GET)
    assert late.events == [("$closing", '{"reason":"shutdown"}')]
    await port.hub.close()
    answer = Answer(await reading)
    assert [kind for kind, _ in answer.events] == ["$connected", "message", "$closing"]
    assert not answer.whole
    assert port.counts.ended == {EndReason.SHUTDOWN: 1}


async def test_a_closed_port_has_let_everybody_go(port: FrontPort) -> None:
    clients = [port.connect(GET), port.connect(b"GET"), port.connect(b"G")]
    await until(lambda: port.listener.open == 3)
    listener = port.listener
    port.transport.close()
    assert (listener.open, listener.streams, port.admission.connections) == (0, 0, 0)
    assert port.counts.ended == {EndReason.SHUTDOWN: 1}
    for client in clients:
        client.close()
    port.transport.close()
    port.open()


# ---- what goes wrong within ----


async def test_what_cannot_be_decided_or_carried_out_costs_its_own_connection_only(
    port: FrontPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    with port.connect(GET) as there:
        await until(lambda: port.listener.streams == 1)

        def fail(*_: Any) -> Decision:
            raise RuntimeError("no such rule")

        for number, broken in enumerate((fail, lambda *_: Elsewhere(), lambda *_: Publish(Form.JSON, 1))):
            with monkeypatch.context() as patched:
                patched.setattr(transport, "decide", broken)
                assert await raw_answer(port.number, GET.replace(b"Host: x", b"Host: %d" % number)) == b""
        port.check()
        await port.hub.publish("a", "still here")
        await until(lambda: b"still here" in there.recv(65536, socket.MSG_PEEK))


async def test_a_stream_whose_head_cannot_be_made_is_not_counted_as_open(
    port: FrontPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise ValueError("no such head")

    monkeypatch.setattr(Front, "_opening", fail)
    assert await raw_answer(port.number, GET) == b""
    await until(lambda: port.counts.ended == {EndReason.ERROR: 1})
    port.check()
    assert (port.admission.connections, port.hub.fanout.connections) == (0, 0)


async def test_a_stream_that_cannot_begin_is_told_of_once(port: FrontPort) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("not now")

    listener, fanout = port.listener, port.hub.fanout
    port.transport.close()
    port.transport.resume = fail
    port.open()
    assert await raw_answer(port.number, GET) != b"the law is what is counted"
    await until(lambda: port.counts.ended == {EndReason.ERROR: 1})
    assert (listener.open, fanout.connections) == (0, 0)
    port.check()


async def test_nothing_of_a_connection_is_left_to_the_garbage_collector(port: FrontPort) -> None:
    """A storm of clients would pile it up; and the collector then stops the loop to find it."""

    async def everything() -> None:
        await listen(port)
        await ask(port, b"GET /sse/a/b/c HTTP/1.1\r\nHost: x\r\n\r\n")
        await raw_answer(port.number, b"nonsense\r\n\r\n")
        await ask(port, b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n")
        with port.connect(b"GET /sse/a HT"):
            await until(lambda: port.listener.open)
        await until(lambda: port.listener.open == 0)

    await everything()
    with no_garbage_of("sse_fast", "httptools"):
        await everything()
        # The queue of deadlines lets go of a connection only when its time would have come.
        await until(lambda: not [thing for thing in gc.get_objects() if isinstance(thing, Connection)])


# ---- the whole edge ----


@pytest.mark.usefixtures("nothing_set")
async def test_behind_a_trusted_proxy_limits_see_the_client_s_address_and_nobody_else_can_claim_one() -> None:
    async with edge_of(trusted_proxies=["127.0.0.1"], max_connections_per_ip=1) as edge:
        assert edge.front is not None
        number = edge.front.port

        def request(address: str) -> bytes:
            return f"GET /sse/a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n".encode()

        async def opened(address: str, source: str) -> tuple[str, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", number, local_addr=(source, 0))
            writer.write(request(address))
            body = Chunks().feed((await reader.readuntil(b"\n\n")).partition(b"\r\n\r\n")[2])
            return Parser().feed(body)[0].type, writer

        found = [
            await opened(address, source)
            for address, source in (
                ("192.0.2.1", "127.0.0.1"),
                ("192.0.2.2", "127.0.0.1"),
                ("192.0.2.1", "127.0.0.1"),
                ("192.0.2.3", "127.0.0.9"),
                ("192.0.2.4", "127.0.0.9"),
            )
        ]
        assert [kind for kind, _ in found] == ["$connected", "$connected", "$closing", "$connected", "$closing"]
        for _, writer in found:
            writer.close()
        await until(lambda: edge.hub.fanout.connections == 0)
        assert edge._admission._tally.by_address == {}, "whoever was counted in by that address is counted out by it"


@pytest.mark.usefixtures("nothing_set")
async def test_on_all_addresses_clients_of_both_families_are_served() -> None:
    async with edge_of(host="::", open=True) as edge:
        assert edge.front is not None
        for address in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(address, edge.front.port)
            writer.write(b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n", address
            writer.close()


@pytest.mark.usefixtures("nothing_set")
async def test_counters_by_transport_add_up() -> None:
    async with edge_of(max_connections=3) as edge, by_asgi(edge) as client:
        assert edge.front is not None
        number = edge.front.port
        for request in (
            GET,
            GET,
            b"nonsense\r\n\r\n",
            b"GET /sse/a HTTP/1.0\r\n\r\n",
            b"HEAD /sse/a HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            await raw_answer(number, request, enough=b"id: ")
        await until(lambda: edge.hub.fanout.connections == 0)
        open_ = [await asyncio.open_connection("127.0.0.1", number) for _ in range(5)]
        for _, writer in open_:
            writer.write(GET)
        await until(lambda: sum(edge._admission.refused.values()) == 2)
        stats = (await client.get("/stats")).json()
        transport = stats["transports"]["native"]
        assert (transport["connections"], transport["accepted"]) == (3, 6)
        assert {reason: count for reason, count in transport["ended"].items() if count} == {"client": 3}
        assert stats["transports"]["asgi"]["accepted"] == 0
        assert (stats["connections"], stats["accepted"], stats["refused"], stats["ended"]["client"]) == (3, 6, 3, 3)
        exposed = (await client.get("/metrics")).text
        assert 'sse_fast_connections{transport="native"} 3.0' in exposed
        assert 'sse_fast_refused_total{reason="max_connections"} 2.0' in exposed
        for _, writer in open_:
            writer.close()
    assert edge._streams.transports[Transport.NATIVE].connections == 0
