"""Of servers that start at the same moment on one address exactly one gets it, for as long as it lives."""

import contextlib
import fcntl
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import free_port

from sse_fast.node.claims import claim_port, claimed_path
from sse_fast.node.serve import CannotServe, claim_path

FORK = multiprocessing.get_context("fork")
ROUNDS = int(os.environ.get("SSE_FAST_START_ROUNDS", "10"))


def how_many_get_it(claim: Callable[[], contextlib.AbstractContextManager[object]], servers: int = 6) -> int:
    """Of so many processes that try at once, each of which holds what it has got until all have tried."""
    start, tried, got = FORK.Barrier(servers), FORK.Barrier(servers), FORK.Value("i", 0)

    def one_server() -> None:
        start.wait()
        with contextlib.suppress(OSError, CannotServe), claim():
            with got.get_lock():
                got.value += 1
            tried.wait()
            return
        tried.wait()

    processes = [FORK.Process(target=one_server, daemon=True) for _ in range(servers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * servers
    return int(got.value)


def test_of_servers_that_start_at_once_on_one_port_exactly_one_gets_it() -> None:
    port = free_port()
    for _ in range(ROUNDS):
        assert how_many_get_it(lambda: claim_port("127.0.0.1", port, socket.AF_INET)) == 1


def test_of_servers_that_start_at_once_on_one_path_exactly_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"

    @contextlib.contextmanager
    def served() -> Iterator[None]:
        with socket.socket(socket.AF_UNIX) as listening:
            with claim_path(path):
                listening.bind(str(path))
                time.sleep(0)  # where another server might look: nobody listens yet
                listening.listen()
            yield

    for _ in range(ROUNDS):
        assert how_many_get_it(served) == 1


@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0", "::", "127.0.0.2"])
def test_a_port_that_is_claimed_is_denied_to_whatever_address_overlaps(other: str) -> None:
    port = free_port()
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    with claim_port("127.0.0.1", port, socket.AF_INET):
        if other == "127.0.0.2":
            claim_port(other, port, family).close()
        else:
            with pytest.raises(OSError, match="in use"):
                claim_port(other, port, family)
    claim_port(other, port, family).close()


def test_workers_share_a_claimed_port_and_the_claim_takes_no_connection() -> None:
    address = ("127.0.0.1", free_port())
    with claim_port(*address, socket.AF_INET), contextlib.ExitStack() as held:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        workers = [held.enter_context(socket.create_server(address, reuse_port=True)) for _ in range(2)]
        clients = [held.enter_context(socket.create_connection(address)) for _ in range(40)]
        accepted = 0
        for worker in workers:
            worker.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    held.enter_context(worker.accept()[0])
                    accepted += 1
        assert accepted == len(clients)
        for worker in workers:
            worker.close()
        with pytest.raises(OSError, match="in use"):
            claim_port(*address, socket.AF_INET)  # while none of its workers lives it is still the server's


def test_a_port_with_connections_of_the_past_can_be_claimed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with socket.create_connection(address):
            listening.accept()[0].close()  # who closes first is in TIME_WAIT
    claim_port(*address, socket.AF_INET).close()


def test_who_waits_for_a_server_that_never_gets_to_listen_gives_up_and_says_for_what_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sse_fast.node.claims.PATH_SECONDS", 0.05)
    path = tmp_path / "edge.sock"
    with (
        claimed_path(path),
        pytest.raises(CannotServe, match=rf"another program has had {path}\.lock locked .* choose another --uds"),
        claim_path(path),
    ):
        pass


def test_a_server_starts_whoever_has_the_directory_locked_or_starts_on_another_socket_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sse_fast.node.claims.PATH_SECONDS", 0.05)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with claim_path(tmp_path / "one"), claim_path(tmp_path / "another"):
        pass
    os.close(directory)


def test_a_claim_of_a_path_leaves_nothing_behind_and_what_a_killed_server_left_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "edge.sock.lock").touch()
    with claim_path(tmp_path / "edge.sock"):
        pass
    assert list(tmp_path.iterdir()) == []
