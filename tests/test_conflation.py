"""Conflation: who lags on a channel that says so gets the newest event of each key; and what namespaces keep."""

import json
import time
from typing import Any

import pytest
from edge_client import EdgeClient
from front_port import by_asgi, entrance_at
from test_fanout import Taker, drain, join

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.log.outside import append_at, mark
from sse_fast._native.log.retention import shown
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.edge.app import Edge
from sse_fast.embed.hub import Hub
from sse_fast.errors import InvalidEvent, KeyReused
from sse_fast.event_rules import Keyed
from sse_fast.node.segment import create_shared
from sse_fast.node.workers import Node, WorkerSlot
from sse_fast.settings import Settings
from sse_fast.transports.life import Transport

TICKS = (b"ticks:*", 0, 0, True)


def tick(log: Log, key: str, text: str = "x", channel: bytes | tuple[bytes, ...] = b"ticks:a") -> int:
    return log.append(Keyed.of(channel, key.encode()), b"data: %s\n\n" % text.encode())


def blocked(fanout: FanOut, log: Log, *channels: bytes, **options: Any) -> tuple[Any, Taker]:
    """A subscriber that had everything, and takes nothing now."""
    taker = Taker(blocks=True)
    subscriber = fanout.subscribe(channels or [b"ticks:a"], taker, **options)
    fanout.unblock(subscriber, 0.0)
    log.append(channels[0] if channels else b"ticks:a", b"data: first\n\n")
    drain(fanout)
    assert subscriber.parked
    taker.got.clear()
    taker.blocks = False
    return subscriber, taker


# ---- conflation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [(), (b"ticks:*",)])
@pytest.mark.parametrize("enveloped", [False, True])
def test_who_lags_gets_the_newest_event_of_each_key_in_order(patterns: tuple[bytes, ...], enveloped: bool) -> None:
    log = Log.private(1 << 20)
    fanout, fast = FanOut(log, rules=[TICKS]), Taker()
    join(fanout, fast, b"ticks:a")
    names = [] if patterns else [b"ticks:a"]
    slow_taker = Taker(blocks=True)
    slow = fanout.subscribe(names, slow_taker, patterns=patterns, enveloped=enveloped)
    fanout.unblock(slow, 0.0)
    tick(log, "z")
    drain(fanout)
    slow_taker.got.clear()
    slow_taker.blocks = False
    everything = [tick(log, key) for key in "abcabdb"]
    alone = log.append(b"ticks:a", b"data: without a key\n\n")
    drain(fanout)
    assert fast.positions[1:] == [*everything, alone], "who keeps up gets every event"
    assert not slow_taker.got
    fanout.unblock(slow, 1.0)
    drain(fanout)
    last_of = dict(zip("abcabdb", everything, strict=True))
    assert slow_taker.positions == sorted([*last_of.values(), alone])
    # It has caught up: from here on it is one of the fast.
    more = [tick(log, "a") for _ in range(3)]
    drain(fanout)
    assert slow_taker.positions[-3:] == more


def test_a_key_is_one_of_its_channel_and_a_channel_that_does_not_conflate_has_all() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[TICKS])
    for channel in (b"ticks:a", b"ticks:b", b"other"):
        tick(log, "k", "old", channel)
    newest = [tick(log, "k", "new", channel) for channel in (b"ticks:a", b"ticks:b", b"other")]
    taker = Taker()
    join(fanout, taker, b"ticks:a", b"ticks:b", b"other", after=EARLIEST)
    drain(fanout)
    assert taker.positions == [3, *newest]


def test_an_event_of_several_channels_is_left_out_where_all_of_them_have_a_newer_one() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[TICKS])
    both = tick(log, "k", "old", (b"ticks:a", b"ticks:b"))
    newer = tick(log, "k", "new", b"ticks:a")
    taken: dict[tuple[bytes, ...], list[int]] = {}
    for channels in ((b"ticks:a",), (b"ticks:b",), (b"ticks:a", b"ticks:b")):
        taker = Taker()
        join(fanout, taker, *channels, after=EARLIEST)
        drain(fanout)
        taken[channels] = taker.positions
    assert taken == {
        (b"ticks:a",): [newer],
        (b"ticks:b",): [both],
        (b"ticks:a", b"ticks:b"): [both, newer],
    }


