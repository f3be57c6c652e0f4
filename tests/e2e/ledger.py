"""What a ledger is made of: entries for what was published, customers who get it over many connections, requests."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from client import Stream, position
from conftest import PATIENCE
from whatwg import Event

CHANNELS = [f"channel-{number}" for number in range(12)]
TYPES = (None, None, "price", "größe")


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
    server_may_close: bool = False
    edge_path: str = ""

    async def listen(self, port: int, query: str = "") -> Stream:
        query = query if self.cursor is None else ""
        stream = await Stream.subscribe(port, self.channels, self.cursor, query, self.edge_path)
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
            elif event.type == "$closing" and self.server_may_close:
                continue
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


def make_batch(name: str, number: int, rng: random.Random) -> list[dict[str, Any]]:
    """Events for one request, each with a text that no other has; `number`: that of the first."""
    batch = []
    for at in range(number, number + rng.choice((1, 1, 1, 2, 8, 30))):
        data = f"{name} {at}" + "\n".join("é" * rng.randint(0, 60) for _ in range(rng.randint(0, 3)))
        batch.append({"channel": rng.choice(CHANNELS), "data": data, "event": rng.choice(TYPES)})
    return batch


async def post(client: httpx.AsyncClient, batch: list[dict[str, Any]], rng: random.Random) -> httpx.Response:
    """Publish a batch in one request, in one of the ways there are."""
    first = batch[0]
    kinds = ("raw", "object", "array", "ndjson") if len(batch) == 1 else ("array", "ndjson")
    match rng.choice(kinds):
        case "raw":
            query = {"event": first["event"]} if first["event"] else {}
            return await client.post(f"/publish/{first['channel']}", content=first["data"], params=query)
        case "object":
            return await client.post("/publish", json=first)
        case "array":
            return await client.post("/publish", json=batch)
        case _:
            lines = b"\n".join(orjson.dumps(event) for event in batch)
            return await client.post("/publish", content=lines, headers={"content-type": "application/x-ndjson"})


def ids_of(response: httpx.Response) -> list[str]:
    answer = response.json()
    return answer["ids"] if "ids" in answer else [answer["id"]]


def entry_of(event: dict[str, Any]) -> Entry:
    return Entry(event["channel"], event["event"] or "message", event["data"])


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
