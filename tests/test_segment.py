"""A log's file outlives its server and is never half-read; a shared segment leaks nothing, however its maker ends."""

import errno
import logging
import multiprocessing
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sse_fast._native.fanout.drain import EARLIEST, FanOut
from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.log.ring import HEADER_SIZE, Log, segment_size
from sse_fast._native.log.verify import verify
from sse_fast.errors import UnusableLogFile
from sse_fast.node import segment as segments
from sse_fast.node.segment import create_shared, open_log_file, open_shared

SIZE = 65536
TAIL_AT, HEAD_AT, NEXT_AT, CLOSED_AT, BOOT_AT = 32, 40, 48, 60, 64


def body_of(number: int) -> bytes:
    return b"data: %d %s\n\n" % (number, b"x" * (number % 200))


def kept(log: Log) -> list[tuple[int, bytes, bytes]]:
    return [(record.position, record.channel, record.frame) for record in log.records()]


def written(path: Path, events: int = 900, *, close: bool = True) -> tuple[str, list[tuple[int, bytes, bytes]]]:
    """A file with more events than it can keep; its epoch and what is kept."""
    segment = open_log_file(path, SIZE)
    log = Log(segment.memory)
    for number in range(events):
        name, other = (b"c%d" % ((number + n) % 5) for n in range(2))
        log.append(name if number % 7 else (name, other), body_of(number))
    left = log.epoch, kept(log)
    if not close:
        segment._owner = 0  # as if it had been killed
    del log
    segment.close()
    return left


def epoch_and_kept(path: Path) -> tuple[str, list[tuple[int, bytes, bytes]]]:
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        return log.epoch, kept(log)


def set_aside(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other != path]


def patch(path: Path, at: int, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw)


# ---- shared and nameless ----


