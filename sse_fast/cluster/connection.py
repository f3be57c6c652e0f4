"""One connection to an engine: commands are answered in the order they go out in.

redis-py makes it: it connects, by TLS where that is wanted, and says who we are. From then on its transport is ours,
and hiredis reads and writes what goes over it: redis-py's own way, by streams, takes two to three times as long for one
command alone, and a publisher waits for one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from sse_fast.cluster.address import Address, Host, text_of
from sse_fast.cluster.functions import Command, Dialogue, Reply, T
from sse_fast.cluster.redis_py import (
    AsyncConnection,
    AsyncTls,
    InvalidResponse,
    RedisError,
    RedisTimeoutError,
    ResponseError,
    async_connection,
    hiredis,
)
from sse_fast.cluster.trouble import late, trouble_of, unreachable
from sse_fast.errors import EngineUnavailable

logger = logging.getLogger("sse_fast.cluster")

Replies = list[Reply]
Told = Callable[[Replies | EngineUnavailable], None]


class Asked:
    """Commands that went out together, and who is told of their answers."""

    __slots__ = ("count", "late", "replies", "told")

    def __init__(self, count: int, told: Told, late: asyncio.TimerHandle) -> None:
        self.count, self.told, self.late = count, told, late
        self.replies: Replies = []

    def answered(self, replies: Replies | EngineUnavailable) -> None:
        self.late.cancel()
        try:
            self.told(replies)
        except Exception:
            logger.exception("what an engine answered could not be told; the others go on")


class Connection(asyncio.Protocol):
    """Made by `connect`. `lost`: done when it is closed, by whomever."""

    def __init__(self, redis: AsyncConnection, name: str) -> None:
        self.name = name
        self._redis = redis
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._waiting: deque[Asked] = deque()
        self._why: EngineUnavailable | None = None
        self._over = self._loop.create_future()
        self.lost = self._loop.create_task(self._end(), name=f"sse_fast is connected to {name}")
        transport = transport_of(redis)
        assert transport is not None
        self._transport = transport
        transport.set_protocol(self)
        if transport.is_closing() or (redis._reader is not None and redis._reader.at_eof()):
            self.eof_received()

    async def _end(self) -> None:
        await self._over
        await closed(self._redis)

    # ---- for the transport -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                asked = self._waiting[0]
                asked.replies.append(reply)
                if len(asked.replies) == asked.count:
                    self._waiting.popleft()
                    asked.answered(asked.replies)
        except IndexError:
            self.abort(unreachable(self.name, "it says what it was not asked for"))
        except RedisError as error:
            self.abort(failure_of(error, self.name))

    def eof_received(self) -> None:
        self.abort(unreachable(self.name, "it closed the connection"))

    def connection_lost(self, error: Exception | None) -> None:
        self._why = self._why or unreachable(self.name, error or "it closed the connection")
        while self._waiting:
            self._waiting.popleft().answered(self._why.again(maybe=True))
        if not self._over.done():
            self._over.set_result(None)

    # ---- for who asks ------------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        return self._why is None

    def send(self, commands: Sequence[Command], seconds: float, told: Told) -> None:
        """`told` is given their replies, errors of the engine's among them; or why there are none, which is what it is
        after so long, and then the connection is closed. Never within this call. Raises EngineUnavailable."""
        if self._why is not None:
            raise self._why.again(maybe=False)
        late = self._loop.call_later(seconds, self._late, seconds)
        self._waiting.append(Asked(len(commands), told, late))
        self._transport.write(b"".join([hiredis.pack_command(cast(Any, command)) for command in commands]))

    async def ask_all(self, commands: Sequence[Command], seconds: float) -> Replies:
        """`send`, and wait. Raises EngineUnavailable."""
        answered: asyncio.Future[Replies] = self._loop.create_future()

        def tell(replies: Replies | EngineUnavailable) -> None:
            if answered.done():
                pass  # who asked has left
            elif isinstance(replies, EngineUnavailable):
                answered.set_exception(replies)
            else:
                answered.set_result(replies)

        self.send(commands, seconds, tell)
        return await answered

    async def ask(self, command: Command, seconds: float) -> Reply:
        """`ask_all`, of one."""
        return (await self.ask_all((command,), seconds))[0]

    async def hold(self, dialogue: Dialogue[T], seconds: float) -> T:
        """Carry out what a dialogue asks for."""
        try:
            command = next(dialogue)
            while True:
                command = dialogue.send(await self.ask(command, seconds))
        except StopIteration as end:
            return cast(T, end.value)

    def _late(self, seconds: float) -> None:
        self.abort(late(self.name, seconds, maybe=True))

    def abort(self, why: EngineUnavailable | None = None) -> None:
        """Now; whoever waits is told."""
        if self._why is None:
            self._why = why or unreachable(self.name, "the connection was closed here")
        self._transport.abort()

    async def close(self) -> None:
        """`abort`, and all of it is over."""
        self.abort()
        await asyncio.wait((self.lost,))


async def connect(address: Address, host: Host | None, seconds: float, *, sentinel: bool = False) -> Connection:
    """host: None, by its Unix socket. Raises EngineUnavailable (EngineRefused)."""
    name = text_of(host) if host is not None else str(address)
    redis = async_connection(address.given(host, sentinel=sentinel))
    if isinstance(redis, AsyncTls):
        redis.ssl_context = address.context
    try:
        async with asyncio.timeout(seconds):
            await redis.connect()
    except BaseException as error:
        if (transport := transport_of(redis)) is not None:
            transport.abort()
        await closed(redis)
        if isinstance(error, TimeoutError):
            raise late(name, seconds) from None
        if isinstance(error, RedisError):
            raise failure_of(error, name) from None
        raise
    return Connection(redis, name)


def failure_of(error: BaseException, name: str, seconds: float | None = None) -> EngineUnavailable:
    """What redis-py raised, as ours."""
    behind = error.__cause__ or error.__context__
    if isinstance(error, ResponseError):
        return trouble_of(error, name, "*").again(maybe=False)
    if isinstance(error, InvalidResponse):
        return unreachable(name, f"it does not speak Redis' protocol ({error})")
    if isinstance(error, RedisTimeoutError) and seconds is not None:
        return late(name, seconds)
    if isinstance(behind, RedisError):  # its connections to Unix sockets say it twice
        return failure_of(behind, name, seconds)
    return unreachable(name, behind or "it closed the connection")


def transport_of(redis: AsyncConnection) -> asyncio.WriteTransport | None:
    """To be aborted: redis-py's own closing waits until the other side has read what was written."""
    return redis._writer.transport if redis._writer is not None else None


async def closed(redis: AsyncConnection) -> None:
    with suppress(RedisError, OSError):
        await redis.disconnect(nowait=True)
