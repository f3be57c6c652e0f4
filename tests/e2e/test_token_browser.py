"""A page with a token in a cookie, in real browsers, alone and behind the proxies: it renews it in silence, or is let
go; a logout ends the stream."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import EdgeProcess, Edges, until
from firefox import FirefoxPage
from playwright.async_api import Browser
from proxies import PROXIES

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret for these tests, thirty-two bytes at least"
COOKIE = "events"
FLAGS = ("--token-secret", SECRET, "--token-cookie", COOKIE, "--token-leeway", "0", "--grant-publish", "**")
OPEN, CLOSED = 1, 2
LISTEN = """([cookie, first, renewed]) => {
    const keep = (token) => { document.cookie = `${cookie}=${token}; path=/; samesite=strict`; };
    keep(first);
    const told = [], numbers = [];
    const source = new EventSource("/sse/orders");
    Object.assign(window, { told, numbers, source });
    source.addEventListener("$connected", ({ data }) => told.push(JSON.parse(data).resume));
    source.addEventListener("$expiring", () => {
        if (!told.includes("expiring")) told.push("expiring");
        if (renewed) keep(renewed);
    });
    source.addEventListener("$closing", ({ data }) => told.push(JSON.parse(data).reason));
    source.onmessage = ({ data }) => numbers.push(Number(data));
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) told.push("closed"); };
    return new Promise((done) => { source.onopen = () => done(); });
}"""


def token(seconds: float, user: str = "ann") -> str:
    claims = {"sub": user, "exp": time.time() + seconds, "sse": {"subscribe": ["orders"]}}
    return jwt.encode(claims, SECRET, algorithm="HS256")


class Place:
    """An edge, and the URL by which a browser gets to it."""

    def __init__(self, server: EdgeProcess, url: str) -> None:
        self.server, self.url = server, url


@pytest.fixture(params=["alone", *PROXIES])
def place(request: pytest.FixtureRequest, edge: Edges, tmp_path: Path) -> Iterator[Place]:
    server = edge("--trusted-proxies", "127.0.0.0/8", *FLAGS)
    with ExitStack() as proxies:
        url = server.url
        if request.param in PROXIES:
            proxy = PROXIES[request.param](tmp_path, server.port)
            proxies.enter_context(proxy.running())
            url = proxy.url
        yield Place(server, url)


async def stand_at(page: Any, url: str) -> None:
    """Firefox shows JSON in a page that may open no streams."""
    await (page.stand_at if isinstance(page, FirefoxPage) else page.goto)(url)


async def publish_until(page: Any, server: EdgeProcess, holds: str) -> int:
    """Publish 0, 1, … until this holds in the page, and once more; how many."""
    count = 0
    async with asyncio.timeout(60):
        while not await page.evaluate(f"() => {holds}"):
            await asyncio.to_thread(server.publish, "orders", count)
            count += 1
            await asyncio.sleep(0.02)
    server.publish("orders", count)
    return count + 1


async def renews(page: Any, place: Place) -> None:
    await stand_at(page, f"{place.url}/livez")
    await page.evaluate(LISTEN, [COOKIE, token(6), token(3600)])
    count = await publish_until(page, place.server, "told.filter((word) => word === 'complete').length === 1")
    await page.wait_for_function(f"numbers.at(-1) === {count - 1}")
    told, numbers, state = await page.evaluate("() => [told, numbers, source.readyState]")
    assert told == ["live", "expiring", "expired", "complete"]
    assert numbers == list(range(count))
    assert state == OPEN


async def test_a_page_renews_its_cookie_and_misses_nothing(edge: Edges, any_browser: Any) -> None:
    page = await any_browser.new_page()
    server = edge(*FLAGS)
    await renews(page, Place(server, server.url))
    await page.close()


async def test_a_page_behind_a_proxy_renews_its_cookie_and_misses_nothing(place: Place, browser: Browser) -> None:
    context = await browser.new_context(ignore_https_errors=True)
    await renews(await context.new_page(), place)
    await context.close()


async def test_a_page_that_does_not_renew_is_let_go_and_gets_nothing_more(edge: Edges, any_browser: Any) -> None:
    server = edge(*FLAGS)
    page = await any_browser.new_page()
    await stand_at(page, f"{server.url}/livez")
    await page.evaluate(LISTEN, [COOKIE, token(3), None])
    count = await publish_until(page, server, "told.includes('closed')")
    told, numbers, state = await page.evaluate("() => [told, numbers, source.readyState]")
    assert told[:3] == ["live", "expiring", "expired"]
    assert state == CLOSED
    assert numbers == list(range(len(numbers))), "what it got, it got without a hole"
    assert len(numbers) < count
    await page.close()


async def test_a_logout_ends_the_stream_and_the_page_stays_out(place: Place, browser: Browser) -> None:
    contexts = [await browser.new_context(ignore_https_errors=True) for _ in range(2)]  # with cookies of their own
    page, other = [await context.new_page() for context in contexts]
    for each, user in ((page, "ann"), (other, "bob")):
        await each.goto(f"{place.url}/livez")
        await each.evaluate(LISTEN, [COOKIE, token(3600, user), None])
    await asyncio.to_thread(place.server.wait_connections, 2)
    await page.evaluate("(cookie) => { document.cookie = `${cookie}=; path=/; max-age=0`; }", COOKIE)
    operator = jwt.encode({"exp": time.time() + 60, "sse": {"operations": True}}, SECRET, algorithm="HS256")
    bearer = {"authorization": f"Bearer {operator}"}
    status, _ = place.server.request("DELETE", "/streams?user=ann", headers=bearer)
    assert status == 200
    await page.wait_for_function("told.includes('closed')")
    place.server.publish("orders", 1)
    await other.wait_for_function("numbers.at(-1) === 1")
    assert await page.evaluate("() => [told, numbers]") == [["live", "operator", "closed"], []]
    assert await other.evaluate("() => told") == ["live"]
    until(lambda: place.server.stats()["connections"] == 1, "one stream")
    for context in contexts:
        await context.close()
