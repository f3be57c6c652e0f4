"""--access-log: a line for each stream that opens, and one for each that ends: how long, how much, and why."""

import asyncio
import logging
from typing import Any

import pytest
from front_port import edge_of
from support import until
from test_metrics import Stream

from sse_fast.edge.app import Edge
from sse_fast.errors import EndReason
from sse_fast.logs import log_config
from sse_fast.transports.life import Transport


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sse_fast.access")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("client", "transport", "channel", "user", "resumed", "reason", "age", "events", "bytes")
    found = [record for record in caplog.records if record.name == "sse_fast.access"]
    return [
        {"message": line.getMessage()} | {name: vars(line)[name] for name in names if name in vars(line)}
        for line in found
    ]


class Listening:
    """One stream by either transport."""

    def __init__(self, edge: Edge, transport: Transport, path: str) -> None:
        self._edge, self._transport, self._path = edge, transport, path
        self.received = b""

    async def open(self) -> "Listening":
        if self._transport is Transport.ASGI:
            self._stream = Stream(self._edge, self._path)
            await self._stream.until(lambda received: b"$connected" in received)
        else:
            assert self._edge.front is not None
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._edge.front.port)
            self._writer.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await self._reader.readuntil(b"$connected")
        return self

    async def leave(self) -> None:
        if self._transport is Transport.ASGI:
            await self._stream.leave()
        else:
            self._writer.close()


@pytest.mark.parametrize("transport", Transport)
async def test_a_stream_has_a_line_when_it_opens_and_one_when_it_ends(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge_of(access_log=True) as edge:
        listening = await Listening(edge, transport, "/sse/a").open()
        who = {"client": "127.0.0.1", "transport": transport, "channel": "a"}
        assert lines(caplog) == [{"message": "stream opened", **who, "resumed": "live"}]
        caplog.clear()
        await edge.hub.publish("a", "x")
        await edge.hub.publish("a", "y" * 1000)
        await edge.hub.publish("c", "not for this one")
        await until(lambda: edge.hub.fanout.deliveries == 2)
        size = edge.hub.fanout.delivered_bytes
        await listening.leave()
        await until(lambda: edge.hub.fanout.connections == 0 and lines(caplog))
        [ended] = lines(caplog)
        assert 0 <= ended.pop("age") < 60
        assert ended == {"message": "stream ended", **who, "reason": "client", "events": 2, "bytes": size}
        assert edge._admission.connections == 0, "and it is counted out"


@pytest.mark.parametrize("transport", Transport)
async def test_streams_that_the_server_ends_have_their_line_too(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge_of(access_log=True) as edge:
        await Listening(edge, transport, "/sse/a").open()
        caplog.clear()
        edge.hub.fanout.end_all(EndReason.SLOW)
        await until(lambda: lines(caplog))
        assert [line["reason"] for line in lines(caplog)] == ["slow"]
        await Listening(edge, transport, "/sse/a").open()
        caplog.clear()
        edge._streams.all_left()
        assert [line["reason"] for line in lines(caplog)] == ["shutdown"], "the process ends, and they with it"
        caplog.clear()
    assert lines(caplog) == [], "and nobody twice"


@pytest.mark.parametrize("transport", Transport)
async def test_nobody_who_did_not_ask_for_it_has_one(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    async with edge_of() as edge:
        listening = await Listening(edge, transport, "/sse/a").open()
        await listening.leave()
        await until(lambda: edge.hub.fanout.connections == 0)
    assert lines(caplog) == []


def test_it_is_written_whatever_the_level_of_the_rest() -> None:
    assert log_config("error", "text")["loggers"]["sse_fast.access"]["level"] == "INFO"
