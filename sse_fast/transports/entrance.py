"""Where a worker that has a front is entered, and what is behind the front."""

import socket
from pathlib import Path
from typing import NamedTuple


class Entrance(NamedTuple):
    """listening: the public socket, bound; of TCP it is this worker's own, and does not listen yet; a Unix socket
    listens, and all workers share it. behind: the path of the Unix socket of this worker's ASGI server."""

    listening: socket.socket
    behind: Path
