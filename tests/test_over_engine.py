"""Hubs over one engine: what any of them publishes reaches the streams of all, in one order and under the engine's ids;
and what its outage is to publishers, to streams and to whoever looks whether a node is ready.

The engine is one in memory, whose faults are at hand.
"""

import asyncio
import mmap
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from engines import MemoryEngine, Server
from support import until
from taking import Taking
from test_recall_in_parts import node, read

import sse_fast.hub.ahead as ahead
import sse_fast.hub.over_engine as over_engine
from sse_fast import Hub
from sse_fast._native.log.outside import mark, take_turn
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.wire.event_parser import EventParser
from sse_fast.cluster.entries import Events, Mark
from sse_fast.edge import app
from sse_fast.edge.app import Edge
from sse_fast.errors import Behind, EngineUnavailable, HubClosed, LogBusy
from sse_fast.event import EventId
from sse_fast.hub.follower import Follower, newest_of
from sse_fast.hub.recall import Recalled
from sse_fast.settings import Settings
from sse_fast.transports.hold import MARK
from sse_fast.transports.refusals import REASONS


@pytest.fixture
def server() -> Iterator[Server]:
    return Server()


@asynccontextmanager
async def hub_over(server: Server, **options: object) -> AsyncIterator[Hub]:
    hub = Hub(engine=lambda: MemoryEngine(server), **options)  # type: ignore[arg-type]
    async with hub:
        yield hub


class Stream:
    """What a stream was sent, by its events."""

    def __init__(
        self, hub: Hub, channel: str, last_event_id: str | None = None, *, recalled: Recalled | None = None
    ) -> None:
        self._sink, self._parser, self.events = Taking(), EventParser(), []
        self._subscription = hub.attach([channel], self._sink, last_event_id=last_event_id, recalled=recalled)
        self._sink.stream += self._subscription.opening()
        self._subscription.start()

    def read(self) -> list[tuple[str, str, str]]:
        """(event, data, id) of each."""
        stream, self._sink.stream = self._sink.stream, b""
        self.events += [(event.event, event.data, event.id) for event in self._parser.feed(stream)]
        return self.events

    @property
    def data(self) -> list[str]:
        return [data for event, data, _ in self.read() if not event.startswith("$")]

    @property
    def told(self) -> list[str]:
        return [event for event, _, _ in self.read() if event.startswith("$")]

    @property
    def ids(self) -> list[str]:
        return [id for event, _, id in self.read() if not event.startswith("$")]


async def test_what_any_hub_publishes_reaches_the_streams_of_all_in_one_order(server: Server) -> None:
    async with hub_over(server) as one, hub_over(server) as other:
        streams = [Stream(hub, "news") for hub in (one, other)]
        ids = [str(await hub.publish("news", f"{number}")) for number, hub in enumerate([one, other, other, one] * 20)]
        for stream in streams:
            await until(lambda stream=stream: len(stream.data) == 80)
            assert stream.data == [f"{number}" for number in range(80)]
            assert stream.ids == ids
            assert stream.told == ["$connected"]


async def test_who_was_cut_at_one_hub_goes_on_at_another_exactly(server: Server) -> None:
    async with hub_over(server) as one, hub_over(server) as other:
        first = Stream(one, "news")
        for number in range(10):
            await one.publish("news", f"{number}")
        await until(lambda: len(first.data) == 10)
        await until(lambda: newest_of(other.log) == server.last)
        second = Stream(other, "news", first.ids[3])
        await other.publish("news", "10")
        await until(lambda: "10" in second.data)
        assert second.data == [f"{number}" for number in range(4, 11)]
        assert second.told == ["$connected"]


async def test_nothing_is_in_a_log_that_the_engine_did_not_take(server: Server) -> None:
    async with hub_over(server) as hub:
        stream = Stream(hub, "news")
        await hub.publish("news", "before")
        server.away = True
        with pytest.raises(EngineUnavailable):
            await hub.publish("news", "lost")
        server.away = False
        server.wake()
        await hub.publish("news", "after")
        await until(lambda: "after" in stream.data)
        assert stream.data == ["before", "after"]
        assert hub.published == 2


