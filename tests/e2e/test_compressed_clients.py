"""Clients that people use, and that take gzip, against an edge that compresses: by itself, and behind nginx."""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import aiohttp
import httpx
import pytest
from conftest import PATIENCE, EdgeProcess, Edges, program
from proxies import Nginx, substituted
from real_clients import CLIENTS, Client, Curl, Listen, maker
from support import free_port, until
from whatwg import Event, Parser

from sse_fast.transports.life import Transport

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANNEL = "news"
HTML = "\n".join(f'<tr id="row-{n}"><td>grüße {n}</td></tr>' for n in range(60))
PUBLISHED = ["short", HTML, "two\nlines\n\n", HTML.upper(), "", "end"]


class CompressedCurl(Curl):
    name = "curl --compressed"

    def command(self, base: str, channel: str) -> list[str]:
        return [program("curl"), "-sN", "--compressed", f"{base}/sse/{channel}"]


class Aiohttp(Client):
    name = "aiohttp"
    comes_back: ClassVar[bool] = False

    async def open(self, base: str, channel: str) -> None:
        self._task = asyncio.create_task(self._follow(f"{base}/sse/{channel}"))

    async def _follow(self, url: str) -> None:
        parser = Parser()
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.headers["content-encoding"] == "gzip"
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for data in response.content.iter_any():
                    for event in parser.feed(data):
                        self.got({"type": event.type, "data": event.data, "id": event.last_event_id})
        self.got({"state": "closed"})

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


KINDS: list[type[Client]] = [
    *(kind for kind in CLIENTS.values() if kind not in (Curl, Listen)),  # these ask for none
    CompressedCurl,
    Aiohttp,
]


@pytest.fixture
def makers(request: pytest.FixtureRequest) -> list[Callable[[], Client]]:
    return [maker(request, kind) for kind in KINDS]


@contextlib.asynccontextmanager
async def everybody(makers: list[Callable[[], Client]], base: str) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        listeners = [make() for make in makers]
        for listener in listeners:
            stack.push_async_callback(listener.close)
            await listener.open(base, CHANNEL)
        for listener in listeners:
            await listener.connected()
        yield listeners


async def test_real_clients_are_handed_exactly_what_was_published_and_lose_nothing_when_they_are_cut(
    edge: Edges, makers: list[Callable[[], Client]]
) -> None:
    server = edge("--compress", "--workers", "2", "--retry", "50")
    async with everybody(makers, server.url) as listeners:
        ids = [server.publish(CHANNEL, data) for data in PUBLISHED]
        for listener in listeners:
            await listener.until_id(ids[-1])
            assert listener.received == [Event("message", data, id) for data, id in zip(PUBLISHED, ids, strict=True)], (
                listener.name
            )
        now = server.stats()
        assert now["compressed_bytes"] == now["delivered_bytes"], "somebody did not ask for gzip"
        assert now["compressed_bytes"] < now["uncompressed_bytes"] / 4
        server.noise_expected = True
        killed = server.workers()
        for worker in killed:
            worker.kill()
        await until(lambda: len(server.workers()) == 2 and not set(killed) & set(server.workers()))
        server.wait_ready()
        ids += [server.publish(CHANNEL, data) for data in PUBLISHED]
        for listener in listeners:
            if listener.comes_back:
                await listener.until_id(ids[-1])
                assert listener.ids == ids, listener.name
                assert not listener.told("$gap"), listener.name


async def test_a_stream_that_an_operator_ends_is_whole_to_who_is_strict(edge: Edges) -> None:
    """Readers of Go, Java and Python fail at a stream of gzip without its check."""
    operations = free_port()
    server = edge("--compress", "--operations-port", str(operations))
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        raw, end = b"", f"http://127.0.0.1:{operations}/streams?channel={CHANNEL}"
        async with http.stream("GET", f"{server.url}/sse/{CHANNEL}", headers={"accept-encoding": "gzip"}) as stream:
            server.publish(CHANNEL, HTML)
            told = False
            async for data in stream.aiter_raw():
                raw += data
                if not told and HTML[-20:].encode() in zlib.decompressobj(31).decompress(raw):
                    (await http.delete(end)).raise_for_status()
                    told = True
        assert gzip.decompress(raw).decode().endswith('event: $closing\ndata: {"reason":"operator"}\n\n')


async def test_by_granian_it_is_the_same_bytes(edge: Edges) -> None:
    server = edge("--compress", "1", transport=Transport.ASGI)
    http = httpx.AsyncClient(timeout=PATIENCE)
    async with http, http.stream("GET", f"{server.url}/sse/{CHANNEL}") as stream:
        assert stream.headers["content-encoding"] == "gzip"
        await read_one(stream, server)


async def read_one(stream: httpx.Response, server: EdgeProcess) -> None:
    """That what is published comes through at once, and not when a buffer is full."""
    text, id = "", ""
    async for part in stream.aiter_text():
        text += part
        if not id and "$connected" in text:
            id = server.publish(CHANNEL, HTML)
        if id and f"id: {id}\n\n" in text:
            break
    assert HTML.replace("\n", "\ndata: ") in text


class Compressing(Nginx):
    """With `gzip on` for streams."""

    name = "nginx, gzip on"

    def command(self) -> list[str]:
        command = super().command()
        config = self.directory / "nginx.conf"
        on = "http {\n    gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/event-stream;\n"
        config.write_text(substituted(config.read_text(), {"http {\n": on}))
        return command


@pytest.mark.parametrize("kind", [Nginx, Compressing], ids=lambda kind: kind.name)
async def test_behind_nginx_it_comes_through_as_it_is(
    edge: Edges, tmp_path: Path, kind: Callable[[Path, int], Nginx]
) -> None:
    server = edge("--compress", "--trusted-proxies", "127.0.0.1")
    proxy = kind(tmp_path, server.port)
    with proxy.running():
        async with proxy.client(http2=True) as http:
            for coding, encoding in (("gzip", "gzip"), ("identity", None)):
                request = http.stream("GET", f"/sse/{CHANNEL}", headers={"accept-encoding": coding})
                async with request as stream:
                    assert stream.headers.get("content-encoding") == encoding
                    assert "accept-encoding" in stream.headers["vary"].lower()
                    await read_one(stream, server)
        await until(lambda: server.stats()["compressed_bytes"] > 0)
