"""The node: several workers over one log, each with a slot in a segment that all of them map.

The parent makes the segments (`Node.create`) and says through the environment where they are; a worker finds them
(`WorkerSlot.claim`) and claims a free slot. A claim is a lock on one byte of the segment (base/locks.py), by a
descriptor of the worker's own: however it dies, the kernel frees the slot, and the other workers clear what it left.

Workers wake each other with datagrams to sockets in the abstract namespace, of which nothing is left behind. They carry
no data: a worker that is woken looks at the log. So one from any other process wakes a worker, and does no more.
"""

import asyncio
import contextlib
import ctypes
import errno
import logging
import multiprocessing
import os
import secrets
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Self

from sse_fast._native.log.keys import KeyTable
from sse_fast._native.log.ring import Log
from sse_fast._native.node.buckets import Buckets
from sse_fast._native.node.slots import Slots
from sse_fast.base.locks import try_lock, unlock
from sse_fast.node.segment import Segment, create_shared, open_shared

logger = logging.getLogger("sse_fast.node")

TICK = 0.25  # seconds: publish the counters, clear slots of dead workers, make up for wake-ups whose sender died
SPARE_SLOTS = 2  # slots for each worker: in a rolling restart the new ones come before the old ones go
LOG_VARIABLE = "SSE_FAST_LOG_SEGMENT"
SLOTS_VARIABLE = "SSE_FAST_SLOTS_SEGMENT"
KEYS_VARIABLE = "SSE_FAST_KEYS_SEGMENT"
RATES_VARIABLE = "SSE_FAST_RATES_SEGMENT"
HISTORY_VARIABLE = "SSE_FAST_HISTORY_SEGMENT"
DATAGRAMS_AT_ONCE = 64  # read before the loop goes on
HANGS = 1.0  # seconds without a tick after which a publisher waits no more for this worker to read

LEAVE = signal.SIGUSR1  # to a worker: others serve in its place, so new clients are theirs from now on; drain and end
UNUSABLE_APP = 78  # exit status of a worker that cannot have its app: EX_CONFIG of sysexits.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOCKS_AT = 4096  # bytes before this one are locked by segment.py
LEADERS_AT = 1 << 32  # and from this one on, by the names of what one worker does for all


class Node:
    """What the parent holds: the segments, open for as long as workers may come."""

    def __init__(
        self,
        log: Segment,
        slots: Segment,
        keys: Segment | None,
        buckets: Segment | None = None,
        history: Segment | None = None,
    ) -> None:
        self._log, self._slots, self._keys, self._buckets, self._history = log, slots, keys, buckets, history
        self.log = Log(log.memory, reserves=log.reserves)  # laid out before anybody comes
        self.slots = Slots(slots.memory)

    @classmethod
    def create(
        cls,
        log: Segment,
        workers: int,
        addresses: int = 0,
        *,
        keys: int = 131_072,
        window: float = 120,
        rated: int = 0,
        history: int = 0,
    ) -> Self:
        """A node for so many workers over a log. `addresses`: how many clients each may have, and channels, if they are
        counted. `keys`: how many idempotency keys are remembered, for `window` seconds; 0: none. `rated`: of how many
        clients and channels it is known how often they were there lately. `history`: bytes for what was lately."""
        count = SPARE_SLOTS * workers
        slots = create_shared(Slots.size(count, addresses), "sse_fast_slots")
        Slots(slots.memory, count, addresses)
        table = buckets = None
        if window:
            table = create_shared(KeyTable.size(keys), "sse_fast_keys")
            KeyTable(table.memory, keys, max(1, int(1000 * window)))
        if rated:
            buckets = create_shared(Buckets.size(rated), "sse_fast_rates")
            Buckets(buckets.memory, rated)
        kept = create_shared(history, "sse_fast_history") if history else None
        return cls(log, slots, table, buckets, kept)

    def what_is_wrong(self) -> str | None:
        """Why this log cannot be served any more, in one sentence, if so."""
        return self._log.what_is_wrong()

    def log_holder(self) -> int:
        """The process that is appending; 0: none is."""
        return self._log.lock_holder()

    def close(self) -> None:
        """When all workers are gone. A log's file is stored."""
        self._log.close()
        self._slots.close()
        for segment in (self._keys, self._buckets, self._history):
            if segment is not None:
                segment.close()

    def environment(self) -> dict[str, str]:
        """The variables by which workers find the node."""
        found = {LOG_VARIABLE: self._log.address, SLOTS_VARIABLE: self._slots.address}
        if self._keys is not None:
            found[KEYS_VARIABLE] = self._keys.address
        if self._buckets is not None:
            found[RATES_VARIABLE] = self._buckets.address
        if self._history is not None:
            found[HISTORY_VARIABLE] = self._history.address
        return found


