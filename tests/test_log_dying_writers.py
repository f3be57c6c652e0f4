"""The log after a writer that died: at every single instruction of an append, and by SIGKILL in the midst of things.

A process is killed between two instructions, so the memory it leaves is what a debugger sees there: the first tests
step through appends, and go on from a copy of each memory on the way.
"""

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import missing
from model import Channels, names_of

from sse_fast._native.log.index import Index
from sse_fast._native.log.ring import HEADER_SIZE, Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.errors import LogBusy
from sse_fast.node import segment as segments
from sse_fast.node.segment import open_log_file

TRACE_ME, SINGLE_STEP = 0, 9  # sys/ptrace.h
STEPS_TO_THE_LOCK = 1_000_000
NEXT_AT, CLOSED_AT = 48, 60
LOG_SIZE = 65536

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def body_of(size: int) -> bytes:
    return b"data: %s\n\n" % (b"x" * size)


def kept(log: Log) -> list[tuple[int, bytes, bytes]]:
    return [(record.position, record.channel, record.frame) for record in log.records()]


def kept_of_all_channels(log: Log) -> list[tuple[int, tuple[bytes, ...], bytes]]:
    return [(record.position, record.channels, record.frame) for record in log.records()]


@contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def memories_on_the_way(memory: mmap.mmap, append: Callable[[Log], object], log: Log | None = None) -> list[bytes]:
    """The memory as it is after every instruction that another process executes while it has the log's lock.
    `log`: where it is, if there is more in this memory."""
    log = log if log is not None else Log(memory)

    def traced() -> None:
        if libc.ptrace(TRACE_ME, 0, None, None) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            append(log)

    found: list[bytes] = []
    with child(traced) as pid:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            missing("a kernel that lets a process trace its child")
        for _ in range(STEPS_TO_THE_LOCK):
            assert libc.ptrace(SINGLE_STEP, pid, None, None) == 0
            _, status = os.waitpid(pid, 0)
            assert os.WIFSTOPPED(status), "it ended before it had the lock"
            if log.locked_by == pid:
                found.append(memory[:])
            elif found:
                return found
    raise AssertionError("it never had the lock")


def filled(events: int, size: int, *, checksums: bool = False) -> mmap.mmap:
    memory = mmap.mmap(-1, segment_size(4096))
    log = Log(memory, epoch="dyingwri", checksums=checksums)
    for _ in range(events):
        log.append(b"old", body_of(size))
    return memory


@pytest.mark.parametrize(
    ("memory", "batch"),
    [
        pytest.param(filled(0, 0), [(b"a", body_of(1))], id="the first"),
        pytest.param(filled(3, 100), [(b"a", body_of(100))], id="room for it"),
        pytest.param(filled(40, 150), [(b"a", body_of(600))], id="evicting several"),
        pytest.param(filled(21, 100), [(b"a", body_of(900))], id="a pad"),
        pytest.param(filled(21, 100, checksums=True), [(b"a", body_of(900))], id="a pad, checksums"),
        pytest.param(filled(30, 300), [(b"a", body_of(30)), (b"b", body_of(600)), (b"c", b"")], id="a batch"),
        pytest.param(
            filled(14, 200, checksums=True), [(b"a", body_of(20 * n)) for n in range(7)], id="a batch over the end"
        ),
        pytest.param(
            filled(30, 300, checksums=True),
            [((b"a", b"bb", b"ccc"), body_of(30)), (b"b", body_of(600)), ((b"c", b"d"), b"")],
            id="several channels",
        ),
    ],
)
def test_a_writer_that_dies_at_any_instruction_leaves_a_whole_log(
    memory: mmap.mmap, batch: list[tuple[Channels, bytes]]
) -> None:
    log = Log(memory)
    before, position = kept_of_all_channels(log), log.position
    on_the_way = memories_on_the_way(memory, lambda log: log.append_many(batch))
    new = [record for record in kept_of_all_channels(log) if record[0] > position]
    assert [channels for _, channels, _ in new] == [names_of(channels) for channels, _ in batch]
    committed = set()
    for left in on_the_way:
        copy = mmap.mmap(-1, len(left))
        copy[:] = left
        heir = Log(copy)
        heir.claim(b"")  # as the kernel does with a lock whose holder died
        heir.go_on(verify(heir).head)
        there = kept_of_all_channels(heir)
        gained = [record for record in there if record[0] > position]
        committed.add(len(gained))
        # A suffix of what was kept, then all of the batch or nothing: nothing half, nothing out of turn.
        old = there[: len(there) - len(gained)]
        assert old == before[len(before) - len(old) :]
        assert gained in ([], new)
        # And the log goes on, at a position that nobody has had, past any pad and eviction that was begun.
        for size in (5, 700, 890):
            last = max((record[0] for record in there), default=0)
            appended = heir.append(b"heir", body_of(size))
            assert appended > last
            verify(heir)
            there = kept_of_all_channels(heir)
            assert there[-1][:2] == (appended, (b"heir",))
        index = Index(heir)
        assert not index.take_in(10_000)
        assert (index.position, index.kept) == (heir.position, len(there))
    assert committed == {0, len(batch)}, "the append was not stepped through to its end"


