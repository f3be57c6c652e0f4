"""Clients that are slow on purpose: each is done with within its bound, and the others are served meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from front_port import FrontPort, connect
from recorder import tag
from support import Turns, turns_of_others, until

from sse_fast.transports.kernel import Bounds

PATIENCE = 30.0
MANY = 40
APPS = 4  # connections to the app at once
ANSWER = 8 * 1024 * 1024  # bytes, more than any buffers on the way hold
PLAIN = b"GET /app?mine HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_HEAD = b"GET /app HTTP/1.1\r\nHost: x\r\nX: "
PLAIN_POST = b"POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
ASKED_MOST = 200_000
BIG = b"GET /app/big HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when it has read all; `/app/big` with ANSWER bytes, `/app/never` never."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target = head.split(b" ")[:2]
            if found := re.search(rb"content-length: (\d+)", head):
                await reader.readexactly(int(found[1]))
            elif b"transfer-encoding: chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            if target == b"/app/never":
                await reader.read()
                break
            body = b"x" * ANSWER if target == b"/app/big" else tag(method.decode(), target)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
    writer.close()


@pytest.fixture
async def port() -> AsyncIterator[FrontPort]:
    times = {"head_seconds": 1.0, "body_seconds": 1.0, "idle_seconds": 1.0, "stuck_seconds": 1.0}
    relay = {"most": APPS, "timeout": 1.0, "body_seconds": 1.0, "patience": 5.0}
    async with FrontPort.opened(app, relay=relay, log_size=1 << 20, **times) as opened:
        yield opened
        opened.check()


async def slow(port: FrontPort, begin: bytes, trickle: bytes = b"", address: str = "127.0.0.1") -> bytes:
    """Send this, then that byte by byte as long as the connection lives; what was answered up to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number, local_addr=(address, 0))
    writer.write(begin)
    got = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(PATIENCE):
            while trickle and not got.done():
                writer.write(trickle)
                with suppress(ConnectionError):
                    await writer.drain()
                await asyncio.sleep(0.02)
            return await got
    except ConnectionError:
        return b""
    finally:
        got.cancel()
        writer.close()


