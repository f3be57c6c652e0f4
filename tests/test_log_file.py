"""A log's file that is flipped, cut, overwritten, put back, or has no room: nothing is lost, and no id is given twice,
without a word.
"""

import asyncio
import ctypes
import errno
import faulthandler
import logging
import mmap
import os
import random
import resource
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PATIENCE, Edges, until
from taking import Taking
from test_segment import HEAD_AT, NEXT_AT, SIZE, epoch_and_kept, kept, patch, set_aside, u64, written

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import HEADER_SIZE, Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.errors import HubClosed, LogBusy, UnusableLogFile
from sse_fast.hub.hub import Hub
from sse_fast.hub.subscription import Subscription
from sse_fast.node import segment as segments
from sse_fast.node import serve
from sse_fast.node.memory import memory_available, memory_limit
from sse_fast.node.segment import open_log_file
from sse_fast.node.serve import CannotServe, check_memory
from sse_fast.settings import Settings

FLIPS = int(os.environ.get("SSE_FAST_LOG_FLIPS", "400"))
PROT_NONE = 0
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def before_a_guard_page(raw: bytes) -> Iterator[memoryview]:
    """These bytes at the very end of the memory that can be read: one more is a SIGSEGV."""
    size = -(-len(raw) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE) == 0
    view = memoryview(memory)[size - len(raw) : size]
    view[:] = raw
    yield view
    libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(mmap.PAGESIZE), 3)


def resumed(log: Log, last_event_id: str) -> str:
    """What a client that comes back with this id is told: "complete" or "gap"."""
    hub = Hub(log=log)
    subscriber = hub.fanout.subscribe([b"c"], Sink(), after=hub.cursor(last_event_id))
    return "gap" if subscriber.lost else "complete"


# ---- flipped bits ----


def equal_records(path: Path, events: int = 40) -> str:
    """A log that was killed, of records of 64 bytes each: a flipped bit leads from one beginning to another."""
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        for _ in range(events):
            log.append(b"c", b"data: %s\n\n" % (b"x" * 5))
        segment._owner = 0  # as if it had been killed
        return log.event_id(log.position)


@pytest.mark.parametrize("bit", range(64))
@pytest.mark.parametrize("field", [HEAD_AT, NEXT_AT, 32], ids=["head", "next position", "tail"])
def test_a_flipped_bit_in_how_far_a_log_got_loses_no_newest_event_in_silence(
    tmp_path: Path, field: int, bit: int
) -> None:
    path = tmp_path / "log"
    newest = equal_records(path)
    raw = path.read_bytes()
    patch(path, field, u64(struct.unpack_from("<Q", raw, field)[0] ^ 1 << bit))
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        there = kept(log)
        if not there:
            assert set_aside(path), "all of it went without a word"
            assert resumed(log, newest) == "gap"
        else:
            assert b"id: %s\n" % newest.encode() in there[-1][2]
            assert resumed(log, newest) == "complete"
        assert log.append(b"c", b"data: on\n\n") == log.position < 2**63
        assert kept(log)[-1][0] == log.position


def test_a_head_that_was_set_back_is_rolled_forward_over_what_was_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    equal_records(path)
    raw = path.read_bytes()
    length = struct.unpack_from("<I", raw, HEADER_SIZE)[0]
    patch(path, HEAD_AT, u64(struct.unpack_from("<Q", raw, HEAD_AT)[0] - 3 * length))
    _, there = epoch_and_kept(path)
    assert [position for position, _, _ in there] == list(range(1, 41))
    assert f"{3 * length} bytes of sound events beyond its head are kept too" in caplog.text


@pytest.mark.parametrize("at", range(8, 32))
def test_a_flipped_bit_in_what_a_log_is_is_found(tmp_path: Path, at: int) -> None:
    path = tmp_path / "log"
    equal_records(path)
    raw = path.read_bytes()
    patch(path, at, bytes([raw[at] ^ 1]))
    assert epoch_and_kept(path)[1] == []
    assert set_aside(path)


def test_a_record_does_not_become_a_pad_by_one_bit(tmp_path: Path) -> None:
    """The last record before the ring's end: of its length a pad would be, and pads are passed over."""
    memory = bytearray(segment_size(4096))
    log = Log(memory, epoch="equalpad", checksums=True)
    for _ in range(64):
        log.append(b"c", b"data: %s\n\n" % (b"x" * 100))
        end = (log.head - 1) % 4096 + 1
        if end == 4096:
            break
        fill = 4096 - end
        if 64 <= fill <= 900:
            log.append(b"", b"x" * (fill - 32 - len(b"id: equalpad-%d\n" % (log.position + 1))))
            break
    assert log.head % 4096 == 0
    last = max(at for at in range(0, 4096, 16) if is_record(memory, at, 4096 - at))
    memory[HEADER_SIZE + last + 4] ^= 1
    with pytest.raises(ValueError, match="the record at"):
        verify(log)


