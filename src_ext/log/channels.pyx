"""A channel: what the index and the fan-out know of one, together in one place."""

cimport cython
from cpython.mem cimport PyMem_RawFree


@cython.final
cdef class Rule:
    """What holds for the channels of a pattern. Made by `Rules`."""


@cython.final
cdef class Match:
    """The patterns that a channel is of."""


cdef class Channel:
    """A channel that has kept events or subscribers."""

    def __cinit__(self, bytes name not None):
        self.name = name

    def __dealloc__(self):
        PyMem_RawFree(self.listening)
