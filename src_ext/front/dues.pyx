"""What is due when: a heap of plain numbers, 16 bytes each.

As Python's tuples in a list they would be ten times as much, and every exchange leaves one behind.
"""

cimport cython
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint64_t

cdef enum:
    LEAST = 64                      # of room


cdef inline bint before(Due one, Due other) noexcept nogil:
    """Of those that are due at once, who came first."""
    return one.when < other.when or one.when == other.when and one.who < other.who


@cython.final
cdef class Dues:
    """Who is due is a number, which may be there any number of times."""

    def __dealloc__(self):
        PyMem_RawFree(self.heap)

    cdef int push(self, double when, uint64_t who) except -1:
        cdef Py_ssize_t at = self.count, above
        if at == self.room:
            self._resize(max(LEAST, 2 * self.room))
        self.count += 1
        while at and before(Due(when, who), self.heap[(at - 1) >> 1]):
            above = (at - 1) >> 1
            self.heap[at] = self.heap[above]
            at = above
        self.heap[at] = Due(when, who)
        return 0

    cdef bint pop(self, double now, Due* earliest) noexcept:
        """The earliest, if it is due."""
        if not self.count or self.heap[0].when > now:
            return False
        earliest[0] = self.heap[0]
        self.count -= 1
        self._sink(0, self.heap[self.count])
        if self.room > LEAST and self.count <= self.room >> 2:
            self._shrink()
        return True

    cdef int keep(self, Py_ssize_t count) except -1:
        """The first so many, which may stand in any order, and no others; and room for as many again."""
        cdef Py_ssize_t at
        self.count = count
        for at in range(count // 2 - 1, -1, -1):
            self._sink(at, self.heap[at])
        if 2 * count > self.room:
            self._resize(2 * self.room)
        return 0

    cdef void _sink(self, Py_ssize_t at, Due one) noexcept:
        """It belongs here, or below."""
        cdef Py_ssize_t below = 2 * at + 1
        while below < self.count:
            if below + 1 < self.count and before(self.heap[below + 1], self.heap[below]):
                below += 1
            if not before(self.heap[below], one):
                break
            self.heap[at] = self.heap[below]
            at = below
            below = 2 * at + 1
        self.heap[at] = one

    cdef int _resize(self, Py_ssize_t room) except -1:
        cdef Due* moved = <Due*>PyMem_RawRealloc(self.heap, room * sizeof(Due))
        if moved == NULL:
            raise MemoryError
        self.heap, self.room = moved, room
        return 0

    cdef void _shrink(self) noexcept:
        """After a storm; where that fails it stays as it is."""
        cdef Due* moved = <Due*>PyMem_RawRealloc(self.heap, (self.room >> 1) * sizeof(Due))
        if moved != NULL:
            self.heap, self.room = moved, self.room >> 1
