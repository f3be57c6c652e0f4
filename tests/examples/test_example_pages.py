"""The examples' pages in Chromium, with the real libraries. Screenshots are in pytest's tmp_path, to be looked at."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import missing
from playwright.async_api import Browser, Page, Route, expect
from served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
INSTALLED = ROOT / "tests" / "node" / "node_modules"
CDN = {
    "https://cdn.jsdelivr.net/gh/starfederation/datastar@v1.0.1/bundles/datastar.js": "datastar/datastar.js",
    "https://cdn.jsdelivr.net/npm/htmx.org@2.0.11/dist/htmx.min.js": "htmx.org/dist/htmx.min.js",
    "https://cdn.jsdelivr.net/npm/htmx-ext-sse@2.2.4/dist/sse.min.js": "htmx-ext-sse/dist/sse.min.js",
    "https://cdn.jsdelivr.net/npm/alpinejs@3.17.5/dist/cdn.min.js": "alpinejs/dist/cdn.min.js",
}
"""What the pages load from elsewhere, and where the tests have it; the very versions, by tests/node/package.json."""


@contextlib.asynccontextmanager
async def opened(
    browser: Browser, example: str, scheme: str = "light", *, fails: bool = False
) -> AsyncIterator[tuple[Page, Served]]:
    """The page of an example, running. No request leaves this machine, and at the end nothing was complained of."""
    complaints: list[str] = []

    async def from_here(route: Route) -> None:
        name = CDN.get(route.request.url)
        if name is None:
            complaints.append(f"the page asks for {route.request.url}")
            await route.abort()
        else:
            await route.fulfill(path=INSTALLED / name, content_type="text/javascript")

    for name in CDN.values():
        if not (INSTALLED / name).exists():
            missing(f"{name}, which scripts/test-setup installs,")
    async with served("uvicorn", EXAMPLES / example, "app:app") as server:
        context = await browser.new_context(color_scheme=scheme, viewport={"width": 1000, "height": 720})  # type: ignore[arg-type]
        await context.route(lambda url: not url.startswith(server.url), from_here)
        page = await context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(server.url)
        try:
            yield page, server
        finally:
            await context.close()
        await server.end()
        assert complaints == []
        assert ("Traceback" in server.log) == fails, server.log


async def shot(page: Page, tmp_path: Path, name: str) -> None:
    """Both lights, and a phone, on which nothing may scroll sideways."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.screenshot(path=tmp_path / f"{name}-{scheme}.png")
    await page.set_viewport_size({"width": 380, "height": 720})
    await page.screenshot(path=tmp_path / f"{name}-phone.png")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    await page.set_viewport_size({"width": 1000, "height": 720})


async def test_datastar_shows_counters_as_they_change(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, "datastar") as (page, server):
        await expect(page.locator(".chip")).to_have_text("live")
        await expect(page.locator("#watching")).to_have_text("1")
        for _ in range(3):
            await page.get_by_role("button", name="Order a coffee").click()
        await expect(page.locator("#orders")).to_have_text("3")
        await expect(page.locator("#revenue")).to_have_text("37.50")
        async with server.http.stream("GET", "/counters") as other:  # somebody else looks on
            assert other.status_code == 200
            await expect(page.locator("#watching")).to_have_text("2")
        await expect(page.locator("#watching")).to_have_text("1")
        await server.http.post("/orders")
        await expect(page.locator("#revenue")).to_have_text("50.00")
        rows = page.locator("#activities li")
        await expect(rows).to_have_count(4)
        await expect(rows.first).to_contain_text("Coffee no. 4 was ordered")
        await shot(page, tmp_path, "datastar")


async def test_where_no_stream_comes_datastar_s_page_shows_what_it_was_made_with(browser: Browser) -> None:
    async with opened(browser, "datastar") as (page, _):
        await page.route(re.compile(r"/(counters|activities)(\?|$)"), lambda route: route.abort())
        await page.reload()
        await expect(page.locator("#orders")).to_have_text("0")
        await expect(page.locator("#activities")).to_have_text("Nothing yet.")
        await expect(page.locator(".chip")).to_have_text("connecting")


async def test_htmx_and_alpine_show_the_last_50_rows_and_the_state_of_the_connection(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, "sensors") as (page, server):
        for side in ("#htmx", "#alpine"):
            await expect(page.locator(f"{side} .chip")).to_have_text("connected")
            await expect(page.locator(f"{side} tbody tr", has_text="boiler").first).to_be_visible()
        await shot(page, tmp_path, "sensors")

        # More rows than are shown: the newest are on top, and the oldest go.
        readings = [{"sensor": f"s{n}", "celsius": n, "at": "now"} for n in range(120)]
        for reading in readings:
            assert (await server.http.post("/readings", json=reading)).is_success
        for side in ("#htmx", "#alpine"):
            await expect(page.locator(f"{side} tbody tr", has_text="s119")).to_be_visible()
            await expect(page.locator(f"{side} tbody tr")).to_have_count(50)
            assert await page.locator(f"{side} tbody tr", has_text="s60").count() == 0

        # The one for Alpine counts, and can be stopped, cleared and opened again.
        side = page.locator("#alpine")
        await expect(side.locator(".bar span")).to_contain_text(re.compile(r"connected \d+:\d\d, \d{3} readings"))
        await side.get_by_role("button", name="Stop").click()
        await expect(side.locator(".chip")).to_have_text("stopped")
        await side.get_by_role("button", name="Clear").click()
        await expect(side.locator("tbody tr")).to_have_count(0)
        await side.get_by_role("button", name="Connect").click()
        await expect(side.locator(".chip")).to_have_text("connected")
        await expect(side.locator("tbody tr").first).to_be_visible()

        # The server goes, and both say so.
        await server.stop()
        for side in ("#htmx", "#alpine"):
            await expect(page.locator(f"{side} .chip")).to_have_text("error, reconnecting")
        await page.screenshot(path=tmp_path / "sensors-error.png")