async def test_a_hub_that_starts_has_all_that_was_published_before_it_is_ready(server: Server) -> None:
    async with hub_over(server) as one:
        ids = [await one.publish("news", f"{number}") for number in range(500)]
        async with hub_over(server) as late:
            assert late.ready
            stream = Stream(late, "news", str(ids[0]))
            await until(lambda: len(stream.data) == 499)
            assert stream.data == [f"{number}" for number in range(1, 500)]


async def test_a_hub_that_cannot_read_its_log_is_not_ready_and_streams_come_back_later(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sse_fast.hub.hub.STARTING", 0.05)
    monkeypatch.setattr(over_engine, "PATIENCE", 0.01)
    server.away = True
    edge = edge_over(server)
    async with client_of(edge) as client:
        refused = await client.get("/sse/news", headers={"accept": "application/json"})
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "starting")
        assert "the server is away" in ready.json()["reason"]
        server.away = False
        await until(lambda: edge.hub.ready)
        assert await until_not(client, 503) == {"status": "ready"}
    await edge.close()


def edge_over(server: Server) -> Edge:
    edge = Edge(Settings())
    edge.hub.__init__(engine=lambda: MemoryEngine(server))  # type: ignore[misc]
    return edge


def client_of(edge: Edge) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=edge, client=("127.0.0.1", 1)), base_url="http://127.0.0.1"
    )


async def test_while_the_engine_is_away_publishing_says_so_and_streams_stay(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_engine, "PATIENCE", 0.01)
    monkeypatch.setattr(over_engine, "ASK", 0.01)
    edge = edge_over(server)
    async with client_of(edge) as client:
        assert (await client.post("/publish/news", content="1")).status_code == 200
        stream = Stream(edge.hub, "news", "earliest")
        await until(lambda: stream.data == ["1"])
        assert await until_not(client, 503) == {"status": "ready"}
        server.away = True
        answer = await client.post("/publish/news", content="2")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "try again" in answer.json()["detail"]
        assert "the server is away" not in answer.text, "that names what only its operator is to know"
        failing = await until_not(client, 200)
        assert failing["status"] == "failing"
        assert "the server is away" in failing["reason"]
        stranger = (await client.get("/readyz", headers={"x-forwarded-for": "192.0.2.1"})).json()
        assert stranger == {"status": "failing", "reason": "the backplane takes no events"}
        assert "the server is away" in (await client.get("/stats")).json()["backplane"]["trouble"]
        assert (await client.get("/livez")).status_code == 200
        server.away = False
        server.wake()
        await until_not(client, 503)
        assert (await client.post("/publish/news", content="3")).status_code == 200
        await until(lambda: stream.data == ["1", "3"])
        assert stream.told == ["$connected"]
    await edge.close()


async def until_not(client: httpx.AsyncClient, status: int) -> dict[str, str]:
    async with asyncio.timeout(30):
        while (answer := await client.get("/readyz")).status_code == status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return answer.json()  # type: ignore[no-any-return]


async def test_a_log_that_does_not_keep_up_is_not_ready(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_engine, "PATIENCE", 0.01)
    monkeypatch.setattr(over_engine, "ASK", 0.01)
    async with hub_over(server) as hub:
        await hub.publish("news", "1")
        await until(lambda: newest_of(hub.log) == server.last)
        assert hub.backplane.what_is_wrong() is None
        server.deaf = True
        await hub.publish("news", "2")
        await until(hub.backplane.what_is_wrong)
        assert "has not come" in str(hub.backplane.what_is_wrong())
        server.deaf = False
        await until(lambda: hub.backplane.what_is_wrong() is None)


async def test_a_key_is_remembered_by_the_engine_for_all_hubs(server: Server) -> None:
    async with hub_over(server) as one, hub_over(server) as other:
        id = await one.publish("news", "once", key="k1")
        assert await other.publish("news", "once", key="k1") == id
        assert len(server.kept) == 2  # the mark, and one event


async def test_what_is_forgotten_at_one_hub_is_at_all(server: Server) -> None:
    async with hub_over(server) as one, hub_over(server) as other:
        await one.publish("news", "old")
        await other.forget("news")
        await one.publish("news", "new")
        await until(lambda: newest_of(other.log) == server.last)
        stream = Stream(other, "news", "earliest")
        await until(lambda: stream.data == ["new"])


