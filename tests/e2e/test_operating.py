"""Operating a server of several workers: whichever of them is asked, it answers for all, and does to all what it is
told."""

import asyncio
import http.client
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from client import Stream
from conftest import PATIENCE, EdgeProcess, Edges, until
from support import free_port
from whatwg import Event

WORKERS = 2
SECRET = "a secret for these tests, thirty-two bytes at least"
ANYBODY = ("--token-secret", SECRET, "--grant-subscribe", "**", "--grant-publish", "**")
OPERATOR = jwt.encode({"exp": 2**32, "sse": {"operations": True}}, SECRET, algorithm="HS256")


@pytest.fixture
def node(edge: Edges) -> Callable[..., EdgeProcess]:
    """A server of several workers, all of which serve."""

    def start(*flags: str) -> EdgeProcess:
        server = edge("--workers", str(WORKERS), *ANYBODY, *flags)
        server.noise_expected = True  # Granian warns of more workers than cores
        until(lambda: len(server.stats()["workers"]) == WORKERS, "all workers")
        return server

    return start


def asked(server: EdgeProcess, method: str, path: str, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    operator = {"authorization": f"Bearer {OPERATOR}"} if method == "DELETE" else {}
    found, body = server.request(method, path, headers=operator | (headers or {}))
    assert found == status, body
    return json.loads(body)


async def on_both(server: EdgeProcess, path: str) -> list[Stream]:
    """Streams, until each worker has two of them."""
    streams: list[Stream] = []
    async with asyncio.timeout(PATIENCE):
        while not streams or min(worker["connections"] for worker in server.stats()["workers"]) < 2:
            streams.append(await Stream.open(server.port, path))
            assert streams[-1].status == 200
    await asyncio.to_thread(server.wait_connections, len(streams))
    return streams


async def until_event(stream: Stream, which: Callable[[Event], bool]) -> list[Event]:
    """Its events up to that one."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            found.append(event)
            if which(event):
                return found
    raise AssertionError(f"the stream ended: {found}")


async def test_a_channel_is_told_of_whichever_worker_is_asked(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    streams = await on_both(server, "/sse/news")
    ids = server.publish_many("news", list(range(6)))
    server.publish("quiet", 1)
    for _ in range(8):
        told = asked(server, "GET", "/channels/news")
        assert told == {
            "name": "news",
            "kept": 6,
            "rate": 0.1,
            "subscribers": len(streams),
            "last_id": ids[-1],
            "last_time": told["last_time"],
            "silent": [],
        }
        assert asked(server, "GET", "/channels/quiet")["subscribers"] == 0
        listed = {each["name"]: each["subscribers"] for each in asked(server, "GET", "/channels")["channels"]}
        assert listed == {"news": len(streams), "quiet": 0}
    asked(server, "GET", "/channels/nobody", 404)
    asked(server, "GET", "/channels/news?x=1", 400)
    asked(server, "POST", "/channels/news", 405)
    for stream in streams:
        stream.cut()


async def test_a_channel_forgets_on_all_workers_and_in_a_log_that_outlives_them(
    node: Callable[..., EdgeProcess], tmp_path: Path
) -> None:
    server = node("--log-file", str(tmp_path / "log"))
    name = "orders:größe"
    streams = await on_both(server, f"/sse?channel={quote(name)}&channel=other")
    ids = server.publish_many(name, list(range(4)))
    other = server.publish("other", "stays")
    forgotten = asked(server, "DELETE", f"/channels/{quote(name)}")
    assert forgotten["name"] == name
    after = server.publish(name, "after")

    for stream in streams:
        events = await until_event(stream, lambda event: event.last_event_id == after)
        assert [(event.type, event.last_event_id) for event in events if event.type not in ("$connected", "stats")] == [
            *(("message", id) for id in (*ids, other)),
            ("$forgotten", forgotten["id"]),
            ("message", after),
        ]
        assert json.loads(events[-2].data) == {"channel": name}
        stream.cut()

    async def kept(last_event_id: str) -> list[tuple[str, str]]:
        stream = await Stream.subscribe(server.port, [name], last_event_id)
        events = await until_event(stream, lambda event: event.last_event_id == after)
        stream.cut()
        return [(event.type, event.last_event_id) for event in events if event.type != "$connected"]

    for _ in range(2):  # before, and after all workers are others
        for _ in range(4):
            assert await kept("earliest") == [("$forgotten", forgotten["id"]), ("message", after)]
            assert (await kept(ids[0]))[0] == ("$gap", ids[-1])
            assert await kept(ids[-1]) == [("$forgotten", forgotten["id"]), ("message", after)]
        assert asked(server, "GET", f"/channels/{quote(name)}")["kept"] == 2
        assert asked(server, "GET", "/channels/other")["kept"] == 1
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
    assert asked(server, "DELETE", "/channels/nobody") == {"name": "nobody", "id": None}


async def test_streams_are_listed_and_ended_over_all_workers(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    streams = await on_both(server, "/sse/news")
    more = [await Stream.open(server.port, "/sse?channel=other&pattern=of:*") for _ in range(3)]
    await asyncio.to_thread(server.wait_connections, len(streams) + len(more))

    def listed(query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            answer = asked(server, "GET", f"/streams?limit=2{query}{before}")
            assert len(answer["streams"]) <= 2
            found += answer["streams"]
            if answer["next"] is None:
                return found
            before = f"&before={answer['next']}"

    everybody = listed()
    assert len({stream["id"] for stream in everybody}) == len(everybody) == len(streams) + len(more)
    assert len({stream["id"].partition("-")[0] for stream in everybody}) == WORKERS
    one = everybody[0]
    assert one.keys() == {
        *(
            "id",
            "channels",
            "patterns",
            "user",
            "address",
            "transport",
            "age",
            "until",
            "envelope",
            "lag",
            "parked_since",
        )
    }
    assert (one["address"], one["transport"], one["user"], one["lag"]) == ("127.0.0.1", "native", None, 0)
    assert 0 <= one["age"] < PATIENCE
    assert {tuple(stream["channels"]) for stream in listed("&channel=other")} == {("other",)}
    assert {tuple(stream["patterns"]) for stream in listed("&channel=other")} == {("of:*",)}
    assert {tuple(stream["patterns"]) for stream in listed("&channel=news")} == {()}
    assert len(listed("&channel=other")) == 3
    assert listed("&address=192.0.2.1") == listed("&user=nobody") == []

    asked(server, "DELETE", "/streams", 400)
    asked(server, "DELETE", "/streams/0-12345", 404)
    asked(server, "DELETE", "/streams/nonsense", 400)
    assert asked(server, "DELETE", f"/streams/{listed('&channel=other')[0]['id']}") == {"ended": 1}
    await asyncio.to_thread(server.wait_connections, len(streams) + 2)
    assert asked(server, "DELETE", "/streams?channel=news") == {"ended": len(streams)}
    for stream in streams:
        events = await until_event(stream, lambda event: event.type == "$closing")
        assert json.loads(events[-1].data) == {"reason": "operator"}
    await asyncio.to_thread(server.wait_connections, 2)
    assert asked(server, "DELETE", "/streams?address=127.0.0.1") == {"ended": 2}
    assert listed() == []


async def test_a_worker_that_hangs_is_named_and_the_others_answer(node: Callable[..., EdgeProcess]) -> None:
    server = node()
    streams = await on_both(server, "/sse/news")
    here = server.stats()["pid"]
    hung = next(worker.pid for worker in server.workers() if worker.pid != here)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)

    def ask(method: str, path: str) -> tuple[int, Any]:
        connection.request(method, path, headers={"authorization": f"Bearer {OPERATOR}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    while ask("GET", "/stats")[1]["pid"] == hung:
        connection.close()  # the next one is anybody's
    os.kill(hung, signal.SIGSTOP)
    try:
        status, told = await asyncio.to_thread(ask, "GET", "/channels/news")
        assert (status, told["silent"]) == (200, [hung])
        assert 0 < told["subscribers"] < len(streams)
        status, told = await asyncio.to_thread(ask, "GET", "/streams")
        assert (status, told["silent"], len(told["streams"]) < len(streams)) == (200, [hung], True)
        status, told = await asyncio.to_thread(ask, "DELETE", "/streams?user=nobody")
        assert status == 503
        assert str(hung) in told["detail"]
    finally:
        os.kill(hung, signal.SIGCONT)
    assert asked(server, "GET", "/channels/news")["silent"] == []
    connection.close()


# ---- a port of their own ---------------------------------------------------------------------------------------------


def at(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_with_a_port_of_their_own_operations_are_there_and_not_at_the_public_one(
    edge: Edges, certificate: tuple[str, ...], tls: bool
) -> None:
    port = free_port()
    server = edge("--operations-port", str(port), "--workers", str(WORKERS), *(certificate if tls else ()))
    server.noise_expected = True
    until(lambda: len(json.loads(at(port, "/stats")[1])["workers"]) == WORKERS, "all workers")
    server.publish("news", 1)
    for path in ("/stats", "/metrics", "/channels", "/channels/news", "/streams"):
        assert at(port, path)[0] == 200
        assert server.request("GET", path)[0] == 404
    assert server.request("GET", "/sse/$stats")[0] == 400
    assert at(port, "/sse/news")[0] == 400
    assert at(port, "/stats", {"Host": "evil.test"})[0] == 403
    for public in ("/livez", "/readyz", "/"):
        assert server.request("GET", public)[0] == at(port, public)[0] == 200
    stream = await Stream.open(port, "/sse?channel=%24stats")
    assert json.loads((await until_event(stream, lambda event: event.type == "stats"))[-1].data)["published"] == 1
    stream.cut()


def test_a_port_that_is_taken_is_told_before_anything_starts(edge: Edges) -> None:
    server = edge()
    with pytest.raises(AssertionError, match=rf"port {server.port} on 127\.0\.0\.1 is in use.*--operations-port"):
        edge("--operations-port", str(server.port))


def test_a_rolling_restart_leaves_the_port_of_operations_served(edge: Edges) -> None:
    port = free_port()
    server = edge("--operations-port", str(port))
    server.noise_expected = True
    before = {worker.pid for worker in server.workers()}
    os.kill(server.pid, signal.SIGHUP)

    def others() -> bool:
        assert at(port, "/livez")[0] == 200
        return {worker.pid for worker in server.workers()}.isdisjoint(before)

    until(others, "other workers")
    assert at(port, "/stats")[0] == 200
