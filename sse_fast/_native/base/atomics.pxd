# Numbers in memory that several threads or processes share, in the terms of C11's memory model. They must be aligned.
#
# Relaxed: never torn, in no order with other memory; as cheap as a plain read or write.
# A release store, and an acquire load that reads what it stored: all that was written before the store is seen after the load.
# `fence_seq_cst` between a write and a read of another number: of two threads that do so crosswise, one sees the other's write.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #if defined(__GNUC__)
    #define load_relaxed(at) __atomic_load_n((at), __ATOMIC_RELAXED)
    #define load_acquire(at) __atomic_load_n((at), __ATOMIC_ACQUIRE)
    #define store_relaxed(at, value) __atomic_store_n((at), (value), __ATOMIC_RELAXED)
    #define store_release(at, value) __atomic_store_n((at), (value), __ATOMIC_RELEASE)
    static inline int compare_exchange(uint64_t* at, uint64_t was, uint64_t value) {
        return __atomic_compare_exchange_n(at, &was, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    #define subtract(at, value) __atomic_fetch_sub((at), (value), __ATOMIC_RELAXED)
    #define exchange_seq_cst(at, value) __atomic_exchange_n((at), (value), __ATOMIC_SEQ_CST)
    #define fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    #define fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
    #define fence_seq_cst() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #elif defined(SSE_FAST_PORTABLE)
    /* No memory is shared with another process, and the GIL orders what threads do. */
    #define load_relaxed(at) (*(at))
    #define load_acquire(at) (*(at))
    #define store_relaxed(at, value) ((void)(*(at) = (value)))
    #define store_release(at, value) ((void)(*(at) = (value)))
    static inline int compare_exchange(uint64_t* at, uint64_t was, uint64_t value) {
        if (*at != was) return 0;
        *at = value;
        return 1;
    }
    static inline uint64_t subtract(uint64_t* at, uint64_t value) { uint64_t was = *at; *at -= value; return was; }
    static inline uint32_t exchange_seq_cst(uint32_t* at, uint32_t value) { uint32_t was = *at; *at = value; return was; }
    #define fence_acquire() ((void)0)
    #define fence_release() ((void)0)
    #define fence_seq_cst() ((void)0)
    #else
    #error "the parts of sse_fast that need Linux take a compiler with GCC's atomics, as gcc and clang are"
    #endif
    """
    bint compare_exchange(uint64_t* at, uint64_t was, uint64_t value)   # whether it was, and has become `value`
    uint64_t subtract(uint64_t* at, uint64_t value)
    uint64_t load_relaxed(const uint64_t* at)
    uint64_t load_acquire(const uint64_t* at)
    void store_relaxed(uint64_t* at, uint64_t value)
    void store_release(uint64_t* at, uint64_t value)

    uint32_t load_relaxed32 "load_relaxed"(const uint32_t* at)
    uint32_t load_acquire32 "load_acquire"(const uint32_t* at)
    void store_relaxed32 "store_relaxed"(uint32_t* at, uint32_t value)
    void store_release32 "store_release"(uint32_t* at, uint32_t value)
    uint32_t exchange32 "exchange_seq_cst"(uint32_t* at, uint32_t value)

    void fence_acquire()
    void fence_release()
    void fence_seq_cst()
