"""sse-fast behind nginx and HAProxy, as examples/deploy sets them up: HTTPS, HTTP/1.1 and HTTP/2, on one origin."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, EdgeProcess, Edges, until
from firefox import Firefox
from playwright.async_api import Browser, expect
from proxies import PROXIES, Proxy
from real_clients import CLIENTS, Chromium, Client, Gecko
from whatwg import Event, Parser

from sse_fast.settings import MIB

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEVER = ("--keepalive", "3600")
HEARTBEAT = b":\n"
Behind = Callable[..., tuple[EdgeProcess, Proxy]]


@pytest.fixture(params=PROXIES)
def behind(request: pytest.FixtureRequest, edge: Edges, tmp_path: Path) -> Iterator[Behind]:
    """`behind("--retry", "100")`: an edge, and the proxy in front of it."""
    proxies = ExitStack()

    def start(*flags: str) -> tuple[EdgeProcess, Proxy]:
        server = edge("--trusted-proxies", "127.0.0.0/8", *flags)
        proxy = PROXIES[request.param](tmp_path, server.port)
        proxies.enter_context(proxy.running())
        return server, proxy

    with proxies:
        yield start


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
def http2(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Stream:
    """An open stream: `status`, `headers`, and its events and bytes one after the other."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._bytes = response.aiter_raw()
        self._parser = Parser()
        self._events: list[Event] = []

    async def raw(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._bytes)

    async def next(self) -> Event:
        while not self._events:
            self._events = self._parser.feed(await self.raw())
        return self._events.pop(0)


@asynccontextmanager
async def subscribed(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Stream]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", path, headers=fields) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in response.headers
        stream = Stream(response)
        assert (await stream.next()).type in ("$connected", "$closing")
        yield stream


async def gone(server: EdgeProcess, left: int = 0) -> None:
    await asyncio.to_thread(server.wait_connections, left)


async def test_each_event_arrives_before_the_next_is_published(behind: Behind, http2: bool) -> None:
    server, proxy = behind(*NEVER)
    async with proxy.client(http2=http2) as client:
        headers = {"accept-encoding": "gzip, br"}
        async with subscribed(client, "/sse/a", **headers) as stream:
            assert stream.response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            for number in range(50):
                id = await asyncio.to_thread(server.publish, "a", f"number {number}")
                assert await stream.next() == Event("message", f"number {number}", id)
            transports = server.stats()["transports"]
            assert (transports["native"]["connections"], transports["asgi"]["connections"]) == (1, 0)


async def test_a_stream_resumes_after_the_last_event_that_was_seen(behind: Behind, http2: bool) -> None:
    server, proxy = behind()
    ids = server.publish_many("a", list(range(2000)))
    async with proxy.client(http2=http2) as client, subscribed(client, "/sse/a", last_event_id=ids[499]) as stream:
        assert [(await stream.next()).last_event_id for _ in range(1500)] == ids[500:]


async def test_that_a_client_went_is_noticed(behind: Behind, http2: bool) -> None:
    # HAProxy notices the end of an HTTP/1.1 client only when there is something to write.
    server, proxy = behind("--keepalive", "0.5") if not http2 else behind(*NEVER)
    async with proxy.client(http2=http2) as client, subscribed(client, "/sse/a"), subscribed(client, "/sse/b"):
        await gone(server, left=2)
    await gone(server)
    assert server.stats()["transports"]["native"]["ended"]["client"] == 2


async def test_one_of_the_streams_of_a_connection_that_stays_ends_alone(behind: Behind, browser: Browser) -> None:
    server, proxy = behind(*NEVER)
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(f"{proxy.url}/livez")
    await page.evaluate(
        """() => {
            window.sources = ["a", "b"].map((name) => new EventSource(`sse/${name}`));
            return Promise.all(sources.map((source) => new Promise((done) => { source.onopen = () => done(); })));
        }"""
    )
    await gone(server, left=2)
    await page.evaluate("sources[0].close()")
    await gone(server, left=1)
    await page.evaluate("() => { sources[1].onmessage = ({ data }) => { window.got = data; }; }")
    server.publish("b", "still here")
    await page.wait_for_function("window.got === 'still here'")
    assert await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    await context.close()
    await gone(server)


