"""The table of ends, walked at both transports: what a client saw and what the log says is what the row says."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from front_port import FrontPort, connect
from support import until
from whatwg import Parser

from sse_fast.embed.hub import Hub as EmbeddedHub
from sse_fast.ends import ENDS, OVERLOADED, Close
from sse_fast.errors import EndReason

GET = b"GET /sse/a HTTP/1.1\r\nHost: x\r\n\r\n"


def test_every_reason_has_a_row_and_nobody_is_told_another_one_s() -> None:
    assert ENDS.keys() == set(EndReason)
    told = [end.told for end in (*ENDS.values(), OVERLOADED) if end.told]
    assert len(told) == len(set(told))


def test_every_client_comes_back_from_every_end_but_those_that_the_app_or_the_operator_wanted() -> None:
    assert {reason for reason, end in ENDS.items() if not end.comes_back} == {EndReason.APP, EndReason.OPERATOR}
    assert OVERLOADED.comes_back


async def seen_by(client: socket.socket) -> tuple[Close, list[str]]:
    """How its stream ended, and the reasons of `$closing`."""
    raw = b""
    client.setblocking(False)
    try:
        while data := await asyncio.get_running_loop().sock_recv(client, 65536):
            raw += data
    except ConnectionResetError:
        return Close.RESET, []
    _, _, body = raw.partition(b"\r\n\r\n")
    return (Close.COMPLETE if body.endswith(b"\r\n0\r\n\r\n") else Close.CUT), told_in(body)


def told_in(body: bytes) -> list[str]:
    return [event.data for event in Parser().feed(body.replace(b"\r\n", b"\n")) if event.type == "$closing"]


def words(reason: EndReason) -> list[str]:
    told = ENDS[reason].told
    return [f'{{"reason":"{told}"}}'] if told else []


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(line.levelno, line.reason) for line in caplog.records if getattr(line, "reason", None)]


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[tuple[FrontPort, socket.socket]]:
    async with FrontPort.opened(**settings) as port:
        client = connect(port.number, GET)
        await until(lambda: port.listener.streams == 1)
        with client:
            yield port, client


async def shut_down(port: FrontPort) -> None:
    await port.hub.drain(1.0)
    await port.hub.close()


async def let_go(reason: EndReason, port: FrontPort) -> None:
    port.hub.fanout.end_all(reason)


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason is not EndReason.CLIENT])
async def test_a_native_stream_ends_as_its_row_says(reason: EndReason, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sse_fast.transports")
    async with opened() as (port, client):
        if reason is EndReason.SHUTDOWN:
            await shut_down(port)
        else:
            await let_go(reason, port)
        assert await asyncio.wait_for(seen_by(client), 10) == (ENDS[reason].close, words(reason))
        assert port.counts.ended == {reason: 1}
    assert lines_of(caplog) == [(ENDS[reason].level, reason)]


async def test_a_native_stream_whose_client_leaves_is_logged_as_its_row_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sse_fast.transports")
    async with opened() as (port, client):
        client.close()
        await until(lambda: port.counts.ended == {EndReason.CLIENT: 1})
    assert lines_of(caplog) == [(ENDS[EndReason.CLIENT].level, EndReason.CLIENT)]


class Called:
    """An ASGI server's side of one stream of a hub. `resets`: the connections that the transport wanted reset."""

    charge = 0

    def __init__(self, hub: EmbeddedHub) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.resets: list[Any] = []
        self.failing: Exception | None = None
        self.hub = hub
        hub.streams.connections = self
        self.infos: list[Any] = []
        self.scope = {
            "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "http_version": "1.1",
            "client": ("somebody", 1), "sse_fast.peer": ("somebody", 1),
        }  # fmt: skip
        response = hub.response(self.scope, ["a"], on_join=self.infos.append)
        self.task = asyncio.create_task(response(self.scope, self.receive, self.send))

    def begin_stream(self, peer: Any) -> None: ...
    def end_stream(self, peer: Any) -> None: ...
    def reset(self, peer: Any) -> None:
        self.resets.append(peer)

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.failing is not None:
            raise self.failing
        self.sent.append(message)

    @property
    def seen(self) -> tuple[Close, list[str]]:
        body = b"".join(message.get("body", b"") for message in self.sent)
        if self.resets:
            return Close.RESET, told_in(body)
        return (Close.CUT if self.sent[-1]["more_body"] else Close.COMPLETE), told_in(body)


async def fail(call: Called) -> None:
    call.failing = RuntimeError("the server's own")
    await call.hub.publish("a", "x")


async def end_every_stream(reason: EndReason, call: Called) -> None:
    call.hub.fanout.end_all(reason)


ENDINGS: dict[EndReason, Callable[[Called], Awaitable[Any]]] = {
    EndReason.SHUTDOWN: lambda call: call.hub.stop(),
    **{
        reason: partial(end_every_stream, reason)
        for reason in (EndReason.SLOW, EndReason.EXPIRED, EndReason.AGE, EndReason.MORE, EndReason.OPERATOR)
    },
    EndReason.APP: lambda call: call.infos[0].end(),
    EndReason.ERROR: fail,
    EndReason.CLIENT: lambda call: asyncio.sleep(0, call.gone.set()),
}


@pytest.mark.parametrize("reason", EndReason)
async def test_a_stream_by_asgi_ends_as_its_row_says(reason: EndReason, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sse_fast.transports")
    async with EmbeddedHub() as hub:
        call = Called(hub)
        await until(lambda: call.infos)
        await ENDINGS[reason](call)
        await asyncio.wait_for(call.task, 30)
        assert call.seen == (ENDS[reason].close, words(reason))
    assert lines_of(caplog) == [(ENDS[reason].level, reason)]
