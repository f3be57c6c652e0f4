"""What a relay follows: redirects, refusals, delays, credentials."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from scripted_source import ScriptedSource, said, scripted_source

from sse_fast.client.failures import Refused, shown
from sse_fast.client.relay_source import Item, Source

SECRETS = {"X-Api-Key": "secret", "Cookie": "session=1"}


@pytest.fixture
async def source() -> AsyncIterator[ScriptedSource]:
    async with scripted_source() as source:
        yield source


@pytest.fixture
async def other() -> AsyncIterator[ScriptedSource]:
    async with scripted_source() as source:
        yield source


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEFAULT_RETRY", "SHORTEST_PAUSE", "LONGEST_BACKOFF"):
        monkeypatch.setattr(f"sse_fast.client.relay_source.{name}", 0.001)


class Following:
    """Reads a source until it ends; what it said, and what it ended with."""

    def __init__(self, url: str, **options: Any) -> None:
        self.source = Source(url, **options)
        self.items: list[Item] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with aclosing(self.source.items()) as items:
            async for item in items:
                self.items.append(item)

    @property
    def data(self) -> list[str]:
        return [item.event.data for item in self.items if item.event is not None]

    async def ends(self) -> None:
        try:
            async with asyncio.timeout(30):
                await self._task
        finally:
            await self.source.close()

    async def refused(self) -> str:
        with pytest.raises(Refused) as error:
            await self.ends()
        return str(error.value)


async def test_credentials_follow_a_redirect_within_an_origin_and_to_no_other(
    source: ScriptedSource, other: ScriptedSource
) -> None:
    following = Following(source.url, headers=SECRETS, token=lambda: "token", cross_origin=True)
    await (await source.connection()).answer("307 Temporary Redirect", "Location: /moved?x=1")
    moved = await source.connection()
    assert moved.target == "/moved?x=1"
    assert (moved.headers["x-api-key"], moved.headers["authorization"]) == ("secret", "Bearer token")
    await moved.answer("302 Found", f"Location: {other.url}")
    elsewhere = await other.streamed(said("1", "a"))
    assert not {"x-api-key", "authorization", "cookie"} & elsewhere.headers.keys()
    elsewhere.end()
    # It asks where it was told to, each time, and there with its credentials.
    again = await source.connection()
    assert (again.target, again.last_event_id, again.headers["x-api-key"]) == ("/stream", "a", "secret")
    await again.answer("204 No Content")
    await following.ends()
    assert following.data == ["1"]


async def test_a_redirect_back_brings_no_credentials(source: ScriptedSource, other: ScriptedSource) -> None:
    following = Following(source.url, headers=SECRETS, cross_origin=True)
    await (await source.connection()).answer("301 Moved Permanently", f"Location: {other.url}")
    await (await other.connection()).answer("301 Moved Permanently", f"Location: {source.url}?evil")
    back = await source.connection()
    assert not {"x-api-key", "cookie"} & back.headers.keys()
    await back.answer("204 No Content")
    await following.ends()


@pytest.mark.parametrize(
    ("status", "location", "words"),
    [
        ("302 Found", "file:///etc/passwd", "redirects to file:, where there are no event streams"),
        ("308 Permanent Redirect", "/stream", "redirects more than 5 times"),
    ],
)
async def test_redirects_that_lead_nowhere_are_refused(
    source: ScriptedSource, status: str, location: str, words: str
) -> None:
    following = Following(source.url)
    while not following._task.done():
        answering = asyncio.create_task(source.connection())
        await asyncio.wait((answering, following._task), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            await answering.result().answer(status, f"Location: {location}")
        answering.cancel()
    assert words in await following.refused()
    assert len(source.connections) <= 6


async def test_from_https_nobody_is_led_to_http() -> None:
    from httpx import URL

    from sse_fast.client.relay_source import redirected

    with pytest.raises(Refused, match="from https: to http:"):
        redirected(URL("https://a.example/stream"), "http://a.example/stream", "https://a.example/stream")


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        ("404 Not Found", (), "404 Not Found"),
        ("401 Unauthorized", (), "401 Unauthorized"),
        ("200 OK", ("Content-Type: text/html",), "answers text/html, not text/event-stream"),
        ("200 OK", ("Content-Type: text/event-stream", "Content-Encoding: gzip"), "compresses (gzip)"),
    ],
)
async def test_what_is_no_stream_and_will_be_none_ends_it(
    source: ScriptedSource, status: str, headers: tuple[str, ...], words: str
) -> None:
    following = Following(f"{source.url}?token=secret")
    await (await source.connection()).answer(status, *headers, body=b"{}")
    said = await following.refused()
    assert words in said
    assert "secret" not in said


@pytest.mark.parametrize("status", ["500 Oops", "503 Service Unavailable", "429 Too Many Requests", "408 Timeout"])
async def test_what_may_pass_is_tried_again(source: ScriptedSource, status: str) -> None:
    following = Following(source.url)
    await (await source.connection()).answer(status)
    await (await source.streamed(said("1", "a"))).say("event: $closing\ndata: {}\n\n")
    source.connections[-1].end()
    await (await source.connection()).answer("204 No Content")
    await following.ends()
    assert following.data == ["1"]
    assert (following.source.stats.connections, following.source.stats.failures) == (1, 1)


async def test_an_event_that_is_too_large_ends_it_as_it_would_come_again(source: ScriptedSource) -> None:
    following = Following(source.url, max_event_size=1024)
    await source.streamed(said("1", "a"), said("x" * 2000, "b"))
    assert "raise what an event may have" in await following.refused()
    assert following.data == ["1"]


async def test_silence_is_taken_for_the_end(source: ScriptedSource) -> None:
    following = Following(source.url, silence=0.05)
    await source.streamed(said("1", "a"))
    assert (await source.connection()).last_event_id == "a"
    following._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following.ends()


async def test_an_id_that_no_header_can_carry_is_not_sent_back(source: ScriptedSource) -> None:
    following = Following(source.url)
    (await source.streamed(said("1", "ä☃"), said("2", "x\x01"), said("3", "y" * 2000))).end()
    again = await source.connection()
    assert again.last_event_id == "ä☃"
    await again.answer("204 No Content")
    await following.ends()
    assert [item.id for item in following.items if item.event] == ["ä☃"] * 3


@pytest.fixture
def still() -> Iterator[Source]:
    source = Source("http://127.0.0.1:1/", jitter=lambda: 1.0)
    yield source
    asyncio.run(source.close())


def test_pauses_double_from_what_the_source_asks_for_and_no_source_asks_for_hours(
    still: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sse_fast.client.relay_source.LONGEST_BACKOFF", 30.0)
    still.retry = 2.0
    assert [still.backoff(failures) for failures in (1, 2, 3, 9)] == [2.0, 4.0, 8.0, 30.0]
    still.retry = 86_400.0
    assert still.backoff(1) == 300.0
    still.retry = 0.0
    assert still.backoff(1) > 0


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://me:secret@a.example:8443/x?token=secret#y") == "https://a.example:8443/x"
    assert shown("http://[::1]:80/") == "http://[::1]:80/"