async def test_heartbeats_come_through(behind: Behind, http2: bool) -> None:
    _, proxy = behind("--keepalive", "0.2")
    async with proxy.client(http2=http2) as client, subscribed(client, "/sse/a") as stream:
        received = b""
        while received.count(HEARTBEAT) < 3:
            received += await stream.raw()
        assert not received.replace(HEARTBEAT, b"")


async def test_a_hundred_streams_share_one_connection(behind: Behind) -> None:
    server, proxy = behind()
    async with proxy.client(http2=True) as client, AsyncExitStack() as streams:
        opened = [
            await streams.enter_async_context(subscribed(client, f"/sse/of:{number % 10}")) for number in range(100)
        ]
        ids = [server.publish(f"of:{number}", "to all") for number in range(10)]
        assert [(await stream.next()).last_event_id for stream in opened] == ids * 10
        ends = {stream.response.extensions["network_stream"].get_extra_info("client_addr") for stream in opened}
        assert len(ends) == 1
        (worker,) = server.workers()
        sources = {connection.raddr.ip for connection in worker.net_connections("tcp") if connection.raddr}
        # Each address has ports for 28,000 more.
        assert sources >= {f"127.0.0.{number}" for number in (2, 3, 4, 5)}


async def test_the_edge_counts_clients_by_their_own_address_whatever_they_say(behind: Behind, http2: bool) -> None:
    server, proxy = behind("--max-connections-per-ip", "1")
    one, other = (proxy.client(http2=http2, source=f"127.0.0.{number}") for number in (71, 72))
    lies = {"x_forwarded_for": "192.0.2.1"}
    async with one, other, subscribed(one, "/sse/a"), subscribed(other, "/sse/a"):
        assert server.stats()["refused"] == 0
        for spoofed in ({}, lies):
            async with subscribed(one, "/sse/a", **spoofed):
                pass
        assert server.stats()["refused"] == 2


async def test_page_and_publishing_are_on_the_same_origin(behind: Behind, browser: Browser) -> None:
    server, proxy = behind()
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(proxy.url)
    await expect(page.locator("#stats-state")).to_have_text("Live")
    await page.get_by_role("button", name="Follow", exact=True).click()
    await expect(page.locator("#feed-state")).to_have_text("Live")
    await page.click("#open-drawer")
    await page.fill("#data", "from the page")
    await page.locator("#data").press("Control+Enter")
    await expect(page.locator("#answer")).to_contain_text("Published")
    await expect(page.locator("#rows li .data").first).to_have_text("from the page")
    assert server.stats()["transports"]["native"]["connections"] == 2
    await context.close()


