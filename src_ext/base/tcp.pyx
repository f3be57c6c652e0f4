"""TCP connections of this process, also those that others opened: what the kernel holds for them, and their end. For
those of an ASGI server, which shows a client's address and no more.

It looks at each descriptor there may be, some 200 ns each, without the GIL. One may be closed, and its number given to
another connection, at any moment, as the server has threads of its own: to look at the wrong one does no harm, and one
that is to be reset is duplicated, and looked at again, before.
"""

from contextlib import suppress

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.stat cimport fstat, struct_stat

from sse_fast._native.base.linux cimport (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    INET6_ADDRSTRLEN,
    IPPROTO_TCP,
    MEMINFO,
    O_CLOEXEC,
    SO_MEMINFO,
    SOL_SOCKET,
    TCP_INFO,
    WMEM_QUEUED,
    connect,
    dup3,
    getpeername,
    getsockname,
    getsockopt,
    htons,
    inet_ntop,
    inet_pton,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_storage,
    socklen_t,
    tcp_info,
)

cdef struct Peer:
    unsigned char address[16]       # IPv6, of IPv4 as IPv4 within IPv6
    unsigned short port             # in the network's order, as the kernel has it


cdef struct Open:
    Peer peer
    uint64_t inode                  # of the socket: tells it from an earlier one with the same peer
    uint32_t memory                 # bytes of the kernel's that wait for the peer
    uint32_t still                  # milliseconds since anything could be sent


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


cdef int read_peer(address, port, Peer* peer) except -1:
    cdef bytes text = (address if ":" in address else f"::ffff:{address}").encode()
    memset(peer, 0, sizeof(Peer))
    if inet_pton(AF_INET6, text, peer.address) != 1:
        raise ValueError(f"{address!r} is not an IP address")
    peer.port = htons(port)
    return 0


def peer_key(address not None, port):
    """What stands for the peer (IP address, port) in the `streams` of `look_at_connections`. Raises ValueError."""
    cdef Peer peer
    read_peer(address, port, &peer)
    return PyBytes_FromStringAndSize(<char*>&peer, sizeof(Peer))


cdef bint look_at(int fd, unsigned short port, bint waiting, Open* one) noexcept nogil:
    """Whether this is a connection of our `port`; and of what it is. `waiting`: for whose peer something waits."""
    cdef uint32_t memory[MEMINFO]
    cdef tcp_info told
    cdef sockaddr_storage found
    cdef struct_stat stat
    cdef socklen_t length = sizeof(memory)
    if not is_ours(fd, port) or getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0:
        return False
    one.memory = memory[WMEM_QUEUED]
    if waiting and one.memory == 0:
        return False
    length = sizeof(found)
    if getpeername(fd, <sockaddr*>&found, &length) < 0 or not read_address(&found, &one.peer):
        return False
    length = sizeof(told)
    memset(&told, 0, sizeof(told))
    if waiting:
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &told, &length)
        one.still = told.tcpi_last_data_sent        # a probe of a closed window carries no data, so it is not counted
        return True
    if fstat(fd, &stat) < 0:
        return False
    one.inode = stat.st_ino
    return True


@cython.final
cdef class _Found:
    """_Found(port, descriptors, waiting): the connections of our `port` among descriptors below `descriptors`; `waiting`:
    those alone for whose peers something waits in the kernel."""

    cdef:
        Open* one
        Py_ssize_t count

    def __cinit__(self, unsigned short port, int descriptors, bint waiting):
        cdef int fd
        self.one = <Open*>PyMem_Malloc(max(descriptors, 1) * sizeof(Open))
        if self.one == NULL:
            raise MemoryError
        port = htons(port)
        with nogil:
            for fd in range(descriptors):
                self.count += look_at(fd, port, waiting, &self.one[self.count])

    def __dealloc__(self):
        PyMem_Free(self.one)

    cdef bytes key(self, Py_ssize_t which):
        return PyBytes_FromStringAndSize(<char*>&self.one[which].peer, sizeof(Peer))

    cdef tuple name(self, Py_ssize_t which):
        """IP address and port."""
        cdef char text[INET6_ADDRSTRLEN]
        inet_ntop(AF_INET6, self.one[which].peer.address, text, sizeof(text))
        return (<bytes>text).decode(), htons(self.one[which].peer.port)


def look_at_connections(unsigned short port, int descriptors, dict streams not None, uint32_t still):
    """Bytes of kernel memory that wait for the clients of our `port`: of connections whose `peer_key` is in `streams`; of
    all others; and of those others, (IP address, port, bytes) each, to which nothing could be sent for `still`
    milliseconds."""
    cdef uint64_t for_streams = 0, for_others = 0
    cdef _Found found = _Found(port, descriptors, True)
    cdef Open* one
    cdef Py_ssize_t i
    cdef list stuck = []
    for i in range(found.count):
        one = &found.one[i]
        if found.key(i) in streams:
            for_streams += one.memory
            continue
        for_others += one.memory
        if one.still >= still:
            stuck.append((*found.name(i), one.memory))
    return for_streams, for_others, stuck


def quiet_connections(unsigned short port, int descriptors, dict busy not None):
    """How many connections our `port` has; and (inode, peer key, IP address, port) of each whose `peer_key` is not in
    `busy`."""
    cdef _Found found = _Found(port, descriptors, False)
    cdef Py_ssize_t i
    cdef list quiet = []
    for i in range(found.count):
        key = found.key(i)
        if key not in busy:
            quiet.append((found.one[i].inode, key, *found.name(i)))
    return found.count, quiet


def reset_connections(peers not None, unsigned short port, int descriptors, int spare, int idle):
    """Reset the connections of our `port` to these peers, (IP address, port) each, among descriptors below `descriptors`.
    What waits for them in the kernel is dropped. Who is no such peer is passed over. Returns how many were found.

    `spare`: a descriptor of the caller's that becomes each duplicate, as there may be no other left, and in the end one
    of `idle`. Nobody else may use it meanwhile."""
    cdef Py_ssize_t count = 0
    cdef int fd, found = 0
    cdef sockaddr nowhere
    cdef Peer* wanted = <Peer*>PyMem_Malloc(max(len(peers), 1) * sizeof(Peer))
    if wanted == NULL:
        raise MemoryError
    try:
        for address, number in peers:
            with suppress(ValueError, OverflowError):
                read_peer(address, number, &wanted[count])
                count += 1
        memset(&nowhere, 0, sizeof(nowhere))
        nowhere.sa_family = AF_UNSPEC   # connect(2): dissolves the association; the kernel resets, and drops what waits
        port = htons(port)
        with nogil:
            for fd in range(descriptors):
                if not is_of(fd, port, wanted, count):
                    continue
                if fd == spare or dup3(fd, spare, O_CLOEXEC) < 0:
                    continue
                if is_of(spare, port, wanted, count) and connect(spare, &nowhere, sizeof(nowhere)) == 0:
                    found += 1
                dup3(idle, spare, O_CLOEXEC)
    finally:
        PyMem_Free(wanted)
    return found
