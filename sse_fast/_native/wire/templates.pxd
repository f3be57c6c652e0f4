# Typed channels, for what publishes: `place_of` a name, -1 where no template has it, and `look` at an event.


cdef class Template:
    cdef:
        Py_ssize_t place
        tuple segments                  # of (bytes before, bytes behind or None)


cdef class TypedChannels:
    cdef:
        tuple by_first                  # by the first byte of a name, the templates that it may be of
        object refuse

    cdef Py_ssize_t place_of(self, bytes name) except -2
    cdef int look(self, object channels, bytes frame) except -1
