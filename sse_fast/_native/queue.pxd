# Queues for C callers: what must not be forgotten stands in one.


cdef class Linked:                  # what may stand in a queue, in one at a time
    cdef:
        Linked behind               # who is next after it
        bint queued


cdef class Queue:
    cdef:
        Linked first, last

    cdef void push(self, Linked item) noexcept
    cdef Linked pop(self)
