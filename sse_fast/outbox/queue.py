"""The outbox as its relay sees it: what was committed and is not published yet, in order.

One connection, which listens, too, and by whose locks a relay is the only one. Each statement is a transaction.
"""

import asyncio
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, LiteralString, NamedTuple, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sse_fast.errors import SSEFastError
from sse_fast.outbox.adding import LARGEST
from sse_fast.outbox.table import AWAKE, DDL, LEADER, NOTIFICATION

BATCH_EVENTS = 1000
BATCH_BYTES = 1024 * 1024  # of data that are read at once, but for a single event that is larger
LONGEST_ERROR = 2000  # characters that are kept of why an event is not published
ANSWER_SECONDS = 30.0  # a statement that takes longer is taken for a connection that is dead

# A peer that is gone is noticed, also where nothing is said for long.
CONNECTION: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "sse-fast relay",
    "client_encoding": "UTF8",
}
SCHEME = re.compile(r"postgres(?:ql)?(?:\+\w+)?://")  # as SQLAlchemy writes it, too

READ = """
    SELECT position, id, channel, also, event, key, size, CASE WHEN size <= %(largest)s THEN data END,
           extract(epoch FROM clock_timestamp() - written)::float8
    FROM (
        SELECT q.position, q.id, o.channel, o.also, o.event, o.key, o.data, o.written, octet_length(o.data) AS size,
               sum(coalesce(octet_length(o.data), 0)) OVER (ORDER BY q.position) AS up_to_here
        FROM (SELECT position, id FROM sse_fast_outbox_queue ORDER BY position LIMIT %(most)s) AS q
        LEFT JOIN sse_fast_outbox AS o ON o.id = q.id AND o.error IS NULL
    ) AS first
    WHERE up_to_here <= %(bytes)s OR up_to_here = size OR size IS NULL
    ORDER BY position
"""
DONE = """
    WITH queued AS (DELETE FROM sse_fast_outbox_queue WHERE position = ANY(%(positions)s))
    DELETE FROM sse_fast_outbox WHERE id = ANY(%(ids)s)
"""
PARK = """
    WITH queued AS (DELETE FROM sse_fast_outbox_queue WHERE position = %(position)s)
    UPDATE sse_fast_outbox SET error = %(error)s WHERE id = %(id)s
"""
FIND = """
    SELECT q.position, q.id, o.key FROM sse_fast_outbox_queue AS q JOIN sse_fast_outbox AS o ON o.id = q.id
    WHERE q.position = ANY(%(positions)s) ORDER BY q.position
"""
IDENTITY = """
    SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                     (SELECT oid FROM pg_database WHERE datname = current_database()),
                     'sse_fast_outbox_queue'::regclass::oid)
"""


class NoOutbox(SSEFastError):
    """The database has no outbox, or none that may be read."""


class Row(NamedTuple):
    """An event that was committed. size: bytes of its data; data: None where those are more than are read at once.
    age: seconds since it was written."""

    position: int
    id: int
    channel: str
    also: list[str]
    event: str | None
    key: str
    size: int
    data: str | None
    age: float

    @property
    def channels(self) -> list[str]:
        return [self.channel, *self.also]


class Place(NamedTuple):
    """Of a row, what says that it is this one: after a database was restored others may have its numbers."""

    position: int
    id: int
    key: str