def is_record(memory: bytearray, at: int, length: int) -> bool:
    found, flags, _, position = struct.unpack_from("<IHHQ", memory, HEADER_SIZE + at)
    return found == length and flags == 0 and 0 < position < 100


@pytest.mark.parametrize("position", [0, 2**62, 2**63, 2**64 - 1])
def test_a_position_that_no_log_gets_to_is_damage(tmp_path: Path, position: int) -> None:
    path = tmp_path / "log"
    written(path, events=0)
    patch(path, NEXT_AT, u64(position))
    epoch_and_kept(path)
    assert len(set_aside(path)) == 1
    with open_log_file(path, SIZE) as segment:
        assert Log(segment.memory).append(b"c", b"data: x\n\n") == 1


# ---- random damage ----


def test_a_short_record_at_the_end_is_not_read_past_the_mapping() -> None:
    memory = bytearray(segment_size(4096))
    log = Log(memory, checksums=True)
    while log.head < 4096 - 64:
        log.append(b"", b"data: x\n\n")
    raw = bytearray(memory)
    at = 4096 - 16
    struct.pack_into("<QQQ", raw, 32, at, 4096, log.position + 1)
    struct.pack_into("<IHHQ", raw, HEADER_SIZE + at, 16, 0, 0, 1)
    with before_a_guard_page(bytes(raw)) as view, pytest.raises(ValueError, match="wrong length, 16"):
        verify(Log(view))


def test_random_damage_is_found_or_harmless_and_never_read_past_the_mapping() -> None:
    chance = random.Random(os.environ.get("SSE_FAST_LOG_SEED", "18"))
    sound = bytearray(segment_size(4096))
    log = Log(sound, epoch="randomly", checksums=True)
    published = {}
    for number in range(1, 201):
        body = b"data: %s\n" % (b"x" * chance.choice((0, 5, 60, 300)))
        log.append(b"c" * (number % 9), body + b"\n")
        published[number] = body + b"id: randomly-%d\n\n" % number
    newest, found = log.position, 0
    with before_a_guard_page(bytes(sound)) as view:
        for _ in range(FLIPS):
            view[:] = sound
            damage(view, chance)
            try:
                verify(Log(bytearray(view)))  # whose end a sanitizer guards
                verify(Log(view))
            except ValueError:
                found += 1
                continue
            heir = Log(view)
            heir.claim(b"")
            heir.go_on(verify(heir).head)
            there = {record.position: record.frame for record in heir.records()}
            # What had been given up may be there again, if the tail was damaged; but all that is there was published.
            assert list(there) == list(range(min(there), newest + 1))
            assert all(published[position] == frame for position, frame in there.items())
            assert heir.append(b"c", b"data: on\n\n") > newest
    assert found > FLIPS // 2


