"""SipHash-2-4 with 128 bits (Aumasson and Bernstein 2012, "SipHash: a fast short-input PRF"): what is remembered of bytes
that may not be kept. Who does not know the key can find no two inputs of one digest, and nothing of an input in one."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    #define SIP_ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
    #define SIP_ROUND                                                                        \\
        do {                                                                                 \\
            v0 += v1; v1 = SIP_ROTATE(v1, 13); v1 ^= v0; v0 = SIP_ROTATE(v0, 32);            \\
            v2 += v3; v3 = SIP_ROTATE(v3, 16); v3 ^= v2;                                     \\
            v0 += v3; v3 = SIP_ROTATE(v3, 21); v3 ^= v0;                                     \\
            v2 += v1; v1 = SIP_ROTATE(v1, 17); v1 ^= v2; v2 = SIP_ROTATE(v2, 32);            \\
        } while (0)

    static inline uint64_t sip_word(const unsigned char* at) {
        uint64_t word;
        memcpy(&word, at, 8);
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }

    static inline void sip_put(unsigned char* to, uint64_t word) {
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        memcpy(to, &word, 8);
    }

    static void siphash128(const unsigned char* key, const unsigned char* data, size_t length, unsigned char* out) {
        uint64_t k0 = sip_word(key), k1 = sip_word(key + 8), word;
        uint64_t v0 = 0x736f6d6570736575ULL ^ k0, v1 = 0x646f72616e646f6dULL ^ k1 ^ 0xee;
        uint64_t v2 = 0x6c7967656e657261ULL ^ k0, v3 = 0x7465646279746573ULL ^ k1;
        const unsigned char* end = data + (length & ~(size_t)7);
        unsigned char last[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        int round;
        for (; data != end; data += 8) {
            word = sip_word(data);
            v3 ^= word; SIP_ROUND; SIP_ROUND; v0 ^= word;
        }
        memcpy(last, data, length & 7);
        last[7] = (unsigned char)length;
        word = sip_word(last);
        v3 ^= word; SIP_ROUND; SIP_ROUND; v0 ^= word;
        v2 ^= 0xee;
        for (round = 0; round < 4; round++) SIP_ROUND;
        sip_put(out, v0 ^ v1 ^ v2 ^ v3);
        v1 ^= 0xdd;
        for (round = 0; round < 4; round++) SIP_ROUND;
        sip_put(out + 8, v0 ^ v1 ^ v2 ^ v3);
    }
    """
    void siphash128(const unsigned char* key, const unsigned char* data, size_t length, unsigned char* out)


cdef bytes digest_of(const unsigned char* key, const char* data, size_t length):
    cdef unsigned char out[DIGEST]
    siphash128(key, <const unsigned char*>data, length, out)
    return PyBytes_FromStringAndSize(<char*>out, DIGEST)


cdef uint64_t number_of(const unsigned char* key, const char* data, size_t length) noexcept nogil:
    """The first half of the digest, to find things by."""
    cdef unsigned char out[DIGEST]
    cdef uint64_t number
    siphash128(key, <const unsigned char*>data, length, out)
    memcpy(&number, out, sizeof(number))
    return number


def siphash(bytes key not None, bytes data not None):
    """The digest, 16 bytes; the key has 16, too. Raises ValueError."""
    if PyBytes_GET_SIZE(key) != KEY:
        raise ValueError(f"a key has {KEY} bytes, not {len(key)}")
    return digest_of(<const unsigned char*>PyBytes_AS_STRING(key), PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
