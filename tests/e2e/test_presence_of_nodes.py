"""Presence by real nodes over one Redis: whoever is there at any of them is there for all, joins once and leaves once;
those of a node that is killed leave."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import redis_servers
from client import Stream
from conftest import PATIENCE, until
from fleet import Node, fleet

SECRET = "a secret for these tests, thirty-two bytes at least"
FLAGS = ("--token-secret", SECRET, "--presence-channels", "room:*", "--retry", "100")


@pytest.fixture(scope="module")
def redis() -> Iterator[redis_servers.Redis]:
    redis_servers.need()
    with redis_servers.running() as redis:
        yield redis


@pytest.fixture(scope="module")
def nodes(redis: redis_servers.Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with fleet(tmp_path_factory.mktemp("presence"), redis.url, 2, *FLAGS) as nodes:
        yield nodes


def headers_of(user: str, *channels: str, operations: bool = False) -> dict[str, str]:
    grants = {"subscribe": list(channels), "operations": operations}
    claims = {"sub": user, "exp": time.time() + 600, "sse": grants}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}


def operator() -> dict[str, str]:
    return headers_of("operator", "$presence:**", operations=True)


async def open_stream(node: Node, user: str, room: str) -> Stream:
    stream = await Stream.open(node.port, f"/sse/{room}", headers_of(user, "room:*"))
    assert stream.status == 200
    return stream


def there(node: Node, room: str) -> list[str] | None:
    """None: it does not know now."""
    status, body = node.request("GET", f"/presence/{room}", headers=operator())
    assert status in (200, 503), body
    return [each["user"] for each in json.loads(body)["users"]] if status == 200 else None


async def sees(node: Node, room: str, *users: str) -> None:
    await asyncio.to_thread(until, lambda: there(node, room) == sorted(users), f"{users} are there")


async def told(node: Node, room: str, count: int) -> list[tuple[str, str]]:
    """The first so many events of who comes and goes."""
    stream = await Stream.open(node.port, f"/sse/$presence:{room}?last_event_id=earliest", operator())
    got: list[tuple[str, str]] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            if event.type in ("join", "leave"):
                got.append((event.type, json.loads(event.data)["user"]))
                if len(got) == count:
                    break
    stream.cut()
    return got


async def test_a_user_with_streams_at_two_nodes_is_there_once_and_an_outage_changes_nothing_of_it(
    redis: redis_servers.Redis, nodes: list[Node]
) -> None:
    room = "room:once"
    ada = [await open_stream(node, "ada", room) for node in nodes for _ in range(3)]
    bob = await open_stream(nodes[1], "bob", room)
    for node in nodes:
        await sees(node, room, "ada", "bob")
        node.noise_expected = True

    def answers() -> tuple[int, bytes]:
        return nodes[0].request("GET", f"/presence/{room}", headers=operator())

    for stream in (*ada[:3], bob):  # all of one node's
        stream.cut()
    redis.do("SAVE")
    redis.kill()
    try:
        await asyncio.to_thread(until, lambda: answers()[0] == 503, "503")
        assert b"who is there at other nodes" in answers()[1]
        cy = await open_stream(nodes[0], "cy", room)
    finally:
        redis.start()
    await asyncio.to_thread(until, lambda: answers()[0] == 200, "200")
    for node in nodes:
        await sees(node, room, "ada", "cy")
        got = await told(node, room, 4)
        assert sorted(got) == [("join", "ada"), ("join", "bob"), ("join", "cy"), ("leave", "bob")]
    for stream in (*ada[3:], cy):
        stream.cut()


async def test_subscribers_are_counted_at_all_nodes_but_those_that_are_silent(nodes: list[Node]) -> None:
    room = "room:counted"
    streams = [await open_stream(node, f"user:{number}", room) for node in nodes for number in range(3)]

    def asked(path: str) -> dict[str, Any]:
        status, body = nodes[0].request("GET", path, headers=operator())
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def counted() -> tuple[int, list[str]]:
        found = asked(f"/channels/{room}")
        return found["subscribers"], found["silent_nodes"]

    await asyncio.to_thread(until, lambda: counted() == (6, []), "six subscribers")
    listed = await asyncio.to_thread(asked, "/channels?prefix=room:c")
    assert [(each["name"], each["subscribers"]) for each in listed["channels"]] in ([], [(room, 6)])  # of one worker
    assert listed["silent_nodes"] == []

    def as_listed() -> (
        bool
    ):  # `$fleet`, by which they ask each other, is no channel; each worker has an index of its own
        return bool(asked("/stats")["channels"] == asked("/channels")["total"])

    await asyncio.to_thread(until, as_listed, "as many channels as are listed")
    os.killpg(nodes[1].pid, signal.SIGSTOP)
    try:
        subscribers, silent = await asyncio.to_thread(counted)
        assert (subscribers, len(silent)) == (3, 1)
    finally:
        os.killpg(nodes[1].pid, signal.SIGCONT)
    await asyncio.to_thread(until, lambda: counted() == (6, []), "six subscribers again")
    for stream in streams:
        stream.cut()


async def test_those_of_a_node_that_is_killed_leave_and_who_came_to_another_stays(nodes: list[Node]) -> None:
    room = "room:killed"
    users = [f"user:{number}" for number in range(20)]
    streams = [await open_stream(nodes[1], user, room) for user in users]
    await sees(nodes[0], room, *users)
    nodes[1].kill()
    for each in streams:
        each.cut()
    stream = await open_stream(nodes[0], "user:3", room)
    await sees(nodes[0], room, "user:3")
    got = await told(nodes[0], room, 39)
    assert sorted(got[:20]) == sorted(("join", user) for user in users)
    assert sorted(got[20:]) == sorted(("leave", user) for user in users if user != "user:3")
    stream.cut()
