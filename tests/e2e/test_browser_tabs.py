"""The browser client in real browsers: one stream for all tabs, and every tab gets each event once, in order, whatever
becomes of the tab that holds the stream.

SSE_FAST_TABS_SECONDS=600: all of it in Firefox too, and so long tabs come, hang and die at random, in both.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import PATIENCE, EdgeProcess, Edges
from firefox import Firefox, FirefoxPage
from playwright.async_api import Browser
from playwright.async_api import Error as PlaywrightError
from support import free_port

from sse_fast import js
from sse_fast.transports.life import Transport

pytestmark = pytest.mark.asyncio(loop_scope="session")

TABS = 8  # over HTTP/1.1 browsers allow six connections to an origin
SECONDS = float(os.environ.get("SSE_FAST_TABS_SECONDS", "0"))
IN_BOTH = pytest.mark.parametrize("any_browser", ["browser", "firefox"], ids=["Chromium", "Firefox"], indirect=True)
IN_ONE = IN_BOTH if SECONDS else pytest.mark.parametrize("any_browser", ["browser"], ids=["Chromium"], indirect=True)
LONGER = pytest.mark.skipif(not SECONDS, reason="the longer form: SSE_FAST_TABS_SECONDS")
SECRET = "a secret for these tests, thirty-two bytes at least"
OPEN = """async ([source, options, claims]) => {
    const { connect } = await import("/client.js");
    const log = { seen: [], told: [], states: [], tokens: 0 };
    if (claims) options.getToken = async () => claims[Math.min(log.tokens++, claims.length - 1)];
    const stream = connect(source, {
        ...options,
        onEvent: ({ data }) => log.seen.push(Number(data)),
        onGap: (gap) => log.told.push(["gap", gap]),
        onReconnect: ({ resume }) => log.told.push(["again", resume]),
        onError: (error) => log.told.push(["error", String(error)]),
        onState: ({ name, until, why }) => log.states.push([name, until ?? null, why ?? null]),
    });
    Object.assign(window, { log, stream });
}"""


class OperatedEdge(EdgeProcess):
    """One that is asked by its operator at a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.operations = free_port()
        flags = ("--retry", "100", "--operations-port", str(self.operations))
        super().__init__(directory, flags, Transport.NATIVE)

    def operate(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.operations, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path)
            response = connection.getresponse()
            assert response.status == 200
            return json.loads(response.read())

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.operate("GET", "/stats")
        return stats


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedEdge]:
    server = OperatedEdge(tmp_path_factory.mktemp("tabs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(shared: OperatedEdge) -> OperatedEdge:
    """Nobody listens yet."""
    shared.wait_connections(0)
    return shared


async def stand_at(page: Any, url: str) -> None:
    await (page.stand_at if isinstance(page, FirefoxPage) else page.goto)(url)


class Tabs:
    """Tabs of one browser at one edge."""

    def __init__(self, server: EdgeProcess, pages: list[Any]) -> None:
        self.server, self.pages = server, pages

    @classmethod
    @asynccontextmanager
    async def opened(cls, browser: Any, server: EdgeProcess, count: int = TABS) -> "AsyncIterator[Tabs]":
        if isinstance(browser, Firefox):
            tabs = cls(server, await browser.new_tabs(count))
            close: Callable[[], Any] | None = None
        else:
            context = await browser.new_context()
            tabs = cls(server, [await context.new_page() for _ in range(count)])
            close = context.close
        await asyncio.gather(*(stand_at(page, f"{server.url}/livez") for page in tabs.pages))
        try:
            yield tabs
        finally:
            for page in tabs.pages:
                with contextlib.suppress(PlaywrightError, RuntimeError):
                    await page.close()
            if close is not None:
                await close()

    async def listen(self, page: Any, source: Any = "/sse/a", **options: Any) -> None:
        claims = options.pop("claims", None)
        await page.evaluate(OPEN, [source, {"shareAcrossTabs": True} | options, claims])

    async def listen_all(self, **options: Any) -> None:
        for page in self.pages:
            await self.listen(page, **options)
            await page.wait_for_function("stream.state.name === 'open'")

    async def seen(self, page: Any) -> list[int]:
        seen: list[int] = await page.evaluate("() => log.seen")
        return seen


class Publisher:
    """Publishes 0, 1, 2, … all the while."""

    def __init__(self, server: EdgeProcess) -> None:
        self._server = server
        self.count = 0
        self.ids: list[str] = []

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._publish())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _publish(self) -> None:
        while True:
            await self.once()
            await asyncio.sleep(0.01)

    async def once(self) -> None:
        number, self.count = self.count, self.count + 1
        sent = asyncio.ensure_future(asyncio.to_thread(self._server.publish, "a", number))
        try:
            self.ids.append(await asyncio.shield(sent))
        except asyncio.CancelledError:
            self.ids.append(await sent)
            raise

    async def reaches(self, page: Any) -> None:
        """The page has all that is published by now."""
        await page.wait_for_function(f"log.seen.at(-1) >= {self.count - 1}")


async def assert_ledgers(publisher: Publisher, tabs: Tabs, pages: list[Any], first: int = 0) -> None:
    """Each of these pages has had every event from the first on, once, in order, and no gap."""
    for page in pages:
        await publisher.reaches(page)
        assert await tabs.seen(page) == list(range(first, publisher.count)), tabs.pages.index(page)
        assert [told for told in await page.evaluate("() => log.told") if told[0] != "again"] == []


async def crash(page: Any) -> None:
    """Its process is gone, without a word."""
    with contextlib.suppress(PlaywrightError):
        await page.goto("chrome://crash", timeout=1000)


async def hang(page: Any, seconds: float) -> asyncio.Task[Any]:
    """It neither answers nor reads for so long, and lives on."""
    busy = f"() => {{ const end = performance.now() + {1000 * seconds}; while (performance.now() < end); }}"
    return asyncio.create_task(page.evaluate(busy))


@IN_BOTH
async def test_eight_tabs_have_every_event_once_over_one_connection_whoever_dies(
    server: OperatedEdge, any_browser: Any
) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(any_browser, server) as tabs:
        await tabs.listen_all()
        server.wait_connections(1)
        left = list(tabs.pages)
        async with publisher.publishing():
            for page in left:
                await page.wait_for_function("log.seen.length > 3")
            assert server.stats()["connections"] == 1
            closed, crashed, gone, *left = left  # each holds the stream when its turn comes: locks are first come
            ways = [closed.close, lambda: gone.goto("about:blank")]
            if isinstance(any_browser, Browser):
                ways.insert(1, lambda: crash(crashed))
            else:
                left.insert(0, crashed)
            for die in ways:
                await die()
                await publisher.reaches(left[-1])
        await assert_ledgers(publisher, tabs, left)
        server.wait_connections(1)


@LONGER
@IN_BOTH
async def test_beside_a_leader_that_hangs_another_leads_and_it_follows_when_it_is_back(
    server: OperatedEdge, any_browser: Any
) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(any_browser, server, 3) as tabs:
        leader, follower, late = tabs.pages
        for page in (leader, follower):
            await tabs.listen(page)
            await page.wait_for_function("stream.state.name === 'open'")
        await publisher.once()
        hanging = await hang(leader, 3)
        async with publisher.publishing():
            await tabs.listen(late, lastEventId=publisher.ids[0])
            await late.wait_for_function("log.seen.length > 3")
            await follower.wait_for_function("log.seen.length > 3")
            assert not hanging.done()
            await hanging
            await leader.wait_for_function("log.seen.length > 3")
        await assert_ledgers(publisher, tabs, [leader, follower])
        await assert_ledgers(publisher, tabs, [late], first=1)
        await asyncio.to_thread(server.wait_connections, 1)


@IN_ONE
async def test_a_late_tab_begins_where_it_says_and_the_others_get_nothing_twice(
    server: OperatedEdge, any_browser: Any
) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(any_browser, server, 5) as tabs:
        first, behind, ahead, live, recent = tabs.pages
        await publisher.once()
        await tabs.listen(first, lastEventId=publisher.ids[0])
        async with publisher.publishing():
            await first.wait_for_function("log.seen.length > 8")
            await tabs.listen(behind, lastEventId=publisher.ids[2])
            await tabs.listen(live)
            await live.wait_for_function("log.seen.length > 2")
        await tabs.listen(ahead, lastEventId=publisher.ids[-1])
        await ahead.wait_for_function("stream.state.name === 'open'")
        for _ in range(3):
            await publisher.once()
        await assert_ledgers(publisher, tabs, [first], first=1)
        await assert_ledgers(publisher, tabs, [behind], first=3)
        await assert_ledgers(publisher, tabs, [ahead], first=publisher.count - 3)
        seen = await tabs.seen(live)
        assert seen == list(range(seen[0], publisher.count))
        server.wait_connections(1)
        # Another URL is another stream: one with history is shared with its like.
        await tabs.listen(recent, "/sse/a?history=5")
        await recent.wait_for_function("log.seen.length === 5")
        await tabs.listen(live, "/sse/a?history=5")
        await live.wait_for_function("log.seen.length === 5")
        await publisher.once()
        await assert_ledgers(publisher, tabs, [recent, live], first=publisher.count - 6)
        server.wait_connections(2)


def token(user: str, seconds: float) -> str:
    claims = {"sub": user, "exp": time.time() + seconds, "sse": {"subscribe": ["a"]}}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@IN_ONE
async def test_tabs_of_one_user_share_whenever_their_tokens_were_signed_and_renew_them_in_silence(
    edge: Edges, any_browser: Any
) -> None:
    server = edge("--token-secret", SECRET, "--token-leeway", "0", "--grant-publish", "**", "--retry", "100")
    publisher = Publisher(server)
    async with Tabs.opened(any_browser, server, 3) as tabs:
        ann, too, bob = tabs.pages
        await tabs.listen(ann, claims=[token("ann", 6), token("ann", 6), token("ann", 3600)])
        await ann.wait_for_function("stream.state.name === 'open'")  # the shared stream is hers
        await tabs.listen(too, claims=[token("ann", 3600)])
        await tabs.listen(bob, claims=[token("bob", 3600)])
        for page in tabs.pages:
            await page.wait_for_function("stream.state.name === 'open'")
        server.wait_connections(2)
        async with publisher.publishing():
            await ann.wait_for_function("log.told.length")
        assert await ann.evaluate("() => log.told") == [["again", "complete"]]
        assert await ann.evaluate("() => log.states.map(([name]) => name)") == ["connecting", "open"]
        await assert_ledgers(publisher, tabs, tabs.pages)
        server.wait_connections(2)


async def test_it_waits_while_the_browser_is_offline_and_then_goes_on(server: OperatedEdge, browser: Browser) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(browser, server, 2) as tabs:
        leader, follower = tabs.pages
        await tabs.listen_all()
        await publisher.once()
        await publisher.reaches(follower)
        await leader.context.set_offline(True)
        server.operate("DELETE", "/streams?channel=a")
        for page in tabs.pages:
            await page.wait_for_function("stream.state.name === 'waiting' && stream.state.until === null")
        for _ in range(3):
            await publisher.once()
        assert server.stats()["connections"] == 0
        await leader.context.set_offline(False)
        await assert_ledgers(publisher, tabs, tabs.pages)
        # A wait that is not over is, when somebody looks: here at the other tab.
        status, body = server.request("POST", "/publish/a?retry=60000", str(publisher.count).encode())
        assert status == 200, body
        publisher.count += 1
        await publisher.reaches(follower)
        server.operate("DELETE", "/streams?channel=a")
        await follower.wait_for_function("stream.state.name === 'waiting' && stream.state.until > Date.now() + 30000")
        await follower.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        await publisher.once()
        await assert_ledgers(publisher, tabs, tabs.pages)


@IN_ONE
async def test_after_a_sleep_it_does_not_trust_the_connection_it_had(server: OperatedEdge, any_browser: Any) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(any_browser, server, 2) as tabs:
        await tabs.listen_all(source={"channels": ["a"]})  # of the edge that served the module
        await publisher.once()
        await publisher.reaches(tabs.pages[1])
        for page in tabs.pages:
            await page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3600000; }")
        for page in tabs.pages:
            await page.wait_for_function("log.told.length")
        await publisher.once()
        await assert_ledgers(publisher, tabs, tabs.pages)
        assert await tabs.pages[0].evaluate("() => log.told") == [["again", "complete"]]
        server.wait_connections(1)


