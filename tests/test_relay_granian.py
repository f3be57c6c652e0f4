"""The relay in front of Granian on a Unix socket."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from relay_port import GET, Peer, RelayPort
from support import until

from sse_fast.access.proxies import TrustedProxies
from sse_fast.protocol.policy import Policy

ARGUMENTS = ["--interface", "asgi", "--http", "1", "--ws", "--no-log"]


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[RelayPort]:
    path = tmp_path / "app"
    command = [sys.executable, "-m", "granian", *ARGUMENTS, "--uds", str(path), "relay_app:behind"]
    granian = subprocess.Popen(command, cwd=Path(__file__).parent)  # noqa: ASYNC220 - it starts a process at once
    try:
        await until(lambda: listens(path))
        async with RelayPort.opened(policy=Policy(proxies=TrustedProxies(["127.0.0.2"]))) as port:
            port.relay._path = str(path)
            yield port
    finally:
        granian.send_signal(signal.SIGTERM)
        granian.wait(30)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def get(path: bytes, *headers: bytes) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: a.example\r\n%b\r\n" % (path, b"".join(line + b"\r\n" for line in headers))


async def body_of(client: Peer) -> bytes:
    """Of a chunked response."""
    parts = []
    while size := int((await client.until(b"\r\n"))[:-2], 16):
        parts.append((await client.exactly(size + 2))[:-2])
    await client.exactly(2)
    return b"".join(parts)


async def test_an_app_is_asked_by_the_client_and_not_by_the_relay(port: RelayPort) -> None:
    async with port.client(address="127.0.0.1") as client:
        client.say(
            get(b"who?a=b", b"X-Forwarded-For: 1.2.3.4", b"X_Forwarded_For: 1.2.3.4", b"X-Forwarded-Proto: https")
        )
        status, body = await client.answer()
        assert status == 200
        assert json.loads(body) == {
            "method": "GET",
            "path": "/who",
            "client": ["127.0.0.1", 0],
            "server": ["front.example", 8000],
            "scheme": "http",
            "headers": [["host", "a.example"], ["x-forwarded-for", "127.0.0.1"]],
        }
        assert (await client.ask(b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n" + GET))[0] == 200


async def test_megabytes_go_both_ways(port: RelayPort) -> None:
    async with port.client() as client:
        client.say(get(b"down"))
        await client.head()
        assert await body_of(client) == b"".join(bytes([number]) * 2**20 for number in range(24))
        client.say(b"POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % (24 * 2**20))
        sending = asyncio.create_task(client.send(bytes(24 * 2**20)))
        assert await client.answer() == (200, b"%d" % (24 * 2**20))
        await sending
        client.say(b"POST /up HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.say(b"100000\r\n%b\r\n" % bytes(2**20) * 8 + b"0\r\n\r\n")
        assert await client.answer() == (200, b"%d" % (8 * 2**20))
        await port.settled()
        assert port.relay.open == 1


async def test_what_an_app_breaks_off_is_broken_off(port: RelayPort) -> None:
    async with port.client() as client:
        client.say(get(b"broken"))
        out = await client.rest()
        assert b"half" in out
        assert b"0\r\n\r\n" not in out


async def test_an_app_is_told_that_its_client_left(port: RelayPort) -> None:
    async with port.client() as client:
        client.say(get(b"endless"))
        await client.until(b"begun")

    async def left() -> bool:
        return (await port.ask(get(b"left"))) == (200, b"1")

    await until(left)


async def test_a_websocket_goes_through(port: RelayPort) -> None:
    async with port.client(address="127.0.0.1") as client:
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        client.say(get(b"ws", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", key))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert await client.exactly(11) == b"\x81\x09127.0.0.1"
        client.say(b"\x82\x85\0\0\0\0hello")
        assert await client.exactly(7) == b"\x82\x05hello"
        client.say(b"\x88\x82\0\0\0\0\x03\xe8")
        assert (await client.rest())[:1] == b"\x88"
    await port.settled()
