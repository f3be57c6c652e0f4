"""Three engines over one Redis, between which connections are cut, held and go deaf, and which is killed, stopped and
started again; what each follower was given is held to what the stream has in the end.

    python tests/chaos_engine.py --seconds 600 --seed 1

Redis saves what it acknowledges. So the law: every acknowledged event is in the stream once, in the place of its id; a
batch is there as a whole; a retry under its key is there once; every follower was given each entry of the stream once,
in its order, across all marks, and each mark follows on what it says.
"""

import argparse
import asyncio
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack

from cut_proxy import CutProxy, between
from redis_engines import engine_at, event, following, frames_of, ids_of, marks_of, until
from redis_servers import Redis, servers

from sse_fast.cluster.engine import Engine
from sse_fast.cluster.entries import Missed, id_of
from sse_fast.errors import EngineUnavailable
from sse_fast.event import EventId

PUBLISHERS = 12
HARM = ("cut", "deafen", "hold", "kill", "end", "pause", "forget functions")


async def harm(what: str, redis: Redis, proxy: CutProxy, chance: random.Random) -> None:
    if what == "cut":
        proxy.cut()
    elif what == "deafen":
        proxy.deafen()
    elif what == "hold":
        proxy.hold()
        await asyncio.sleep(chance.uniform(0.1, 1.5))
        proxy.release()
    elif what == "pause":
        redis.pause()
        await asyncio.sleep(chance.uniform(0.1, 1.2))
        redis.resume()
    elif what == "forget functions":
        await asyncio.to_thread(redis.ask, "FUNCTION", "FLUSH")
    else:
        await asyncio.to_thread(redis.kill, signal.SIGKILL if what == "kill" else signal.SIGTERM)
        await asyncio.to_thread(redis.start)


class Publisher:
    """Publishes batches, one after another, each under its key until it is acknowledged."""

    def __init__(self, number: int, engines: list[Engine], seed: int) -> None:
        self.acknowledged: dict[EventId, bytes] = {}
        self.stops = False
        self._number, self._engines, self._chance = number, engines, random.Random(f"{seed}.{number}")

    async def run(self) -> None:
        batch = 0
        while not self.stops:
            name = f"{self._number}.{batch}"
            events = [event(f"{name}.{place}") for place in range(self._chance.choice((1, 1, 1, 3)))]
            while True:
                try:
                    ids = (await self._chance.choice(self._engines).publish(events, name)).ids
                    break
                except EngineUnavailable:
                    await asyncio.sleep(0.02)
            assert [id.position - ids[0].position for id in ids] == list(range(len(events)))
            self.acknowledged.update(zip(ids, (frame for _, frame in events), strict=True))
            batch += 1


async def chaos(seed: int, seconds: float) -> str:
    """Returns what happened, in words."""
    chance, done = random.Random(seed), Counter[str]()
    with servers() as made:
        redis = made.redis("appendonly yes", "appendfsync always")
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(between(redis.port)) for _ in range(3)]
            engines = [await stack.enter_async_context(engine_at(proxy.url, timeout=0.6)) for proxy in proxies]
            readers = [await stack.enter_async_context(following(engine)) for engine in engines]
            publishers = [Publisher(number, engines, seed) for number in range(PUBLISHERS)]
            running = [asyncio.ensure_future(publisher.run()) for publisher in publishers]
            until_then = time.monotonic() + seconds
            while time.monotonic() < until_then:
                await asyncio.sleep(chance.uniform(0.1, 0.8))
                what = chance.choice(HARM)
                done[what] += 1
                await harm(what, redis, chance.choice(proxies), chance)
            for publisher in publishers:
                publisher.stops = True
            await asyncio.gather(*running)
            await until(lambda: engines[0].trouble is None)
            last = (await engines[0].publish([event("end")], "end")).ids[0]
            given = [await reader.reach(last) for reader in readers]
        entries = redis.do("XRANGE", "{sse_fast}:log", "-", "+")
        assert isinstance(entries, list)
        ids = [id_of(raw) for raw, _ in entries]
        for items in given:
            assert not any(isinstance(item, Missed) for item in items)
            assert ids_of(items) == ids
            for mark in marks_of(items)[1:]:
                assert mark.prev == ids[ids.index(EventId(mark.epoch, 0)) - 1]
        there = dict(zip((id for id in ids if id.position), frames_of(given[0]), strict=True))
        for publisher in publishers:
            assert publisher.acknowledged.items() <= there.items()
        assert len(there) == 1 + sum(len(publisher.acknowledged) for publisher in publishers), "nothing is there twice"
        return f"{len(there)} events in {len(marks_of(given[0]))} epochs; {dict(done)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}: {asyncio.run(chaos(arguments.seed, arguments.seconds))}")
