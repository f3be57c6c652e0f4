"""Another edge as the engine: its log is the log, and this one in front of it has the same events under the same ids.

What it says by a stream of all channels comes into the log here; what is published here is published there. Unlike an
engine that counts for its nodes alone it leaves positions out, those of its own channels, and says itself what is lost.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import orjson

from sse_fast._native.wire.control import CONNECTED, FORGOTTEN, GAP, forgotten
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast._native.wire.frame import encode
from sse_fast.client.failures import Refused, Stopped, Unavailable, explain, failure_of, read_of, shown
from sse_fast.client.publisher import in_quotes
from sse_fast.client.relay_source import check
from sse_fast.cluster.entries import Events, Forgotten, Item, Mark, Missed
from sse_fast.errors import (
    BatchTooLarge,
    EngineRefused,
    EngineTrouble,
    EngineUnavailable,
    EventTooLarge,
    InvalidEvent,
    KeyReused,
)
from sse_fast.event import EventId
from sse_fast.event_rules import Encoded, Keyed

logger = logging.getLogger("sse_fast.cluster")

LARGEST = 32 * 1024 * 1024  # bytes of an event in its envelope
SILENCE = 45.0  # seconds, three heartbeats
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
NEWEST_SECONDS = 1.0  # until an edge that says nothing is taken to have nothing
STREAM = {"pattern": "**", "envelope": "json"}
IN_LOG = {GAP, FORGOTTEN}  # of the types that begin with `$`
REFUSED = {401: EngineTrouble.CREDENTIALS, 403: EngineTrouble.PERMISSIONS, 404: EngineTrouble.ADDRESS}


class Published(NamedTuple):
    ids: Sequence[EventId]
    repeated: int


class Look(NamedTuple):
    last: EventId | None


class Page(NamedTuple):
    items: list[Item]
    after: EventId
    done: bool


class Counts:
    def __init__(self) -> None:
        self.calls = self.failures = self.connections = self.entries_read = self.pages_read = 0
        self.missed = self.marks = 0


class EdgeEngine:
    """EdgeEngine("https://token@inner.example"): the token, if one is needed, grants publishing and listening to all
    that this edge is for. Raises ValueError for what is no URL."""

    sparse = True

    def __init__(self, url: str) -> None:
        given = check_url(url)
        token = given.username or given.password
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        base = given.copy_with(userinfo=b"", query=None)
        self._name = shown(str(base)).rstrip("/")
        timeout = httpx.Timeout(30, connect=5, read=30)
        self._client = httpx.AsyncClient(base_url=base, timeout=timeout, headers=headers)
        self.trouble: EngineUnavailable | None = None
        self.since = 0.0
        self.counts = Counts()
        self.look_of_late: Look | None = None
        self.reading = False

    async def open(self) -> Look:
        try:
            return Look(await self._newest())
        except (httpx.TransportError, Unavailable, Refused, Stopped, EventTooLarge) as error:
            raise self._failed(error) from None

    async def close(self) -> None:
        await self._client.aclose()

    async def _newest(self) -> EventId | None:
        """The id of the newest event; None: there is none."""
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(NEWEST_SECONDS),
                self._stream({**STREAM, "history": "1"}) as response,
                aclosing(events_of(response)) as pieces,
            ):
                async for events in pieces:
                    self._well()
                    for event in events:
                        if event.event != CONNECTED:
                            return EventId.parse(event.id)
        return None

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def window(self, bytes: int, /) -> None:
        return None

    async def follow(self, after: EventId | None) -> AsyncGenerator[list[Item], None]:
        failures = 0
        while True:
            try:
                cursor = str(after) if after is not None else "earliest"
                async with self._stream(STREAM, {"Last-Event-ID": cursor}) as response:
                    self.counts.connections += 1
                    self.reading, failures = True, 0
                    self._well()
                    lost = False
                    async with aclosing(events_of(response, str(after) if after is not None else "")) as pieces:
                        async for events in pieces:
                            items: list[Item] = []
                            for event in events:
                                id = EventId.parse(event.id)
                                if id is None or id == after or (event.event[:1] == "$" and event.event not in IN_LOG):
                                    continue
                                goes_on = after is not None and after.epoch == id.epoch
                                if event.event == GAP:
                                    if after is not None and goes_on:
                                        items.append(Missed(after, id))
                                        after = id
                                    self.counts.missed += 1
                                    lost = True
                                    continue
                                if after is not None and not goes_on and not lost:  # the same log, of the next server
                                    items.append(Mark(id.epoch, after, now()))
                                    self.counts.marks += 1
                                items.append(item_of(event, id))
                                after, lost = id, False
                                self.counts.entries_read += 1
                            if items:
                                yield items
            except (httpx.TransportError, Unavailable, Refused, Stopped, EventTooLarge) as error:
                self._failed(error)
            finally:
                self.reading = False
            failures += 1
            pause = min(SHORTEST_PAUSE * 2.0 ** min(failures, 20), LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))

    @asynccontextmanager
    async def _stream(
        self, query: dict[str, str], headers: Mapping[str, str] = MappingProxyType({})
    ) -> AsyncIterator[httpx.Response]:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **headers}
        timeout = httpx.Timeout(30, connect=5, read=SILENCE)
        async with self._client.stream("GET", "/sse", params=query, headers=headers, timeout=timeout) as response:
            await check(response)
            yield response

    async def page(self, after: EventId, until: EventId | None = None) -> Page:
        raise EngineUnavailable("pages are not read of another edge", EngineTrouble.OTHER)

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def publish(self, events: Sequence[Encoded], keys: str | Mapping[int, str] | None = None) -> Published:
        key = keys if isinstance(keys, str) else None
        of_events = keys if isinstance(keys, Mapping) else {}
        lines = [line_of(event, of_events.get(place)) for place, event in enumerate(events)]
        headers = {"Content-Type": "application/x-ndjson"}
        if key is not None:
            headers["Idempotency-Key"] = in_quotes(key)
        self.counts.calls += 1
        answer = await self._asked("POST", "/publish", headers=headers, content=b"\n".join(lines))
        return Published([self._id(id) for id in answer.get("ids", ())], int(answer.get("repeated", 0)))

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        answer = await self._asked("DELETE", f"/channels/{quote(channel.decode(), safe='')}")
        return self._id(answer.get("id"))

    def _id(self, given: object) -> EventId:
        id = EventId.parse(str(given))
        if id is None:
            raise self._failed(Refused(f"it answers {given!r} for an id: another server?"))
        return id

    async def _asked(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            async with self._client.stream(method, path, **request) as response:
                if response.is_success:
                    answer = orjson.loads(await response.aread())
                    if not isinstance(answer, dict):
                        raise TypeError
                    self._well()
                    return answer
                read = await read_of(response)
        except (orjson.JSONDecodeError, TypeError):
            raise self._failed(Refused("it answers something else than an edge does: another server?")) from None
        except httpx.TransportError as error:
            self.counts.failures += 1
            maybe = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise self._failed(error, maybe=maybe) from None
        self.counts.failures += 1
        failure = failure_of(read)
        match read.status_code:
            case 400:
                raise InvalidEvent(str(failure))
            case 413:
                raise BatchTooLarge(str(failure))
            case 422:
                raise KeyReused(str(failure))
        raise self._failed(failure)

    # ---- how it is ---------------------------------------------------------------------------------------------------

    def _well(self) -> None:
        if self.trouble is not None:
            logger.info("the edge at %s answers again", self._name)
            self.trouble, self.since = None, asyncio.get_running_loop().time()

    def _failed(self, error: Exception, *, maybe: bool = False) -> EngineUnavailable:
        said, reason, kind, seconds = str(error), EngineTrouble.UNREACHABLE, EngineUnavailable, 1.0
        if isinstance(error, httpx.TransportError):
            said = explain(error, self._client)
        elif isinstance(error, Refused):
            reason, kind = REFUSED.get(error.status, EngineTrouble.OTHER), EngineRefused
        elif isinstance(error, Unavailable):
            reason, seconds = EngineTrouble.LOADING, max(1.0, error.retry_after)
        trouble = kind(f"the edge at {self._name}: {said}", reason, maybe=maybe, seconds=seconds)
        if self.trouble is None:
            self.since = asyncio.get_running_loop().time()
        if str(trouble) != str(self.trouble):
            logger.warning("%s", trouble)
        self.trouble = trouble
        return trouble


def check_url(url: str) -> httpx.URL:
    """Raises ValueError for what is none of an edge, in words that show no token."""
    try:
        given = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"this is no URL of an edge: {error}") from None
    if given.scheme not in ("http", "https") or not given.host:
        raise ValueError("the URL of an edge begins with http:// or https://, and names a host")
    return given


async def events_of(response: httpx.Response, last: str = "") -> AsyncGenerator[list[ReceivedEvent], None]:
    parser = EventParser(max_event_size=LARGEST, last_event_id=last)
    async for piece in response.aiter_raw():
        yield list(parser.feed(piece))


def item_of(event: ReceivedEvent, id: EventId) -> Events | Forgotten:
    """Raises Refused for what no edge says."""
    try:
        said = orjson.loads(event.data)
        if event.event == FORGOTTEN:
            channel = str(said["channel"])
            return Forgotten(id.epoch, id.position, channel.encode(), forgotten(channel), now())
        names = tuple(str(name).encode() for name in said.get("channels", (said["channel"],)))
        milliseconds = round(1000 * datetime.fromisoformat(said["time"]).timestamp())
        frame = encode(said["data"], event=None if event.event == "message" else event.event, retry=event.retry)
    except (ValueError, KeyError, TypeError, InvalidEvent):
        raise Refused("it says what no edge does: another server?") from None
    return Events(id.epoch, [(id.position, names if len(names) > 1 else names[0], frame, milliseconds)])


def line_of(event: Encoded, key: str | None) -> bytes:
    channels, frame = event
    names = channels if isinstance(channels, tuple) else (channels,)
    (said,) = EventParser(max_event_size=LARGEST).feed(frame)
    fields: dict[str, object] = {"channels": [name.decode() for name in names], "data": said.data}
    if said.event != "message":
        fields["event"] = said.event
    if said.retry is not None:
        fields["retry"] = said.retry
    if isinstance(channels, Keyed):
        fields["conflate_key"] = channels.key.decode()
    if key is not None:
        fields["key"] = key
    return orjson.dumps(fields)


def now() -> int:
    return round(1000 * time.time())
