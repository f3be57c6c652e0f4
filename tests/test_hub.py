"""The hub as laws, in process and without a server."""

import asyncio
import json
import logging
import multiprocessing
import time
from itertools import pairwise
from typing import Any

import pytest
from support import until
from whatwg import Event, Parser

from sse_fast._native.log.ring import Log
from sse_fast.embed.hub import Hub
from sse_fast.errors import EndReason, EventTooLarge, HubClosed, InvalidEvent

FORK = multiprocessing.get_context("fork")


class Reader:
    """A stream in the hub, whose `send` takes everything, unless its transport is shut."""

    def __init__(self, hub: Hub, *channels: str, opened: bool = True, **how: Any) -> None:
        self.raw = b""
        self.times: list[float] = []
        self.ended: list[EndReason] = []
        self.transport = asyncio.Event()
        self.transport.set()
        self.subscription = hub.subscribe(channels, self.send, lambda reason, error: self.ended.append(reason), **how)
        self.raw = self.subscription.opening()
        if opened:
            self.subscription.start()

    async def send(self, message: dict[str, Any]) -> None:
        self.raw += message["body"]
        self.times.append(time.monotonic())
        await self.transport.wait()

    @property
    def events(self) -> list[Event]:
        return Parser().feed(self.raw)

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events if event.type == "message"]

    def told(self, kind: str) -> list[Any]:
        return [json.loads(event.data) for event in self.events if event.type == kind]


@pytest.fixture
async def hub():
    hub = Hub(log_size=64 * 1024)
    yield hub
    await hub.close()


# The start


def with_a_past(events: int = 50_000) -> Log:
    log = Log.private(2**22)
    for event in [(b"ab"[n % 2 : n % 2 + 1], b"data: %d\n\n" % n) for n in range(events)]:
        log.append(*event)
    return log


async def test_what_a_log_has_kept_is_taken_in_while_starting_a_bounded_piece_a_turn() -> None:
    hub = Hub(log=with_a_past())
    assert not hub.ready
    ready = asyncio.create_task(hub.take_in())
    turns = []
    while not ready.done():
        await asyncio.sleep(0)
        turns.append(hub.fanout.index.kept)
    assert max(later - earlier for earlier, later in pairwise([0, *turns])) <= 4096
    assert hub.ready
    assert hub.fanout.index.kept == 50_000
    await hub.take_in()  # again: at once
    await hub.close()


async def test_streams_that_come_before_the_hub_is_ready_begin_where_they_asked_to() -> None:
    log = with_a_past()
    hub = Hub(log=log)
    now = Reader(hub, "a")
    resuming = Reader(hub, "a", "b", last_event_id=f"{log.epoch}-49998")
    everything = Reader(hub, "b", last_event_id="earliest")
    assert not hub.ready
    await hub.publish("a", "new")
    await until(lambda: everything.data[-1:] == ["49999"])
    assert now.data == ["new"]
    assert resuming.data == ["49998", "49999", "new"]
    assert (resuming.subscription.resumed, everything.subscription.resumed) == ("complete", "complete")
    assert len(everything.data) == 25_000
    await hub.close()


async def test_a_hub_that_closes_before_it_is_ready_keeps_nobody_waiting() -> None:
    hub = Hub(log=with_a_past())
    ready = asyncio.create_task(hub.take_in())
    await asyncio.sleep(0)
    await hub.close()
    await ready


# Publishing


async def test_publish_returns_when_the_event_is_in_the_log(hub: Hub) -> None:
    published = await hub.publish("a", "x", event="greeting", retry=5)
    (record,) = hub.log.records()
    assert (published.epoch, published.position) == (hub.log.epoch, record.position)
    assert Parser().feed(record.frame) == [Event("greeting", "x", str(published))]
    assert hub.published == 1


async def test_ids_rise_over_all_channels(hub: Hub) -> None:
    positions = [(await hub.publish(channel, "x")).position for channel in "abcab"]
    assert positions == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", [{"channel": "$stats"}, {"channel": ""}, {"event": "$gap"}, {"data": "x" * 20_000}])
async def test_what_is_refused_is_not_published(hub: Hub, wrong: dict[str, str]) -> None:
    fields: dict[str, Any] = {"channel": "a", "data": "x"} | wrong
    with pytest.raises(InvalidEvent) as refused:
        await hub.publish(fields.pop("channel"), fields.pop("data"), **fields)
    assert isinstance(refused.value, EventTooLarge) == ("data" in wrong)
    assert (hub.published, hub.log.position) == (0, 0)


