"""Writers and readers of one log in many processes, writers killed at any moment: nothing torn, nothing missing.

The law: what a writer was told is appended, at the position it was told, is what every reader gets there, once, in
order; and whatever a reader gets is whole. SSE_FAST_LOG_SECONDS=60 makes it the long version, SSE_FAST_LOG_SEED repeats
a run's choices (not what the scheduler made of them):

    SSE_FAST_LOG_SECONDS=60 python -m pytest tests/test_log_processes.py -s

A careful reader is waited for, so that it has to get all; it reads through an index and a fan-out, as a worker does.
A careless one is lapped again and again, so that it meets a writer in what it copies. Each writes down what it saw,
each writer what it was told, and a killed writer's file is as good as any.
"""

import mmap
import os
import random
import re
import signal
import struct
import time
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE
from model import Channels, names_of

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.errors import LogBusy
from sse_fast.node.segment import Segment, create_shared, open_log_file, open_shared

SECONDS = float(os.environ.get("SSE_FAST_LOG_SECONDS", "2"))
WRITERS, CAREFUL, CARELESS = 3, 1, 1
LOG_SIZE = 4 * 1024 * 1024
CHANNELS = [b"channel-%d" % number for number in range(7)]
FILLER = bytes(random.Random(5).choices(b"abcdefghijklmnopqrstuvwxyz", k=4096))
FRAME = re.compile(rb"data: ([0-9]+) ([0-9]+) ([0-9a-f]{8}) ([a-z]*)\nid: [a-z0-9]{8}-([0-9]+)\n\n")
AIMS = 40
TOLD = struct.Struct("<QQQ")  # first position, how many, first number
SEEN = struct.Struct("<QQ")  # position, number
WRITER_OF = 40  # bits of a number for the event; above them is its writer's


def body_of(number: int) -> bytes:
    writer, event = number >> WRITER_OF, number & (1 << WRITER_OF) - 1
    filler = FILLER[: number * 7919 % (4096 if number % 16 == 0 else 256)]
    return b"data: %d %d %08x %s\n\n" % (writer, event, zlib.crc32(b"%d %s" % (number, filler)), filler)


def channels_of(number: int) -> Channels:
    """Of every fifth event, three: who reads is to get it once."""
    return tuple(CHANNELS[(number + n) % 7] for n in range(3)) if number % 5 == 0 else CHANNELS[number % 7]


def checked(match: re.Match[bytes]) -> tuple[int, int]:
    """Position and number of a frame that is whole."""
    writer, event, crc, filler, position = match.groups()
    number = int(writer) << WRITER_OF | int(event)
    assert int(crc, 16) == zlib.crc32(b"%d %s" % (number, filler)), "a torn record"
    return int(position), number