@pytest.mark.parametrize("patterns", [(), (b"ticks:*",)])
def test_who_resumes_gets_the_newest_of_each_key_and_no_false_gap(patterns: tuple[bytes, ...]) -> None:
    log = Log.private(4096)
    fanout = FanOut(log, rules=[TICKS])
    rare = tick(log, "rare")
    begun = tick(log, "0")
    for _ in range(20):
        for key in range(5):
            tick(log, str(key))
        fanout.index.take_in()
    assert log.position - begun == 100 > len(list(log.records())), "most of it is evicted"
    names = [] if patterns else [b"ticks:a"]
    taker = Taker()
    subscriber = fanout.subscribe(names, taker, patterns=patterns, after=begun)
    assert not subscriber.lost, "each value that is gone was superseded"
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    assert taker.positions == list(range(log.position - 4, log.position + 1))
    assert fanout.subscribe(names, Taker(), patterns=patterns, after=rare - 1).lost, "the last value of a key is gone"
    assert not fanout.subscribe(names, Taker(), patterns=patterns, after=rare).lost


def test_who_is_overtaken_by_the_log_on_a_conflated_channel_stays() -> None:
    log = Log.private(4096)
    fanout = FanOut(log, rules=[TICKS])
    slow, taker = blocked(fanout, log)
    for _ in range(50):
        for key in range(5):
            tick(log, str(key))
        drain(fanout)
    fanout.unblock(slow, 1.0)
    drain(fanout)
    assert not slow.closed
    assert taker.positions == list(range(log.position - 4, log.position + 1))
    assert fanout.gaps == fanout.slow == 0


def test_a_long_way_of_superseded_events_is_walked_in_bounded_steps() -> None:
    log = Log.private(8 << 20)
    fanout = FanOut(log, rules=[TICKS])
    slow, taker = blocked(fanout, log)
    for _ in range(20_000):
        tick(log, "a")
    last = tick(log, "a", "last")
    while fanout.index.take_in():
        pass
    most = before = fanout.index.steps
    fanout.unblock(slow, 1.0)
    longest = 0
    while fanout.drain(1.0, 0):
        longest = max(longest, fanout.index.steps - before)
        before = fanout.index.steps
        time.sleep(fanout.rest)
    assert taker.positions == [last]
    assert fanout.index.steps - most > 20_000
    assert longest < 10_000


def test_keys_beyond_those_that_are_remembered_cost_nobody_an_event() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[TICKS], keys=8)
    slow, taker = blocked(fanout, log)
    for turn in range(3):
        for key in range(100):
            tick(log, str(key), str(turn))
    drain(fanout)
    fanout.unblock(slow, 1.0)
    drain(fanout)
    assert taker.positions == sorted(taker.positions)
    assert set(range(log.position - 99, log.position + 1)) <= set(taker.positions), "the last of each key is there"


def test_a_channel_that_comes_again_knows_no_keys_of_before() -> None:
    log = Log.private(4096)
    fanout = FanOut(log, rules=[TICKS])
    for number in range(300):  # each is gone before it comes again, and others have its memory
        tick(log, "k", channel=b"ticks:%d" % (number % 60))
        fanout.index.take_in()
    taker = Taker()
    fanout.unblock(fanout.subscribe([], taker, patterns=[b"ticks:*"], after=EARLIEST), 0.0)
    drain(fanout)
    assert taker.positions == [record.position for record in log.records()]


def test_what_is_forgotten_stays_forgotten() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[TICKS])
    tick(log, "a")
    at = log.forget(b"ticks:a", b"event: $forgotten\ndata: {}\n\n")
    newer = [tick(log, "a"), tick(log, "b"), tick(log, "a")][1:]
    taker = Taker()
    join(fanout, taker, b"ticks:a", after=EARLIEST)
    drain(fanout)
    assert taker.positions == [at, *newer]