async def test_everybody_gets_every_event_of_his_channels_in_order(hub: Hub) -> None:
    one, both = Reader(hub, "a"), Reader(hub, "a", "b")
    for number in range(100):
        await hub.publish("ab"[number % 2], str(number))
    await until(lambda: len(both.data) == 100)
    assert both.data == [str(number) for number in range(100)]
    assert one.data == [str(number) for number in range(0, 100, 2)]


# Where a stream begins


async def filled(hub: Hub, count: int = 5) -> list[str]:
    return [str(await hub.publish("a", str(number))) for number in range(count)]


async def test_a_stream_that_asks_for_nothing_begins_now(hub: Hub) -> None:
    ids = await filled(hub)
    reader = Reader(hub, "a")
    await hub.publish("a", "new")
    await until(lambda: reader.data)
    assert reader.told("$connected") == [{"resume": "live"}]
    assert reader.events[0].last_event_id == ids[-1]
    assert reader.data == ["new"]


async def test_history_begins_with_the_newest_so_many(hub: Hub) -> None:
    await filled(hub)
    for asked, given in ((1, ["4"]), (3, ["2", "3", "4"]), (5, list("01234")), (99, list("01234"))):
        reader = Reader(hub, "a", history=asked)
        await until(lambda reader=reader, given=given: reader.data == given)
        assert reader.told("$connected") == [{"resume": "live"}]


async def test_earliest_is_all_that_is_kept(hub: Hub) -> None:
    await filled(hub)
    reader = Reader(hub, "a", last_event_id="earliest")
    await until(lambda: reader.data == list("01234"))
    assert reader.told("$gap") == []


async def test_resuming_after_a_kept_event_is_complete(hub: Hub) -> None:
    ids = await filled(hub)
    reader = Reader(hub, "a", last_event_id=ids[1])
    await until(lambda: reader.data == list("234"))
    assert reader.told("$connected") == [{"resume": "complete"}]
    assert reader.told("$gap") == []


@pytest.mark.parametrize("asked", ["zzzzzzzz-3", "{epoch}-999999", "{epoch}-99999999999999999999", "not an id at all"])
async def test_an_id_that_this_log_never_gave_is_a_gap_and_all_that_is_kept(hub: Hub, asked: str) -> None:
    await filled(hub)
    asked = asked.format(epoch=hub.log.epoch)
    reader = Reader(hub, "a", last_event_id=asked)
    await until(lambda: reader.data == list("01234"))
    assert reader.told("$connected") == [{"resume": "gap"}]
    assert [gap["after"] for gap in reader.told("$gap")] == [asked]


async def test_resuming_is_complete_up_to_the_first_event_that_is_gone_and_then_a_gap(hub: Hub) -> None:
    while hub.log.position < 100:
        await hub.publish("a", "x" * 1000)
    kept = [record.position for record in hub.log.records()]
    assert kept[0] > 2
    reader = Reader(hub, "a", last_event_id=hub.event_id(kept[0] - 1))
    assert reader.told("$connected") == [{"resume": "complete"}]  # what is gone is what it had
    reader = Reader(hub, "a", last_event_id=hub.event_id(kept[0] - 2))
    assert reader.told("$connected") == [{"resume": "gap"}]
    gone = {"after": hub.event_id(kept[0] - 2), "until": hub.event_id(kept[0] - 1), "positions": 1}
    assert reader.told("$gap") == [gone]
    await until(lambda: len(reader.data) == len(kept))


async def test_the_opening_carries_the_id_to_resume_by(hub: Hub) -> None:
    ids = await filled(hub)
    for how in ({}, {"last_event_id": ids[1]}, {"last_event_id": "zzzzzzzz-1"}, {"history": 2}):
        first = Reader(hub, "a", opened=False, **how)
        parser = Parser()
        parser.feed(first.raw)
        assert parser.last_event_id == first.subscription.id
        expected = Reader(hub, "a", **how)
        again = Reader(hub, "a", last_event_id=parser.last_event_id)
        await hub.publish("a", "new")
        await until(lambda expected=expected: expected.data[-1:] == ["new"])
        await until(lambda again=again: again.data[-1:] == ["new"])
        assert again.data == expected.data
        for reader in (first, expected, again):
            reader.subscription.close()


async def test_what_is_published_before_the_start_comes_after_it(hub: Hub) -> None:
    reader = Reader(hub, "a", opened=False)
    await hub.publish("a", "between")
    await asyncio.sleep(0)
    assert reader.data == []
    reader.subscription.start()
    await until(lambda: reader.data == ["between"])


# Heartbeats and the slow


