"""An event into the outbox, in the transaction that its writer is in."""

from collections.abc import Awaitable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, overload

from sse_fast._native.wire.publication import encode_publication
from sse_fast.errors import InvalidEvent
from sse_fast.event_rules import brief, idempotency_key
from sse_fast.serialization import json_of

if TYPE_CHECKING:
    from psycopg import AsyncConnection, AsyncCursor
    from sqlalchemy.ext.asyncio import AsyncConnection as AsyncAlchemy
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    Awaited = AsyncConnection[Any] | AsyncCursor[Any] | AsyncAlchemy | AsyncSession | async_scoped_session[Any]

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
    target: "Awaited", channel: str | Sequence[str], data: Any, *, event: str | None = None, key: str | None = None
) -> Awaitable[None]: ...
@overload
def add(
    target: Any, channel: str | Sequence[str], data: Any, *, event: str | None = None, key: str | None = None
) -> Any: ...
def add(
    target: Any, channel: str | Sequence[str], data: Any, *, event: str | None = None, key: str | None = None
) -> Any:
    """Write an event that is published if, and once, the transaction of `target` is committed.

    target: a Session or Connection of SQLAlchemy 2 (over any driver for PostgreSQL), a connection or cursor of
    psycopg 3, or what executes as that does (Django's cursor). Of an asynchronous one this is to be awaited. On a
    connection with autocommit the event is a transaction of its own.

    channel: a name, or several for one event, at most 32. data: str or bytes as they stand, or what
    `sse_fast.serialization` takes. key: an idempotency key, where the same event may be written more than once, as by a
    job that is tried again: within the window of the server it is published once.

    Raises InvalidEvent, before anything is written, and what the database raises.
    """
    values = values_of(channel, data, event, key)
    if any(kind.__module__.partition(".")[0] == "sqlalchemy" for kind in type(target).__mro__):
        from sqlalchemy import text

        done = target.execute(text(FOR_SQLALCHEMY), values)
    else:
        done = target.execute(FOR_PSYCOPG, values)
    return _finished(done) if isawaitable(done) else None


async def _finished(writing: Awaitable[Any]) -> None:
    await writing


def values_of(channel: str | Sequence[str], data: Any, event: str | None, key: str | None) -> dict[str, Any]:
    """The columns of a row. Raises InvalidEvent for what no server would take."""
    text = text_of(data)
    encode_publication(channel, text, event=event, limit=LARGEST)
    if "\0" in text:
        raise InvalidEvent(f"data has U+0000 at {text.index(chr(0))}, which PostgreSQL's text cannot have")
    if event is not None and "\0" in event:
        raise InvalidEvent(f"the event's type {brief(event)} has U+0000, which PostgreSQL's text cannot have")
    first, *others = [channel] if isinstance(channel, str) else channel
    key = idempotency_key(key) if key is not None else None
    return {"channel": first, "also": others, "event": event or None, "data": text, "key": key}


def text_of(data: Any) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, bytes):
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise InvalidEvent(f"data is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return json_of(data).decode()
