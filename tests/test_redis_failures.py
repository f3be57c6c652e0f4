"""Whatever happens to Redis: who publishes is told the truth at once, who reads is told what was lost, and all goes on
by itself."""

import asyncio
from collections.abc import Iterator

import pytest
from cut_proxy import between
from redis_engines import engine_at, event, following, frames_of, ids_of, marks_of, prefixes, read, until
from redis_servers import Servers, servers

from sse_fast.cluster.engine import Engine, Limits
from sse_fast.cluster.entries import Missed
from sse_fast.cluster.trouble import COMMANDS
from sse_fast.errors import EngineRefused, EngineTrouble, EngineUnavailable, NotReplicated
from sse_fast.event import EventId

ALWAYS_SAVED = ("appendonly yes", "appendfsync always")


@pytest.fixture
def made() -> Iterator[Servers]:
    with servers() as those:
        yield those


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every second are more often here."""
    monkeypatch.setattr("sse_fast.cluster.engine.TEND", 0.2)
    monkeypatch.setattr("sse_fast.cluster.reader.BLOCK", 300)
    monkeypatch.setattr("sse_fast.cluster.reader.GRACE", 0.7)


async def refused_at_once(engine: Engine, reason: EngineTrouble) -> EngineUnavailable:
    """Where the engine is known not to take events."""
    publishing = asyncio.ensure_future(engine.publish([event("x")]))
    await asyncio.sleep(0)
    assert publishing.done(), "nobody is waited for"
    with pytest.raises(EngineUnavailable) as error:
        await publishing
    assert error.value.reason == reason
    assert not error.value.maybe
    assert engine.trouble is not None
    return error.value


async def takes_again(engine: Engine) -> EventId:
    await until(lambda: engine.trouble is None)
    return (await engine.publish([event("again")])).ids[0]


async def test_an_outage_ends_by_itself_and_loses_nothing_that_was_saved(made: Servers) -> None:
    redis = made.redis(*ALWAYS_SAVED)
    changes: list[bool] = []
    async with engine_at(redis.url) as engine, following(engine) as reading:
        engine.on_change = lambda: changes.append(engine.trouble is None)
        first = (await engine.publish([event("before")] * 3, "key")).ids
        await reading.reach(first[-1])
        redis.kill()
        await until(lambda: engine.trouble)
        await refused_at_once(engine, EngineTrouble.UNREACHABLE)
        redis.start()
        last = await takes_again(engine)
        items = await reading.reach(last)
        assert not any(isinstance(item, Missed) for item in items)
        assert ids_of(items) == [EventId(first[0].epoch, 0), *first, EventId(last.epoch, 0), last]
        assert marks_of(items)[-1].prev == first[-1]
        assert changes == [False, True]
        assert list((await engine.publish([event("before")] * 3, "key")).ids) == list(first), "keys are kept, too"


async def test_a_restart_that_kept_nothing_is_told_by_a_mark_without_a_past(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine, following(engine) as reading:
        first = (await engine.publish([event("lost")])).ids[0]
        await reading.reach(first)
        redis.kill()
        redis.start()
        items = await reading.wait(lambda items: len(marks_of(items)) == 2)
        assert marks_of(items)[1].prev is None
        assert int(marks_of(items)[1].epoch) > int(first.epoch)
        assert await takes_again(engine) > first


async def test_a_server_that_stands_still_is_given_up_in_time_and_a_retry_with_the_key_is_there_once(
    made: Servers,
) -> None:
    redis = made.redis()
    async with engine_at(redis.url, timeout=0.4) as engine, following(engine) as reading:
        await engine.open()
        redis.pause()
        with pytest.raises(EngineUnavailable) as late:
            await engine.publish([event("once")], "key")
        assert late.value.reason == EngineTrouble.TIMEOUT
        assert late.value.maybe, "it may have been published"
        await refused_at_once(engine, EngineTrouble.TIMEOUT)
        redis.resume()
        await until(lambda: engine.trouble is None)
        id = (await engine.publish([event("once")], "key")).ids[0]
        last = await takes_again(engine)
        assert frames_of(await reading.reach(last)) == [b"data: once\n\n", b"data: again\n\n"]
        assert id.position == 1


async def test_a_connection_that_takes_no_more_of_a_batch_is_left_for_another(made: Servers) -> None:
    redis = made.redis()
    async with between(redis.port) as proxy, engine_at(proxy.url, timeout=0.4) as engine:
        await engine.open()
        proxy.hold()
        with pytest.raises(EngineUnavailable) as late:
            await engine.publish([event("x" * 2**20)] * 24)
        assert late.value.reason == EngineTrouble.TIMEOUT
        tried = proxy.connections
        await until(lambda: proxy.connections > tried)
        proxy.release()
        await takes_again(engine)


async def test_connections_that_are_cut_cost_the_reader_nothing(made: Servers) -> None:
    redis = made.redis()
    async with between(redis.port) as proxy, engine_at(proxy.url) as engine, following(engine) as reading:
        acknowledged = {}
        for number in range(60):
            if number % 7 == 0:
                proxy.cut()
            while number not in acknowledged:
                try:
                    acknowledged[number] = (await engine.publish([event(f"{number}")], f"key {number}")).ids[0]
                except EngineUnavailable:
                    await until(lambda: engine.trouble is None)
        items = await reading.reach(acknowledged[59])
        assert frames_of(items) == [b"data: %d\n\n" % number for number in range(60)]
        assert ids_of(items)[1:] == list(acknowledged.values())


async def test_a_reader_that_went_deaf_is_noticed_and_goes_on_where_it_was(made: Servers) -> None:
    redis = made.redis()
    async with (
        between(redis.port) as proxy,
        engine_at(redis.url) as writer,
        engine_at(proxy.url) as engine,
        following(engine) as reading,
    ):
        first = (await writer.publish([event("x")])).ids[0]
        await reading.reach(first)
        assert engine.reading
        proxy.deafen()
        ids = (await writer.publish([event("y")] * 50)).ids
        assert ids_of(await reading.reach(ids[-1]))[1:] == [first, *ids]
        await until(lambda: engine.reading)


async def test_a_slow_connection_is_no_outage(made: Servers) -> None:
    redis = made.redis()
    async with between(redis.port) as proxy, engine_at(proxy.url) as engine:
        await engine.open()
        proxy.delay = 0.05
        answers = await asyncio.gather(*(engine.publish([event("x")]) for _ in range(100)))
        assert len({answer.ids[0] for answer in answers}) == 100
        assert engine.counts.calls <= 2
        assert engine.trouble is None


async def test_a_flush_is_told_though_nobody_publishes(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine, following(engine) as reading:
        first = (await engine.publish([event("x")], "key")).ids[0]
        await reading.reach(first)
        redis.do("FLUSHALL")
        items = await reading.wait(lambda items: len(marks_of(items)) == 2)
        assert marks_of(items)[1].prev is None
        assert (await engine.publish([event("x")], "key")).repeated == 0
        assert engine.trouble is None


@pytest.mark.parametrize("gone", ["log", "state", "cuts", "keys:0"])
async def test_any_key_that_somebody_deletes_is_missed(made: Servers, gone: str) -> None:
    redis = made.redis()
    async with engine_at(redis.url, limits=Limits(max_bytes=2**16)) as engine, following(engine) as reading:
        ids = (await engine.publish([event("x" * 900)] * 8)).ids
        await reading.reach(ids[-1])
        redis.do("DEL", f"{{sse_fast}}:{gone}")
        after = (await engine.publish([event("y")])).ids[0]
        items = await reading.reach(after)
        assert len(set(ids_of(items))) == len(ids_of(items)), "no id comes twice"
        if gone in ("log", "state"):
            assert after.epoch != ids[0].epoch
            assert marks_of(items)[1].prev == (None if gone == "log" else ids[-1])
        await engine.look()
        for _ in range(30):
            await engine.publish([event("x" * 900)] * 8)
        size = await engine.look()
        assert size.entries <= 120, "it is trimmed as before"


async def test_eviction_is_told_and_nothing_goes_on_as_if_it_were_there(made: Servers) -> None:
    redis = made.redis("maxmemory-policy allkeys-lru")
    async with engine_at(redis.url) as engine, following(engine) as reading:
        first = (await engine.publish([event("x")])).ids[0]
        await reading.reach(first)
        redis.do("CONFIG", "SET", "maxmemory", "1")
        await until(lambda: redis.do("EXISTS", "{sse_fast}:log") == 0)
        redis.do("CONFIG", "SET", "maxmemory", "0")
        last = await takes_again(engine)
        assert last.epoch != first.epoch
        assert marks_of(await reading.reach(last))[-1].prev is None


async def test_out_of_memory_is_said_and_over_when_there_is_some(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine:
        first = (await engine.publish([event("x")])).ids[0]
        redis.do("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(EngineUnavailable, match="maxmemory"):
            await engine.publish([event("x")] * 3)
        await refused_at_once(engine, EngineTrouble.MEMORY)
        redis.do("CONFIG", "SET", "maxmemory", "0")
        last = await takes_again(engine)
        assert (last.epoch, last.position) == (first.epoch, 2), "a batch that was refused is not there in part"


async def test_a_wrong_password_is_said_without_it_and_a_right_one_is_enough(made: Servers) -> None:
    redis = made.redis("requirepass right")
    redis.password = "right"
    for url in (f"redis://:secret@{redis.address}", redis.url):
        async with engine_at(url) as engine:
            with pytest.raises(EngineRefused, match="password") as error:
                await engine.open()
            assert error.value.reason == EngineTrouble.CREDENTIALS
            assert "secret" not in str(error.value)
            await refused_at_once(engine, EngineTrouble.CREDENTIALS)
            if "secret" in url:
                redis.do("CONFIG", "SET", "requirepass", "secret")
                redis.password = "secret"
                await takes_again(engine)
                redis.do("CONFIG", "SET", "requirepass", "right")
                redis.password = "right"


async def test_a_user_needs_what_is_said_and_no_more_and_what_is_missing_is_named(made: Servers) -> None:
    redis = made.redis()
    url = f"redis://edge:secret@{redis.address}"

    def user(commands: str) -> None:
        redis.do("ACL", "SETUSER", "edge", "reset", "on", ">secret", "~{sse_fast}:*", *commands.split())

    user(COMMANDS)
    async with engine_at(url, limits=Limits(max_bytes=2**16)) as engine:
        for number in range(20):
            last = (await engine.publish([event("x" * 900)] * 8, f"key {number}")).ids[-1]
        await read(engine, await engine.window(20_000), last)
        await engine.page(EventId(last.epoch, last.position - 5))
        redis.do("DEBUG", "CHANGE-REPL-ID")
        await engine.publish([event("x")])
        assert engine.trouble is None
    redis.do("FUNCTION", "FLUSH")
    redis.do("FLUSHALL")
    for command in COMMANDS.split():
        if command in ("+xread", "+xrange", "+wait"):  # are asked for when they are needed
            continue
        user(" ".join(each for each in COMMANDS.split() if each != command))
        redis.do("FUNCTION", "FLUSH")
        redis.do("FLUSHALL")
        async with engine_at(url) as engine:
            with pytest.raises(EngineRefused) as error:
                await engine.open()
            assert error.value.reason == EngineTrouble.PERMISSIONS, command
            assert COMMANDS in str(error.value)
            assert command[1:].partition("|")[0] in str(error.value).partition("It needs")[0].lower()
        assert redis.do("EXISTS", "{sse_fast}:log") == 0, f"without {command}"
    user(COMMANDS)
    redis.do("ACL", "SETUSER", "edge", "resetkeys", "~other:*")
    async with engine_at(url) as engine:
        with pytest.raises(EngineRefused) as error:
            await engine.open()
        assert error.value.reason == EngineTrouble.PERMISSIONS


@pytest.mark.parametrize("writable", [False, True])
async def test_a_replica_takes_nothing_even_a_writable_one(made: Servers, writable: bool) -> None:
    primary = made.redis()
    replica = made.redis(f"replica-read-only {'no' if writable else 'yes'}", replica_of=primary)
    async with engine_at(primary.url) as engine:
        await engine.publish([event("x")])
    async with engine_at(replica.url) as engine:
        with pytest.raises(EngineUnavailable, match="replica") as error:
            await engine.open()
        assert error.value.reason == EngineTrouble.READ_ONLY
        await refused_at_once(engine, EngineTrouble.READ_ONLY)
        replica.promote()
        await takes_again(engine)


async def test_what_is_another_programs_is_left_alone(made: Servers) -> None:
    redis = made.redis()
    foreign = {
        "log": [("SET", "{sse_fast}:log", "x"), ("XADD", "{sse_fast}:log", "*", "field", "value")],
        "state": [("SADD", "{sse_fast}:state", "x"), ("HSET", "{sse_fast}:state", "field", "value")],
        "cuts": [("SET", "{sse_fast}:cuts", "x")],
        "nodes": [("RPUSH", "{sse_fast}:nodes", "x")],
        "keys:1": [("RPUSH", "{sse_fast}:keys:1", "x")],
    }
    for name, commands in foreign.items():
        for command in commands:
            redis.do("FLUSHALL")
            redis.do(*command)
            dumped = redis.do("DUMP", f"{{sse_fast}}:{name}")
            async with engine_at(redis.url) as engine:
                with pytest.raises(EngineRefused, match="prefix") as error:
                    await engine.open()
                assert error.value.reason == EngineTrouble.FOREIGN
            assert redis.do("DUMP", f"{{sse_fast}}:{name}") == dumped
            assert redis.do("DBSIZE") == 1
            async with engine_at(redis.url, "another") as engine:
                await engine.publish([event("x")])


async def test_a_log_of_another_layout_and_a_server_without_functions_are_named(made: Servers) -> None:
    redis = made.redis()
    redis.do("HSET", "{sse_fast}:state", "layout", "99")
    async with engine_at(redis.url) as engine:
        with pytest.raises(EngineRefused, match="another version") as error:
            await engine.open()
        assert error.value.reason == EngineTrouble.VERSION
    old = made.redis('rename-command FCALL ""', 'rename-command FUNCTION ""')
    async with engine_at(old.url) as engine:
        with pytest.raises(EngineRefused, match=r"Redis 7\.0 or newer"):
            await engine.open()


async def test_a_server_that_is_no_redis_and_one_that_is_not_there(made: Servers) -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with engine_at(f"redis://127.0.0.1:{port}") as engine:
        with pytest.raises(EngineUnavailable, match="does not speak"):
            await engine.open()
    server.close()
    async with engine_at(f"redis://127.0.0.1:{port}") as engine:
        with pytest.raises(EngineUnavailable) as error:
            await engine.open()
        assert error.value.reason == EngineTrouble.UNREACHABLE


async def test_what_the_server_itself_asks_of_its_replicas_is_heeded(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine:
        first = (await engine.publish([event("x")])).ids[0]
        redis.do("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(EngineUnavailable) as error:
            await engine.publish([event("x")])
        assert error.value.reason == EngineTrouble.REPLICAS
        assert not error.value.maybe
        redis.do("CONFIG", "SET", "min-replicas-to-write", "0")
        assert (await takes_again(engine)).position == first.position + 1


async def test_acknowledged_is_what_the_replicas_have(made: Servers) -> None:
    primary = made.redis()
    replica = made.redis(replica_of=primary)
    waiting = engine_at(primary.url, replicas=1, replica_timeout=5.0)
    async with waiting as patient, engine_at(primary.url, replicas=1, replica_timeout=0.2) as engine:
        await engine.open()
        first = (await patient.publish([event("x")])).ids[0]
        assert replica.do("XLEN", "{sse_fast}:log") == 2
        replica.pause()
        with pytest.raises(NotReplicated) as error:
            await engine.publish([event("y")], "key")
        assert error.value.maybe
        await refused_at_once(engine, EngineTrouble.REPLICAS)
        async with engine_at(primary.url, replicas=1, replica_timeout=0.2) as other:
            await other.open()
            assert other.trouble is not None, "to be asked again under its key is no acknowledgement"
        replica.resume()
        await until(lambda: engine.trouble is None)
        again = await patient.publish([event("y")], "key")
        assert (list(again.ids), again.repeated) == ([EventId(first.epoch, first.position + 1)], 1)


async def test_a_repetition_is_acknowledged_when_the_replicas_have_the_first(made: Servers) -> None:
    primary = made.redis()
    replica = made.redis(replica_of=primary)
    async with engine_at(primary.url) as careless, engine_at(primary.url, replicas=1, replica_timeout=0.2) as careful:
        await careful.open()
        await careless.open()
        replica.pause()
        await careless.publish([event("x")], "key")
        with pytest.raises(NotReplicated):
            await careful.publish([event("x")], "key")
        replica.resume()


async def test_a_log_that_ends_before_what_was_read_of_it_goes_on_in_an_epoch_behind_that(made: Servers) -> None:
    redis = made.redis()
    async with engine_at(redis.url) as engine:
        last = (await engine.publish([event("x")])).ids[0]
        read = EventId(str(int(last.epoch) + 3_600_000), 7)  # of a server with another clock, say
        async with following(engine, read) as reading:
            (mark,) = marks_of(await reading.wait(marks_of))
            assert int(mark.epoch) > int(read.epoch), "ids only rise, for who has seen those"
            assert mark.prev == last
            after = (await engine.publish([event("y")])).ids[0]
            assert ids_of(await reading.reach(after)) == [EventId(mark.epoch, 0), EventId(mark.epoch, 1)]


def test_prefixes_are_distinct() -> None:
    assert next(prefixes) != next(prefixes)