def headers_on_the_way(path: Path) -> Iterator[bytes]:
    """A log's file as it is after every instruction of a server that begins to go on with it, where that changes it."""

    class Traced(Log):
        def go_on(self, *args: Any) -> None:
            if libc.ptrace(TRACE_ME, 0, None, None) == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            super().go_on(*args)

    def go_on() -> None:
        segments.Log = Traced  # type: ignore[misc]
        open_log_file(path, LOG_SIZE)

    with path.open("r+b") as file:
        header = mmap.mmap(file.fileno(), HEADER_SIZE)
    last = header[:]
    with child(go_on) as pid:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            missing("a kernel that lets a process trace its child")
        for _ in range(STEPS_TO_THE_LOCK):
            assert libc.ptrace(SINGLE_STEP, pid, None, None) == 0
            os.waitpid(pid, 0)
            if header[:] != last:
                last = header[:]
                yield last
                if last[CLOSED_AT : CLOSED_AT + 4] == bytes(4):
                    return
    raise AssertionError("it never went on")


@pytest.mark.parametrize("boot", ["", "another"], ids=["the same boot", "after a reboot"])
def test_a_server_that_dies_at_any_instruction_while_it_goes_on_with_a_file_costs_nothing_of_it(
    tmp_path: Path, boot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    if boot:
        (tmp_path / "boot_id").write_text(boot)
        monkeypatch.setattr(segments, "BOOT_ID", tmp_path / "boot_id")
    with open_log_file(path, LOG_SIZE) as segment:
        log = Log(segment.memory)
        ids = [log.event_id(log.append(b"c", body_of(size))) for size in range(20)]
        there = kept(log)
        del log
    monkeypatch.undo()
    sound = path.read_bytes()
    on_the_way = list(headers_on_the_way(path))
    assert len({header[24:32] for header in on_the_way} - {sound[24:32]}) == 1, "it has another epoch"
    for header in on_the_way:
        path.write_bytes(header + sound[HEADER_SIZE:])
        with open_log_file(path, LOG_SIZE) as segment:
            log = Log(segment.memory)
            assert kept(log) == there
            assert [log.event_id(position) for position in range(1, 21)] == ids
            del log


# ---- the lock ----


@contextmanager
def stopped_inside_an_append(memory: mmap.mmap) -> Iterator[int]:
    """Another process that has appended something, holds the lock, and is stopped."""
    log = Log(memory)

    def append() -> None:
        batch = [(b"other", body_of(200))] * 2000
        while True:
            try:
                log.append_many(batch)
            except LogBusy:
                continue

    with child(append) as pid:
        while True:
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            if log.locked_by == pid and log.head:
                break
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.0005)  # it needs a processor to get anywhere
        yield pid


def test_a_stopped_writer_blocks_nobody_and_the_refusal_names_it() -> None:
    memory = mmap.mmap(-1, segment_size(4 * 1024 * 1024))
    log = Log(memory)
    with stopped_inside_an_append(memory) as pid:
        head, position = log.head, log.position
        for _ in range(3):
            with pytest.raises(LogBusy, match=f"process {pid}"):
                log.append(b"a", body_of(1))
            with pytest.raises(LogBusy):
                log.append_many([(b"a", body_of(1)), (b"b", body_of(1))])
        assert (log.head, log.position) == (head, position)
        assert kept(log)[-1][1] == b"other"  # who reads does not wait at all
        os.kill(pid, signal.SIGCONT)
        while log.locked_by == pid and log.head == head:
            os.sched_yield()


def test_the_lock_of_a_killed_writer_goes_to_the_next_and_what_it_had_not_committed_is_not_there() -> None:
    memory = mmap.mmap(-1, segment_size(4 * 1024 * 1024))
    log = Log(memory)
    with stopped_inside_an_append(memory):
        position = max(record[0] for record in kept(log))
    appended = log.append(b"a", body_of(1))
    assert appended > position
    assert kept(log)[-1][:2] == (appended, b"a")
    verify(log)
    assert log.locked_by == 0


def test_a_lock_that_is_had_after_a_wait_is_given_back() -> None:
    """A writer that is continued in time: who waited goes on, and so do others."""
    memory = mmap.mmap(-1, segment_size(4 * 1024 * 1024))
    log = Log(memory)
    with stopped_inside_an_append(memory) as pid:
        os.kill(pid, signal.SIGCONT)
        appended = 0
        while appended < 100:
            try:
                log.append(b"a", body_of(1))
                appended += 1
            except LogBusy:  # on a machine with too much to do
                continue
    assert log.locked_by == 0


def test_a_position_that_was_taken_and_never_committed_is_nowhere_shown_by_the_index() -> None:
    memory = filled(5, 10)
    memory[NEXT_AT : NEXT_AT + 8] = (9).to_bytes(8, "little")
    index = Index(Log(memory))
    index.take_in(100)
    assert index.position == 5
    Log(memory).append(b"a", body_of(1))
    index.take_in(100)
    assert index.position == 9