class WorkerSlot:
    """A worker's place in its node: its slot, its wake_address, and the log that all share. `take` one."""

    def __init__(self, log: Log, slots: Slots, keys: KeyTable | None, lock: int, wake_address: socket.socket) -> None:
        self.log = log
        self.slots = slots
        self.keys = keys
        self.buckets: Buckets | None = None
        self.history: memoryview | None = None
        self._secret = slots.secret
        self._lock = lock
        self._wake_socket = wake_address
        self._parent = os.getppid()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def claim(
        cls, environment: Mapping[str, str] = os.environ, reserves: Sequence[tuple[bytes, int]] = ()
    ) -> Self | None:
        """A slot in the node of the environment, or None where there is no node. `reserves`: the log's. Raises OSError
        if all are taken."""
        if LOG_VARIABLE not in environment or SLOTS_VARIABLE not in environment:
            return None
        address = environment[SLOTS_VARIABLE]
        with open_shared(environment[LOG_VARIABLE]) as log, open_shared(address) as slots:
            table = None
            if KEYS_VARIABLE in environment:
                with open_shared(environment[KEYS_VARIABLE]) as keys:
                    table = KeyTable(keys.memory)
            lock = os.open(address, os.O_RDWR | os.O_CLOEXEC)
            slot = cls.claim_among(Log(log.memory, reserves=reserves), Slots(slots.memory), table, lock)
            if RATES_VARIABLE in environment:
                with open_shared(environment[RATES_VARIABLE]) as buckets:
                    slot.buckets = Buckets(buckets.memory)
            if HISTORY_VARIABLE in environment:
                with open_shared(environment[HISTORY_VARIABLE]) as history:
                    slot.history = memoryview(history.memory)
            return slot

    @classmethod
    def claim_among(cls, log: Log, slots: Slots, keys: KeyTable | None, lock: int) -> Self:
        """A slot in these slots; `lock`: a descriptor of the segment, of a description of its own."""
        for number in range(slots.count):
            if not try_lock(lock, LOCKS_AT + number):
                continue
            wake_address = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            # A name that cannot be foreseen, or another process could have taken it.
            wake_address.bind(name := b"\0sse_fast-" + secrets.token_hex(8).encode())
            slots.claim(number, os.getpid(), name[1:])
            return cls(log, slots, keys, lock, wake_address)
        raise OSError(errno.EAGAIN, f"all {slots.count} slots of this node are taken")

    # ---- wake-ups ----------------------------------------------------------------------------------------------------

    def notify(self) -> None:
        """There is news in the log: wake the workers that sleep. It never blocks, whatever state they are in."""
        for name in self.slots.sleepers():
            with contextlib.suppress(OSError):  # it has just died, or was notified more often than it could look
                self._wake_socket.sendto(b"!", b"\0" + name)

    def arm(self) -> None:
        """Be notified from here on. Look at the log after this, and before going to sleep."""
        self.slots.arm()

    def disarm(self) -> None:
        """Awake: no need to notify."""
        self.slots.disarm()

    @property
    def others_busy(self) -> bool:
        """Whether another worker has not handed out all of the log yet."""
        return self.slots.others_busy(HANGS)

    def _notified(self, wake: Callable[[], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(DATAGRAMS_AT_ONCE):
                self._wake_socket.recv(1)
        wake()

    # ---- the tick ----------------------------------------------------------------------------------------------------

    def start(self, wake: Callable[[], None], say: Callable[[], None]) -> None:
        """From now on `wake` is called when there may be news, and `say` at every tick, to publish the counters."""
        loop = asyncio.get_running_loop()
        self.leave_with_parent()
        loop.add_reader(self._wake_socket.fileno(), self._notified, wake)
        self._task = loop.create_task(self._tick(wake, say))

    def beat(self) -> None:
        """The loop of this worker turns, and it serves."""
        self.slots.beat()

    def wait(self) -> None:
        """The loop of this worker turns, and it waits for something that is not its own until it serves."""
        self.slots.wait()

    def leave_with_parent(self) -> None:
        """If the parent is gone, leave as if it had said so: nothing would replace, restart or stop this worker.

        The kernel's signal (see `die_with_parent`) comes once, and may have met handlers that this server has replaced.
        """
        if os.getppid() != self._parent:
            os.kill(os.getpid(), signal.SIGTERM)

    async def _tick(self, wake: Callable[[], None], say: Callable[[], None]) -> None:
        while True:
            # First the sleep: when it is over the loop is turning, and the server listens.
            await asyncio.sleep(TICK)
            try:
                self.leave_with_parent()
                self.beat()
                say()
                self.clear_the_dead()
                wake()  # a publisher may have died between clearing our flag and notifying us
            except Exception:
                logger.exception("a tick failed; it goes on with the next one")

    def clear_the_dead(self) -> None:
        """Free the slots whose workers have died of what they left: their streams are gone."""
        for worker in self.slots.workers():
            self._clear_if_dead(worker.slot)

    def _clear_if_dead(self, slot: int) -> bool:
        """Whether it was."""
        dead = slot != self.slots.mine and try_lock(self._lock, LOCKS_AT + slot)
        if dead:
            self.slots.clear(slot)
            unlock(self._lock, LOCKS_AT + slot)
        return dead

    def is_there(self, process: int) -> bool:
        return any(worker.pid == process and not self._clear_if_dead(worker.slot) for worker in self.slots.workers())

    def hold(self, held: int, for_streams: int) -> None:
        self.slots.hold(held, for_streams)

    @property
    def held_by_others(self) -> int:
        return self.slots.held_by_others()

    @property
    def held_for_streams_by_others(self) -> int:
        return self.slots.held_for_streams_by_others()

    # ---- what one does for all ---------------------------------------------------------------------------------------

    def lead(self, what: str) -> bool:
        return try_lock(self._lock, LEADERS_AT + leader_of(what))

    def lead_no_more(self, what: str) -> None:
        unlock(self._lock, LEADERS_AT + leader_of(what))

    def know(self, what: str) -> None:
        try_lock(self._lock, LEADERS_AT + leader_of(what), shared=True)

    def is_known(self, what: str) -> bool:
        if try_lock(self._lock, LEADERS_AT + leader_of(what)):
            unlock(self._lock, LEADERS_AT + leader_of(what))
            return False
        return True

    # ---- who is counted ----------------------------------------------------------------------------------------------

    def enter(self) -> int:
        return self.slots.enter()

    def leave(self) -> None:
        self.slots.leave()

    def enter_from(self, key: str) -> int:
        return self.slots.enter_from(self._hashed(key))

    def leave_from(self, key: str) -> None:
        self.slots.leave_from(self._hashed(key))

    def _hashed(self, key: str) -> int:
        return int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._secret).digest(), "little") or 1

    def close(self) -> None:
        """Leave the node. The slot is not used again."""
        if self._task is not None:
            self._task.cancel()
            self._task.get_loop().remove_reader(self._wake_socket.fileno())
        self._wake_socket.close()
        os.close(self._lock)


def leader_of(what: str) -> int:
    """Behind LEADERS_AT; off_t has 63 bits."""
    return int.from_bytes(blake2b(what.encode(), digest_size=7).digest(), "little")


def die_with_parent() -> None:
    """End this process now if its parent is gone already, else have the kernel send it SIGTERM when the parent goes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
