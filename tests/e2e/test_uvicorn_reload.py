"""A reload under uvicorn: people's own clients come back by themselves, and the log has no error."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from firefox import Firefox
from playwright.async_api import Browser
from real_clients import CLIENTS, Chromium, Client, Gecko, InBrowser
from served import served
from support import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

APP = """
from sse_fast import Settings, create_app

app = create_app(Settings(retry=200))
"""


async def test_clients_come_back_after_a_reload_that_logs_no_error(
    browser: Browser, firefox: Firefox, tmp_path: Path
) -> None:
    source = tmp_path / "reloaded_app.py"
    source.write_text(APP)
    reload = ("--reload", "--reload-dir", str(tmp_path), "--reload-delay", "0.1")
    kinds = [kind for kind in CLIENTS.values() if kind.comes_back]
    browsers = {Chromium.fixture: browser, Gecko.fixture: firefox}
    clients = [kind(browsers[kind.fixture]) if issubclass(kind, InBrowser) else kind() for kind in kinds]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(served("uvicorn", tmp_path, "reloaded_app:app", *reload))
        for client in clients:
            stack.push_async_callback(client.close)
            await client.open(server.url, "news")
            await client.connected()

        source.write_text(APP + "# changed\n")

        async def returned(client: Client) -> None:
            await client.until(lambda: len(client.told("$connected")) == 2, "its return")

        await asyncio.gather(*map(returned, clients))
        answer = await server.http.post("/publish/news", content="after")
        await asyncio.gather(*(client.until_id(answer.json()["id"]) for client in clients))

        assert server.log.count("Started server process") == 2, server.log
        await until(lambda: server.log.count("Finished server process") == 1)
        assert "ERROR" not in server.log
