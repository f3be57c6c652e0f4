"""The slots of a node against a model that is a few dicts, and segments that were damaged, cut or made up.

    scripts/sanitized tests/fuzz_slots.py --seconds 600 [--seed N]

Workers come, count, die and are replaced in any order, over one memory; a segment that is none is refused, and whatever
the bytes of a slot are, nothing beyond the segment is read or written.
"""

import contextlib
import random
import struct
from collections import Counter

from fuzzing import fuzz

from sse_fast._native.node.slots import Slots

WORKERS = 4
TOTALS, GAUGES = 8, 4


class Life:
    """A worker: its view of the memory, and what it has said."""

    def __init__(self, memory: bytearray, slot: int, pid: int) -> None:
        self.slots = Slots(memory)
        self.slots.claim(slot, pid, b"wake-%d" % pid)
        self.pid = pid
        self.armed = False
        self.streams = 0
        self.addresses = Counter[int]()
        self.totals = [0] * TOTALS
        self.gauges = [0] * GAUGES
        self.held = (0, 0)


def lives(rng: random.Random, tally: Counter[str]) -> None:
    """A node from its start on."""
    most = rng.choice((1, 7, 40))
    memory = bytearray(Slots.size(WORKERS, most))
    parent = Slots(memory, WORKERS, most)
    known = [rng.getrandbits(64) | 1 for _ in range(most * WORKERS)]
    known += [one & 0xF | rng.getrandbits(60) << 4 for one in known[:10]]  # neighbours in the table
    there: dict[int, Life] = {}
    left_behind = [0] * TOTALS
    for pid in range(1, rng.choice((20, 200))):
        slot = rng.randrange(WORKERS)
        life = there.get(slot)
        if life is None or rng.random() < 0.03:
            if life is not None:  # it died: its totals stay
                left_behind = [a + b for a, b in zip(left_behind, life.totals, strict=True)]
            if rng.random() < 0.5:
                parent.clear(slot)
            there[slot] = Life(memory, slot, pid)
            tally["lives"] += 1
            continue
        others = [other for other in there.values() if other is not life]
        for _ in range(rng.randrange(20)):
            address = rng.choice(known)
            match rng.randrange(8):
                case 0:
                    life.streams += 1
                    assert life.slots.enter() == sum(one.streams for one in there.values())
                case 1 if life.streams:
                    life.streams -= 1
                    life.slots.leave()
                case 2 if life.addresses[address] or len(life.addresses) < most:
                    life.addresses[address] += 1
                    assert life.slots.enter_from(address) == sum(one.addresses[address] for one in there.values())
                case 3 if life.addresses[address]:
                    life.slots.leave_from(address)
                    life.addresses[address] -= 1
                case 4:
                    life.totals = [total + rng.randrange(9) for total in life.totals]
                    life.gauges = [rng.randrange(9) for _ in range(GAUGES)]
                    life.slots.publish(life.totals, life.gauges)
                case 5:
                    life.held = (rng.getrandbits(30), rng.getrandbits(20))
                    life.slots.hold(*life.held)
                    assert life.slots.held_by_others() == sum(other.held[0] for other in others)
                    assert life.slots.held_for_streams_by_others() == sum(other.held[1] for other in others)
                case 6:
                    life.slots.beat()
                    life.armed = rng.random() < 0.5
                    (life.slots.arm if life.armed else life.slots.disarm)()
                case _:
                    expected = {b"wake-%d" % other.pid for other in others if other.armed}
                    assert set(life.slots.sleepers()) == expected
                    for other in others:
                        other.armed = False
            life.addresses = +life.addresses
            tally["steps"] += 1
        sums = [sum(column) for column in zip(left_behind, *(one.totals for one in there.values()), strict=True)]
        assert parent.totals(TOTALS) == sums
        assert parent.gauges(GAUGES) == [
            sum(column) for column in zip(*(o.gauges for o in there.values()), strict=True)
        ]
        assert {worker.pid: worker.streams for worker in parent.workers()} == {
            one.pid: one.streams for one in there.values()
        }


def damaged(rng: random.Random, tally: Counter[str]) -> None:
    """Somebody else's bytes: refused, or read without going beyond them."""
    most = rng.choice((0, 3))
    memory = bytearray(Slots.size(2, most))
    Slots(memory, 2, most).claim(0, 1, b"wake")
    match rng.randrange(4):
        case 0:
            del memory[rng.randrange(len(memory)) :]
        case 1:  # how many there are, and how large their tables
            struct.pack_into("<I", memory, 12, rng.choice((0, 3, 2**31, 2**32 - 1, rng.getrandbits(32))))
        case 2:
            struct.pack_into("<Q", memory, 16, rng.choice((3, 2**59, 2**60, 2**61, 2**63, rng.getrandbits(64))))
        case _:  # behind the header
            for _ in range(rng.choice((1, 100))):
                at = rng.randrange(128, len(memory))
                memory[at : at + 64] = rng.randbytes(min(64, len(memory) - at))
    try:
        slots = Slots(memory)
    except ValueError:
        tally["refused"] += 1
        return
    tally["taken"] += 1
    slots.workers()
    slots.totals(64)
    slots.gauges(16)
    slots.others_busy(1.0)
    slots.sleepers()
    slots.was_ready(1)
    if slots.count:
        slots.claim(rng.randrange(slots.count), 2, b"w" * 47)
        slots.enter()
        if most:
            address = rng.getrandbits(64) | 1
            with contextlib.suppress(OverflowError):
                slots.enter_from(address)
                slots.leave_from(address)


def step(rng: random.Random, tally: Counter[str], end: float) -> None:
    lives(rng, tally)
    for _ in range(50):
        damaged(rng, tally)


if __name__ == "__main__":
    fuzz(__doc__, step)