async def test_a_tab_that_is_frozen_or_put_aside_hands_the_stream_on_and_catches_up(
    server: OperatedEdge, browser: Browser
) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(browser, server, 3) as tabs:
        await tabs.listen_all()
        frozen, *others = tabs.pages
        devtools = await frozen.context.new_cdp_session(frozen)
        async with publisher.publishing():
            await frozen.wait_for_function("log.seen.length > 3")
            await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
            before = publisher.count
            for page in others:
                await page.wait_for_function(f"log.seen.at(-1) > {before + 5}")
            server.wait_connections(1)
            await devtools.send("Page.setWebLifecycleState", {"state": "active"})
            await publisher.reaches(frozen)
            # Gone into the browser's cache of pages, and come back: the tab that leads by now.
            leader = others[0]
            await leader.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
            assert await leader.evaluate("() => stream.state.name") == "waiting"
            before = publisher.count
            await others[1].wait_for_function(f"log.seen.at(-1) > {before + 5}")
            await leader.evaluate("() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        await assert_ledgers(publisher, tabs, tabs.pages)
        server.wait_connections(1)


async def test_the_policy_of_the_live_page_lets_it_run_by_its_hash(server: OperatedEdge, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(server.url)
    load = """([src, integrity]) => new Promise((done) => {
        const script = Object.assign(document.createElement("script"), { type: "module", src, integrity });
        script.onload = () => done("ran");
        script.onerror = () => done("refused");
        document.head.append(script);
    })"""
    assert await page.evaluate(load, [f"/{js.NAME}", js.INTEGRITY]) == "ran"
    assert await page.evaluate(load, ["/client.js", ""]) == "refused"
    await page.close()


@LONGER
@IN_BOTH
async def test_over_a_restart_every_tab_is_told_of_the_gap_once(server: OperatedEdge, any_browser: Any) -> None:
    publisher = Publisher(server)
    async with Tabs.opened(any_browser, server, 3) as tabs:
        await tabs.listen_all()
        await publisher.once()
        for page in tabs.pages:
            await publisher.reaches(page)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await publisher.once()
        for page in tabs.pages:
            await page.wait_for_function("log.seen.length === 2")
            told = await page.evaluate("() => log.told.filter(([what]) => what === 'gap')")
            assert [gap["after"] for _, gap in told] == publisher.ids[:1]
        server.wait_connections(1)


@LONGER
@IN_BOTH
async def test_tabs_come_hang_and_die_at_random_and_nobody_misses_anything(
    server: OperatedEdge, any_browser: Any, rng: random.Random
) -> None:
    publisher = Publisher(server)
    deadline = time.monotonic() + SECONDS
    async with Tabs.opened(any_browser, server, 2) as tabs:
        async with publisher.publishing():
            await asyncio.sleep(0.5)
            for page in tabs.pages:
                await tabs.listen(page, lastEventId=publisher.ids[0])
            starts = dict.fromkeys(tabs.pages, 1)
            while time.monotonic() < deadline:
                page = rng.choice(list(starts))
                match rng.choice(("open", "open", "close", "crash", "hang", "leave", "look")):
                    case "open" if len(starts) < TABS:
                        new = await (page.another() if isinstance(page, FirefoxPage) else page.context.new_page())
                        tabs.pages.append(new)
                        await stand_at(new, f"{server.url}/livez")
                        first = max(0, len(publisher.ids) - rng.choice((1, 5, 500)))
                        await tabs.listen(new, lastEventId=publisher.ids[first])
                        starts[new] = first + 1
                    case "close" if len(starts) > 2:
                        del starts[page]
                        await page.close()
                    case "crash" if len(starts) > 2 and isinstance(any_browser, Browser):
                        del starts[page]
                        await crash(page)
                    case "leave" if len(starts) > 2:
                        del starts[page]
                        await page.goto("about:blank")
                    case "hang":
                        await (await hang(page, rng.choice((0.1, 2, 5))))
                    case _:
                        await publisher.reaches(page)
                await asyncio.sleep(rng.choice((0, 0.01, 0.3)))
        for page, first in starts.items():
            await assert_ledgers(publisher, tabs, [page], first)
