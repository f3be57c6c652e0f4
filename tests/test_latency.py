"""How long it takes from a publish to a socket, how long a drain, how late the loop: counted, and never guessed at."""

import asyncio
import math
import time
from bisect import bisect_left
from typing import Any

import pytest
from front_port import FrontPort, by_asgi, edge_of
from hypothesis import given
from hypothesis import strategies as st
from support import until
from test_fanout import Taker, drain, fill, join
from test_metrics import scraped

from sse_fast._native.base.histogram import BOUNDS, Histogram
from sse_fast._native.fanout.drain import FanOut
from sse_fast._native.log.ring import Log, segment_size
from sse_fast.edge.lag import EVERY, LoopLag
from sse_fast.node.segment import create_shared
from sse_fast.node.workers import Node, WorkerSlot

GET = b"GET /sse/a HTTP/%b\r\nHost: localhost\r\n\r\n"


@given(st.lists(st.tuples(st.floats(0, 20) | st.sampled_from(BOUNDS), st.integers(0, 1000)), max_size=20))
def test_a_time_counts_under_the_first_bound_that_holds_it(times: list[tuple[float, int]]) -> None:
    histogram, counts, total = Histogram(), [0] * (len(BOUNDS) + 1), 0
    for seconds, count in times:
        histogram.observe(seconds, count)
        counts[bisect_left(BOUNDS, math.floor(1e9 * seconds) / 1e9)] += count
        total += math.floor(1e9 * seconds) * count
    assert (histogram.counts, histogram.nanoseconds) == (counts, total)


def test_what_took_no_time_or_less_counts_as_none() -> None:
    histogram = Histogram()
    histogram.observe(-1.0)
    assert (histogram.counts[0], histogram.nanoseconds) == (1, 0)


# ---- from a publish to a socket --------------------------------------------------------------------------------------


def test_each_delivery_of_news_counts_once() -> None:
    log = Log.private(1 << 20)
    fanout, takers = FanOut(log), [Taker() for _ in range(100)]
    for taker in takers:
        join(fanout, taker, b"a")
    join(fanout, Taker(), b"a", b"b")
    fill(log, b"a", 3)
    drain(fanout)
    fill(log, b"b", 2)
    drain(fanout)
    assert sum(fanout.latency.counts) == fanout.deliveries == 3 * 101 + 2


def test_it_counts_from_the_publish_on() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    join(fanout, Taker(), b"a")
    begun = time.monotonic()
    fill(log, b"a", 1)
    time.sleep(0.03)
    drain(fanout)
    took = time.monotonic() - begun
    assert 0.025 <= fanout.latency.nanoseconds / 1e9 <= took + 0.002
    assert fanout.latency.counts.index(1) >= bisect_left(BOUNDS, 0.025)


def test_what_is_caught_up_on_says_nothing_of_the_server_and_does_not_count() -> None:
    log = Log.private(1 << 20)
    fanout, slow = FanOut(log), Taker(blocks=True)
    fill(log, b"a", 5)
    join(fanout, Taker(), b"a", after=0)
    join(fanout, Taker(), b"a", history=2)
    drain(fanout)
    assert (sum(fanout.latency.counts), fanout.deliveries) == (0, 7)
    blocked = join(fanout, slow, b"a")
    fill(log, b"a", 1)
    drain(fanout)
    assert sum(fanout.latency.counts) == 3
    fill(log, b"a", 1)
    drain(fanout)
    fanout.unblock(blocked, 0.0)
    drain(fanout)
    assert len(slow.positions) == 2
    assert sum(fanout.latency.counts) == 5


def test_what_is_no_event_of_the_log_does_not_count() -> None:
    fanout = FanOut(Log.private(1 << 20))
    join(fanout, Taker(), b"a")
    fanout.say(b"a", b"data: now\n\n", 0.0)
    fanout.beat(100.0, 1.0, 10)
    assert (sum(fanout.latency.counts), fanout.writes) == (0, 2)


def test_the_last_of_all_who_listen_counts_once_for_each_event() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    for _ in range(100):
        join(fanout, Taker(), b"a")
    sink, sinks = Taker(), fanout.deliveries
    join(fanout, sink, b"b")
    fill(log, b"a", 1)
    drain(fanout)
    assert (sum(fanout.last.counts), fanout.deliveries - sinks) == (1, 100)
    fill(log, b"b", 3)
    drain(fanout)
    assert sum(fanout.last.counts) == 4
    drain(fanout)
    assert sum(fanout.last.counts) == 4


def test_the_last_one_is_waited_for() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    first, slow = Taker(), Taker()
    join(fanout, first, b"a")
    join(fanout, slow, b"a")
    slow.write = lambda data: bool(time.sleep(0.02)) or True  # type: ignore[method-assign]
    fill(log, b"a", 1)
    drain(fanout)
    assert fanout.last.nanoseconds >= 15_000_000
    assert sum(fanout.last.counts) == 1