async def test_a_hub_begins_again_on_another_engine_where_it_was(server: Server) -> None:
    hub = Hub(engine=lambda: MemoryEngine(server))
    async with hub:
        first = await hub.publish("news", "1")
        await until(lambda: newest_of(hub.log) == server.last)
    server.add(lambda id: Events(id.epoch, [(id.position, b"news", b"data: 2\n\n", 0)]))
    async with hub:
        stream = Stream(hub, "news", str(first))
        await until(lambda: stream.data == ["2"])


async def test_who_has_seen_more_than_this_node_is_waited_for(server: Server) -> None:
    """A client that was cut is at another node before what it saw last."""
    async with hub_over(server) as one, hub_over(server) as other:
        await one.publish("news", "1")
        await until(lambda: newest_of(other.log) == server.last)
        server.deaf = True
        last = str(await one.publish("news", "2"))
        assert other.recalls(("news",), (), last)
        waiting = asyncio.create_task(other.recall(("news",), (), last, lambda name: True))
        await asyncio.sleep(0)
        server.deaf = False
        assert await waiting is None
        assert not other.recalls(("news",), (), last)
        stream = Stream(other, "news", last)
        await other.publish("news", "3")
        await until(lambda: stream.data == ["3"])
        assert stream.told == ["$connected"]


async def test_who_has_seen_more_than_a_node_that_is_behind_is_sent_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_engine, "CATCH_UP", 0.05)
    monkeypatch.setattr(over_engine, "ASK", 0.01)
    edge = edge_over(server)
    async with client_of(edge) as client:
        await client.post("/publish/news", content="1")
        await until_not(client, 503)
        server.deaf = True
        last = (await client.post("/publish/news", content="2")).json()["id"]
        refused = await client.get("/sse/news", headers={"accept": "application/json", "last-event-id": last})
        assert refused.status_code == 503
        assert "behind what you have seen" in refused.json()["detail"]
        server.deaf = False
    await edge.close()


