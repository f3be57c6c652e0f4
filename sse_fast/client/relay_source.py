"""The source of a relay: any event stream, followed over as many connections as it takes.

Its law: each connection asks for what is behind the last id that was handed out. Where there is none to ask by, what
was missed between two connections is not known, and that is said.

It follows section 9.2 of WHATWG HTML, but comes back also after 408, 425, 429 and 5xx, where a browser gives up; it
follows redirects itself, as what stands for the user at one origin is nobody else's business.
"""

import asyncio
import logging
import random
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import httpx

from sse_fast._native.wire.control import GAP
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast.client.failures import (
    AS_IT_IS,
    Refused,
    Stopped,
    Unavailable,
    check_encoding,
    explain,
    failure_of,
    is_no_http,
    mistrust_of,
    read_of,
    shown,
)
from sse_fast.client.listener import DEFAULT_RETRY, NOTHING_MORE, SENDABLE_ID, SHORTEST_PAUSE, SILENCE, what_closes
from sse_fast.client.relay_mark import can_be_sent, cut
from sse_fast.errors import EventTooLarge

logger = logging.getLogger("sse_fast.relay")

LONGEST_BACKOFF = 30.0  # seconds
LONGEST_ASKED_PAUSE = 300.0  # whatever the source asks for
MAX_EVENT_SIZE = 1024 * 1024
CONNECTING_SECONDS = 10.0
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.1
TOKEN = re.compile(r"[\x21-\x7e]+")
NO_TOKEN = "is not visible ASCII characters alone: a file's line end, perhaps; strip it"
REDIRECTS = {301, 302, 303, 307, 308}
MOST_REDIRECTS = 5
DEFAULT_PORTS = {"http": 80, "https": 443}

WAITING_EVENTS = 1000  # that are read ahead of what is published; then the source has to wait
WAITING_BYTES = 4 * 1024 * 1024


class Item(NamedTuple):
    """event: one to be relayed. lost: events are missing here. id: of the source, as it stands behind this."""

    id: str
    event: ReceivedEvent | None = None
    lost: bool = False

    @property
    def size(self) -> int:
        event = self.event
        return 0 if event is None else len(event.data) + len(event.event) + len(event.id)


@dataclass
class SourceStats:
    """connections: that became a stream. failures: of attempts, one after another, 0 where a stream is open."""

    connections: int = 0
    failures: int = 0


