"""One connection to an engine: commands are answered in the order they go out in. hiredis writes and reads them."""

import asyncio
import socket
from collections import deque
from typing import cast

try:
    import hiredis as hiredis
except ModuleNotFoundError:  # the extra is not installed
    hiredis = None  # type: ignore[assignment]

from sse_fast.cluster.address import Address, Host, text_of
from sse_fast.cluster.functions import Command, Dialogue, Reply, T
from sse_fast.cluster.trouble import late, trouble_of, unreachable
from sse_fast.errors import EngineUnavailable


def need_hiredis() -> None:
    if hiredis is None:
        raise ModuleNotFoundError("an engine needs hiredis: pip install 'sse-fast[redis]'", name="hiredis")


class Connection(asyncio.Protocol):
    """Made by `connect`. `lost`: done when it is closed, by whomever."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._why: EngineUnavailable | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while self._waiting and (reply := self._reader.gets()) is not False:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(reply)
        except hiredis.ProtocolError as error:
            self.abort(unreachable(self.name, f"it does not speak Redis' protocol ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        why = self._why or unreachable(self.name, exc or "it closed the connection")
        self._transport = None
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(why.again(maybe=True))
                waiting.exception()  # whoever gave it up is not told that nobody looked
        if not self.lost.done():
            self.lost.set_result(None)

    @property
    def open(self) -> bool:
        return self._transport is not None and self._why is None

    def send(self, *command: str | bytes | int) -> asyncio.Future[Reply]:
        """The reply to come; an error of the engine's is one. Raises EngineUnavailable where nothing can be sent."""
        if self._transport is None or self._why is not None:
            raise (self._why or unreachable(self.name, "the connection is closed")).again(maybe=False)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]
        return reply

    async def ask(self, command: Command, seconds: float) -> Reply:
        """As `send`, waiting for at most so long. Who is not answered in time closes it."""
        reply = self.send(*command)
        done, _ = await asyncio.wait((reply,), timeout=seconds)
        if not done:
            error = late(self.name, seconds, maybe=True)
            self.abort(error)
            raise error
        return reply.result()

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


async def connect(address: Address, host: Host | None, seconds: float, *, sentinel: bool = False) -> Connection:
    """host: None, by its Unix socket. Raises EngineUnavailable (EngineRefused)."""
    loop = asyncio.get_running_loop()
    name = text_of(host) if host is not None else str(address)
    connection = Connection(name)
    try:
        async with asyncio.timeout(seconds):
            if host is None:
                await loop.create_unix_connection(lambda: connection, address.path)
            else:
                context = address.ssl
                await loop.create_connection(
                    lambda: connection, *host, ssl=context, server_hostname=host[0] if context is not None else None
                )
            for command in address.greeting(sentinel=sentinel):
                reply = await connection.send(*command)
                if isinstance(reply, Exception):
                    raise trouble_of(reply, name, "*")
    except TimeoutError:
        connection.abort()
        raise late(name, seconds) from None
    except OSError as error:
        connection.abort()
        raise unreachable(name, error) from None
    except BaseException:
        connection.abort()
        raise
    return connection
