"""Presence: who is there over all workers, told once each, whoever comes back, dies, hangs or is new."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import orjson
import pytest
from front_port import by_asgi, edge_of
from whatwg import Parser

from sse_fast import Hub
from sse_fast.edge import configured
from sse_fast.edge.app import Edge
from sse_fast.errors import ConnectionClosed, EndReason, LogBusy, SSEFastError
from sse_fast.event_rules import MAX_CHANNEL_BYTES, Encoded
from sse_fast.hub import presence as module
from sse_fast.hub.control import Alone, Answers, Told
from sse_fast.hub.kept import kept
from sse_fast.hub.presence import JOIN, LEAVE, PREFIX, Presence, Unpublished

GRACE = 0.06
ROOM = "room:1"


class Silent(SSEFastError):
    pass


class Node:
    """Workers that ask each other by method calls, in JSON; and the log that they share."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.events: list[tuple[str, str, str]] = []
        self.busy = False
        self.lets_go = False
        self.looks = 0

    def start(self, slot: int) -> "Worker":
        worker = self.workers[slot] = Worker(self, slot)
        worker.presence.start()
        return worker

    def present(self, channel: str = ROOM) -> set[str]:
        """Whom somebody knows to be there who has read all events."""
        there: set[str] = set()
        for name, user, what in self.events:
            if name == channel:
                (there.add if what == JOIN else there.discard)(user)
        return there

    def told(self, channel: str = ROOM) -> list[tuple[str, str]]:
        return [(what, user) for name, user, what in self.events if name == channel]


class Worker:
    """One of them: its presence, and its control."""

    pids = 0

    def __init__(self, node: Node, slot: int) -> None:
        self.node, self.slot = node, slot
        self.silent = False
        self.handlers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self.streams: list[str] = []
        Worker.pids += 1
        self.pid = Worker.pids
        self.presence = Presence(
            lambda name: name.startswith("room:"), self.append, self.recall, self, grace=GRACE, pid=self.pid
        )

    async def recall(self) -> AsyncIterator[list[tuple[str, str, str]]]:
        at = 0
        self.node.looks += 1
        while piece := self.node.events[at : at + 7]:
            at += len(piece)
            yield piece
            await asyncio.sleep(0)
            if self.node.lets_go:
                raise ConnectionClosed("slow")

    async def append(self, events: list[Encoded]) -> None:
        await asyncio.sleep(0)
        if self.node.busy:
            raise LogBusy("not now")
        if self.slot not in self.node.workers:
            raise asyncio.CancelledError
        for channel, frame in events:
            assert isinstance(channel, bytes)
            (event,) = Parser().feed(frame + b"\n" if not frame.endswith(b"\n\n") else frame)
            said = json.loads(event.data)
            assert channel.decode() == PREFIX + said["channel"]
            self.node.events.append((said["channel"], said["user"], event.type))

    # ---- as a control ----

    @property
    def workers(self) -> list[int]:
        return sorted({*self.node.workers, self.slot})

    def on(self, question: str, handler: Callable[[Mapping[str, Any]], Any]) -> None:
        self.handlers[question] = handler

    async def ask(self, slot: int, question: str, **about: Any) -> Any:
        await asyncio.sleep(random.random() / 500)
        worker = self.node.workers[slot]
        if worker.silent or self.silent:
            raise Silent(f"worker {slot} does not answer")
        return orjson.loads(orjson.dumps(worker.handlers[question](orjson.loads(orjson.dumps(about)))))

    async def ask_all(self, question: str, **about: Any) -> Answers:
        told, silent = [], []
        for slot, worker in list(self.node.workers.items()):
            try:
                told.append(Told(slot, worker.pid, await self.ask(slot, question, **about)))
            except (Silent, KeyError):
                silent.append(worker.pid)
        return Answers(told, silent)

    # ---- its streams ----

    def enter(self, user: str, channel: str = ROOM) -> None:
        self.streams.append(user)
        self.presence.enter((channel,), user)

    def leave(self, user: str, channel: str = ROOM) -> None:
        self.streams.remove(user)
        self.presence.leave((channel,), user)

    def die(self) -> None:
        del self.node.workers[self.slot]
        self.presence.close()


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    node = Node()
    yield node
    for worker in node.workers.values():
        worker.presence.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def agreed(node: Node, *users: str) -> None:
    """Until every worker knows that these are there, and so does whoever has read the events."""

    def all_say_so() -> bool:
        lists = [[here.user for here in w.presence.members(ROOM, 1000)[1]] for w in node.workers.values()]
        return all(listed == sorted(users) for listed in lists) and node.present() == set(users)

    await until(all_say_so)


