# The clocks. Signed, so that what is left until a deadline may be below zero.

from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #ifdef _WIN32
    #include <windows.h>
    static inline int64_t monotonic_clock(void) {
        LARGE_INTEGER ticks, each_second;
        QueryPerformanceCounter(&ticks);
        QueryPerformanceFrequency(&each_second);
        return ticks.QuadPart / each_second.QuadPart * 1000000000
            + ticks.QuadPart % each_second.QuadPart * 1000000000 / each_second.QuadPart;
    }
    static inline int64_t wall_clock(void) {    /* in 100 ns since 1601 */
        FILETIME now;
        GetSystemTimePreciseAsFileTime(&now);
        return (((int64_t)now.dwHighDateTime << 32 | now.dwLowDateTime) - 116444736000000000) * 100;
    }
    #else
    #include <time.h>
    static inline int64_t clock_ns(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    #define monotonic_clock() clock_ns(CLOCK_MONOTONIC)
    #define wall_clock() clock_ns(CLOCK_REALTIME)
    #endif
    """
    int64_t monotonic_clock()
    int64_t wall_clock()        # since 1970


cdef inline int64_t monotonic_ns() noexcept nogil:
    return monotonic_clock()


cdef inline int64_t monotonic_us() noexcept nogil:
    return monotonic_ns() // 1000


cdef inline int64_t wall_clock_ms() noexcept nogil:
    return wall_clock() // 1_000_000
