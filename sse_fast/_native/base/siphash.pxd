# A keyed digest of bytes that may not be kept, for C callers.

cdef enum:
    KEY = 16
    DIGEST = 16

cdef bytes digest_of(const unsigned char* key, const char* data, size_t length)
