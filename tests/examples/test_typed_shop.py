"""The shop with typed events: from its database to eight tabs of a real browser, over one stream."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect
from served import served

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLE = Path(__file__).parents[2] / "examples" / "typed_shop"
TABS = 8


async def show(tabs: list[Page], *comments: str) -> None:
    """Wait until each tab shows these comments."""
    await asyncio.gather(*(expect(tab.locator("li span")).to_have_text(list(comments)) for tab in tabs))


async def test_a_comment_is_in_the_database_and_in_eight_tabs_over_one_stream(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "shop.db"))
    monkeypatch.chdir(tmp_path)
    async with served("sse_fast", EXAMPLE, "main:app", "--schema", "main") as shop:
        first = await shop.http.post("/items/7/comments", json={"author": "ada", "text": "before anybody looked"})
        assert first.status_code == 201
        context = await browser.new_context()
        complaints: list[str] = []
        try:
            tabs = [await context.new_page() for _ in range(TABS)]
            for tab in tabs:
                tab.on("pageerror", lambda error: complaints.append(str(error)))
            await asyncio.gather(*(tab.goto(f"{shop.url}/items/7") for tab in tabs))
            await show(tabs, "before anybody looked")

            await tabs[3].get_by_label("Your name").fill("grace")
            await tabs[3].get_by_label("Comment").fill("<b>from a tab</b>")
            await tabs[3].get_by_role("button", name="Comment").click()
            await show(tabs, "before anybody looked", "<b>from a tab</b>")
            assert (await shop.http.get("/edge/stats")).json()["connections"] == 1
            with sqlite3.connect(tmp_path / "shop.db") as database:
                assert database.execute("SELECT author FROM comments").fetchall() == [("ada",), ("grace",)]

            # A stranger's event goes to the tabs if it is one of the channel's, and is refused otherwise.
            wrong = await shop.http.post("/edge/publish/item/7?event=CommentRemoved", content='{"id":"1"}')
            assert wrong.status_code == 400
            assert wrong.json()["detail"] == "CommentRemoved: data.id is a string, not a whole number"
            right = await shop.http.post("/edge/publish/item/7?event=CommentRemoved", content='{"id":1}')
            assert right.status_code == 200
            await show(tabs, "<b>from a tab</b>")
            assert complaints == []
        finally:
            await context.close()
        log = shop.log
    assert "Traceback" not in log
