"""DNS rebinding in a browser: a page of a name that resolves to this machine, when it suits whoever owns the name."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from conftest import CHROMIUM_ARGUMENTS, Edges, program
from playwright.async_api import async_playwright

pytestmark = pytest.mark.asyncio(loop_scope="session")

READ = """async (path) => {
    const answer = await fetch(path);
    return [answer.status, await answer.text()];
}"""
PUBLISH = """async () => (await fetch("/publish/a", { method: "POST", body: "by a stranger" })).status"""
LISTEN = """() => new Promise((done) => {
    const source = new EventSource("/sse/a?last_event_id=earliest");
    source.onmessage = ({ data }) => done(data);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) done("refused"); };
})"""


@pytest_asyncio.fixture(loop_scope="session")
async def rebound() -> AsyncIterator[Any]:
    """A page of a browser for which evil.test is this machine."""
    rules = "--host-resolver-rules=MAP evil.test 127.0.0.1"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium"), headless=True, args=[*CHROMIUM_ARGUMENTS, rules]
        )
        yield await browser.new_page()
        await browser.close()


async def test_a_page_of_a_foreign_name_that_resolves_here_reads_and_publishes_nothing(
    edge: Edges, rebound: Any
) -> None:
    server = edge()
    server.publish("a", "not for strangers")
    await rebound.goto(f"http://evil.test:{server.port}/livez")
    assert await rebound.evaluate("location.hostname") == "evil.test"
    for path in ("/channels", "/stats", "/metrics", "/", "/sse/a"):
        status, told = await rebound.evaluate(READ, path)
        assert (path, status) == (path, 421)
        assert "is no name of this server" in told
    assert await rebound.evaluate(LISTEN) == "refused"
    assert await rebound.evaluate(PUBLISH) == 421
    assert server.stats()["published"] == 1
    await rebound.goto(f"http://localhost:{server.port}/livez")
    assert await rebound.evaluate(LISTEN) == "not for strangers"


async def test_a_name_that_is_listed_is_the_server_s(edge: Edges, rebound: Any) -> None:
    server = edge("--allowed-hosts", "evil.test")
    server.publish("a", "for all who call it so")
    await rebound.goto(f"http://evil.test:{server.port}/livez")
    assert await rebound.evaluate(LISTEN) == "for all who call it so"
