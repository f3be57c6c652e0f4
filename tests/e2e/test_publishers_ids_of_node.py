"""Publishers' ids and private events on a real node: at every worker, and after the whole of it was killed."""

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

from client import Stream
from conftest import EdgeProcess, Edges, until

TOPIC = "https://example.com/books/1"
MERCURE = "/.well-known/mercure?topic=" + quote("https://example.com/books/{id}", safe="")
ANYBODY = ["--token-secret", "t" * 32, "--grant-subscribe", "**", "--grant-publish", "**"]
SUBSCRIBERS = ["--mercure", "--mercure-subscriber-key", "k" * 32, "--mercure-anonymous", *ANYBODY]


def publish(server: EdgeProcess, data: str, id: str, *, private: bool = False) -> None:
    body = json.dumps({"channels": [TOPIC, "all"], "data": data, "id": id, "private": private})
    status, said = server.request("POST", "/publish", body.encode(), {"Content-Type": "application/json"})
    assert status == 200, said


async def seen(server: EdgeProcess, path: str, id: str, last: str) -> list[tuple[str, str]]:
    """The events of a stream that resumes behind an id, up to the one with the last id."""
    stream = await Stream.open(server.port, path, {"Last-Event-ID": id})
    got: list[tuple[str, str]] = []
    try:
        async with asyncio.timeout(30):
            async for event in stream.events():
                if not event.type.startswith("$"):
                    got.append((event.last_event_id, event.data))
                    if event.last_event_id == last:
                        return got
        raise AssertionError(f"the stream ended after {got}")
    finally:
        stream.cut()


async def test_streams_resume_by_publishers_ids_at_every_worker_and_after_a_kill(edge: Edges, tmp_path: Path) -> None:
    server = edge("--workers", "2", "--log-file", str(tmp_path / "log"), *SUBSCRIBERS)
    for number, data in enumerate(["a", "b", "secret", "d"], 1):
        await asyncio.to_thread(publish, server, data, f"urn:{number}", private=data == "secret")
    ours, theirs = "/sse/" + quote(TOPIC, safe=""), MERCURE
    everything = [("urn:2", "b"), ("urn:3", "secret"), ("urn:4", "d")]
    public = [("urn:2", "b"), ("urn:4", "d")]
    for life in range(2):
        for _ in range(6):  # connections go to one worker or the other
            assert await seen(server, ours, "urn:1", "urn:4") == everything
            assert await seen(server, theirs, "urn:1", "urn:4") == public
        if life == 0:
            server.kill()
            server.start()
            await asyncio.to_thread(until, lambda: len(server.workers()) == 2, "both workers")
