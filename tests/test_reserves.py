"""What a namespace reserves of the log is its own: whatever others publish, its history is whole, to its share; who
comes back is handed it, in order and once, and is told of no gap that is none."""

import json
import mmap
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edge_client import EdgeClient
from front_port import by_asgi, entrance_at
from model import parse
from test_log_dying_writers import memories_on_the_way

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.groups import Subscriber
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.outside import append_at, mark
from sse_fast._native.log.retention import shown
from sse_fast._native.log.ring import HEADER_SIZE, Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.access.namespaces import Namespace, reserves_of
from sse_fast.edge.app import Edge
from sse_fast.embed.hub import Hub
from sse_fast.errors import EventTooLarge
from sse_fast.node.segment import open_log_file
from sse_fast.node.serve import create_node
from sse_fast.node.workers import WorkerSlot
from sse_fast.settings import BadSettings, Settings
from sse_fast.transports.life import Transport

LOG_SIZE = 4096
ORDERS = [(b"orders:*", 4096)]
TWO = [(b"orders:eu", 4096), (b"orders:*", 8192)]


def body(size: int) -> bytes:
    return b"data: %s\n\n" % (b"x" * size)


def flood(log: Log, times: int = 10, channel: bytes = b"noise") -> None:
    """Publish so many times what the log keeps."""
    end = log.head + times * log.capacity
    while log.head < end:
        log.append(channel, body(200))


class Client(Sink):
    """A stream, and what its client has read of it."""

    def __init__(self) -> None:
        self.stream = b""
        self.blocks = False
        self.gone_until = 0

    def write(self, data: bytes) -> bool:
        self.stream += data
        return not self.blocks

    @property
    def ids(self) -> list[str]:
        return [line[4:].decode() for line in self.stream.split(b"\n") if line.startswith(b"id: ")]

    @property
    def read(self) -> list[int]:
        return [frame.position for frame in parse(self.stream) if not frame.event.startswith("$")]


def drain(fanout: FanOut) -> None:
    for _ in range(10_000):
        if not fanout.drain(0.0):
            return
    raise AssertionError("the drain does not come to rest")


def come_back(
    fanout: FanOut,
    channels: Sequence[bytes],
    after: int | None,
    *,
    patterns: Sequence[bytes] = (),
    history: int = 0,
    enveloped: bool = False,
) -> tuple[Client, Subscriber]:
    client = Client()
    native = fanout.subscribe(channels, client, patterns=patterns, after=after, history=history, enveloped=enveloped)
    client.gone_until = fanout.gone_until(native)
    fanout.unblock(native, 0.0)
    drain(fanout)
    return client, native


def test_a_flood_of_ten_times_the_log_takes_nothing_of_what_is_reserved() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    orders = [log.append(b"orders:7", body(20)) for _ in range(20)]
    flood(log)
    fanout = FanOut(log)
    client, native = come_back(fanout, [b"orders:7"], orders[4])
    assert (client.read, native.lost) == (orders[5:], False)
    _, native = come_back(fanout, [b"noise"], orders[4])
    assert native.lost


def test_history_goes_back_into_the_reserve_and_on_into_the_log() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    orders = [log.append(b"orders:7", body(20)) for _ in range(10)]
    flood(log)
    orders += [log.append(b"orders:7", body(20)) for _ in range(5)]
    fanout = FanOut(log)
    assert come_back(fanout, [b"orders:7"], EARLIEST)[0].read == orders
    assert come_back(fanout, [b"orders:7"], None, history=8)[0].read == orders[-8:]
    assert come_back(fanout, [b"orders:7"], None, history=3)[0].read == orders[-3:]
    assert come_back(fanout, [], None, patterns=[b"orders:*"], history=8)[0].read == orders[-8:]
    assert fanout.to_replay([b"orders:7"], after=orders[0]) > 0
    assert shown(fanout.index, b"orders:7", 1) == len(orders)


def test_a_reserve_gives_up_its_own_oldest_and_that_is_told() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    orders = [log.append(b"orders:7", body(200)) for _ in range(60)]
    flood(log)
    kept = [record.position for record in log.reserves[0].records()]
    assert kept == orders[-len(kept) :]
    assert 10 < len(kept) < 60
    client, native = come_back(fanout, [b"orders:7"], orders[0])
    assert (client.read, native.lost) == (kept, True)
    client, native = come_back(fanout, [b"orders:7"], kept[0] - 1)
    assert (client.read, native.lost) == (kept, False)