async def all_know(node: Node) -> None:
    """Until every worker knows what the others have."""
    workers = node.workers.values()
    for worker in workers:
        worker.silent = False

    def known(one: Worker, other: Worker) -> bool:
        seen = one.presence._workers.get(other.slot)
        if seen is None or seen.missed or seen.pid != other.pid:
            return False
        return seen.members == other.presence._own and not seen.owed

    await until(lambda: all(known(one, other) for one in workers for other in workers if one is not other))


async def test_a_user_of_several_streams_on_several_workers_joins_once_and_leaves_once(node: Node) -> None:
    workers = [node.start(slot) for slot in range(3)]
    for worker in workers:
        worker.enter("ann")
        worker.enter("ann")
    workers[2].enter("bob")
    await agreed(node, "ann", "bob")
    for worker in workers:
        worker.leave("ann")
    workers[0].leave("ann")
    workers[1].leave("ann")
    await asyncio.sleep(2 * GRACE)
    await agreed(node, "ann", "bob")
    workers[2].leave("ann")
    await agreed(node, "bob")
    assert sorted(node.told()) == [(JOIN, "ann"), (JOIN, "bob"), (LEAVE, "ann")]


async def test_who_comes_back_within_the_grace_has_neither_left_nor_joined(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))

    async def passes(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(3 * module.TICK)

    one, other = node.start(0), node.start(1)
    one.enter("ann")
    await agreed(node, "ann")
    for _ in range(5):
        one.leave("ann")
        await passes(GRACE / 4)
        other.enter("ann")
        await passes(GRACE / 2)
        other.leave("ann")
        one.enter("ann")
    await all_know(node)
    await passes(3 * GRACE)
    assert node.told() == [(JOIN, "ann")]
    one.leave("ann")
    await all_know(node)
    await passes(3 * GRACE)
    await agreed(node)


async def test_channels_whose_presence_is_not_kept_and_streams_of_nobody_show_nobody(node: Node) -> None:
    presence = node.start(0).presence
    assert presence.shown_in(("room:1", "news", "room:2"), "ann") == ("room:1", "room:2")
    assert presence.shown_in(("room:1",), None) == presence.shown_in(("room:1",), "") == ()
    assert presence.shown_in(("room:1",), "x" * 300) == (), "too long to be told"
    assert presence.shown_in(("room:" + "x" * (MAX_CHANNEL_BYTES - 11),), "ann") == (), (
        "its presence would have too long a name"
    )


async def test_those_of_a_dead_worker_leave_unless_they_come_back_elsewhere(node: Node) -> None:
    for dead in (0, 1):
        workers = {slot: node.start(slot) for slot in (0, 1)}
        workers[dead].enter("ann")
        workers[dead].enter("bob")
        workers[1 - dead].enter("eve")
        await agreed(node, "ann", "bob", "eve")
        workers[dead].die()
        workers[1 - dead].enter("bob")
        await agreed(node, "bob", "eve")
        workers[1 - dead].die()
        node.events.clear()


async def test_a_worker_that_takes_the_slot_of_a_dead_one_at_once_is_not_taken_for_it(node: Node) -> None:
    node.start(0).enter("ann")
    other = node.start(1)
    other.enter("bob")
    await agreed(node, "ann", "bob")
    other.die()
    node.start(1)
    await agreed(node, "ann")


async def test_a_new_worker_knows_who_is_there_and_tells_nobody_again(node: Node) -> None:
    old = node.start(3)
    for number in range(50):
        old.enter(f"user:{number:02}")
    everybody = [f"user:{number:02}" for number in range(50)]
    await agreed(node, *everybody)
    node.start(0)
    await agreed(node, *everybody)
    await asyncio.sleep(2 * GRACE)
    assert len(node.told()) == 50


async def test_when_the_one_that_publishes_hands_over_those_on_their_way_out_are_told_by_the_next(node: Node) -> None:
    old, new = node.start(0), node.start(1)
    old.enter("ann")
    new.enter("bob")
    await agreed(node, "ann", "bob")
    node.busy = True
    new.enter("eve")
    await asyncio.sleep(GRACE)
    old.die()
    node.busy = False
    await agreed(node, "bob", "eve")
    assert Counter(node.told())[JOIN, "eve"] >= 1


async def test_what_could_not_be_published_is_published_later_the_last_of_each(node: Node) -> None:
    worker = node.start(0)
    node.busy = True
    worker.enter("ann")
    worker.enter("bob")
    worker.leave("bob")
    await asyncio.sleep(3 * GRACE)
    node.busy = False
    await agreed(node, "ann")
    assert sorted(node.told()) == [(JOIN, "ann"), (LEAVE, "bob")]


async def test_a_worker_that_did_not_answer_learns_what_it_has_missed(node: Node) -> None:
    one, other = node.start(0), node.start(1)
    one.enter("ann")
    await agreed(node, "ann")
    other.silent = True
    one.enter("bob")
    other.enter("eve")
    await asyncio.sleep(GRACE)
    other.silent = False
    await agreed(node, "ann", "bob", "eve")


async def test_where_the_one_that_publishes_hangs_another_one_does(node: Node) -> None:
    one, other = node.start(0), node.start(1)
    one.enter("ann")
    await agreed(node, "ann")
    one.presence.close()
    other.enter("bob")
    await until(lambda: node.present() == {"ann", "bob"})


async def test_nothing_is_published_that_no_other_worker_knows_of(node: Node) -> None:
    one, other = node.start(0), node.start(1)
    one.enter("ann")
    await agreed(node, "ann")
    other.silent = True
    one.enter("bob")
    await asyncio.sleep(2 * GRACE)
    assert node.present() == {"ann"}
    one.die()
    other.silent = False
    await agreed(node)


async def test_who_was_there_by_the_only_worker_leaves_when_it_dies_unless_he_is_back(node: Node) -> None:
    only = node.start(0)
    for number in range(30):
        only.enter(f"user:{number:02}")
    only.enter("ann")
    only.enter("eve")
    only.leave("eve")
    await agreed(node, "ann", *(f"user:{number:02}" for number in range(30)))
    only.die()
    new = node.start(0)
    new.enter("ann")
    new.enter("bob")
    await agreed(node, "ann", "bob")
    assert Counter(node.told())[LEAVE, "ann"] == 0


async def test_a_worker_that_was_born_first_and_serves_last_tells_nobody_again(node: Node) -> None:
    late = Worker(node, 1)
    one = node.start(0)
    for number in range(20):
        one.enter(f"user:{number:02}")
    everybody = [f"user:{number:02}" for number in range(20)]
    await agreed(node, *everybody)
    node.workers[1] = late
    late.presence.start()
    await agreed(node, *everybody)
    await asyncio.sleep(2 * GRACE)
    assert len(node.told()) == 20


async def test_nobody_is_taken_for_gone_by_the_log_whose_worker_does_not_answer(node: Node) -> None:
    one, other = node.start(0), node.start(1)
    one.enter("ann")
    other.enter("bob")
    await agreed(node, "ann", "bob")
    other.silent = True
    node.start(2)
    await asyncio.sleep(3 * GRACE)
    other.silent = False
    await agreed(node, "ann", "bob")
    assert LEAVE not in {what for what, _ in node.told()}


async def test_where_its_look_into_the_log_is_let_go_a_worker_goes_on_and_looks_again(node: Node) -> None:
    one = node.start(0)
    one.enter("ann")
    await agreed(node, "ann")
    one.die()
    node.lets_go = True
    new = node.start(0)
    new.enter("bob")
    await until(lambda: (JOIN, "bob") in node.told())
    node.lets_go = False
    await agreed(node, "bob")
    assert node.told() == [(JOIN, "ann"), (JOIN, "bob"), (LEAVE, "ann")]


async def test_however_many_turns_there_are_it_is_not_tried_again_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1000.0)
    node.lets_go = True
    node.events.append((ROOM, "eve", JOIN))
    worker = node.start(0)
    for number in range(5):
        worker.enter(f"user:{number}")
        await until(lambda: (JOIN, f"user:{number}") in node.told())  # noqa: B023
    assert node.looks == 1


