"""The live page in Chromium, on a running edge. Screenshots are in pytest's tmp_path, to be looked at."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from client import Stream
from conftest import EdgeProcess, Edges, missing
from firefox import Firefox
from playwright.async_api import Browser, Page, expect
from signing import SECRET, token
from support import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

DESKTOP, PHONE = (1440, 900), (390, 844)
AXE = Path(__file__).parents[1] / "node/node_modules/axe-core/axe.min.js"


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


async def value_of(page: Page, title: str, value: str) -> None:
    """Wait until a chart says so."""
    chart = page.locator(".chart", has=page.get_by_role("heading", name=title, exact=True))
    await expect(chart.locator(".figure b").last).to_have_text(value)


async def follow(page: Page, channels: str) -> None:
    await page.fill("#channels", channels)
    await page.get_by_role("button", name="Follow", exact=True).click()
    await expect(page.locator("#feed-state")).to_have_text("Live")


async def barriers(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA, and its best practices."""
    if not AXE.exists():
        missing("axe-core (scripts/test-setup installs it)")
    await page.evaluate(AXE.read_text())  # the page's policy lets no other script in
    found: list[dict[str, Any]] = (await page.evaluate("axe.run()"))["violations"]
    return [f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}" for each in found]


async def test_the_page_asks_no_other_host_for_anything(browser: Browser, server: EdgeProcess) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = await page.goto(server.url)
    assert answer is not None
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["content-encoding"] == "gzip"
    assert server.request("GET", "/")[1].startswith(b"<!doctype html>"), "and plain to who takes no gzip"
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
    subscribe = page.get_by_role("button", name="Follow", exact=True)
    await subscribe.click()
    await expect(page.locator("#feed-state")).to_contain_text("the server answers 401")
    await expect(page.locator("#stats-state")).to_have_text("Figures are for operators")
    await expect(page.locator("#token")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator(".operators")).to_be_visible()
    await expect(page.locator("#charts")).to_be_hidden()
    await page.click("#open-drawer")
    lines = page.locator("#lines")
    await expect(lines).not_to_contain_text("$TOKEN")
    given = token({"subscribe": ["demo"], "publish": ["demo"], "operations": True})
    await page.fill("#token", given)
    await page.locator("#token").press("Enter")
    await expect(page.locator("#stats-state")).to_have_text("Live")
    await expect(lines).to_contain_text('curl -N -H "Authorization: Bearer $TOKEN"')
    await expect(lines).to_contain_text("""world"}' -H "Authorization: Bearer $TOKEN\"""")
    await expect(lines).not_to_contain_text(given)
    await page.get_by_role("tab", name="JavaScript").click()
    script = await lines.locator("code").first.text_content()
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
    phone = (page.viewport_size or {})["width"] < 768
    if phone:
        await page.get_by_role("button", name="Feed", exact=True).click()
    await follow(page, "weather, " + "a-long-channel-name-" * 10)
    listeners = [await Stream.open(server.port, "/sse/weather") for _ in range(20)]

    async def rain() -> None:
        for number in range(10_000):
            await asyncio.to_thread(server.publish, "weather", {"drop": number, "where": "Zürich"}, "rain")
            await asyncio.sleep(0.1)

    raining = asyncio.create_task(rain())
    try:
        await expect(page.locator("#rows li .type").first).to_have_text("rain")
        if phone:
            await page.get_by_role("button", name="Figures", exact=True).click()
        await value_of(page, "Streams", "20")  # and not the page's own two
        for title in ("Published", "Delivered", "Publish to last receiver", "CPU per delivery", "Events per write"):
            chart = page.locator(".chart", has=page.get_by_role("heading", name=title, exact=True))
            await expect(chart.locator(".figure b").last).not_to_have_text("–")
            await expect(chart.locator("path.line").last).to_have_attribute("d", re.compile("L"))
        await expect(page.locator("#verdict")).to_have_text("All keep up.")
        await expect(page.locator("#who")).to_contain_text("20 streams")
        await page.screenshot(path=tmp_path / "page.png", full_page=True)
    finally:
        raining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await raining
    if phone:
        await page.get_by_role("button", name="Channels", exact=True).click()
    row = page.locator("#channel-rows tr", has=page.get_by_role("button", name="weather", exact=True))
    await expect(row.locator("td").nth(1)).to_have_text("20")
    await page.screenshot(path=tmp_path / "channels.png", full_page=True)
    if phone:
        await page.get_by_role("button", name="Feed", exact=True).click()
    server.publish("weather", "word" * 300, "a-type-with-a-name-that-is-rather-long")
    server.publish("weather", "<b>no markup</b>\nsecond line")
    await expect(page.locator("#rows li .data").first).to_have_text("<b>no markup</b>\nsecond line")
    assert await page.locator("#rows b").count() == 0
    await expect(page.locator("#more")).to_be_hidden()
    assert await barriers(page) == []
    await page.screenshot(path=tmp_path / "feed.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    red = int(ground.removeprefix("rgb(").split(",")[0])
    assert red < 64 if dark else red > 192
    for listener in listeners:
        listener.cut()


async def test_the_first_visit_sends_a_first_event_in_one_click(page: Page, server: EdgeProcess) -> None:
    await page.get_by_role("button", name="Send a first event").click()
    await expect(page.locator("#rows li .data").first).to_have_text('{"hello": "world"}')
    await expect(page.locator("#rows li .channel").first).to_have_text("demo")
    await expect(page.get_by_role("button", name="Send a first event")).to_be_hidden()
    assert server.stats()["published"] == 1


async def test_charts_arrive_full_and_one_crosshair_reads_them_all(
    page: Page, server: EdgeProcess, complaints: list[str]
) -> None:
    listener = await Stream.open(server.port, "/sse/news")
    await asyncio.to_thread(server.publish_many, "news", list(range(20)))
    await expect(page.locator("#published")).to_have_text("20")
    await asyncio.sleep(2.2)  # two seconds more of history
    await page.reload()
    await expect(page.locator("#stats-state")).to_have_text("Live")
    assert all("ERR_ABORTED" in complaint for complaint in complaints), complaints
    complaints.clear()
    streams = page.locator(".chart", has=page.get_by_role("heading", name="Streams", exact=True))
    line = streams.locator("path.line")
    await expect(line).to_have_attribute("d", re.compile(r"M.+L.+L"))
    await page.get_by_text("1 min", exact=True).click()
    await page.locator("#charts").focus()
    await page.keyboard.press("ArrowLeft")
    notes = page.locator(".chart .note")
    await expect(notes.last).to_contain_text("1 s ago")
    assert len(set(await notes.all_text_contents())) == 1
    await expect(page.locator("#read-out")).to_contain_text("delivered a second")
    await page.keyboard.press("Escape")
    await expect(notes.last).not_to_contain_text("ago")
    box = await streams.locator("svg").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    for note in await notes.all():
        await expect(note).to_contain_text("ago")
    listener.cut()


async def test_a_click_in_the_list_follows_a_channel_and_the_snippets_are_for_it(
    page: Page, server: EdgeProcess
) -> None:
    for channel in ("orders:7", "news"):
        server.publish(channel, f"of {channel}")
    await page.fill("#search", "ord")
    await expect(page.locator("#channel-rows tr")).to_have_count(1)
    button = page.get_by_role("button", name="orders:7", exact=True)
    await button.click()
    await expect(page.locator("#rows li .data").first).to_have_text("of orders:7")
    await expect(button).to_have_attribute("aria-pressed", "true")
    await page.click("#open-drawer")
    await expect(page.locator("#to")).to_be_focused()
    assert await barriers(page) == []
    await expect(page.locator("#lines code").first).to_have_text(f"curl -N '{server.url}/sse/orders:7'")
    await page.get_by_role("tab", name="curl").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#lines")).to_contain_text("new EventSource(")
    await page.keyboard.press("ArrowRight")
    listens, publishes = await page.locator("#lines code").all_text_contents()
    for number, code in enumerate((listens, publishes)):
        compile(code, f"snippet {number}", "exec")
    exec(publishes, {})
    await expect(page.locator("#rows li .data").first).to_have_text('{"hello": "world"}')
    await page.keyboard.press("Escape")
    await expect(page.locator("#open-drawer")).to_be_focused()
    await expect(page.locator("#drawer")).to_be_hidden()


async def test_who_reads_further_down_is_not_moved_but_told_how_many_are_new(page: Page, server: EdgeProcess) -> None:
    await follow(page, "news")
    server.publish_many("news", [f"line {number}" for number in range(100)])
    await expect(page.locator("#rows li")).to_have_count(100)
    scroll = page.locator("#scroll")
    await scroll.evaluate("(node) => { node.scrollTop = 500; }")
    read = await page.locator("#rows li").nth(12).bounding_box()
    server.publish_many("news", ["later"] * 7)
    await expect(page.locator("#new")).to_have_text("7 new")
    assert await page.locator("#rows li").nth(12).bounding_box() == read
    await page.click("#new")
    await expect(page.locator("#rows li")).to_have_count(107)
    await expect(page.locator("#new")).to_be_hidden()
    assert await scroll.evaluate("(node) => node.scrollTop") == 0
    await page.fill("#filter", "LATER")
    await expect(page.locator("#rows li")).to_have_count(7)
    await expect(page.locator("#received")).to_have_text("7 of 107 match")
    await page.get_by_role("button", name="Pause").click()
    server.publish_many("news", ["later", "other"])
    await expect(page.locator("#new")).to_have_text("1 new")
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("#rows li")).to_have_count(8)


async def test_who_does_not_keep_up_is_said_in_words_that_lead_to_who_it_is(
    page: Page, server: EdgeProcess, tmp_path: Path
) -> None:
    stuck = await Stream.open(server.port, "/sse/large")  # and nobody reads it
    for _ in range(10):
        await asyncio.to_thread(server.publish_many, "large", ["x" * 60_000] * 15)
    await expect(page.locator("#verdict")).to_have_text("Not all keep up:")
    trouble = page.locator("#troubles button")
    await expect(trouble).to_contain_text(re.compile(r"1 parked, the oldest for \d+ s"))
    await trouble.click()
    await expect(page.locator("#causes")).to_contain_text("127.0.0.1")
    await expect(page.locator("#causes")).to_contain_text("large")
    assert await barriers(page) == []
    await page.screenshot(path=tmp_path / "trouble.png", full_page=True)
    await page.click("#causes-close")
    await expect(trouble).to_be_focused()
    stuck.cut()
    await expect(page.locator("#verdict")).not_to_have_text("Not all keep up:")


async def test_what_was_refused_leads_to_the_reasons(page: Page, server: EdgeProcess) -> None:
    server.request("POST", "/publish", b"{}")
    trouble = page.get_by_role("button", name="1 refused")
    await trouble.click()
    await expect(page.locator("#causes")).to_contain_text("invalid")


async def test_several_workers_are_shown(browser: Browser, edge: Edges) -> None:
    server = edge("--workers", "2")
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(server.url)
    await expect(page.locator("#workers-list li")).to_have_count(2)
    await expect(page.locator("#transports")).to_be_hidden()
    await context.close()


async def test_it_works_in_firefox(firefox: Firefox, server: EdgeProcess) -> None:
    page = await firefox.new_page()
    await page.goto(server.url)
    await page.wait_for_function("document.getElementById('stats-state').textContent === 'Live'")
    await page.evaluate("() => document.getElementById('first').click()")
    await page.wait_for_function("document.querySelector('#rows li .data')?.textContent.includes('world')")
    await page.wait_for_function("document.querySelector('#charts .line').getAttribute('d')?.includes('L')")
    await page.wait_for_function("document.querySelector('#channel-rows button')?.textContent === 'demo'")
    await page.close()


async def test_what_is_published_from_the_box_is_in_the_feed_and_in_the_log(page: Page, server: EdgeProcess) -> None:
    await page.get_by_role("button", name="Follow", exact=True).click()
    await expect(page.locator("#feed-state")).to_have_text("Live")
    await page.click("#open-drawer")
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
    await page.get_by_role("button", name="Follow", exact=True).click()
    row = page.locator("#rows li").first
    await expect(row.locator(".data")).to_have_text("x")
    await expect(row.locator(".channel")).to_have_text("b, a")
    assert before <= datetime.fromisoformat(str(await row.locator("time").get_attribute("datetime"))) <= after


async def test_what_the_server_refuses_is_said_in_its_words(
    page: Page, server: EdgeProcess, complaints: list[str]
) -> None:
    await page.click("#open-drawer")
    await page.fill("#to", "no spaces")
    await page.click("#send")
    await expect(page.locator("#answer")).to_contain_text("'no spaces'")
    await page.fill("#channels", "$nothing")
    await page.get_by_role("button", name="Follow", exact=True).click()
    await expect(page.locator("#feed-state")).to_contain_text("'$nothing'")
    # The browser itself logs every answer of 400; and that the rest of one was not waited for, if it was not there yet.
    logged = [complaint for complaint in complaints if "ERR_ABORTED" not in complaint]
    assert len(logged) == 2
    assert all("status of 400" in complaint for complaint in logged)
    complaints.clear()
    assert server.stats()["published"] == 0


async def test_the_page_comes_back_after_a_restart_and_says_what_is_missing(
    page: Page, server: EdgeProcess, complaints: list[str]
) -> None:
    server.publish("demo", "before")
    await page.get_by_role("button", name="Follow", exact=True).click()
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
