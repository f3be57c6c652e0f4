"""CORS as browsers enforce it: a page of one origin, the edge at another."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from conftest import BOTH_TRANSPORTS, EdgeProcess, Edges, free_port
from fault_proxy import FaultProxy
from firefox import Firefox, FirefoxPage
from front_port import connect, edge_of
from support import until

from sse_fast.base.descriptors import Budget
from sse_fast.edge import app
from sse_fast.transports.life import Transport
from sse_fast.transports.streams import Streams

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTEN = """([url, withCredentials]) => new Promise((done) => {
    const source = window.source = new EventSource(url, { withCredentials });
    window.got = [];
    source.onmessage = ({ data, lastEventId }) => window.got.push([data, lastEventId]);
    source.addEventListener("$connected", () => done("connected"));
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) done("refused"); };
})"""
PUBLISH = """async ([url, key]) => {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${key}` };
    try {
        const body = JSON.stringify({ channel: "a", data: "over the border" });
        const response = await fetch(url, { method: "POST", headers, body });
        return await response.json();
    } catch (error) {
        return String(error);
    }
}"""
# What any page may send without a preflight.
PUBLISH_PLAIN = """async ([url, credentials]) => {
    const answer = await fetch(url, { method: "POST", body: "over the border", credentials });
    return [answer.status, (await answer.json()).detail];
}"""
READ = """async (url) => {
    try {
        return (await fetch(url, { credentials: "include" })).status;
    } catch (error) {
        return String(error);
    }
}"""
# Opens a stream for each of these numbers of bytes; those of them that were refused.
LISTEN_CUT = """([base, bytes]) => Promise.all(bytes.map((size) => new Promise((done) => {
    const source = new EventSource(`${base}/sse/${size}`, { withCredentials: true });
    source.addEventListener("$connected", () => { source.close(); done(null); });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) done(size); };
}))).then((cut) => cut.filter((size) => size !== null))"""
BLOCKED = ("TypeError: Failed to fetch", "TypeError: NetworkError when attempting to fetch resource.")


@pytest_asyncio.fixture(loop_scope="session")
async def origin() -> AsyncIterator[int]:
    """The port of a server that has an empty page and sets a cookie for the host, whatever the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<!doctype html><title>page</title>"
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nset-cookie: who=me\r\nconnection: close\r\n"
        writer.write(head.encode() + b"content-length: %d\r\n\r\n%b" % (len(page), page))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", free_port())
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest_asyncio.fixture(loop_scope="session")
async def page(any_browser: Any, origin: int) -> AsyncIterator[Any]:
    page = await any_browser.new_page()
    await page.goto(f"http://127.0.0.1:{origin}/")
    yield page
    await page.close()


def allowing(edge: Edges, *origins: str) -> EdgeProcess:
    return edge("--cors-origins", ",".join(origins), "--publish-key", "open-sesame", "--retry", "20")


@pytest.mark.parametrize("credentials", [False, True])
async def test_a_listed_origin_listens_and_resumes_without_a_preflight(
    edge: Edges, page: Any, origin: int, credentials: bool
) -> None:
    server = allowing(edge, f"http://127.0.0.1:{origin}")
    async with FaultProxy(server.port) as proxy:
        assert await page.evaluate(LISTEN, [f"{proxy.url}/sse/a", credentials]) == "connected"
        first = await page.evaluate(PUBLISH, [f"{server.url}/publish", "open-sesame"])
        await page.wait_for_function("window.got.length === 1")
        proxy.cut()
        second = await page.evaluate(PUBLISH, [f"{server.url}/publish", "open-sesame"])
        await page.wait_for_function("window.got.length === 2")
        assert await page.evaluate("window.got") == [["over the border", each["id"]] for each in (first, second)]
        heads = [request.partition(b"\r\n\r\n")[0].decode().lower() for request in proxy.requests]
    assert len(heads) == 2
    assert all(head.startswith("get /sse/a ") for head in heads)
    assert [("\r\ncookie: who=me" in head) for head in heads] == [credentials] * 2
    assert f"\r\nlast-event-id: {first['id']}" in heads[1]


async def test_an_origin_that_is_not_listed_gets_no_stream_and_publishes_nothing(
    edge: Edges, page: Any, origin: int
) -> None:
    server = allowing(edge, "https://elsewhere.example", f"http://127.0.0.1:{free_port()}")
    for credentials in (False, True):
        assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", credentials]) == "refused"
    assert await page.evaluate(PUBLISH, [f"{server.url}/publish", "open-sesame"]) in BLOCKED
    assert server.stats()["published"] == 0


async def test_without_a_list_no_other_origin_gets_anything(edge: Edges, page: Any) -> None:
    server = edge()
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", False]) == "refused"
    assert await page.evaluate(PUBLISH, [f"{server.url}/publish", ""]) in BLOCKED


@pytest.mark.parametrize("flags", [(), ("--cors-origins", "https://elsewhere.example")])
@pytest.mark.parametrize("credentials", ["omit", "include"])
async def test_a_page_that_may_not_publish_can_read_why(
    edge: Edges, page: Any, origin: int, flags: tuple[str, ...], credentials: str
) -> None:
    server = edge(*flags)
    status, why = await page.evaluate(PUBLISH_PLAIN, [f"{server.url}/publish/a", credentials])
    assert (status, server.stats()["published"]) == (403, 0)
    assert why.startswith(f"pages of http://127.0.0.1:{origin} may not publish here; list it in cors_origins")


async def test_an_origin_is_listed_with_any_port(edge: Edges, page: Any) -> None:
    server = allowing(edge, "http://127.0.0.1:*")
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", True]) == "connected"
    published = await page.evaluate(PUBLISH, [f"{server.url}/publish", "open-sesame"])
    await page.wait_for_function("window.got.length === 1")
    assert await page.evaluate("window.got") == [["over the border", published["id"]]]


async def test_a_star_lets_any_origin_listen_but_never_with_credentials(edge: Edges, page: Any) -> None:
    server = allowing(edge, "*")
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", False]) == "connected"
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", True]) == "refused"


async def test_a_refusal_can_be_read_from_a_listed_origin(edge: Edges, page: Any, origin: int) -> None:
    server = allowing(edge, f"http://127.0.0.1:{origin}")
    answer = await page.evaluate(PUBLISH, [f"{server.url}/publish", "wrong"])
    assert answer["status"] == 401
    assert await page.evaluate(READ, f"{server.url}/sse/$nothing") == 400


@pytest.mark.parametrize("others", [0, 256], ids=["no connection left", "no stream left"])
async def test_a_page_with_credentials_comes_back_to_a_full_server_until_there_is_room(
    page: Any, origin: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Budget(64, streams=1, others=others, relayed=1)
    monkeypatch.setattr(app, "budget", lambda *_, **how: few)
    monkeypatch.setattr(Streams, "come_back_in", lambda streams, error: 100)
    async with edge_of(max_connections=1, cors_origins=[f"http://127.0.0.1:{origin}"]) as edge:
        assert edge.front is not None
        with connect(edge.front.port, b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n"):
            await until(lambda: edge.hub.fanout.connections == 1)
            told = asyncio.create_task(page.evaluate(LISTEN, [f"http://127.0.0.1:{edge.front.port}/sse/a", True]))
            await until(lambda: edge.metrics.snapshot()["refused"] >= 3 or told.done())
            assert not told.done(), "it was refused for good"
        assert await told == "connected"
        await page.evaluate("window.source.close()")


async def head_of(port: int, origin: str) -> bytes:
    """The head of a stream, as a page of this origin gets it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /sse/a HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


@BOTH_TRANSPORTS
async def test_a_page_whose_stream_was_cut_anywhere_behind_the_cors_headers_comes_back(
    edge: Edges, page: Any, origin: int, transport: Transport
) -> None:
    server = edge("--cors-origins", f"http://127.0.0.1:{origin}", "--retry", "20", transport=transport)
    head = await head_of(server.port, f"http://127.0.0.1:{origin}")
    needed = (b"HTTP/1.1", b"content-type:", b"access-control-")
    curable = sum(len(line) + 2 for line in head.split(b"\r\n") if line.startswith(needed))
    first = set(range(curable, len(head) + 1))

    def lifetime(request: bytes) -> int | None:
        size = int(request.split(b" ")[1].removeprefix(b"/sse/"))
        if size not in first:
            return None
        first.remove(size)
        return size

    async with FaultProxy(server.port) as proxy:
        proxy.lifetime, proxy.politely = lifetime, True
        found: list[int] = await page.evaluate(LISTEN_CUT, [proxy.url, sorted(first)])
        assert not first
        assert proxy.cuts == len(head) + 1 - curable
    # A whole head, and no byte of a stream behind it, is nobody to Firefox.
    assert [size - len(head) for size in found] == ([0] if isinstance(page, FirefoxPage) else [])


async def test_firefox_gives_up_a_stream_of_another_origin_when_it_finds_nobody(
    edge: Edges, firefox: Firefox, origin: int
) -> None:
    """As the README warns. It comes back to its own origin, see test_clients; and from a cut to any, see above."""
    server = allowing(edge, f"http://127.0.0.1:{origin}")
    page = await firefox.new_page()
    await page.goto(f"http://127.0.0.1:{origin}/")
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", False]) == "connected"
    await asyncio.to_thread(server.stop)
    await page.wait_for_function("window.source.readyState === EventSource.CLOSED")
    await page.close()
