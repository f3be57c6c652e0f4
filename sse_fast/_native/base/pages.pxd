# Memory as the processor and the kernel have it.

from libc.stdint cimport uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #if defined(__GNUC__)
    #define prefetch(at) __builtin_prefetch(at)
    #else
    #define prefetch(at) ((void)(at))
    #endif

    #ifndef SSE_FAST_PORTABLE
    #include <sys/mman.h>
    #include <unistd.h>

    static inline void populate(char* at, uint64_t length) {
        uintptr_t page = sysconf(_SC_PAGESIZE), start = (uintptr_t)at & ~(page - 1);
        (void)madvise((void*)start, (uintptr_t)at + length - start, 23 /* MADV_POPULATE_WRITE, Linux 5.14 */);
    }
    #else
    #define populate(at, length) ((void)(at), (void)(length))
    #endif
    """
    # Like a write to each page, but changes nothing, and a page that can't be had is an error and no signal.
    void populate(char* at, uint64_t length)
    void prefetch(const void* at)


cdef inline object private_memory(size):
    """All zero, and of this process alone: a fork has its own copy. A writable buffer."""
    import mmap

    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)
