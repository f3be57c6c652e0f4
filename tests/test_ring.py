"""The log keeps whole events in order, refuses what does not fit, can be taken over, and never shows half a record."""

import mmap
import os
import re
import signal
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from model import ModelLog, parse

from sse_fast._native.log.index import Index
from sse_fast._native.log.ring import Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.errors import EventTooLarge, InvalidEvent

HEADER_SIZE, LOCK_AT = 4096, 1024
PATIENCE_SECONDS = 20


def body_of(size: int) -> bytes:
    return b"data: %s\n\n" % (b"x" * size)


def kept(log: Log) -> list[tuple[int, bytes, bytes]]:
    return [(record.position, record.channel, record.frame) for record in log.records()]


# ---- what is kept ----


def test_a_frame_is_its_body_with_an_id_line_before_the_empty_line_that_ends_it() -> None:
    log = Log.private(4096, epoch="abcdefg1")
    assert log.append(b"news", b"event: tick\ndata: one\ndata: two\n\n") == 1
    [record] = log.records()
    assert record.frame == b"event: tick\ndata: one\ndata: two\nid: abcdefg1-1\n\n"
    assert record.channel == b"news"
    assert abs(record.milliseconds - time.time() * 1000) < 60_000


def test_ids_are_epoch_and_position_and_fit_a_header_without_preflight() -> None:
    log = Log.private(4096)
    log.append(b"a", body_of(1))
    [frame] = parse(next(log.records()).frame)
    assert (frame.epoch, frame.position) == (log.epoch, 1)
    assert log.event_id(1) == f"{log.epoch}-1"
    assert re.fullmatch(r"[a-z0-9]{8}-[0-9]{1,20}", log.event_id(2**64 - 1))


def test_every_new_log_has_an_epoch_of_its_own() -> None:
    assert len({Log.private(4096).epoch for _ in range(50)}) == 50


