"""What was handed in to be published, until it is: it waits, and goes together with what came meanwhile."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from sse_fast.cluster.connection import Connection
from sse_fast.cluster.counts import Counts
from sse_fast.cluster.functions import Command, Log, Reply
from sse_fast.cluster.requests import Published, Request, answers_of, arguments_of
from sse_fast.cluster.trouble import NOT_LOADED
from sse_fast.errors import EngineUnavailable, KeyReused

GROUP_EVENTS, GROUP_BYTES = 512, 256 * 1024  # in one call, unless a single batch has more: about a millisecond of Redis

Answers = Sequence[Published | KeyReused]


class Told(Protocol):
    """Who waits for a request, as a future does."""

    def done(self) -> bool: ...
    def set_result(self, published: Any, /) -> None: ...
    def set_exception(self, error: Exception, /) -> None: ...


class Flight:
    """Requests that go in one call of the function, and who waits for each."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._futures: list[Told] = []

    def add(self, request: Request, waiting: Told) -> None:
        self.requests.append(request)
        self._futures.append(waiting)

    def commands(self, log: Log, wait: Command | None) -> Sequence[Command]:
        """The call, and `wait` (for replicas) behind it."""
        call = log.call("publish", *arguments_of(self.requests))
        return (call,) if wait is None else (call, wait)

    async def carry(self, connection: Connection, log: Log, wait: Command | None, seconds: float) -> Sequence[Reply]:
        """What is answered where the function was not there, and nothing has run: a server that keeps nothing has
        started again. Raises EngineUnavailable."""
        try:
            await connection.hold(log.load(), seconds)
        except EngineUnavailable as error:
            raise error.again(maybe=False) from None
        return await connection.ask_all(self.commands(log, wait), seconds)

    def land(self, reply: Reply, counts: Counts) -> None:
        answers = answers_of(self.requests, reply)
        counts.calls += 1
        for request, waiting, answer in zip(self.requests, self._futures, answers, strict=True):
            if isinstance(answer, Exception):
                if not waiting.done():
                    waiting.set_exception(answer)
                continue
            counts.events += len(answer.ids) - answer.repeated
            counts.repeated += answer.repeated
            if request.counted is not None:
                request.counted()
            if not waiting.done():
                waiting.set_result(answer)

    def fail(self, error: EngineUnavailable) -> None:
        for waiting in self._futures:
            if not waiting.done():
                waiting.set_exception(error.again())


def not_loaded(reply: Reply) -> bool:
    return isinstance(reply, Exception) and str(reply).startswith(NOT_LOADED)


class Waiting:
    """Requests that are on no flight yet, in their order. `size`: their bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._queue: deque[tuple[Request, Told]] = deque()

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, request: Request) -> asyncio.Future[Published]:
        waiting: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self.add_for(request, waiting)
        return waiting

    def add_for(self, request: Request, waiting: Told) -> None:
        self._queue.append((request, waiting))
        self.size += request.size

    def board(self) -> Flight:
        """The next flight; whoever has left publishes nothing, so there may be nobody on it."""
        flight, events, size = Flight(), 0, 0
        while self._queue:
            request, waiting = self._queue[0]
            if flight.requests and (events + request.count > GROUP_EVENTS or size + request.size > GROUP_BYTES):
                break
            self._queue.popleft()
            self.size -= request.size
            if not waiting.done():
                flight.add(request, waiting)
                events, size = events + request.count, size + request.size
        return flight

    def refuse(self, error: EngineUnavailable) -> None:
        while self._queue:
            request, waiting = self._queue.popleft()
            self.size -= request.size
            if not waiting.done():
                waiting.set_exception(error.again(maybe=False))
