"""A chunked body as it comes, in pieces of any size -> what it has, and the byte at which it ends (RFC 9112, section 7.1).

Stricter than the grammar: no blanks about a size, and no more digits than a size can need. It does not look into
extensions and trailers: llhttp reads the same bytes (see transports/body.py), and both must agree.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef enum:
    MOST_DIGITS = 15                # of a size: an exabyte


cdef enum State:
    SIZE
    EXTENSION
    SIZE_LF
    DATA
    DATA_CR
    DATA_LF
    TRAILERS                        # at the beginning of a line of them
    TRAILER
    TRAILER_LF
    LAST_LF
    COMPLETE


cdef inline int digit(unsigned char c) noexcept nogil:
    """Of a hexadecimal number; -1: it is none."""
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


@cython.final
cdef class ChunkFraming:
    """One body. `feed` it what comes behind the head, until it says where the end is."""

    cdef:
        State state
        uint64_t left               # bytes of the chunk that are to come, or its size as far as it is known
        int digits

    def feed(self, bytes data not None):
        """(what of this is the body's, where in it the body ended; None: not yet). Raises ValueError for what is not
        framed, and behind the end."""
        cdef const unsigned char* source = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, found = 0, taken
        cdef bytes body = PyBytes_FromStringAndSize(NULL, size)
        cdef char* target = PyBytes_AS_STRING(body)
        cdef unsigned char c
        cdef int value
        if self.state == COMPLETE:
            raise ValueError("it has ended")
        while at < size and self.state != COMPLETE:
            if self.state == DATA:
                taken = size - at if <uint64_t>(size - at) < self.left else <Py_ssize_t>self.left
                memcpy(target + found, source + at, taken)
                found += taken
                at += taken
                self.left -= taken
                if self.left == 0:
                    self.state = DATA_CR
                continue
            c = source[at]
            at += 1
            if self.state == SIZE:
                value = digit(c)
                if value >= 0 and self.digits < MOST_DIGITS:
                    self.left = self.left << 4 | <uint64_t>value
                    self.digits += 1
                elif self.digits and (c == c';' or c == c'\r'):
                    self.state = EXTENSION if c == c';' else SIZE_LF
                else:
                    raise ValueError("a chunk begins with its size, up to 15 hexadecimal digits")
            elif self.state == EXTENSION or self.state == TRAILER:
                if c == c'\r':
                    self.state = SIZE_LF if self.state == EXTENSION else TRAILER_LF
                elif c == c'\n':
                    raise ValueError("a line ends with CR and LF")
            elif self.state == TRAILERS:
                self.state = LAST_LF if c == c'\r' else TRAILER
                if c == c'\n':
                    raise ValueError("a line ends with CR and LF")
            elif self.state == DATA_CR:
                if c != c'\r':
                    raise ValueError("a chunk ends where its size says")
                self.state = DATA_LF
            elif c != c'\n':
                raise ValueError("a line ends with CR and LF")
            elif self.state == SIZE_LF:
                self.state = DATA if self.left else TRAILERS
                self.digits = 0
            elif self.state == DATA_LF:
                self.state = SIZE
            else:
                self.state = TRAILERS if self.state == TRAILER_LF else COMPLETE
        return body[:found], at if self.state == COMPLETE else None
