"""What a stream may yield -> bytes of `text/event-stream`; and any iterable -> an async iterator that can be closed.

Knows no request and no connection.
"""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextvars import copy_context
from threading import Lock
from typing import Any

import anyio.to_thread

from sse_fast._native.wire.frame import encode
from sse_fast.embed.server_sent_event import ServerSentEvent
from sse_fast.errors import MistypedEvent
from sse_fast.event import Event
from sse_fast.event_rules import brief
from sse_fast.serialization import json_of

DICT_FIELDS = frozenset(("data", "event", "id", "retry", "comment"))
_ENDED: Any = object()


def frame(item: Any) -> bytes:
    """One yielded item, ready to send.

    `str`: the data of an event. `bytes`: encoded before, sent as they stand. `dict`: the fields of an event, by name;
    one that is None counts as left out. `Event`, and what has the same attributes (the ServerSentEvent of
    sse-starlette, FastAPI, Litestar, httpx-sse): an event, and so is what datastar-py makes. Anything else: data, as
    JSON.

    Raises InvalidEvent.
    """
    kind = type(item)
    if kind is str:
        return encode(item)
    if kind is dict:
        if item.get("data") is not None:
            try:
                return encode(**item)
            except TypeError:
                pass  # what is wrong, or only rare, is looked at below
        return _fields(item)
    if kind is bytes:
        return item  # type: ignore[no-any-return]
    if kind is Event:
        return Event.encode(item)
    if isinstance(item, ServerSentEvent):
        return item.encode()
    return _rare(item)


def _fields(fields: Mapping[str, Any]) -> bytes:
    if not fields.keys() <= DICT_FIELDS:
        unknown = next(iter(fields.keys() - DICT_FIELDS))
        raise MistypedEvent(
            f"a dict stands for the fields of an event, and {brief(unknown)} is none: there is "
            f"{', '.join(sorted(DICT_FIELDS))}. If the dict is the data, yield Event(...) or {{'data': ...}}"
        )
    data, type, id = fields.get("data"), fields.get("event"), fields.get("id")
    retry, comment = fields.get("retry"), fields.get("comment")
    if data is not None:
        return encode(data, event=type, id=id, retry=retry, comment=comment)
    if type is None and id is None and retry is None and comment is None:
        raise MistypedEvent('a dict of fields has at least one that is not None; JSON null is sent by {"data": "null"}')
    return encode(event=type, id=id, retry=retry, comment=comment)


def _rare(item: Any) -> bytes:
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, Mapping):
        return _fields(item)
    if not isinstance(item, str) and all(hasattr(item, name) for name in ("data", "event", "id", "retry")):
        data = item.data
        if hasattr(item, "raw_data"):  # FastAPI's: `data` is always JSON, quotes and all
            data = item.raw_data if data is None else json_of(data)
        return _fields(
            {"data": data} | {name: getattr(item, name, None) for name in ("event", "id", "retry", "comment")}
        )
    return encode(item)


def check_content(content: Any) -> None:
    """Raises TypeError for what is no iterable of events, and would only be found out while it streams."""
    if isinstance(content, (str, bytes, Mapping)):
        raise TypeError(f"content is an iterable of events, not one {type(content).__name__}; for one event: [event]")
    if not isinstance(content, (AsyncIterable, Iterable)) and not hasattr(content, "__getitem__"):
        hint = ""
        if inspect.isroutine(content):
            hint = "; call it, and give what it returns"
        elif inspect.iscoroutine(content):
            content.close()
            hint = "; await it, or make it a generator"
        raise TypeError(f"content is an iterable of events, async or not, not {type(content).__name__}{hint}")


def iterate(content: Any) -> AsyncIterator[Any]:
    """Its items; a sync iterable is stepped in worker threads, always in one context."""
    return aiter(content) if isinstance(content, AsyncIterable) else _Threaded(content)


async def close(iterator: Any) -> None:
    """Close what can be closed, started or not."""
    if hasattr(iterator, "aclose"):
        await iterator.aclose()
    elif isinstance(iterator, Iterator) and hasattr(iterator, "close"):
        await _Threaded(iterator).aclose()


class _Threaded:
    """A sync iterable as an async iterator. A step that blocks cannot be called back: when the stream is closed
    meanwhile, that step's own thread closes the iterator afterwards."""

    __slots__ = ("_closing", "_context", "_iterator", "_lock", "_stepping")

    def __init__(self, content: Iterable[Any]) -> None:
        self._iterator = iter(content)
        self._context = copy_context()
        self._lock = Lock()
        self._stepping = self._closing = False

    def __aiter__(self) -> "_Threaded":
        return self

    async def __anext__(self) -> Any:
        item = await anyio.to_thread.run_sync(self._step, abandon_on_cancel=True)
        if item is _ENDED:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        with self._lock:
            again, self._closing = self._closing, True
            mine = not self._stepping and not again
        if mine and hasattr(self._iterator, "close"):
            await anyio.to_thread.run_sync(self._close)

    def _step(self) -> Any:
        with self._lock:
            if self._closing:
                return _ENDED
            self._stepping = True
        try:
            return self._context.run(next, self._iterator, _ENDED)
        finally:
            with self._lock:
                self._stepping = False
                mine = self._closing
            if mine and hasattr(self._iterator, "close"):
                self._close()

    def _close(self) -> None:
        self._context.run(self._iterator.close)  # type: ignore[attr-defined]
