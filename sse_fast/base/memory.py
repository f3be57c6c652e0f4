"""How much memory the machine lends to connections."""

import os

UNKNOWN = 1 << 29  # bytes, where nothing says it: of a machine of 8 GiB


def tcp_memory() -> int:
    """Bytes that all TCP of this machine may hold before the kernel is sparing with it (tcp_mem in tcp(7))."""
    try:
        with open("/proc/sys/net/ipv4/tcp_mem") as limits:
            pages = int(limits.read().split()[1])
    except OSError:  # a container does not see it; this is what a kernel sets it to
        if not hasattr(os, "sysconf"):
            return UNKNOWN
        pages = os.sysconf("SC_PHYS_PAGES") // 16
    return pages * os.sysconf("SC_PAGE_SIZE")
