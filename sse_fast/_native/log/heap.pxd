# A binary heap of numbers, the smallest first.

from libc.stdint cimport uint64_t


cdef inline void sift_down(uint64_t* heap, size_t size) noexcept nogil:
    """Put the first of a heap, the smallest of which is to come first, in its place."""
    cdef uint64_t moved = heap[0]
    cdef size_t at = 0, child = 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if moved <= heap[child]:
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = moved


cdef inline void push(uint64_t* heap, size_t size, uint64_t number) noexcept nogil:
    """Add to a heap of `size`, which has room for it."""
    cdef size_t at = size, above
    while at:
        above = (at - 1) // 2
        if heap[above] <= number:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = number
