"""A connection to an engine for who has no event loop: each command waits for its answer."""

import os
from typing import Any, cast

from sse_fast.cluster.address import Address, Host, text_of
from sse_fast.cluster.connection import failure_of
from sse_fast.cluster.functions import Command, Dialogue, Reply, T
from sse_fast.cluster.primary import SENTINEL_SECONDS, latest, primary_said
from sse_fast.cluster.redis_py import RedisError, ResponseError, connection
from sse_fast.errors import EngineUnavailable


class Line:
    """Raises EngineUnavailable. host: None, by the address's Unix socket. seconds: that an answer may take."""

    def __init__(self, address: Address, host: Host | None, seconds: float, *, sentinel: bool = False) -> None:
        self.name = text_of(host) if host is not None else str(address)
        self.seconds = seconds
        self._process = os.getpid()
        self._redis = connection(address.given(host, sentinel=sentinel), seconds=seconds)
        self._open = True
        try:
            self._redis.connect()
        except RedisError as error:
            self.close()
            raise failure_of(error, self.name, seconds) from None
        except BaseException:
            self.close()
            raise

    @property
    def usable(self) -> bool:
        """Whether it is this process's, and nobody has closed it since it was used."""
        if self._process != os.getpid() or not self._open:
            return False
        try:
            return not self._redis.can_read(timeout=0)
        except RedisError:
            return False

    def ask(self, command: Command) -> Reply:
        """An error of the engine's is a reply."""
        try:
            self._redis.send_packed_command(self._redis.pack_command(*command), check_health=False)
            return self._redis.read_response()
        except ResponseError as reply:
            return reply
        except RedisError as error:
            self.close()
            raise failure_of(error, self.name, self.seconds).again(maybe=True) from None
        except BaseException:  # of a signal: an answer is still to come
            self.close()
            raise

    def hold(self, dialogue: Dialogue[T]) -> T:
        try:
            command = next(dialogue)
            while True:
                command = dialogue.send(self.ask(command))
        except StopIteration as end:
            return cast(T, end.value)

    def close(self) -> None:
        self._open = False
        self._redis.disconnect()


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
