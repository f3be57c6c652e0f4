"""Who waits to make room when places are short, and how many connections an address has.

A connection is in two rings at most, that of all and that of its address, by links within itself; so to enter, to leave
and to find the oldest take the same time however many there are. A link holds no reference: who dies leaves first.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcmp


cdef void begin_queues(Queues* queues) noexcept nogil:
    queues.unsaid.before = queues.unsaid.after = &queues.unsaid
    queues.idle.before = queues.idle.after = &queues.idle


cdef void end_queues(Queues* queues) noexcept nogil:
    """Who is in them is in none."""
    if queues.unsaid.after != NULL:     # whoever has them was made to the end
        while queues.unsaid.after != &queues.unsaid:
            leave_queue(queues.unsaid.after)
        while queues.idle.after != &queues.idle:
            leave_queue(queues.idle.after)


cdef void queue_last(Link* queue, Link* link, void* owner) noexcept nogil:
    """As the newest of this queue, and in no other any more."""
    leave_queue(link)
    link.owner = owner
    link.before = queue.before
    link.after = queue
    queue.before.after = link
    queue.before = link


cdef void leave_queue(Link* link) noexcept nogil:
    """Where it is in none nothing happens."""
    if link.after != NULL:
        link.before.after = link.after
        link.after.before = link.before
        link.before = link.after = NULL


cdef class Place:
    """What an address has of connections that are no streams. It is forgotten with the last of them."""

    def __cinit__(self, dict places not None, bytes key not None):
        begin_queues(&self.queues)
        self.places = places
        self.key = key
        places[key] = self

    def __dealloc__(self):
        end_queues(&self.queues)

    cdef int leave(self) except -1:
        """One is closed, or has become a stream."""
        self.others -= 1
        if not self.others:
            del self.places[self.key]
        return 0


cdef bytes place_key(const void* address, bint ipv6):
    """Whom an address, in the network's order, counts as: of IPv6 everybody in its /64, which is what one host is given;
    of IPv4 within IPv6 the IPv4 address."""
    cdef const char* part = <const char*>address
    if not ipv6:
        return PyBytes_FromStringAndSize(part, 4)
    if memcmp(part, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        return PyBytes_FromStringAndSize(part + 12, 4)
    return PyBytes_FromStringAndSize(part, 8)


def place_of(bytes address not None):
    """The key of a packed address, 4 or 16 bytes: those with the same share their places."""
    if len(address) != 4 and len(address) != 16:
        raise ValueError(f"a packed address has 4 or 16 bytes, not {len(address)}")
    return place_key(PyBytes_AS_STRING(address), len(address) == 16)
