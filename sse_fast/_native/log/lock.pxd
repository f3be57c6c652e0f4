# A mutex in memory that processes share: who dies while he has it passes it on, and nobody waits for ever.

from libc.stdint cimport int64_t, uint32_t

from sse_fast._native.base.mutex cimport mutex_try, robust_mutex

cdef enum:
    PATIENCE_US = 100_000


cdef inline int take(robust_mutex* lock, int64_t* patience, int64_t most) except -1:
    """Take the lock, holding the GIL; until it is given back nothing may raise, and nothing run Python's code.

    Waits for `patience` microseconds, and then raises LogBusy; next time it does not wait, until the lock was had: then
    for `most` again.
    """
    cdef int status = mutex_try(lock)
    if status:
        return wait_for(lock, patience, most, status)
    patience[0] = most
    return 0


cdef int wait_for(robust_mutex* lock, int64_t* patience, int64_t most, int status) except -1
cdef int init_lock(robust_mutex* lock) noexcept
cdef uint32_t holder_of(robust_mutex* lock) noexcept
