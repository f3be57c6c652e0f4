"""Who is there over several nodes and a real Redis: told once each for the whole fleet, whatever dies, is cut off or is
emptied; and what comes and goes within a node costs Redis nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import redis_servers
from support import until

from sse_fast.cluster import functions
from sse_fast.cluster.engine import Engine
from sse_fast.cluster.entries import Events
from sse_fast.errors import EngineUnavailable
from sse_fast.hub import presence as of_node
from sse_fast.hub import presence_of_fleet as module
from sse_fast.hub.control import Alone
from sse_fast.hub.presence import PREFIX
from sse_fast.hub.presence_of_fleet import FleetPresence

ROOM = "room:1"
GRACE = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[redis_servers.Redis]:
    redis_servers.need()
    with redis_servers.running() as redis:
        yield redis


@pytest.fixture
def redis(server: redis_servers.Redis) -> redis_servers.Redis:
    server.do("FLUSHALL")
    return server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY", 0.1)
    monkeypatch.setattr(module, "LEASE", 1.0)
    monkeypatch.setattr(of_node, "TICK", 0.05)


class Node:
    """A node of one worker."""

    def __init__(self, url: str, name: str) -> None:
        self.engine, self.name = Engine.from_url(url), name
        self.speaks = True
        self.presence = FleetPresence(
            lambda channel: channel.startswith("room:"),
            lambda: self.engine.members,
            lambda: self.speaks,
            name,
            Alone(),
            grace=GRACE,
        )

    def enter(self, *users: str) -> None:
        for user in users:
            self.presence.enter((ROOM,), user)

    def leave(self, *users: str) -> None:
        for user in users:
            self.presence.leave((ROOM,), user)

    async def there(self) -> list[str]:
        """As it answers who asks it."""
        count, users = await self.presence.who(ROOM, 1000)
        assert count == len(users)
        return [each.user for each in users]

    async def sees(self, *users: str) -> None:
        async with asyncio.timeout(30):
            while True:
                with suppress(EngineUnavailable):
                    if await self.there() == sorted(users):
                        return
                await asyncio.sleep(0.01)

    async def told(self) -> list[tuple[str, str]]:
        """All events of the room's presence, as the engine keeps them."""
        found, look = [], await self.engine.look()
        async for items in self.engine.follow(None):
            for item in items:
                if isinstance(item, Events):
                    for _, channel, frame, _ in item.events:
                        assert channel == (PREFIX + ROOM).encode()
                        what, data = frame.decode().rstrip().split("\n")
                        said = json.loads(data.removeprefix("data: "))
                        assert said["channel"] == ROOM
                        found.append((what.removeprefix("event: "), said["user"]))
            item = items[-1]
            at = item.events[-1][0] if isinstance(item, Events) else 0
            if (item.epoch, at) == look.last:
                return found
        raise AssertionError("it is followed for ever")


@asynccontextmanager
async def node(redis: redis_servers.Redis, name: str) -> AsyncIterator[Node]:
    made = Node(redis.url, name)
    await made.engine.open()
    made.presence.start()
    try:
        yield made
    finally:
        made.presence.close()
        await made.engine.close()


async def test_a_user_with_streams_at_two_nodes_joins_once_and_leaves_once(redis: redis_servers.Redis) -> None:
    async with node(redis, "one") as one, node(redis, "two") as two:
        one.enter("ada", "ada", "bob")
        two.enter("ada", "cy")
        for each in (one, two):
            await each.sees("ada", "bob", "cy")
        one.leave("ada", "ada", "bob")
        await two.sees("ada", "cy")
        two.leave("ada")
        await one.sees("cy")
        told = await one.told()
        assert sorted(told) == sorted(
            [("join", "ada"), ("join", "bob"), ("join", "cy"), ("leave", "bob"), ("leave", "ada")]
        )
        assert told.index(("join", "ada")) < told.index(("leave", "bob")) < told.index(("leave", "ada"))


async def test_who_goes_from_one_node_to_another_within_the_grace_has_neither_left_nor_joined(
    redis: redis_servers.Redis,
) -> None:
    async with node(redis, "one") as one, node(redis, "two") as two:
        one.enter("ada")
        await two.sees("ada")
        for here, there in ((one, two), (two, one)) * 3:
            here.leave("ada")
            there.enter("ada")
            await until(lambda here=here: not here.presence.members(ROOM, 1)[0])
            await there.sees("ada")
        assert await one.told() == [("join", "ada")]


