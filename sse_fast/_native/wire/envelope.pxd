# Envelopes for other native code. Nothing is stored, no reference held.

from libc.stdint cimport uint64_t

cdef bytes enveloped(const char* frame, Py_ssize_t size, tuple channels, uint64_t milliseconds, bytes further=*)
