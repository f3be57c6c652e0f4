# A queue of things of one size that are numbered from 0 on and stay where they are: it grows by pages, and those whose
# things are gone are used again.

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uint64_t

cdef enum:
    PAGE_BITS = 10                  # a page has 1,024 of them


cdef struct Pages:
    char** pages                    # a ring, too
    uint64_t mask                   # of page numbers
    size_t size                     # of a thing


cdef inline int open_pages(Pages* queue, size_t size) except -1:
    queue.size = size
    queue.mask = 0
    queue.pages = <char**>PyMem_RawCalloc(1, sizeof(char*))
    if queue.pages == NULL:
        raise MemoryError
    queue.pages[0] = <char*>PyMem_RawMalloc(size << PAGE_BITS)
    if queue.pages[0] == NULL:
        raise MemoryError
    return 0


cdef inline void close_pages(Pages* queue) noexcept:
    cdef uint64_t page
    if queue.pages != NULL:
        for page in range(queue.mask + 1):
            PyMem_RawFree(queue.pages[page])
    PyMem_RawFree(queue.pages)


cdef inline int reserve(Pages* queue, uint64_t first, uint64_t newest, uint64_t count) except -1:
    """Have room for `count` things after the newest, while those from `first` on are there."""
    cdef uint64_t oldest = first >> PAGE_BITS, page = newest >> PAGE_BITS, last = (newest + count) >> PAGE_BITS, mask, i
    cdef char** grown
    while page < last:
        page += 1
        if page - oldest > queue.mask:
            mask = 2 * queue.mask + 1
            grown = <char**>PyMem_RawCalloc(mask + 1, sizeof(char*))
            if grown == NULL:
                raise MemoryError
            for i in range(oldest, page):
                grown[i & mask] = queue.pages[i & queue.mask]
            PyMem_RawFree(queue.pages)
            queue.pages = grown
            queue.mask = mask
        if queue.pages[page & queue.mask] == NULL:
            queue.pages[page & queue.mask] = <char*>PyMem_RawMalloc(queue.size << PAGE_BITS)
            if queue.pages[page & queue.mask] == NULL:
                raise MemoryError
    return 0


cdef inline char* thing(const Pages* queue, uint64_t number, size_t size) noexcept nogil:
    """Where it is; `size` once more, so that a compiler knows it."""
    return queue.pages[(number >> PAGE_BITS) & queue.mask] + (number & ((1 << PAGE_BITS) - 1)) * size