async def test_who_has_seen_a_later_epoch_is_not_told_what_is_before_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This node is cut off with a primary whose past is given up. A client of others comes here."""
    monkeypatch.setattr(over_engine, "CATCH_UP", 0.05)
    async with hub_over(server) as hub:
        await hub.publish("news", "of the old primary")
        await until(lambda: newest_of(hub.log) == server.last)
        seen = f"{int(1000 * time.time())}-24"
        with pytest.raises(HubClosed, match="come back in a moment, or there"):
            await hub.recall(("news",), (), seen, lambda name: True)
        loop, clock = asyncio.get_running_loop(), asyncio.get_running_loop().time
        with pytest.raises(Behind):  # nor at its next try
            await hub.recall(("news",), (), seen, lambda name: True)
        monkeypatch.setattr(loop, "time", lambda: clock() + over_engine.DOUBT)
        assert await hub.recall(("news",), (), seen, lambda name: True) is None  # nothing has come of that
        other = f"{int(1000 * time.time()) + 1000}-1"
        with pytest.raises(Behind):
            await hub.recall(("news",), (), other, lambda name: True)
        monkeypatch.setattr(over_engine, "LATELY", -3600)
        await hub.recall(("news",), (), seen, lambda name: True)  # nobody has heard of it for too long


async def test_who_has_seen_an_epoch_that_never_came_to_this_node_gets_what_is_later_alone(server: Server) -> None:
    async with hub_over(server, max_history=5) as hub:
        before = await hub.publish("news", "before")
        await until(lambda: newest_of(hub.log) == server.last)
        server.deaf = True
        server.begin(before)
        elsewhere = await hub.publish("news", "seen at another node")
        server.lose(2)
        server.deaf = False
        after = await hub.publish("news", "after")
        await until(lambda: newest_of(hub.log) == server.last)
        assert before.epoch < elsewhere.epoch < after.epoch
        stream = Stream(hub, "news", str(elsewhere))
        await until(lambda: stream.data == ["after"])
        assert stream.told == ["$connected", "$gap"]


async def test_an_id_that_nobody_gave_begins_with_a_gap_and_the_newest(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_engine, "CATCH_UP", 0.05)
    async with hub_over(server, max_history=2) as hub:
        for number in range(5):
            last = await hub.publish("news", f"{number}")
        await until(lambda: newest_of(hub.log) == server.last)
        made_up = f"{last.epoch}-{last.position + 1000}"
        assert await hub.recall(("news",), (), made_up, lambda name: True) is None
        stream = Stream(hub, "news", made_up)
        await until(lambda: stream.data == ["3", "4"])
        assert stream.told == ["$connected", "$gap"]


async def test_however_many_wait_for_what_was_seen_elsewhere_the_log_is_looked_at_once_for_all(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_over(server) as one, hub_over(server) as other:
        await one.publish("news", "1")
        await until(lambda: newest_of(other.log) == server.last)
        server.deaf = True
        last = await one.publish("news", "2")
        looks = 0

        def counted(log: Log) -> EventId | None:
            nonlocal looks
            looks += 1
            return newest_of(log)

        assert isinstance(other.backplane, over_engine.OverEngine)
        waiting = [asyncio.create_task(other.backplane.come_to(last)) for _ in range(1000)]
        await asyncio.sleep(0)
        monkeypatch.setattr(over_engine, "newest_of", counted)
        for _ in range(100):
            await asyncio.sleep(0)
        before = looks
        server.deaf = False
        await asyncio.gather(*waiting)
        assert looks - before < 500  # each of a thousand would have looked for itself
        assert other.backplane._ahead.waiting == 0


async def test_how_many_wait_for_what_was_seen_elsewhere_is_bounded(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MOST_WAITING", 2)
    async with hub_over(server) as hub:
        id = await hub.publish("news", "1")
        await until(lambda: newest_of(hub.log) == server.last)
        made_up = f"{id.epoch}-{id.position + 7}"
        waiting = [asyncio.create_task(hub.recall(("news",), (), made_up, lambda name: True)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HubClosed, match="too many wait"):
            await hub.recall(("news",), (), made_up, lambda name: True)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await hub.backplane.come_to(id)  # there is room again


async def test_an_id_that_no_engine_can_have_given_is_not_waited_for(server: Server) -> None:
    async with hub_over(server) as hub:
        id = await hub.publish("news", "1")
        await until(lambda: newest_of(hub.log) == server.last)
        for made_up in ("9999999999999-1", f"{id.epoch}-{id.position + 10**9}"):
            assert hub.recalls(("news",), (), made_up)
            waiting = asyncio.create_task(hub.recall(("news",), (), made_up, lambda name: True))
            await asyncio.sleep(0)
            assert waiting.done()
            assert waiting.result() is None


async def test_a_log_that_another_process_holds_ends_nothing_that_looks_at_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither whether the window is filled, nor a stream that opens meanwhile."""
    monkeypatch.setattr(over_engine, "CATCH_UP", 0.05)
    held = True

    def locked(log: Log) -> EventId | None:
        if held:
            raise LogBusy("the log is locked by process 1, which does not go on; try again later")
        return newest_of(log)

    engine = MemoryEngine(server)
    for _ in range(2):
        server.add(lambda id: Events(id.epoch, [(id.position, b"news", b"data: x\n\n", 0)]))
    monkeypatch.setattr(over_engine, "newest_of", locked)
    hub = Hub(engine=lambda: engine)
    starting = asyncio.create_task(hub.take_in())
    await until(lambda: newest_of(hub.log) == server.last)
    assert not hub.ready
    held = False
    await starting
    assert isinstance(hub.backplane, over_engine.OverEngine)
    id = str(await hub.publish("news", "1"))
    await until(lambda: hub.backplane.is_ahead(EventId.parse(id)) is False)  # type: ignore[arg-type]
    held = True
    stream = Stream(hub, "news", id)
    assert stream.told == ["$connected"]
    ahead_of_it = str(await hub.publish("news", "2"))
    assert hub.recalls(("news",), (), ahead_of_it)
    with pytest.raises(HubClosed, match="behind what you have seen"):  # a gap would be made up
        await hub.recall(("news",), (), ahead_of_it, lambda name: True)
    await hub.close()


class Peers(SimpleNamespace):
    """Of one worker of several; `known` is what those know who live."""

    def __init__(self, known: set[str]) -> None:
        super().__init__(arm=int, disarm=int, notify=int, others_busy=False, held_by_others=0, hold=lambda *_: None)
        self.held_for_streams_by_others = 0
        self.known = known

    def is_there(self, process: int) -> bool:
        return True

    def know(self, what: str) -> None:
        self.known.add(what)

    def is_known(self, what: str) -> bool:
        return what in self.known


