"""Chaos over a whole fleet: three nodes of two workers, a Redis with a replica and three Sentinels, and a link of our
own before each of these for each node, while publishers publish with keys and customers resume at whichever node. Then
the ledger: `chaos_ledger` has the laws.

    python tests/chaos_fleet.py --seconds 600 --seed 1

A seed says which acts come in what order, and how long each lasts. Exit status 1: a law does not hold.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import redis_servers
from chaos_ledger import Customer, Ledger, Snapshot, order
from chaos_links import DOWN, UP, Fault, Link, Links, links
from redis_servers import HOST, wait_until

from sse_fast import AsyncPublisher
from sse_fast.errors import EngineUnavailable

sys.path[:0] = [str(Path(__file__).parent / "e2e")]
from client import Stream  # noqa: E402 - of tests/e2e
from conftest import EdgeProcess, Transport  # noqa: E402

CHANNELS = ("orders", "prices", "chat")
NODES, WORKERS, CUSTOMERS, PUBLISHERS, SENTINELS = 3, 2, 12, 4, 3
PATIENCE = 120.0  # seconds; Sentinels on a machine that stood still for two seconds do nothing for thirty
PAUSE = 0.05  # of a publisher between two events
BOTH = frozenset((UP, DOWN))


class Redis(redis_servers.Redis):
    """One of the two. Others reach it by its link alone, whose port it says is its own."""

    keeps_its_settings = True
    link: Link

    def lines(self) -> list[str]:
        said = [f"replica-announce-ip {HOST}", f"replica-announce-port {self.link.port}"]
        return [*super().lines(), *said, "replica-read-only yes"]

    def saves(self, saves: bool) -> None:
        """Whether what it has is in a file before it is acknowledged."""
        self.do("CONFIG", "SET", "appendonly", "yes" if saves else "no", "appendfsync", "always")
        wait_until(lambda: self.info("persistence")["aof_rewrite_in_progress"] == "0", "the file is written")
        wait_until(lambda: self.info("persistence")["aof_rewrite_scheduled"] == "0", "the file is written")
        self.do("CONFIG", "REWRITE")


@dataclass
class Site:
    """Where a node is, or another program: its own ways to each Redis, and to each Sentinel."""

    redis: Sequence[Link]
    sentinels: Sequence[Link]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'{HOST}:{link.port}' for link in self.sentinels)}/fleet"

    @property
    def links(self) -> Sequence[Link]:
        return [*self.redis, *self.sentinels]

    @classmethod
    async def made(cls, made: Links, servers: Sequence[Redis], sentinels: Sequence[redis_servers.Sentinel]) -> "Site":
        redis = [await made.to(server.port) for server in servers]

        def theirs(answer: bytes) -> bytes:
            """Another port of as many digits."""
            for server, link in zip(servers, redis, strict=True):
                answer = answer.replace(b"\r\n%d\r\n" % server.link.port, b"\r\n%d\r\n" % link.port)
            return answer

        return cls(redis, [await made.to(each.port, theirs) for each in sentinels])


class Fleet:
    """All of it; made by `fleet`."""

    def __init__(self, redis: Sequence[Redis], sentinels: Sequence[redis_servers.Sentinel]) -> None:
        self.redis, self.sentinels = redis, sentinels
        self.sites: list[Site] = []
        self.nodes: list[EdgeProcess] = []

    def primary(self) -> Redis:
        """As the Sentinels name it: most of those that answer."""
        named: Counter[int] = Counter()
        for each in self.sentinels:
            with contextlib.suppress(OSError, AssertionError, RuntimeError):
                named[each.primary()[1]] += 1
        (port, _), *_ = named.most_common(1) or [(self.redis[0].link.port, 0)]
        return next(each for each in self.redis if each.link.port == port)

    def other(self, redis: Redis) -> Redis:
        return next(each for each in self.redis if each is not redis)

    def is_settled(self) -> bool:
        """One primary, as all say, and the other follows it."""
        try:
            ports = {each.primary()[1] for each in self.sentinels}
            if len(ports) != 1:
                return False
            primary = self.primary()
            other = self.other(primary)
            return (
                primary.is_primary
                and other.info("replication").get("master_port") == str(primary.link.port)
                and other.follows()
            )
        except (OSError, RuntimeError, KeyError):
            return False

    def settle(self) -> None:
        wait_until(self.is_settled, f"one primary: {[each.log()[-600:] for each in self.redis]}", PATIENCE)

    def heal(self) -> None:
        for link in [*(each.link for each in self.redis), *(link for site in self.sites for link in site.links)]:
            link.heal()


@asynccontextmanager
async def fleet(directory: Path) -> AsyncIterator[Fleet]:
    """All nodes ready."""
    async with links() as made:
        servers = [Redis(directory / f"redis{number}") for number in range(2)]
        for each in servers:
            each.link = await made.to(each.port)
        servers[1].settings.append(f"replicaof {HOST} {servers[0].link.port}")
        sentinels = [
            redis_servers.Sentinel(directory / f"sentinel{number}", servers[0].link, SENTINELS // 2 + 1)
            for number in range(SENTINELS)
        ]
        whole = Fleet(servers, sentinels)
        try:
            for process in (*servers, *sentinels):
                await asyncio.to_thread(process.start)
            await asyncio.to_thread(wait_until, lambda: all(map(knows_all, sentinels)), "the Sentinels know all")
            await asyncio.to_thread(whole.settle)
            whole.sites = [await Site.made(made, servers, sentinels) for _ in range(NODES + 1)]
            for site in whole.sites[:NODES]:
                flags = ("--workers", str(WORKERS), "--backplane", site.url)
                whole.nodes.append(EdgeProcess(directory, flags, Transport.NATIVE))
                whole.nodes[-1].begin()
            for node in whole.nodes:
                await asyncio.to_thread(node.wait_ready)
            yield whole
        finally:
            for node in whole.nodes:
                if node.running:
                    node.kill()
            for process in (*servers, *sentinels):
                process.kill()


def knows_all(sentinel: redis_servers.Sentinel) -> bool:
    answer = sentinel.do("SENTINEL", "MASTER", "fleet")
    assert isinstance(answer, list)
    said = dict(zip(answer[::2], answer[1::2], strict=True))
    return int(said[b"num-other-sentinels"]) == SENTINELS - 1 and int(said[b"num-slaves"]) == 1


class Crowd:
    """Who publishes, and who listens."""

    def __init__(self, whole: Fleet, seed: int) -> None:
        self.fleet, self.seed = whole, seed
        self.ledger = Ledger()
        self.answers: Counter[str] = Counter()
        self.customers = {
            f"{number}": Customer(CHANNELS[: 1 + number % 3] if number % 4 else (CHANNELS[number // 4 % 3],))
            for number in range(CUSTOMERS)
        }
        self.publishing: list[asyncio.Task[None]] = []
        self.listening: list[asyncio.Task[None]] = []
        self.over = asyncio.Event()
        self.last: dict[str, str] = {}
        """By channel the id after which there is nothing, once there is one."""

    def begin(self) -> None:
        self.publishing = [asyncio.create_task(self.publish(number)) for number in range(PUBLISHERS)]
        self.publishing.append(asyncio.create_task(self.publish_without_a_node()))
        self.listening = [asyncio.create_task(self.listen(name, each)) for name, each in self.customers.items()]

    def events(self, name: str, rng: random.Random) -> list[tuple[tuple[str, ...], str]]:
        """One to be published, or a batch."""
        self.answers["publications"] += 1
        made = []
        for place in range(rng.choice((1, 1, 1, 4))):
            to = tuple(rng.sample(CHANNELS, rng.choice((1, 1, 2))))
            made.append((to, json.dumps({"to": to, "of": f"{name} {self.answers['publications']}.{place}"})))
        return made

    def acknowledged(self, ids: Sequence[str], events: list[tuple[tuple[str, ...], str]]) -> None:
        places = [order(id) for id in ids]
        first = places[0]
        assert places == [(first[0], first[1] + at) for at in range(len(events))], f"a batch is together: {ids}"
        for id, (channels, text) in zip(places, events, strict=True):
            self.ledger.acknowledge(id, channels, text)

    async def publish(self, number: int) -> None:
        """One after the other, each under a key until it is acknowledged, at whichever node."""
        rng = random.Random(f"{self.seed}.publisher.{number}")
        async with httpx.AsyncClient(timeout=10) as http:
            while not self.over.is_set():
                await self.publish_one(http, rng, self.events(f"publisher {number}", rng))
                await asyncio.sleep(PAUSE)

    async def publish_one(
        self, http: httpx.AsyncClient, rng: random.Random, events: list[tuple[tuple[str, ...], str]]
    ) -> list[str]:
        body = json.dumps([{"channels": channels, "data": text} for channels, text in events])
        headers = {"content-type": "application/json", "idempotency-key": f'"{json.loads(events[0][1])["of"]}"'}
        while True:
            url = f"http://{HOST}:{rng.choice(self.fleet.nodes).port}/publish"
            try:
                answer = await http.post(url, content=body, headers=headers)
            except httpx.HTTPError:
                self.answers["cut off"] += 1
            else:
                self.answers[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    ids: list[str] = answer.json()["ids"]
                    self.acknowledged(ids, events)
                    return ids
                assert answer.status_code == 503, (answer.status_code, answer.text)
            await asyncio.sleep(0.05)

    async def publish_without_a_node(self) -> None:
        rng = random.Random(f"{self.seed}.job")
        async with AsyncPublisher(self.fleet.sites[NODES].url, patience=1.0) as publisher:
            while not self.over.is_set():
                events = self.events("job", rng)
                key = json.loads(events[0][1])["of"]
                batch = [{"channels": channels, "data": text} for channels, text in events]
                while True:
                    try:
                        ids = await publisher.publish_many(batch, key=key)
                        break
                    except EngineUnavailable:
                        self.answers["told a job that it is away"] += 1
                        await asyncio.sleep(0.05)
                self.acknowledged([str(id) for id in ids], events)
                await asyncio.sleep(4 * PAUSE)

    def is_through(self, customer: Customer) -> bool:
        wants = [order(self.last[channel]) for channel in customer.channels if channel in self.last]
        return bool(wants) and customer.cursor is not None and order(customer.cursor) >= max(wants)

    async def listen(self, name: str, customer: Customer) -> None:
        """Some come back elsewhere all the time, others stay where they are until they are cut."""
        rng = random.Random(f"{self.seed}.customer.{name}")
        longest = 60 if int(name) % 3 == 0 else 4
        while not self.is_through(customer):
            with contextlib.suppress(OSError, TimeoutError, AssertionError):  # not 200
                port = rng.choice(self.fleet.nodes).port
                async with asyncio.timeout(10):
                    stream = await Stream.subscribe(port, customer.channels, customer.cursor)
                customer.connections += 1
                try:
                    async with asyncio.timeout(rng.uniform(0.2, longest)):
                        async for event in stream.events():
                            customer.take(event.type, event.last_event_id, event.data)
                            if self.is_through(customer):
                                break
                finally:
                    stream.cut()
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """Once all is well: everybody gets all that there is, and what Redis has is taken down."""
        self.over.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.publishing)
        rng = random.Random(f"{self.seed}.end")
        async with httpx.AsyncClient(timeout=10) as http:
            last = [((channel,), json.dumps({"to": (channel,), "of": f"the end of {channel}"})) for channel in CHANNELS]
            self.last = dict(zip(CHANNELS, await self.publish_one(http, rng, last), strict=True))
        with contextlib.suppress(TimeoutError):  # what they miss is said by the ledger
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*self.listening)
        self.ledger.snapshots.append(Snapshot.taken(self.fleet.primary()))

    async def cancel(self) -> None:
        for task in (*self.publishing, *self.listening):
            task.cancel()
        await asyncio.gather(*self.publishing, *self.listening, return_exceptions=True)


class Acts:
    """What is done to them, one after the other; each undoes itself, and counts what it was."""

    def __init__(self, crowd: Crowd, seed: int, say: Callable[[str], None]) -> None:
        self.crowd, self.fleet, self.say = crowd, crowd.fleet, say
        self.rng = random.Random(f"{seed}.acts")
        self.done: Counter[str] = Counter()
        self.all = (
            self.kill_worker,
            self.stop_worker,
            self.kill_node,
            self.kill_a_primary_that_saves,
            self.kill_a_primary_that_does_not,
            self.fail_over_to_a_replica_that_lags,
            self.split_brain,
            self.stop_redis,
            self.kill_sentinel,
            self.flush,
            self.cut,
            self.slow,
            self.stall,
            self.half_open,
            self.no_questions_pass,
            self.no_answers_pass,
        )

    async def rage(self, seconds: float) -> None:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            for act in self.rng.sample(self.all, len(self.all)):
                if time.monotonic() - began >= seconds:
                    break
                self.say(f"{time.monotonic() - began:7.1f} {act.__name__}")
                await act()
                self.done[act.__name__.replace("_", " ")] += 1
                self.fleet.heal()
                for task in (*self.crowd.publishing, *self.crowd.listening):
                    if task.done():
                        task.result()
                await asyncio.sleep(self.rng.uniform(0.1, 2))

    async def a_while(self, longest: float = 4.0) -> None:
        await asyncio.sleep(self.rng.uniform(0.1, longest))

    # ---- processes ---------------------------------------------------------------------------------------------------

    async def kill_worker(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            self.rng.choice(self.rng.choice(self.fleet.nodes).workers()).kill()

    async def stop_worker(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            worker = self.rng.choice(self.rng.choice(self.fleet.nodes).workers())
            worker.suspend()
            await self.a_while(3)
            worker.resume()

    async def kill_node(self) -> None:
        node = self.rng.choice(self.fleet.nodes)
        node.kill()
        await self.a_while(2)
        node.begin()
        await self.a_while(2)

    async def kill_a_primary_that_saves(self) -> None:
        """It is back before the Sentinels have agreed on another one, or behind that."""
        primary = await asyncio.to_thread(self.fleet.primary)
        await asyncio.to_thread(primary.saves, True)
        await self.a_while(1)
        await self.kill(primary, self.rng.choice((0.0, 0.0, 4.0)))

    async def kill_a_primary_that_does_not(self) -> None:
        primary = await asyncio.to_thread(self.fleet.primary)
        await asyncio.to_thread(primary.saves, False)
        await self.a_while(1)
        self.crowd.ledger.snapshots.append(await asyncio.to_thread(Snapshot.taken, primary))
        await self.kill(primary, self.rng.choice((0.0, 0.0, 4.0)))

    async def kill(self, primary: Redis, longest: float) -> None:
        primary.kill()
        await asyncio.sleep(self.rng.uniform(0, longest))
        await asyncio.to_thread(primary.start)

    async def fail_over_to_a_replica_that_lags(self) -> None:
        """What is taken meanwhile is acknowledged, and lost."""
        primary = await asyncio.to_thread(self.fleet.primary)
        primary.link.replicas_have(Fault(BOTH))
        await self.a_while(2)
        primary.kill()
        await self.another_primary_than(primary)
        await asyncio.to_thread(primary.start)

    async def split_brain(self) -> None:
        """The primary is cut off from all but one or two nodes, which do not hear of another one."""
        primary = await asyncio.to_thread(self.fleet.primary)
        at = self.fleet.redis.index(primary)
        primary.link.has(Fault(BOTH))
        primary.link.replicas_have(Fault(BOTH))
        with_it = self.rng.sample(self.fleet.sites, self.rng.choice((1, 2)))
        for site in self.fleet.sites:
            for link in site.sentinels if site in with_it else site.redis[at : at + 1]:
                link.has(Fault(BOTH))
        await self.another_primary_than(primary)
        await self.a_while(3)

    async def stop_redis(self) -> None:
        """For less than it takes to name another primary, or for more."""
        redis = self.rng.choice(self.fleet.redis)
        redis.pause()
        try:
            await self.a_while()
        finally:
            redis.resume()

    async def kill_sentinel(self) -> None:
        sentinel = self.rng.choice(self.fleet.sentinels)
        sentinel.kill()
        await self.a_while()
        await asyncio.to_thread(sentinel.start)

    async def flush(self) -> None:
        primary = await asyncio.to_thread(self.fleet.primary)
        with contextlib.suppress(RuntimeError, OSError, AssertionError):  # it is none just now
            self.crowd.ledger.snapshots.append(await asyncio.to_thread(Snapshot.taken, primary, True))

    async def another_primary_than(self, primary: Redis) -> None:
        """Or it is given up: Sentinels wait when they have just had one, or when this machine stood still."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15):
                while await asyncio.to_thread(self.fleet.primary) is primary:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                self.done["another primary"] += 1

    # ---- ways --------------------------------------------------------------------------------------------------------

    def some_links(self) -> list[Link]:
        """Of one site, or of all; to a Redis, to both, or to all that there is."""
        sites = self.rng.choice((self.fleet.sites, [self.rng.choice(self.fleet.sites)]))
        which = self.rng.choice((slice(1), slice(1, 2), slice(2), slice(None)))
        return [link for site in sites for link in site.links[which]]

    async def cut(self) -> None:
        for link in self.some_links():
            link.cut()

    async def slow(self) -> None:
        delay = self.rng.uniform(0.01, 0.5)
        await self.faulty(Fault(delay=delay))

    async def stall(self) -> None:
        await self.faulty(Fault(BOTH))

    async def no_questions_pass(self) -> None:
        await self.faulty(Fault(frozenset((UP,))))

    async def no_answers_pass(self) -> None:
        """What is asked is done."""
        await self.faulty(Fault(frozenset((DOWN,))))

    async def faulty(self, fault: Fault) -> None:
        for link in self.some_links():
            link.has(fault)
        await self.a_while()

    async def half_open(self) -> None:
        for link in self.some_links():
            link.half_open()
        await self.a_while()


