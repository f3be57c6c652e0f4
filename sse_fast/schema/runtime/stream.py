"""The part of a generated Python client that is the same in every one: it follows a stream by httpx, resumes it, and
decodes what comes."""

# ---- the client that carries the streams -----------------------------------------------------------------------------

import asyncio
import inspect
import json
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar  # noqa: F401 - some for what is generated

import httpx

T = TypeVar("T")
Name = TypeVar("Name")
Data = TypeVar("Data")
Each = TypeVar("Each")
Decoder = Callable[[object, str], T]
Token = str | Callable[[], str | Awaitable[str | None] | None]

SILENCE: Final = 45.0  # seconds without a byte: three heartbeats
FIRST_RETRY: Final = 1.0
SHORTEST_PAUSE: Final = 0.1
LONGEST_BACKOFF: Final = 30.0
LONGEST_RETRY: Final = 86_400.0
MOST_BYTES: Final = 16 * 1024 * 1024  # of one event
SENDABLE_ID: Final = re.compile(r"[\x21-\x7e]*")
FINAL: Final = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects, httpx.DecodingError)
LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event(Generic[Name, Data]):
    """type: its name on the wire. id: to resume behind it."""

    type: Name
    data: Data
    id: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Events between the ids `after` and `until` are gone. positions: how many of all channels that is, where it is
    known. id: to resume behind it."""

    after: str | None
    until: str | None
    positions: int | None
    id: str


class StreamError(Exception):
    """The stream has ended and does not come back. status: of the answer that refused it; 0: it was none."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class DecodeError(ValueError):
    """The data of an event is not what the schema says, and where. The stream goes on behind it."""


