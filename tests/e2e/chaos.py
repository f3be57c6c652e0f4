"""What is done to a server of several workers: they are killed, stopped, restarted; or all of it is killed."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import psutil
from conftest import PATIENCE, EdgeProcess, until
from test_node import eventually, everybody_serves, safe_pids, wake_sockets_of

HANGS = 3.0  # --hung-worker-timeout of the server
Act = Callable[[], Awaitable[None]]


class Chaos:
    """`rage` for a while; `tally` says what was done, `wake_sockets` what a dead worker might leave behind."""

    def __init__(self, server: EdgeProcess, workers: int, rng: random.Random) -> None:
        self._server, self._workers, self._rng = server, workers, rng
        self.tally: Counter[str] = Counter()
        self.wake_sockets: set[str] = set()

    def acts_on_workers(self) -> list[Act]:
        return [self.kill, self.kill, self.kill, self.kill_several, self.stop, self.stop, self.hang, self.restart]

    def acts_on_all(self) -> list[Act]:
        return [self.kill, self.kill_all]

    async def rage(self, seconds: float, acts: list[Act]) -> None:
        """The acts in any order, again and again; all of them at least once."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        left = self._shuffled(acts)
        while left:
            await left.pop()()
            await asyncio.sleep(self._rng.uniform(0.1, 1.5))
            if not left and loop.time() < over:
                left = self._shuffled(acts)

    def _shuffled(self, acts: list[Act]) -> list[Act]:
        return self._rng.sample(acts, len(acts))

    # ---- acts --------------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """Any worker, also one that is just being born."""
        self._kill(self._rng.choice(self._server.workers()))

    async def kill_several(self) -> None:
        for worker in self._rng.sample(self._server.workers(), 2):
            self._kill(worker)

    async def stop(self) -> None:
        """For less than it takes to be taken for hung; now and then another one dies meanwhile."""
        worker = await self._serving()
        worker.suspend()
        self.tally["stopped"] += 1
        try:
            await asyncio.sleep(self._rng.uniform(0.05, 0.5 * HANGS))
            if self._rng.random() < 0.3:
                await self.kill()
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()

    async def hang(self) -> None:
        """For so long that it is replaced."""
        worker = await self._serving()
        self._hang(worker)
        await eventually(lambda: not _lives(worker), f"the end of the hung worker {worker.pid}")

    async def restart(self) -> None:
        """One by one; now and then one of them dies or hangs meanwhile, the one that is to leave perhaps. A new one
        that is killed before it serves ends the restart."""
        await asyncio.to_thread(everybody_serves, self._server, self._workers)
        before = self._server.workers()
        given_up = self._server.log().count("the rolling restart ends")
        os.kill(self._server.pid, signal.SIGHUP)
        trouble = self._rng.choice(("none", "a death", "a hang"))
        await asyncio.sleep(self._rng.uniform(0, 3))
        there = [worker for worker in before if _lives(worker)]
        if trouble == "a death":
            await self.kill()
        elif trouble == "a hang" and there:
            self._hang(self._rng.choice(there))

        def over() -> bool:
            return not any(map(_lives, before)) or self._server.log().count("the rolling restart ends") > given_up

        await asyncio.to_thread(until, over, "workers that are all new", 3 * PATIENCE)
        self.tally["restarted"] += not any(map(_lives, before))

    async def kill_all(self) -> None:
        """Parent and workers, at once; and start the server again."""
        for worker in self._server.workers():
            self._remember(worker)
        self._server.kill()
        self.tally["all killed"] += 1
        await asyncio.sleep(self._rng.choice((0, 0.5)))
        await asyncio.to_thread(self._server.start)

    # ---- whom --------------------------------------------------------------------------------------------------------

    async def _serving(self) -> psutil.Process:
        await asyncio.to_thread(everybody_serves, self._server, self._workers)
        return psutil.Process(self._rng.choice(await asyncio.to_thread(safe_pids, self._server)))

    def _kill(self, worker: psutil.Process) -> None:
        self._remember(worker)
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
            self.tally["killed"] += 1

    def _hang(self, worker: psutil.Process) -> None:
        self._remember(worker)
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.suspend()
            self.tally["hung"] += 1

    def _remember(self, worker: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            self.wake_sockets |= wake_sockets_of(worker)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