def test_a_randomly_damaged_file_is_served_whole_or_set_aside(tmp_path: Path) -> None:
    """scripts/sanitized -m pytest tests/test_log_file.py -k damage, with SSE_FAST_LOG_FLIPS=20000: the long form."""
    chance = random.Random(os.environ.get("SSE_FAST_LOG_SEED", "18"))
    path = tmp_path / "log"
    _, events = written(path, close=False)
    sound = path.read_bytes()
    served = 0
    for _ in range(FLIPS // 4):
        raw = bytearray(sound)
        damage(memoryview(raw), chance)
        path.write_bytes(raw)
        with open_log_file(path, SIZE) as segment:
            log = Log(segment.memory)
            fanout, sink = FanOut(log), TakingFrames()
            fanout.unblock(fanout.subscribe([b"c%d" % n for n in range(5)], sink, after=EARLIEST), 0.0)
            position = log.append(b"c1", b"data: on\n\n")
            while fanout.drain(0.0):
                pass
            *taken, last = sink.frames()
            assert last == b"data: on\nid: %s\n\n" % log.event_id(position).encode()
            if taken:  # what was kept, up to the newest
                assert taken[-1] == events[-1][2]
                assert not set_aside(path)
                served += 1
            del fanout, log
        for other in set_aside(path):
            other.unlink()
    assert 0 < served < FLIPS // 4


class TakingFrames(Taking):
    def frames(self) -> list[bytes]:
        return [frame + b"\n\n" for frame in self.stream.split(b"\n\n")[:-1]]


def damage(view: memoryview, chance: random.Random) -> None:
    kind = chance.randrange(4)
    if kind == 0:  # a bit, more often than not of a header
        at = chance.choice((chance.randrange(8, 128), chance.randrange(HEADER_SIZE, len(view))))
        view[at] ^= 1 << chance.randrange(8)
    elif kind == 1:  # a field of the header
        struct.pack_into("<Q", view, 8 * chance.randrange(1, 8), chance.getrandbits(chance.choice((8, 13, 64))))
    elif kind == 2:  # the head of a record, or what looks like one
        at = HEADER_SIZE + 16 * chance.randrange(256)
        struct.pack_into(
            "<IHH", view, at, chance.choice((0, 16, 32, 48, 4096, 2**32 - 16)), chance.randrange(3), chance.randrange(9)
        )
    else:  # a stretch of anything
        at = chance.randrange(32, len(view) - 64)
        view[at : at + 64] = chance.randbytes(64)


# ---- a copy that is put back ----


def put_back_in_place(copy: Path, path: Path) -> None:
    shutil.copyfile(copy, path)


def put_back_with_all_it_had(copy: Path, path: Path) -> None:
    shutil.copy2(copy, path)


def put_back_by_name(copy: Path, path: Path) -> None:
    copy.replace(path)


@pytest.mark.parametrize("put_back", [put_back_in_place, put_back_with_all_it_had, put_back_by_name])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_a_copy_that_is_put_back_gives_no_id_twice_and_tells_of_what_is_missing(
    tmp_path: Path, put_back: Callable[[Path, Path], None], closed: bool
) -> None:
    path, copy = tmp_path / "log", tmp_path / "copy"
    written(path, events=10, close=closed)
    shutil.copy2(path, copy)
    given = set()
    with open_log_file(path, SIZE) as segment:  # the server goes on
        log = Log(segment.memory)
        before, cursor = log.event_id(10), f"{log.epoch}-10"
        given |= {log.event_id(log.append(b"c", b"data: acknowledged\n\n")) for _ in range(10)}
        newest = log.event_id(log.position)
        if not closed:
            segment._owner = 0
        del log
    put_back(copy, path)
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        assert not given & {log.event_id(log.append(b"c", b"data: again\n\n")) for _ in range(30)}
        assert log.event_id(10) == before
        assert resumed(log, newest) == "gap"  # though this log has got further than that by now
        assert resumed(log, before) == "complete"
        assert resumed(log, cursor) == "gap"  # it names the other life of the log, whoever gave it
        assert resumed(log, log.event_id(15)) == "complete"


def test_ids_of_every_earlier_life_resume_exactly(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ids = []
    for life in range(60):
        with open_log_file(path, SIZE) as segment:
            log = Log(segment.memory)
            ids.append(log.event_id(log.append(b"c", b"data: %d\n\n" % life)))
            del log
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        told = [resumed(log, id) for id in ids]
        # So many lives are remembered; who comes from before is told.
        assert told == ["gap"] * 12 + ["complete"] * 48
        assert [log.event_id(position) for position in range(13, 61)] == ids[12:]
        assert resumed(log, ids[-1].partition("-")[0] + "-61") == "gap"  # that life ended before


def test_lives_that_publish_nothing_make_no_earlier_life_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        connected, first = log.event_id(0), log.event_id(log.append(b"c", b"data: first\n\n"))
        del log
    names = {epoch_and_kept(path)[0] for _ in range(60)}
    assert len(names) == 60
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        assert (resumed(log, connected), resumed(log, first)) == ("complete", "complete")
        assert log.event_id(1) == first


def test_after_a_restart_a_stream_says_ids_of_the_epoch_that_gave_them(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        given = log.event_id(log.append(b"c", b"data: before\n\n"))
        del log
    with open_log_file(path, SIZE) as segment:
        hub = Hub(log=Log(segment.memory))

        def opening() -> bytes:
            subscriber = hub.fanout.subscribe([b"c"], Sink())
            return Subscription(hub, subscriber, Sink(), None).opening()

        assert opening().endswith(b"\nid: %s\n\n" % given.encode())
        new = hub.log.event_id(hub.log.append(b"c", b"data: after\n\n"))
        assert opening().endswith(b"\nid: %s\n\n" % new.encode())
        assert not new.startswith(given.partition("-")[0])


@contextmanager
def killed_at_the_first_store(memory: mmap.mmap, at: int, work: Callable[[], object]) -> Iterator[int]:
    """A process that does this work, and dies of SIGSEGV when it stores into that page of a shared memory."""
    if (child := os.fork()) == 0:
        faulthandler.disable()
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        libc.mprotect(ctypes.c_void_p(address + at), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ)
        try:
            work()
        finally:
            os._exit(0)
    yield os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_of_a_batch_whose_writer_died_all_is_rolled_forward_or_nothing_also_past_a_pad_of_the_next() -> None:
    memory = mmap.mmap(-1, segment_size(8192))
    log = Log(memory, epoch="halfbatc", checksums=True)
    while log.head < 8192 - 200:
        log.append(b"c", b"data: x\n\n")
    head, batch = log.head, range(log.position + 1, log.position + 7)
    log.append_many([(b"c", b"data: batch\n\n")] * len(batch))
    assert log.head > 8192, "the batch goes over the end"
    struct.pack_into("<Q", memory, HEAD_AT, head)  # its writer died before it stored this
    large = b"data: %s\n\n" % (b"x" * 500)
    with killed_at_the_first_store(memory, HEADER_SIZE, lambda: Log(memory).append(b"c", large)) as end:
        assert end == -signal.SIGSEGV
    heir = Log(bytearray(memory))
    heir.go_on(verify(heir).head)
    assert [position for position, *_ in kept(heir) if position in batch] in ([], list(batch))


def test_going_on_with_a_file_says_what_was_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    epoch, events = written(path, events=7)
    with caplog.at_level(logging.INFO, "sse_fast.node"):
        epoch_and_kept(path)
    [told] = [record for record in caplog.records if "goes on" in record.message]
    found = vars(told)
    assert (found["log_file"], found["events"]) == (str(path), len(events))
    assert (found["from"], found["to"]) == (f"{epoch}-1", f"{epoch}-7")


# ---- who may read it, and what it needs ----


@pytest.mark.parametrize("mode", [0o666, 0o640, 0o604])
def test_a_log_file_that_others_may_read_or_write_is_closed_to_them(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    _, events = written(path)
    path.chmod(mode)
    assert epoch_and_kept(path)[1] == events
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"had mode {mode:03o}" in caplog.text


def without_room_for_two(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A disk that has room for one log file."""
    allocate = os.posix_fallocate

    def on_a_small_disk(descriptor: int, start: int, size: int) -> None:
        others = sum(other.stat().st_size for other in path.parent.iterdir() if other != path)
        if others:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(descriptor, start, size)

    monkeypatch.setattr(segments.os, "posix_fallocate", on_a_small_disk)


def test_a_damaged_file_gives_way_where_there_is_no_room_for_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    written(path)
    patch(path, HEADER_SIZE + 8 * 4096, bytes(4096))
    without_room_for_two(monkeypatch, path)
    assert epoch_and_kept(path)[1] == []
    assert not set_aside(path)
    assert "no room for a new log beside" in caplog.text


def test_a_file_of_another_version_does_not_give_way_and_the_refusal_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    written(path)
    patch(path, 8, struct.pack("<I", 2))
    without_room_for_two(monkeypatch, path)
    for _ in range(2):
        with pytest.raises(UnusableLogFile, match=r"No space left.*set aside before: .*log\.layout-2-"):
            open_log_file(path, SIZE)


def test_a_log_that_memory_cannot_hold_is_said_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(serve, "memory_limit", lambda: 2**30)
    monkeypatch.setattr(serve, "memory_available", lambda: 2**28)
    with pytest.raises(CannotServe, match=r"log_size asks for 2,048 MiB, and there are 1,024 MiB of memory here"):
        check_memory(Settings(log_size=2**31))
    with pytest.raises(CannotServe, match=r"log_size of 22 GiB is rounded up to 32 GiB, and there are 1,024 MiB"):
        check_memory(Settings(log_size=22 * 2**30))
    assert not caplog.records
    check_memory(Settings(log_size=2**31, log_file=tmp_path / "log"))
    assert "is read from the disk" in caplog.text
    caplog.clear()
    check_memory(Settings(log_size=2**29))
    assert "256 MiB of memory are free now" in caplog.text
    caplog.clear()
    check_memory(Settings(log_size=2**27))
    assert not caplog.records


def test_memory_is_what_the_machine_has_or_the_control_group_allows(tmp_path: Path) -> None:
    assert (memory_limit(tmp_path), memory_available(tmp_path)) == (None, None)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\nSwapTotal: 1024 kB\nSwapFree: 512 kB\n"
    )
    assert (memory_limit(tmp_path), memory_available(tmp_path)) == (5120 * 1024, 1536 * 1024)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/old\n0::/a/b\n")
    limits = tmp_path / "sys/fs/cgroup"
    (limits / "a/b").mkdir(parents=True)
    (limits / "memory/old").mkdir(parents=True)
    kib = 1024

    def limited(file: str, text: object) -> None:
        (limits / file).write_text(f"{text}\n")

    limited("a/b/memory.max", "max")
    limited("a/memory.max", 3000 * kib)
    limited("memory/old/memory.limit_in_bytes", "x")
    assert memory_limit(tmp_path) == (3000 + 1024) * kib, "all the swap of the machine"
    limited("a/b/memory.swap.max", 100 * kib)
    limited("a/memory.swap.max", "max")
    assert memory_limit(tmp_path) == 3100 * kib
    limited("a/memory.swap.max", 0)
    assert memory_limit(tmp_path) == 3000 * kib
    limited("memory/old/memory.limit_in_bytes", 1000 * kib)
    assert memory_limit(tmp_path) == (1000 + 1024) * kib
    limited("memory/old/memory.memsw.limit_in_bytes", 1500 * kib)
    assert memory_limit(tmp_path) == 1500 * kib
    assert memory_limit() is not None


# ---- while it is served ----


def overwrite(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[24:32] = b"stranger"
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param(lambda path: os.truncate(path, 0), "was made 0 bytes long while it was served", id="truncated"),
        pytest.param(lambda path: os.truncate(path, 8192), "was made 8192 bytes long", id="cut within the events"),
        pytest.param(overwrite, "was overwritten while it was served", id="overwritten"),
        pytest.param(
            lambda path: patch(path, 0, bytes(HEADER_SIZE)), "was overwritten while it was served", id="header zeroed"
        ),
        pytest.param(
            lambda path: patch(path, 128, b"\xff" * 64),
            "was overwritten while it was served",
            id="its checksum overwritten",
        ),
    ],
)
def test_a_live_file_that_is_harmed_ends_the_server_in_words_and_the_next_begins_anew(
    edge: Edges, tmp_path: Path, harm: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "live-log"
    process = edge("--log-file", str(path), "--log-size", "256KiB")
    for number in range(20):
        process.publish("c", f"{number}" * 1000)
    process.noise_expected = True
    harm(path)
    assert process.wait() == 1
    assert says in process.log()
    assert "Traceback" not in process.log()
    process.start()
    until(lambda: process.publish("c", "on"), "an answer")
    process.stop()


def test_what_is_watched_is_what_stays_in_the_first_136_bytes_and_other_harm_is_found_at_the_next_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    with open_log_file(path, SIZE) as segment:
        Log(segment.memory).append(b"c", b"data: 1\n\n")
        watched, sound = [], path.read_bytes()[:HEADER_SIZE]
        for at in range(HEADER_SIZE):
            byte = sound[at]
            patch(path, at, bytes([byte ^ 1]))
            if segment.what_is_wrong() is not None:
                watched.append(at)
            patch(path, at, bytes([byte]))
        assert watched == [*range(32), *range(56, 60), *range(64, 104), *range(132, 136)]
        patch(path, 1088, b"stranger")  # in its first epoch
        assert segment.what_is_wrong() is None
        segment._owner = 0  # as if it had been killed
    open_log_file(path, SIZE).close()
    assert [other.name.startswith("log.damaged-") for other in set_aside(path)] == [True]


async def test_over_a_log_that_was_overwritten_nothing_is_acknowledged_and_the_drain_waits_for_nothing() -> None:
    memory = mmap.mmap(-1, segment_size(SIZE))
    hub = Hub(log=Log(memory))
    await hub.publish("a", "x")
    while hub.fanout.index.unread:  # noqa: ASYNC110
        await asyncio.sleep(0)
    memory[:HEADER_SIZE] = bytes(HEADER_SIZE)
    for events in ([(b"a", b"data: x\n\n")], [(b"a", b"data: x\n\n")] * 10):
        with pytest.raises(HubClosed, match="overwritten"):
            await hub.append(events)
    async with asyncio.timeout(PATIENCE):
        await hub.drain(1000 * PATIENCE)
    await hub.close()


def test_a_lock_that_was_overwritten_is_a_busy_log() -> None:
    memory = mmap.mmap(-1, segment_size(SIZE))
    log = Log(memory)
    memory[1024:HEADER_SIZE] = b"\xff" * (HEADER_SIZE - 1024)
    with pytest.raises(LogBusy):
        log.append(b"a", b"data: x\n\n")


def test_a_log_whose_header_was_zeroed_is_set_aside_with_its_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    written(path)
    patch(path, 0, bytes(HEADER_SIZE))
    was = path.read_bytes()
    segments.open_log_file(path, SIZE).close()
    (aside,) = set_aside(path)
    assert aside.read_bytes() == was
    assert "its header is all zero, and there are events behind it" in caplog.text
