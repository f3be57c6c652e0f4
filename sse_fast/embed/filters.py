"""`filter` and `transform`: between the fan-out, which hands everybody the same bytes, and one stream's send.

The laws of this file:
- the server's own frames ($connected, $gap, $closing, heartbeats) pass untouched;
- an event keeps its id, whatever a filter makes of it, so the client resumes as if it had seen all;
- an event that a filter fails on does not pass, and is not lost in silence: the client gets a `$gap` in its place, and
  the log the traceback of the stream's first failure; the stream goes on;
- a stream of which nothing passes still gets its heartbeats.

What it costs: a batch is parsed once for all streams with filters, but each of them calls its own for each event, and
joins or encodes what is left, in the drain, while the others wait. `benches/bench_filters.py` measures it.
"""

import inspect
import logging
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, NamedTuple

from sse_fast._native.wire.control import HEARTBEAT, gap
from sse_fast._native.wire.frame import encode
from sse_fast.asgi import Send
from sse_fast.errors import InvalidEvent
from sse_fast.event import Event

logger = logging.getLogger("sse_fast.embed")

Filter = Callable[[Event], bool]
Transform = Callable[[Event], Event | None]


class _Frame(NamedTuple):
    raw: bytes
    event: Event
    own: bool  # the server's own


class Frames:
    """Bytes of whole frames, as the hub writes them -> frames. Streams that are up to date are handed one and the same
    object one after the other, so the last one is kept."""

    __slots__ = ("_body", "_frames")

    def __init__(self) -> None:
        self._body = b""
        self._frames: list[_Frame] = []

    def of(self, body: bytes) -> list[_Frame]:
        """No frame at all: a heartbeat, which is no block of its own."""
        if body is not self._body:
            self._frames = [_parse(block + b"\n\n") for block in body.split(b"\n\n")[:-1]]
            self._body = body
        return self._frames


def _parse(raw: bytes) -> _Frame:
    """A frame that the encoder made: lines end in LF, fields are complete."""
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in raw.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        else:
            fields[name] = value
    type, retry = fields.get("event"), fields.get("retry")
    event = Event("\n".join(data), type, fields.get("id"), int(retry) if retry is not None else None)
    return _Frame(raw, event, type is not None and type.startswith("$"))


class _Nothing:
    """What a send returns that had nothing to do."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return iter(())  # type: ignore[return-value]


NOTHING = _Nothing()


class FilteredSend:
    """An ASGI `send` for a stream of the hub, which sends on what the filters leave.

    `keepalive`: seconds of silence until a heartbeat.
    """

    __slots__ = ("_after", "_failed", "_filter", "_frames", "_idle", "_last", "_send", "_transform")

    def __init__(
        self, send: Send, frames: Frames, filter: Filter | None, transform: Transform | None, keepalive: float
    ) -> None:
        self._send, self._frames, self._filter, self._transform = send, frames, filter, transform
        self._idle = keepalive / 2
        self._last = monotonic()
        self._after: str | None = None
        self._failed = False

    def __call__(self, message: Any) -> Any:
        frames = self._frames.of(message["body"])
        passed = [piece for frame in frames if (piece := self._pass(frame)) is not None]
        now = monotonic()
        if len(passed) == len(frames) and all(map(_same, passed, frames)):
            self._last = now
            return self._send(message)
        if not passed:
            # For the fan-out this stream was not silent, so it sends it no heartbeat.
            if now < self._last + self._idle:
                return NOTHING
            passed = [HEARTBEAT]
        self._last = now
        return self._send({"type": "http.response.body", "body": b"".join(passed), "more_body": True})

    def _pass(self, frame: _Frame) -> bytes | None:
        event = frame.event
        after, self._after = self._after, event.id or self._after
        if frame.own:
            return frame.raw
        try:
            if self._filter is not None and not _yes(self._filter(event)):
                return None
            if self._transform is None:
                return frame.raw
            made = self._transform(event)
            if made is event:
                return frame.raw
            return _encode(made, event.id) if made is not None else None
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception("a filter failed on event %s; this stream's further failures are not logged", event.id)
            return gap(after, event.id)


def _same(piece: bytes, frame: _Frame) -> bool:
    return piece is frame.raw


def _yes(answer: Any) -> bool:
    if answer is True or answer is False:
        return answer
    if inspect.isawaitable(answer):  # which would be true, always
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError("a filter answers at once; it cannot be awaited")
    return bool(answer)


def _encode(made: Any, id: str | None) -> bytes:
    if not isinstance(made, Event):
        raise TypeError(f"transform returns an Event or None, not {type(made).__name__}")
    if made.event is not None and made.event.startswith("$"):
        raise InvalidEvent(f"event types that begin with '$' belong to the server; transform returned {made.event!r}")
    return encode(made.data, event=made.event, id=id, retry=made.retry, comment=made.comment)


def check_filter(name: str, filter: Any) -> None:
    """Raises TypeError for what cannot be a filter."""
    if filter is None:
        return
    if not callable(filter):
        raise TypeError(f"{name} is a function of an event, not {type(filter).__name__}")
    if inspect.iscoroutinefunction(filter) or inspect.iscoroutinefunction(type(filter).__call__):
        raise TypeError(f"{name} is called while events are handed out, and cannot be a coroutine function")
