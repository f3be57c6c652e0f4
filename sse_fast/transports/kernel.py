"""What only the kernel can do about a client that takes nothing: hold little for it, and close its connection in time.

What a program has sent and the client has not taken waits in the kernel, by default up to megabytes a connection, and
all TCP of the machine shares that memory. And no ASGI server offers a way to abort a connection whose client does not
read. So the sockets that listen are made here, with what accepted ones take over from them (tcp(7), socket(7)):

- SO_SNDBUF bounds the memory itself, the kernel's own structures included. Small writes take several times their bytes.
- TCP_NOTSENT_LOWAT is what waits at most unsent. It leaves the rest of the bound to bytes that are on their way, so
  that a fast reader far away is sent to in full, while one that has stopped reading holds little.
- TCP_USER_TIMEOUT closes a connection whose client takes nothing, or has vanished.
"""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass

from sse_fast._native.base.tcp import look_at_connections, peer_key, quiet_connections, reset_connections
from sse_fast.base.address import resolve
from sse_fast.hub.hub import end_after
from sse_fast.hub.memory import HeldElsewhere
from sse_fast.settings import Settings

logger = logging.getLogger("sse_fast.transports")

UNSENT = 8  # the part of the bound that may be unsent
UNREAD = 3.0  # seconds in which nothing could be sent of an answer that waits: its client does not read
KEEPALIVE = (60, 15, 4)  # seconds of silence until TCP asks, seconds between, and how often: a peer that vanished


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one connection: bytes of kernel memory for what its client has not taken, as many as the kernel grants, and
    seconds it may take nothing."""

    send_buffer: int
    stuck_after: float

    @property
    def unsent(self) -> int:
        return self.send_buffer // UNSENT

    def set(self, made: socket.socket) -> None:
        """Put a TCP socket, and all that it accepts from now on, under these bounds."""
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer // 2)  # the kernel doubles it
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.unsent)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.stuck_after * 1000))


def bound_socket(host: str, port: int, bounds: Bounds | None) -> socket.socket:
    """A TCP socket that is bound to an address, which other workers may share, and does not listen yet; so all
    connections that it accepts are under the bounds. Raises OSError."""
    address, family = resolve(host, port)
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" takes IPv4 too
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in zip(
            (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), KEEPALIVE, strict=True
        ):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        if bounds is not None:
            bounds.set(made)
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"{error.strerror}: {host} port {port}") from None
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def bounds_of(settings: Settings) -> Bounds:
    """Of the port. The hub ends streams whose client takes nothing; where that leaves the connection open, there is
    time to read what was under way, and then the kernel ends it."""
    patience = end_after(settings.send_timeout, settings.slow_policy)
    return Bounds(granted(settings.send_buffer), patience + max(10.0, settings.send_timeout))


def granted(send_buffer: int) -> int:
    """Of so many bytes those that the kernel gives a socket: at most twice net.core.wmem_max."""
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer // 2)
        return asking.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


class ServerConnections:
    """ServerConnections(port, bounds): those that an ASGI server in this process has accepted on a port of ours."""

    def __init__(self, port: int, bounds: Bounds) -> None:
        self._port = port
        self.charge = 2 * bounds.unsent  # with the kernel's own structures
        """Bytes of kernel memory that one whose client does not read is taken to hold."""
        self._doomed: list[tuple[str, int]] = []
        self._resetting: asyncio.Future[int] | None = None
        self._closed = False
        self._streams: dict[bytes, int] = {}  # how many a peer has
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)  # now, while there are descriptors
        self._spare = os.dup(self._status)  # to reset connections when there are none left

    def close(self) -> None:
        self._closed = True
        if self._resetting is None:  # else the thread that is at it still needs them
            os.close(self._spare)
            os.close(self._status)

    def begin_stream(self, peer: tuple[str, int | str]) -> None:
        """The connection from this address has become a stream, or has one more: `end_stream` is owed."""
        key = peer_key(peer[0], int(peer[1]))
        self._streams[key] = self._streams.get(key, 0) + 1

    def end_stream(self, peer: tuple[str, int | str]) -> None:
        key = peer_key(peer[0], int(peer[1]))
        if self._streams[key] > 1:
            self._streams[key] -= 1
        else:
            del self._streams[key]

    async def held(self) -> HeldElsewhere:
        """What waits for their clients in the kernel."""
        loop = asyncio.get_running_loop()
        for_streams, for_answers, unread = await loop.run_in_executor(
            None, look_at_connections, self._port, self._descriptors(), self._streams, int(UNREAD * 1000)
        )
        return HeldElsewhere(for_streams, for_answers, unread)

    async def quiet(self, busy: dict[bytes, int]) -> tuple[int, list[tuple[int, bytes, str, int]]]:
        """How many there are; and of each whose `peer_key` is not in `busy` an inode, which tells it from an earlier
        one with the same peer, the peer's key, its address and port."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, quiet_connections, self._port, self._descriptors(), busy)

    def reset(self, peer: tuple[str, int | str]) -> None:
        """Have the connection from this address end soon, and what waits for its client dropped."""
        address, port = peer
        self._doomed.append((address, int(port)))  # Granian's are text
        if len(self._doomed) == 1 and self._resetting is None:  # who is ended at the same time is looked for together
            loop = asyncio.get_running_loop()
            loop.call_soon(self._reset, loop)

    def _reset(self, loop: asyncio.AbstractEventLoop) -> None:
        doomed, self._doomed = self._doomed, []
        if self._closed:
            return
        self._resetting = loop.run_in_executor(
            None, reset_connections, doomed, self._port, self._descriptors(), self._spare, self._status
        )
        self._resetting.add_done_callback(self._was_reset)

    def _was_reset(self, reset: "asyncio.Future[int]") -> None:
        self._resetting = None
        if not reset.cancelled() and (failure := reset.exception()) is not None:
            logger.error("connections that are to end could not be reset", exc_info=failure)
        if self._closed:
            self.close()
        elif self._doomed:
            self._reset(asyncio.get_running_loop())

    def _descriptors(self) -> int:
        """More than the greatest descriptor that is open."""
        status = os.pread(self._status, 4096, 0)
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(b"FDSize:"))