def test_positions_rise_by_one_over_all_channels() -> None:
    log = Log.private(65536)
    assert [log.append(name, body_of(3)) for name in (b"a", b"b", b"a", b"c")] == [1, 2, 3, 4]
    assert log.append_many([(b"b", body_of(1)), (b"a", body_of(1))]) == 5
    assert log.append_many([]) == 7
    assert log.position == 6
    assert [position for position, _, _ in kept(log)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("size", [0, 1, 100, 500, 950])
def test_records_wrap_at_every_alignment_and_evict_only_what_they_must(size: int) -> None:
    for step in range(33):
        log, model = Log.private(4096, epoch="wraparou"), ModelLog(4096, "wraparou")
        for turn in range(60):
            body = body_of(min(900, size + turn * step % 64))
            log.append(b"c" * (turn % 3), body)
            model.append(b"c" * (turn % 3), body)
            assert (log.head, log.tail, log.used) == (model.head, model.tail, model.head - model.tail)
        assert kept(log) == [(event.position, event.channels[0], event.frame) for event in model.kept]
        assert log.used <= log.capacity


def test_a_pad_shorter_than_a_record_header_is_stepped_over() -> None:
    log = Log.private(4096, epoch="shortpad")
    for length in (960, 960, 960, 960, 240):
        log.append(b"", b"x" * (length - 32 - len("id: shortpad-1\n")))
    assert log.head == 4096 - 16
    assert log.append(b"after", b"data: the pad\n\n")
    assert kept(log)[-1][1:] == (b"after", b"data: the pad\nid: shortpad-%d\n\n" % log.position)
    assert Index(log).take_in(10_000) is False


# ---- several channels ----


def test_an_event_of_several_channels_is_one_record_that_names_them_all() -> None:
    log = Log.private(4096, epoch="abcdefg1")
    assert log.append((b"a", b"room:1", b""), body_of(1)) == 1
    assert log.append_many([(b"a", body_of(2)), ((b"b", b"c"), body_of(3)), ((b"d",), body_of(4))]) == 2
    records = list(log.records())
    assert [record.channels for record in records] == [(b"a", b"room:1", b""), (b"a",), (b"b", b"c"), (b"d",)]
    assert records[0].channel == b"a"
    assert [record.frame for record in records] == [
        b"data: %s\nid: abcdefg1-%d\n\n" % (b"x" * n, n) for n in range(1, 5)
    ]
    verify(log)


def test_a_channel_that_is_named_twice_is_one_channel() -> None:
    log = Log.private(4096)
    log.append((b"a", b"b", b"a"), body_of(1))
    log.append((b"a", b"a"), body_of(1))
    assert [record.channels for record in log.records()] == [(b"a", b"b"), (b"a",)]


def test_a_record_of_one_channel_takes_no_byte_more_because_others_have_several() -> None:
    log = Log.private(4096)
    log.append((b"c" * 16,), b"x" * (16 - len(f"id: {log.event_id(1)}\n")))
    assert log.used == 32 + 16 + 16
    frames, records = log.measure([((b"aa", b"bb"), body_of(1))])
    assert (frames, records) == (len(body_of(1)), 2 * 64)
    body = body_of(100)
    assert log.measure([((b"aa", b"bb"), body)])[1] == 32 + (2 + 2 + 2 + 2 + len(body) + 15 + 15) // 16 * 16


@pytest.mark.parametrize("count", [2, 3, 15])
def test_an_event_of_several_channels_takes_64_bytes_for_each_or_what_it_has(count: int) -> None:
    memory = bytearray(segment_size(4096))
    log, names = Log(memory, checksums=True), tuple(b"%d" % n for n in range(count))
    log.append(names, body_of(1))
    assert log.used == log.measure([(names, body_of(1))])[1] == 64 * count
    log.append_many([(names, body_of(1)), (b"a", body_of(1))])
    assert log.used == 2 * 64 * count + 64
    assert verify(log).events == 3
    memory[HEADER_SIZE] += 16  # the length of the first record
    with pytest.raises(ValueError, match="contradictory lengths"):
        verify(log)


def test_more_channels_than_a_quarter_of_the_log_has_room_for_are_refused() -> None:
    log, names = Log.private(4096), tuple(b"%d" % n for n in range(17))
    assert log.append(names[:16], body_of(1)) == 1
    for append in (log.append, lambda to, body: log.append_many([(b"a", body), (to, body)])):
        with pytest.raises(EventTooLarge, match="more than 16 channels; each takes 64 bytes"):
            append(names, body_of(1))
    assert log.position == 1


@pytest.mark.parametrize(
    ("channels", "error"),
    [
        ((), InvalidEvent),
        ((b"a", "b"), TypeError),
        ((b"a", None), TypeError),
        ((b"a", b"c" * 70_000), InvalidEvent),
        (tuple(b"%05d" % n + b"c" * 250 for n in range(300)), InvalidEvent),
        ([b"a", b"b"], TypeError),
    ],
)
def test_channels_that_no_record_can_name_are_refused_and_nothing_is_appended(
    channels: tuple[bytes, ...], error: type[Exception]
) -> None:
    log = Log.private(2**20)
    for append in (
        lambda: log.append(channels, body_of(1)),
        lambda: log.append_many([(b"a", body_of(1)), (channels, body_of(1))]),
    ):
        with pytest.raises(error):
            append()
    assert (log.head, log.position) == (0, 0)


# ---- what is refused ----


def test_an_event_over_a_quarter_of_the_log_is_refused_and_nothing_is_appended() -> None:
    log = Log.private(8192)
    log.append(b"a", body_of(1))
    before = (kept(log), log.head, log.position)
    with pytest.raises(EventTooLarge, match="a quarter"):
        log.append(b"a", b"x" * log.largest_record)
    assert (kept(log), log.head, log.position) == before


def test_the_largest_body_that_the_refusal_names_is_taken() -> None:
    log = Log.private(4096, epoch="abcdefg1")
    with pytest.raises(EventTooLarge) as refusal:
        log.append(b"abc", b"x" * 4000)
    [largest] = re.findall(r"up to (\d+)", str(refusal.value))
    with pytest.raises(EventTooLarge):
        log.append(b"abc", b"x" * (int(largest) + 1))
    assert log.append(b"abc", b"x" * int(largest)) == 1
    assert kept(log)[0][2].count(b"x") == int(largest)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((b"a", b"x" * 5000), EventTooLarge),
        ((b"c" * 70_000, b""), InvalidEvent),
        ((b"a", "text"), TypeError),
        ((None, b"x"), TypeError),
        ((b"a", None), TypeError),
        ((b"a",), TypeError),
    ],
)
def test_append_many_appends_all_or_nothing(bad: tuple[bytes, bytes], error: type[Exception]) -> None:
    log = Log.private(4096)
    with pytest.raises(error):
        log.append_many([(b"a", body_of(1)), (b"b", body_of(2)), bad])
    assert log.position == 0
    assert log.used == 0


