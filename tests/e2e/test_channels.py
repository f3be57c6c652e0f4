"""One event in several channels, and streams that say where an event came from; both transports, over reconnects."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client import Event, Stream
from conftest import BOTH_TRANSPORTS, PATIENCE, EdgeProcess, Edges

from sse_fast.transports.life import Transport


async def own_events(stream: Stream) -> AsyncIterator[Event]:
    """Without what the server says itself."""
    async for event in stream.events():
        if not event.type.startswith("$"):
            yield event


async def read(stream: Stream, count: int) -> list[Event]:
    found: list[Event] = []
    async with aclosing(own_events(stream)) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    stream.cut()
    return found


def publish(server: EdgeProcess, *publications: dict[str, Any], ndjson: bool = False) -> list[str]:
    body = "\n".join(map(json.dumps, publications)) if ndjson else json.dumps(publications)
    headers = {"Content-Type": "application/x-ndjson" if ndjson else "application/json"}
    status, answer = server.request("POST", "/publish", body.encode(), headers)
    assert status == 200, answer
    ids: list[str] = json.loads(answer)["ids"]
    return ids


@BOTH_TRANSPORTS
async def test_an_event_of_several_channels_reaches_each_ones_streams_and_a_stream_of_more_of_them_once(
    edge: Edges, transport: Transport
) -> None:
    server = edge(transport=transport)
    wanted = {"a": "1 2 4", "b": "1 3 4", "c": "2 4", "a b": "1 2 3 4", "a b c": "1 2 3 4"}
    streams = {names: await Stream.subscribe(server.port, names.split(), None) for names in wanted}
    publish(server, {"channels": ["a", "b"], "data": "1"}, {"channels": ["c", "a"], "data": "2"})
    publish(server, {"channel": "b", "data": "3"}, {"channels": ["a", "b", "c"], "data": "4"}, ndjson=True)
    publish(server, {"channels": ["a", "b", "c"], "data": "end"})
    for names, expected in wanted.items():
        found = await read(streams[names], len(expected.split()) + 1)
        assert [event.data for event in found] == [*expected.split(), "end"], names


@BOTH_TRANSPORTS
@pytest.mark.parametrize("envelope", ["", "&envelope=json"])
async def test_a_stream_of_more_of_them_resumes_without_a_loss_or_a_double(
    edge: Edges, transport: Transport, envelope: str
) -> None:
    server = edge(transport=transport)
    both = [{"channels": ["a", "b"] if n % 2 else ["b", "x", "a"], "data": str(n)} for n in range(40)]
    ids = publish(server, *both)
    for at in (0, 7, 38):
        stream = await Stream.subscribe(server.port, ["b", "a"], ids[at], envelope)
        found = await read(stream, len(both) - at - 1)
        assert [event.last_event_id for event in found] == ids[at + 1 :]
    stream = await Stream.subscribe(server.port, ["a", "b"], None, envelope + "&history=5")
    assert [event.last_event_id for event in await read(stream, 5)] == ids[-5:]


def published(event: Event) -> dict[str, Any]:
    inside: dict[str, Any] = json.loads(event.data)
    time = datetime.fromisoformat(inside.pop("time"))
    assert timedelta(0) <= datetime.now(UTC) - time < timedelta(minutes=10)
    return inside


@BOTH_TRANSPORTS
async def test_an_envelope_says_of_each_event_which_of_the_streams_channels_it_came_from_and_when(
    edge: Edges, transport: Transport
) -> None:
    server = edge(transport=transport)
    ids = publish(
        server,
        {"channel": "a", "data": "text\nof lines"},
        {"channel": "b", "data": {"n": 1.0}, "event": "price"},
        {"channels": ["secret", "b", "a"], "data": ""},
        {"channels": ["secret", "a"], "data": "x"},
    )
    several = await Stream.subscribe(server.port, ["a", "b"], "earliest", "&envelope=json")
    one = await Stream.subscribe(server.port, ["a"], "earliest", "&envelope=json")
    plain = await Stream.subscribe(server.port, ["a"], "earliest")
    found = await read(several, 4)
    assert [event.last_event_id for event in found] == ids
    assert [event.type for event in found] == ["message", "price", "message", "message"]
    assert [published(event) for event in found] == [
        {"channel": "a", "event": "message", "data": "text\nof lines"},
        {"channel": "b", "event": "price", "data": '{"n":1.0}'},
        {"channel": "b", "channels": ["b", "a"], "event": "message", "data": ""},
        {"channel": "a", "event": "message", "data": "x"},
    ]
    assert [published(event) for event in await read(one, 3)] == [
        {"channel": "a", "event": "message", "data": "text\nof lines"},
        {"channel": "a", "event": "message", "data": ""},
        {"channel": "a", "event": "message", "data": "x"},
    ]
    assert [event.data for event in await read(plain, 3)] == ["text\nof lines", "", "x"]


@BOTH_TRANSPORTS
async def test_connected_says_that_there_are_envelopes_and_has_none_itself(edge: Edges, transport: Transport) -> None:
    server = edge(transport=transport)
    for query, told in (("", {}), ("&envelope=json", {"envelope": "json"})):
        stream = await Stream.subscribe(server.port, ["a"], None, query)
        async with aclosing(stream.events()) as events:
            connected = await anext(events)
        assert (connected.type, json.loads(connected.data)) == ("$connected", {"resume": "live"} | told)
        stream.cut()
    gap = await Stream.subscribe(server.port, ["a"], "00000000-1", "&envelope=json")
    async with aclosing(gap.events()) as events:
        assert [(await anext(events)).type, (await anext(events)).type] == ["$connected", "$gap"]
    gap.cut()


@BOTH_TRANSPORTS
async def test_listen_shows_where_and_when_events_were_published_over_both_transports(
    edge: Edges, transport: Transport
) -> None:
    server = edge(transport=transport)
    ids = publish(server, {"channels": ["x", "b", "a"], "data": {"n": 1.0}}, {"channel": "a", "data": "2"})
    command = [sys.executable, "-m", "sse_fast", "listen", "a", "b", "--history", "9", "--count", "2", "--json"]
    command += ["--url", f"http://127.0.0.1:{server.port}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, said
    first, second = map(json.loads, out.splitlines())
    assert first.pop("time") == second.pop("time"), "of one batch"
    assert first == {"id": ids[0], "channel": "b", "channels": ["b", "a"], "event": "message", "data": '{"n":1.0}'}
    assert second == {"id": ids[1], "channel": "a", "event": "message", "data": "2"}


async def test_the_servers_figures_come_in_an_envelope_too(edge: Edges) -> None:
    server = edge()
    [event] = await read(await Stream.subscribe(server.port, ["$stats"], None, "&envelope=json"), 1)
    inside = published(event)
    assert (inside["channel"], inside["event"], event.type) == ("$stats", "stats", "stats")
    assert "connections" in json.loads(inside["data"])