def append_by_address(address: str) -> None:
    with open_shared(address) as segment:
        log = Log(segment.memory)
        log.append(b"child", b"data: from a child\n\n")
        del log


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_finds_the_segment_by_its_address_whatever_the_start_method(method: str) -> None:
    with create_shared(segment_size(SIZE)) as segment:
        log = Log(segment.memory)
        child = multiprocessing.get_context(method).Process(target=append_by_address, args=(segment.address,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert [channel for _, channel, _ in kept(log)] == [b"child"]
        del log


def named() -> list[str]:
    """Memory that has a name, of ours: other programs come and go."""
    return [name for name in os.listdir("/dev/shm") if name in ("sse-fast", "to-be-killed")]


def test_a_closed_segment_leaves_no_descriptor_and_no_name() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        segment = create_shared(segment_size(SIZE))
        other = open_shared(segment.address)
        Log(other.memory).append(b"a", body_of(1))
        other.close()
        segment.close()
        segment.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not named()
    with pytest.raises(FileNotFoundError):
        open_shared(segment.address)


def test_a_log_goes_on_after_its_segment_was_closed_and_frees_it_at_its_end() -> None:
    before = os.listdir("/proc/self/fd")
    segment = create_shared(segment_size(SIZE))
    log = Log(segment.memory)
    segment.close()
    assert log.append(b"a", body_of(1)) == 1
    del log, segment
    assert os.listdir("/proc/self/fd") == before


def test_a_shared_segment_keeps_its_size() -> None:
    with create_shared(segment_size(SIZE)) as segment:
        for size in (4096, 2 * SIZE):
            with pytest.raises(PermissionError), open(segment.address, "r+b") as file:
                os.ftruncate(file.fileno(), size)


def test_a_killed_maker_takes_the_memory_with_it() -> None:
    program = (
        "import sys; from sse_fast.node.segment import create_shared\n"
        "s = create_shared(1 << 20, 'to-be-killed'); print(s.address, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as maker:
        assert maker.stdout is not None
        address = maker.stdout.readline().decode().strip()
        assert "to-be-killed" in os.readlink(address)
        maker.kill()
    with pytest.raises(FileNotFoundError):
        open_shared(address)
    assert not named()


# ---- a file that goes on ----


def test_a_new_log_file_has_its_room_on_the_disk_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    open_log_file(path, SIZE).close()
    found = path.stat()
    assert found.st_size == segment_size(SIZE)
    assert found.st_blocks * 512 >= segment_size(SIZE)
    assert found.st_mode & 0o777 == 0o600


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_the_next_server_goes_on_with_the_same_events_and_ids_under_an_epoch_of_its_own(
    tmp_path: Path, close: bool
) -> None:
    path = tmp_path / "log"
    epoch, events = written(path, close=close)
    with open_log_file(path, SIZE) as segment:
        log = Log(segment.memory)
        assert kept(log) == events
        assert log.epoch != epoch
        assert log.append(b"next", body_of(1)) == 901
        del log
    assert not set_aside(path)


def test_a_client_resumes_from_a_taken_over_log_as_if_nothing_had_been(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _, events = written(path, close=False)
    first = events[0][0]
    with open_log_file(path, SIZE) as segment:
        fanout = FanOut(Log(segment.memory))
        assert not fanout.subscribe([b"c1"], Sink(), after=first - 1).lost
        assert fanout.subscribe([b"c1"], Sink(), after=first - 2).lost
        assert fanout.subscribe([b"c1"], Sink(), after=EARLIEST).position == first - 1
        assert fanout.subscribe([b"c1"], Sink(), after=901).lost  # an id it never gave
        assert fanout.index.position == events[-1][0] == 900
        del fanout


def test_what_a_killed_process_was_told_is_appended_is_there_for_the_next(tmp_path: Path) -> None:
    """Ten times: SIGKILL in a tight loop of appends, then all that was acknowledged is in the file, and sound."""
    path = tmp_path / "log"
    program = (
        "import os, sys; from pathlib import Path; from sse_fast._native.log.ring import Log\n"
        "from sse_fast.node.segment import open_log_file\n"
        f"log = Log(open_log_file(Path(sys.argv[1]), {SIZE}).memory)\n"
        "while True: os.write(1, b'%d\\n' % log.append(b'a', b'data: %d\\n\\n' % log.position))"
    )
    acknowledged = 0
    for round_ in range(10):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            told = [server.stdout.readline() for _ in range(100 + 37 * round_)]
            server.kill()
            told += server.stdout.read().splitlines(keepends=True)
        acknowledged = int([line for line in told if line.endswith(b"\n")][-1])
        _, events = epoch_and_kept(path)
        positions = [position for position, _, _ in events]
        assert acknowledged in positions
        assert positions == sorted(set(positions))
        assert not set_aside(path)


def test_a_lock_that_died_with_its_holder_is_free_for_the_next_server(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, close=False)
    patch(path, 1024, b"\xff" * 64)  # a lock as no process would leave it
    with open_log_file(path, SIZE) as segment:
        assert Log(segment.memory).append(b"a", body_of(1)) == 901


# ---- one server at a time ----


def test_a_file_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, SIZE), pytest.raises(UnusableLogFile, match=f"{path} is in use"):
        open_log_file(path, SIZE)
    open_log_file(path, SIZE).close()


def test_a_file_stays_in_use_while_workers_of_a_dead_server_have_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = open_log_file(path, SIZE)
    worker = open_shared(server.address)
    server.close()
    with pytest.raises(UnusableLogFile, match="workers that one left behind"):
        open_log_file(path, SIZE)
    worker.close()
    open_log_file(path, SIZE).close()


def test_a_log_is_not_called_closed_while_workers_have_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = open_log_file(path, SIZE)
    with open_shared(server.address):
        server.close()
        assert struct.unpack("<I", path.read_bytes()[CLOSED_AT : CLOSED_AT + 4]) == (0,)


def test_a_fork_of_the_server_does_not_close_its_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log_file(path, SIZE) as server:
        if (child := os.fork()) == 0:
            server.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert struct.unpack_from("<I", server.memory, CLOSED_AT) == (0,)
    assert struct.unpack("<I", path.read_bytes()[CLOSED_AT : CLOSED_AT + 4]) == (1,)


# ---- files that are refused ----


@pytest.mark.parametrize("content", [b"x", b"hello, world\n" * 9000, b"\0" * 100, b"\0" * segment_size(2 * SIZE)])
def test_a_foreign_file_is_refused_and_never_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    before = path.stat()
    with pytest.raises(UnusableLogFile, match=f"{path} is not an sse_fast log"):
        open_log_file(path, SIZE)
    assert path.read_bytes() == content
    assert (path.stat().st_mtime_ns, path.stat().st_mode) == (before.st_mtime_ns, before.st_mode)
    assert not set_aside(path)


def test_another_size_is_refused_in_words_that_say_both(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _, events = written(path)
    with pytest.raises(UnusableLogFile, match=r"keeps 65536 bytes.*asks for 131072.*set log_size to 65536"):
        open_log_file(path, 100_000)
    assert epoch_and_kept(path)[1] == events


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: os.mkfifo(path), "no regular file"),
        (lambda path: path.symlink_to("nowhere/at/all"), "No such file"),
        (lambda path: path.symlink_to("/dev/null"), "no regular file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "log"
    make(path)
    with pytest.raises(UnusableLogFile, match=says):
        open_log_file(path, SIZE)


def test_a_disk_without_room_is_met_at_the_start_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(segments.os, "posix_fallocate", full)
    with pytest.raises(UnusableLogFile, match=r"needs 69632 bytes on the disk: No space left"):
        open_log_file(path, SIZE)
    monkeypatch.undo()
    open_log_file(path, SIZE).close()


# ---- files that are set aside ----


def assert_a_new_log_began(path: Path, epoch: str, kind: str, before: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sse_fast.node"):
        new, events = epoch_and_kept(path)
    assert new != epoch
    assert events == []
    [aside] = set_aside(path)
    assert aside.name.startswith(f"log.{kind}-")
    assert aside.read_bytes() == before
    assert str(aside) in caplog.text
    assert epoch_and_kept(path)[1] == []  # and it is sound
    assert set_aside(path) == [aside]


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


DAMAGE = {
    "another layout": ("layout-1", lambda path: patch(path, 8, struct.pack("<I", 1))),
    "a later layout": ("layout-9", lambda path: patch(path, 8, struct.pack("<I", 9))),
    "another header": ("damaged", lambda path: patch(path, 12, struct.pack("<I", 16384))),
    "another capacity": ("damaged", lambda path: patch(path, 16, u64(4096))),
    "truncated": ("damaged", lambda path: os.truncate(path, segment_size(SIZE) - 1)),
    "truncated to its magic": ("damaged", lambda path: os.truncate(path, 24)),
    "too long": ("damaged", lambda path: os.truncate(path, segment_size(SIZE) + 4096)),
    "an epoch that is none": ("damaged", lambda path: patch(path, 24, b"\xff" * 8)),
    "tail past head": ("damaged", lambda path: patch(path, TAIL_AT, u64(2**40))),
    "tail unaligned": (
        "damaged",
        lambda path: patch(path, TAIL_AT, u64(struct.unpack("<Q", path.read_bytes()[32:40])[0] + 8)),
    ),
    "head beyond what was written": (
        "damaged",
        lambda path: patch(path, HEAD_AT, u64(struct.unpack("<Q", path.read_bytes()[40:48])[0] + 64)),
    ),
    "head beyond its capacity": ("damaged", lambda path: patch(path, HEAD_AT, u64(2**50))),
    "positions that it has yet to give": ("damaged", lambda path: patch(path, NEXT_AT, u64(7))),
    "a page of zeros": ("damaged", lambda path: patch(path, HEADER_SIZE + 8 * 4096, bytes(4096))),
    "another boot": ("power-cut", lambda path: patch(path, CLOSED_AT, bytes(4) + b"another boot" + bytes(28))),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_must_not_be_served_is_set_aside_and_a_new_log_begins(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    epoch, _ = written(path)
    kind, damage = DAMAGE[name]
    damage(path)
    assert_a_new_log_began(path, epoch, kind, path.read_bytes(), caplog)


def test_any_byte_of_a_kept_record_that_changed_is_found(tmp_path: Path) -> None:
    """Also one that no length and no position depends on."""
    path = tmp_path / "log"
    written(path, events=3)
    sound = path.read_bytes()
    head = struct.unpack("<Q", sound[HEAD_AT : HEAD_AT + 8])[0]
    for at in range(HEADER_SIZE, HEADER_SIZE + head):
        memory = bytearray(sound)
        memory[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match="the record at"):
            verify(Log(memory))
    verify(Log(bytearray(sound)))


def test_several_files_set_aside_in_a_second_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(4):
        written(path, 3)
        os.truncate(path, 5000)
    written(path, 3)
    assert len(set_aside(path)) == 4


def test_a_file_that_was_closed_before_a_reboot_goes_on_after_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _, events = written(path)
    patch(path, BOOT_AT, b"another boot" + bytes(28))
    assert epoch_and_kept(path)[1] == events
    assert not set_aside(path)


def test_whoever_is_killed_while_making_a_log_file_leaves_one_that_can_be_made(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    open_log_file(path, SIZE).close()
    path.unlink()
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, segment_size(SIZE))
    assert epoch_and_kept(path)[1] == []
    assert not set_aside(path)
