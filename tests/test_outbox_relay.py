"""The relay of an outbox: what is committed is published in order and once, whatever dies meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from conftest import EdgeProcess, Edges
from conftest import until as wait_until
from edge_client import EdgeClient
from postgres import Postgres
from support import until

from sse_fast import EventParser, Hub, stream
from sse_fast.client.failures import Refused, Unavailable, failure_of
from sse_fast.outbox import OutboxRelay, add
from sse_fast.outbox.edge import EdgeTarget
from sse_fast.outbox.hub import HubTarget
from sse_fast.outbox.mark import MOST, Mark
from sse_fast.outbox.queue import BATCH_BYTES, NoOutbox, Queue, Row, conninfo_of
from sse_fast.outbox.relay import Relay
from sse_fast.outbox.suspects import ATTEMPTS
from sse_fast.outbox.target import NoMarks
from sse_fast.transports.life import Transport


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.outbox()


@pytest.fixture
def writer(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Each of its events is a transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def left(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        ((events, queued),) = connection.execute(
            "SELECT (SELECT count(*) FROM sse_fast_outbox), (SELECT count(*) FROM sse_fast_outbox_queue)"
        ).fetchall()
    assert events == queued
    return int(events)


class Heard:
    """What a hub has published, by channel."""

    def __init__(self, hub: Hub, *channels: str) -> None:
        self.data: list[str] = []
        self._parser = EventParser()
        self._subscription = hub.subscribe(channels, self._take, lambda *_: None, history=1000)
        self._subscription.start()

    async def _take(self, message: Any) -> None:
        self.data += [event.data for event in self._parser.feed(message["body"]) if not event.event.startswith("$")]

    async def all(self, *data: str) -> None:
        await until(lambda: len(self.data) >= len(data))
        assert self.data == list(data)


class EdgeHere(NamedTuple):
    """An edge in this process, with its own sockets."""

    url: str


@asynccontextmanager
async def edge_here(**settings: Any) -> AsyncIterator[EdgeHere]:
    async with EdgeClient.opened(Transport.NATIVE, **settings) as client:
        assert client.edge.front is not None
        yield EdgeHere(f"http://127.0.0.1:{client.edge.front.port}")


async def kept(edge: EdgeProcess | EdgeHere, channel: str, last: str) -> list[str]:
    return await asyncio.to_thread(read_kept, edge, channel, last)


def read_kept(edge: EdgeProcess | EdgeHere, channel: str, last: str) -> list[str]:
    """The data of all events that the edge has of a channel, up to that one."""
    found: list[str] = []
    parser = EventParser()
    with httpx.stream("GET", f"{edge.url}/sse/{channel}?history=10000", timeout=30) as response:
        for piece in response.iter_bytes():
            for event in parser.feed(piece):
                if event.event == "message":
                    found.append(event.data)
                    if event.data == last:
                        return found
    raise AssertionError(found)


def to(edge: EdgeProcess | EdgeHere, key: str = "", kind: type[EdgeTarget] = EdgeTarget) -> Callable[[str], EdgeTarget]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return lambda marks: kind(httpx.Client(base_url=edge.url, timeout=30, headers=headers), marks)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        await relay.close()
        await task


# ---- in an app -------------------------------------------------------------------------------------------------------


async def test_what_is_committed_is_published_by_the_hub_of_an_app_and_then_gone(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    add(writer, "news", "before")
    async with Hub() as hub, OutboxRelay(hub, dsn) as relay:
        heard = Heard(hub, "news", "others")
        await heard.all("before")
        with writer.transaction():
            add(writer, "news", "1")
            add(writer, ["others", "news"], "2")
            with writer.transaction(force_rollback=True):
                add(writer, "news", "of a savepoint that is rolled back")
            await asyncio.sleep(0)
            assert heard.data == ["before"]
        await heard.all("before", "1", "2")
        await until(lambda: left(dsn) == 0)
    assert (relay.stats.published, relay.stats.repeated, relay.stats.parked) == (3, 0, 0)


async def test_an_event_wakes_a_relay_that_looks_by_itself_in_an_hour_only(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with Hub() as hub, OutboxRelay(hub, dsn, poll=3600):
        heard = Heard(hub, "news")
        for number in range(1, 20):
            add(writer, "news", number)
            if number % 3:
                await heard.all(*map(str, range(1, number + 1)))


async def test_an_event_that_nobody_was_notified_of_is_found_by_looking(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    writer.execute("CREATE FUNCTION pg_notify(text, text, int DEFAULT 0) RETURNS void LANGUAGE sql AS ''")
    source = writer.execute("SELECT pg_get_functiondef('sse_fast_outbox_commit'::regproc)").fetchone()[0]
    writer.execute(source.replace("pg_notify('sse_fast_outbox', '')", "1"))
    async with Hub() as hub, OutboxRelay(hub, dsn, poll=0.05) as relay:
        await until(lambda: relay.stats.leading)
        heard = Heard(hub, "news")
        add(writer, "news", "1")
        await heard.all("1")


async def test_who_commits_while_the_relay_goes_to_sleep_is_not_slept_through(
    dsn: str, writer: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has notified nobody, as its commit began before the relay slept."""
    read, in_vain = Queue.read, 0

    async def counted(queue: Queue, most: int = 1) -> list[Row]:
        nonlocal in_vain
        rows = await read(queue, most)
        in_vain += not rows
        return rows

    monkeypatch.setattr(Queue, "read", counted)
    async with await psycopg.AsyncConnection.connect(dsn) as committing, Hub() as hub:
        await add(committing, "news", "1")
        await committing.execute("SET CONSTRAINTS ALL IMMEDIATE")  # its commit is under way
        async with OutboxRelay(hub, dsn, poll=3600):
            heard = Heard(hub, "news")
            await until(lambda: in_vain >= 2)
            await committing.commit()
            await heard.all("1")


