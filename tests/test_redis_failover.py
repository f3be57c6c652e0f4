"""More than one server: what a failover loses is told by a mark exactly at the fork, and the primary is found."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trustme
from cut_proxy import between
from redis.asyncio.connection import SSLConnection
from redis_engines import engine_at, event, following, frames_of, ids_of, marks_of, until
from redis_servers import HOST, Redis, Servers, servers, wait_until

from sse_fast import Publisher
from sse_fast.cluster.address import Address
from sse_fast.cluster.engine import Engine
from sse_fast.cluster.entries import Missed
from sse_fast.cluster.primary import latest
from sse_fast.cluster.redis_py import async_connection
from sse_fast.errors import EngineRefused, EngineTrouble, EngineUnavailable
from sse_fast.event import EventId


@pytest.fixture
def made() -> Iterator[Servers]:
    with servers() as those:
        yield those


async def published(engine: Engine, *texts: str) -> list[EventId]:
    return [(await engine.publish([event(text)])).ids[0] for text in texts]


def has(server: Redis, id: EventId) -> bool:
    return bool(server.do("XRANGE", "{sse_fast}:log", str(id), str(id)))


async def test_what_a_replica_did_not_get_before_it_was_made_the_primary_is_told_exactly(made: Servers) -> None:
    primary = made.redis()
    replica = made.redis()
    async with between(primary.port) as link, between(primary.port) as way:
        await asyncio.to_thread(replica.do, "REPLICAOF", HOST, link.port)
        await asyncio.to_thread(wait_until, replica.follows, "the replica follows")
        async with engine_at(way.url) as engine, following(engine) as reading:
            kept = await published(engine, "a", "b")
            await asyncio.to_thread(wait_until, lambda: has(replica, kept[-1]), "it is copied")
            link.hold()
            lost = await published(engine, "c", "d", "e")
            await reading.reach(lost[-1])
            primary.kill()
            way.to = replica.port
            replica.promote()
            await until(lambda: engine.trouble)
            await until(lambda: engine.trouble is None)
            items = await reading.wait(lambda items: len(marks_of(items)) == 2)
            assert marks_of(items)[1].prev == kept[-1], "the fork; nobody had to publish for it to be told"
            after = await published(engine, "f")
            items = await reading.reach(after[0])
            assert not any(isinstance(item, Missed) for item in items)
            assert len(set(ids_of(items))) == len(ids_of(items))
            assert ids_of(items) == sorted(ids_of(items))
            page = await engine.page(kept[0])
            assert ids_of(page.items) == [kept[1], EventId(after[0].epoch, 0), *after], "the log, as it is now"
            behind = await engine.page(lost[-1])
            assert marks_of(behind.items)[0].prev == kept[-1], "who stands behind the fork is told by the mark"


async def test_split_brain_is_one_order_in_the_end_and_the_mark_is_at_the_fork(made: Servers) -> None:
    one, two = made.redis(), made.redis()
    async with between(one.port) as link, between(one.port) as way:
        await asyncio.to_thread(two.do, "REPLICAOF", HOST, link.port)
        await asyncio.to_thread(wait_until, two.follows, "the replica follows")
        async with engine_at(way.url) as old, engine_at(two.url) as new, following(old) as reading:
            common = await published(old, "common")
            await asyncio.to_thread(wait_until, lambda: has(two, common[0]), "it is copied")
            link.hold()
            lost = await published(old, "lost", "lost too")
            await reading.reach(lost[-1])
            two.promote()
            won = await published(new, "won")
            assert won[0].epoch > common[0].epoch
            lost += await published(old, "and lost")
            await asyncio.to_thread(one.follow, two)  # and gives up what it had alone
            with pytest.raises(EngineUnavailable) as error:
                await published(old, "to a replica")
            assert error.value.reason == EngineTrouble.READ_ONLY
            way.to = two.port
            items = await reading.reach(won[0])
            assert marks_of(items)[-1].prev == common[0]
            assert frames_of(items)[-1] == b"data: won\n\n"
            async with following(new) as other:
                assert ids_of(await other.reach(won[0])) == [
                    EventId(common[0].epoch, 0),
                    common[0],
                    EventId(won[0].epoch, 0),
                    won[0],
                ]


async def test_a_primary_that_gets_its_first_replica_has_the_past_that_it_had(made: Servers) -> None:
    one = made.redis()
    async with engine_at(one.url) as engine:
        ids = await published(engine, "alone")
        before = one.info("replication")["master_replid"]
        two = await asyncio.to_thread(made.redis, replica_of=one)
        assert one.info("replication")["master_replid"] != before
        ids += await published(engine, "copied")
        assert ids[1] == EventId(ids[0].epoch, 2)
        await asyncio.to_thread(wait_until, lambda: has(two, ids[1]), "it is copied")
    two.promote()
    async with engine_at(two.url) as engine:
        assert (await published(engine, "of another"))[0].epoch != ids[0].epoch


async def test_a_primary_that_was_demoted_and_comes_back_without_what_it_lost_gives_no_id_twice(made: Servers) -> None:
    one, two = made.redis(), made.redis()
    async with between(one.port) as link:
        await asyncio.to_thread(two.do, "REPLICAOF", HOST, link.port)
        await asyncio.to_thread(wait_until, two.follows, "the replica follows")
        async with engine_at(one.url) as engine:
            common = await published(engine, "common")
            await asyncio.to_thread(wait_until, lambda: has(two, common[0]), "it is copied")
            link.hold()
            lost = await published(engine, "lost")
        two.promote()  # and nobody publishes there
        await asyncio.to_thread(one.follow, two)
        assert not has(one, lost[0])
        one.promote()  # the same process as ever
        async with engine_at(one.url) as engine:
            after = await published(engine, "after")
            assert after[0].epoch != lost[0].epoch
            assert marks_of((await engine.page(common[0])).items)[-1].prev == common[0]


async def test_a_past_that_was_given_up_and_comes_back_is_another_epoch_behind_all_that_anybody_has_seen(
    made: Servers,
) -> None:
    one, two = made.redis(), made.redis()
    async with between(one.port) as link, between(one.port) as way:
        await asyncio.to_thread(two.do, "REPLICAOF", HOST, link.port)
        await asyncio.to_thread(wait_until, two.follows, "the replica follows")
        async with engine_at(way.url) as engine, following(engine) as reading, engine_at(one.url) as there:
            common = await published(engine, "common")
            await asyncio.to_thread(wait_until, lambda: has(two, common[0]), "it is copied")
            link.hold()
            alone = await published(there, "alone")
            await reading.reach(alone[0])
            two.promote()
            way.to = two.port
            way.cut()
            won = await reading.wait(lambda items: len(marks_of(items)) == 2)
            seen = ids_of(won)[-1]
            two.kill()
            way.to = one.port  # which has not heard of the other's epoch, and went on in its own
            alone += await published(there, "alone too")
            after = await published_when_it_is_there(engine, "after")
            items = await reading.reach(after)
            assert int(after.epoch) > int(seen.epoch) > int(common[0].epoch)
            assert ids_of(items) == sorted(ids_of(items)), "nobody is told of an id that is before what he has"
            assert marks_of(items)[-1].prev == alone[-1], "that is what there is before it"
            assert (await published(there, "together"))[0].epoch == after.epoch


async def published_when_it_is_there(engine: Engine, text: str) -> EventId:
    await until(lambda: engine.trouble)
    await until(lambda: engine.trouble is None)
    return (await published(engine, text))[0]


async def test_sentinels_name_the_primary_and_nobody_has_to_say_that_it_is_another_one(made: Servers) -> None:
    primary = made.redis()
    replica = made.redis(replica_of=primary)
    watching = await asyncio.to_thread(made.sentinels, primary)
    url = f"redis+sentinel://127.0.0.1:1,{','.join(each.address for each in watching)}/fleet"
    async with engine_at(url, timeout=0.5) as engine, following(engine) as reading:
        first = await published(engine, "first")
        await asyncio.to_thread(wait_until, lambda: has(replica, first[0]), "it is copied")
        watching[0].kill()
        primary.pause()  # it is not dead, and answers nobody
        await until(lambda: engine.trouble)
        await until(lambda: engine.trouble is None)
        second = await published(engine, "second")
        assert has(replica, second[0])
        items = await reading.reach(second[0])
        assert ids_of(items)[1:] == [*first, EventId(second[0].epoch, 0), *second]
        assert marks_of(items)[1].prev == first[0]
        await until(lambda: engine.reading)


async def test_an_engine_leaves_a_server_that_the_sentinels_do_not_name(made: Servers) -> None:
    """Though that one answers, and takes what is published: it is cut off from the others, say."""
    one, two = made.redis(), made.redis()
    watching = await asyncio.to_thread(made.sentinels, one, 0, 1)
    async with engine_at(f"redis+sentinel://{watching[0].address}/fleet") as engine, following(engine) as reading:
        await reading.reach((await published(engine, "x"))[0])
        watching[0].do("SENTINEL", "REMOVE", "fleet")
        watching[0].do("SENTINEL", "MONITOR", "fleet", HOST, two.port, 1)
        await until(lambda: two.do("EXISTS", "{sse_fast}:log"))
        await until(lambda: engine.trouble is None)
        there = await published(engine, "y")
        assert has(two, there[0])
        await reading.reach(there[0])
        watching[0].kill()
        tended = engine.looked
        await until(lambda: engine.looked is not tended)
        assert (await published(engine, "z"))[0].epoch == there[0].epoch, "without Sentinels it stays where it is"
        assert engine.trouble is None


async def test_a_service_that_the_sentinels_do_not_know_and_a_server_that_is_no_sentinel(made: Servers) -> None:
    redis = made.redis()
    (watching,) = await asyncio.to_thread(made.sentinels, redis, 0, 1)
    for url, said in (
        (f"redis+sentinel://{watching.address}/other", "knows no service 'other'"),
        (f"redis+sentinel://{redis.address}/fleet", "is no Sentinel"),
    ):
        async with engine_at(url) as engine:
            with pytest.raises(EngineRefused, match=said):
                await engine.open()
    async with engine_at("redis+sentinel://127.0.0.1:1/fleet") as engine:
        with pytest.raises(EngineUnavailable, match="no Sentinel") as error:
            await engine.open()
        assert error.value.reason == EngineTrouble.UNREACHABLE


def in_order(server: Redis) -> bool:
    said = server.do("CLUSTER", "INFO")
    assert isinstance(said, bytes)
    return b"cluster_state:ok" in said and b"cluster_slots_ok:16384" in said


async def test_a_cluster_has_the_log_in_one_slot_wherever_that_is(made: Servers) -> None:
    settings = ("cluster-enabled yes", "cluster-node-timeout 1000", "cluster-require-full-coverage no")
    one, two = made.redis(*settings), made.redis(*settings)
    one.do("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    two.do("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    one.do("CLUSTER", "MEET", HOST, two.port)
    for each in (one, two):
        await until(lambda each=each: in_order(each))  # type: ignore[misc]
    for seeds in (f"{one.address},{two.address}", f"127.0.0.1:1,{two.address}"):
        for prefix in ("one", "another", "more", "x{tag}y"):
            async with engine_at(f"redis+cluster://{seeds}", prefix) as engine, following(engine) as reading:
                id = (await engine.publish([event("x")], "key")).ids[0]
                await reading.reach(id)
                await engine.page(EventId(id.epoch, 0))
    assert one.do("DBSIZE")
    assert two.do("DBSIZE")
    with Publisher(f"redis+cluster://{one.address}", prefix="one") as publisher:
        first, second = (publisher.publish("c", "x") for _ in range(2))
        assert second.position == first.position + 1
    other = two if one.ask("EXISTS", "{one}:log") == 1 else one
    async with engine_at(other.url, "one") as engine:
        with pytest.raises(EngineRefused, match=r"redis\+cluster://"):
            await engine.open()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    served = authority.issue_cert("127.0.0.1", "localhost")
    served.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    asked = authority.issue_cert("edge@example.org")
    asked.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    return tmp_path


async def test_tls_verifies_whom_it_speaks_to_and_says_who_speaks(
    made: Servers, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = made.redis()
    port = redis.port
    redis.kill()
    server = certificates / "server.pem"
    files = f"tls-cert-file {server}\ntls-key-file {server}\ntls-ca-cert-file {certificates / 'ca.pem'}"
    tls = made.redis(start=False)
    tls.settings += [f"tls-port {port}", files, "requirepass secret"]
    tls.password = "secret"
    tls.start()
    at = f"rediss://:secret@127.0.0.1:{port}"
    mine = f"ssl_ca_certs={certificates / 'ca.pem'}&ssl_certfile={certificates / 'client.pem'}"
    with monkeypatch.context() as patch:
        create = Mock(wraps=ssl.create_default_context)
        patch.setattr(ssl, "create_default_context", create)
        async with engine_at(f"{at}?{mine}") as engine, following(engine) as reading:
            await reading.reach((await engine.publish([event("x")])).ids[0])
            await engine.page(EventId("1", 0))
        assert create.call_count == 1, "three connections share it: the system's certificates are not read for each"
    with Publisher(f"{at}?{mine}") as publisher:
        ids = [publisher.publish("c", "x") for _ in range(2)]
        before = tls.info("stats")["total_connections_received"]
        ids += [publisher.publish("c", "x") for _ in range(20)]
        assert [id.position for id in ids] == list(range(2, 24))
        assert int(tls.info("stats")["total_connections_received"]) == int(before) + 1, "the one that asks"
    for options in ("", f"?ssl_ca_certs={certificates / 'ca.pem'}"):  # trusts nobody here; has no certificate
        async with engine_at(at + options) as engine:
            with pytest.raises(EngineUnavailable) as error:
                await engine.open()
            assert error.value.reason == EngineTrouble.UNREACHABLE
            assert "secret" not in str(error.value)
    async with engine_at(f"{at}?ssl_ca_certs={certificates / 'nothing.pem'}") as engine:
        with pytest.raises(EngineUnavailable):
            await engine.open()


async def test_a_unix_socket_is_a_way_too(made: Servers) -> None:
    redis = made.redis("unixsocket redis.sock")
    async with engine_at(f"unix://{redis.directory}/redis.sock") as engine:
        assert (await engine.publish([event("x")])).ids[0].position == 1


def test_the_sentinel_that_knows_of_the_latest_failover_is_believed() -> None:
    address = Address.parse("redis+sentinel://one,two,three,four/fleet")
    away = EngineUnavailable("away", EngineTrouble.UNREACHABLE)
    assert latest(address, [(1, ("old", 1)), away, (3, ("new", 3)), (2, ("between", 2))]) == ("new", 3)


def test_urls_are_read_as_they_are_meant() -> None:
    whole = Address.parse("rediss+sentinel://edge:p%40ss@[::1]:7,two/fleet/3?ssl_cert_reqs=none&sentinel_password=s")
    assert whole.hosts == (("::1", 7), ("two", 26379))
    assert (whole.service, whole.db, whole.username, whole.password) == ("fleet", 3, "edge", "p@ss")
    engine: Any = async_connection(whole.given(whole.hosts[1]))
    assert (engine.host, engine.port, engine.db, engine.username, engine.password) == ("two", 26379, 3, "edge", "p@ss")
    assert isinstance(engine, SSLConnection)
    assert engine.ssl_context.get().verify_mode == ssl.CERT_NONE
    sentinel: Any = async_connection(whole.given(whole.hosts[0], sentinel=True))
    assert (sentinel.host, sentinel.db, sentinel.username, sentinel.password) == ("::1", 0, None, "s")
    assert str(whole) == "rediss+sentinel://[::1]:7,two:26379/fleet"
    assert "p@ss" not in repr(whole)
    assert Address.parse("redis://h").hosts == (("h", 6379),)
    assert not isinstance(async_connection(Address.parse("redis://h").given(("h", 6379))), SSLConnection)
    assert Address.parse("redis://:p#ss@h").password == "p#ss"
    socket = Address.parse("unix://edge:pass@/run/redis%20.sock?db=2")
    assert (socket.path, socket.db, socket.username, socket.password) == ("/run/redis .sock", 2, "edge", "pass")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "begins with 'http'"),
        ("redis:h", "redis://"),
        ("redis://", "a host ''"),
        ("redis://h:x", "a host 'h:x'"),
        ("redis://h:70000", "a host"),
        ("redis://h/one", "number of a database"),
        ("redis://h/1/2", "number of a database"),
        ("redis://h?sll=1", "an option 'sll'"),
        ("rediss://h?ssl_cert_reqs=never", "'required' or 'none', not 'never'"),
        ("redis+sentinel://h", "no service"),
        ("redis+cluster://h/2", "database 0 only"),
    ],
)
def test_a_url_that_means_nothing_is_refused_without_being_shown(url: str, said: str) -> None:
    secret = url.replace("://", "://user:secret@")
    with pytest.raises(ValueError, match=said) as error:
        Engine.from_url(secret)
    assert "secret" not in str(error.value)