def test_a_log_with_keys_is_sound_and_reads_as_one_without() -> None:
    log = Log.private(1 << 16)
    tick(log, "a", channel=(b"ticks:a", b"b"))
    tick(log, "a")
    log.append(Keyed.of((b"x",), b"k"), b"data: y\n\n")
    log.append_many([(Keyed.of(b"x", b"k"), b"data: z\n\n"), (b"x", b"data: z\n\n")])
    assert [record.channels for record in log.records()] == [
        (b"ticks:a", b"b"),
        (b"ticks:a",),
        (b"x",),
        (b"x",),
        (b"x",),
    ]
    assert verify(log).events == 5


def test_streams_of_patterns_that_have_everything_stay_among_more_channels_than_can_be_asked() -> None:
    log = Log.private(1 << 21)
    fanout, taker = FanOut(log, rules=[TICKS]), Taker()
    subscriber = fanout.subscribe([], taker, patterns=[b"user:5:**"])
    fanout.unblock(subscriber, 0.0)
    first = log.append(b"user:5:x", b"data: x\n\n")
    for number in range(27_000):
        log.append(b"other:%d" % (number % 9000), b"data: %s\n\n" % bytes([120] * 200))
        if number % 500 == 0:
            drain(fanout)
    again = log.append(b"user:5:x", b"data: x\n\n")
    drain(fanout)
    assert next(log.records()).position > first, "what others published is evicted"
    assert taker.positions == [first, again]
    assert not subscriber.closed
    assert fanout.gaps == fanout.slow == 0


@pytest.mark.parametrize("patterns", [(), (b"ticks:*",)])
def test_what_is_behind_a_fork_supersedes_nothing_before_it(patterns: tuple[bytes, ...]) -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[TICKS])
    mark(log, "one", position=0)
    a, b = Keyed.of(b"ticks:a", b"a"), Keyed.of(b"ticks:a", b"b")
    append_at(log, [(1, b, b"data: first\n\n", 1), (2, a, b"data: kept\n\n", 1), (3, a, b"data: passed over\n\n", 1)])
    mark(log, "two", prev=2)
    append_at(log, [(1, b, b"data: last\n\n", 1)])
    seen = next(record.position for record in log.records() if record.channels)
    taker = Taker()
    names = [] if patterns else [b"ticks:a"]
    fanout.unblock(fanout.subscribe(names, taker, patterns=patterns, after=seen), 0.0)
    drain(fanout)
    told = b"".join(taker.got)
    assert b"data: kept" in told
    assert b"data: last" in told
    assert b"passed over" not in told


@pytest.mark.parametrize("patterns", [(), (b"ticks:*",)])
def test_nobody_misses_what_a_busy_channel_superseded_and_does_not_show(patterns: tuple[bytes, ...]) -> None:
    log = Log.private(8 << 20)
    fanout = FanOut(log, rules=[(b"ticks:*", 100, 0, True)])
    names = () if patterns else (b"ticks:a",)
    alone = log.append(b"ticks:a", b"data: x\n\n")
    ticks = [tick(log, str(number % 100)) for number in range(10_000)]
    while fanout.index.take_in():
        pass
    assert came(fanout, *names, patterns=patterns, after=ticks[0]) == (False, ticks[-100:])
    assert came(fanout, *names, patterns=patterns, after=alone) == (False, ticks[-100:])
    assert came(fanout, *names, patterns=patterns, after=alone - 1)[0], "nothing superseded that one"


# ---- what is kept ----------------------------------------------------------------------------------------------------


def numbered(log: Log, channel: bytes, count: int) -> list[int]:
    return [log.append(channel, b"data: x\n\n") for _ in range(count)]


def came(fanout: FanOut, *channels: bytes, patterns: tuple[bytes, ...] = (), **options: Any) -> tuple[bool, list[int]]:
    """Whether one that begins so is told of a gap, and what it gets."""
    taker = Taker()
    subscriber = fanout.subscribe(channels, taker, patterns=patterns, **options)
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    fanout.unsubscribe(subscriber)
    return subscriber.lost, taker.positions