async def test_streams_that_come_and_go_while_their_user_has_others_cost_the_engine_nothing(
    redis: redis_servers.Redis,
) -> None:
    async with node(redis, "one") as one:
        one.enter("ada")
        await one.sees("ada")
        entries, calls = (await one.engine.look()).entries, one.engine.counts.calls
        said: list[object] = []
        real = one.engine.members.say

        async def say(name: str, number: int, seconds: float, changes: list[object]) -> object:
            said.extend(changes)
            return await real(name, number, seconds, changes)

        one.engine.members.say = say  # type: ignore[method-assign, assignment]
        for _ in range(2000):
            one.enter("ada")
            one.leave("ada")
        await asyncio.sleep(3 * GRACE)
        assert not said
        assert ((await one.engine.look()).entries, one.engine.counts.calls) == (entries, calls)


async def test_those_of_a_node_that_dies_leave_unless_they_are_elsewhere(redis: redis_servers.Redis) -> None:
    async with node(redis, "one") as one:
        async with node(redis, "two") as two:
            two.enter("ada", "bob", *(f"user {number:04}" for number in range(700)))
            one.enter("ada")
            await until(lambda: not two.presence._unpublished)
            assert (await one.presence.who(ROOM, 1))[0] == 702
        await one.sees("ada")
        told = await one.told()
        assert [what for what, user in told if user == "ada"] == ["join"]
        assert [what for what, user in told if user == "bob"] == ["join", "leave"]
        assert len(told) == len(set(told)) == 702 + 701
        assert redis.do("EXISTS", "{sse_fast}:presence:at:two") == 0


NO_MEMBERS: list[bytes] = [
    *(b"forged %d" % number for number in range(300)),
    b"",
    b"room:1\0",
    b"\0ada",
    b"room:1\0\xff",
    b"\xff\xfe",
    b"a b\n\0ada",
]


async def test_what_is_no_member_goes_with_a_dead_node_and_nothing_is_said_of_it(redis: redis_servers.Redis) -> None:
    async with node(redis, "one") as one:
        one.enter("ada")
        await one.sees("ada")
        assert await one.engine.members.say("dead", -1, 0.01, []) is not None
        for member in NO_MEMBERS:
            redis.do("ZADD", "{sse_fast}:presence:at:dead", 0, member)
        await until(lambda: redis.do("ZSCORE", "{sse_fast}:presence:nodes", "dead") is None)
        assert redis.do("EXISTS", "{sse_fast}:presence:at:dead") == 0
        one.leave("ada")
        await one.sees()
        assert await one.told() == [("join", "ada"), ("leave", "ada")]


async def test_what_is_no_member_of_a_node_that_is_there_changes_nothing(redis: redis_servers.Redis) -> None:
    for member in NO_MEMBERS:
        redis.do("ZADD", "{sse_fast}:presence:at:one", 0, member)
    async with node(redis, "one") as one:
        one.enter("ada")
        await one.sees("ada")
        one.leave("ada")
        await one.sees()
        assert await one.told() == [("join", "ada"), ("leave", "ada")]


async def test_a_node_that_was_taken_for_dead_and_is_not_says_again_who_is_there(redis: redis_servers.Redis) -> None:
    async with node(redis, "one") as one, node(redis, "two") as two:
        one.enter("ada")
        two.enter("bob", "cy")
        await one.sees("ada", "bob", "cy")
        two.speaks = False  # as one that hangs with all its workers
        await one.sees("ada")
        two.leave("cy")
        two.speaks = True
        await one.sees("ada", "bob")
        assert (await one.told())[-1] == ("join", "bob")


