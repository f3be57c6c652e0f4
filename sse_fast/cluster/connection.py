"""One connection to an engine, over one of redis-py's: commands are answered in the order they go out in."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

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
)
from sse_fast.cluster.trouble import late, trouble_of, unreachable
from sse_fast.errors import EngineUnavailable


class Connection:
    """Made by `connect`. `lost`: done when it is closed, by whomever."""

    def __init__(self, redis: AsyncConnection, name: str) -> None:
        self.name = name
        self._redis = redis
        self._transport = transport_of(redis)
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._sending = asyncio.Lock()
        self._why: EngineUnavailable | None = None
        self.lost = asyncio.create_task(self._read(), name=f"sse_fast reads from {name}")

    async def _read(self) -> None:
        """All answers, until it is closed."""
        why: EngineUnavailable | None = None
        try:
            while True:
                try:
                    reply = await self._redis.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    reply = error
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(reply)
        except RedisError as error:
            why = failure_of(error, self.name)
        except IndexError:
            why = unreachable(self.name, "it says what it was not asked for")
        finally:
            self.abort(why)
            while self._waiting:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_exception(self._reason(maybe=True))
                    waiting.exception()  # whoever gave it up is not told that nobody looked
            await closed(self._redis)

    def _reason(self, *, maybe: bool) -> EngineUnavailable:
        return (self._why or unreachable(self.name, "the connection is closed")).again(maybe=maybe)

    @property
    def open(self) -> bool:
        return self._why is None and self._redis.is_connected

    async def ask_all(self, commands: Sequence[Command], seconds: float) -> list[Reply]:
        """Their replies, waiting for at most so long; errors of the engine's are some. Who is not answered in time
        closes it. Raises EngineUnavailable."""
        try:
            async with asyncio.timeout(seconds):
                async with self._sending:
                    if not self.open:  # redis-py would connect again
                        raise self._reason(maybe=False)
                    replies = [asyncio.get_running_loop().create_future() for _ in commands]
                    self._waiting.extend(replies)
                    await self._redis.send_packed_command(self._redis.pack_commands(commands), check_health=False)
                return [await reply for reply in replies]
        except TimeoutError:
            error = late(self.name, seconds, maybe=True)
            self.abort(error)
            raise error from None
        except RedisError as lost:
            self.abort(failure_of(lost, self.name))
            raise self._reason(maybe=True) from None

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

    def abort(self, why: EngineUnavailable | None = None) -> None:
        """Now; whoever waits is told."""
        if self._why is None:
            self._why = why or unreachable(self.name, "the connection was closed here")
        if self._transport is not None:
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