KEEP = (b"few:*", 3, 0, False)


@pytest.mark.parametrize("how", ["named", "pattern"])
def test_who_comes_back_is_shown_as_many_as_the_namespace_keeps_and_told_of_the_rest(how: str) -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[KEEP])
    which: dict[str, Any] = {"channels": (b"few:a",)} if how == "named" else {"channels": (), "patterns": (b"few:*",)}

    def begun(**options: Any) -> tuple[bool, list[int]]:
        return came(fanout, *which["channels"], patterns=which.get("patterns", ()), **options)

    there = numbered(log, b"few:a", 10)
    assert begun(after=EARLIEST) == (False, there[-3:])
    assert begun(history=2) == (False, there[-2:])
    assert begun(history=8) == (False, there[-3:])
    assert begun(after=there[6]) == (False, there[-3:])
    assert begun(after=there[8]) == (False, there[-1:])
    assert begun(after=there[5]) == (True, there[-3:])
    assert begun(after=there[0]) == (True, there[-3:])
    assert begun() == (False, [])
    assert shown(fanout.index, b"few:a", 0) == 3


@pytest.mark.parametrize("enveloped", [False, True])
def test_who_is_there_gets_all_whatever_is_kept(enveloped: bool) -> None:
    log = Log.private(1 << 20)
    fanout, taker = FanOut(log, rules=[KEEP]), Taker()
    fanout.unblock(fanout.subscribe([b"few:a", b"many"], taker, enveloped=enveloped), 0.0)
    slow, late = blocked(fanout, log, b"few:a")
    there = numbered(log, b"few:a", 50)
    drain(fanout)
    assert taker.positions[1:] == there
    fanout.unblock(slow, 1.0)
    drain(fanout)
    assert late.positions == there, "it was there when they came"


@pytest.mark.parametrize("how", ["named", "pattern"])
def test_what_one_channel_does_not_keep_costs_the_others_of_a_stream_nothing(how: str) -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[KEEP])
    names, patterns = ((b"few:a", b"all"), ()) if how == "named" else ((b"all",), (b"few:*",))
    begun = log.append(b"all", b"data: 0\n\n")
    expected = []
    for _ in range(5):
        numbered(log, b"few:a", 4)
        expected += numbered(log, b"all", 1)
    last = numbered(log, b"few:a", 4)[1:]
    taker = Taker()
    subscriber = fanout.subscribe(names, taker, patterns=patterns, after=begun)
    assert subscriber.lost
    assert subscriber.position == begun
    assert last[0] - 1 <= fanout.gone_until(subscriber) <= log.position
    fanout.unblock(subscriber, 0.0)
    drain(fanout)
    assert taker.positions == [*expected, *last]
    assert came(fanout, *names, patterns=patterns, history=5)[1] == [*expected[-2:], *last]
    assert came(fanout, *names, patterns=patterns, after=last[0] - 1) == (False, last)


def test_what_comes_while_somebody_catches_up_is_not_hidden() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[KEEP], piece=1)
    numbered(log, b"few:a", 5)
    there = [log.append(b"all", b"data: x\n\n") for _ in range(2)]
    few = numbered(log, b"few:a", 3)
    taker = Taker()
    subscriber = fanout.subscribe([b"few:a", b"all"], taker, after=EARLIEST)
    fanout.unblock(subscriber, 0.0)
    fanout.drain(0.0, 0)
    new = numbered(log, b"few:a", 20)
    drain(fanout)
    assert taker.positions == [*there, *few, *new]


