"""Several workers, one log: slots, slots, wake-ups, and what is counted for the node.

Where it matters that a worker is a process of its own it is one here; elsewhere two slots share this process, each with
a descriptor of its own, which is all that the kernel goes by.
"""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import until

from sse_fast import Overloaded
from sse_fast._native.log.ring import segment_size
from sse_fast._native.node.slots import Slots
from sse_fast.access.limits import Admission
from sse_fast.asgi import Send
from sse_fast.embed.hub import Hub
from sse_fast.node import supervisor, workers
from sse_fast.node.segment import create_shared
from sse_fast.node.workers import Node, WorkerSlot

LOG_SIZE = 4 << 20
PATIENCE = 30.0
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def node() -> Node:
    return Node.create(create_shared(segment_size(LOG_SIZE)), workers=2, addresses=64)


@pytest.fixture
def slot(node: Node) -> Iterator[Callable[[], WorkerSlot]]:
    """Take slots: `slot()`. They are left after the test."""
    taken: list[WorkerSlot] = []

    def take() -> WorkerSlot:
        found = WorkerSlot.claim(node.environment())
        assert found is not None
        taken.append(found)
        return found

    yield take
    for one in taken:
        one.close()


@pytest.fixture
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself: what arrives in time was rung for."""
    monkeypatch.setattr(workers, "TICK", 3600.0)


class Someone:
    """A worker in a process of its own: it takes a slot, does something there, and stays until it is killed."""

    def __init__(self, node: Node, do: Callable[[WorkerSlot], Any] = lambda slot: None) -> None:
        ready = FORK.Event()

        def live() -> None:
            slot = WorkerSlot.claim(node.environment())
            assert slot is not None
            do(slot)
            ready.set()
            signal.pause()

        self.process = FORK.Process(target=live, daemon=True)
        self.process.start()
        assert ready.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(PATIENCE)


# ---- slots -----------------------------------------------------------------------------------------------------------


def test_without_a_node_in_the_environment_there_is_no_slot() -> None:
    assert WorkerSlot.claim({}) is None


def test_every_worker_has_a_slot_of_its_own_and_past_the_last_one_it_is_said(node: Node, slot: Any) -> None:
    taken = [slot() for _ in range(node.slots.count)]
    assert sorted(one.slots.mine for one in taken) == list(range(node.slots.count))
    assert [worker.pid for worker in node.slots.workers()] == [os.getpid()] * node.slots.count
    with pytest.raises(OSError, match=f"all {node.slots.count} slots"):
        slot()


def test_a_slot_is_free_again_however_its_worker_dies(node: Node, slot: Any) -> None:
    those = [Someone(node) for _ in range(node.slots.count)]
    with pytest.raises(OSError, match="slots of this node are taken"):
        slot()
    those[1].kill()
    assert slot().slots.mine == 1
    for one in those:
        one.kill()


def test_what_a_dead_worker_left_is_cleared_but_its_totals_count_on(node: Node, slot: Any) -> None:
    def work(slot: WorkerSlot) -> None:
        slot.slots.publish([5, 7], [3])
        slot.enter()
        slot.enter_from("10.0.0.1")
        slot.slots.arm()

    mine = slot()
    dying = Someone(node, work)
    assert (node.slots.totals(2), node.slots.gauges(1)) == ([5, 7], [3])
    mine.clear_the_dead()
    assert mine.enter() == 2
    assert len(node.slots.workers()) == 2, "the living are not cleared"
    dying.kill()
    mine.clear_the_dead()
    assert [worker.pid for worker in node.slots.workers()] == [os.getpid()]
    assert (node.slots.totals(2), node.slots.gauges(1)) == ([5, 7], [0])
    assert mine.enter() == 2
    assert mine.enter_from("10.0.0.1") == 1
    assert not mine.slots.sleepers()
    successor = slot()
    assert node.slots.totals(2) == [5, 7]
    successor.slots.publish([1, 1], [2])
    assert (node.slots.totals(2), node.slots.gauges(1)) == ([6, 8], [2])


def test_who_takes_the_slot_of_a_dead_worker_clears_it_too(node: Node, slot: Any) -> None:
    Someone(node, lambda slot: (slot.enter(), slot.slots.publish([9], [9]))).kill()
    mine = slot()
    assert mine.slots.mine == 0
    assert mine.enter() == 1
    assert (node.slots.totals(1), node.slots.gauges(1)) == ([9], [0])


def test_a_worker_that_waits_does_not_serve_and_who_takes_its_slot_has_not_said_so(node: Node, slot: Any) -> None:
    worker = Someone(node, lambda slot: slot.wait())
    (said,) = node.slots.workers()
    assert (said.silent, said.waited is not None) == (None, True)
    worker.kill()
    slot()
    assert [one.waited for one in node.slots.workers()] == [None]


def test_a_worker_serves_from_its_first_heartbeat_on_and_that_outlives_it(node: Node, slot: Any) -> None:
    worker = Someone(node, lambda slot: slot.slots.beat())
    idle = Someone(node)
    silent = {one.pid: one.silent for one in node.slots.workers()}
    assert silent[worker.process.pid] is not None
    assert silent[idle.process.pid] is None
    worker.kill()
    idle.kill()
    slot().clear_the_dead()
    assert node.slots.was_ready(worker.process.pid)
    assert not node.slots.was_ready(idle.process.pid)


@pytest.mark.parametrize(("at", "value"), [(12, 2**31 + 2), (16, 2**60), (16, 2**63 + 8), (16, 3)])
def test_a_segment_that_says_it_has_more_slots_or_addresses_than_it_can_hold_is_refused(at: int, value: int) -> None:
    memory = bytearray(Slots.size(2, 8))
    Slots(memory, 2, 8)
    struct.pack_into("<I" if at == 12 else "<Q", memory, at, value)
    with pytest.raises(ValueError, match="does not hold"):
        Slots(memory)


@pytest.mark.parametrize("size", [0, 100, Slots.size(1) - 1])
def test_memory_that_holds_no_slots_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"slots|memory"):
        Slots(bytearray(size), 1 if size > 200 else 0)
    with pytest.raises(ValueError, match="does not hold the slots"):
        Slots(bytearray(10_000))


def test_in_a_damaged_table_without_a_free_place_counting_out_ends_too() -> None:
    memory = bytearray(Slots.size(1, 8))
    Slots(memory, 1, 8)
    places = 16  # twice the addresses
    struct.pack_into(f"<{2 * (places - 1)}Q", memory, len(memory) - 16 * places, *(2, 1) * (places - 1))
    view = Slots(memory)
    view.claim(0, 100, b"x")
    assert view.enter_from(1) == 1
    view.leave_from(1)
    with pytest.raises(ValueError, match="no stream"):
        view.leave_from(1)


# ---- streams and addresses -------------------------------------------------------------------------------------------

# Addresses are their own hashes here, so that they meet at one place of the table, and wrap round its end.
meeting = st.sampled_from([1, 5, 9, 13, 15, 31, 47, 63, 14, 30])
steps = st.lists(st.tuples(st.integers(0, 1), st.booleans(), meeting), max_size=120)


@given(steps)
def test_streams_of_an_address_are_counted_over_workers_as_an_obvious_model_counts(
    steps: list[tuple[int, bool, int]],
) -> None:
    memory = bytearray(Slots.size(2, 8))
    Slots(memory, 2, 8)
    views = [Slots(memory), Slots(memory)]
    for number, view in enumerate(views):
        view.claim(number, 100 + number, b"x")
    model: list[Counter[int]] = [Counter(), Counter()]
    for who, enters, address in steps:
        mine = model[who]
        if enters and (mine[address] or len(+mine) < 8):
            mine[address] += 1
            assert views[who].enter_from(address) == model[0][address] + model[1][address]
        elif mine[address] and not enters:
            mine[address] -= 1
            views[who].leave_from(address)
    for who in (0, 1):
        for address in list(+model[who]):
            for _ in range(model[who][address]):
                views[who].leave_from(address)
        with pytest.raises(ValueError, match="no stream of this address"):
            views[who].leave_from(5)


def test_a_limit_holds_for_the_node_whichever_worker_lets_in(slot: Any) -> None:
    admissions = [Admission(max_connections=5, max_connections_per_ip=3, tally=slot()) for _ in range(2)]
    for number in range(3):
        admissions[number % 2].enter("a")
    for admission in admissions:
        with pytest.raises(Overloaded, match="a has all 3 streams"):
            admission.enter("a")
    admissions[0].enter("b")
    admissions[1].enter("b")
    for admission in admissions:
        with pytest.raises(Overloaded, match="all 5 streams that this server"):
            admission.enter("c")
    admissions[0].leave("a")
    admissions[1].enter("a")
    assert [admission.connections for admission in admissions] == [2, 3]


def test_a_worker_takes_no_more_than_it_has_descriptors_for(slot: Any) -> None:
    admission, other = (Admission(max_connections=5, most_here=2, tally=slot()) for _ in range(2))
    admission.enter("a")
    admission.enter("a")
    with pytest.raises(Overloaded, match="all 2 streams that one worker has descriptors for"):
        admission.enter("a")
    other.enter("a")


def test_of_many_that_come_at_once_to_all_workers_never_too_many_are_let_in(node: Node) -> None:
    start = FORK.Event()
    most = 20

    def storm(seed: int, told: Any) -> None:
        slot = WorkerSlot.claim(node.environment())
        admission = Admission(max_connections=most, tally=slot)
        rng = random.Random(seed)
        start.wait(PATIENCE)
        worst = 0
        for _ in range(20_000):
            if admission.connections and rng.random() < 0.5:
                told.value -= 1
                admission.leave("a")
                continue
            with contextlib.suppress(Overloaded):
                admission.enter("a")
            worst = max(worst, admission.connections)
            told.value = admission.connections
        assert worst

    # Each says of one that enters after it does, of one that leaves before: what is read is never more than there were.
    told = [FORK.Value("i", 0, lock=False) for _ in range(2)]
    storms = [FORK.Process(target=storm, args=(number, value), daemon=True) for number, value in enumerate(told)]
    for process in storms:
        process.start()
    start.set()
    while any(process.is_alive() for process in storms):
        first = told[0].value
        second = told[1].value
        if told[0].value == first:
            assert first + second <= most
    assert [process.exitcode for process in storms] == [0, 0]


# ---- the hung --------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Someone]]:
    """A worker that has beaten once, and a supervisor that looks at it: `watched(timeout, locks=…)`."""
    monkeypatch.setattr(supervisor, "LOOK", 0.02)
    monkeypatch.setattr(supervisor, "LOCKS_OUT", 0.1)
    over = threading.Event()
    threads = []

    def watch(timeout: float, *, locks: bool = False, child: bool = True) -> Someone:
        worker = Someone(node, lambda slot: slot.slots.beat())
        parent = supervisor.Supervisor.__new__(supervisor.Supervisor)
        parent._slots, parent._hung_worker_timeout, parent._over = node.slots, timeout, over
        holder = worker.process.pid if locks else 0
        parent._node = SimpleNamespace(log_holder=lambda: holder, what_is_wrong=lambda: None)  # type: ignore[assignment]
        process = SimpleNamespace(inner=worker.process, birth=time.monotonic())
        parent.wrks, parent._newcomers, parent._leaving = [process] if child else [], [], []
        threads.append(threading.Thread(target=parent._watch_heartbeats))
        threads[-1].start()
        return worker

    yield watch
    over.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("timeout", "locks"), [(0.2, False), (3600, True)])
def test_a_worker_without_a_heartbeat_is_killed_and_sooner_if_it_has_the_log_locked(
    watched: Callable[..., Someone], timeout: float, locks: bool
) -> None:
    worker = watched(timeout, locks=locks)
    worker.process.join(PATIENCE)
    assert worker.process.exitcode == -signal.SIGKILL


def test_no_process_is_killed_that_is_not_a_worker_of_this_server(node: Node, watched: Callable[..., Someone]) -> None:
    stranger, worker = watched(0.05, child=False), watched(0.2)
    worker.process.join(PATIENCE)
    assert worker.process.exitcode == -signal.SIGKILL
    assert stranger.process.is_alive()
    stranger.kill()


# ---- wake-ups --------------------------------------------------------------------------------------------------------


class Reader:
    """A stream of a hub, and what it got."""

    def __init__(self, hub: Hub, channel: str = "c", last_event_id: str | None = None) -> None:
        self.received = b""
        self._grew = asyncio.Event()
        send: Send = self._send
        self.subscription = hub.subscribe([channel], send, lambda *_: None, last_event_id=last_event_id)
        self.subscription.start()

    async def _send(self, message: Any) -> None:
        self.received += message["body"]
        self._grew.set()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.received:
                self._grew.clear()
                await self._grew.wait()


@pytest.fixture
async def hub(slot: Any) -> Any:
    """Hubs of one node: `hub()`."""
    made: list[Hub] = []

    def make() -> Hub:
        taken = slot()
        hub = Hub(log=taken.log, peers=taken)
        taken.start(hub.look, lambda: None)
        made.append(hub)
        return hub

    yield make
    for one in made:
        await one.close()


@pytest.mark.usefixtures("no_tick")
async def test_what_enters_at_one_worker_reaches_the_streams_of_all_at_once(hub: Any) -> None:
    hubs = [hub() for _ in range(3)]
    readers = [Reader(one) for one in hubs]
    for number, one in enumerate(hubs):
        id = await one.publish("c", f"from {number}")
        for reader in readers:
            await reader.until(f"data: from {number}\nid: {id}\n\n".encode())


async def test_a_stream_resumes_at_any_worker_where_it_was_at_another(hub: Any) -> None:
    first, second = hub(), hub()
    ids = [str(await (first, second)[number % 2].publish("c", f"<{number}>")) for number in range(10)]
    reader = Reader(second, last_event_id=ids[3])
    assert reader.subscription.resumed == "complete"
    await reader.until(b"<9>")
    assert [part.split(b">")[0] for part in reader.received.split(b"<")[1:]] == [b"%d" % n for n in range(4, 10)]


@pytest.mark.usefixtures("no_tick")
async def test_no_wake_up_is_lost_however_sleep_and_news_cross(node: Node, hub: Any) -> None:
    count = 20_000

    def publish() -> None:
        slot = WorkerSlot.claim(node.environment())
        assert slot is not None
        rng = random.Random(1)
        for number in range(1, count + 1):
            slot.log.append(b"c", b"data: %d\n\n" % number)
            slot.notify()
            for _ in range(rng.randrange(300)):
                pass

    reader = Reader(hub())
    process = FORK.Process(target=publish, daemon=True)
    process.start()
    await reader.until(b"data: %d\n" % count)
    assert reader.received.count(b"data: ") == count
    await asyncio.to_thread(process.join)


async def test_a_wake_up_that_died_with_its_sender_is_made_up_for_by_the_tick(node: Node, hub: Any) -> None:
    one = hub()
    reader = Reader(one)
    await until(lambda: node.slots.sleepers())  # whose flag is cleared now, and nobody rings
    node.log.append(b"c", b"data: x\n\n")
    await reader.until(b"data: x\n")


def test_a_worker_that_hangs_blocks_nobody_who_notifies(node: Node, slot: Any) -> None:
    hung, ringing = Someone(node, lambda slot: slot.arm()), slot()
    os.kill(hung.process.pid, signal.SIGSTOP)
    other = slot()
    for _ in range(2000):
        other.arm()  # never read from: its queue fills up
        ringing.notify()
    hung.kill()


async def test_a_stranger_who_notifies_only_wakes(node: Node, hub: Any) -> None:
    reader = Reader(hub())
    stranger = workers.socket.socket(workers.socket.AF_UNIX, workers.socket.SOCK_DGRAM)
    await until(lambda: (found := node.slots.sleepers()) and stranger.sendto(b"x" * 1000, b"\0" + found[0]))
    stranger.close()
    node.log.append(b"c", b"data: x\n\n")
    await reader.until(b"data: x\n")


async def test_large_batches_wait_for_the_streams_of_other_workers_too(hub: Any) -> None:
    first, second = hub(), hub()
    await asyncio.sleep(2 * workers.TICK)  # who has not ticked yet counts as hung
    reader = Reader(second)
    frame = b"data: " + b"x" * 4000 + b"\n\n"
    for _ in range(12):
        await first.append([(b"c", frame)] * 250)
    await first.append([(b"c", b"data: last\n\n")])
    await reader.until(b"data: last")
    assert b"$gap" not in reader.received
    assert reader.received.count(b"data: x") == 3000


def test_nobody_waits_for_a_worker_that_has_not_ticked(node: Node, slot: Any) -> None:
    mine, other = slot(), slot()
    assert not mine.others_busy
    other.slots.beat()
    assert mine.others_busy
    other.arm()
    assert not mine.others_busy
    other.disarm()
    assert not mine.slots.others_busy(0.0)


def test_what_a_worker_knows_the_others_find_as_long_as_it_lives() -> None:
    node = Node.create(create_shared(segment_size(65536)), 2)
    slots = [WorkerSlot.claim(node.environment()) for _ in range(2)]
    one, other = [slot for slot in slots if slot is not None]
    assert not other.is_known("filled")
    one.know("filled")
    assert other.is_known("filled")
    other.know("filled")
    one.close()
    assert other.is_known("filled") is False  # nobody but itself
    other.close()
    node.close()
