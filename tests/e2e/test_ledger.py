"""The ledger: what publishers were told is published, against what each client got, while clients come and go.

The law: from the id that `$connected` gave a client at its first connection on, it gets every acknowledged event of its
channels, once, in order, over as many connections as it takes; and no gap is told, for the log here is large enough.

SSE_FAST_LEDGER_SECONDS makes it longer, SSE_FAST_LEDGER_SEED repeats a run's choices.
"""

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from caller import Callers
from client import position
from conftest import BOTH_TRANSPORTS, PATIENCE, EdgeProcess, Edges
from fault_proxy import FaultProxy
from ledger import CHANNELS, Customer, Ledger, catch_up, entry_of, ids_of, make_batch, post

from sse_fast.transports.life import Transport

SECONDS = float(os.environ.get("SSE_FAST_LEDGER_SECONDS", "5"))
PUBLISHERS = 6
CALLERS = 8


async def publish(url: str, name: str, ledger: Ledger, over: asyncio.Event, rng: random.Random) -> None:
    """One publisher on one kept-alive connection: single events, arrays, NDJSON; now and then a burst, or a pause."""
    number = 0
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        while not over.is_set():
            batch = make_batch(name, number, rng)
            number += len(batch)
            response = await post(client, batch, rng)
            assert response.status_code == 200, response.text
            for id, event in zip(ids_of(response), batch, strict=True):
                assert position(id) not in ledger, "a position was given twice"
                ledger[position(id)] = entry_of(event)
            await asyncio.sleep(rng.choice((0, 0.05, 0.2, 0.5)))


async def come_and_go(customer: Customer, port: int, over: asyncio.Event, rng: random.Random) -> None:
    """Connect, stay a while, break off in the middle of things, come back; until it is over."""
    query = rng.choice(("", "", "&history=50", "&last_event_id=earliest"))
    await asyncio.sleep(rng.random() * 2)
    while not over.is_set():
        with contextlib.suppress(ConnectionError):
            stream = await customer.listen(port, query)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(customer.read(stream), rng.expovariate(1 / 1.5))
            stream.cut(reset=rng.random() < 0.5)
        await asyncio.sleep(rng.choice((0, 0.01, 0.5 * rng.random())))


def much_has_happened(customers: list[Customer], by: FaultProxy | None, callers: Callers | None) -> bool:
    return (
        sum(customer.connections for customer in customers) > 2 * len(customers)
        and sum(len(customer.events) for customer in customers) > 20 * len(customers)
        and (by is None or by.cuts > 50)
        and (callers is None or len(callers.book.outcomes) > 10 * CALLERS)
    )


async def keep_ledger(
    server: EdgeProcess,
    count: int,
    rng: random.Random,
    *,
    by: FaultProxy | None = None,
    calm: Callable[[], object] = lambda: None,
    callers: Callers | None = None,
) -> None:
    """Publish, listen, by a proxy if there is one, have the app be called if there is one, and compare. `calm` is
    called before all catch up."""
    port = by.port if by is not None else server.port
    ledger: Ledger = {}
    over = asyncio.Event()
    customers = [
        Customer(rng.sample(CHANNELS, rng.choice((1, 1, 2, 5))), edge_path=server.edge_path) for _ in range(count)
    ]
    async with asyncio.TaskGroup() as group:
        for number in range(PUBLISHERS):
            group.create_task(publish(server.url, f"p{number}", ledger, over, random.Random(rng.random())))
        for customer in customers:
            group.create_task(come_and_go(customer, port, over, random.Random(rng.random())))
        if callers is not None:
            group.create_task(callers.call(server.port, CALLERS, over, rng))
        await asyncio.sleep(SECONDS)
        async with asyncio.timeout(4 * PATIENCE):
            while not much_has_happened(customers, by, callers):  # noqa: ASYNC110 - as on a machine that is slow
                await asyncio.sleep(0.05)
        over.set()
    calm()
    assert sorted(ledger) == list(range(1, len(ledger) + 1)), "an event is in the log that nobody was told of"

    # A third of them never comes back: what they got must still be what they were owed, as far as it went.
    lost = set(map(id, rng.sample(customers, count // 3)))
    async with asyncio.TaskGroup() as group:
        for customer in customers:
            if id(customer) not in lost:
                group.create_task(catch_up(customer, port, ledger))
    for customer in customers:
        customer.check(ledger, to_the_end=id(customer) not in lost)
    tally = Counter(events=len(ledger), connections=sum(customer.connections for customer in customers))
    tally["deliveries"] = sum(len(customer.events) for customer in customers)
    print(f"{len(customers)} clients: {dict(tally)}")


@BOTH_TRANSPORTS
async def test_nothing_is_lost_doubled_or_out_of_order_while_clients_come_and_go(
    edge: Edges, rng: random.Random, transport: Transport
) -> None:
    server = edge(transport=transport)
    await keep_ledger(server, 200, rng)
    assert server.stats()["gaps"] == 0


async def test_nothing_is_lost_doubled_or_out_of_order_beside_an_app_and_every_call_of_it_is_answered(
    edge: Edges, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = Callers.of_an_app_in(tmp_path, monkeypatch)
    server = edge(*callers.flags)
    await keep_ledger(server, 100, rng, callers=callers)
    assert server.stats()["gaps"] == 0
    tally = callers.compare(deaths=False)
    print(dict(tally))
    assert tally["calls answered"] == tally.total()


@BOTH_TRANSPORTS
async def test_nothing_is_lost_doubled_or_out_of_order_on_a_hostile_network(
    edge: Edges, rng: random.Random, transport: Transport
) -> None:
    server = edge(transport=transport)
    async with FaultProxy(server.port) as proxy:
        proxy.lifetime = lambda _: rng.choice((None, rng.randint(1, 400), rng.randint(200, 60_000)))

        async def harass() -> None:
            while True:
                await asyncio.sleep(rng.random())
                match rng.choice(("cut", "stall", "bytes", "slow")):
                    case "cut":
                        proxy.cut()
                    case "stall":
                        proxy.stalled = True
                        await asyncio.sleep(rng.random() / 2)
                        proxy.stalled = False
                    case "bytes":
                        proxy.single_bytes = not proxy.single_bytes
                    case "slow":
                        proxy.bytes_per_second = rng.choice((None, 20_000))

        harassing = asyncio.create_task(harass())

        def calm() -> None:
            harassing.cancel()
            proxy.stalled, proxy.single_bytes, proxy.bytes_per_second = False, False, None

        try:
            await keep_ledger(server, 80, rng, by=proxy, calm=calm)
        finally:
            harassing.cancel()
    assert server.stats()["gaps"] == 0
