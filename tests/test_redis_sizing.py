"""What docs/running/machines.md says of a Redis' memory, its settings and its connections."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_engines import engine_at, event, following, until
from redis_servers import Redis, Servers, servers

from sse_fast.cluster.engine import Limits
from sse_fast.event import EventId

CONFIGURED = Path(__file__).parents[1] / "examples" / "deploy" / "redis.conf"
MIB = 1 << 20


@pytest.fixture
def made() -> Iterator[Servers]:
    with servers() as those:
        yield those


def used(redis: Redis) -> int:
    return int(redis.info("memory")["used_memory"])


@pytest.mark.parametrize("size", [20, 200, 1000, 2100, 4000])
async def test_a_full_log_takes_at_most_a_quarter_more_than_its_size(made: Servers, size: int) -> None:
    redis, most = made.redis(), 2 * MIB
    async with engine_at(redis.url, limits=Limits(max_bytes=most)) as engine:
        await engine.open()
        empty, each = used(redis), 50
        for _ in range(2 * most // ((size + 64) * each)):
            await engine.publish([event("x" * size) for _ in range(each)])
        look = await engine.look()
        assert 0.9 * most < look.bytes <= most
        assert used(redis) - empty < 1.25 * most


async def test_an_event_counts_as_its_bytes_and_64_more(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine:
        before = (await engine.open()).bytes
        await engine.publish([event("x" * 200, b"orders:7")])
        frame = len("data: \n\n") + 200
        assert (await engine.look()).bytes - before == 64 + frame + len("orders:7") + 2


async def test_an_idempotency_key_takes_at_most_300_bytes(made: Servers) -> None:
    redis, count = made.redis(), 4000
    async with engine_at(redis.url) as engine:
        await engine.open()
        empty = used(redis)
        events = [event(f"{number}") for number in range(count)]
        await engine.publish(events, {number: f"the key of the order {number}" for number in range(count)})
        assert used(redis) - empty - (await engine.look()).bytes < 300 * count


async def test_one_connection_publishes_one_follows_and_one_reads_pages_however_much_they_do(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine, following(engine) as reading:
        for number in range(20):
            last = (await engine.publish([event(f"{number}")])).ids[0]
            await engine.page(EventId(last.epoch, 0))
        await reading.reach(last)
        mine = [line for line in str(redis.do("CLIENT", "LIST")).split("\\n") if "cmd=" in line]
        assert len([line for line in mine if "cmd=client" not in line]) == 3, mine


def test_the_example_of_a_configuration_has_room_for_what_is_kept_by_default(made: Servers) -> None:
    redis = made.redis(*CONFIGURED.read_text().splitlines())
    has = {name: redis.do("CONFIG", "GET", name)[1].decode() for name in SETTINGS}  # type: ignore[index]
    assert {name: has[name] for name in SETTINGS if SETTINGS[name]} == {k: v for k, v in SETTINGS.items() if v}
    limits = Limits()
    assert int(has["maxmemory"]) > 1.25 * limits.max_bytes + 300 * limits.idempotency_keys


SETTINGS = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "maxmemory": ""}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_redis_with_an_append_only_file_has_all_that_was_acknowledged_when_it_starts_again(
    made: Servers, how: signal.Signals
) -> None:
    redis = made.redis("appendonly yes", "appendfsync always")
    async with engine_at(redis.url, timeout=0.5) as engine:
        published = [(await engine.publish([event(f"{number}")], f"{number}")).ids[0] for number in range(50)]
        redis.kill(how)
        redis.start()
        await until(lambda: engine.trouble)
        await until(lambda: engine.trouble is None)
        again = [(await engine.publish([event(f"{number}")], f"{number}")) for number in range(50)]
        assert [each.ids[0] for each in again] == published, "and the keys, too"
        assert all(each.repeated for each in again)
