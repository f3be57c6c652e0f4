# A mutex in memory that processes share, and that outlives its holder ("robust" in pthread_mutexattr_setrobust(3)). A build
# without the Linux parts shares no memory: there it cannot be taken.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <stdint.h>
    #ifndef SSE_FAST_PORTABLE
    #include <pthread.h>
    #include <time.h>

    typedef pthread_mutex_t robust_mutex;

    static inline int mutex_init(robust_mutex* mutex) {
        pthread_mutexattr_t kind;
        int failed = pthread_mutexattr_init(&kind);
        if (!failed) failed = pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
        if (!failed) failed = pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        return failed ? failed : pthread_mutex_init(mutex, &kind);
    }
    #ifdef __GLIBC__
    #if __GLIBC_PREREQ(2, 30)
    #define WAITS_BY_MONOTONIC_CLOCK
    #endif
    #endif
    #define mutex_try pthread_mutex_trylock
    #define mutex_unlock pthread_mutex_unlock
    #define mutex_repair pthread_mutex_consistent

    static inline int mutex_wait(robust_mutex* mutex, uint64_t microseconds) {
        struct timespec until;
    #ifdef WAITS_BY_MONOTONIC_CLOCK
        clock_gettime(CLOCK_MONOTONIC, &until);
    #else   /* where the clock is set meanwhile, the wait is longer or shorter by as much */
        clock_gettime(CLOCK_REALTIME, &until);
    #endif
        microseconds += until.tv_nsec / 1000;
        until.tv_sec += microseconds / 1000000;
        until.tv_nsec = microseconds % 1000000 * 1000;
    #ifdef WAITS_BY_MONOTONIC_CLOCK
        return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
    #else
        return pthread_mutex_timedlock(mutex, &until);
    #endif
    }

    /* The word that the kernel reads when a thread dies: FUTEX_OWNER_DIED and so on above, the thread's id below. */
    static inline uint32_t mutex_holder(robust_mutex* mutex) {
    #ifdef __GLIBC__
        return __atomic_load_n((uint32_t*)mutex, __ATOMIC_RELAXED) & 0x3fffffff;
    #else
        return __atomic_load_n((uint32_t*)mutex + 1, __ATOMIC_RELAXED) & 0x3fffffff;
    #endif
    }
    #else
    #ifndef EOWNERDEAD
    #define EOWNERDEAD (-1)
    #endif
    typedef uint64_t robust_mutex;
    #define mutex_init(mutex) (*(mutex) = 0, 0)
    #define mutex_try(mutex) ((void)(mutex), ENOSYS)
    #define mutex_unlock(mutex) ((void)(mutex), 0)
    #define mutex_repair(mutex) ((void)(mutex), ENOSYS)
    #define mutex_wait(mutex, microseconds) ((void)(mutex), (void)(microseconds), ENOSYS)
    #define mutex_holder(mutex) ((void)(mutex), (uint32_t)0)
    #endif
    """
    int EBUSY, ENOSYS, EOWNERDEAD, ETIMEDOUT
    ctypedef struct robust_mutex:
        pass
    # Each returns an errno, or 0.
    int mutex_init(robust_mutex* mutex)
    int mutex_try(robust_mutex* mutex)
    int mutex_wait(robust_mutex* mutex, uint64_t microseconds)
    int mutex_repair(robust_mutex* mutex)           # of one whose holder died, and that is had now
    int mutex_unlock(robust_mutex* mutex)
    uint32_t mutex_holder(robust_mutex* mutex)      # id of the thread that has it; 0 is nobody
