"""The directory in which the workers' ASGI servers listen: this user's alone, in nobody's way, and not left behind."""

import fcntl
import multiprocessing
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sse_fast.node.sockets import LONGEST, SocketDirectory

FORK = multiprocessing.get_context("fork")


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def in_a_process() -> Any:
    """A process that does something and then waits to be killed: `in_a_process(do)` returns what `do` returned."""
    running = []

    def start(do: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        here, there = FORK.Pipe()

        def live() -> None:
            kept = do()
            there.send(kept[0])
            signal.pause()

        process = FORK.Process(target=live, daemon=True)
        process.start()
        running.append(process)

        def kill() -> None:
            process.kill()
            process.join()

        return here.recv(), kill

    yield start
    for process in running:
        process.kill()


def test_only_this_user_may_enter_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = SocketDirectory.made([tmp_path])
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    made.close()


def test_a_worker_listens_at_once_and_where_one_of_the_same_number_has_died(tmp_path: Path) -> None:
    made = SocketDirectory.made([tmp_path])
    for _ in range(2):
        with made.listen(8):
            assert connects(made.of(os.getpid()))
        assert not connects(made.of(os.getpid()))
    made.close()


def test_nothing_is_left_of_a_server_that_ends(tmp_path: Path) -> None:
    made = SocketDirectory.made([tmp_path])
    made.listen(8).close()
    made.close()
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next_one_and_what_a_living_one_has_is_not(
    tmp_path: Path, in_a_process: Any
) -> None:
    def serve() -> Any:
        made = SocketDirectory.made([tmp_path])
        return made.path, made, made.listen(8)

    living, _ = in_a_process(serve)
    killed, kill = in_a_process(serve)
    kill()
    assert killed.exists()
    made = SocketDirectory.made([tmp_path])
    assert sorted(tmp_path.iterdir()) == sorted([living, made.path])
    assert [connects(path) for path in living.iterdir()] == [True]
    made.close()


def test_a_directory_is_in_use_while_a_worker_lives_though_its_parent_was_killed(tmp_path: Path) -> None:
    made = SocketDirectory.made([tmp_path])
    worker = FORK.Process(target=signal.pause, daemon=True)
    worker.start()
    os.close(made._lock or 0)  # as the kernel does when the parent dies
    SocketDirectory.made([tmp_path]).close()
    assert made.path.exists()
    worker.kill()
    worker.join()
    SocketDirectory.made([tmp_path]).close()
    assert not made.path.exists()


def test_the_last_worker_without_a_parent_removes_the_directory(tmp_path: Path) -> None:
    made = SocketDirectory.made([tmp_path])
    with made.listen(8):
        made.leave(last=False)
        assert list(made.path.iterdir()) == []
    made.listen(8).close()
    made.leave(last=True)
    assert list(tmp_path.iterdir()) == []


def test_another_server_may_remove_a_directory_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = os.open, []

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        if not removed:
            removed.append(path)
            path.rmdir()
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", opened)
    made = SocketDirectory.made([tmp_path])
    monkeypatch.undo()
    assert removed != [made.path]
    assert list(tmp_path.iterdir()) == [made.path]
    made.close()


def test_of_a_worker_that_was_killed_nothing_is_left(tmp_path: Path) -> None:
    made = SocketDirectory.made([tmp_path])
    made.listen(8).close()
    made.forget(os.getpid())
    made.forget(os.getpid())
    assert list(made.path.iterdir()) == []
    made.close()


def test_what_only_looks_like_a_directory_of_ours_stays(tmp_path: Path) -> None:
    other = tmp_path / f"sse-fast-{'0' * 16}"
    other.mkdir()
    (other / "1").write_text("somebody's")
    (tmp_path / "sse-fast-notes").mkdir()
    link = tmp_path / f"sse-fast-{'1' * 16}"
    link.symlink_to(tmp_path / "sse-fast-notes")
    SocketDirectory.made([tmp_path]).close()
    assert (other / "1").read_text() == "somebody's"
    assert (tmp_path / "sse-fast-notes").is_dir()
    assert link.is_symlink()


def test_a_directory_that_another_server_removes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, removed = fcntl.flock, []

    def remove_first(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            os.rmdir(removed[0])
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    made = SocketDirectory.made([tmp_path])
    assert removed != [str(made.path)]
    made.listen(8).close()
    made.close()


def test_a_place_whose_paths_are_too_long_or_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    long = tmp_path / ("x" * LONGEST)
    long.mkdir()
    missing = tmp_path / "missing"
    made = SocketDirectory.made([long, missing, tmp_path])
    assert made.path.parent == tmp_path
    assert len(os.fsencode(made.of(4_194_304))) <= LONGEST
    made.close()
    with pytest.raises(OSError, match=r"longer than.*missing: No such file"):
        SocketDirectory.made([long, missing])