def test_append_many_takes_an_iterator_too() -> None:
    log = Log.private(4096)
    assert log.append_many((name, body_of(1)) for name in (b"a", b"b")) == 1
    assert [channel for _, channel, _ in kept(log)] == [b"a", b"b"]


def test_a_record_stays_within_what_its_lengths_can_name(tmp_path: Path) -> None:
    """A quarter of a log of 64 GiB is more than a u32 can say."""
    with (tmp_path / "log").open("w+b") as file:
        os.truncate(file.fileno(), segment_size(64 * 2**30))  # sparse: nothing of it is ever written
        log = Log(mmap.mmap(file.fileno(), 0))
        assert log.largest_record <= 2**31


@pytest.mark.parametrize("epoch", ["", "short", "ninechars", "UPPERCAS", "with-das", "ümlautsx"])
def test_an_epoch_that_would_not_do_as_an_id_is_refused(epoch: str) -> None:
    with pytest.raises(ValueError, match="epoch"):
        Log.private(4096, epoch=epoch)


# ---- the segment ----


def test_the_header_lies_where_the_layout_says() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory, epoch="layout01")
    for _ in range(6):
        log.append(b"a", body_of(900))
    magic, layout, header_size, capacity, epoch, tail, head, next_position = struct.unpack_from("<8sIIQ8sQQQ", memory)
    assert (magic, layout, header_size, capacity) == (b"sse_fast", 5, HEADER_SIZE, 4096)
    assert (epoch, tail, head, next_position) == (b"layout01", log.tail, log.head, 7)
    assert 0 < tail < head
    oldest = struct.unpack_from("<IHHQQII", memory, HEADER_SIZE + tail % 4096)
    assert oldest[2:4] == (1, next(log.records()).position)


def test_appending_touches_nothing_in_the_header_but_how_far_it_got_and_a_lock_that_is_free_again() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory)
    before = memory[:HEADER_SIZE]
    for _ in range(50):
        log.append(b"a", body_of(700))
        log.append_many([(b"b", body_of(n)) for n in range(9)])
    changed = [at for at in range(HEADER_SIZE) if memory[at] != before[at]]
    assert changed
    assert all(32 <= at < 56 or LOCK_AT <= at < LOCK_AT + 64 for at in changed)
    assert log.locked_by == 0


@pytest.mark.parametrize(("asked", "data"), [(1, 4096), (4096, 4096), (4097, 8192), (65536, 65536), (100_000, 131_072)])
def test_a_segment_is_the_header_and_a_power_of_two(asked: int, data: int) -> None:
    assert segment_size(asked) == HEADER_SIZE + data
    assert Log.private(asked).capacity == data


def test_an_existing_segment_is_taken_over_as_it_stands() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    first = Log(memory)
    for n in range(90):
        first.append(b"a", body_of(n))
    second = Log(memory, epoch="ignored1")
    assert (second.epoch, second.position, kept(second)) == (first.epoch, 90, kept(first))
    assert second.append(b"b", body_of(1)) == 91
    assert first.append(b"a", body_of(1)) == 92
    assert kept(first) == kept(second)


