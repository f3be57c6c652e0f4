"""Asks the webhook about subscriptions: at most so many questions at once, one for all who ask the same, and none whose
answer is still kept."""

import asyncio
import logging
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from sse_fast._native.base.histogram import Histogram
from sse_fast.access.addresses import one_client
from sse_fast.access.asking import HookAsked, HookSaid
from sse_fast.access.caching import max_age
from sse_fast.access.webhook import MOST_BYTES, BadHookAnswer, key_of, question, said_of
from sse_fast.edge.asked import Asked, AskFailed

logger = logging.getLogger("sse_fast.edge")

SECONDS = 1.0  # that an answer may take, the wait for a connection included
CONNECTIONS = 64
EACH = 16  # of them for the clients of one address
WAITING = 4096  # questions that have no answer yet
WAITING_EACH = 512
KEPT = 16_384  # answers
KEPT_BYTES = 16 * 1024 * 1024  # of all of them
KEPT_SECONDS = 3600.0  # at most, whatever max-age says
KEPT_BESIDE = 512  # bytes of an answer that says nothing
SAID_EVERY = 10.0  # seconds between two warnings of one cause
CAUSES = 16  # of warnings, in that time


class _Kept(NamedTuple):
    until: float
    said: HookSaid
    size: int


def size_of(said: HookSaid) -> int:
    """Bytes of memory that it takes to keep this, about."""
    names = (*(said.channels or ()), *(said.patterns or ()))
    texts = (*names, said.user or "", said.detail)
    return KEPT_BESIDE + 8 * len(names) + sum(map(sys.getsizeof, texts))


class _Share:
    """Of one address: the questions that have no answer yet, and whose turn it is."""

    __slots__ = ("questions", "turns")

    def __init__(self, most: int) -> None:
        self.questions, self.turns = 0, asyncio.Semaphore(most)


class Webhook:
    """asked: questions that went out, by their outcome: "granted", "refused", "failed". kept: those that a kept answer
    has spared. seconds: how long each question took."""

    def __init__(
        self,
        url: str,
        *,
        seconds: float = SECONDS,
        connections: int = CONNECTIONS,
        each: int = EACH,
        waiting: int = WAITING,
        waiting_each: int = WAITING_EACH,
        kept: int = KEPT,
        kept_bytes: int = KEPT_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = Asked(url, connections=connections)
        self._seconds, self._most_waiting = seconds, waiting
        self._most_kept, self._most_bytes = kept, kept_bytes
        self._each, self._most_waiting_each = each, waiting_each
        self._shares: dict[str, _Share] = {}
        self._now = now
        self._answers: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[bytes, asyncio.Task[HookSaid]] = {}
        self._warned: dict[str, float] = {}  # of each cause: when
        self.outcomes: Counter[str] = Counter()
        self.kept = 0
        self.seconds = Histogram()

    async def ask(self, asked: HookAsked, client: str) -> HookSaid:
        """Raises AskFailed: nobody knows whether they may."""
        key = key_of(asked, client)
        if (said := self._answer(key)) is not None:
            self.kept += 1
            return said
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= self._most_waiting:
                raise AskFailed(f"{self._most_waiting} questions wait for an answer already")
            share = self._shares.get(one_client(client))
            if share is not None and share.questions >= self._most_waiting_each:
                raise AskFailed(f"{self._most_waiting_each} questions of one address wait for an answer already")
            task = self._under_way[key] = asyncio.get_running_loop().create_task(self._ask(key, asked, client))
            task.add_done_callback(lambda task: self._done(key, task))
        try:
            return await asyncio.shield(task)  # whoever leaves leaves the others their answer
        except asyncio.CancelledError:
            if task.cancelled():
                raise AskFailed("this server ends") from None
            raise

    async def close(self) -> None:
        under_way = [*self._under_way.values()]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        await self._server.close()

    def _answer(self, key: bytes) -> HookSaid | None:
        found = self._answers.get(key)
        if found is None:
            return None
        if found.until <= self._now():
            self._forget(key)
            return None
        self._answers.move_to_end(key)
        return found.said

    @asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[None]:
        """So many of one address at once; further ones wait, and take no connection from the others."""
        address = one_client(client)
        share = self._shares.setdefault(address, _Share(self._each))
        share.questions += 1
        try:
            async with share.turns:
                yield
        finally:
            share.questions -= 1
            if not share.questions:
                del self._shares[address]

    async def _ask(self, key: bytes, asked: HookAsked, client: str) -> HookSaid:
        async with self._turn(client):
            return await self._answered(key, asked, client)

    async def _answered(self, key: bytes, asked: HookAsked, client: str) -> HookSaid:
        began = time.monotonic()
        try:
            body = question(asked, client)
            answer = await self._server.ask(json=body, seconds=self._seconds, most=MOST_BYTES)
            said = said_of(asked, answer.status, answer.body)
        except (AskFailed, BadHookAnswer) as error:
            self.outcomes["failed"] += 1
            self._warn(error)
            raise AskFailed(str(error)) from None
        finally:
            self.seconds.observe(time.monotonic() - began)
        self.outcomes["granted" if said.status == 200 else "refused"] += 1
        self._keep(key, said, max_age(answer.headers.get("cache-control")))
        return said

    def _keep(self, key: bytes, said: HookSaid, seconds: int | None) -> None:
        until = self._now() + min(seconds or 0, KEPT_SECONDS)
        if said.until is not None:
            until = min(until, said.until)
        if key in self._answers:
            self._forget(key)
        if until > self._now():
            kept = self._answers[key] = _Kept(until, said, size_of(said))
            self._bytes += kept.size
            while len(self._answers) > self._most_kept or self._bytes > self._most_bytes:
                self._forget(next(iter(self._answers)))

    def _forget(self, key: bytes) -> None:
        self._bytes -= self._answers.pop(key).size

    def _done(self, key: bytes, task: asyncio.Task[HookSaid]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # it was told to all who waited, if anybody still did

    def _warn(self, error: Exception) -> None:
        """Of each cause now and then: what somebody has mended and what else is wrong then are two."""
        now, cause = time.monotonic(), str(error)
        self._warned = {each: then for each, then in self._warned.items() if now - then < SAID_EVERY}
        if cause not in self._warned and len(self._warned) < CAUSES:
            self._warned[cause] = now
            logger.warning("the webhook of --authorize-url gave no answer, so nobody is let in by it: %s", cause)