class Progress:
    """What the processes tell each other: how far each careful reader got (offsets), and whether it is over."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._words = memoryview(self._memory).cast("Q")

    def reached(self, reader: int, offset: int) -> None:
        self._words[1 + reader] = offset

    def slowest(self) -> int:
        return min(self._words[1 : 1 + CAREFUL])

    @property
    def over(self) -> bool:
        return self._words[0] == 1

    @property
    def all_is_written(self) -> bool:
        return self._words[1 + CAREFUL] == 1

    def end_writing(self) -> None:
        self._words[1 + CAREFUL] = 1

    def end(self) -> None:
        self._words[0] = 1


def write(address: str, progress: Progress, writer: int, told: int) -> None:
    """Append without rest, singly and in batches, and leave in `told` what was acknowledged."""
    log = Log(open_shared(address).memory)
    number, rng = writer << WRITER_OF, random.Random(writer)
    while not progress.all_is_written:
        if log.head - progress.slowest() > LOG_SIZE // 2:
            time.sleep(0.0005)
            continue
        count = rng.choice((1, 1, 1, 2, 20, 200))
        batch = [(channels_of(at), body_of(at)) for at in range(number, number + count)]
        try:
            first = log.append(*batch[0]) if count == 1 else log.append_many(batch)
        except LogBusy:
            continue  # somebody was stopped inside, and nothing was appended
        os.write(told, TOLD.pack(first, count, number))
        number += count


class Checking(Sink):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def write(self, data: bytes) -> bool:
        at = 0
        while at < len(data):
            match = FRAME.match(data, at)
            assert match, f"a torn frame: {data[at : at + 200]!r}"
            self.seen.append(checked(match))
            at = match.end()
        return True


def read_carefully(address: str, progress: Progress, reader: int, file: Path) -> None:
    log = Log(open_shared(address).memory)
    fanout, sink = FanOut(log), Checking()
    subscriber = fanout.subscribe(CHANNELS, sink, after=EARLIEST)
    fanout.unblock(subscriber, 0.0)
    with file.open("wb") as out:
        while True:
            ending = progress.over
            while fanout.drain(0.0):
                pass
            assert not subscriber.closed, "a reader that is waited for was overtaken"
            out.write(b"".join(SEEN.pack(*pair) for pair in sink.seen))
            progress.reached(reader, log.head - fanout.index.unread)
            if not sink.seen:
                if ending:
                    return
                time.sleep(0.0002)
            sink.seen.clear()


def read_carelessly(address: str, progress: Progress, file: Path) -> None:
    log = Log(open_shared(address).memory)
    reads = laps = 0
    while not progress.over:
        last = 0
        for record in log.records():
            match = FRAME.fullmatch(record.frame)
            assert match, f"a torn record: {record!r}"
            position, number = checked(match)
            assert position == record.position > last
            assert record.channels == names_of(channels_of(number))
            last = position
            reads += 1
        laps += 1
    file.write_text(f"{reads} {laps}")


def start(work: Callable[[], object]) -> int:
    if (pid := os.fork()) == 0:
        code = 1
        signal.alarm(int(SECONDS + PATIENCE))  # who reads a broken log may read for ever
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    return pid


def stop_inside_an_append(log: Log, pid: int) -> bool:
    """Stop a writer while it has the lock; give up after a while, for it may be waiting for readers."""
    for _ in range(AIMS):
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        if log.locked_by == pid:
            return True
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.0005)  # it needs a processor to get anywhere
    return False


def kill_writers(log: Log, rng: random.Random, begin: Callable[[int], int], seconds: float) -> tuple[int, int]:
    """Kill writers at random moments and start others. How many, and how many of them had the lock."""
    deadline = time.monotonic() + seconds
    running = [begin(number) for number in range(WRITERS)]
    killed = inside = 0
    try:
        while time.monotonic() < deadline:
            time.sleep(rng.expovariate(1 / 0.004))
            place = rng.randrange(WRITERS)
            pid = running[place]
            if rng.random() < 0.5 and stop_inside_an_append(log, pid):
                inside += 1
                time.sleep(rng.choice((0, 0.002)))  # meanwhile the others wait for the lock
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
            running[place] = begin(WRITERS + killed)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return killed, inside


def let_writers_be(progress: Progress, begin: Callable[[int], int], seconds: float) -> None:
    """Writers that nobody kills: where a lock is not handed on, as in emulators, this is what can be tried."""
    running = [begin(number) for number in range(WRITERS)]
    time.sleep(seconds)
    progress.end_writing()
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running]
    assert codes == [0] * WRITERS


def was_told(directory: Path) -> "array[int]":
    """By position, the number + 1 of the event that a writer was told is there."""
    by_position = array("Q")
    for file in directory.glob("told-*"):
        raw = file.read_bytes()
        for first, count, number in TOLD.iter_unpack(raw[: len(raw) // TOLD.size * TOLD.size]):
            if first + count > len(by_position):
                by_position.frombytes(bytes(8 * (first + count - len(by_position) + 100_000)))
            for at in range(count):
                assert by_position[first + at] == 0, "a position was given twice"
                by_position[first + at] = number + at + 1
    while by_position and not by_position[-1]:
        by_position.pop()
    return by_position


def assert_all_was_seen(file: Path, told: "array[int]") -> tuple[int, int, int]:
    """How many a reader saw, how many of them a writer that died was not told of, and how many positions are empty."""
    raw = file.read_bytes()
    last = seen = known = 0
    for position, number in SEEN.iter_unpack(raw):
        assert position > last
        last = position
        seen += 1
        if position < len(told) and told[position]:
            assert told[position] == number + 1, f"position {position} is not what its writer was told"
            known += 1
    assert known == len(told) - told.count(0), "acknowledged events are missing"
    return seen, seen - known, last - seen


def make(kind: str, directory: Path) -> Segment:
    return create_shared(segment_size(LOG_SIZE)) if kind == "memory" else open_log_file(directory / "log", LOG_SIZE)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_no_record_is_torn_or_missing_whenever_writers_are_killed(tmp_path: Path, kind: str) -> None:
    write_and_read(tmp_path, kind, dying=True)


def test_no_record_is_torn_or_missing_while_writers_and_readers_race(tmp_path: Path) -> None:
    write_and_read(tmp_path, "memory", dying=False)


def write_and_read(tmp_path: Path, kind: str, *, dying: bool) -> None:
    seed = int(os.environ.get("SSE_FAST_LOG_SEED", random.randrange(2**32)))
    print(f"SSE_FAST_LOG_SEED={seed}")
    progress = Progress()
    with make(kind, tmp_path) as segment:
        address, log = segment.address, Log(segment.memory)

        def begin(writer: int) -> int:
            told = os.open(tmp_path / f"told-{writer}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                return start(lambda: write(address, progress, writer + 1, told))
            finally:
                os.close(told)

        careful = [tmp_path / f"seen-{reader}" for reader in range(CAREFUL)]
        readers = [
            start(lambda file=file, reader=reader: read_carefully(address, progress, reader, file))
            for reader, file in enumerate(careful)
        ]
        careless = tmp_path / "laps"
        readers += [start(lambda: read_carelessly(address, progress, careless)) for _ in range(CARELESS)]
        try:
            killed = inside = 0
            if dying:
                killed, inside = kill_writers(log, random.Random(seed), begin, SECONDS)
            else:
                let_writers_be(progress, begin, SECONDS)
            log.append(CHANNELS[2**62 % 7], body_of(2**62))  # whatever they left behind: it goes on
        finally:
            progress.end()
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers]
        assert codes == [0] * len(readers), "a reader found something wrong; what, it said above"
        verify(log)
        told = was_told(tmp_path)
        for file in careful:
            seen, unknown, empty = assert_all_was_seen(file, told)
        reads, laps = careless.read_text().split()
        del log
    print(
        f"{kind}, {SECONDS:g} s: {killed} writers killed, {inside} of them seen inside an append; {seen} events read, "
        f"{unknown} of writers that were not told, {empty} positions that nobody has; "
        f"a careless reader: {reads} events in {laps} rounds"
    )
    assert (killed > 0) is dying
    assert seen > 1000
