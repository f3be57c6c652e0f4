"""What operating systems offer: clocks, atomics, sockets; queues that need no memory."""

from importlib.util import find_spec

from sse_fast.errors import NeedsLinux

LINUX = find_spec("sse_fast._native.base.tcp") is not None
"""Whether this build has what needs Linux."""


def need_linux(what: str) -> None:
    """At the head of a room that some builds are without. Raises NeedsLinux."""
    if not LINUX:
        raise NeedsLinux(what)