async def test_only_silent_streams_get_heartbeats_and_they_come_within_keepalive() -> None:
    hub = Hub(log_size=64 * 1024, keepalive=0.4)
    silent, talking = Reader(hub, "silent"), Reader(hub, "talking")
    began = last = time.monotonic()
    late = 0.0  # at most, of whatever has its time: the machine is shared
    while last - began < 1.3:
        await hub.publish("talking", "x")
        await asyncio.sleep(0.05)
        now = time.monotonic()
        late, last = max(late, now - last - 0.05), now
    moments = [began, *silent.times]
    assert silent.raw.endswith(b"\n\n" + b":\n" * len(silent.times))
    assert len(silent.times) >= 3
    assert max(later - earlier for earlier, later in pairwise(moments)) < 0.4 + 0.15 + late
    assert b"\n:\n" not in talking.raw
    await hub.close()


async def test_heartbeats_are_spread_over_the_interval() -> None:
    hub = Hub(log_size=64 * 1024, keepalive=1.6)
    readers = [Reader(hub, "a") for _ in range(64)]
    await until(lambda: all(reader.times for reader in readers))
    moments = sorted(reader.times[0] for reader in readers)
    at_once = max(sum(moment <= other < moment + 0.02 for other in moments) for moment in moments)
    assert at_once <= len(readers) // 2
    await hub.close()


async def blocked(hub: Hub) -> Reader:
    reader = Reader(hub, "a")
    reader.transport.clear()
    await hub.publish("a", "taken")
    await until(lambda: hub.fanout.blocked == 1)
    return reader


async def test_a_stream_that_takes_nothing_for_send_timeout_leaves_as_slow() -> None:
    hub = Hub(log_size=64 * 1024, keepalive=0.4, send_timeout=0.2)
    reader = await blocked(hub)
    await until(lambda: reader.ended)
    assert reader.ended == [EndReason.SLOW]
    assert (hub.fanout.connections, hub.fanout.slow) == (0, 1)
    reader.subscription.close()
    await hub.close()


async def test_with_skip_it_stays_and_is_told_of_the_gap() -> None:
    hub = Hub(log_size=64 * 1024, keepalive=0.4, send_timeout=0.2, slow_policy="skip")
    reader = await blocked(hub)
    for number in range(5):
        await hub.publish("a", str(number))
    await until(lambda: hub.fanout.gaps)
    reader.transport.set()
    await until(lambda: reader.data == ["taken", "4"])
    assert reader.told("$gap") == [{"after": hub.event_id(1), "until": hub.event_id(5), "positions": 4}]
    assert reader.ended == []
    await hub.close()


# The end


async def test_a_drain_hands_out_everything_and_then_says_closing_to_everybody(hub: Hub) -> None:
    readers = [Reader(hub, "a") for _ in range(1000)]
    for number in range(20):
        await hub.publish("a", str(number))
    assert await hub.drain(5) == 0
    for reader in readers:
        assert reader.data == [str(number) for number in range(20)]
        assert reader.events[-1].type == "$closing"
        assert reader.told("$closing") == [{"reason": "shutdown"}]
        assert reader.ended == []


async def test_closing_is_the_last_thing_a_stream_says_whatever_other_workers_publish(hub: Hub) -> None:
    readers = [Reader(hub, "a") for _ in range(100)]
    stuck = await blocked(hub)
    draining = asyncio.create_task(hub.drain(5))
    while not readers[-1].told("$closing"):
        await asyncio.sleep(0)
        hub.log.append_many([(b"a", b"data: theirs\n\n")])
    hub.log.append_many([(b"a", b"data: after\n\n")])
    stuck.transport.set()
    assert await draining == 0
    for reader in [*readers, stuck]:
        assert reader.events[-1].type == "$closing"
        assert reader.told("$closing") == [{"reason": "shutdown"}]


async def test_a_draining_hub_takes_no_more_streams_and_events_until_it_is_closed(hub: Hub) -> None:
    reader = Reader(hub, "a")
    await hub.publish("a", "x")
    await hub.drain(1)
    with pytest.raises(HubClosed, match="streams"):
        hub.subscribe(["a"], lambda message: None, lambda *why: None)
    await hub.publish("a", "y")
    await hub.append([(b"a", b"data: z\n\n")])
    assert [record.frame.split(b"\n")[0] for record in hub.log.records()] == [b"data: x", b"data: y", b"data: z"]
    assert [event.type for event in reader.events] == ["$connected", "message", "$closing"]
    await hub.close()
    with pytest.raises(HubClosed, match="events"):
        await hub.publish("a", "x")
    assert hub.published == 3


async def test_a_blocked_stream_holds_a_drain_up_until_its_deadline_and_the_others_are_told(hub: Hub) -> None:
    other, stuck = Reader(hub, "a"), await blocked(hub)
    began = time.monotonic()
    assert await hub.drain(0.5) == 1
    assert time.monotonic() - began < 10
    assert other.told("$closing") == [{"reason": "shutdown"}]
    assert stuck.told("$closing") == []


