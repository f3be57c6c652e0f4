# What processors have an instruction for.

cdef extern from * nogil:
    int leading_zeros "__builtin_clzll"(unsigned long long number)  # of 64 bits, one of which is set
