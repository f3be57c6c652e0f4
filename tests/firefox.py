"""Headless Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), as Playwright drives none that a
distribution has. A page can do what the tests use of Playwright's.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

PATIENCE = 30.0  # seconds; a browser starts slowly on a busy machine
PREFERENCES = {
    "dom.server-events.default-reconnection-time": 500,  # ms; of a stream that was cut before it could name a time
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}
CALL = "async (given) => {{ const result = await ({})(JSON.parse(given)); return JSON.stringify(result ?? null); }}"
EXPOSE = "(say) => {{ window.{} = (value) => {{ say(JSON.stringify(value)); }}; }}"


class Firefox:
    """A running browser; `page()` opens a tab with cookies of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._commands = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.said: dict[str, Callable[[Any], None]] = {}  # by channel: who is called with what a page says
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def running(cls, program: str, profile: Path) -> AsyncIterator[Self]:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        process = await asyncio.create_subprocess_exec(
            *(program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while (found := re.search(rb"ws://\S+", line := await process.stderr.readline())) is None:
                    assert line, "Firefox ended at once"
            rest = asyncio.create_task(process.stderr.read())  # or it would wait for somebody to read it
            address = f"{found[0].decode()}/session"
            async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                firefox = cls(socket)
                await firefox.do("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
                await firefox.do("session.subscribe", events=["script.message", "network.beforeRequestSent"])
                yield firefox
                firefox._reading.cancel()
            rest.cancel()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if told["type"] == "event" and told["method"] == "script.message":
                told = told["params"]
                self.said[told["channel"]](json.loads(told["data"]["value"]))
            elif told["type"] == "event" and told["params"]["isBlocked"]:
                asked = told["params"]["request"]["request"]
                empty = [{"name": "content-type", "value": {"type": "string", "value": "text/html"}}]
                self._answering = asyncio.create_task(
                    self.do("network.provideResponse", request=asked, statusCode=200, headers=empty)
                )
            elif told["type"] == "event":
                pass
            elif not (answer := self._answers.pop(told["id"])).done():
                answer.set_result(told)

    async def do(self, method: str, **parameters: Any) -> Any:
        """A command of the protocol, and its result. Raises RuntimeError."""
        self._commands += 1
        answer = self._answers[self._commands] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._commands, "method": method, "params": parameters})
        told = await answer
        if told["type"] == "error":
            raise RuntimeError(f"{method}: {told['error']}: {told['message']}")
        return told["result"]

    async def new_page(self) -> "FirefoxPage":
        user = (await self.do("browser.createUserContext"))["userContext"]
        tab = (await self.do("browsingContext.create", type="tab", userContext=user))["context"]
        return FirefoxPage(self, user, tab)

    async def new_tabs(self, count: int) -> "list[FirefoxPage]":
        """Tabs with the same cookies and storage; each is closed by itself."""
        user = (await self.do("browser.createUserContext"))["userContext"]
        return [await self.new_tab(user) for _ in range(count)]

    async def new_tab(self, user: str) -> "FirefoxPage":
        tab = (await self.do("browsingContext.create", type="tab", userContext=user))["context"]
        return FirefoxPage(self, user, tab, alone=False)


class FirefoxPage:
    """A tab, by the names of Playwright's `Page`."""

    def __init__(self, firefox: Firefox, user: str, tab: str, *, alone: bool = True) -> None:
        self._firefox, self._user, self._tab, self._alone = firefox, user, tab, alone

    async def goto(self, url: str) -> None:
        await self._firefox.do("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def stand_at(self, url: str) -> None:
        """Open an empty page there, whatever the server has: Firefox shows JSON in a page that may open no streams."""
        at = [{"type": "string", "pattern": url}]
        phases = ["beforeRequestSent"]
        intercept = await self._firefox.do("network.addIntercept", phases=phases, urlPatterns=at, contexts=[self._tab])
        await self.goto(url)
        await self._firefox.do("network.removeIntercept", intercept=intercept["intercept"])

    async def evaluate(self, function: str, argument: Any = None) -> Any:
        """What the JavaScript function, or expression, makes of the argument; promises are awaited."""
        function = function if "=>" in function else f"() => {function}"
        given = {"type": "string", "value": json.dumps(argument)}
        return json.loads((await self._call(CALL.format(function), given))["value"])

    async def expose_function(self, name: str, function: Callable[[Any], None]) -> None:
        """Make `function` callable by the page that is open, as `window[name]`."""
        channel = f"{name} of {self._tab}"
        self._firefox.said[channel] = function
        await self._call(EXPOSE.format(name), {"type": "channel", "value": {"channel": channel}})

    async def wait_for_function(self, expression: str) -> None:
        await self.evaluate(
            f"""() => new Promise((done) => {{
                const look = () => {{ if ({expression}) done(); else setTimeout(look, 20); }};
                look();
            }})"""
        )

    async def _call(self, function: str, argument: dict[str, Any]) -> Any:
        called = await self._firefox.do(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[argument],
            target={"context": self._tab},
            awaitPromise=True,
        )
        if called["type"] == "exception":
            raise RuntimeError(called["exceptionDetails"]["text"])
        return called["result"]

    async def another(self) -> "FirefoxPage":
        """One more tab with the same cookies and storage."""
        return await self._firefox.new_tab(self._user)

    async def close(self) -> None:
        if self._alone:
            await self._firefox.do("browser.removeUserContext", userContext=self._user)
        else:
            await self._firefox.do("browsingContext.close", context=self._tab)