async def test_a_stream_that_unblocks_during_a_drain_gets_the_rest(hub: Hub) -> None:
    stuck = await blocked(hub)
    await hub.publish("a", "rest")
    draining = asyncio.create_task(hub.drain(5))
    await asyncio.sleep(0)
    stuck.transport.set()
    assert await draining == 0
    assert stuck.data == ["taken", "rest"]
    assert stuck.told("$closing") == [{"reason": "shutdown"}]


async def test_close_ends_every_stream_and_every_task(hub: Hub) -> None:
    before = asyncio.all_tasks()
    readers = [Reader(hub, "a"), await blocked(hub)]
    await hub.close()
    for reader in readers:
        assert reader.ended == [EndReason.SHUTDOWN]
        reader.subscription.close()
    await until(lambda: asyncio.all_tasks() == before)
    await hub.close()


async def test_a_hub_that_was_never_used_closes_and_drains_too() -> None:
    hub = Hub(log_size=64 * 1024)
    assert await hub.drain(1) == 0
    await hub.close()


# Whatever happens, it goes on


async def test_the_pump_survives_an_exception(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(hub, "a")
    fanout, failures = hub.fanout, 1

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(fanout, name)

        def drain(self, now: float) -> bool:
            nonlocal failures
            if failures:
                failures -= 1
                raise RuntimeError("for once")
            return fanout.drain(now)

    hub.fanout = Failing()  # type: ignore[assignment]
    await hub.publish("a", "1")
    await until(lambda: failures == 0)
    await until(lambda: reader.data == ["1"])  # nothing new has to come for that
    await hub.publish("a", "2")
    await until(lambda: reader.data == ["1", "2"])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_hub_may_be_used_on_a_new_loop_when_the_old_one_is_gone() -> None:
    hub = Hub(log_size=64 * 1024)

    async def use(text: str) -> list[str]:
        reader = Reader(hub, "a", last_event_id="earliest")
        await hub.publish("a", text)
        await until(lambda: reader.data[-1:] == [text])
        reader.subscription.close()
        return reader.data

    assert asyncio.run(use("first")) == ["first"]
    assert asyncio.run(use("second")) == ["first", "second"]
    asyncio.run(hub.close())  # on a third


async def test_a_hub_in_use_on_one_loop_says_so_on_another(hub: Hub) -> None:
    await hub.publish("a", "x")
    with pytest.raises(RuntimeError, match="one event loop"):
        await asyncio.to_thread(asyncio.run, hub.publish("a", "y"))
    assert hub.published == 1


def test_an_id_of_another_fork_of_a_hub_is_known_to_mean_nothing() -> None:
    """As under `gunicorn --preload`, where each worker is forked from one process that has made the hub."""
    hub, said = Hub(log_size=1 << 16), FORK.SimpleQueue()

    async def publish() -> str:
        return str(await hub.publish("a", "x"))

    def fork() -> str:
        worker = FORK.Process(target=lambda: said.put(asyncio.run(publish())))
        worker.start()
        worker.join()
        return str(said.get())

    async def resumed(last_event_id: str) -> str:
        await publish()
        return hub.subscribe(["a"], Reader.send, lambda *_: None, last_event_id=last_event_id).resumed

    ids = [fork(), fork()]
    assert len({id.partition("-")[0] for id in ids}) == 2
    assert asyncio.run(resumed(ids[0])) == "gap"
    asyncio.run(hub.close())


def test_what_was_published_before_a_fork_keeps_its_ids_on_both_sides() -> None:
    hub, said = Hub(log_size=1 << 16), FORK.SimpleQueue()

    async def publish() -> str:
        return str(await hub.publish("a", "x"))

    async def resume_from(last_event_id: str) -> None:
        said.put((last_event_id, hub.event_id(1), await publish()))
        said.put(hub.subscribe(["a"], Reader.send, lambda *_: None, last_event_id=last_event_id).resumed)

    before = asyncio.run(publish())
    worker = FORK.Process(target=lambda: asyncio.run(resume_from(before)))
    worker.start()
    worker.join()
    first, named, new = said.get()
    assert first == named == before
    assert new.partition("-")[0] != before.partition("-")[0]
    assert said.get() == "complete"
    asyncio.run(hub.close())


async def test_an_event_that_a_fork_hands_out_carries_the_id_that_its_publisher_was_told() -> None:
    hub = Hub(log_size=1 << 16)
    hub._process = 0  # as if it had been made by a parent
    reader = Reader(hub, "a")
    id = await hub.publish("a", "x")
    await until(lambda: len(reader.events) == 2)
    assert reader.raw.endswith(f"id: {id}\n\n".encode())
    await hub.close()