async def chaos(seconds: float, seed: int, directory: Path, say: Callable[[str], None] = lambda line: None) -> str:
    """What happened, in words. Raises AssertionError where a law does not hold."""
    async with fleet(directory) as whole:
        crowd = Crowd(whole, seed)
        acts = Acts(crowd, seed, say)
        try:
            crowd.begin()
            await acts.rage(seconds)
            say("all is well again, once they agree")
            await asyncio.to_thread(whole.settle)
            say("they agree")
            for sentinel in whole.sentinels:  # a machine that stands still is no reason to lose the last events
                sentinel.do("SENTINEL", "SET", "fleet", "down-after-milliseconds", 60_000)
            for node in whole.nodes:
                await asyncio.to_thread(node.wait_ready)
            await crowd.end()
        finally:
            await crowd.cancel()
        crowd.ledger.check(crowd.customers)
        for node in whole.nodes:
            assert node.running, node.log()[-6000:]
            assert "Traceback" not in node.log(), node.log()[-6000:]
    return report(crowd, acts, seed)


def report(crowd: Crowd, acts: Acts, seed: int) -> str:
    ledger, customers = crowd.ledger, crowd.customers.values()
    deliveries = sum(1 for each in customers for _ in each.got())
    return "\n".join(
        [
            f"seed {seed}: every law holds",
            f"  {len(ledger.acknowledged)} events acknowledged, {len(ledger.lost())} of them lost by Redis, each told; "
            f"{deliveries} deliveries",
            f"  answers: {dict(sorted(crowd.answers.items()))}",
            f"  {sum(each.connections for each in customers)} connections, {sum(each.gaps for each in customers)} gaps "
            f"told to {len(customers)} customers, {len(ledger.needless)} of them needless; {len(ledger.last.marks)} "
            "epochs in Redis at the end",
            *(f"  {count:4} {act}" for act, count in sorted(acts.done.items())),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    given = parser.parse_args()
    for ends in (signal.SIGINT, signal.SIGTERM):  # also where it was started in the background
        signal.signal(ends, signal.default_int_handler)
    print("seed", given.seed, flush=True)
    with tempfile.TemporaryDirectory() as made:
        print(asyncio.run(chaos(given.seconds, given.seed, Path(made), lambda line: print(line, flush=True))))