class Queue:
    """Over an open connection; see `Queue.connect`. Raises what psycopg raises, TimeoutError for a database that does
    not answer, and NoOutbox."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], identity: str) -> None:
        self._connection = connection
        self.name = blake2b(identity.encode(), digest_size=8).hexdigest()
        """Of this outbox, in this database, of this cluster."""
        self.asleep = False
        """Whether who writes an event notifies."""

    @classmethod
    async def connect(cls, conninfo: str) -> Self:
        connection = await opened(conninfo)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.execute(f"LISTEN {NOTIFICATION}")
                ((identity,),) = await (await connection.execute(IDENTITY)).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege) as error:
            await connection.close()
            raise missing(error) from None
        except BaseException:
            await connection.close()
            raise
        return cls(connection, identity)

    async def close(self) -> None:
        await self._connection.close()

    async def lead(self) -> bool:
        """Whether this relay is the only one from here on, until the connection ends. False: another one is."""
        return await self._lock("pg_try_advisory_lock", LEADER)

    async def read(self, most: int = BATCH_EVENTS) -> list[Row]:
        """The next events, in their order: so many at most, and BATCH_BYTES or one event."""
        while True:
            found = await self._rows(READ, most=most, bytes=BATCH_BYTES, largest=LARGEST)
            gone = [row[0] for row in found if row[2] is None]  # somebody has deleted the event
            if gone:
                await self._rows(DONE, positions=gone, ids=[])
            # One that is queued twice is where it was first.
            rows = {row[1]: Row(*row) for row in reversed(found) if row[2] is not None}
            if rows or not gone:
                return list(reversed(rows.values()))

    async def done(self, places: Sequence[Row | Place]) -> None:
        """They are published."""
        await self._rows(DONE, positions=[row.position for row in places], ids=[row.id for row in places])

    async def park(self, row: Row, error: str) -> None:
        """It can't be published, and waits for somebody who looks at why."""
        words = error.replace("\0", "")[:LONGEST_ERROR]  # whatever some server has said
        await self._rows(PARK, position=row.position, id=row.id, error=words)

    async def find(self, positions: Sequence[int]) -> list[Place]:
        """Those that are still to be published, in their order."""
        return [Place(*row) for row in await self._rows(FIND, positions=list(positions))]

    async def sleep(self) -> bool:
        """From here on who commits an event notifies. False: somebody commits right now, and does not."""
        self.asleep = await self._lock("pg_try_advisory_lock", AWAKE)
        return self.asleep

    async def wake(self) -> None:
        if self.asleep:
            await self._lock("pg_advisory_unlock", AWAKE)
            self.asleep = False

    async def wait(self, seconds: float) -> None:
        """Until somebody has committed an event, or so long."""
        async for _ in self._connection.notifies(timeout=seconds, stop_after=1):
            pass

    async def _lock(self, function: LiteralString, number: int) -> bool:
        ((had,),) = await self._rows(
            f"SELECT {function}(('sse_fast_outbox_queue'::regclass::oid::bigint & 2147483647)::integer, %(number)s)",
            number=number,
        )
        return bool(had)

    async def _rows(self, statement: LiteralString, **values: Any) -> list[Any]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                cursor = await self._connection.execute(statement, values)
                return await cursor.fetchall() if cursor.description is not None else []
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege) as error:
            raise missing(error) from None


async def opened(conninfo: str) -> psycopg.AsyncConnection[Any]:
    async with asyncio.timeout(ANSWER_SECONDS):
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)


async def create(conninfo: str) -> None:
    """Make the tables. Raises psycopg.errors.DuplicateTable where they are there."""
    connection = await opened(conninfo)
    async with connection, connection.transaction():
        await connection.execute(DDL)


def conninfo_of(text: str) -> str:
    """Of a URL, also one of SQLAlchemy's, or of what libpq calls a connection string; what is not said in it is
    libpq's (PGHOST, .pgpass, …). Raises ValueError, in words that show no password."""
    url = SCHEME.match(text)
    try:
        given = conninfo_to_dict("postgresql://" + text[url.end() :] if url else text)
    except psycopg.ProgrammingError:
        raise ValueError(
            "this is no address of a PostgreSQL database; write postgresql://user@host/database, or what libpq takes: "
            "'host=/run/postgresql dbname=shop'"
        ) from None
    return make_conninfo(**{**CONNECTION, **given})


def missing(error: psycopg.Error) -> NoOutbox:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return NoOutbox(f"{first_line(error)}: the relay needs SELECT, UPDATE and DELETE on the tables of the outbox")
    return NoOutbox(
        f"there is no outbox in this database ({first_line(error)}); `sse-fast relay --outbox … --create` makes one, "
        "`sse-fast relay --ddl` prints what does, for a migration"
    )


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
