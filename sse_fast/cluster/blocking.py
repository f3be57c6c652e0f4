"""A connection to an engine for who has no event loop: each command waits for its answer."""

import os
import select
import socket
import ssl
import time
from typing import Any, cast

from sse_fast.cluster.address import Address, Host, text_of
from sse_fast.cluster.connection import hiredis
from sse_fast.cluster.functions import Command, Dialogue, Reply, T
from sse_fast.cluster.primary import SENTINEL_SECONDS, latest, primary_said
from sse_fast.cluster.trouble import late, trouble_of, unreachable
from sse_fast.errors import EngineUnavailable


class Line:
    """Raises EngineUnavailable. host: None, by the address's Unix socket. seconds: that an answer may take."""

    def __init__(self, address: Address, host: Host | None, seconds: float, *, sentinel: bool = False) -> None:
        self.name = text_of(host) if host is not None else str(address)
        self.seconds = seconds
        self._process = os.getpid()
        self._reader = hiredis.Reader()
        try:
            if host is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(seconds)
                self._socket.connect(address.path)
            else:
                context = address.ssl  # before there is a socket: its files may not be there
                self._socket = socket.create_connection(host, seconds)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context is not None:
                    self._socket = context.wrap_socket(self._socket, server_hostname=host[0])
        except TimeoutError:
            raise late(self.name, seconds) from None
        except OSError as error:
            raise unreachable(self.name, error) from None
        try:
            for command in address.greeting(sentinel=sentinel):
                reply = self.ask(command)
                if isinstance(reply, Exception):
                    raise trouble_of(reply, self.name, "*")
        except EngineUnavailable as error:
            self.close()
            raise error.again(maybe=False) from None

    @property
    def usable(self) -> bool:
        """Whether it is this process's, and nobody has closed it since it was used."""
        if self._process != os.getpid() or self._socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def ask(self, command: Command, seconds: float | None = None) -> Reply:
        """An error of the engine's is a reply."""
        seconds = self.seconds if seconds is None else seconds
        until = time.monotonic() + seconds
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
            while (reply := self._reader.gets()) is False:
                self._socket.settimeout(max(0.001, until - time.monotonic()))
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError("it closed the connection")
                self._reader.feed(data)
        except (TimeoutError, ssl.SSLWantReadError):
            self.close()
            raise late(self.name, seconds, maybe=True) from None
        except OSError as error:
            self.close()
            raise unreachable(self.name, error, maybe=True) from None
        except hiredis.ProtocolError as error:
            self.close()
            raise unreachable(self.name, f"it does not speak Redis' protocol ({error})", maybe=True) from None
        except BaseException:  # of a signal: an answer is still to come
            self.close()
            raise
        return reply

    def hold(self, dialogue: Dialogue[T], seconds: float | None = None) -> T:
        try:
            command = next(dialogue)
            while True:
                command = dialogue.send(self.ask(command, seconds))
        except StopIteration as end:
            return cast(T, end.value)

    def close(self) -> None:
        self._socket.close()


def line_to_primary(address: Address, moved: Host | None, seconds: float) -> Line:
    """As `primary.connect_to_primary`."""
    if address.kind == "socket":
        return Line(address, None, seconds)
    if address.kind == "sentinel":
        return Line(
            address, latest(address, [_ask_sentinel(address, host, seconds) for host in address.hosts]), seconds
        )
    errors: list[EngineUnavailable] = []
    for host in [moved] if moved is not None else address.hosts:
        try:
            return Line(address, host, seconds)
        except EngineUnavailable as error:
            errors.append(error)
    raise errors[0]


def _ask_sentinel(address: Address, host: Host, seconds: float) -> tuple[int, Host] | EngineUnavailable:
    try:
        line = Line(address, host, min(seconds, SENTINEL_SECONDS), sentinel=True)
        try:
            reply: Any = line.ask(("SENTINEL", "MASTER", address.service))
        finally:
            line.close()
        return primary_said(address, host, reply)
    except EngineUnavailable as error:
        return error