async def test_while_the_engine_is_away_nobody_is_taken_for_dead_and_then_all_is_said(
    redis: redis_servers.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.do("CONFIG", "SET", "save", "")
    async with node(redis, "one") as one, node(redis, "two") as two:
        one.enter("ada", "bob")
        two.enter("bob", "cy")
        await two.sees("ada", "bob", "cy")
        redis.do("SAVE")
        redis.kill()
        await until(lambda: one.engine.trouble is not None and two.engine.trouble is not None)
        one.leave("ada")
        one.enter("eve")
        await until(lambda: (ROOM, "eve") in one.presence._unpublished)
        await until(lambda: "presence:" in caplog.text)
        await asyncio.sleep(module.LEASE)
        redis.start()
        await two.sees("bob", "cy", "eve")
        assert [event for event in await one.told() if event[1] in ("bob", "cy")] in (
            [("join", "bob"), ("join", "cy")],
            [("join", "cy"), ("join", "bob")],
        )
        assert sum("presence:" in record.message for record in caplog.records) <= 4  # said, and not each time


async def test_after_the_engine_was_emptied_who_is_there_is_there_again(redis: redis_servers.Redis) -> None:
    async with node(redis, "one") as one, node(redis, "two") as two:
        one.enter("ada", "bob")
        two.enter("bob", "cy")
        await two.sees("ada", "bob", "cy")
        redis.do("FLUSHALL")
        one.leave("ada")
        await one.sees("bob", "cy")
        await two.sees("bob", "cy")
        assert sorted(event for event in await one.told() if event[1] != "ada") == [("join", "bob"), ("join", "cy")]


async def test_what_a_failover_has_lost_is_said_again(redis: redis_servers.Redis) -> None:
    """The engine is put back to what it was some seconds before."""
    async with node(redis, "one") as one:
        one.enter("ada", "bob")
        await one.sees("ada", "bob")
        keys = [f"{{sse_fast}}:presence{name}" for name in ("", ":who", ":names", ":nodes", ":at:one")]
        before = [redis.do("DUMP", key) for key in keys]
        one.enter("cy")
        one.leave("bob")
        await one.sees("ada", "cy")
        for key, dumped in zip(keys, before, strict=True):
            assert isinstance(dumped, bytes)
            redis.do("RESTORE", key, 0, dumped, "REPLACE")
        await one.sees("ada", "cy")
        assert (await one.told())[-2:] in ([("join", "cy"), ("leave", "bob")], [("leave", "bob"), ("join", "cy")])


async def test_another_worker_that_speaks_for_the_node_goes_on_where_the_first_one_died(
    redis: redis_servers.Redis,
) -> None:
    async with node(redis, "one") as dead:
        dead.enter("ada", "bob")
        await dead.sees("ada", "bob")
        dead.presence.close()
        async with node(redis, "one") as alive:
            alive.enter("bob")
            await alive.sees("bob")
            told = await alive.told()
            assert sorted(told) == [("join", "ada"), ("join", "bob"), ("leave", "ada")]


async def test_one_that_spoke_before_and_wakes_up_does_not_undo_what_was_said_since(
    redis: redis_servers.Redis,
) -> None:
    async with node(redis, "one") as first:
        first.enter("ada")
        await first.sees("ada")
        first.speaks = False
        async with node(redis, "one") as second:
            second.enter("ada", "bob")
            await second.sees("ada", "bob")
            second.speaks, first.speaks = False, True
            first.enter("bob")
            first.leave("ada")
            await first.sees("bob")
            assert (await first.told()).count(("join", "bob")) == 1


async def test_more_than_the_engine_counts_are_left_out_and_the_log_says_so(
    redis: redis_servers.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = functions._read()
    assert "local MEMBERS = 1000000\n" in code
    monkeypatch.setattr(functions, "_read", lambda: code.replace("local MEMBERS = 1000000\n", "local MEMBERS = 1\n"))
    monkeypatch.setattr(functions, "_version", [])
    async with node(redis, "one") as one:
        one.enter("ada")
        await one.sees("ada")
        one.enter("bob")
        await until(lambda: "more are left out" in caplog.text)
        assert await one.there() == ["ada"]


async def test_members_are_listed_page_by_page_and_other_channels_are_others(redis: redis_servers.Redis) -> None:
    users = sorted([f"user {number:03}" for number in range(30)] + ["a\0b", "ü", "日本", "a b", '"'])
    async with node(redis, "one") as one:
        one.enter(*users)
        one.presence.enter(("room:10", "room:", "room:1:x"), "elsewhere")
        await one.sees(*users)
        got: list[str] = []
        while page := (await one.presence.who(ROOM, 7, got[-1] if got else ""))[1]:
            assert len(page) <= 7
            got += [each.user for each in page]
        assert got == users
        assert (await one.presence.who("room:2", 7)) == (0, [])


async def test_however_many_wait_no_more_than_a_bound_of_them_is_kept(
    redis: redis_servers.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 50)
    async with node(redis, "one") as one:
        one.speaks = False
        one.enter(*(f"user {number:04}" for number in range(500)))
        assert len(one.presence._unpublished) <= 51
        one.leave(*(f"user {number:04}" for number in range(400)))
        await until(lambda: one.presence.members(ROOM, 1)[0] == 100)
        one.speaks = True
        await one.sees(*(f"user {number:04}" for number in range(400, 500)))
