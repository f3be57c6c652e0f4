# A mutex in memory that processes share: who dies while he has it passes it on, and nobody waits for ever.

from libc.stdint cimport int64_t, uint32_t

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_trylock(pthread_mutex_t* lock)
    int pthread_mutex_unlock(pthread_mutex_t* lock)

cdef enum:
    PATIENCE_US = 100_000
    IMPATIENCE_US = 1_000


cdef inline int take(pthread_mutex_t* lock, int64_t* patience) except -1:
    """Take the lock, holding the GIL; until it is given back nothing may raise, and nothing run Python's code.

    Waits for `patience` microseconds, and then raises LogBusy; next time it waits less.
    """
    cdef int status = pthread_mutex_trylock(lock)
    if status:
        return wait_for(lock, patience, status)
    patience[0] = PATIENCE_US
    return 0


cdef int wait_for(pthread_mutex_t* lock, int64_t* patience, int status) except -1
cdef int init_lock(pthread_mutex_t* lock) noexcept
cdef uint32_t holder_of(pthread_mutex_t* lock) noexcept