@pytest.mark.parametrize("reason", [EndReason.SLOW, EndReason.AGE, EndReason.OPERATOR, EndReason.SHUTDOWN])
async def test_who_reads_what_the_log_has_kept_is_told_where_that_is_let_go(reason: EndReason) -> None:
    async with Hub() as hub:
        await hub.publish("a", "x")
        reading = asyncio.ensure_future(anext(kept(hub, "**")))
        await asyncio.sleep(0)
        assert hub.fanout.end_all(reason) == 1
        with pytest.raises(ConnectionClosed, match=reason):
            await asyncio.wait_for(reading, 30)
        assert hub.fanout.connections == 0


async def test_who_reads_what_the_log_has_kept_is_done_with_it_however_much_comes_meanwhile() -> None:
    async with Hub() as hub:
        for number in range(5000):
            await hub.publish("a", str(number))
        read = []
        async with asyncio.timeout(30):
            async for events in kept(hub, "**"):
                read += [event.data for event in events]
                await hub.publish("a", "later")
        assert read[:5000] == [str(number) for number in range(5000)]


async def test_names_past_the_bound_are_left_out(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    worker = node.start(0)
    for number in range(100):
        worker.enter(f"{number:03}")
    count, _ = worker.presence.members(ROOM, 1000)
    assert 10 < count < 30
    for number in range(100):
        worker.leave(f"{number:03}")
    await agreed(node)
    for number in range(10):
        worker.enter(f"{number:03}")
    await agreed(node, *[f"{number:03}" for number in range(10)])


async def test_members_are_listed_page_by_page_in_the_order_of_their_names(node: Node) -> None:
    worker = node.start(0)
    for number in range(25):
        worker.enter(f"{number:02}")
    seen: list[str] = []
    while True:
        count, page = worker.presence.members(ROOM, 10, seen[-1] if seen else "")
        assert count == 25
        seen += [here.user for here in page]
        if len(page) < 10:
            break
    assert seen == [f"{number:02}" for number in range(25)]
    assert worker.presence.members("room:2", 10) == (0, [])


class Turns:
    """Of the event loop: how often something happened in the one in which it happened most."""

    def __init__(self) -> None:
        self.most = self.number = 0
        self._in_turn: Counter[int] = Counter()
        self._task = asyncio.get_running_loop().create_task(self._count())

    async def _count(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def happened(self, times: int = 1) -> None:
        self._in_turn[self.number] += times
        self.most = max(self.most, self._in_turn[self.number])

    def watch(self, presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
        look_at = presence._look_at

        def looked(member: tuple[str, str]) -> None:
            self.happened()
            look_at(member)

        monkeypatch.setattr(presence, "_look_at", looked)

    def close(self) -> None:
        self._task.cancel()


EVERYBODY = [f"user:{number:03}" for number in range(300)]


async def test_however_many_are_there_no_turn_looks_at_more_than_a_piece_of_them(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 8)
    old = node.start(3)
    for user in EVERYBODY:
        old.enter(user)
    told, turns = old.handlers[module.STATE], Turns()
    pieces: list[int] = []

    def counted(asked: Mapping[str, Any]) -> Any:
        answer = told(asked)
        pieces.append(max(len(answer["here"]), len(answer["leaving"]), len(answer["unpublished"])))
        return answer

    old.handlers[module.STATE] = counted
    await agreed(node, *EVERYBODY)
    new = node.start(0)
    turns.watch(new.presence, monkeypatch)
    await agreed(node, *EVERYBODY)
    await all_know(node)
    assert len(pieces) >= len(EVERYBODY) // 8
    assert max(pieces) == 8
    old.die()
    await agreed(node)
    turns.close()
    assert len(node.told()) == 2 * len(EVERYBODY)
    assert 0 < turns.most <= 16, "a piece of what it looks at, and one of what it is told"


async def test_what_a_worker_says_while_it_is_asked_for_all_is_heard_behind_that(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 8)
    old = node.start(3)
    for user in EVERYBODY:
        old.enter(user)
    await agreed(node, *EVERYBODY)
    told, asked_for = old.handlers[module.STATE], 0

    def comes_and_goes(asked: Mapping[str, Any]) -> Any:
        nonlocal asked_for
        asked_for += 1
        answer = told(asked)
        if asked_for < len(EVERYBODY) // 8:
            old.leave(EVERYBODY[-asked_for])
            old.enter(f"late:{asked_for:03}")
        return answer

    old.handlers[module.STATE] = comes_and_goes
    new = node.start(0)
    await all_know(node)
    assert asked_for == -(-len(EVERYBODY) // 8), "it is asked once"
    await agreed(node, *old.streams)
    assert old.streams[0] == EVERYBODY[0]
    new.enter("ann")
    await agreed(node, *sorted([*old.streams, "ann"]))


async def nothing() -> AsyncIterator[list[tuple[str, str, str]]]:
    """A log in which nothing is."""
    for piece in ():
        yield piece


async def test_however_many_wait_to_be_published_each_is_looked_at_once_and_no_turn_publishes_more_than_a_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0

    class Seen(Unpublished):
        @property
        def since(self) -> float:  # type: ignore[override]
            nonlocal seen
            seen += 1
            return self[1]

    monkeypatch.setattr(module, "AT_ONCE", 8)
    monkeypatch.setattr(module, "Unpublished", Seen)
    turns, published = Turns(), 0

    async def append(events: list[Encoded]) -> None:
        nonlocal published
        published += len(events)
        turns.happened(len(events))

    presence = Presence(lambda name: True, append, nothing, Alone(), grace=GRACE)
    for user in EVERYBODY:
        presence.enter((ROOM,), user)
    presence.start()
    await until(lambda: published == len(EVERYBODY))
    presence.close()
    turns.close()
    assert turns.most == 8
    assert len(EVERYBODY) <= seen <= len(EVERYBODY) + 8


async def test_who_has_waited_longest_is_published_first() -> None:
    published: list[bytes] = []

    async def append(events: list[Encoded]) -> None:
        published.extend(frame for _, frame in events)

    presence = Presence(lambda name: True, append, nothing, Alone(), grace=0)
    for user in ("ann", "bob"):
        presence.enter((ROOM,), user)
    presence.leave((ROOM,), "ann")
    presence._let_leave()
    (held_since,) = (held.since for (_, user), held in presence._unpublished.items() if user == "bob")
    await presence._publish(held_since)
    assert [b"bob" in frame for frame in published] == [True]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_workers_and_streams_do_in_the_end_all_know_who_is_there(node: Node, seed: int) -> None:
    rng = random.Random(seed)
    users = [f"user:{number}" for number in range(6)]
    node.start(0)
    for _ in range(120):
        worker = rng.choice(list(node.workers.values()))
        match rng.randrange(10):
            case 0 if len(node.workers) < 4:
                node.start(next(slot for slot in range(4) if slot not in node.workers))
            case 1 if len(node.workers) > 1:
                await all_know(node)  # one fault at a time
                worker.die()
            case 2:
                worker.silent = not worker.silent
            case 3:
                node.busy = not node.busy
            case 4 | 5 if worker.streams:
                worker.leave(rng.choice(worker.streams))
            case _:
                worker.enter(rng.choice(users))
        await asyncio.sleep(rng.choice((0, 0.001, 0.01)))
    node.busy = False
    for worker in node.workers.values():
        worker.silent = False
    await agreed(node, *{user for worker in node.workers.values() for user in worker.streams})


# ---- over HTTP ----

SECRET = "s" * 32


def token_of(user: str | None, *channels: str, operations: bool = False) -> str:
    claims = {"exp": time.time() + 600, "sse": {"subscribe": list(channels), "operations": operations}}
    return jwt.encode(claims | ({"sub": user} if user is not None else {}), SECRET, "HS256")


@asynccontextmanager
async def listening(edge: Edge, path: str, token: str) -> AsyncIterator[AsyncIterator[Any]]:
    """A stream's events, as they come."""
    assert edge.front is not None
    url = f"http://localhost:{edge.front.port}{path}"
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200, await response.aread()

        async def events() -> AsyncIterator[Any]:
            parser = Parser()
            async for piece in response.aiter_bytes():
                for event in parser.feed(piece):
                    yield event

        yield events()


async def next_of(events: AsyncIterator[Any]) -> tuple[str, str]:
    async with asyncio.timeout(30):
        async for event in events:
            if event.type in (JOIN, LEAVE):
                return event.type, json.loads(event.data)["user"]
    raise AssertionError("the stream ended")


@pytest.mark.usefixtures("nothing_set")
async def test_who_may_listen_to_the_presence_in_a_channel_is_told_who_comes_and_goes_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configured, "GRACE", GRACE)
    monkeypatch.setattr(module, "TICK", 0.02)
    async with edge_of(token_secret=SECRET, presence_channels=["room:*"], retry=0) as edge, by_asgi(edge) as client:
        watcher = token_of("watcher", "$presence:**", operations=True)
        as_operator = {"authorization": f"Bearer {watcher}"}

        async def present(channel: str, **options: Any) -> Any:
            answer = await client.get(f"/presence/{channel}", headers=as_operator, params=options)
            assert answer.headers["cache-control"] == "no-store"
            return answer.json()

        async with listening(edge, "/sse/$presence:room:1", watcher) as told:
            assert (await present("room:1"))["users"] == []
            async with listening(edge, "/sse?channel=room:1&channel=news", token_of("ann", "room:*", "news")):
                assert await next_of(told) == (JOIN, "ann")
                async with (
                    listening(edge, "/sse/room:1", token_of("bob", "room:1")),
                    listening(edge, "/sse/room:1", token_of(None, "room:1")),
                ):
                    assert await next_of(told) == (JOIN, "bob")
                    found = await present("room:1", limit=1)
                    assert (found["channel"], found["count"], found["next"]) == ("room:1", 2, "ann")
                    assert found["users"][0]["user"] == "ann"
                    assert abs(found["users"][0]["since"] - time.time()) < 60
                    rest = await present("room:1", limit=5, after="ann")
                    assert ([user["user"] for user in rest["users"]], rest["next"]) == (["bob"], None)
                assert await next_of(told) == (LEAVE, "bob")
            assert await next_of(told) == (LEAVE, "ann")
            assert (await present("room:1"))["count"] == 0
        kept = await client.get("/presence/news", headers=as_operator)
        assert (kept.status_code, "not kept" in kept.json()["detail"]) == (404, True)


@pytest.mark.usefixtures("nothing_set")
async def test_the_presence_in_a_channel_is_no_part_of_what_all_its_subscribers_may_listen_to() -> None:
    async with edge_of(token_secret=SECRET, presence_channels=["room:*"]) as edge, by_asgi(edge) as client:
        for granted, status in ((("**", "room:*"), 403), (("$presence:room:1",), 200), (("$presence:**",), 200)):
            headers = {"authorization": f"Bearer {token_of('ann', *granted)}"}
            answer = await client.head("/sse/$presence:room:1", headers=headers)
            assert answer.status_code == status, granted
            assert (await client.head("/sse/$presence:news", headers=headers)).status_code == 400