def test_a_stream_of_both_kinds_is_told_of_what_is_gone_and_handed_what_is_reserved() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    orders = [log.append(b"orders:7", body(20)) for _ in range(5)]
    flood(log)
    orders.append(log.append(b"orders:7", body(20)))
    kept = [record.position for record in log.records()]
    for channels, patterns in (([b"noise", b"orders:7"], []), ([b"noise"], [b"orders:*"]), ([], [b"**"])):
        client, native = come_back(fanout, channels, orders[1], patterns=patterns)
        assert native.lost, "the noise is gone, and that is told"
        assert client.read == sorted({*orders[2:], *kept})
        assert orders[4] < client.gone_until < kept[0]
        # And once: who comes back from there is in the midst of the reserve, and goes on behind it.
        log.append(b"orders:7", body(20))
        orders.append(log.position)
        drain(fanout)
        kept = [record.position for record in log.records()]
        assert client.read[-1] == orders[-1]


def test_streams_of_several_reserves_get_them_in_one_order() -> None:
    log = Log.private(LOG_SIZE, reserves=TWO)
    fanout = FanOut(log)
    orders = []
    for number in range(40):
        name = b"orders:eu" if number % 3 else b"orders:us"
        orders.append(log.append((b"orders:eu", b"orders:us") if number % 7 == 0 else name, body(5)))
    for _ in range(400):
        log.append(b"noise", body(100))
        drain(fanout)
    for channels, patterns in (([b"orders:eu", b"orders:us"], []), ([], [b"orders:*"]), ([b"orders:us"], [b"*:eu"])):
        client, native = come_back(fanout, channels, orders[0], patterns=patterns)
        assert (client.read, native.lost) == (orders[1:], False)


@pytest.mark.parametrize("pattern", [b"orders:*", b"parcels:*", b"**"])
@pytest.mark.parametrize("between", [False, True])
def test_what_several_reserves_have_comes_to_the_streams_of_each(pattern: bytes, between: bool) -> None:
    """Each has the same event, and it is handed out of the one that has a channel of the stream's: nothing is lost."""
    log = Log.private(LOG_SIZE, reserves=[(b"orders:*", 4096), (b"parcels:*", 4096)])
    before, both = log.append(b"noise", body(20)), []
    for _ in range(6):
        both.append(log.append((b"orders:1", b"parcels:1"), body(20)))
        if between:
            log.append(b"noise", body(20))
    flood(log)
    fanout = FanOut(log)
    client, native = come_back(fanout, [], both[0], patterns=[pattern])
    assert client.read == [*both[1:], *[position for position in client.read if position > both[-1]]]
    assert native.lost == (pattern == b"**")
    client, _ = come_back(fanout, [b"orders:1"], before, patterns=[pattern])
    assert [position for position in client.read if position <= both[-1]] == both


@pytest.mark.parametrize("name", [b"orders:1", b"parcels:1"])
def test_what_one_namespace_shows_no_more_another_does(name: bytes) -> None:
    """Of an event of both, one keeps the newest alone for who comes back, and is asked first."""
    log = Log.private(LOG_SIZE, reserves=[(b"orders:*", 4096), (b"parcels:*", 4096)])
    before = log.append(b"noise", body(20))
    both = [log.append((b"orders:1", b"parcels:1"), body(20)) for _ in range(6)]
    flood(log)
    fanout = FanOut(log, rules=[(name, 1, 0, False)])
    for patterns in ([], [b"orders:*", b"parcels:*"]):
        named = [] if patterns else [b"orders:1", b"parcels:1"]
        assert come_back(fanout, named, before, patterns=patterns)[0].read == both


def test_one_of_several_channels_is_enough_and_it_keeps_no_history_of_the_others() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    first = log.append((b"orders:7", b"noise"), body(20))
    second = log.append(b"orders:7", body(20))
    flood(log)
    client, native = come_back(fanout, [b"orders:7"], 0)
    assert (client.read, native.lost) == ([first, second], False)
    client, native = come_back(fanout, [b"noise"], 0)
    assert native.lost
    assert first not in client.read