async def test_one_relay_publishes_and_another_takes_over_when_it_is_gone(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with Hub() as hub, OutboxRelay(hub, dsn) as first:
        await until(lambda: first.stats.leading)
        async with OutboxRelay(hub, dsn, poll=0.1) as second:
            heard = Heard(hub, "news")
            add(writer, "news", "1")
            await heard.all("1")
            await until(lambda: first.stats.published == 1)
            assert second.stats.published == 0
            await first.__aexit__()
            add(writer, "news", "2")
            await heard.all("1", "2")
            assert second.stats.leading


async def test_what_can_never_be_published_is_kept_aside_with_its_error_and_the_others_go_on(
    dsn: str, writer: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with writer.transaction():
        for number in range(100):
            add(writer, "news", number)
            if number in (7, 8, 50):
                add(writer, "news", "much too large " * 10)
        writer.execute("INSERT INTO sse_fast_outbox (channel, data) VALUES ('no channel', 'x')")
        add(writer, "news", 100)
    async with Hub(max_event_size=100) as hub, OutboxRelay(hub, dsn) as relay:
        heard = Heard(hub, "news")
        await heard.all(*map(str, range(101)))
        await until(lambda: relay.stats.published == 101)
    assert relay.stats.parked == 4
    aside = writer.execute("SELECT channel, error FROM sse_fast_outbox ORDER BY id").fetchall()
    assert [channel for channel, _ in aside] == ["news", "news", "news", "no channel"]
    assert "100" in aside[0][1]
    assert "white space" in aside[3][1]
    assert sum("is kept aside" in line for line in caplog.messages) == 4
    # And once it can be, it is; once only.
    writer.execute("UPDATE sse_fast_outbox SET error = NULL WHERE channel = 'news'")
    async with Hub() as hub, OutboxRelay(hub, dsn):
        heard = Heard(hub, "news")
        await heard.all(*3 * ["much too large " * 10])
    assert writer.execute("SELECT count(*) FROM sse_fast_outbox").fetchone() == (1,)


@dataclass
class Price:
    cents: int


Prices = stream("price:{article}", Price, name="Prices")


async def test_what_does_not_fit_the_schema_of_a_hub_is_kept_aside_with_the_field(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    add(writer, Prices(article="lamp"), Price(1))
    writer.execute(
        """INSERT INTO sse_fast_outbox (channel, event, data) VALUES ('price:lamp', 'Price', '{"cents":"two"}')"""
    )
    add(writer, Prices(article="lamp"), Price(3))
    async with Hub(schema=[Prices]) as hub, OutboxRelay(hub, dsn):
        await Heard(hub, "price:lamp").all('{"cents":1}', '{"cents":3}')
    ((error,),) = writer.execute("SELECT error FROM sse_fast_outbox").fetchall()
    assert "cents" in error


async def test_an_event_that_was_written_twice_under_one_key_is_published_once(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with Hub() as hub, OutboxRelay(hub, dsn) as relay:
        heard = Heard(hub, "news")
        for data in ("1", "1", "2"):
            add(writer, "news", data, key=f"job-{data}")
        add(writer, "news", "another under that key", key="job-1")
        add(writer, "news", "3")
        await heard.all("1", "2", "3")
    assert relay.stats.parked == 1
    ((error,),) = writer.execute("SELECT error FROM sse_fast_outbox").fetchall()
    assert "used before, for something else" in error or "in this batch twice" in error


async def test_a_database_without_an_outbox_or_that_is_away_does_not_end_an_app(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    for dsn, words in ((postgres.database(outbox=False), "there is no outbox"), (postgres.dsn("nowhere"), "nowhere")):
        async with Hub() as hub, OutboxRelay(hub, dsn):
            await until(lambda words=words: words in caplog.text)


async def test_what_nobody_has_thought_of_is_told_in_an_app_and_the_relay_goes_on(
    dsn: str, writer: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = Queue.read

    async def fails_once(queue: Queue, most: int = 1) -> list[Row]:
        monkeypatch.setattr(Queue, "read", read)
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr(Queue, "read", fails_once)
    add(writer, "news", "1")
    async with Hub() as hub, OutboxRelay(hub, dsn):
        await Heard(hub, "news").all("1")
    assert "nobody has thought of this" in caplog.text


class Poisoned(Hub):
    """It fails at some of the events, as nobody has thought of; and for a while at all of them."""

    failures = 3

    async def append_once(self, events: Any, keys: Any = None) -> Any:
        if self.failures or "poison" in str(events):
            self.failures = max(0, self.failures - 1)
            raise KeyError("nobody has thought of this")
        return await super().append_once(events, keys)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are as short as they can be."""
    monkeypatch.setattr("sse_fast.client.attempts.LONGEST_PAUSE", 0.001)


async def test_an_event_at_which_the_hub_fails_is_kept_aside_and_the_others_go_on(
    dsn: str, writer: psycopg.Connection[Any], soon: None
) -> None:
    with writer.transaction():
        for number in range(40):
            add(writer, "news", "poison" if number in (0, 20, 39) else number)
    expected = [str(number) for number in range(40) if number not in (0, 20, 39)]
    async with Poisoned() as hub, OutboxRelay(hub, dsn) as relay:
        await Heard(hub, "news").all(*expected)
        await until(lambda: relay.stats.parked == 3)
        assert relay.stats.published == len(expected)
    errors = writer.execute("SELECT data, error FROM sse_fast_outbox ORDER BY id").fetchall()
    assert errors == 3 * [("poison", "KeyError: 'nobody has thought of this'")]


async def test_between_failures_pauses_get_longer_whatever_is_connected_meanwhile(
    dsn: str, writer: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reads: list[float] = []

    async def fails(queue: Queue, most: int = 1) -> list[Row]:
        reads.append(relay._relay._attempts.in_vain)
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr(Queue, "read", fails)
    monkeypatch.setattr("sse_fast.client.attempts.SHORTEST_PAUSE", 0.001)
    async with Hub() as hub, OutboxRelay(hub, dsn) as relay:
        await until(lambda: len(reads) >= 5)
    assert reads[:5] == [0, 1, 2, 3, 4]


async def test_when_a_worker_dies_another_one_publishes_what_it_left(
    postgres: Postgres, edge: Edges, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = postgres.outbox()
    monkeypatch.setenv("OUTBOX", dsn)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    server = edge("--workers", "2", "--app", "outbox_app:app", "--hung-worker-timeout", "30")

    def leader() -> int:
        with httpx.Client(base_url=server.url.removesuffix("/edge"), timeout=30) as client:
            said = client.get("/leads").json()
        return int(said["pid"]) if said["leads"] else 0

    with psycopg.connect(dsn, autocommit=True) as writer:
        for number in range(60):
            add(writer, "news", number)
            if number == 20:
                os.kill(await asyncio.to_thread(wait_until, leader, "a relay that publishes"), signal.SIGKILL)
                server.noise_expected = True
        await asyncio.to_thread(server.wait_ready)  # if nobody else served yet
        assert await kept(server, "news", "59") == [str(number) for number in range(60)]


# ---- to an edge ------------------------------------------------------------------------------------------------------


class Dies(Exception):
    """The process ends here."""


class DyingTarget(EdgeTarget):
    async def publish(self, rows: Sequence[Row], mark: Mark | None) -> int:
        await super().publish(rows, mark)
        raise Dies


async def left_by_one_that_died(dsn: str, writer: psycopg.Connection[Any], server: EdgeProcess | EdgeHere) -> None:
    """Ten events that are published, and still in the queue; and one more."""
    for number in range(10):
        add(writer, "news", number)
    dying = Relay(dsn, to(server, kind=DyingTarget))
    with pytest.raises(Dies):
        await dying.run()
    assert left(dsn) == 10
    add(writer, "news", 10)


async def comes_once(dsn: str, server: EdgeProcess | EdgeHere) -> None:
    relay = Relay(dsn, to(server))
    await relay.run(until_empty=True)
    assert await kept(server, "news", "10") == [str(number) for number in range(11)]
    assert relay.stats.published == 11
    assert left(dsn) == 0


async def test_a_batch_whose_relay_died_before_it_was_deleted_comes_once(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with edge_here() as server:
        await left_by_one_that_died(dsn, writer, server)
        await comes_once(dsn, server)


async def test_it_comes_once_where_the_edge_was_killed_too_and_has_forgotten_the_keys(
    dsn: str, writer: psycopg.Connection[Any], edge: Edges, tmp_path: Any
) -> None:
    server = edge("--log-file", str(tmp_path / "log"))
    await left_by_one_that_died(dsn, writer, server)
    server.kill()
    server.start()
    await comes_once(dsn, server)


class Answered(EdgeTarget):
    """By a server that answers events with `poison` in them, or all of them, with this status."""

    status, everything, answers = 500, False, 0

    def _posted(self, lines: bytes) -> int:
        if self.everything or b"poison" in lines:
            self.answers += 1
            raise self._meant(failure_of(httpx.Response(self.status)), self.status)
        return super()._posted(lines)


class Unmarked(Answered):
    async def newest_mark(self) -> Mark | None:
        raise NoMarks("this credential does not grant it")


@pytest.mark.parametrize("kind", [Answered, Unmarked])
async def test_an_event_at_which_an_edge_fails_is_kept_aside_and_the_others_go_on(
    dsn: str, writer: psycopg.Connection[Any], soon: None, kind: type[EdgeTarget]
) -> None:
    async with edge_here() as server:
        for number in range(10):
            add(writer, "news", "poison" if number in (3, 9) else number)
        relay = Relay(dsn, to(server, kind=kind))
        await relay.run(until_empty=True)
        assert await kept(server, "news", "8") == [str(number) for number in range(9) if number != 3]
    assert relay.stats.parked == 2
    errors = writer.execute("SELECT data, error FROM sse_fast_outbox").fetchall()
    assert errors == 2 * [("poison", "500 Internal Server Error")]


@pytest.mark.parametrize(
    ("status", "everything", "marks"),
    [(503, False, True), (502, False, True), (504, False, True), (500, True, True), (500, True, False)],
)
async def test_for_a_server_that_is_away_or_fails_at_everything_nothing_is_kept_aside(
    dsn: str, writer: psycopg.Connection[Any], soon: None, status: int, everything: bool, marks: bool
) -> None:
    class Away(Answered if marks else Unmarked):  # type: ignore[misc]
        pass

    Away.status, Away.everything = status, everything
    add(writer, "news", "poison")
    async with edge_here() as server:
        targets: list[EdgeTarget] = []

        def target(marks: str) -> EdgeTarget:
            targets.append(to(server, kind=Away)(marks))
            return targets[0]

        async with running(Relay(dsn, target)) as relay:
            await until(lambda: bool(targets) and targets[0].answers > 3 * ATTEMPTS)
            assert relay.stats.parked == 0
    assert left(dsn) == 1


class Unanswered(EdgeTarget):
    """Every other request to publish is answered by nobody: it came to nothing, or has been carried out."""

    requests = 0

    async def publish(self, rows: Sequence[Row], mark: Mark | None) -> int:
        self.requests += 1
        if self.requests % 4 != 1:
            repeated = await super().publish(rows, mark)
        if self.requests % 2:
            raise Unavailable("nobody answered")
        return repeated


async def test_what_nobody_answered_is_tried_again_and_comes_once_in_its_order(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with edge_here() as server:
        target = to(server, kind=Unanswered)
        async with running(Relay(dsn, target)) as relay:
            for number in range(12):
                add(writer, "news", number)
                if number % 3 == 2:
                    await until(lambda number=number: relay.stats.published == number + 1)
            assert await kept(server, "news", "11") == [str(number) for number in range(12)]
        assert relay.stats.failures
        assert relay.stats.settled


async def test_the_database_is_killed_and_started_again_and_the_relay_goes_on(postgres: Postgres) -> None:
    dsn = postgres.outbox()
    async with edge_here() as server, running(Relay(dsn, to(server))) as relay:
        for number in range(3):
            with psycopg.connect(dsn, autocommit=True) as writer:
                add(writer, "news", number)
                await until(lambda number=number: relay.stats.published == number + 1)
                writer.close()
            postgres.kill()
            await asyncio.to_thread(postgres.start)
        with psycopg.connect(dsn, autocommit=True) as writer:
            add(writer, "news", 3)
        assert await kept(server, "news", "3") == ["0", "1", "2", "3"]


async def test_an_edge_that_refuses_an_event_has_it_kept_aside_with_its_words(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with edge_here(max_event_size=500) as server:
        add(writer, "news", "0")
        writer.execute("INSERT INTO sse_fast_outbox (channel, data) VALUES ('a b', 'x')")
        add(writer, "news", 1000 * "x")
        writer.execute("INSERT INTO sse_fast_outbox (channel, data) SELECT 'news', repeat('x', 17 * 1024 * 1024)")
        add(writer, "news", 10_000 * "x")
        add(writer, "news", "1")
        relay = Relay(dsn, to(server))
        await relay.run(until_empty=True)
        assert await kept(server, "news", "1") == ["0", "1"]
        errors = [error for (error,) in writer.execute("SELECT error FROM sse_fast_outbox ORDER BY id").fetchall()]
        assert "'a b' has ' ' at 1" in errors[0]
        assert "(413" in errors[1]
        assert errors[2] == "its data is larger than the 16 MiB that a relay reads"
        assert "(413" in errors[3]
        assert [error for error in errors if "line " in error] == [], "of a request that nobody sees"


async def test_a_credential_that_is_wrong_ends_the_relay_and_nothing_is_kept_aside_for_it(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with edge_here(publish_key="a-key-of-32-characters-0123456789") as server:
        add(writer, "news", "0")
        for key, status in (("", 401), ("another-key-of-characters-0123456789", 401)):
            with pytest.raises(Refused) as refused:
                await Relay(dsn, to(server, key)).run(until_empty=True)
            assert refused.value.status == status
        assert left(dsn) == 1
        await Relay(dsn, to(server, "a-key-of-32-characters-0123456789")).run(until_empty=True)
        assert await kept(server, "news", "0") == ["0"]


async def test_where_a_key_has_no_room_for_the_marks_events_are_published_all_the_same(
    dsn: str, writer: psycopg.Connection[Any], tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[shop]\nkey = "a-key-of-32-characters-0123456789"\npublish = ["shop:*"]\n')
    keys.chmod(0o600)
    async with edge_here(publish_keys=keys) as server:
        add(writer, "shop:news", "0")
        relay = Relay(dsn, to(server, "a-key-of-32-characters-0123456789"))
        await relay.run(until_empty=True)
        assert await kept(server, "shop:news", "0") == ["0"]
        assert "may come twice" in caplog.text


async def test_a_server_that_remembers_no_keys_is_told_and_nothing_is_kept_aside(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    async with edge_here(idempotency_window=0) as server:
        add(writer, "news", "0")
        with pytest.raises(Refused, match="no idempotency keys are remembered here"):
            await Relay(dsn, to(server)).run(until_empty=True)
        assert left(dsn) == 1


# ---- its parts -------------------------------------------------------------------------------------------------------


async def test_no_more_is_read_at_once_than_its_bound_whatever_waits(dsn: str, writer: psycopg.Connection[Any]) -> None:
    with writer.transaction():
        for _ in range(5):
            add(writer, "news", (BATCH_BYTES // 2 - 1) * "x")
        add(writer, "news", 2 * BATCH_BYTES * "x")
    queue = await Queue.connect(conninfo_of(dsn))
    sizes = []
    while rows := await queue.read():
        sizes.append([row.size for row in rows])
        await queue.done(rows)
    assert [len(each) for each in sizes] == [2, 2, 1, 1]
    await queue.close()


async def test_a_relay_may_no_more_than_read_mark_and_delete(dsn: str, writer: psycopg.Connection[Any]) -> None:
    writer.execute("DROP ROLE IF EXISTS relay")
    writer.execute("CREATE ROLE relay LOGIN")
    restricted = conninfo_of(dsn.replace("postgres@", "relay@"))
    with pytest.raises(NoOutbox, match=r"permission denied .* needs SELECT, UPDATE and DELETE"):
        async with Hub() as hub:
            await Relay(restricted, lambda marks: HubTarget(hub, marks)).run(until_empty=True)
    writer.execute("GRANT SELECT, UPDATE, DELETE ON sse_fast_outbox, sse_fast_outbox_queue TO relay")
    add(writer, "news", "1")
    writer.execute("INSERT INTO sse_fast_outbox (channel, data) VALUES ('no channel', 'x')")
    add(writer, "news", "2")
    async with Hub() as hub, OutboxRelay(hub, restricted):
        await Heard(hub, "news").all("1", "2")
    assert writer.execute("SELECT channel FROM sse_fast_outbox").fetchall() == [("no channel",)]
    writer.execute("DROP OWNED BY relay")
    writer.execute("DROP ROLE relay")


async def test_the_words_of_any_server_are_kept_as_far_as_they_can_be(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    queue = await Queue.connect(conninfo_of(dsn))
    add(writer, "news", "1")
    (row,) = await queue.read()
    await queue.park(row, "zero \0 and " + 10_000 * "more ")
    await queue.close()
    ((error,),) = writer.execute("SELECT error FROM sse_fast_outbox").fetchall()
    assert error.startswith("zero  and more more")
    assert len(error) == 2000


async def test_an_event_that_somebody_deleted_holds_up_nothing(dsn: str, writer: psycopg.Connection[Any]) -> None:
    for number in range(5):
        add(writer, "news", number)
    writer.execute("DELETE FROM sse_fast_outbox WHERE data::int < 4")
    queue = await Queue.connect(conninfo_of(dsn))
    assert [row.data for row in await queue.read(2)] == ["4"]
    await queue.close()
    assert left(dsn) == 1


async def test_a_mark_of_a_database_that_was_put_back_is_of_other_events(
    dsn: str, writer: psycopg.Connection[Any]
) -> None:
    queue = await Queue.connect(conninfo_of(dsn))
    add(writer, "news", "published, and then the database was put back")
    mark = Mark.of(await queue.read())
    writer.execute("TRUNCATE sse_fast_outbox, sse_fast_outbox_queue RESTART IDENTITY")
    add(writer, "news", "another, with the same number")
    found = await queue.find(mark.positions)
    assert [place.position for place in found] == list(mark.positions)
    assert Mark.of(found) != mark
    await queue.close()


def test_what_is_no_mark_is_none() -> None:
    mark = Mark((1, 2, 3, 7, 5), "0123")
    assert mark.data == '{"positions":[[1,3],[7,7],[5,5]],"digest":"0123"}'
    assert Mark.read(mark.data) == mark
    for text in ("", "null", "[]", "{}", '{"positions":1,"digest":"x"}', '{"positions":[[2,1]],"digest":"x"}'):
        assert Mark.read(text) is None
    assert Mark.read(f'{{"positions":[[1,{MOST + 1}]],"digest":"x"}}') is None


async def test_a_database_without_an_outbox_says_what_makes_one(postgres: Postgres) -> None:
    with pytest.raises(NoOutbox, match="--create"):
        await Queue.connect(conninfo_of(postgres.database(outbox=False)))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("postgresql://me@db/shop", "db"),
        ("postgres://me@db/shop", "db"),
        ("postgresql+asyncpg://me@db/shop", "db"),
        ("host=db dbname=shop", "db"),
    ],
)
def test_a_database_is_named_as_sqlalchemy_or_libpq_name_it(text: str, host: str) -> None:
    assert psycopg.conninfo.conninfo_to_dict(conninfo_of(text))["host"] == host


def test_what_is_no_name_of_a_database_is_said_without_its_password() -> None:
    with pytest.raises(ValueError, match="no address of a PostgreSQL database") as refused:
        conninfo_of("mysql://me:secret@db/shop")
    assert "secret" not in str(refused.value)
