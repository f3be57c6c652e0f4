"""A publisher that got no answer comes again, to whichever worker: what it sends is published once."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from client import Stream
from conftest import PATIENCE, EdgeProcess, Edges, until

KILLED = """
import os, signal
from sse_fast.hub.backplane import LogBackplane
append_once = LogBackplane.append_once
async def killed_after(self, events, keys):
    once = await append_once(self, events, keys)
    try:
        os.unlink({marker!r})
    except FileNotFoundError:
        return once
    os.kill(os.getpid(), signal.SIGKILL)
LogBackplane.append_once = killed_after
"""


def server_of(edge: Edges, *flags: str) -> EdgeProcess:
    server = edge("--workers", "3", *flags)
    server.noise_expected = True  # Granian warns of more workers than cores
    return server


def publish(server: EdgeProcess, key: str, body: bytes = b"hello") -> httpx.Response:
    """By a connection of its own, which the kernel gives to any worker."""
    return httpx.post(
        f"http://127.0.0.1:{server.port}/publish/a", content=body, headers={"Idempotency-Key": key}, timeout=PATIENCE
    )


def publish_and_leave(server: EdgeProcess, key: str) -> None:
    """Send a whole request, and cut the connection."""
    head = f"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {key}\r\nContent-Length: 5\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(head.encode() + b"hello")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def stream_of(server: EdgeProcess, count: int) -> list[str]:
    """The ids of the events of the channel, from its beginning, and that there are no more behind them."""
    end = server.publish("a", "end")
    stream = await Stream.open(server.port, "/sse/a?last_event_id=earliest")
    ids: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            if event.type == "message":
                ids.append(event.last_event_id)
            if event.last_event_id == end:
                break
    stream.cut()
    assert len(ids) == count + 1
    return ids[:-1]


async def test_a_publisher_that_was_cut_and_comes_again_to_any_worker_has_published_once(edge: Edges) -> None:
    server = server_of(edge)
    ids = []
    for number in range(20):
        publish_and_leave(server, f"k{number}")
        answers = [publish(server, f"k{number}") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert [answer.headers.get("idempotent-replayed") for answer in answers[1:]] == ["true", "true"]
        ids.append(answers[0].json()["id"])
    assert await stream_of(server, 20) == ids


async def test_a_key_that_many_give_at_once_to_all_workers_is_published_once(edge: Edges) -> None:
    server = server_of(edge)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE) as client:
        for number in range(5):
            answers = await asyncio.gather(
                *(
                    client.post(
                        "/publish/a", content=b"x", headers={"Idempotency-Key": f"k{number}", "Connection": "close"}
                    )
                    for _ in range(16)
                )
            )
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.json()["id"] for answer in answers}) == 1
            assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    await stream_of(server, 5)


@pytest.mark.parametrize("retry", ["one", "batch"])
async def test_what_a_worker_had_published_before_it_was_killed_is_not_published_again(
    edge: Edges, retry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL between the append and the answer; the retry comes to another worker."""
    marker = tmp_path / "kill"
    (tmp_path / "sitecustomize.py").write_text(KILLED.format(marker=str(marker)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = server_of(edge)
    events = [{"channel": "a", "data": number, "key": f"k{number}"} for number in range(3)]

    def send() -> dict[str, Any]:
        if retry == "one":
            answer = publish(server, "k")
        else:
            answer = httpx.post(f"http://127.0.0.1:{server.port}/publish", json=events, timeout=PATIENCE)
        assert answer.headers["idempotent-replayed"] == "true"
        found: dict[str, Any] = json.loads(answer.content)
        return found

    workers = server.workers()
    marker.touch()
    with pytest.raises(httpx.TransportError):
        send()
    assert not marker.exists(), "no worker was killed"
    # Until it is gone, whoever connects may still meet it.
    until(lambda: {worker.pid for worker in server.workers()} - {worker.pid for worker in workers}, "a new worker")
    while True:
        try:
            answer = send()
            break
        except httpx.TransportError:  # a connection that the dead worker had accepted
            continue
    ids = [answer["id"]] if retry == "one" else answer["ids"]
    assert await stream_of(server, len(ids)) == ids