def test_envelopes_of_what_is_reserved_say_their_channels() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    position = log.append(b"orders:7", b"data: one\n\n")
    log.append(b"noise", b"data: other\n\n")
    come_back(fanout, [b"noise"], 0, enveloped=True)
    flood(log)
    for _ in range(2):
        client, _ = come_back(fanout, [b"orders:7"], 0, enveloped=True)
        (frame,) = parse(client.stream)
        assert frame.position == position
        data = client.stream.split(b"data: ")[1].split(b"\n")[0]
        assert json.loads(data)["channel"] == "orders:7"


def test_who_is_there_when_it_comes_gets_it_from_the_log_and_who_lags_from_the_reserve() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    quick, _ = come_back(fanout, [b"orders:7"], None)
    slow, native = come_back(fanout, [b"orders:7"], None)
    slow.blocks = True
    orders = []
    for _ in range(20):
        orders.append(log.append(b"orders:7", body(20)))
        flood(log, 1)
        drain(fanout)
    assert quick.read == orders
    assert len(slow.read) == 1
    slow.blocks = False
    fanout.unblock(native, 0.0)
    drain(fanout)
    assert slow.read == orders
    assert fanout.gaps == fanout.slow == 0


@pytest.mark.parametrize("patterns", [[], [b"orders:*"]])
def test_what_a_reserve_gives_up_while_a_stream_lags_is_told(patterns: list[bytes]) -> None:
    """Also to one that missed nothing when it began."""
    log = Log.private(LOG_SIZE, reserves=[(b"orders:*", 4096), (b"parcels:*", 4096)])
    fanout = FanOut(log, skip=True)
    before = [log.append(b"noise", body(200)) for _ in range(20)][-1]
    orders = [log.append((b"orders:1", b"parcels:1"), body(200)) for _ in range(10)]
    flood(log)
    drain(fanout)
    client = Client()
    named = [] if patterns else [b"orders:1", b"parcels:1"]
    native = fanout.subscribe(named, client, patterns=patterns, after=before)
    assert not native.lost
    orders += [log.append((b"orders:2", b"parcels:2"), body(200)) for _ in range(8)]
    flood(log)
    fanout.unblock(native, 0.0)
    drain(fanout)
    assert orders[0] not in client.read
    assert b"event: $gap" in client.stream


def test_what_a_channel_forgets_its_reserve_forgets_too() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    old = [log.append(b"orders:7", body(20)) for _ in range(3)]
    other = log.append(b"orders:8", body(20))
    flood(log, 3)
    drain(fanout)
    said = log.forget(b"orders:7", b"event: $forgotten\ndata: {}\n\n")
    new = log.append(b"orders:7", body(20))
    for _ in range(2):
        client, native = come_back(fanout, [b"orders:7"], old[0])
        assert (client.read, native.lost) == ([new], True)
        client, native = come_back(fanout, [b"orders:7"], old[0], patterns=[b"orders:*"])
        assert not set(client.read) & set(old)
        assert shown(fanout.index, b"orders:7", 1) == 2
        assert {other, new} <= set(client.read)
        flood(log, 3)
    assert said < new


@pytest.mark.parametrize("drop", [1, 1024])
def test_what_came_after_a_channel_forgot_is_handed_out_of_its_reserve(drop: int) -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log, drop=drop)
    for _ in range(40):
        log.append(b"noise", body(0))
    log.append(b"orders:7", body(0))
    client, _ = come_back(fanout, [b"orders:7"], None)
    log.forget(b"orders:7", b"event: $forgotten\ndata: {}\n\n")
    drain(fanout)
    orders = [log.append(b"orders:7", body(0)) for _ in range(2)]
    while next(log.records()).position <= orders[-1]:
        log.append(b"noise", body(200))
    drain(fanout)
    assert client.read == orders


def test_what_is_gone_of_a_reserved_pattern_is_not_looked_for_in_every_channel() -> None:
    """Of more channels than are asked one by one, it is known of all together: no stream's opening walks over them."""
    log = Log.private(1 << 22, reserves=[(b"orders:*", 1 << 20)])
    fanout = FanOut(log)
    for number in range(10_000):
        log.append(b"orders:%d" % number, body(20))
    flood(log, 1)
    for number in range(10_000):
        log.append(b"orders:%d" % number, body(20))
    forgot = log.forget(b"orders:5", body(0))
    while fanout.index.take_in():
        pass
    assert len(fanout.index) > 10_000
    for after, lost in ((1, True), (forgot - 1, False)):
        before = fanout.index.steps
        native = fanout.subscribe([], Client(), patterns=[b"orders:*"], after=after)
        assert (native.lost, fanout.index.steps - before < 10_000) == (lost, True)
        fanout.unsubscribe(native)


