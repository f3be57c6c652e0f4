"""Publishing to a fleet without a server: from a blocking program and from a loop."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import documentation
import pytest
from redis_engines import engine_at, frames_of, prefixes, read
from redis_servers import HOST, Redis, Servers, servers

from sse_fast import AsyncPublisher, EngineRefused, EngineUnavailable, InvalidEvent, KeyReused, NotReplicated, Publisher
from sse_fast.cluster.entries import Events
from sse_fast.cluster.trouble import COMMANDS, OF_PRESENCE
from sse_fast.errors import BatchTooLarge, EventTooLarge
from sse_fast.event import EventId


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with servers() as made:
        yield made.redis()


@pytest.fixture
def made() -> Iterator[Servers]:
    with servers() as those:
        yield those


async def test_what_a_job_publishes_is_what_a_node_reads(redis: Redis) -> None:
    prefix = next(prefixes)
    with Publisher(redis.url, prefix=prefix) as publisher:
        one = publisher.publish("orders:7", {"state": "paid"}, event="order", key="paid")
        assert publisher.publish("orders:7", {"state": "paid"}, event="order", key="paid") == one
        with pytest.raises(KeyReused):
            publisher.publish("orders:7", {"state": "sent"}, key="paid")
        two = publisher.publish_many(
            [{"channel": "a", "data": "x"}, {"channels": ["a", "b"], "data": [1], "conflate_key": "k", "key": "other"}]
        )
        assert [id.position for id in two] == [2, 3]
        assert list(publisher.publish_many([{"channel": "a", "data": 1}] * 2, key="batch")) == list(
            publisher.publish_many([{"channel": "a", "data": 1}] * 2, key="batch")
        )
        assert list(publisher.publish_many([])) == []
        async with engine_at(redis.url, prefix) as engine, AsyncPublisher(redis.url, prefix=prefix) as other:
            three = await other.publish("c", "end")
            assert await other.publish_many([{"channel": "c", "data": "z", "key": "z"}])
            items = await read(engine, None, three)
            assert frames_of(items)[0] == b'event: order\ndata: {"state":"paid"}\n\n'
            assert isinstance(items[1], Events)
            assert items[1].events[2][1] == (b"a", b"b")
            assert three.position == 6


async def test_what_is_no_event_is_named_by_its_place_and_nothing_is_published(redis: Redis) -> None:
    with Publisher(redis.url, prefix=next(prefixes)) as publisher:
        for events, said in (
            (
                [{"channel": "a", "data": 1}, {"chanel": "a", "data": 1}],
                "event 1 of the batch: there is no field 'chanel'",
            ),
            ([{"data": 1}], "event 0 of the batch: it has 'data', and 'channel'"),
            ([{"channel": "a", "channels": ["b"], "data": 1}], "event 0"),
            ([{"channel": "a b", "data": 1}], "event 0"),
        ):
            with pytest.raises(InvalidEvent, match=said):
                publisher.publish_many(events)
        with pytest.raises(InvalidEvent, match="one or the other"):
            publisher.publish_many([{"channel": "a", "data": 1, "key": "k"}], key="all")
        with pytest.raises(EventTooLarge):
            publisher.publish_many([{"channel": "a", "data": "x" * 100_000}])
        assert publisher.publish("a", "x").position == 1


async def test_both_keep_to_the_fleets_limits(redis: Redis) -> None:
    from sse_fast.cluster.engine import Limits

    prefix = next(prefixes)
    async with engine_at(redis.url, prefix, Limits(max_bytes=2**17, idempotency_window=0)) as engine:
        await engine.open()
        with Publisher(redis.url, prefix=prefix) as publisher:
            for _ in range(40):
                publisher.publish_many([{"channel": "a", "data": "x" * 1000}] * 10)
            assert (await engine.look()).bytes <= 2**17
            with pytest.raises(BatchTooLarge):
                publisher.publish_many([{"channel": "a", "data": "x" * 1000}] * 100)
            with pytest.raises(InvalidEvent, match="no idempotency keys"):
                publisher.publish("a", "x", key="k")


def test_threads_and_forked_processes_may_share_one(redis: Redis) -> None:
    with Publisher(redis.url, prefix=next(prefixes)) as publisher:
        ids: list[EventId] = [publisher.publish("a", "first")]

        def publish() -> None:
            ids.extend(publisher.publish("a", "x") for _ in range(50))

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        child = subprocess.run(
            [sys.executable, "-c", FORKED, redis.url, next(prefixes)], capture_output=True, text=True, timeout=60
        )
        assert child.returncode == 0, child.stderr
        assert sorted(id.position for id in ids) == list(range(1, 202))


FORKED = """
import os, sys
from sse_fast import Publisher
publisher = Publisher(sys.argv[1], prefix=sys.argv[2])
ids = [publisher.publish("a", "parent")]
children = []
for _ in range(3):
    if not (pid := os.fork()):
        for _ in range(20):
            publisher.publish("a", "child")
        os._exit(0)
    children.append(pid)
