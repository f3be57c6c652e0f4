"""An app behind the front while the server restarts, worker by worker, and in the end stops: no answer is lost, and of
the streams that it answers with no event.

SSE_FAST_RESTARTS says how often it restarts.
"""

import asyncio
import os
import random
import signal
from pathlib import Path

import psutil
import pytest
from caller import Callers
from conftest import PATIENCE, Edges, until
from swarms import Streams
from test_node import everybody_serves

WORKERS = 4
RESTARTS = int(os.environ.get("SSE_FAST_RESTARTS", "1"))
CALLERS = 16
HELD = 400  # streams


async def test_rolling_restarts_answer_every_call_of_the_app_and_a_stop_loses_none(
    edge: Edges, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = Callers.of_an_app_in(tmp_path, monkeypatch)
    server = edge("--workers", str(WORKERS), *callers.flags)
    server.noise_expected = True  # Granian warns of more workers than cores
    await asyncio.to_thread(everybody_serves, server, WORKERS)
    over = asyncio.Event()

    def restart() -> None:
        before = server.workers()
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: not any(map(psutil.Process.is_running, before)), "workers that are all new", 3 * PATIENCE)
        everybody_serves(server, WORKERS)

    held = Streams(server, "held", f"http://127.0.0.1:{server.port}/held", HELD)
    async with asyncio.TaskGroup() as group:
        group.create_task(callers.call(server.port, CALLERS, over, rng))
        with held.fleet:
            await asyncio.to_thread(held.begin)
            for _ in range(RESTARTS):
                await asyncio.to_thread(restart)
            await asyncio.to_thread(held.end)
            held.check()
            streams = held.fleet.board.counters()
        restarted = callers.book.tally()
        server.terminate()
        assert await asyncio.to_thread(server.wait) == 0, server.log()
        over.set()
    tally = callers.compare(deaths=False)
    print(dict(tally), streams)
    assert streams["opened"] >= (1 + RESTARTS) * HELD, "each was ended, and came back"
    assert streams["deliveries"] > 10 * HELD
    assert restarted["calls answered"] > 10 * CALLERS
    assert not restarted["calls refused"], "the others serve"
    assert not tally["calls refused with 502"] + tally["calls refused with 504"]
