# What streams with matchers listen to, for C callers.

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    HIDDEN = 1                      # the first byte of a hidden name, and before each of its topics


cdef inline bint is_hidden(bytes name) noexcept:
    """Whether it is the name that holds all topics of private events."""
    return PyBytes_AS_STRING(name)[0] == HIDDEN


cdef class Template:
    cdef:
        readonly object matcher
        bytes literal               # what all names begin with that it has
        Py_ssize_t weight
        set listeners               # Patterns
        dict answers                # by name
        Py_ssize_t uses             # by sources that listen, or are granted, by it

    cdef bint decide(self, bytes name) except -1


cdef class Source:
    cdef:
        readonly frozenset names, matchers, granted, granted_by
        readonly bint everything
        object listening, granting  # Templates: known once it is listened to
        tuple _key
        Py_hash_t _hash

    cdef bint listens_to(self, bytes name) except -1
    cdef bint may_see(self, bytes hidden) except -1
    cdef bint takes(self, bytes name) except -1
    cdef bint listens(self, bytes name) noexcept
    cdef bint sees(self, bytes hidden) noexcept
    cdef bint concerns(self, bytes name) noexcept


cdef list topics_of(bytes hidden)
cdef void limit_tries(int64_t most) noexcept
cdef bint too_many_answers() noexcept
cdef void forget_answers(templates) noexcept