def test_a_log_in_a_file_outlives_its_log_object(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        os.truncate(file.fileno(), segment_size(4096))
        memory = mmap.mmap(file.fileno(), 0)
        log = Log(memory)
        for n in range(50):
            log.append(b"a", body_of(n))
        before = (log.epoch, kept(log))
        del log
        memory.close()
        again = Log(mmap.mmap(file.fileno(), 0))
        assert (again.epoch, kept(again)) == before


def test_the_memory_cannot_be_closed_under_a_log() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory)
    with pytest.raises(BufferError):
        memory.close()
    del log
    memory.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda memory: memory.__setitem__(slice(0, 8), b"\x7fELF\x02\x01\x01\x00"), "not an sse_fast log"),
        (lambda memory: struct.pack_into("<I", memory, 8, 7), "layout 7"),
        (lambda memory: struct.pack_into("<I", memory, 12, 8192), "layout"),
        (lambda memory: struct.pack_into("<Q", memory, 16, 8192), "8192 bytes"),
    ],
)
def test_a_foreign_segment_is_refused_and_left_alone(damage, says: str) -> None:
    memory = bytearray(segment_size(4096))
    Log(memory).append(b"a", body_of(1))
    damage(memory)
    before = bytes(memory)
    with pytest.raises(ValueError, match=says):
        Log(memory)
    assert bytes(memory) == before


@pytest.mark.parametrize("size", [0, 7, HEADER_SIZE, HEADER_SIZE + 4095])
def test_a_segment_too_small_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        Log(bytearray(size))


def test_a_segment_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        Log(bytearray(HEADER_SIZE + 5000))


def test_read_only_memory_is_refused() -> None:
    with pytest.raises(BufferError):
        Log(bytes(segment_size(4096)))  # type: ignore[arg-type]


# ---- readers and a writer that does not wait for them ----


def test_a_writer_that_died_before_its_commit_leaves_the_log_as_it_was() -> None:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory)
    for n in range(20):
        log.append(b"a", body_of(n))
    before, head = kept(log), log.head
    position_at = struct.calcsize("<8sIIQ8sQQ")
    at = HEADER_SIZE + head % 4096
    memory[at : at + 64] = b"\xff" * 64  # it had begun to write the record...
    struct.pack_into("<Q", memory, position_at, 22)  # ...and had taken its position
    assert kept(log) == before
    assert log.append(b"a", body_of(5)) == 22
    assert [position for position, _, _ in kept(log)] == [*range(1, 21), 22]


def checked_body(number: int) -> bytes:
    filler = b"%d " % number * (number * 7919 % 90)
    return b"data: %d %08x %s\n\n" % (number, zlib.crc32(filler), filler)


@contextmanager
def written_by_another_process(memory: mmap.mmap) -> Iterator[None]:
    """Another process appends without rest while the block runs: whoever reads meanwhile is lapped again and again."""
    writer = os.fork()
    if writer == 0:
        try:
            log, number, end = Log(memory), 0, time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < end:
                log.append_many([(b"c%d" % (n % 5), checked_body(n)) for n in range(number, number + 20)])
                number += 20
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def assert_whole(frame: bytes) -> int:
    [event] = parse(frame)
    number, crc, filler = event.data.split(" ", 2)
    assert int(crc, 16) == zlib.crc32(filler.encode())
    return int(number)


def test_no_torn_record_surfaces_while_another_process_laps_the_reader() -> None:
    memory = mmap.mmap(-1, segment_size(65536))
    log = Log(memory)
    seen = laps = 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    with written_by_another_process(memory):
        while seen < 20_000 or laps < 20:
            assert time.monotonic() < deadline, f"too little happened: {seen} records, {laps} laps"
            last = 0
            for record in log.records():
                assert record.position > last
                laps += last > 0 and record.position > last + 1
                last = record.position
                assert assert_whole(record.frame) == record.position - 1
                assert record.channel == b"c%d" % ((record.position - 1) % 5)
                seen += 1
