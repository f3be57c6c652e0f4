"""Streams whose tokens end in the same second, while events come: all are told, end one after the other, are back, and
have everything. `benches/bench_expiry.py` does it with ten thousand."""

import asyncio
import time
from dataclasses import dataclass, field

import jwt
from client import Stream, position
from conftest import BOTH_TRANSPORTS, EdgeProcess, Edges
from whatwg import Event

from sse_fast.transports.life import Transport

SECRET = "a secret for these tests, thirty-two bytes at least"
STREAMS = 300
HOUR = 3600.0


@dataclass
class Listening:
    """One client, over its connections."""

    name: str
    until: float
    events: list[Event] = field(default_factory=list)
    ended: float = 0.0

    async def open(self, port: int) -> Stream:
        claims = {"sub": self.name, "exp": self.until, "sse": {"subscribe": ["news"]}}
        headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}
        if self.events:
            headers["Last-Event-ID"] = self.events[-1].last_event_id
        stream = await Stream.open(port, "/sse/news", headers)
        assert stream.status == 200
        return stream

    async def listen(self, port: int, stream: Stream, last: "asyncio.Future[str]") -> None:
        """To the end of its token, and with another one up to the last event."""
        async for event in stream.events():
            self.events.append(event)
        assert stream.aborted, "a clean end is taken for the last word by some clients"
        self.ended = time.time()
        assert stream.retry is not None
        await asyncio.sleep(stream.retry / 1000)
        self.until = time.time() + HOUR
        back = await self.open(port)
        async for event in back.events():
            self.events.append(event)
            if last.done() and position(event.last_event_id) >= position(last.result()):
                break
        back.cut()

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events if event.type == "message"]

    def told(self, kind: str) -> list[str]:
        return [event.data for event in self.events if event.type == kind]


async def publish(server: EdgeProcess, clients: list[Listening], last: "asyncio.Future[str]") -> list[str]:
    """Until all have ended once, and a little longer; what was published."""
    data: list[str] = []
    more = 5
    while more:
        more -= all(client.ended for client in clients)
        data.append(str(len(data)))
        id = await asyncio.to_thread(server.publish, "news", data[-1])
        await asyncio.sleep(0.1)
    last.set_result(id)
    data.append("the last")
    await asyncio.to_thread(server.publish, "news", data[-1])
    return data


@BOTH_TRANSPORTS
async def test_streams_whose_tokens_end_together_are_told_spread_back_and_complete(
    edge: Edges, transport: Transport
) -> None:
    server = edge(
        *("--token-secret", SECRET, "--token-leeway", "0", "--grant-publish", "**", "--drain-timeout", "1"),
        transport=transport,
    )
    until = time.time() + 8
    clients = [Listening(f"user-{number}", until) for number in range(STREAMS)]
    streams = [await client.open(server.port) for client in clients]
    last: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for client, stream in zip(clients, streams, strict=True):
            group.create_task(client.listen(server.port, stream, last))
        publishing = group.create_task(publish(server, clients, last))
    published = publishing.result()
    for client in clients:
        assert client.data[: len(published) - 1] == published[:-1], client.name
        assert len(client.told("$expiring")) == 1
        assert client.told("$closing")[:1] == ['{"reason":"expired"}']
        assert client.told("$connected")[1:] == ['{"resume":"complete"}']
        assert not client.told("$gap")
    ends = sorted(client.ended for client in clients)
    assert ends[-1] - ends[0] > 0.5, "they ended in one moment"
