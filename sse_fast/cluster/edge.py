"""Another edge as the engine: its log is the log, and this one in front of it has the same events under the same ids.

What it says by a stream of all channels comes into the log here; what is published here is published there. Unlike an
engine that counts for its nodes alone it leaves positions out, those of its own channels, and says itself what is lost.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from collections.abc import Sequence as Listed
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import orjson

from sse_fast._native.wire.control import CLOSING, CONNECTED, FORGOTTEN, GAP, forgotten, gap
from sse_fast._native.wire.event_parser import EventParser, ReceivedEvent
from sse_fast._native.wire.frame import encode
from sse_fast.client.failures import (
    AS_IT_IS,
    Refused,
    Stopped,
    Unavailable,
    check_encoding,
    explain,
    failure_of,
    read_of,
    shown,
)
from sse_fast.client.publisher import in_quotes
from sse_fast.client.relay_source import check
from sse_fast.cluster.entries import Events, Forgotten, Item, Mark, Missed
from sse_fast.errors import (
    BatchTooLarge,
    EngineRefused,
    EngineTrouble,
    EngineUnavailable,
    EventTooLarge,
    Forbidden,
    InvalidEvent,
    KeyReused,
    RateLimited,
    SSEFastError,
)
from sse_fast.event import EventId
from sse_fast.event_rules import (
    FRAGMENT,
    MAX_CHANNELS,
    Encoded,
    Keyed,
    channel_name,
    hidden,
    is_private,
    publisher_id,
    visible,
)

logger = logging.getLogger("sse_fast.cluster")

LARGEST = 32 * 1024 * 1024  # bytes of an event in its envelope
SILENCE = 45.0  # seconds, three heartbeats
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
ANSWER_SECONDS = 5.0  # until an edge that does not say `$connected` is taken to be away
NEWEST_SECONDS = 1.0  # from then on: its newest event comes with it
FURTHEST = 2**48  # no edge counts so far, and a log that passes over more of them has soon no positions left
LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999
CONNECTIONS = 1000
STREAM = {"pattern": "**", "envelope": "json"}
LINES = {"Content-Type": "application/x-ndjson"}
PUBLISHING, READING = "publishing", "reading"
REFUSED = {401: EngineTrouble.CREDENTIALS, 403: EngineTrouble.PERMISSIONS, 404: EngineTrouble.ADDRESS}


class Published(NamedTuple):
    ids: Listed[EventId]
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
        headers = AS_IT_IS | ({"Authorization": f"Bearer {token}"} if token else {})
        base = given.copy_with(userinfo=b"", query=None)
        self._name = shown(str(base)).rstrip("/")
        timeout = httpx.Timeout(30, connect=5, read=30, pool=5)
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=20)
        self._client = httpx.AsyncClient(base_url=base, timeout=timeout, headers=headers, limits=limits)
        self._troubles: dict[str, EngineUnavailable] = {}
        self._asking: asyncio.Task[None] | None = None
        self.since = 0.0
        self.counts = Counts()
        self.look_of_late: Look | None = None
        self.reading = False

    @property
    def trouble(self) -> EngineUnavailable | None:
        return next(iter(self._troubles.values()), None)

    async def open(self) -> Look:
        try:
            return Look(await self._newest())
        except (httpx.TransportError, Unavailable, Refused, Stopped, EventTooLarge) as error:
            raise self._failed(READING, error) from None

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._client.aclose()

    async def _newest(self) -> EventId | None:
        """The id of the newest event; None: it is connected, and has none."""
        connected = False
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS) as limit,
                self._stream({**STREAM, "history": "1"}) as response,
                aclosing(events_of(response)) as pieces,
            ):
                async for events in pieces:
                    for event in events:
                        if event.event == CLOSING:
                            raise Unavailable("it ends the streams that it opens")
                        if event.event == CONNECTED:
                            connected = True
                            limit.reschedule(asyncio.get_running_loop().time() + NEWEST_SECONDS)
                        elif (item := item_of(event)) is not None:
                            self._well(READING)
                            return end_of(item)
        except TimeoutError:
            if not connected:
                raise Unavailable(f"it has not answered in {ANSWER_SECONDS:g} s") from None
            self._well(READING)
            return None
        raise Unavailable("the stream ended before anything was said")

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def window(self, bytes: int, /) -> None:
        return None

    async def follow(self, after: EventId | None) -> AsyncGenerator[list[Item], None]:
        sequence = Sequence(after, self.counts)
        failures, refused = 0, False
        while True:
            try:
                cursor = str(sequence.at) if sequence.at is not None else "earliest"
                async with self._stream(STREAM, {"Last-Event-ID": cursor}) as response:
                    self.counts.connections += 1
                    self.reading = True
                    sequence.lost = False
                    async with aclosing(events_of(response, cursor if sequence.at is not None else "")) as pieces:
                        async for events in pieces:
                            items, wrong = sequence.read(events)
                            if items:
                                yield items
                            if wrong is not None:
                                raise wrong
                            if items or not refused:  # who was refused has to get further
                                failures, refused = 0, False
                                self._well(READING)
            except Refused as error:
                refused = True
                self._failed(READING, error)
            except (httpx.TransportError, Unavailable, Stopped, EventTooLarge) as error:
                self._failed(READING, error)
            finally:
                self.reading = False
            failures += 1
            pause = min(SHORTEST_PAUSE * 2.0 ** min(failures, 20), LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))

    @asynccontextmanager
    async def _stream(
        self, query: dict[str, str], headers: Mapping[str, str] = MappingProxyType({})
    ) -> AsyncIterator[httpx.Response]:
        headers = {"Accept": "text/event-stream", **headers}
        timeout = httpx.Timeout(30, connect=5, read=SILENCE, pool=5)
        async with self._client.stream("GET", "/sse", params=query, headers=headers, timeout=timeout) as response:
            await check(response)
            yield response

    async def page(self, after: EventId, until: EventId | None = None) -> Page:
        raise EngineUnavailable("pages are not read of another edge", EngineTrouble.OTHER)

    # ---- publishing --------------------------------------------------------------------------------------------------

    async def publish(self, events: Listed[Encoded], keys: str | Mapping[int, str] | None = None) -> Published:
        key = keys if isinstance(keys, str) else None
        of_events = keys if isinstance(keys, Mapping) else {}
        lines = [line_of(event, of_events.get(place)) for place, event in enumerate(events)]
        headers = LINES if key is None else LINES | {"Idempotency-Key": in_quotes(key)}
        self.counts.calls += 1
        answer = await self._asked("POST", "/publish", headers=headers, content=b"\n".join(lines))
        return Published([self._id(id) for id in answer.get("ids", ())], int(answer.get("repeated", 0)))

    async def forget(self, channel: bytes, body: bytes) -> EventId:
        answer = await self._asked("DELETE", f"/channels/{quote(channel.decode(), safe='')}")
        return self._id(answer.get("id"))

    def _id(self, given: object) -> EventId:
        id = EventId.parse(str(given))
        if id is None:
            raise self._failed(
                PUBLISHING, Refused(f"it answers {str(given)[:40]!r} for an id: another server?"), maybe=True
            )
        return id

    async def _asked(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            async with self._client.stream(method, path, **request) as response:
                if response.is_success:
                    check_encoding(response)
                    answer = orjson.loads(await response.aread())
                    if not isinstance(answer, dict):
                        raise TypeError
                    self._well(PUBLISHING)
                    return answer
                read = await read_of(response)
        except Refused as error:
            raise self._failed(PUBLISHING, error, maybe=True) from None
        except (orjson.JSONDecodeError, TypeError):
            other = Refused("it answers something else than an edge does: another server?")
            raise self._failed(PUBLISHING, other, maybe=True) from None
        except httpx.PoolTimeout:
            self.counts.failures += 1
            said = f"the edge at {self._name}: {CONNECTIONS} requests wait for its answers"
            raise EngineUnavailable(said, EngineTrouble.WAITING) from None
        except httpx.TransportError as error:
            self.counts.failures += 1
            maybe = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise self._failed(PUBLISHING, error, maybe=maybe) from None
        self.counts.failures += 1
        failure = failure_of(read)
        about = about_request(read.status_code, failure)
        if about is not None:
            self._well(PUBLISHING)
            raise about
        # Whoever is in between may have passed it on and not heard the end of it; an edge says so itself.
        maybe = read.is_server_error and (read.status_code != 503 or "it may be published" in str(failure))
        raise self._failed(PUBLISHING, failure, maybe=maybe)

    # ---- how it is ---------------------------------------------------------------------------------------------------

    def _well(self, doing: str) -> None:
        if self._troubles.pop(doing, None) is not None and not self._troubles:
            logger.info("the edge at %s answers again", self._name)
            self.since = asyncio.get_running_loop().time()

    def _failed(self, doing: str, error: Exception, *, maybe: bool = False) -> EngineUnavailable:
        said, reason, kind, seconds = str(error), EngineTrouble.UNREACHABLE, EngineUnavailable, 1.0
        if isinstance(error, httpx.TransportError):
            said = explain(error, self._client)
            if isinstance(error, httpx.ReadTimeout):
                reason = EngineTrouble.TIMEOUT
        elif isinstance(error, Refused):
            reason, kind = REFUSED.get(error.status, EngineTrouble.OTHER), EngineRefused
        elif isinstance(error, Unavailable):
            reason, seconds = EngineTrouble.LOADING, max(1.0, error.retry_after)
        trouble = kind(f"the edge at {self._name}: {said}", reason, maybe=maybe, seconds=seconds)
        if not self._troubles:
            self.since = asyncio.get_running_loop().time()
        if str(trouble) != str(self._troubles.get(doing)):
            logger.warning("%s", trouble)
        self._troubles[doing] = trouble
        if doing == PUBLISHING and (self._asking is None or self._asking.done()):
            self._asking = asyncio.get_running_loop().create_task(self._ask_again())
        return trouble

    async def _ask_again(self) -> None:
        """Until it takes events; none is sent. Where its trouble is what keeps publishers away, nobody else asks."""
        pause = 1.0
        while PUBLISHING in self._troubles:
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(2 * pause, LONGEST_PAUSE)
            with suppress(SSEFastError):
                await self._asked("POST", "/publish", headers=LINES, content=b"")


def about_request(status: int, failure: Refused | Unavailable) -> SSEFastError | None:
    """What an answer says of this request alone, in its words. None: it says that the edge does not take events."""
    match status:
        case 400:
            return InvalidEvent(str(failure))
        case 403:
            return Forbidden(str(failure))
        case 413:
            return BatchTooLarge(str(failure))
        case 422:
            return KeyReused(str(failure))
        case 429:
            return RateLimited(str(failure), max(1.0, getattr(failure, "retry_after", 1.0)))
    return None


class Sequence:
    """Makes items of what a stream says, behind `at`. `lost`: it has said that something is missing here."""

    def __init__(self, at: EventId | None, counts: Counts) -> None:
        self.at, self.lost = at, False
        self._counts = counts

    def read(self, events: Iterable[ReceivedEvent]) -> tuple[list[Item], Refused | None]:
        """The items; and why there are no more, where an event is none that an edge says."""
        items: list[Item] = []
        try:
            for event in events:
                item = item_of(event)
                if item is not None:
                    self._add(item, items)
                elif event.event == GAP:
                    self._miss(event, items)
        except Refused as error:
            return items, error
        return items, None

    def _add(self, item: Events | Forgotten, items: list[Item]) -> None:
        id, at = end_of(item), self.at
        if at is not None and at.epoch == id.epoch and id.position <= at.position:
            return
        if at is not None and at.epoch != id.epoch and not self.lost:  # the same log, of the next server
            items.append(Mark(id.epoch, at, now()))
            self._counts.marks += 1
        items.append(item)
        self.at, self.lost = id, False
        self._counts.entries_read += 1

    def _miss(self, event: ReceivedEvent, items: list[Item]) -> None:
        id, at = EventId.parse(event.id), self.at
        if id is None or id == at:
            return
        check_position(id, 0)
        if at is not None and at.epoch == id.epoch and id.position > at.position:
            items.append(Missed(at, id))
            self.at = id
        self._counts.missed += 1
        self.lost = True


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


def item_of(event: ReceivedEvent) -> Events | Forgotten | None:
    """None: the stream speaks of itself, as by a `$gap` that is in no channel. Raises Refused for what no edge says."""
    if event.event[:1] == "$" and event.event not in (GAP, FORGOTTEN):
        return None
    try:
        said = orjson.loads(event.data)
        if not isinstance(said, dict):
            raise TypeError
        if event.event == GAP and "channel" not in said:
            return None
        named = said.get("at")
        id = EventId.parse(event.id.removeprefix(FRAGMENT) if named is None else str(named))
        if id is None:
            raise ValueError
        check_position(id)
        if event.event == FORGOTTEN:
            channel = said["channel"]
            return Forgotten(id.epoch, id.position, name_of(channel), forgotten(channel), now())
        listed = said.get("channels", [said["channel"]])
        names = tuple(map(name_of, listed)) if isinstance(listed, list) else ()
        if not 0 < len(names) <= MAX_CHANNELS or len(set(names)) < len(names):
            raise ValueError
        milliseconds = round(1000 * datetime.fromisoformat(said["time"]).timestamp())
        if not 0 <= milliseconds <= LAST_MILLISECOND:
            raise ValueError
        if event.event == GAP:
            frame = gap(said.get("after"), said.get("until"), False)
        else:
            frame = encode(said["data"], event=None if event.event == "message" else event.event, retry=event.retry)
        if named is not None:
            frame = b"id: %b\n%b" % (publisher_id(event.id).encode(), frame)
        elif event.id.startswith(FRAGMENT):
            frame = b"id: %b\n%b" % (FRAGMENT.encode(), frame)
        if said.get("private"):
            return Events(id.epoch, [(id.position, (hidden(names), *names), frame, milliseconds)])
    except (ValueError, KeyError, TypeError, OverflowError, InvalidEvent):
        raise Refused(f"it says what no edge does, behind the id {event.id[:40]!r}: another server?") from None
    return Events(id.epoch, [(id.position, names if len(names) > 1 else names[0], frame, milliseconds)])


def name_of(channel: object) -> bytes:
    if not isinstance(channel, str) or channel.startswith("$"):
        raise ValueError
    return channel_name(channel)


def check_position(id: EventId, least: int = 1) -> None:
    if not least <= id.position < FURTHEST:
        raise Refused(f"its id {id} is of no edge: another server?")


def end_of(item: Events | Forgotten) -> EventId:
    return EventId(item.epoch, item.events[-1][0] if isinstance(item, Events) else item.position)


def line_of(event: Encoded, key: str | None) -> bytes:
    channels, frame = event
    (said,) = EventParser(max_event_size=LARGEST).feed(frame)
    fields: dict[str, object] = {"channels": [name.decode() for name in visible(channels)], "data": said.data}
    if is_private(channels):
        fields["private"] = True
    if said.id not in ("", FRAGMENT):
        fields["id"] = said.id
    if said.event == GAP:  # how many positions that is whoever takes it counts
        fields["data"] = {name: id for name, id in orjson.loads(said.data).items() if name in ("after", "until")}
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
