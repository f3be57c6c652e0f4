"""TCP connections of this process, whoever owns their descriptors: what the kernel holds for them, and their end. For
those of an ASGI server, which shows a client's address and no more.

It looks at each descriptor there may be, some 200 ns each, without the GIL. One may be closed, and its number given to
another connection, at any moment, as the server has threads of its own: to look at the wrong one does no harm, and one
that is to be reset is duplicated, and looked at again, before.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sse_fast._native.linux cimport (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    F_DUPFD_CLOEXEC,
    MEMINFO,
    SO_MEMINFO,
    SOL_SOCKET,
    WMEM_QUEUED,
    close,
    connect,
    fcntl,
    getpeername,
    getsockname,
    getsockopt,
    htons,
    inet_pton,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_storage,
    socklen_t,
)

cdef struct Peer:
    unsigned char address[16]       # IPv6, of IPv4 as IPv4 within IPv6
    unsigned short port             # in the network's order, as the kernel has it


cdef bint read_address(sockaddr_storage* found, Peer* peer) noexcept nogil:
    """False: it is none of TCP over IP."""
    memset(peer, 0, sizeof(Peer))
    if found.ss_family == AF_INET:
        peer.address[10] = peer.address[11] = 0xFF
        memcpy(&peer.address[12], &(<sockaddr_in*>found).sin_addr, 4)
        peer.port = (<sockaddr_in*>found).sin_port
    elif found.ss_family == AF_INET6:
        memcpy(peer.address, &(<sockaddr_in6*>found).sin6_addr, 16)
        peer.port = (<sockaddr_in6*>found).sin6_port
    else:
        return False
    return True


cdef bint is_ours(int fd, unsigned short port) noexcept nogil:
    """Whether this is a socket of our `port`."""
    cdef sockaddr_storage found
    cdef socklen_t length = sizeof(found)
    cdef Peer peer
    return getsockname(fd, <sockaddr*>&found, &length) == 0 and read_address(&found, &peer) and peer.port == port


cdef bint is_of(int fd, unsigned short port, const Peer* peers, Py_ssize_t count) noexcept nogil:
    """Whether this is a connection of our `port` to one of the peers."""
    cdef sockaddr_storage found
    cdef socklen_t length = sizeof(found)
    cdef Peer peer
    cdef Py_ssize_t i
    if getpeername(fd, <sockaddr*>&found, &length) < 0 or not read_address(&found, &peer):
        return False
    for i in range(count):
        if peers[i].port == peer.port and memcmp(peers[i].address, peer.address, 16) == 0:
            return is_ours(fd, port)
    return False


def memory_of_connections(unsigned short port, int descriptors):
    """Bytes of kernel memory that wait for the clients of our `port`, over descriptors below `descriptors`."""
    cdef uint64_t total = 0
    cdef uint32_t memory[MEMINFO]
    cdef socklen_t length
    cdef int fd
    port = htons(port)
    with nogil:
        for fd in range(descriptors):
            length = sizeof(memory)
            if is_ours(fd, port) and getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) == 0:
                total += memory[WMEM_QUEUED]
    return total


def reset_connections(peers not None, unsigned short port, int descriptors):
    """Reset the connections of our `port` to these peers, (IP address, port) each, among descriptors below `descriptors`.
    What waits for them in the kernel is dropped. Returns how many were found."""
    cdef Py_ssize_t count = len(peers), i = 0
    cdef int fd, mine, found = 0
    cdef sockaddr nowhere
    cdef bytes text
    cdef Peer* wanted = <Peer*>PyMem_Malloc(max(count, 1) * sizeof(Peer))
    if wanted == NULL:
        raise MemoryError
    try:
        memset(wanted, 0, count * sizeof(Peer))
        for address, number in peers:
            text = (address if ":" in address else f"::ffff:{address}").encode()
            if inet_pton(AF_INET6, text, wanted[i].address) != 1:
                raise ValueError(f"{address!r} is not an IP address")
            wanted[i].port = htons(number)
            i += 1
        memset(&nowhere, 0, sizeof(nowhere))
        nowhere.sa_family = AF_UNSPEC   # connect(2): dissolves the association; the kernel resets, and drops what waits
        port = htons(port)
        with nogil:
            for fd in range(descriptors):
                if not is_of(fd, port, wanted, count):
                    continue
                mine = fcntl(fd, F_DUPFD_CLOEXEC, 0)
                if mine < 0:
                    continue
                if is_of(mine, port, wanted, count) and connect(mine, &nowhere, sizeof(nowhere)) == 0:
                    found += 1
                close(mine)
    finally:
        PyMem_Free(wanted)
    return found
