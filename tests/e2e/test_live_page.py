"""The live page in Chromium, on a running edge. Screenshots are in pytest's tmp_path, to be looked at."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from client import Stream
from conftest import EdgeProcess, Edges
from playwright.async_api import Browser, Locator, Page, expect
from signing import SECRET, token
from support import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

DESKTOP, PHONE = (1280, 900), (360, 740)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser's console complained of, a violation of the page's policy included: nothing, at the end."""
    found: list[str] = []
    yield found
    assert not found


@pytest.fixture
def server(edge: Edges) -> EdgeProcess:
    return edge("--retry", "100")


@pytest_asyncio.fixture(loop_scope="session")
async def page(
    request: pytest.FixtureRequest, browser: Browser, server: EdgeProcess, complaints: list[str]
) -> AsyncIterator[Page]:
    """The page, live. Its parameter: the colour scheme and the size."""
    scheme, (width, height) = getattr(request, "param", ("light", DESKTOP))
    context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    page = await context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda failed: complaints.append(f"{failed.url}: {failed.failure}"))
    await page.goto(server.url)
    await expect(page.locator("#stats-state")).to_have_text("Live")
    yield page
    await context.close()


def tile(page: Page, label: str) -> Locator:
    return page.locator(".tile", has=page.get_by_role("heading", name=label, exact=True)).locator("b")


async def test_the_page_asks_no_other_host_for_anything(browser: Browser, server: EdgeProcess) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = await page.goto(server.url)
    assert answer is not None
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    await expect(page.locator("#stats-state")).to_have_text("Live")
    assert all(url.startswith((server.url, "data:")) for url in asked), asked
    await context.close()


async def test_where_the_figures_are_at_a_port_of_their_own_the_page_has_them_there_and_says_so_elsewhere(
    browser: Browser, edge: Edges
) -> None:
    port = free_port()
    server = edge("--operations-port", str(port))
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(server.url)
    await expect(page.locator("#stats-state")).to_have_text("Figures are for operators")
    await page.goto(f"http://127.0.0.1:{port}/")
    await expect(page.locator("#stats-state")).to_have_text("Live")
    server.publish("news", 1)
    await expect(page.locator("#published")).to_have_text("1")
    await context.close()


async def test_with_a_token_the_page_listens_publishes_and_has_the_figures(
    browser: Browser, edge: Edges, tmp_path: Path
) -> None:
    server = edge("--token-secret", SECRET, "--trusted-proxies", "127.0.0.1", "--retry", "100")
    context = await browser.new_context(extra_http_headers={"X-Forwarded-For": "192.0.2.1"})
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(server.url)
    subscribe = page.get_by_role("button", name="Subscribe")
    await subscribe.click()
    await expect(page.locator("#feed-state")).to_contain_text("the server answers 401")
    await expect(page.locator("#stats-state")).to_have_text("Figures are for operators")
    await expect(page.locator("#token")).to_have_attribute("aria-invalid", "true")
    lines = page.locator("#lines")
    await expect(lines).not_to_contain_text("$TOKEN")
    given = token({"subscribe": ["demo"], "publish": ["demo"], "operations": True})
    await page.fill("#token", given)
    await page.locator("#token").press("Enter")
    await expect(page.locator("#stats-state")).to_have_text("Live")
    await expect(lines).to_contain_text('curl -N -H "Authorization: Bearer $TOKEN"')
    await expect(lines).to_contain_text("""curl -d 'hello' -H "Authorization: Bearer $TOKEN\"""")
    await expect(lines).not_to_contain_text(given)
    script = await lines.locator("code").last.text_content()
    reader = await context.new_page()
    await reader.goto(f"{server.url}/livez")
    prints = "window.got = []; console.log = (data) => got.push(data);"
    await reader.evaluate(f"async (TOKEN) => {{ {prints} {script}; }}", given)
    await subscribe.click()
    await expect(page.locator("#feed-state")).to_have_text("Live")
    await expect(page.locator("#token")).to_have_attribute("aria-invalid", "false")
    await page.locator("#data").press("Control+Enter")
    await expect(page.locator("#answer")).to_contain_text("Published")
    await expect(page.locator("#rows li .data").first).to_contain_text("world")
    await reader.wait_for_function("got.length === 1")
    await page.screenshot(path=tmp_path / "token.png", full_page=True)
    await page.reload()
    await expect(page.locator("#token")).to_have_value(given)
    await expect(page.locator("#stats-state")).to_have_text("Live")
    assert not [url for url in asked if given in url or "access_token" in url], "it is in no address"
    await page.fill("#token", "")
    await page.locator("#token").press("Enter")
    await expect(page.locator("#stats-state")).to_have_text("Figures are for operators")
    other = await context.new_page()
    await other.goto(server.url)
    await expect(other.locator("#token")).to_have_value("")
    await context.close()


