# Who waits to make room when places are short, over all and by address, for C callers.


cdef struct Link:                   # one in a ring, whose head has no owner; all zero: in none
    Link* before
    Link* after
    void* owner


cdef struct Queues:                 # heads of rings, so they must not move
    Link unsaid                     # of these no whole head of a request has come
    Link idle                       # these are kept for a next request, or are answered and not closed yet


cdef void begin_queues(Queues* queues) noexcept nogil
cdef void end_queues(Queues* queues) noexcept nogil
cdef void queue_last(Link* queue, Link* link, void* owner) noexcept nogil
cdef void leave_queue(Link* link) noexcept nogil


cdef class Place:
    cdef:
        dict places                 # those with connections, by key
        bytes key
        Queues queues
        int others                  # connections that are no streams
        bint unbounded              # a trusted proxy's

    cdef int leave(self) except -1


cdef bytes place_key(const void* address, bint ipv6)
