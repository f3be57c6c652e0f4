"""The listening sockets of this process, also those of an ASGI server, which shows its app none.

Closing a listening socket resets the connections that wait in its queue, and those whose handshake is under way, though
their requests may have been sent. `stop_listening` resets none.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator, Sequence

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
ACCEPT_SECONDS = 1.0  # that the server may take to accept the connections that wait
INTERNET = (socket.AF_INET, socket.AF_INET6)
EARLY = 512  # descriptors: a server listens before it has many, and to look at more takes too long
LOOK = 0.005  # seconds between looks at the queues

# Classic BPF over the TCP header: (code, jump if true, jump if false, operand). It drops SYN, and takes all else.
NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # of these SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take
)

NOTHING = ((0x06, 0, 0, 0),)  # it drops everything


def listening_sockets(ports: Collection[int], *, early: bool = False) -> list[int]:
    """The descriptors of this process' TCP sockets that listen on these ports. It takes a microsecond a descriptor, and
    one descriptor: raises OSError where there is none left. `early`: of those that were opened early; it takes none."""
    found = []
    for descriptor in filter(_listens, range(EARLY) if early else map(int, os.listdir("/proc/self/fd"))):
        with _borrowed(descriptor) as listening:
            if listening.family in INTERNET and listening.getsockname()[1] in ports:
                found.append(descriptor)
    return found


def listening_addresses() -> dict[str, str]:
    """Where this process listens: `address port`, or the path of a Unix socket as it was bound; and for each what only
    those have in common who listen at the same place. Of a path that is its file, which others may have bound by
    another path, or another file by this one. Raises OSError."""
    found = {}
    for descriptor in filter(_listens, range(EARLY)):
        with _borrowed(descriptor) as listening:
            name = listening.getsockname()
            if listening.family in INTERNET:
                address = f"{name[0]} port {name[1]}"
                found[address] = address
            elif listening.family == socket.AF_UNIX and isinstance(name, str) and name:
                with contextlib.suppress(OSError):  # its file is gone, so no client can connect
                    file = os.stat(name)
                    found[name] = f"file {file.st_dev} {file.st_ino}"
    return dict(sorted(found.items()))


def _listens(descriptor: int) -> bool:
    listens, size = ctypes.c_int(), ctypes.c_uint(ctypes.sizeof(ctypes.c_int))
    failed = ctypes.CDLL(None).getsockopt(
        descriptor, socket.SOL_SOCKET, socket.SO_ACCEPTCONN, ctypes.byref(listens), ctypes.byref(size)
    )
    return not failed and bool(listens.value)


async def stop_listening(sockets: Collection[int], handshake: float) -> None:
    """Take no new connections, and have the server accept those that wait; then close the sockets.

    Clients that come meanwhile try again, after a second as TCP does, and meet another worker if there is one.
    `handshake`: seconds that clients get whose handshake is under way. From then on accept(2) finds no connection.
    """
    for descriptor in sockets:
        with _borrowed(descriptor) as listening:
            _filter(listening, NO_NEW_CONNECTIONS)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(handshake)
    deadline = loop.time() + ACCEPT_SECONDS
    while any(map(_waiting, sockets)) and loop.time() < deadline:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(LOOK)
    # Not a plain close: the descriptor is still the server's, and accept(2) on it must not fail again and again.
    with socket.socket() as empty:
        _filter(empty, NO_NEW_CONNECTIONS)
        empty.bind(("127.0.0.1", 0))
        empty.listen(1)
        empty.setblocking(False)
        for descriptor in sockets:
            os.dup2(empty.fileno(), descriptor, inheritable=False)


def refuse_new(sockets: Collection[int]) -> None:
    """Let nobody else connect there, nor end a handshake. The clients' kernels try again, first after a second."""
    for descriptor in sockets:
        with _borrowed(descriptor) as listening:
            _filter(listening, NOTHING)


def take_new(sockets: Collection[int]) -> None:
    """Let everybody connect there again."""
    for descriptor in sockets:
        with _borrowed(descriptor) as listening, contextlib.suppress(FileNotFoundError):  # nobody was refused
            listening.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def limit_queues(sockets: Collection[int], most: int) -> None:
    """Let no more connections than these wait to be accepted at each."""
    for descriptor in sockets:
        with _borrowed(descriptor) as listening:
            listening.listen(most)


def _waiting(descriptor: int) -> int:
    """Connections that wait to be accepted."""
    with _borrowed(descriptor) as listening:
        # Of a listening socket tcpi_unacked is the length of its queue (tcp_get_info in the kernel's net/ipv4/tcp.c).
        (count,) = struct.unpack_from("=I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 24)
    return int(count)


def _filter(listening: socket.socket, steps: Sequence[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket over a descriptor that stays its owner's."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