def test_who_is_told_of_a_gap_is_shown_no_more_for_it() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[KEEP], piece=1)
    begun = numbered(log, b"all", 1)[0]
    numbered(log, b"gone", 5)
    few = numbered(log, b"few:a", 10)
    while fanout.index.take_in():
        pass
    taker = Taker()
    subscriber = fanout.subscribe([b"all", b"few:a", b"gone"], taker, after=begun - 1)
    fanout.unblock(subscriber, 0.0)
    fanout.drain(0.0, 0)
    forgotten = log.forget(b"gone", b"event: $forgotten\ndata: {}\n\n")
    drain(fanout)
    assert b"".join(taker.got).count(b"event: $gap\n") == 1
    assert [position for position in taker.positions if position in few] == few[-3:]
    assert taker.positions[-1] == forgotten


def test_what_is_older_than_the_namespace_keeps_is_not_shown() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log, rules=[(b"young", 0, 60_000, False)])
    now = round(1000 * time.time())
    mark(log, "outside", position=0)
    ages = [*range(400_000, 100_000, -1000), 90_000, 30_000, 1000]
    append_at(log, [(at, b"young", b"data: x\n\n", now - age) for at, age in enumerate(ages, 1)])
    while fanout.index.take_in():
        pass
    young = [record.position for record in log.records() if record.channels][-2:]
    assert shown(fanout.index, b"young", now) == 2
    assert [shown(fanout.index, b"young", now + later) for later in (-31_000, 45_000, 90_000)] == [3, 1, 0]

    def begun(**options: Any) -> tuple[bool, int]:
        taker = Taker()
        subscriber = fanout.subscribe([b"young"], taker, **options)
        fanout.unblock(subscriber, 0.0)
        drain(fanout)
        return subscriber.lost, b"".join(taker.got).count(b"data: x")

    assert begun(after=EARLIEST) == begun(history=50) == (False, 2)
    assert begun(after=young[0] - 1) == (False, 2)
    assert begun(after=young[0] - 2) == (True, 2)
    assert begun(after=young[0]) == (False, 1)


# ---- by HTTP ---------------------------------------------------------------------------------------------------------

NAMESPACES = [
    {"pattern": "ticks:*", "conflate": True},
    {"pattern": "few:*", "keep": 2},
    {"pattern": "old", "max_age": "1h"},
]


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_key_may_be_given_in_every_form_and_who_resumes_is_handed_the_newest(transport: Transport) -> None:
    lines = {"content-type": "application/x-ndjson"}
    async with EdgeClient.opened(transport, namespace=NAMESPACES) as client:
        begun = (await client.http.post("/publish/ticks/a", content=b"begun")).json()["id"]

        def event(data: str, key: str | None = "k") -> dict[str, Any]:
            return {"channel": "ticks:a", "data": data, "conflate_key": key}

        for request in (
            {"url": "/publish/ticks/a?conflate_key=k", "content": b"raw"},
            {"url": "/publish", "json": event("object")},
            {"url": "/publish", "json": [event("array"), event("no key", None)]},
            {"url": "/publish", "content": json.dumps(event("line")), "headers": lines},
        ):
            assert (await client.http.post(**request)).status_code == 200, request  # type: ignore[arg-type]
        await client.edge.hub.publish("ticks:a", "last", conflate_key="k")
        async with client.stream("/sse/ticks:a", last_event_id=begun) as stream:
            connected, *events = await stream.take(3)
        assert json.loads(connected.data)["resume"] == "complete"
        assert [event.data for event in events] == ["no key", "last"]


@pytest.mark.parametrize("key", ["", "x" * 256, 3, ["a"]])
async def test_what_is_no_conflation_key_is_refused(key: Any) -> None:
    hub = Hub()
    with pytest.raises(InvalidEvent, match="conflate_key"):
        await hub.publish("a", "x", conflate_key=key)