def test_who_waits_for_a_client_is_not_waited_for() -> None:
    log = Log.private(1 << 20)
    fanout, blocked = FanOut(log), Taker(blocks=True)
    join(fanout, blocked, b"a")
    fill(log, b"a", 1)
    drain(fanout)
    fill(log, b"a", 1)
    drain(fanout)
    assert sum(fanout.last.counts) == 1
    assert fanout.blocked == 1


def test_those_who_have_waited_longest_come_first() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    waiting = []
    for now in (30.0, 10.0, 20.0):
        waiting.append(join(fanout, Taker(blocks=True), b"%d" % now))
        fill(log, b"%d" % now, 1)
        fanout.drain(now)
    assert fanout.parked(10, 1000) == [waiting[1], waiting[2], waiting[0]]
    assert fanout.parked(1, 1000) == [waiting[1]]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_events_that_native_sockets_are_sent_count(version: bytes) -> None:
    async with FrontPort.opened() as port:
        clients = [port.connect(GET % version) for _ in range(70)]  # more than one volley
        try:
            await until(lambda: port.hub.fanout.connections == 70)
            for _ in range(3):
                await port.hub.publish("a", "x")
                await until(lambda: not port.hub.fanout.busy)
            await until(lambda: port.hub.fanout.deliveries == 210)
            assert sum(port.hub.fanout.latency.counts) == 210
            port.hub.log.append(b"a", b"data: x\n\n")
            time.sleep(0.02)  # noqa: ASYNC251
            port.hub.look()
            await until(lambda: port.hub.fanout.deliveries == 280)
            assert port.hub.fanout.latency.nanoseconds >= 70 * 15_000_000
        finally:
            for client in clients:
                client.close()


# ---- the drain, and the loop -----------------------------------------------------------------------------------------


def test_each_drain_is_counted_with_what_it_took() -> None:
    log = Log.private(1 << 20)
    fanout = FanOut(log)
    sink = Taker()
    join(fanout, sink, b"a")
    before = sum(fanout.drains.counts)
    fill(log, b"a", 1)
    sink.write = lambda data: bool(time.sleep(0.02)) or True  # type: ignore[method-assign]
    fanout.drain(0.0)
    assert sum(fanout.drains.counts) == before + 1
    assert fanout.drains.nanoseconds >= 20_000_000


async def test_what_holds_the_loop_up_is_seen() -> None:
    lag = LoopLag()
    lag.start()
    lag.start()
    await asyncio.sleep(EVERY / 2)
    time.sleep(EVERY)  # noqa: ASYNC251
    await until(lambda: sum(lag.seconds.counts) >= 2)
    lag.stop()
    assert lag.seconds.nanoseconds >= 1e9 * EVERY / 2 * 0.9
    seen = sum(lag.seconds.counts)
    await asyncio.sleep(EVERY * 1.5)
    assert sum(lag.seconds.counts) == seen, "it is over"


# ---- for others ------------------------------------------------------------------------------------------------------


def buckets(families: dict[str, Any], name: str) -> dict[str, float]:
    return {
        sample.labels["le"]: sample.value
        for sample in families[f"sse_fast_{name}"].samples
        if sample.name.endswith("_bucket")
    }


@pytest.mark.parametrize("name", ["delivery_seconds", "drain_seconds", "loop_lag_seconds"])
async def test_metrics_and_stats_have_them_as_prometheus_has_histograms(name: str) -> None:
    async with edge_of() as edge:
        edge.metrics.lag.seconds.observe(0.2)
        sinks = [Taker(), Taker()]
        for sink in sinks:
            edge.hub.attach(["a"], sink).start()
        await edge.hub.publish("a", "x")
        await until(lambda: edge.hub.fanout.deliveries == 2)
        families = await scraped(edge)
        family = families[f"sse_fast_{name}"]
        assert family.type == "histogram"
        found = buckets(families, name)
        assert [*map(float, found)] == [*BOUNDS, math.inf]
        assert list(found.values()) == sorted(found.values()), "each holds those below"
        assert found["+Inf"] > 0
        told = (await by_asgi(edge).get("/stats")).json()["histograms"][name]
        assert [float(bound) for bound in told["le"]] == [*BOUNDS, math.inf]
        assert told["le"]["+Inf"] >= found["+Inf"]
        assert told["sum"] >= 0


async def test_a_node_s_are_those_of_all_its_workers() -> None:
    node = Node.create(create_shared(segment_size(1 << 20)), workers=2)
    async with (
        edge_of(slot=WorkerSlot.claim(node.environment())) as one,
        edge_of(slot=WorkerSlot.claim(node.environment())) as other,
    ):
        one.metrics.lag.seconds.observe(7.0)
        other.metrics.lag.seconds.observe(7.0, 2)
        other.metrics.say()
        told = one.metrics.snapshot()["histograms"]["loop_lag_seconds"]
        assert told["le"]["10.0"] - told["le"]["5.0"] == 3
        assert told["sum"] >= 21
    node.close()
