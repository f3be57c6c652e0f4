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
from dataclasses import dataclass, field

import httpx
import orjson
import pytest
from client import Stream, position
from conftest import BOTH_DOORS, PATIENCE, Edges
from fault_proxy import FaultProxy
from whatwg import Event

SECONDS = float(os.environ.get("SSE_FAST_LEDGER_SECONDS", "8"))
CHANNELS = [f"channel-{number}" for number in range(12)]
TYPES = (None, None, "price", "größe")
PUBLISHERS = 6


@dataclass(frozen=True)
class Entry:
    """An acknowledged event."""

    channel: str
    type: str
    data: str


Ledger = dict[int, Entry]


@dataclass
class Customer:
    """A client and all it has got, over its connections."""

    channels: list[str]
    begins: int | None = None
    events: list[Event] = field(default_factory=list)
    cursor: str | None = None
    connections: int = 0
    complaints: list[str] = field(default_factory=list)

    async def listen(self, port: int, query: str = "") -> Stream:
        stream = await Stream.subscribe(port, self.channels, self.cursor, query if self.cursor is None else "")
        self.connections += 1
        return stream

    async def read(self, stream: Stream, *, until: int | None = None) -> None:
        """Take in what comes, until the stream ends, or up to the event at a position."""
        async for event in stream.events():
            if event.type == "$connected":
                if self.begins is None:
                    self.begins = position(event.last_event_id)
                elif event.data != '{"resume":"complete"}' or event.last_event_id != self.cursor:
                    self.complaints.append(f"asked for {self.cursor}, got {event}")
            elif event.type.startswith("$"):
                self.complaints.append(str(event))
            else:
                self.events.append(event)
            self.cursor = event.last_event_id
            if until is not None and position(self.cursor) >= until:
                return

    def owed(self, ledger: Ledger) -> list[tuple[int, Entry]]:
        if self.begins is None:
            return []
        mine = set(self.channels)
        return [(at, entry) for at, entry in sorted(ledger.items()) if at > self.begins and entry.channel in mine]

    def check(self, ledger: Ledger, *, to_the_end: bool) -> None:
        assert not self.complaints, self.complaints[:3]
        owed = [(at, entry.type, entry.data) for at, entry in self.owed(ledger)]
        got = [(position(event.last_event_id), event.type, event.data) for event in self.events]
        for number, (should, did) in enumerate(zip(owed, got, strict=False)):
            assert did == should, f"event {number} of {len(owed)} after {self.connections} connections"
        assert len(got) <= len(owed)
        if to_the_end:
            assert len(got) == len(owed)


async def publish(port: int, name: str, ledger: Ledger, over: asyncio.Event, rng: random.Random) -> None:
    """One publisher on one kept-alive connection: single events, arrays, NDJSON; now and then a burst, or a pause."""
    number = 0
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        while not over.is_set():
            batch = []
            for _ in range(rng.choice((1, 1, 1, 2, 8, 30))):
                data = f"{name} {number}" + "\n".join("é" * rng.randint(0, 60) for _ in range(rng.randint(0, 3)))
                batch.append({"channel": rng.choice(CHANNELS), "data": data, "event": rng.choice(TYPES)})
                number += 1
            kind = (
                rng.choice(("raw", "object", "array", "ndjson")) if len(batch) == 1 else rng.choice(("array", "ndjson"))
            )
            first = batch[0]
            match kind:
                case "raw":
                    query = {"event": first["event"]} if first["event"] else {}
                    response = await client.post(f"/publish/{first['channel']}", content=first["data"], params=query)
                case "object":
                    response = await client.post("/publish", json=first)
                case "array":
                    response = await client.post("/publish", json=batch)
                case _:
                    lines = b"\n".join(orjson.dumps(event) for event in batch)
                    response = await client.post(
                        "/publish", content=lines, headers={"content-type": "application/x-ndjson"}
                    )
            assert response.status_code == 200, response.text
            answer = response.json()
            ids = answer["ids"] if "ids" in answer else [answer["id"]]
            for id, event in zip(ids, batch, strict=True):
                assert position(id) not in ledger, "a position was given twice"
                ledger[position(id)] = Entry(event["channel"], event["event"] or "message", event["data"])
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


async def catch_up(customer: Customer, port: int, ledger: Ledger) -> None:
    """A last connection, kept until all is there."""
    owed = customer.owed(ledger)
    last = owed[-1][0] if owed else 0
    async with asyncio.timeout(PATIENCE):
        while customer.begins is None or position(customer.cursor or "") < last:
            with contextlib.suppress(ConnectionError):
                stream = await customer.listen(port)
                await customer.read(stream, until=last)
                stream.cut()


async def keep_ledger(
    server_port: int, client_port: int, count: int, rng: random.Random, calm: Callable[[], object] = lambda: None
) -> None:
    """Publish to the one port, listen at the other, and compare. `calm` is called before all catch up."""
    ledger: Ledger = {}
    over = asyncio.Event()
    customers = [Customer(rng.sample(CHANNELS, rng.choice((1, 1, 2, 5)))) for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        for number in range(PUBLISHERS):
            group.create_task(publish(server_port, f"p{number}", ledger, over, random.Random(rng.random())))
        for customer in customers:
            group.create_task(come_and_go(customer, client_port, over, random.Random(rng.random())))
        await asyncio.sleep(SECONDS)
        over.set()
    calm()
    assert sorted(ledger) == list(range(1, len(ledger) + 1)), "an event is in the log that nobody was told of"

    # A third of them never comes back: what they got must still be what they were owed, as far as it went.
    lost = set(map(id, rng.sample(customers, count // 3)))
    async with asyncio.TaskGroup() as group:
        for customer in customers:
            if id(customer) not in lost:
                group.create_task(catch_up(customer, client_port, ledger))
    for customer in customers:
        customer.check(ledger, to_the_end=id(customer) not in lost)
    tally = Counter(events=len(ledger), connections=sum(customer.connections for customer in customers))
    tally["deliveries"] = sum(len(customer.events) for customer in customers)
    print(f"{len(customers)} clients: {dict(tally)}")
    assert tally["deliveries"] > 20 * count
    assert tally["connections"] > 2 * count


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("SSE_FAST_LEDGER_SEED", random.randrange(2**32)))
    print(f"SSE_FAST_LEDGER_SEED={seed}")
    return random.Random(seed)


@BOTH_DOORS
async def test_nothing_is_lost_doubled_or_out_of_order_while_clients_come_and_go(
    edge: Edges, rng: random.Random, with_stream_port: bool
) -> None:
    server = edge(with_stream_port=with_stream_port)
    await keep_ledger(server.port, server.stream_port, 200, rng)
    assert server.stats()["gaps"] == 0


@BOTH_DOORS
async def test_nothing_is_lost_doubled_or_out_of_order_on_a_hostile_network(
    edge: Edges, rng: random.Random, with_stream_port: bool
) -> None:
    server = edge(with_stream_port=with_stream_port)
    async with FaultProxy(server.stream_port) as proxy:
        proxy.lifetime = lambda: rng.choice((None, rng.randint(1, 400), rng.randint(200, 60_000)))

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
            await keep_ledger(server.port, proxy.port, 80, rng, calm)
        finally:
            harassing.cancel()
        assert proxy.cuts > 50
    assert server.stats()["gaps"] == 0