class Stream(Generic[Each]):
    """Events in their order, over as many connections as it takes, each once; where some are gone, a Gap. Raises
    StreamError for what the next attempt would meet too, and DecodeError for one event that is not as it should be:
    iterate again, and it goes on. Events of types that this file does not know are left out. When a wait for the next
    one is cancelled, as by a timeout, the connection ends: iterate again, and it comes back behind the last event.

    What `token` raises is logged, and it is asked again after a pause; a StreamError that it raises ends the stream.

    `async with` ends the connection with the block; else it ends with the iteration.
    """

    def __init__(
        self,
        channel: str,
        decode: Callable[[str, object, str], Each | None],
        *,
        url: str,
        token: Token | None,
        last_event_id: str | None,
        history: int | None,
        client: httpx.AsyncClient | None,
    ) -> None:
        """decode: takes type, data and id of an event, and gives None for a type it does not know."""
        self.last_event_id = last_event_id or ""
        """Of the newest event; keep it, and begin behind it the next time."""
        self._channel, self._decode, self._url = channel, decode, url.rstrip("/")
        self._token, self._history = token, history
        self._client, self._own = client, client is None
        self._retry, self._failures, self._refused = FIRST_RETRY, 0, False
        self._not_before = 0.0  # of the loop's clock: the next attempt
        self._events: AsyncGenerator[tuple[str, str, str], None] | None = None

    async def __aenter__(self) -> "Stream[Each]":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> "Stream[Each]":
        return self

    async def __anext__(self) -> Each | Gap:
        if self._events is None:
            self._events = self._followed()
        while True:
            try:
                name, data, id = await anext(self._events)
            except asyncio.CancelledError:
                self._events = None  # it ended with that
                raise
            self.last_event_id = id
            if name == "$gap":
                return _gap(data, id)
            if name.startswith("$"):
                continue
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise DecodeError(f"the data of the event {name} {id} is not JSON: {error}") from None
            try:
                event = self._decode(name, value, id)
            except DecodeError as error:
                raise DecodeError(f"the event {name} {id}: {error}") from None
            except RecursionError:
                raise DecodeError(f"the event {name} {id} is nested too deeply") from None
            if event is not None:
                return event

    async def aclose(self) -> None:
        """End it. Again: nothing happens."""
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()
        if self._own and self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _followed(self) -> AsyncGenerator[tuple[str, str, str], None]:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                await asyncio.sleep(self._not_before - clock())
                asked = 0.0
                try:
                    async with aclosing(self._attempt()) as events:
                        async for event in events:
                            if event[0] not in ("$connected", "$closing"):
                                self._failures = 0
                            yield event
                except _NothingMore:
                    return
                except _Later as later:
                    asked = later.seconds
                except FINAL as error:
                    raise StreamError(f"{type(error).__name__}: {error}") from error
                except httpx.TransportError:
                    pass  # come back
                self._failures += 1
                self._not_before = clock() + max(self._pause(), asked)
        finally:
            if self._own and self._client is not None:
                await self._client.aclose()
                self._client = None

    def _pause(self) -> float:
        pause = max(self._retry, SHORTEST_PAUSE)
        if self._failures > 1:
            pause = max(pause, min(pause * 2.0 ** min(self._failures - 1, 20), LONGEST_BACKOFF))
        return max(pause * random.uniform(0.7, 1.3), SHORTEST_PAUSE)

    async def _attempt(self) -> AsyncGenerator[tuple[str, str, str], None]:
        if self._client is None:
            self._client = httpx.AsyncClient()
        query: dict[str, str | int] = {"channel": self._channel}
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if self.last_event_id:
            if SENDABLE_ID.fullmatch(self.last_event_id):
                headers["Last-Event-ID"] = self.last_event_id
            else:
                query["last_event_id"] = self.last_event_id
        elif self._history is not None:
            query["history"] = self._history
        token = await self._asked_token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        timeout = httpx.Timeout(10.0, read=SILENCE)
        async with self._client.stream(
            "GET", f"{self._url}/sse", params=query, headers=headers, timeout=timeout, follow_redirects=True
        ) as answer:
            if answer.status_code != 200:
                raise await self._refusal(answer, bool(token))
            kind = answer.headers.get("Content-Type", "nothing")
            if kind.partition(";")[0].strip().lower() != "text/event-stream":
                raise StreamError(f"{self._url} answers {kind}, not text/event-stream: another server?", 200)
            if compression := _compression(answer):
                raise StreamError(f"{self._url} compresses ({compression}), which it was not asked for", 200)
            self._refused = False
            reader = _Reader(self.last_event_id)
            async for piece in answer.aiter_bytes():
                for event in reader.feed(piece):
                    yield event
                self.last_event_id = reader.last_event_id
                if reader.retry is not None:
                    self._retry = min(reader.retry / 1000, LONGEST_RETRY)

    async def _asked_token(self) -> str | None:
        if self._token is None or isinstance(self._token, str):
            return self._token
        try:
            token = self._token()
            return await token if inspect.isawaitable(token) else token
        except StreamError:
            raise
        except Exception as error:
            LOGGER.warning("no token for %s: it is asked for again", self._channel, exc_info=error)
            raise _Later(0.0) from error

    async def _refusal(self, answer: httpx.Response, with_token: bool) -> Exception:
        status = answer.status_code
        if status == 204:
            return _NothingMore()
        try:
            pieces = [] if _compression(answer) else [p async for p in _first(answer.aiter_bytes(), 64 * 1024)]
            detail = str(json.loads(b"".join(pieces))["detail"])
        except (httpx.RequestError, ValueError, KeyError, TypeError):
            detail = answer.reason_phrase
        if status in (408, 425, 429) or status >= 500:
            return _Later(_retry_after(answer.headers.get("Retry-After", "")))
        if status == 401 and with_token and callable(self._token) and not self._refused:
            self._refused = True  # another one may do
            return _Later(0.0)
        beside = "; beside an app an edge is under its path: url ends with /edge" if status == 404 else ""
        return StreamError(f"{detail} ({status}){beside}", status)


class _NothingMore(Exception):
    """The server answered 204: do not come back."""


class _Later(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def _compression(answer: httpx.Response) -> str:
    """Which one the body has, that was not asked for: a few bytes of it may be many."""
    said: str = answer.headers.get("Content-Encoding", "").strip()
    return "" if said.lower() == "identity" else said


def _retry_after(said: str) -> float:
    """Seconds (RFC 9110, section 10.2.3: seconds, or a date)."""
    try:
        if said.isascii() and said.isdigit():
            asked = float(said)
        else:
            asked = parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(asked, 0.0), LONGEST_RETRY)


