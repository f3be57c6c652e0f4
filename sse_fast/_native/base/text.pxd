# What C libraries call by different names.

from libc.stdint cimport int64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    #include <time.h>
    #ifdef _WIN32
    #define same_letters(one, other, length) (_strnicmp((one), (other), (length)) == 0)
    static inline void utc_of(int64_t seconds, struct tm* parts) { time_t at = seconds; gmtime_s(parts, &at); }
    #else
    #include <strings.h>
    #define same_letters(one, other, length) (strncasecmp((one), (other), (length)) == 0)
    static inline void utc_of(int64_t seconds, struct tm* parts) { time_t at = seconds; gmtime_r(&at, parts); }
    #endif
    """
    bint same_letters(const char* one, const char* other, size_t length)    # whatever their case
    ctypedef struct tm "struct tm":
        int tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec
    void utc_of(int64_t seconds, tm* parts)         # since 1970