async def is_served(port: FrontPort) -> None:
    """Somebody else, by the app and in place."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
    async with asyncio.timeout(PATIENCE):
        writer.write(PLAIN)
        assert (await reader.readuntil(tag("GET", b"/app?mine"))).startswith(b"HTTP/1.1 200 ")
        writer.write(PLAIN_POST)
        assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def all_end(port: FrontPort, *strangers: asyncio.Task[bytes]) -> list[bytes]:
    """What they were told; others are served before, and after."""
    await is_served(port)
    told = await asyncio.gather(*strangers)
    await is_served(port)
    return told


def strangers(port: FrontPort, count: int, begin: bytes, trickle: bytes = b"") -> list[asyncio.Task[bytes]]:
    """Each with an address of its own."""
    return [asyncio.create_task(slow(port, begin, trickle, f"127.1.0.{1 + number}")) for number in range(count)]


async def test_a_head_that_comes_byte_by_byte_has_its_time_as_a_whole(port: FrontPort) -> None:
    for told in await all_end(port, *strangers(port, MANY, HALF_HEAD, b"y")):
        assert told.startswith(b"HTTP/1.1 408 ")


async def test_a_second_head_on_a_kept_connection_has_no_more_time(port: FrontPort) -> None:
    for told in await all_end(port, *strangers(port, MANY, PLAIN + HALF_HEAD, b"y")):
        assert told.count(b"HTTP/1.1 ") == 2, told
        first, second = told.split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200 ")
        assert second.startswith(b"408 ")


async def test_who_connects_and_says_nothing_is_let_go(port: FrontPort) -> None:
    for told in await all_end(port, *strangers(port, MANY, b"")):
        assert told == b""


async def test_who_was_answered_and_says_no_more_is_let_go(port: FrontPort) -> None:
    for told in await all_end(port, *strangers(port, MANY, PLAIN)):
        assert told.count(b"HTTP/1.1 ") == told.count(b"HTTP/1.1 200 ") == 1


async def test_empty_lines_are_no_way_to_stay(port: FrontPort) -> None:
    for told in await all_end(port, *strangers(port, MANY, b"", b"\r\n")):
        assert told.startswith(b"HTTP/1.1 400 ")


POST_IN_PLACE = b"POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
CHUNKED_IN_PLACE = b"POST /publish/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
POST_TO_APP = b"POST /app HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
CHUNKED_TO_APP = b"POST /app HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LATE, TOO_LONG, TOO_MANY = b"HTTP/1.1 408 ", b"HTTP/1.1 400 ", b"HTTP/1.1 503 "
BODIES = {
    "in place, counted": (POST_IN_PLACE, b"y"),
    "in place, chunks": (CHUNKED_IN_PLACE, b"1\r\ny\r\n"),
    "in place, an extension": (CHUNKED_IN_PLACE + b"5;", b"a"),
    "in place, a size": (CHUNKED_IN_PLACE, b"0" * 6),  # too many of them before it is too late
    "in place, trailers": (CHUNKED_IN_PLACE + b"0\r\n", b"X: y\r\n"),
    "relayed, counted": (POST_TO_APP, b"y"),
    "relayed, chunks": (CHUNKED_TO_APP, b"1\r\ny\r\n"),
    "relayed, an extension": (CHUNKED_TO_APP + b"5;", b"a"),
    "relayed, trailers": (CHUNKED_TO_APP + b"0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_a_body_that_comes_byte_by_byte_ends_in_time_and_takes_nobodys_place(port: FrontPort, kind: str) -> None:
    begin, trickle = BODIES[kind]
    for told in await all_end(port, *strangers(port, MANY, begin, trickle)):
        # Of bodies whose length nobody knows so many are begun at once.
        late = (TOO_LATE, TOO_MANY) if kind.startswith("relayed") and "counted" not in kind else TOO_LATE
        assert told.startswith(TOO_LONG if kind.endswith("a size") else late)


HALF_BODIES = {"counted": POST_TO_APP + b"y", "chunks": CHUNKED_TO_APP + b"5\r\nhe", "no chunk": CHUNKED_TO_APP}


@pytest.mark.parametrize("kind", HALF_BODIES)
async def test_half_a_body_takes_nobodys_place_at_the_app(kind: str) -> None:
    relay = {"most": APPS, "body_seconds": 3600.0, "patience": 3600.0}
    async with FrontPort.opened(app, relay=relay, log_size=1 << 20) as port:
        half = strangers(port, MANY, HALF_BODIES[kind])
        await until(lambda: port.transport.busy == MANY)
        await is_served(port)
        for stranger in half:
            stranger.cancel()


@pytest.mark.parametrize("kind", [kind for kind in BODIES if kind.endswith(("counted", "chunks"))])
async def test_a_body_that_stops_coming_ends_in_time(port: FrontPort, kind: str) -> None:
    for told in await all_end(port, *strangers(port, MANY, BODIES[kind][0])):
        assert told.startswith(b"HTTP/1.1 408 ")


async def test_an_app_that_never_answers_is_answered_for(port: FrontPort) -> None:
    for told in await all_end(port, *strangers(port, APPS, b"GET /app/never HTTP/1.1\r\nHost: x\r\n\r\n")):
        assert told.startswith(b"HTTP/1.1 504 ")


async def test_who_reads_nothing_of_an_answer_does_not_keep_it(port: FrontPort) -> None:
    deaf = [connect(port.number, BIG, buffer=4096) for _ in range(APPS)]
    await until(lambda: port.transport.busy == APPS)
    await is_served(port)
    await until(lambda: port.transport.busy == 0)
    for each in deaf:
        each.close()


async def test_who_asks_on_and_on_and_reads_nothing_is_read_no_further() -> None:
    bounds = Bounds(64 * 1024, stuck_after=PATIENCE)
    times = {"head_seconds": 3600.0, "idle_seconds": 3600.0, "stuck_seconds": 0.5}
    async with FrontPort.opened(app, log_size=1 << 20, bounds=bounds, **times) as port:
        stranger = connect(port.number, PLAIN_POST, buffer=4096)
        await until(lambda: port.published)
        asked = 1
        while port.listener.open and asked < ASKED_MOST:
            with suppress(OSError):
                stranger.send(PLAIN_POST * 100)
                asked += 100
            await asyncio.sleep(0)
        await until(lambda: port.listener.open == 0)
        assert len(port.published) < asked
        assert asked < ASKED_MOST, "it is read without end"
        stranger.close()


async def test_who_leaves_ends_what_the_app_does_for_him(port: FrontPort) -> None:
    for _ in range(3):
        gone = strangers(port, APPS, b"GET /app/never HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: port.transport.busy == APPS)
        for stranger in gone:
            stranger.cancel()
        await is_served(port)


async def test_the_loop_turns_meanwhile(port: FrontPort) -> None:
    async with turns_of_others() as turns:
        assert isinstance(turns, Turns)
        await all_end(port, *strangers(port, MANY, HALF_HEAD, b"y"))
        assert turns.count