def test_keep_counts_what_is_reserved_and_what_the_log_has_together() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log, rules=[(b"orders:*", 4, 0, False)])
    orders = [log.append(b"orders:7", body(20)) for _ in range(6)]
    flood(log)
    orders += [log.append(b"orders:7", body(20)) for _ in range(2)]
    client, native = come_back(fanout, [b"orders:7"], EARLIEST)
    assert client.read == orders[-4:]
    client, native = come_back(fanout, [b"orders:7"], orders[0])
    assert (client.read, native.lost) == (orders[-4:], True)
    client, native = come_back(fanout, [b"orders:7"], orders[-4])
    assert (client.read, native.lost) == (orders[-3:], False)
    client, native = come_back(fanout, [b"orders:7", b"quiet"], orders[0])
    assert (client.read, native.lost) == (orders[-4:], True)


def test_an_event_that_a_reserve_could_not_keep_is_refused() -> None:
    log = Log.private(65536, reserves=ORDERS)
    assert log.largest_record == 1024
    with pytest.raises(EventTooLarge):
        log.append(b"orders:7", body(2000))


def test_what_a_reserve_keeps_is_counted() -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    log.append(b"orders:7", body(20))
    assert log.reserved == 0
    flood(log, 1)
    assert 0 < log.reserved < 200


@pytest.mark.parametrize("patterns", [(), (b"orders:*",)])
def test_what_is_behind_a_fork_is_not_handed_out_of_a_reserve(patterns: tuple[bytes, ...]) -> None:
    log = Log.private(LOG_SIZE, reserves=ORDERS)
    fanout = FanOut(log)
    mark(log, "one")
    append_at(log, [(number, b"orders:7", body(20), 1) for number in range(1, 11)])
    drain(fanout)
    for number in range(11, 60):
        append_at(log, [(number, b"noise", body(200), 1)])
        drain(fanout)
    mark(log, "two", prev=5)
    append_at(log, [(number, b"orders:7", body(20), 1) for number in range(1, 4)])
    names = [] if patterns else [b"orders:7"]
    client, native = come_back(fanout, names, log.cursor("one", 2), patterns=patterns)
    assert client.ids == ["one-3", "one-4", "one-5", "two-0", "two-1", "two-2", "two-3"]
    assert not native.lost, "the mark tells it"
    client, native = come_back(fanout, names, log.cursor("one", 7), patterns=patterns)
    assert (client.ids, native.lost) == (["two-1", "two-2", "two-3"], True)