@pytest.mark.parametrize(
    "page", [("light", DESKTOP), ("dark", DESKTOP), ("dark", PHONE), ("light", PHONE)], indirect=True
)
async def test_numbers_rise_and_the_feed_shows_events_at_any_size_in_any_light(
    page: Page, server: EdgeProcess, tmp_path: Path
) -> None:
    await page.fill("#channels", "weather, " + "a-long-channel-name-" * 10)
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.locator("#feed-state")).to_have_text("Live")
    listeners = [await Stream.open(server.port, "/sse/weather") for _ in range(20)]

    async def rain() -> None:
        for number in range(10_000):
            await asyncio.to_thread(server.publish, "weather", {"drop": number, "where": "Zürich"}, "rain")
            await asyncio.sleep(0.02)

    raining = asyncio.create_task(rain())
    try:
        await expect(page.locator("#rows li .type").first).to_have_text("rain")
        await expect(tile(page, "Connections")).to_have_text("22")
        for label in ("Events", "Deliveries", "Delivered", "Channels"):
            await expect(tile(page, label)).to_have_text(re.compile(r"[1-9]"))
    finally:
        raining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await raining
    server.publish("weather", "word" * 300, "a-type-with-a-name-that-is-rather-long")
    server.publish("weather", "<b>no markup</b>\nsecond line")
    await expect(page.locator("#rows li .data").first).to_have_text("<b>no markup</b>\nsecond line")
    await expect(page.locator("#published")).not_to_have_text("0")
    assert await page.locator("#rows b").count() == 0
    await expect(page.locator("#native")).to_be_hidden()
    await page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    red = int(ground.removeprefix("rgb(").split(",")[0])
    assert red < 64 if dark else red > 192
    for listener in listeners:
        listener.cut()


async def test_what_is_published_from_the_box_is_in_the_feed_and_in_the_log(page: Page, server: EdgeProcess) -> None:
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.locator("#feed-state")).to_have_text("Live")
    await page.fill("#type", "greeting")
    await page.fill("#data", "grüße 🐝\nand a second line")
    await page.locator("#data").press("Control+Enter")
    await expect(page.locator("#answer")).to_contain_text("Published")
    row = page.locator("#rows li").first
    await expect(row.locator(".type")).to_have_text("greeting")
    await expect(row.locator(".data")).to_have_text("grüße 🐝\nand a second line")
    await expect(row.locator(".channel")).to_have_text("demo")
    id = await page.locator("#answer .mono").text_content()
    assert (await row.locator(".id").last.text_content()) == id
    assert server.stats()["published"] == 1


async def test_the_feed_shows_when_and_in_which_channels_an_event_was_published(
    page: Page, server: EdgeProcess
) -> None:
    body = b'{"channels":["b","hidden","a"],"data":"x"}'
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert server.request("POST", "/publish", body)[0] == 200
    after = datetime.now(UTC)
    await asyncio.sleep(0.05)  # so that when it comes is another time
    await page.fill("#channels", "a, b")
    await page.get_by_role("button", name="Subscribe").click()
    row = page.locator("#rows li").first
    await expect(row.locator(".data")).to_have_text("x")
    await expect(row.locator(".channel")).to_have_text("b, a")
    assert before <= datetime.fromisoformat(str(await row.locator("time").get_attribute("datetime"))) <= after


async def test_what_the_server_refuses_is_said_in_its_words(
    page: Page, server: EdgeProcess, complaints: list[str]
) -> None:
    await page.fill("#to", "no spaces")
    await page.get_by_role("button", name="Publish", exact=True).click()
    await expect(page.locator("#answer")).to_contain_text("'no spaces'")
    await page.fill("#channels", "$nothing")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.locator("#feed-state")).to_contain_text("'$nothing'")
    # The browser itself logs every answer of 400.
    assert len(complaints) == 2
    assert all("status of 400" in complaint for complaint in complaints)
    complaints.clear()
    assert server.stats()["published"] == 0


async def test_the_page_comes_back_after_a_restart_and_says_what_is_missing(
    page: Page, server: EdgeProcess, complaints: list[str]
) -> None:
    server.publish("demo", "before")
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.locator("#rows li .data").first).to_have_text("before")
    await asyncio.to_thread(server.stop)
    await expect(page.locator("#stats-state")).to_have_text("Reconnecting")
    server.start()
    server.publish("demo", "after")
    await expect(page.locator("#stats-state")).to_have_text("Live")
    await expect(page.locator("#rows li .data").first).to_have_text("after")
    await expect(page.locator("#rows li.gap")).to_have_count(1)
    # While nobody was there the browser had reason to complain.
    assert all("ERR_" in complaint for complaint in complaints), complaints
    complaints.clear()
