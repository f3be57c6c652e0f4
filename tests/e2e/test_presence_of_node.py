"""Presence by real workers: they agree, and those of one that is killed leave."""

import asyncio
import contextlib
import json
import os
import signal
import time
from typing import Any

import jwt
from client import Stream
from conftest import PATIENCE, Edges

SECRET = "s" * 32
ROOM = "room:1"
USERS = [f"user:{number}" for number in range(12)]


def headers_of(user: str, *channels: str, operations: bool = False) -> dict[str, str]:
    grants = {"subscribe": list(channels), "operations": operations}
    claims = {"sub": user, "exp": time.time() + 600, "sse": grants}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}


def operator() -> dict[str, str]:
    """Made when it is needed: a token from the collection of a long run has ended by then."""
    return headers_of("operator", "$presence:**", operations=True)


async def told_of(port: int, users: set[str], left: int = 0) -> list[tuple[str, str]]:
    """What is told of the room from its beginning, until so many have left, and these are there and nobody else."""
    stream = await Stream.open(port, f"/sse/$presence:{ROOM}?last_event_id=earliest", operator())
    assert stream.status == 200
    told: list[tuple[str, str]] = []
    there: set[str] = set()
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            if event.type in ("join", "leave"):
                user = json.loads(event.data)["user"]
                told.append((event.type, user))
                (there.add if event.type == "join" else there.discard)(user)
            if there == users and sum(what == "leave" for what, _ in told) >= left:
                break
    stream.cut()
    return told


async def test_all_workers_know_who_is_there_and_those_of_one_that_is_killed_leave(edge: Edges) -> None:
    server = edge("--workers", "2", "--token-secret", SECRET, "--presence-channels", "room:*", "--retry", "100")
    server.noise_expected = True  # Granian warns of a worker that was killed

    async def ask(path: str) -> Any:
        status, body = await asyncio.to_thread(server.request, "GET", path, None, operator())
        assert status == 200, body
        return json.loads(body)

    async def listed() -> set[str]:
        """By whichever worker; each request is a connection of its own."""
        return {user["user"] for user in (await ask(f"/presence/{ROOM}"))["users"]}

    streams = {user: await Stream.open(server.port, f"/sse/{ROOM}", headers_of(user, "room:*")) for user in USERS}
    told = await told_of(server.port, set(USERS))
    assert sorted(told) == sorted(("join", user) for user in USERS)
    async with asyncio.timeout(PATIENCE):
        while [await listed() for _ in range(8)] != [set(USERS)] * 8:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def ends(user: str) -> str:
        async for _ in streams[user].events():
            pass
        return user

    reading = [asyncio.create_task(ends(user)) for user in USERS]
    workers = []
    async with asyncio.timeout(PATIENCE):
        while sum(worker["connections"] for worker in workers) != len(
            USERS
        ):  # who has just gone is counted for a moment
            workers = (await ask("/stats"))["workers"]
    victim = max(workers, key=lambda worker: int(worker["connections"]))
    os.kill(victim["pid"], signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while sum(task.done() for task in reading) < victim["connections"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    cut = {task.result() for task in reading if task.done()}
    was = list(streams.values())
    back = sorted(cut)[0]
    async with asyncio.timeout(PATIENCE):
        while streams[back] in was:
            with contextlib.suppress(ConnectionError):  # nobody serves where it was the only one
                streams[back] = await Stream.open(server.port, f"/sse/{ROOM}", headers_of(back, "room:*"))
    left = cut - {back}
    told = await told_of(server.port, set(USERS) - left, len(left))
    assert sorted(user for what, user in told if what == "leave") == sorted(left), "and not who came back in time"
    async with asyncio.timeout(PATIENCE):
        while [await listed() for _ in range(4)] != [set(USERS) - left] * 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for task in reading:
        task.cancel()
