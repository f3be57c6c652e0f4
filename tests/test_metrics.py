"""Counters as Prometheus reads them: right types, a word of help each, and in agreement with what happened."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import pytest
from front_port import edge_of
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from sse_fast import Settings, create_app
from sse_fast.edge.app import Edge
from sse_fast.edge.metrics import COUNTERS, FRONT_COUNTERS, FRONT_GAUGES, GAUGES, LOG_GAUGES


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    edge = create_app(Settings(max_connections=2))
    yield edge
    await edge.close()


async def scraped(edge: Edge) -> dict[str, Metric]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    family = families[f"sse_fast_{name}"]
    [sample] = [sample for sample in family.samples if sample.labels == labels]
    return float(sample.value)


class Stream:
    """A stream in process that reads until it is told to leave."""

    def __init__(self, edge: Edge, path: str) -> None:
        self.received = b""
        self._grew = asyncio.Event()
        self._gone = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "query_string": b"", "root_path": ""}
        scope |= {"headers": [], "client": ("127.0.0.1", 1)}
        self._task = asyncio.create_task(edge(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.received += message.get("body", b"")
        self._grew.set()

    async def until(self, reached: Callable[[bytes], bool]) -> None:
        async with asyncio.timeout(30):
            while not reached(self.received):
                self._grew.clear()
                await self._grew.wait()

    async def leave(self) -> None:
        self._gone.set()
        await self._task


async def test_every_family_has_its_type_and_help(edge: Edge) -> None:
    families = await scraped(edge)
    for name, meaning in (GAUGES | FRONT_GAUGES).items():
        assert (families[f"sse_fast_{name}"].type, families[f"sse_fast_{name}"].documentation) == ("gauge", meaning)
    for name, meaning in (COUNTERS | FRONT_COUNTERS).items():
        family = families[f"sse_fast_{name}"]
        assert (family.type, family.documentation) == ("counter", meaning)
        assert [sample.name for sample in family.samples] == [f"sse_fast_{name}_total"]
    for name, meaning in LOG_GAUGES.items():
        family = families[f"sse_fast_log_{name}"]
        assert (family.type, family.documentation) == ("gauge", meaning)
    for family in families.values():
        assert family.documentation
        assert family.samples


async def test_reasons_and_limits_are_there_from_the_start(edge: Edge) -> None:
    families = await scraped(edge)
    for transport in ("asgi", "native"):
        assert (
            value(families, "connections", transport=transport) == value(families, "accepted", transport=transport) == 0
        )
        for reason in ("client", "slow", "shutdown", "error"):
            assert value(families, "ended", transport=transport, reason=reason) == 0
    for limit in ("max_connections", "max_connections_per_ip", "descriptors"):
        assert value(families, "refused", reason=limit) == 0


async def test_the_server_says_who_it_is(edge: Edge) -> None:
    [info] = (await scraped(edge))["sse_fast_info"].samples
    assert info.labels == {"version": edge.metrics.snapshot()["version"], "epoch": edge.hub.log.epoch}


async def test_the_process_is_there_too(edge: Edge) -> None:
    families = await scraped(edge)
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert "process_open_fds" in families


async def test_counters_agree_with_what_happened(edge: Edge) -> None:
    streams = [Stream(edge, "/sse/c"), Stream(edge, "/sse/c")]
    for stream in streams:
        await stream.until(lambda received: b"$connected" in received)
    refused = Stream(edge, "/sse/c")
    await refused.until(lambda received: b"overloaded" in received)
    await refused.leave()
    before = [len(stream.received) for stream in streams]
    for number in range(3):
        await edge.hub.publish("c", number)
    await edge.hub.publish("other", "x")
    for stream in streams:
        await stream.until(lambda received: b"data: 2\n" in received)

    families = await scraped(edge)
    delivered = sum(len(stream.received) - size for stream, size in zip(streams, before, strict=True))
    assert value(families, "connections", transport="asgi") == 2
    assert value(families, "accepted", transport="asgi") == 2
    assert value(families, "channels") == 2
    assert value(families, "published") == 4
    assert value(families, "published_bytes") == 4 * len("data: x\n\n")
    assert value(families, "deliveries") == 6
    assert value(families, "delivered_bytes") == delivered
    assert 2 <= value(families, "writes") <= 6
    assert value(families, "log_position") == value(families, "log_events") == 4
    assert value(families, "refused", reason="max_connections") == 1
    assert value(families, "refused", reason="max_connections_per_ip") == 0

    await streams[0].leave()
    families = await scraped(edge)
    assert value(families, "connections", transport="asgi") == 1
    assert value(families, "ended", transport="asgi", reason="client") == 1
    assert value(families, "accepted", transport="asgi") == 2
    await streams[1].leave()


async def test_stats_and_metrics_tell_the_same(edge: Edge) -> None:
    await edge.hub.publish("c", "x")
    families, snapshot = await scraped(edge), edge.metrics.snapshot()
    for name in (*GAUGES, *COUNTERS):
        assert value(families, name) == snapshot[name], name
    for name in LOG_GAUGES:
        assert value(families, f"log_{name}") == snapshot["log"][name], name


async def test_the_front_and_its_relay_are_told_of() -> None:
    async with edge_of() as edge:
        assert edge.front is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.front.port)
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 502 " in await reader.readline(), "behind this front there is nobody"
        now = edge.metrics.snapshot()
        assert now["front"] == {"connections": 1, "turned_away": 0, "made_room": 0}
        counts = {"exchanges": 1, "under_way": 0, "waiting": 0, "tunnels": 0}
        assert now["relay"] == counts | {"failed": {"408": 0, "502": 1, "503": 0, "504": 0}}
        families = await scraped(edge)
        assert value(families, "front_connections") == value(families, "relay_exchanges") == 1
        assert value(families, "relay_failed", status="502") == 1
        writer.close()


async def test_what_became_of_tokens_and_of_the_webhook_s_answers_is_counted() -> None:
    secret = "s" * 32
    token = jwt.encode({"exp": time.time() + 60, "sse": {"subscribe": ["**"]}}, secret, "HS256")
    head = f"HEAD /sse/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    stream = head.replace(b"HEAD", b"GET", 1)
    async with edge_of(token_secret=secret) as edge:
        assert edge.front is not None
        for request in (head, head, head.replace(b"Bearer ", b"Bearer x"), stream, stream):
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.front.port)
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
        assert edge.metrics.snapshot()["tokens"] == {"hits": 3, "misses": 2}
        families = await scraped(edge)
        assert (value(families, "token_cache_hits"), value(families, "token_cache_misses")) == (3, 2)
        assert value(families, "webhook_answers", answer="granted") == 0


async def test_questions_to_the_webhook_are_counted_and_timed() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\n{}"
        )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, edge_of(authorize_url=f"http://127.0.0.1:{port}/may") as edge:
        for _ in range(3):
            stream = Stream(edge, "/sse/a")
            await stream.until(lambda received: b"$connected" in received)
            await stream.leave()
        told = edge.metrics.snapshot()
        assert told["webhook"] == {"granted": 1, "refused": 0, "failed": 0, "kept": 2}
        assert told["histograms"]["webhook_seconds"]["le"]["+Inf"] == 1
        assert value(await scraped(edge), "webhook_answers", answer="kept") == 2