async def _first(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece
        most -= len(piece)
        if most <= 0:
            return


class _Reader:
    """The text/event-stream parser of WHATWG HTML, section 9.2.6."""

    def __init__(self, last_event_id: str) -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._id = last_event_id  # counts from the end of its event on: what breaks off before is sent again
        self._rest = bytearray()
        self._first, self._after_return = True, False
        self._type, self._data, self._size = "", list[str](), 0

    def feed(self, piece: bytes) -> Iterator[tuple[str, str, str]]:
        """(type, data, id) of each event that this ends."""
        if self._after_return and piece[:1] == b"\n":
            piece = piece[1:]
            self._after_return = False
        if not piece:
            return
        self._after_return = piece.endswith(b"\r")
        self._rest += piece
        self._size += len(piece)
        if self._size > MOST_BYTES:
            raise StreamError("an event is larger than 16 MiB")
        if b"\n" not in piece and b"\r" not in piece:
            return
        if self._first:
            self._first = False
            if self._rest.startswith(b"\xef\xbb\xbf"):
                del self._rest[:3]
        *lines, rest = re.split(rb"\r\n|\n|\r", bytes(self._rest))
        self._rest = bytearray(rest)
        for line in lines:
            if line:
                self._line(line.decode("utf-8", "replace"))
                continue
            self.last_event_id = self._id
            if self._data:
                yield self._type or "message", "\n".join(self._data), self._id
            self._type, self._data, self._size = "", [], len(rest)

    def _line(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._type = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value[:12])
            case "":
                self._size -= len(line)  # a heartbeat is of no event


def _gap(data: str, id: str) -> Gap:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return Gap(None, None, None, id)  # it is one all the same
    return Gap(told.get("after"), told.get("until"), told.get("positions"), id)


def channel_part(name: str, value: str | int | float | bool) -> str:
    """Raises ValueError for what is no part of a channel's name."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text or ":" in text:
        raise ValueError(f"{name} is a part of a channel's name: some text without ':', not {text!r}")
    return text


# ---- decoders: a value of JSON and its place -> what the schema says; raise DecodeError with the place ---------------


def _wrong(expected: str, value: object, at: str) -> DecodeError:
    shown = json.dumps(value)
    return DecodeError(f"{at}: {expected} is expected, not {shown if len(shown) <= 60 else shown[:57] + '...'}")


def _anything(value: object, at: str) -> Any:
    return value


def _string(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise _wrong("a string", value, at)
    return value


def _integer(value: object, at: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong("an integer", value, at)
    return value


def _number(value: object, at: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong("a number", value, at)
    return value


def _boolean(value: object, at: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong("true or false", value, at)
    return value


def _null(value: object, at: str) -> None:
    if value is not None:
        raise _wrong("null", value, at)


def _object(value: object, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("an object", value, at)
    return value


def _field(fields: dict[str, Any], name: str, at: str, decode: Decoder[T]) -> T:
    if name not in fields:
        raise DecodeError(f"{at}.{name} is missing")
    return decode(fields[name], f"{at}.{name}")


def _optional(fields: dict[str, Any], name: str, at: str, decode: Decoder[T]) -> T | None:
    return decode(fields[name], f"{at}.{name}") if name in fields else None


def _decoded(decode: Decoder[T], value: object, at: str) -> T:
    """By a decoder that may give None and nothing else, which no call by its own name may."""
    return decode(value, at)


def _array(item: Decoder[T]) -> Decoder[list[T]]:
    def decode(value: object, at: str) -> list[T]:
        if not isinstance(value, list):
            raise _wrong("an array", value, at)
        return [item(each, f"{at}[{place}]") for place, each in enumerate(value)]

    return decode


def _items(value: object, at: str, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise _wrong(f"an array of {count}", value, at)
    return value


def _mapping(of: Decoder[T]) -> Decoder[dict[str, T]]:
    def decode(value: object, at: str) -> dict[str, T]:
        return {name: of(each, f"{at}[{json.dumps(name)}]") for name, each in _object(value, at).items()}

    return decode


def _nullable(decode: Decoder[T]) -> Decoder[T | None]:
    return lambda value, at: None if value is None else decode(value, at)


def _one_of(*decoders: Decoder[T]) -> Decoder[T]:
    """The first that fits."""

    def decode(value: object, at: str) -> T:
        said = []
        for each in decoders:
            try:
                return each(value, at)
            except DecodeError as error:
                said.append(str(error))
        raise DecodeError(f"{at} is none of what it may be ({'; '.join(said)})")

    return decode


def _literal(*values: T) -> Decoder[T]:
    def decode(value: object, at: str) -> T:
        for each in values:
            if type(value) is type(each) and value == each:
                return each
        raise _wrong("one of " + ", ".join(json.dumps(each) for each in values), value, at)

    return decode
