"""Chaos: workers die, hang, and are restarted, under publishers and thousands of clients, of the edge's streams and of
those that an app behind the front answers with.

The law: what was acknowledged reaches everybody, once, in order, and no gap is told, for the log here is large enough.
An event whose acknowledgement was lost with its connection is in the log once or not at all; if it is there it is owed
like any other. So what the log holds in the end is read first and put to the publishers' books, and then every client
is held to the log. An app behind the front is called all the while, and its answers are held to a law of their own
(`caller.CallBook`).

Two kinds of clients: some that parse every byte, and come and go (`ledger.Customer`); thousands that are held to their
books natively, and come back when the server ends them (`sse_fast.bench`).

A stopped worker's listen queues still take connections, which nobody serves: everybody here gives up after
ANSWER_WITHIN and tries again, as people reload a page.

SSE_FAST_CHAOS_SECONDS makes it longer, SSE_FAST_LEDGER_SEED repeats a run's choices (not its timing).
"""

import asyncio
import contextlib
import os
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from caller import Callers
from chaos import HANGS, Chaos
from client import position
from conftest import PATIENCE, EdgeProcess, Edges
from ledger import CHANNELS, Customer, Entry, Ledger, catch_up, entry_of, ids_of, make_batch, post
from swarms import ANSWER_WITHIN, Streams
from test_node import abstract_names, eventually, everybody_serves, wake_sockets_of

SECONDS = float(os.environ.get("SSE_FAST_CHAOS_SECONDS", "16"))
WORKERS = 4
PUBLISHERS = 6
CUSTOMERS = 160
CALLERS = 8
STREAMS = 1500  # of each swarm
END = "the-end"  # the channel of the last event


# ---- publishers ------------------------------------------------------------------------------------------------------


@dataclass
class Book:
    """What the publishers know: events by position, those nobody knows of, and how often they were put off."""

    acknowledged: Ledger = field(default_factory=dict)
    doubtful: Counter[Entry] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)

    def compare(self, log: Ledger) -> None:
        for at, entry in self.acknowledged.items():
            assert log.get(at) == entry, f"acknowledged at {at}"
        rest = Counter(entry for at, entry in log.items() if at not in self.acknowledged)
        assert not rest - self.doubtful, (
            f"in the log, and nobody published them, or not so often: {rest - self.doubtful}"
        )


async def publish(server: EdgeProcess, name: str, book: Book, over: asyncio.Event, rng: random.Random) -> None:
    """One publisher. After a pause it comes over a new connection, which may lead to any worker."""
    number = 0
    limits = httpx.Limits(keepalive_expiry=0.2)
    async with httpx.AsyncClient(base_url=server.url, timeout=ANSWER_WITHIN, limits=limits) as client:
        batch: list[dict[str, Any]] = []
        while not over.is_set():
            if not batch:
                batch = make_batch(name, number, rng)
                number += len(batch)
            if await deliver(client, batch, book, rng):
                batch = []
            await asyncio.sleep(rng.choice((0.05, 0.1, 0.5, 1.0)))


async def deliver(client: httpx.AsyncClient, batch: list[dict[str, Any]], book: Book, rng: random.Random) -> bool:
    """False: it was not published, try again."""
    try:
        response = await post(client, batch, rng)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        book.met["unreachable"] += 1
        return False
    except httpx.TransportError:  # it may be published, so it is never sent again
        book.met["doubtful"] += len(batch)
        book.doubtful.update(map(entry_of, batch))
        return True
    if response.status_code == 503:
        book.met["refused"] += 1
        return False
    assert response.status_code == 200, response.text
    for id, event in zip(ids_of(response), batch, strict=True):
        assert position(id) not in book.acknowledged, "a position was given twice"
        book.acknowledged[position(id)] = entry_of(event)
    return True


# ---- clients that parse every byte -----------------------------------------------------------------------------------


async def come_and_go(customer: Customer, port: int, over: asyncio.Event, rng: random.Random) -> None:
    query = rng.choice(("", "", "&history=50", "&last_event_id=earliest"))
    await asyncio.sleep(rng.random() * 2)
    while not over.is_set():
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN):
                stream = await customer.listen(port, query)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(customer.read(stream), rng.expovariate(1 / 4))
            stream.cut(reset=rng.random() < 0.5)
        await asyncio.sleep(rng.choice((0, 0.01, 0.5 * rng.random())))


async def whole_log(server: EdgeProcess, channels: list[str], end: int) -> Ledger:
    """All that is in the log. `end`: the position of its last event, which is on the channel END."""
    log: Ledger = {}
    for channel in channels:  # one by one, as an event does not say which channel it came by
        reader = Customer([channel, END], cursor="earliest", edge_path=server.edge_path)
        stream = await reader.listen(server.port)
        async with asyncio.timeout(PATIENCE):
            await reader.read(stream, until=end)
        stream.cut()
        assert not reader.complaints, reader.complaints
        assert reader.begins == 0
        log |= {position(event.last_event_id): Entry(channel, event.type, event.data) for event in reader.events[:-1]}
    assert sorted(log) == list(range(1, end)), "an event is on no channel, or on two"
    return log


# ---- all of it together ----------------------------------------------------------------------------------------------


