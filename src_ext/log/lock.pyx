"""How writers take turns.

A robust mutex in the segment, held for the copying only, never while its holder waits for the GIL; if the holder dies,
the kernel hands it on. A holder that is *stopped* can't be passed: it may go on at any time and overwrite what others
have appended since. So nobody waits for longer than PATIENCE_US, or whatever `Log.longest_wait` says: then LogBusy is
raised, nothing was appended, and until the lock is had again an append waits for nothing, however many try. Readers take
no lock.
"""

import os

from libc.stdint cimport int64_t, uint32_t, uint64_t

from sse_fast._native.base.clock cimport monotonic_us

from sse_fast.errors import LogBusy

cdef extern from "errno.h" nogil:
    int EBUSY, EOWNERDEAD, ETIMEDOUT

cdef extern from "pthread.h" nogil:
    int pthread_mutex_consistent(pthread_mutex_t* lock)

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <stdint.h>
    #include <time.h>

    static int init_robust(pthread_mutex_t* lock) {
        pthread_mutexattr_t kind;
        int failed = pthread_mutexattr_init(&kind);
        if (!failed) failed = pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
        if (!failed) failed = pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        return failed ? failed : pthread_mutex_init(lock, &kind);
    }

    static int lock_until(pthread_mutex_t* lock, uint64_t deadline) {
        struct timespec until = {deadline / 1000000, deadline % 1000000 * 1000};
        return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until);
    }

    /* The word that the kernel reads when a thread dies: FUTEX_OWNER_DIED and so on above, the thread's id below. */
    static uint32_t owner_of(pthread_mutex_t* lock) {
    #ifdef __GLIBC__
        return __atomic_load_n((uint32_t*)lock, __ATOMIC_RELAXED) & 0x3fffffff;
    #else
        return __atomic_load_n((uint32_t*)lock + 1, __ATOMIC_RELAXED) & 0x3fffffff;
    #endif
    }
    """
    int init_robust(pthread_mutex_t* lock)
    int lock_until(pthread_mutex_t* lock, uint64_t deadline)
    uint32_t owner_of(pthread_mutex_t* lock)


cdef int init_lock(pthread_mutex_t* lock) noexcept:
    """An errno, or 0."""
    return init_robust(lock)


cdef uint32_t holder_of(pthread_mutex_t* lock) noexcept:
    """Id of the thread that has it; 0 is nobody."""
    return owner_of(lock)


cdef int wait_for(pthread_mutex_t* lock, int64_t* patience, int64_t most, int status) except -1:
    """Go on after a try that ended with `status`."""
    cdef int64_t deadline = 0
    while True:
        if status == EBUSY and patience[0] > 0:
            deadline = deadline or monotonic_us() + patience[0]
            # What is waited for is that it becomes free: who has it must not wait for the GIL.
            with nogil:
                status = lock_until(lock, deadline)
                if status == EOWNERDEAD:
                    status = pthread_mutex_consistent(lock)
                if status == 0:
                    pthread_mutex_unlock(lock)
            if status == 0:
                status = pthread_mutex_trylock(lock)
                continue
        if status == EOWNERDEAD:
            status = pthread_mutex_consistent(lock)
        if status == 0:
            patience[0] = most
            return 0
        if status == ETIMEDOUT or status == EBUSY:
            patience[0] = 0
            raise LogBusy(f"the log is locked by process {holder_of(lock)}, which does not go on; try again later")
        raise LogBusy(f"the log's lock cannot be had: {os.strerror(status)}; was its memory overwritten?")