async def test_the_largest_publication_that_the_edge_takes_comes_through(behind: Behind) -> None:
    _, proxy = behind()
    line = b'{"channel": "a", "data": "%b"}\n' % (b"x" * 1000)
    body = line * (15 * MIB // len(line))  # in the log, with their records, they are a quarter of it
    async with proxy.client(http2=True) as client:
        answer = await client.post("/publish", content=body, headers={"content-type": "application/x-ndjson"})
        assert len(answer.json()["ids"]) == body.count(b"\n")


INNER = [
    *("/metrics", "/%6detrics", "/metric%73", "/METRICS", "/metrics%0a", "/metrics%0A", "/metrics%0d", "/metrics%00"),
    *(
        "/metrics/",
        "//metrics",
        "/./metrics",
        "/%2e/metrics",
        "/metrics;x",
        "/metrics%3bx",
        "/metrics%2f",
        "/metrics%20",
    ),
    *("/sse/../metrics", "/sse/%2e%2e/metrics", "/sse/..%2fmetrics", "/publish/../metrics", "/publish/.%2E/metrics"),
    *("/stats/../metrics", "/stats/%2e%2e/metrics", "/stats%2f..%2fmetrics", "/stats%0a/../metrics", "/\\metrics"),
    *("/channels", "/%63hannels", "/channels%0a", "/channels/", "//channels", "/channels?prefix=a", "/sse/../channels"),
    *("/metrics?/stats", "/metrics#/stats", "/stats%00/../metrics", "/%252e/metrics", "/%256detrics"),
]


async def test_inner_affairs_are_for_insiders_however_their_paths_are_spelled(behind: Behind, http2: bool) -> None:
    server, proxy = behind()
    server.publish("secret", "of the house")
    async with proxy.client(http2=http2) as insider, proxy.client(http2=http2, source="127.0.0.71") as outsider:
        for path in ("/metrics", "/channels"):
            assert (await insider.get(path)).status_code == 200
        for path in INNER:
            # By the client's own words: httpx would write some of these in another way.
            try:
                async with outsider.stream("GET", "/", extensions={"target": path.encode()}) as answer:
                    assert answer.status_code in (400, 403, 404), path
                    told = await answer.aread()
            except httpx.RemoteProtocolError:
                continue  # no answer is none of what is inside
            assert b"sse_fast_" not in told, path
            assert b"secret" not in told, path


async def test_what_is_for_everybody_passes(behind: Behind, http2: bool) -> None:
    server, proxy = behind()
    async with proxy.client(http2=http2, source="127.0.0.71") as outsider:
        for path in ("/", "/stats", "/livez", "/readyz", "/healthz", "/?a=b", "/stats?a=b"):
            assert (await outsider.get(path)).status_code == 200, path
        for path in ("/publish/a", "/publish/room/1", "/publish/a?event=b", "/publish/gr%C3%BC%C3%9Fe", "/publish/a.b"):
            assert (await outsider.post(path, content=b"x")).status_code == 200, path
        assert (await outsider.post("/publish", json={"channel": "a", "data": "x"})).status_code == 200
        for path in ("/sse/a", "/sse/room/1", "/sse?channel=a&channel=b", "/sse/gr%C3%BC%C3%9Fe", "/sse/a.b"):
            async with subscribed(outsider, path):
                pass
    assert server.stats()["published"] == 6


async def test_a_drain_reaches_the_clients_and_their_streams_break_off(behind: Behind, http2: bool) -> None:
    server, proxy = behind()
    async with proxy.client(http2=http2) as client, subscribed(client, "/sse/a") as stream:
        server.terminate()
        assert (await stream.next()).type == "$closing"
        # HAProxy 2.6 makes an end like any other of what was broken off, where it speaks HTTP/2.
        ended = (StopAsyncIteration,) if http2 and proxy.name == "haproxy" else ()
        with pytest.raises((httpx.RemoteProtocolError, *ended)):
            await stream.next()
    assert server.wait() == 0


async def test_while_the_edge_is_away_nobody_gets_an_answer_that_sends_him_off(behind: Behind, http2: bool) -> None:
    server, proxy = behind()
    server.stop()
    async with proxy.client(http2=http2) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/sse/a")
        answer = await client.get("/livez")
        assert answer.status_code in (502, 503)
        if proxy.name == "nginx":
            answer = await client.get("/sse/a", headers={"accept": "application/json"})
            assert (answer.status_code, answer.headers["retry-after"], answer.json()["status"]) == (503, "5", 503)


async def test_every_client_comes_back_to_an_edge_that_was_away(
    behind: Behind, browser: Browser, firefox: Firefox, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = behind("--retry", "100")
    for variable in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.setenv(variable, str(proxy.authority_file))
    context: Any = await browser.new_context(ignore_https_errors=True)
    kinds: dict[str, Callable[[], Client]] = {name: kind for name, kind in CLIENTS.items() if kind.comes_back}
    kinds |= {Chromium.name: functools.partial(Chromium, context), Gecko.name: functools.partial(Gecko, firefox)}
    clients = {f"c{number}": make() for number, make in enumerate(kinds.values())}
    try:
        for channel, client in clients.items():
            await client.open(proxy.url, channel)
        for channel, client in clients.items():
            await client.connected()
            await client.until_id(server.publish(channel, "before"))
        await asyncio.to_thread(server.stop)
        for channel in clients:
            await asyncio.to_thread(until, functools.partial(proxy.in_vain, channel), f"{channel} to try in vain")
        server.start()
        for channel, client in clients.items():
            id = server.publish(channel, "after")
            await client.until_id(id)
            assert [event.data for event in client.received] == ["before", "after"]
            assert "closed" not in client.states
    finally:
        for client in clients.values():
            await client.close()
        await context.close()