@pytest.mark.parametrize("reserves", [ORDERS, TWO])
@pytest.mark.parametrize("checksums", [False, True])
def test_a_writer_that_dies_at_any_instruction_loses_nothing_that_is_reserved(
    reserves: list[tuple[bytes, int]], checksums: bool
) -> None:
    memory = mmap.mmap(-1, segment_size(LOG_SIZE, reserves))
    log = Log(memory, epoch="dyingwri", checksums=checksums, reserves=reserves)
    orders = []
    for number in range(45):  # so that what is appended evicts some, and from the reserve too
        names = (b"orders:eu", b"orders:us", b"noise") if number % 5 == 0 else (b"orders:us",)
        orders.append(log.append(names if number % 5 == 0 else b"orders:us", body(110)))
    batch = [(b"noise", body(400)), (b"orders:eu", body(30)), (b"noise", body(200))]
    tail = log.tail
    on_the_way = memories_on_the_way(memory, lambda log: log.append_many(batch), log)
    assert log.tail > tail + 500
    for left in on_the_way[:: max(1, len(on_the_way) // 250)]:
        copy = mmap.mmap(-1, len(left))
        copy[:] = left
        start = HEADER_SIZE + LOG_SIZE
        for _, size in reserves:  # as its server looks through it
            reserve = Log(memoryview(copy)[start : start + segment_size(size)])
            reserve.go_on(verify(reserve).head)
            start += segment_size(size)
        heir = Log(copy, reserves=reserves)
        heir.claim(b"")
        heir.go_on(verify(heir).head)
        for _ in range(2):
            for reserve in heir.reserves:
                verify(reserve)
                kept = [record.position for record in reserve.records()]
                assert kept == sorted(set(kept))
            fanout = FanOut(heir)
            client, native = come_back(fanout, [b"orders:eu", b"orders:us"], orders[20])
            assert not native.lost
            assert [at for at in client.read if at <= orders[-1]] == orders[21:]
            heir.append(b"heir", body(500))


def test_a_writer_that_is_killed_in_a_flood_leaves_its_reserve_whole() -> None:
    memory = mmap.mmap(-1, segment_size(65536, ORDERS))
    log = Log(memory, reserves=ORDERS)
    orders = [log.append(b"orders:7", body(20)) for _ in range(10)]
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            flood(Log(memory, reserves=ORDERS), 1000)
            os._exit(0)
        head = log.head
        while log.head < head + 3 * log.capacity:
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        orders.append(log.append(b"orders:7", body(20)))
        client, native = come_back(FanOut(log), [b"orders:7"], orders[0])
        assert (client.read, native.lost) == (orders[1:], False)


def test_what_is_reserved_outlives_the_server_with_the_logs_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, 65536, ORDERS) as segment:
        log = Log(segment.memory, reserves=ORDERS)
        orders = [log.append(b"orders:7", body(20)) for _ in range(20)]
        flood(log)
        del log
    with open_log_file(path, 65536, ORDERS) as segment:
        log = Log(segment.memory, reserves=ORDERS)
        client, native = come_back(FanOut(log), [b"orders:7"], orders[3])
        assert (client.read, native.lost) == (orders[4:], False)
        del log


@pytest.mark.parametrize(
    "between",
    [[], [(b"orders:*", 8192)], [(b"trades:*", 4096)], [(b"orders:7", 0), (b"orders:*", 4096)]],
    ids=["none", "of another size", "of other channels", "behind another"],
)
def test_a_reserve_that_was_not_there_all_the_time_says_what_it_lacks(
    tmp_path: Path, between: list[tuple[bytes, int]]
) -> None:
    path = tmp_path / "log"
    orders = []
    for reserves in (ORDERS, between, ORDERS):
        with open_log_file(path, 65536, reserves) as segment:
            log = Log(segment.memory, reserves=reserves)
            orders.append(log.append(b"orders:7", body(20)))
            flood(log, 2)
            del log
    with open_log_file(path, 65536, ORDERS) as segment:
        log = Log(segment.memory, reserves=ORDERS)
        client, native = come_back(FanOut(log), [b"orders:7"], orders[0] - 1)
        assert native.lost, "what was given up meanwhile is gone"
        assert client.read == orders[2:]
        client, native = come_back(FanOut(log), [b"orders:7"], orders[2] - 1)
        assert (client.read, native.lost) == (orders[2:], False)
        del log


def test_a_reserve_that_is_damaged_begins_anew_and_the_log_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, 65536, ORDERS) as segment:
        log = Log(segment.memory, reserves=ORDERS)
        orders = [log.append(b"orders:7", body(20)) for _ in range(5)]
        flood(log, 2)
        last = log.append(b"orders:7", body(20))
        del log
    with path.open("r+b") as file:
        file.seek(2 * HEADER_SIZE + 65536 + 40)
        file.write(b"damaged")
    with open_log_file(path, 65536, ORDERS) as segment:
        log = Log(segment.memory, reserves=ORDERS)
        client, native = come_back(FanOut(log), [b"orders:7"], orders[0])
        assert (client.read, native.lost) == ([last], True)
        del log


# ---- through a server ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def workers(settings: Settings, transport: Transport) -> AsyncIterator[tuple[Edge, Edge]]:
    """Two workers of one node, in this process."""
    node = create_node(settings, 100)
    slots = [WorkerSlot.claim(node.environment(), settings.reserves) for _ in range(2)]
    edges = [
        Edge(settings, slot=slot, entrance=entrance_at() if transport is Transport.NATIVE else None) for slot in slots
    ]
    for edge in edges:
        edge._start_up()
    try:
        yield edges[0], edges[1]
    finally:
        for edge in edges:
            await edge.close()
        node.close()


