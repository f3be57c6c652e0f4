"""Clients that people use, behind one face: each is handed a URL and says what it was handed."""

import asyncio
import contextlib
import functools
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from conftest import PATIENCE, missing, program
from httpx_sse import aconnect_sse
from whatwg import Event, Parser

NODE = Path(__file__).parent.parent / "node"
TYPES = ("price", "größe", "$connected", "$gap", "$closing")
"""The event types that a client listens to which has to name them."""


class Client(ABC):
    """One listener to one channel. `events`: what it was handed, the server's own events included."""

    name: ClassVar[str]
    comes_back: ClassVar[bool] = True

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.states: list[str] = []
        self._news = asyncio.Event()

    @abstractmethod
    async def open(self, base: str, channel: str) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    def got(self, happening: dict[str, Any]) -> None:
        if "state" in happening:
            self.states.append(happening["state"])
        else:
            self.events.append(Event(happening["type"], happening["data"], happening["id"]))
        self._news.set()

    @property
    def received(self) -> list[Event]:
        """The published ones."""
        return [event for event in self.events if not event.type.startswith("$")]

    @property
    def ids(self) -> list[str]:
        return [event.last_event_id for event in self.received]

    def told(self, type: str) -> list[Event]:
        return [event for event in self.events if event.type == type]

    async def until(self, ready: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not ready():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = "\n".join(str(event)[:200] for event in self.events[-10:])
            raise AssertionError(
                f"{self.name} waited in vain for {what}; states {self.states}; last:\n{last}"
            ) from None

    async def connected(self) -> None:
        await self.until(lambda: bool(self.told("$connected")), "$connected")

    async def until_id(self, id: str) -> None:
        await self.until(lambda: id in self.ids, f"the event {id}")


class Process(Client):
    """A client in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @abstractmethod
    def command(self, base: str, channel: str) -> list[str]: ...

    async def open(self, base: str, channel: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self.command(base, channel),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd=NODE,
            limit=1024 * 1024,
        )
        assert self._process.stdout is not None
        self._reading = asyncio.create_task(self.read(self._process.stdout))

    async def read(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            self.got(json.loads(line))

    async def close(self) -> None:
        if self._process is not None and self._reading is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            await self._reading


class NodeEventSource(Process):
    name = "npm eventsource"
    script = "eventsource"

    def command(self, base: str, channel: str) -> list[str]:
        node = program("node")
        if not (NODE / "node_modules").is_dir():
            missing("tests/node/node_modules (npm install --no-package-lock in tests/node)")
        return [node, f"{self.script}.mjs", f"{base}/sse/{channel}", *TYPES]


class FetchEventSource(NodeEventSource):
    name = "fetch-event-source"
    script = "fetch-event-source"


class Listen(Process):
    name = "sse-fast listen"

    def command(self, base: str, channel: str) -> list[str]:
        return [sys.executable, "-m", "sse_fast", "listen", channel, "--json", "--verbose", "--url", base]

    def got(self, happening: dict[str, Any]) -> None:
        super().got(happening | {"type": happening["event"]})


class Curl(Process):
    name = "curl -N"
    comes_back = False

    def __init__(self, last_event_id: str | None = None) -> None:
        super().__init__()
        self.last_event_id = last_event_id

    def command(self, base: str, channel: str) -> list[str]:
        resume = [] if self.last_event_id is None else ["-H", f"Last-Event-ID: {self.last_event_id}"]
        return [program("curl"), "-sN", *resume, f"{base}/sse/{channel}"]

    async def read(self, stdout: asyncio.StreamReader) -> None:
        parser = Parser()
        while received := await stdout.read(65536):
            for event in parser.feed(received):
                self.got({"type": event.type, "data": event.data, "id": event.last_event_id})
        self.got({"state": "closed"})


class HttpxSse(Client):
    """httpx-sse does not come back by itself; this is the loop that its README describes."""

    name = "httpx-sse"
    client_options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._task: asyncio.Task[None] | None = None

    async def open(self, base: str, channel: str) -> None:
        self._task = asyncio.create_task(self._follow(f"{base}/sse/{channel}"))

    async def _follow(self, url: str) -> None:
        last_id, delay = "", 0.0
        async with httpx.AsyncClient(timeout=httpx.Timeout(PATIENCE), **self.client_options) as client:
            while True:
                await asyncio.sleep(delay)
                headers = {"Last-Event-ID": last_id} if last_id else {}
                try:
                    async with aconnect_sse(client, "GET", url, headers=headers) as source:
                        source.response.raise_for_status()
                        async for event in source.aiter_sse():
                            last_id = event.id
                            delay = event.retry / 1000 if event.retry is not None else delay
                            self.got({"type": event.event, "data": event.data, "id": event.id})
                except httpx.TransportError as error:
                    self.got({"state": type(error).__name__})

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


class InBrowser(Client):
    """A browser's EventSource, on a page of the server's own origin."""

    fixture: ClassVar[str]  # that has the browser

    def __init__(self, browser: Any) -> None:
        super().__init__()
        self._browser = browser
        self._page: Any = None

    async def open(self, base: str, channel: str) -> None:
        self._page = await self._browser.new_page()
        await self._stand_at(f"{base}/livez")  # any page of this origin
        await self._page.expose_function("say", self.got)
        await self._page.evaluate(
            """([url, types]) => {
                const source = new EventSource(url);
                source.onerror = () => say({ state: source.readyState === EventSource.CLOSED ? "closed" : "error" });
                for (const type of ["message", ...types])
                    source.addEventListener(type, ({ type, data, lastEventId: id }) => say({ type, data, id }));
            }""",
            [f"{base}/sse/{channel}", TYPES],
        )

    async def _stand_at(self, url: str) -> None:
        await self._page.goto(url)

    async def close(self) -> None:
        if self._page is not None:
            await self._page.close()


class Chromium(InBrowser):
    name = "Chromium"
    fixture = "browser"


class Gecko(InBrowser):
    name = "Firefox"
    fixture = "firefox"

    async def _stand_at(self, url: str) -> None:
        await self._page.stand_at(url)


CLIENTS: dict[str, type[Client]] = {
    each.name: each for each in (NodeEventSource, FetchEventSource, HttpxSse, Listen, Curl, Chromium, Gecko)
}


def maker(request: pytest.FixtureRequest, kind: type[Client]) -> Callable[[], Client]:
    """What makes clients of a kind, with the browser that those in a browser need."""
    if issubclass(kind, InBrowser):
        return functools.partial(kind, request.getfixturevalue(kind.fixture))
    return kind