class Source:
    """`items` has what it says, until it says that there is nothing more (204).

    url: of the stream. headers: sent there, and to no other origin. token: sent as `Authorization: Bearer`; made anew
    for each connection, where it is a callable. max_event_size: bytes; a larger event ends it, since it would come
    again. silence: seconds after which it is taken for gone; None: never. cross_origin: follow redirects to other
    origins as well; whoever runs the source could lead it into your own network by one. Raises ValueError for what is
    no address, and for a header or a token that no request can carry.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        token: str | Callable[[], str] | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
        silence: float | None = SILENCE,
        cross_origin: bool = False,
        jitter: Callable[[], float] = lambda: random.uniform(0.7, 1.3),
    ) -> None:
        self.url = checked(url)
        for name, value in (headers or {}).items():
            if not HEADER_NAME.fullmatch(name) or not SENDABLE_ID.fullmatch(value):
                raise ValueError(f"the header {name!r} has a name or a value that no request can carry")
        if isinstance(token, str) and not TOKEN.fullmatch(token):
            raise ValueError(f"the token {NO_TOKEN}")
        self.name = shown(url)
        self.cursor: str | None = None
        """Behind which id it goes on; "": none is known; None: it was not reached yet."""
        self.retry = DEFAULT_RETRY
        self.stats = SourceStats()
        self.refused: Refused | None = None
        """What its answer ended in, where that is no good to ask again."""
        self._headers = dict(headers or {})
        self._token = token
        self._cross_origin = cross_origin
        self._max_event_size = max_event_size
        self._jitter = jitter
        self._not_sendable: str | None = None
        timeout = httpx.Timeout(CONNECTING_SECONDS, read=silence)
        base = str(self.url.copy_with(userinfo=b"", path="/", query=None))  # as errors show it
        self._client = httpx.AsyncClient(base_url=base, timeout=timeout)

    async def close(self) -> None:
        await self._client.aclose()

    async def items(self) -> AsyncGenerator[Item, None]:
        """From behind `cursor`; where that is "", events were missed before the first. Raises Refused."""
        failures = 0
        while True:
            asked_for, closing = 0.0, ""
            try:
                async with self._opened() as response:
                    self.stats.connections += 1
                    logger.info("following %s%s", self.name, f" behind {self.cursor}" if self.cursor else "")
                    if not self.cursor:
                        missed, self.cursor = self.cursor is not None, ""
                        yield Item("", lost=missed)
                    async with aclosing(self._events(response)) as events:
                        async for event in events:
                            closing = "" if event is None else what_closes(event)
                            if not closing:
                                failures = self.stats.failures = 0
                            yield item_of(event, self.cursor or "")
                reason = closing or "the stream ended"
            except Stopped:
                logger.info("%s says that there is nothing more to come", self.name)
                return
            except Refused as error:
                self.refused = error
                raise
            except Unavailable as error:
                reason, asked_for = str(error), error.retry_after
            except EventTooLarge as error:
                raise Refused(f"{self.name}: {error}; raise what an event may have") from error
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.DecodingError) as error:
                raise Refused(f"{self.name}: {error}") from error
            except httpx.TransportError as error:
                if mistrust_of(error) or is_no_http(error):
                    raise Refused(explain(error, self._client)) from error
                reason = closing or explain(error, self._client)
            failures += 1
            self.stats.failures = failures
            pause = max(self.backoff(failures), min(asked_for, LONGEST_ASKED_PAUSE))
            level = logging.WARNING if failures in (3, 10) or failures % 50 == 0 else logging.INFO
            logger.log(level, "%s: %s; trying again in %.1f s", self.name, reason, pause)
            await asyncio.sleep(pause)

    def backoff(self, failures: int) -> float:
        """Seconds before the next attempt: the source's delay, doubled with every further failure up to a limit."""
        delay = min(max(self.retry, SHORTEST_PAUSE), LONGEST_ASKED_PAUSE)
        doubled = min(delay * 2.0 ** min(failures - 1, 20), LONGEST_BACKOFF)
        return max(max(delay, doubled) * self._jitter(), SHORTEST_PAUSE)

    async def _events(self, response: httpx.Response) -> AsyncGenerator[ReceivedEvent | None, None]:
        """None: the id has moved, and there was no event."""
        parser = EventParser(max_event_size=self._max_event_size, last_event_id=self.cursor or "")
        async for piece in response.aiter_raw():
            for event in parser.feed(piece):
                self._move_to(event.id)
                yield event
            before = self.cursor
            self._move_to(parser.last_event_id)
            if self.cursor != before:
                yield None
            if parser.retry is not None:
                self.retry = parser.retry / 1000

    def _move_to(self, id: str) -> None:
        if can_be_sent(id):
            self.cursor = id
        elif id != self._not_sendable:
            self._not_sendable = id
            logger.warning("%s: its id %r can't be sent back; events may come again", self.name, id[:40])

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[httpx.Response]:
        """A stream. Raises as `check`, and what httpx raises."""
        url, own = self.url, dict(self._headers)
        # A proxy that compresses also buffers.
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **AS_IT_IS}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        if self._token is not None:
            token = self._token if isinstance(self._token, str) else self._token()
            if not isinstance(token, str) or not TOKEN.fullmatch(token):
                raise Refused(f"the token for {self.name} {NO_TOKEN}")
            own["Authorization"] = f"Bearer {token}"
        for _ in range(MOST_REDIRECTS + 1):
            raw = {name.encode("ascii"): value.encode() for name, value in {**headers, **own}.items()}
            request = self._client.build_request("GET", url, headers=raw)
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                location = response.headers.get("Location")
                if response.status_code not in REDIRECTS or location is None:
                    await check(response)
                    yield response
                    return
                following = redirected(url, location, self.name)
            finally:
                await response.aclose()
            if origin_of(following) != origin_of(url):
                if not self._cross_origin:
                    where = cut(shown(str(following)))
                    raise Refused(
                        f"{self.name} redirects to another origin, {where}, which is followed only where you say so "
                        "(--cross-origin, cross_origin=True); or name that address yourself"
                    )
                own = {}
            url = following
        raise Refused(f"{self.name} redirects more than {MOST_REDIRECTS} times")


