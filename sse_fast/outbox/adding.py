"""An event into the outbox, in the transaction that its writer is in."""

from collections.abc import Awaitable, Sequence
from functools import cache
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from sse_fast._native.wire.event_parser import EventParser
from sse_fast._native.wire.publication import encode_publication
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import idempotency_key

if TYPE_CHECKING:
    from psycopg import AsyncConnection, AsyncCursor
    from sqlalchemy.ext.asyncio import AsyncConnection as AsyncAlchemy
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    from sse_fast.schema.definitions import Channel

    Awaited = AsyncConnection[Any] | AsyncCursor[Any] | AsyncAlchemy | AsyncSession | async_scoped_session[Any]

E = TypeVar("E")

LARGEST = 16 * 1024 * 1024
"""Bytes of an encoded event that are written, and read again. What the edge takes is its own affair: 64 KiB, if it says
nothing else."""

COLUMNS = "INSERT INTO sse_fast_outbox (channel, also, event, data, key) VALUES "
FOR_PSYCOPG = COLUMNS + (
    "(%(channel)s, CAST(%(also)s AS text[]), %(event)s, %(data)s, coalesce(%(key)s, gen_random_uuid()::text))"
)
FOR_SQLALCHEMY = COLUMNS + (
    "(:channel, CAST(:also AS text[]), CAST(:event AS text), :data, "
    "coalesce(CAST(:key AS text), CAST(gen_random_uuid() AS text)))"
)


@overload
def add(
    target: "Awaited", channel: "Channel[E] | Sequence[Channel[E]]", data: E, *, key: str | None = None
) -> Awaitable[None]: ...
@overload
def add(
    target: "Awaited", channel: str | Sequence[str], data: Any, *, event: str | None = None, key: str | None = None
) -> Awaitable[None]: ...
@overload
def add(target: Any, channel: "Channel[E] | Sequence[Channel[E]]", data: E, *, key: str | None = None) -> Any: ...
@overload
def add(
    target: Any, channel: str | Sequence[str], data: Any, *, event: str | None = None, key: str | None = None
) -> Any: ...
def add(target: Any, channel: Any, data: Any, *, event: str | None = None, key: str | None = None) -> Any:
    """Write an event that is published if, and once, the transaction of `target` is committed.

    target: a Session or Connection of SQLAlchemy 2, over psycopg or asyncpg, or a connection or cursor of psycopg 3. Of
    an asynchronous one this is to be awaited. On a connection with autocommit the event is a transaction of its own.

    channel: a name, or several for one event, at most 32. data: str or bytes as they stand, or what
    `sse_fast.serialization` takes. Of a typed channel, as `Comments(item_id="7")`, it is an event that it carries.
    key: an idempotency key, where the same event may be written more than once, as by a job that is tried again: within
    the window of the server it is published once.

    Raises InvalidEvent, before anything is written, and what the database raises.
    """
    values = values_of(channel, data, event, key)
    if any(kind.__module__.partition(".")[0] == "sqlalchemy" for kind in type(target).__mro__):
        done = target.execute(for_sqlalchemy(), values)
    else:
        done = target.execute(FOR_PSYCOPG, values)
    return _finished(done) if isawaitable(done) else None


@cache
def for_sqlalchemy() -> Any:
    from sqlalchemy import text

    return text(FOR_SQLALCHEMY)


async def _finished(writing: Awaitable[Any]) -> None:
    await writing


def values_of(channel: Any, data: Any, event: str | None, key: str | None) -> dict[str, Any]:
    """The columns of a row: what a client would get. Raises InvalidEvent for what no server would take."""
    names, frame = encode_publication(channel, data, event=event, limit=LARGEST)
    (written,) = EventParser().feed(frame)
    for what, text in (("data", written.data), ("the event's type", written.event)):
        if "\0" in text:
            raise InvalidEvent(f"{what} has U+0000 at {text.index(chr(0))}, which PostgreSQL's text cannot have")
    first, *others = (name.decode() for name in ([names] if isinstance(names, bytes) else names))
    return {
        "channel": first,
        "also": others,
        "event": None if written.event == "message" else written.event,
        "data": written.data,
        "key": idempotency_key(key) if key is not None else None,
    }
