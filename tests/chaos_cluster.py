"""Chaos over several nodes: workers, nodes and Redis die and stand still while publishers publish with keys and
clients resume at whichever node; then the ledger. Redis keeps what it has acknowledged (`appendfsync always`), so
nothing may be missing, nothing doubled, and all see one order.

    python tests/chaos_cluster.py [--seconds 120] [--seed N]
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import redis_servers

sys.path[:0] = [str(Path(__file__).parent / "e2e")]
from client import Stream  # noqa: E402 - of tests/e2e
from fleet import Node, fleet  # noqa: E402

CHANNELS = ("orders", "prices", "chat")
PATIENCE = 60.0
Id = tuple[int, int]


def order(id: str) -> Id:
    epoch, _, position = id.partition("-")
    return int(epoch), int(position)


@dataclass
class Customer:
    """Who comes back wherever it can, and all that it got."""

    channel: str
    got: list[tuple[Id, str]] = field(default_factory=list)
    cursor: str | None = None
    began: Id | None = None
    connections: int = 0
    gaps: int = 0
    told: list[str] = field(default_factory=list)
    """All that it was told, for who has to find out what went wrong."""

    async def live(self, nodes: list[Node], rng: random.Random, done: asyncio.Event, last: "Last") -> None:
        while not (done.is_set() and last.of(self.channel) in (None, *(id for id, _ in self.got[-1:]))):
            with contextlib.suppress(OSError, TimeoutError, AssertionError):
                port = rng.choice(nodes).port
                stream = await Stream.subscribe(port, [self.channel], self.cursor)
                self.connections += 1
                self.told.append(f"from {self.cursor} at {port}")
                try:
                    async with asyncio.timeout(rng.uniform(0.2, 4)):
                        async for event in stream.events():
                            self.take(event.type, event.last_event_id, event.data)
                finally:
                    stream.cut()
            await asyncio.sleep(0.02)

    def take(self, kind: str, id: str, data: str) -> None:
        self.told.append(f"{kind} {id} {data}")
        if id:
            self.cursor = id
        if kind == "$connected" and self.began is None and id:
            self.began = order(id)
        elif kind == "$gap":
            self.gaps += 1
        elif kind == "message":
            self.got.append((order(id), data))


@dataclass
class Last:
    """What was acknowledged: by channel, id -> text."""

    acknowledged: dict[str, dict[Id, str]] = field(default_factory=lambda: {channel: {} for channel in CHANNELS})

    def of(self, channel: str) -> Id | None:
        return max(self.acknowledged[channel], default=None)


async def publish(
    nodes: list[Node], name: str, rng: random.Random, over: asyncio.Event, ledger: Last, tally: Counter[str]
) -> None:
    """One event after the other, each with a key, until it is acknowledged."""
    async with httpx.AsyncClient(timeout=10) as http:
        number = 0
        while not over.is_set():
            number += 1
            channel, text = rng.choice(CHANNELS), f"{name} {number}"
            while True:
                url = f"http://127.0.0.1:{rng.choice(nodes).port}/publish/{channel}"
                try:
                    answer = await http.post(url, content=text, headers={"idempotency-key": f'"{text}"'})
                except httpx.HTTPError:
                    tally["cut"] += 1
                    await asyncio.sleep(0.05)
                    continue
                tally[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    break
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(0.05)
            ledger.acknowledged[channel][order(json.loads(answer.content)["id"])] = text


class Chaos:
    def __init__(self, nodes: list[Node], redis: redis_servers.Redis, rng: random.Random) -> None:
        self.nodes, self.redis, self.rng = nodes, redis, rng
        self.tally: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        acts = [self.kill_worker, self.kill_worker, self.kill_node, self.kill_redis, self.pause_redis, self.stop_worker]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for act in self.rng.sample(acts, len(acts)):
                if time.monotonic() >= end:
                    break
                await act()
                self.tally[act.__name__] += 1
                await asyncio.sleep(self.rng.uniform(0.1, 1.5))

    async def kill_worker(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            self.rng.choice(self.rng.choice(self.nodes).workers()).kill()

    async def stop_worker(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            worker = self.rng.choice(self.rng.choice(self.nodes).workers())
            worker.suspend()
            await asyncio.sleep(self.rng.uniform(0.1, 1.5))
            worker.resume()

    async def kill_node(self) -> None:
        node = self.rng.choice(self.nodes)
        node.kill()
        await asyncio.sleep(self.rng.uniform(0, 1))
        node.begin()

    async def kill_redis(self) -> None:
        self.redis.kill()
        await asyncio.sleep(self.rng.uniform(0, 1.5))
        await asyncio.to_thread(self.redis.start)

    async def pause_redis(self) -> None:
        self.redis.pause()
        await asyncio.sleep(self.rng.uniform(0.1, 4))
        self.redis.resume()


async def chaos(seconds: float, seed: int, directory: Path) -> str:
    """A sentence of what was done. Raises AssertionError where a law does not hold."""
    rng = random.Random(seed)
    ledger, tally, over, done = Last(), Counter[str](), asyncio.Event(), asyncio.Event()
    with redis_servers.running("appendonly yes", "appendfsync always") as redis, fleet(directory, redis.url) as nodes:
        customers = [Customer(CHANNELS[number % len(CHANNELS)]) for number in range(12)]
        living = [asyncio.create_task(each.live(nodes, rng, done, ledger)) for each in customers]
        publishing = [
            asyncio.create_task(publish(nodes, f"publisher {number}", rng, over, ledger, tally)) for number in range(4)
        ]
        acts = Chaos(nodes, redis, rng)
        await acts.rage(seconds)
        over.set()
        for node in nodes:
            await asyncio.to_thread(node.wait_ready)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*publishing)
        done.set()
        with contextlib.suppress(TimeoutError):  # what is missing is said below
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*living)
        check(ledger, customers)
        for node in nodes:
            assert "Traceback" not in node.log(), node.log()[-6000:]
    count = sum(map(len, ledger.acknowledged.values()))
    cuts, gaps = sum(each.connections for each in customers), sum(each.gaps for each in customers)
    return (
        f"{count} acknowledged ({dict(tally)}); {dict(acts.tally)}; {cuts} connections, {gaps} gaps told; seed {seed}"
    )


def check(ledger: Last, customers: list[Customer]) -> None:
    for channel, acknowledged in ledger.acknowledged.items():
        everybody = {id: text for each in customers if each.channel == channel for id, text in each.got}
        texts = Counter(everybody.values())
        assert max(texts.values(), default=0) <= 1, f"doubled: {texts.most_common(3)}"
        for id, text in acknowledged.items():
            assert everybody.get(id, text) == text, f"{id}: {everybody[id]!r} was acknowledged as {text!r}"
    for number, each in enumerate(customers):
        ids = [id for id, _ in each.got]
        for before, after in pairwise(ids):
            if not before < after:
                at = max(place for place, line in enumerate(each.told) if f" {after[0]}-{after[1]} " in line)
                raise AssertionError(
                    f"customer {number}: {after} after {before}: {each.told[max(0, at - 12) : at + 2]}"
                )
        if each.began is None:
            continue
        got = set(ids)
        missing = [id for id in sorted(ledger.acknowledged[each.channel]) if id > each.began and id not in got]
        where = f"after {each.connections} connections and {each.gaps} gaps, the last at {each.cursor}"
        assert not missing, f"customer {number} misses {len(missing)}, from {missing[0]} on, {where}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    given = parser.parse_args()
    print("seed", given.seed, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        print(asyncio.run(chaos(given.seconds, given.seed, Path(directory))))