@pytest.mark.parametrize("transport", list(Transport))
async def test_whichever_worker_is_asked_before_and_after_a_restart_has_what_is_reserved(
    tmp_path: Path, transport: Transport
) -> None:
    settings = Settings(
        log_size=1 << 18,
        max_event_size=8192,
        log_file=tmp_path / "log",
        namespace=[{"pattern": "orders:*", "reserve": "12.5%"}],
    )
    async with workers(settings, transport) as (one, other):
        orders = [str(await one.hub.publish("orders:7", str(number))) for number in range(20)]
        for _ in range(380):
            await other.hub.publish("noise", "x" * 7000)
        for edge in (one, other):
            async with EdgeClient(edge) as client:
                async with client.stream("/sse/orders:7", last_event_id=orders[3]) as stream:
                    connected, *events = await stream.take(17)
                assert json.loads(connected.data)["resume"] == "complete"
                assert [event.id for event in events] == orders[4:]
                async with client.stream("/sse?channel=orders:7&channel=noise", last_event_id=orders[3]) as stream:
                    connected, gap, *events = await stream.take(18)
                assert (json.loads(connected.data)["resume"], gap.event) == ("gap", "$gap")
                assert [event.id for event in events] == orders[4:]
        async with by_asgi(one) as operator:
            assert (await operator.get("/stats")).json()["log"]["reserved"] > 0
            assert "sse_fast_log_reserved" in (await operator.get("/metrics")).text
    # In one process the workers' mappings outlive their server, and keep others from its file.
    after = settings.model_copy(update={"log_file": Path(shutil.copy(tmp_path / "log", tmp_path / "after"))})
    async with workers(after, transport) as (_, other), EdgeClient(other) as client:
        async with client.stream("/sse/orders:7", last_event_id=orders[3]) as stream:
            connected, *events = await stream.take(17)
        assert json.loads(connected.data)["resume"] == "complete"
        assert [event.id for event in events] == orders[4:]
        async with client.stream("/sse/orders:7?history=5") as stream:
            _, *events = await stream.take(6)
        assert [event.id for event in events] == orders[-5:]


async def test_the_hub_in_an_app_reserves_too() -> None:
    async with Hub(log_size=65536, max_event_size=1024, namespaces=[{"pattern": "orders:*", "reserve": "8KiB"}]) as hub:
        orders = [await hub.publish("orders:7", str(number)) for number in range(20)]
        for _ in range(1000):
            await hub.publish("noise", "x" * 1000)
        client = Client()
        stream = hub.attach(["orders:7"], client, last_event_id=str(orders[3]))
        stream.start()
        drain(hub.fanout)
        assert client.read == [order.position for order in orders[4:]]


# ---- how it is said --------------------------------------------------------------------------------------------------


def test_a_reserve_is_bytes_or_a_share_of_the_log() -> None:
    given = [
        Namespace("a:*", reserve="10%"),
        Namespace("b"),
        Namespace("c", reserve="64KiB"),
        Namespace("d", reserve=5),
    ]
    assert reserves_of(given, 1_000_000) == [(b"a:*", 100_000), (b"b", 0), (b"c", 65536), (b"d", 5)]
    assert reserves_of([Namespace("b")], 1_000_000) == []


@pytest.mark.parametrize("reserve", ["", "0", 0, -1, "0%", "ten", 1.5, True, "10 %%", "5 parsecs"])
def test_what_is_no_reserve_is_refused(reserve: object) -> None:
    with pytest.raises(ValueError, match=r"reserve is bytes, as in 64MiB, or a share of log_size, as in 10%"):
        Namespace("a", reserve=reserve)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("namespaces", "words"),
    [
        (
            [{"pattern": "a", "reserve": "60%"}, {"pattern": "b", "reserve": "40%"}],
            "together they reserve less than that",
        ),
        ([{"pattern": "a", "reserve": "100KiB"}], "max_event_size .* is over a quarter of that"),
        ([{"pattern": "a", "reserve": "1MiB", "conflate": True}], "conflate and reserve do not go together"),
    ],
)
def test_reserves_that_cannot_be_are_refused_with_what_would_be_right(
    namespaces: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(BadSettings, match=words):
        Settings.load({"namespace": namespaces})