async def test_another_conflation_key_is_another_event_to_an_idempotency_key() -> None:
    async with Hub() as hub:
        once = await hub.publish("a", "x", conflate_key="k", key="once")
        assert await hub.publish("a", "x", conflate_key="k", key="once") == once
        for other in (None, "other"):
            with pytest.raises(KeyReused):
                await hub.publish("a", "x", conflate_key=other, key="once")


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_gap_tells_of_what_a_namespace_does_not_keep_and_channels_count_what_is_shown(
    transport: Transport,
) -> None:
    async with EdgeClient.opened(transport, namespace=NAMESPACES) as client:
        hub = client.edge.hub
        begun = await hub.publish("all", "0")
        few = [await hub.publish("few:a", str(number)) for number in range(3)]
        beside = await hub.publish("all", "1")
        few += [await hub.publish("few:a", str(number)) for number in (3, 4)]
        async with client.stream("/sse?channel=few:a&channel=all", last_event_id=str(begun)) as stream:
            connected, gap, *events = await stream.take(5)
        assert json.loads(connected.data)["resume"] == "gap"
        assert json.loads(gap.data) == {"after": str(begun), "until": str(few[2]), "positions": 3}
        assert gap.id == str(begun), "who is cut here is told again"
        assert [event.id for event in events] == [str(beside), *map(str, few[-2:])]
        async with client.stream("/sse/few:a", last_event_id=str(begun)) as stream:
            _, gap, *events = await stream.take(4)
        assert gap.id == json.loads(gap.data)["until"] == str(few[2])
        assert [event.id for event in events] == [str(id) for id in few[-2:]]
        async with by_asgi(client.edge) as operator:
            listed = (await operator.get("/channels", params={"prefix": "few"})).json()["channels"]
            assert [(each["name"], each["kept"]) for each in listed] == [("few:a", 2)]
            assert (await operator.get("/channels/few:a")).json()["kept"] == 2


@pytest.mark.parametrize("drop", [1, 1024])
@pytest.mark.parametrize("patterns", [(), (b"ticks:*",)])
def test_what_a_newer_event_superseded_that_is_behind_a_fork_is_missed(patterns: tuple[bytes, ...], drop: int) -> None:
    log = Log.private(4096)
    fanout = FanOut(log, rules=[TICKS], drop=drop)
    mark(log, "one")
    first = append_at(log, [(1, Keyed.of(b"ticks:a", b"k"), b"data: old\n\n", 1)])
    number = 1
    while next(log.records()).position <= first:
        number += 1
        channel = Keyed.of(b"ticks:a", b"k") if number == 12 else b"noise"
        append_at(log, [(number, channel, b"data: new\n\n", 1)])
        fanout.index.take_in()
    mark(log, "two", prev=1)
    fanout.index.take_in()
    names = [] if patterns else [b"ticks:a"]
    assert fanout.subscribe(names, Taker(), patterns=patterns, after=log.cursor("one", 0)).lost
    assert not fanout.subscribe(names, Taker(), patterns=patterns, after=log.cursor("one", 1)).lost


@pytest.mark.parametrize("transport", list(Transport))
async def test_each_worker_knows_what_another_one_s_events_supersede(transport: Transport) -> None:
    node = Node.create(create_shared(segment_size(1 << 20)), workers=2)
    slots = [WorkerSlot.claim(node.environment()) for _ in range(2)]
    native = transport is Transport.NATIVE
    entrances = [entrance_at() if native else None for _ in slots]
    settings = Settings(namespace=NAMESPACES)  # type: ignore[arg-type]
    one, other = (Edge(settings, slot=slot, entrance=entered) for slot, entered in zip(slots, entrances, strict=True))
    for edge in (one, other):
        edge._start_up()
    try:
        begun = await one.hub.publish("ticks:a", "begun")
        for value in range(3):
            for key in "ab":
                await one.hub.publish("ticks:a", f"{key}{value}", conflate_key=key)
        async with EdgeClient(other) as client:
            async with client.stream("/sse/ticks:a", last_event_id=str(begun)) as stream:
                events = await stream.take(3)
            await client.edge.hub.publish("ticks:a", "a3", conflate_key="a")
            async with client.stream("/sse/ticks:a", last_event_id=str(begun)) as stream:
                later = await stream.take(3)
        assert [event.data for event in events[1:]] == ["a2", "b2"]
        assert [event.data for event in later[1:]] == ["b2", "a3"]
    finally:
        for edge in (one, other):
            await edge.close()
        node.close()