async def hold_the_law(
    server: EdgeProcess, callers: Callers, rng: random.Random, rage: Callable[[], Awaitable[None]]
) -> Counter[str]:
    """Have everybody publish, listen and call the app while `rage` goes on; then compare the books. What happened, in
    numbers."""
    book, over = Book(), asyncio.Event()
    customers = [
        Customer(rng.sample(CHANNELS, rng.choice((1, 1, 2, 5))), server_may_close=True, edge_path=server.edge_path)
        for _ in range(CUSTOMERS)
    ]
    with ExitStack() as stack:
        ways = {"own": f"{server.url}/sse", "held": f"http://127.0.0.1:{server.port}/held"}
        swarms = [Streams(server, name, way, STREAMS) for name, way in ways.items()]
        for swarm in swarms:
            stack.enter_context(swarm.fleet)
            await asyncio.to_thread(swarm.begin)
        async with asyncio.TaskGroup() as group:
            for number in range(PUBLISHERS):
                group.create_task(publish(server, f"p{number}", book, over, random.Random(rng.random())))
            for customer in customers:
                group.create_task(come_and_go(customer, server.port, over, random.Random(rng.random())))
            group.create_task(callers.call(server.port, CALLERS, over, rng, within=ANSWER_WITHIN))
            await rage()
            over.set()
        await asyncio.to_thread(everybody_serves, server, WORKERS)
        for swarm in swarms:
            await asyncio.to_thread(swarm.end)
        await asyncio.to_thread(server.wait_connections, len(swarms) * STREAMS)

        end = position(await asyncio.to_thread(server.publish, END, "."))
        stats = await asyncio.to_thread(server.stats)
        assert stats["log"]["position"] == stats["log"]["events"] == end
        assert stats["gaps"] == 0
        refused = Counter(stats["refused_by"])
        assert refused.total() == refused["shutdown"], "only by workers that are restarted"
        log = await whole_log(server, [*CHANNELS, *swarms[0].channels, *swarms[1].channels], end)
        book.compare({at: entry for at, entry in log.items() if entry.channel in CHANNELS})
        for swarm in swarms:
            swarm.compare(log)

        # A third of them never comes back: what they got must still be what they were owed, as far as it went.
        lost = set(map(id, rng.sample(customers, len(customers) // 3)))
        async with asyncio.TaskGroup() as group:
            for customer in customers:
                if id(customer) not in lost:
                    group.create_task(catch_up(customer, server.port, log))
        for customer in customers:
            customer.check(log, to_the_end=id(customer) not in lost)
        counters = [swarm.fleet.board.counters() for swarm in swarms]
    await asyncio.to_thread(server.wait_connections, 0)
    tally = Counter(events=len(log), customers=len(customers), streams=len(swarms) * STREAMS)
    tally += callers.compare(deaths=True)
    tally["acknowledged"] = len(book.acknowledged) + sum(one["answered"] for one in counters)
    tally["connections of customers"] = sum(customer.connections for customer in customers)
    tally["deliveries to customers"] = sum(len(customer.events) for customer in customers)
    tally["connections of streams"] = sum(one["opened"] for one in counters)
    tally["deliveries to streams"] = sum(one["deliveries"] for one in counters)
    for word, count in book.met.items():
        tally[f"publishing {word}"] = count
    for swarm in swarms:
        for word, (count, _) in swarm.fleet.board.faults().items():
            tally[word] += count
    assert tally["deliveries to customers"] > 10 * CUSTOMERS
    assert tally["connections of streams"] > 3 * STREAMS, "chaos did not reach them"
    assert tally["calls answered"] > 2 * CALLERS
    assert tally["calls broken"], "chaos did not reach the callers"
    return tally


@pytest.fixture
def callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callers:
    return Callers.of_an_app_in(tmp_path, monkeypatch)


def server_of(edge: Edges, *flags: str) -> EdgeProcess:
    """A server of several workers."""
    flags += ("--workers", str(WORKERS), "--hung-worker-timeout", str(HANGS))
    server = edge(*flags)
    server.noise_expected = True  # it tells of those that die
    everybody_serves(server, WORKERS)
    return server


async def test_workers_killed_stopped_and_restarted_lose_nothing_and_leave_nothing_behind(
    edge: Edges, callers: Callers, rng: random.Random
) -> None:
    server = server_of(edge, *callers.flags)
    parent = psutil.Process(server.pid)
    descriptors, threads = parent.num_fds(), parent.num_threads()
    chaos = Chaos(server, WORKERS, rng)

    tally = await hold_the_law(server, callers, rng, lambda: chaos.rage(SECONDS, chaos.acts_on_workers()))
    print(dict(tally | chaos.tally))

    await eventually(lambda: parent.num_fds() == descriptors, f"the parent to have {descriptors} descriptors")
    await eventually(lambda: parent.num_threads() == threads, f"the parent to have {threads} threads")
    nothing_stays(server, chaos)


async def test_a_whole_server_killed_over_and_over_loses_nothing_that_is_in_its_log_file(
    edge: Edges, callers: Callers, rng: random.Random, tmp_path: Path
) -> None:
    server = server_of(edge, "--log-file", str(tmp_path / "log"), *callers.flags)
    chaos = Chaos(server, WORKERS, rng)
    tally = await hold_the_law(server, callers, rng, lambda: chaos.rage(SECONDS / 2, chaos.acts_on_all()))
    print(dict(tally | chaos.tally))
    assert "set aside" not in server.log()
    nothing_stays(server, chaos)


def nothing_stays(server: EdgeProcess, chaos: Chaos) -> None:
    """Stop it; neither a process of it stays nor anything else."""
    workers = server.workers()
    wake_sockets = {name for worker in workers for name in wake_sockets_of(worker)}
    assert len(workers) == len(wake_sockets) == WORKERS
    assert abstract_names() & chaos.wake_sockets <= wake_sockets
    server.stop()
    assert not [worker for worker in workers if worker.is_running()]
    assert not abstract_names() & (wake_sockets | chaos.wake_sockets)
    assert not [name for name in os.listdir("/dev/shm") if re.search("sse[-_]fast", name)]