ids += [publisher.publish("a", "parent") for _ in range(20)]
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
assert publisher.publish("a", "last").position == 1 + 20 + 60 + 1
"""


def test_a_connection_that_was_closed_meanwhile_costs_nothing(redis: Redis) -> None:
    with Publisher(redis.url, prefix=next(prefixes), patience=0) as publisher:
        publisher.publish("a", "x")
        redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert publisher.publish("a", "x").position == 2


async def test_an_engine_that_is_away_for_a_moment_is_waited_for(made: Servers) -> None:
    redis = made.redis("appendonly yes", "appendfsync always")
    with Publisher(redis.url, patience=30) as publisher:
        publisher.publish("a", "x")
        async with AsyncPublisher(redis.url, patience=30) as other:
            await other.publish("a", "x")
            redis.kill()
            waiting = [asyncio.to_thread(publisher.publish, "a", "y", key="one"), other.publish("a", "y", key="two")]
            tasks = [asyncio.ensure_future(each) for each in waiting]
            await asyncio.sleep(0.05)
            await asyncio.to_thread(redis.start)
            assert sorted(id.position for id in await asyncio.gather(*tasks)) == [1, 2]


def test_what_cannot_be_is_said_at_once_or_when_patience_is_over(made: Servers) -> None:
    with Publisher(f"redis://{HOST}:1", patience=0.2) as publisher, pytest.raises(EngineUnavailable) as error:
        publisher.publish("a", "x")
    assert not error.value.maybe
    redis = made.redis("requirepass right")
    redis.password = "right"
    with Publisher(f"redis://:wrong@{redis.address}") as publisher, pytest.raises(EngineRefused) as refused:
        publisher.publish("a", "x")
    assert "wrong" not in str(refused.value)
    with pytest.raises(ValueError, match="begins with"):
        Publisher("http://x")
    with pytest.raises(ValueError, match="begins with"):
        AsyncPublisher("http://x")


def test_a_server_that_stands_still_is_given_up_and_a_retry_with_the_key_is_there_once(made: Servers) -> None:
    redis = made.redis()
    with Publisher(redis.url, timeout=0.3, patience=0) as publisher:
        publisher.publish("a", "x")
        redis.pause()
        with pytest.raises(EngineUnavailable) as error:
            publisher.publish("a", "y", key="once")
        assert error.value.maybe
        redis.resume()
        again = Publisher(redis.url)
        assert again.publish("a", "y", key="once").position == 2
        assert again.publish("a", "z").position == 3
        again.close()


def test_it_waits_for_replicas_where_it_is_told_to(made: Servers) -> None:
    primary = made.redis()
    with Publisher(primary.url, prefix="other", replicas=1, replica_timeout=0.1) as publisher:
        with pytest.raises(NotReplicated) as error:
            publisher.publish("a", "x")
        assert error.value.maybe
        assert primary.do("XLEN", "{other}:log") == 2, "without a key it is not tried again"
    hasty = Publisher(primary.url, replicas=1, replica_timeout=0.1, patience=0)
    with hasty as publisher, pytest.raises(NotReplicated):
        publisher.publish("a", "x", key="k")
    replica = made.redis(replica_of=primary)
    with Publisher(primary.url, replicas=1, replica_timeout=5.0) as publisher:
        assert publisher.publish("a", "x", key="k").position == 1
        assert replica.do("XLEN", "{sse_fast}:log") == 2


async def test_sentinels_are_asked_where_to_publish(made: Servers) -> None:
    redis = made.redis()
    (watching,) = await asyncio.to_thread(made.sentinels, redis, 0, 1)
    with Publisher(f"redis+sentinel://127.0.0.1:1,{watching.address}/fleet") as publisher:
        assert publisher.publish("a", "x").position == 1
    with Publisher(f"redis+sentinel://{watching.address}/other") as publisher, pytest.raises(EngineRefused):
        publisher.publish("a", "x")


def test_without_the_extra_it_says_which() -> None:
    code = "import sys; sys.modules['redis'] = None\nfrom sse_fast import *\nPublisher('redis://h')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert "sse-fast[redis]" in done.stderr


def test_the_documented_publisher_publishes_and_its_user_has_the_commands(redis: Redis) -> None:
    section = documentation.PAGES["docs/running/machines.md"]
    code = section.split("```python\n")[1].split("```")[0].replace("redis://:password@10.0.0.5:6379", redis.url)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["publisher"].publish("news", "c").position == 4
    found["publisher"].close()
    assert {*COMMANDS.split(), *OF_PRESENCE.split()} <= set(
        section.replace("`", " ").replace(".", " ").replace(";", " ").split()
    )
