"""What only the kernel can do about a client that takes nothing: close the connection under the ASGI server.

No ASGI server offers a way to abort a connection whose client does not read; its descriptor would stay until the client
leaves. Linux closes such a connection by itself where TCP_USER_TIMEOUT is set (tcp(7): also where data only waits for a
closed window), and accepted sockets take the option over from the one that listens.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress


def close_stuck_connections(seconds: float) -> int:
    """From now on connections that this process accepts live at most so long while their client takes nothing.

    Returns how many listening TCP sockets were found; it says nothing of connections accepted before.
    """
    found = 0
    for listening in _listening_sockets():
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        found += 1
    return found


def _listening_sockets() -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile, or not a socket
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                inet = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
                if inet and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield found