async def test_while_the_engine_is_away_a_new_worker_serves_if_another_has_seen_the_window_filled(
    server: Server,
) -> None:
    log = Log(mmap.mmap(-1, segment_size(65536)))
    mark(log, "1700000000000")  # a window that is being filled, or has been
    assert take_turn(log, 0, os.getppid())  # by another worker
    server.away = True
    for known, ready in ((set[str](), False), ({over_engine.FILLED}, True)):
        peers: Any = Peers(known)
        hub = Hub(engine=lambda: MemoryEngine(server), log=log, peers=peers)
        taking_in = asyncio.create_task(hub.take_in())
        if ready:
            await until(lambda hub=hub: hub.ready)
        else:
            await asyncio.sleep(3 * over_engine.TICK)
            assert not hub.ready
        taking_in.cancel()
        await hub.close()


async def test_a_stream_that_waits_for_something_is_not_held_by_the_front(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is handed to the front begins at once, wherever that is."""
    monkeypatch.setattr(over_engine, "CATCH_UP", 0.05)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    def answered(offer: object, headers: object) -> tuple[tuple[()], bytes]:
        return (), b"held"

    async with hub_over(server) as hub:
        id = await hub.publish("news", "1")
        await until(lambda: newest_of(hub.log) == server.last)
        for position, held in ((id.position, True), (id.position + 5, False)):
            sent.clear()
            headers = [(b"last-event-id", f"{id.epoch}-{position}".encode())]
            mark_of_front = SimpleNamespace(answer=answered, holds=None)
            scope: Any = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
            scope |= {"http_version": "1.1", "client": ("127.0.0.1", 1), MARK: mark_of_front}
            await hub.response(scope, ["news"])(scope, receive, send)
            assert (sent[1]["body"] == b"held") is held


async def test_a_worker_that_starts_while_the_engine_is_away_waits_says_why_and_comes_up_with_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(over_engine, "PATIENCE", 0.0)
    monkeypatch.setattr(over_engine, "TICK", 0.01)
    monkeypatch.setattr(app, "WAIT", 0.001)
    waits: list[None] = []
    edge = edge_over(server)
    edge._slot = SimpleNamespace(wait=lambda: waits.append(None))  # type: ignore[assignment]
    server.away = True
    preparing = asyncio.create_task(edge.prepare())
    await until(lambda: len(waits) > 20)
    assert not preparing.done()
    (said,) = [record.getMessage() for record in caplog.records if "waits" in record.message]
    assert said == "this worker is not ready, and waits: the backplane takes no events: the server is away"
    server.away = False
    server.wake()
    async with asyncio.timeout(30):
        await preparing
    await edge.hub.close()


async def test_an_engine_that_returns_to_a_past_it_had_left_is_a_trouble_with_a_name_that_is_told_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(over_engine, "TICK", 0.001)
    monkeypatch.setattr(over_engine, "LONGEST_PAUSE", 0.002)
    epochs = [Mark(f"170000000000{number}", None, 0) for number in (0, 1, 0)]
    tries: list[None] = []

    async def follow(self: Follower) -> None:
        tries.append(None)
        if newest_of(hub.log) is None:
            await self.take(epochs[:2])
        await self.take(epochs[2:])

    monkeypatch.setattr(Follower, "follow", follow)
    hub = Hub(engine=lambda: MemoryEngine(server))
    taking_in = asyncio.create_task(hub.take_in())
    await until(lambda: len(tries) > 20)
    wrong = hub.backplane.what_is_wrong()
    assert wrong is not None
    assert "has been in the epoch '1700000000000'" in wrong
    assert hub.backplane.what_is_wrong(whole=False) == "the backplane cannot be followed"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is None
    taking_in.cancel()
    await hub.close()


async def test_who_is_sent_away_since_this_node_is_behind_is_told_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_engine, "CATCH_UP", 0.05)
    await MemoryEngine(server).publish([(b"news", b"data: 1\n\n")])
    async with node(server) as (edge, port):
        told, ended = await read(port, "news", f"{int(1000 * time.time())}-24", "")
        assert (told, ended) == ([("$closing", '{"reason":"behind"}', "")], True)
        assert edge._streams.refusals.counts == {**dict.fromkeys(REASONS, 0), "behind": 1}
