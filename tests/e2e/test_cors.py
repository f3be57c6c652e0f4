"""CORS as Chromium enforces it: a page of one origin, the edge at another."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from conftest import EdgeProcess, Edges, free_port
from fault_proxy import FaultProxy
from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTEN = """([url, withCredentials]) => new Promise((done) => {
    const source = new EventSource(url, { withCredentials });
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
READ = """async (url) => {
    try {
        return (await fetch(url, { credentials: "include" })).status;
    } catch (error) {
        return String(error);
    }
}"""
BLOCKED = "TypeError: Failed to fetch"


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
async def page(browser: Browser, origin: int) -> AsyncIterator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{origin}/")
    yield page
    await context.close()


def allowing(edge: Edges, *origins: str) -> EdgeProcess:
    return edge("--cors-origins", ",".join(origins), "--publish-key", "open-sesame", "--retry", "20")


@pytest.mark.parametrize("credentials", [False, True])
async def test_a_listed_origin_listens_and_resumes_without_a_preflight(
    edge: Edges, page: Page, origin: int, credentials: bool
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
    edge: Edges, page: Page, origin: int
) -> None:
    server = allowing(edge, "https://elsewhere.example", f"http://127.0.0.1:{free_port()}")
    for credentials in (False, True):
        assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", credentials]) == "refused"
    assert await page.evaluate(PUBLISH, [f"{server.url}/publish", "open-sesame"]) == BLOCKED
    assert server.stats()["published"] == 0


async def test_without_a_list_no_other_origin_gets_anything(edge: Edges, page: Page) -> None:
    server = edge()
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", False]) == "refused"
    assert await page.evaluate(PUBLISH, [f"{server.url}/publish", ""]) == BLOCKED


async def test_a_star_lets_any_origin_listen_but_never_with_credentials(edge: Edges, page: Page) -> None:
    server = allowing(edge, "*")
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", False]) == "connected"
    assert await page.evaluate(LISTEN, [f"{server.url}/sse/a", True]) == "refused"


async def test_a_refusal_can_be_read_from_a_listed_origin(edge: Edges, page: Page, origin: int) -> None:
    server = allowing(edge, f"http://127.0.0.1:{origin}")
    answer = await page.evaluate(PUBLISH, [f"{server.url}/publish", "wrong"])
    assert answer["status"] == 401
    assert await page.evaluate(READ, f"{server.url}/sse/$nothing") == 400
