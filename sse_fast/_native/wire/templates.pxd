# Typed channels, for what publishes: `place_of` a name, -1 where no template has it, and `look` at an event.


cdef class Template:
    cdef:
        Py_ssize_t place
        tuple segments                  # of (bytes before, bytes behind or None)


cdef class TypedChannels:
    cdef:
        dict by_first                   # templates by their first segment, as tuples, and
        tuple others                    # those that have a parameter in it
        object refuse

    cdef Py_ssize_t place_of(self, bytes name) except -2
    cdef int look(self, object channels, bytes frame) except -1