def item_of(event: ReceivedEvent | None, id: str) -> Item:
    """The server's own events are its own affair, but for what they say of events that are gone."""
    if event is None or (event.event.startswith("$") and event.event != GAP):
        return Item(id)
    return Item(id, lost=True) if event.event == GAP else Item(id, event)


async def check(response: httpx.Response) -> None:
    """Raise what an answer other than an event stream means to who follows it."""
    if response.status_code == NOTHING_MORE:
        raise Stopped
    where = shown(str(response.url))
    if response.status_code != 200:
        failure = failure_of(await read_of(response))
        raise failure if isinstance(failure, Unavailable) else type(failure)(f"{where}: {failure}", failure.status)
    media_type = response.headers.get("Content-Type")
    if not EventParser.reads(media_type):
        raise Refused(f"{where} answers {media_type or 'no media type'}, not text/event-stream: another server?")
    check_encoding(response)


def checked(url: str) -> httpx.URL:
    """Raises ValueError, in words that show nothing secret."""
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"this is no URL of an event stream: {error}") from None
    if found.scheme not in ("http", "https") or not found.host:
        raise ValueError("the URL of an event stream begins with http:// or https://, and names a host")
    return found


def redirected(url: httpx.URL, location: str, name: str) -> httpx.URL:
    following = url.join(location)  # what is no URL httpx has found out already
    if following.scheme not in ("http", "https") or not following.host:
        raise Refused(f"{name} redirects to {following.scheme or 'nowhere'}:, where there are no event streams")
    if url.scheme == "https" and following.scheme == "http":
        raise Refused(f"{name} redirects from https: to http:, where everybody could read and change what comes")
    return following


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or DEFAULT_PORTS.get(url.scheme)


class Waiting:
    """What was read and is not published yet: bounded, so that a source has to wait where its relay does."""

    def __init__(self, events: int = WAITING_EVENTS, size: int = WAITING_BYTES) -> None:
        self._events, self._most = events, size
        self._items: deque[Item] = deque()
        self._size = 0
        self._changed = asyncio.Condition()
        self._over: BaseException | None = None
        self._ended = False

    async def put(self, item: Item) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._items or (len(self._items) < self._events and self._size + item.size <= self._most)
            )
            self._items.append(item)
            self._size += item.size
            self._changed.notify_all()

    async def end(self, error: BaseException | None = None) -> None:
        async with self._changed:
            self._ended, self._over = True, error
            self._changed.notify_all()

    async def take(self, events: int, size: int, seconds: float) -> list[Item] | None:
        """The next ones, so many at most, and of that size or one; none where none has come in that time. None: that
        was all. Raises what `end` was given, behind all that came before."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._items or self._ended)
        except TimeoutError:
            return []
        async with self._changed:
            if not self._items and self._over is not None:
                raise self._over
            if not self._items:
                return None
            found: list[Item] = []
            while self._items and len(found) < events and (not found or size >= self._items[0].size):
                item = self._items.popleft()
                size -= item.size
                self._size -= item.size
                found.append(item)
            self._changed.notify_all()
            return found