async def test_htmx_and_alpine_close_when_the_feed_says_that_it_is_over(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, "sensors", "dark") as (page, _):
        for side in ("#htmx", "#alpine"):
            await expect(page.locator(f"{side} .chip")).to_have_text("connected")
        await page.get_by_role("button", name="Close the feed").click()
        for side in ("#htmx", "#alpine"):
            await expect(page.locator(f"{side} .chip")).to_have_text("closed")
        await page.screenshot(path=tmp_path / "sensors-closed.png")


async def test_progress_survives_a_reload(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, "progress") as (page, _):
        start = page.get_by_role("button", name="Start a task")
        await start.click()
        await expect(page.locator(".task small")).to_contain_text("resizing")
        await start.click()
        await shot(page, tmp_path, "progress")
        await page.reload()
        await expect(page.locator(".task")).to_have_count(2)
        await expect(page.locator(".task small").last).to_contain_text("%")
        await expect(page.locator(".task .chip").last).to_have_text("done")
        await expect(page.locator(".task small").last).to_contain_text("ready: /results/")


async def test_an_answer_grows_word_by_word_until_it_is_done_stopped_or_broken(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, "llm", fails=True) as (page, server):
        await page.fill("input", "why?")
        await page.keyboard.press("Enter")
        await expect(page.locator("#answer")).to_contain_text("I am only a loop")
        await shot(page, tmp_path, "llm")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#state")).to_have_text("stopped")
        await page.fill("input", "fail")
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("the model failed")
        assert "gpu" not in await page.content()
        await page.fill("input", "and now?")
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("done, 70 tokens")
        assert (await server.http.get("/outcomes")).json() == {"cancelled": 2, "done": 1}


async def test_two_people_chat(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, "chat") as (ada, server):
        await ada.fill("#enter input", "Ada")
        await ada.keyboard.press("Enter")
        await expect(ada.locator("#people")).to_have_text("Ada")
        await ada.fill("#write input", "Is <b>anybody</b> here?")
        await ada.keyboard.press("Enter")
        bob = await ada.context.new_page()
        await bob.goto(server.url)
        await bob.fill("#enter input", "Bob")
        await bob.keyboard.press("Enter")
        await expect(bob.locator("#talk")).to_contain_text("Is <b>anybody</b> here?")
        await bob.fill("#write input", "I am.")
        await bob.keyboard.press("Enter")
        await expect(ada.locator("#talk")).to_contain_text("BobI am.")
        await expect(ada.locator("#people")).to_have_text("Ada, Bob")
        await shot(ada, tmp_path, "chat")
        await bob.close()
        await expect(ada.locator("#talk")).to_contain_text("Bob left")
        await expect(ada.locator("#people")).to_have_text("Ada")


async def test_a_page_of_orders_has_a_token_renews_it_and_misses_nothing(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, "tokens") as (page, _):
        await page.fill("[name=user]", "ada")
        await page.fill("[name=password]", "ada")
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("connected")
        await page.fill("[name=text]", "Tea")
        await page.keyboard.press("Enter")
        await expect(page.locator("#orders li")).to_have_text("Tea")
        # Without its token the stream is refused when it comes back; the page gets a fresh one, and goes on.
        cookies = [cookie for cookie in await page.context.cookies() if cookie["name"] == "session"]
        await page.context.clear_cookies()
        await page.context.add_cookies(cookies)  # type: ignore[arg-type]
        await page.evaluate("events.close(), begin()")
        await expect(page.locator("#state")).to_have_text("connected")
        await page.fill("[name=text]", "Milk")
        await page.keyboard.press("Enter")
        await expect(page.locator("#orders li")).to_have_text(["Milk", "Tea"])
        await shot(page, tmp_path, "tokens")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.locator("#login")).to_be_visible()


async def test_an_inbox_closes_in_every_tab_when_its_session_ends(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, "inbox") as (page, server):
        await page.fill("[name=user]", "ada")
        await page.fill("[name=password]", "wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator(".bad")).to_have_text("no such user, or not the password")
        await page.fill("[name=password]", "ada")
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("connected")
        grace = await browser.new_context()
        hers = await grace.new_page()
        await hers.goto(server.url)
        await hers.fill("[name=user]", "grace")
        await hers.fill("[name=password]", "ecarg")
        await hers.keyboard.press("Enter")
        await hers.fill("[name=text]", "Lunch?")
        await hers.keyboard.press("Enter")
        await expect(page.locator("#notes li")).to_have_text("graceLunch?")
        await shot(page, tmp_path, "inbox")
        second = await page.context.new_page()
        await second.goto(server.url)
        await expect(second.locator("#state")).to_have_text("connected")
        await page.get_by_role("button", name="Log out").click()
        for tab in (page, second):
            await expect(tab.locator("#login")).to_be_visible()
        await expect(hers.locator("#state")).to_have_text("connected")
        await grace.close()
