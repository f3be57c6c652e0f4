"""--stream-redirect: who asks the main port for a stream follows a 307 to the stream port, cursor and all."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar

import httpx
import pytest
from conftest import EdgeProcess, Edges
from playwright.async_api import Browser, expect
from real_clients import CLIENTS, Client, Curl, HttpxSse, maker
from support import free_port
from test_live_page import tile

pytestmark = pytest.mark.asyncio(loop_scope="session")


class CurlThatFollows(Curl):
    def command(self, base: str, channel: str) -> list[str]:
        curl, *rest = super().command(base, channel)
        return [curl, "-L", *rest]


class HttpxThatFollows(HttpxSse):
    client_options: ClassVar[dict[str, Any]] = {"follow_redirects": True}


FOLLOWING: dict[str, type[Client]] = {**CLIENTS, Curl.name: CurlThatFollows, HttpxSse.name: HttpxThatFollows}
"""curl and httpx follow a redirect only when they are told to."""


@pytest.fixture
def server(edge: Edges) -> EdgeProcess:
    return edge("--stream-port", str(free_port()), "--stream-redirect", "--retry", "100")


@pytest.fixture(params=FOLLOWING)
def make(request: pytest.FixtureRequest) -> Callable[[], Client]:
    return maker(request, FOLLOWING[request.param])


async def test_every_client_follows_and_resumes_at_the_stream_port(
    server: EdgeProcess, make: Callable[[], Client]
) -> None:
    client = make()
    try:
        await client.open(server.url, "a")
        await client.connected()
        before = server.publish("a", "before")
        await client.until_id(before)
        assert server.stats()["transports"]["native"]["connections"] == 1
        assert server.stats()["transports"]["asgi"]["accepted"] == 0
        if not client.comes_back:
            return
        await asyncio.to_thread(server.stop)
        server.start()
        missed = server.publish("a", "missed or not")
        await client.until_id(missed)
        assert [event.data for event in client.received] == ["before", "missed or not"]
        (gap,) = client.told("$gap")
        assert json.loads(gap.data)["after"] == before
        assert "closed" not in client.states
        assert server.stats()["transports"]["asgi"]["accepted"] == 0
    finally:
        await client.close()


async def test_curl_keeps_its_cursor_over_the_redirect(server: EdgeProcess) -> None:
    ids = server.publish_many("a", ["one", "two", "three"])
    client = CurlThatFollows(last_event_id=ids[0])
    try:
        await client.open(server.url, "a")
        await client.until_id(ids[-1])
        assert client.ids == ids[1:]
    finally:
        await client.close()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_the_live_page_of_the_main_port_lives_by_the_stream_port(
    server: EdgeProcess, browser: Browser, name: str
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    await page.goto(f"http://{name}:{server.port}/")
    await expect(page.locator("#stats-state")).to_have_text("Live")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.locator("#feed-state")).to_have_text("Live")
    await page.locator("#data").press("Control+Enter")
    await expect(page.locator("#rows li .data").first).to_have_text('{"hello": "world"}')
    await expect(tile(page, "Connections")).to_have_text("2")
    assert server.stats()["transports"]["native"]["connections"] == 2
    await expect(page.locator("#native")).to_have_text("2 open, 2 accepted")
    await expect(page.locator("#asgi")).to_have_text("0 open, 0 accepted")
    assert not complaints
    await context.close()


async def test_a_page_resumes_by_fetch_although_the_header_needs_a_preflight(
    server: EdgeProcess, browser: Browser
) -> None:
    ids = server.publish_many("a", ["one", "two"])
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{server.url}/livez")
    first: Any = await page.evaluate(
        """async (id) => {
            const response = await fetch("sse/a", { headers: { "Last-Event-ID": id } });
            const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
            let text = "";
            while (!text.includes("two")) text += (await reader.read()).value;
            return text;
        }""",
        ids[0],
    )
    assert "data: one" not in first
    await context.close()


async def test_the_redirect_says_where_and_is_not_to_be_remembered(edge: Edges) -> None:
    stream_port = free_port()
    server = edge("--stream-port", str(stream_port), "--stream-redirect")
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/sse/a?history=3&x=%20y")
    assert answer.status_code == 307
    assert answer.headers["location"] == f"http://127.0.0.1:{stream_port}/sse/a?history=3&x=%20y"
    assert answer.headers["cache-control"] == "no-store"
