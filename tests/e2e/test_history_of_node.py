"""The last ten minutes of a real node: of all its workers, through their deaths, and without those who look at it."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from client import Stream
from conftest import EdgeProcess, Edges, until


def history(server: EdgeProcess) -> dict[str, list[Any]]:
    status, body = server.request("GET", "/stats/history")
    assert status == 200, body
    columns: dict[str, list[Any]] = json.loads(body)
    return columns


def much(columns: dict[str, list[Any]], name: str) -> float:
    """How much there was: a second of it is about one by the clock."""
    times = columns["time"]
    return sum(
        rate * (time - before) / 1000 for rate, time, before in zip(columns[name][1:], times[1:], times, strict=False)
    )


async def test_it_has_what_all_workers_did_and_goes_on_when_they_die(edge: Edges) -> None:
    server = edge("--workers", "2")
    listeners = [await Stream.open(server.port, "/sse/news") for _ in range(12)]
    watcher = await Stream.open(server.port, "/sse?channel=$stats&channel=news")
    try:
        await asyncio.to_thread(until, lambda: history(server)["time"], "a second before there are events")
        for number in range(10):
            await asyncio.to_thread(server.publish, "news", number)

        def seen() -> bool:
            columns = history(server)
            return columns["streams"][-1] == 12 and round(much(columns, "deliveries")) == 120

        await asyncio.to_thread(until, seen, "120 deliveries to 12 streams, the one that watches left out")
        columns = history(server)
        assert much(columns, "published") == pytest.approx(10, abs=0.1)
        assert any(value is not None for value in columns["p99"])
        before = columns["time"][-1]
        server.noise_expected = True
        for worker in server.workers():
            worker.kill()
            worker.wait(30)

        def goes_on() -> bool:
            with contextlib.suppress(OSError, ValueError):
                times = history(server)["time"]
                return before in times and times[-1] > before + 2000
            return False

        await asyncio.to_thread(until, goes_on, "seconds behind those from before the workers died")
        assert round(much(history(server), "published")) >= 10
    finally:
        for stream in (*listeners, watcher):
            stream.cut()


async def test_it_is_for_who_operates_the_server(edge: Edges) -> None:
    server = edge("--trusted-proxies", "127.0.0.1")
    status, _ = server.request("GET", "/stats/history", headers={"X-Forwarded-For": "192.0.2.1"})
    assert status == 403


async def test_streams_that_wait_for_their_clients_are_found_by_who_waits_longest(edge: Edges) -> None:
    server = edge()
    stuck = await Stream.open(server.port, "/sse/large")
    try:
        for _ in range(10):
            await asyncio.to_thread(server.publish_many, "large", ["x" * 60_000] * 15)

        def parked() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(server.request("GET", "/streams?parked=true")[1])["streams"]
            return found

        (found,) = await asyncio.to_thread(until, parked, "a stream that waits")
        assert found["channels"] == ["large"]
        assert found["parked_since"] is not None
        assert server.request("GET", "/streams?parked=true&channel=large")[0] == 400
        assert server.request("DELETE", "/streams?parked=true")[0] == 403
    finally:
        stuck.cut()
