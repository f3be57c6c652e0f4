# The payload of the load client's events. Wherever it stands in an event's data, it is ASCII that survives JSON escaping:
#
#     sw1:<run>:<channel>:<publisher>:<n>:<sent>:<check>:<padding>.
#
# hexadecimal of fixed width (8, 6, 2, 8, 16, 8 digits): which run, channel and publisher; its number among the events of
# that publisher on that channel; CLOCK_MONOTONIC in ns; and the checksum of all the rest.
#
# All payloads of a run have one length. A reader looks for the mark, then asks `is_framed`, `is_sound`, `read_payload`.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    SCHEME_BYTES = 4
    MARK_BYTES = 13             # "sw1:<run>:"
    CHECK_AT = 49               # where the checksum stands
    PADDING_AT = 57
    PAYLOAD_LEAST = 59

cdef extern from *:
    """
    #define SCHEME "sw1:"
    """
    const char* SCHEME


cdef struct Payload:
    uint32_t channel
    uint32_t publisher
    uint32_t n
    uint64_t sent


# Words of 8 bytes, little-endian, the last one padded with zeros. Any single change of a word changes the result.
cdef inline uint64_t stir(uint64_t hash, const char* at, size_t length) noexcept nogil:
    cdef uint64_t word
    while length:
        word = 0
        memcpy(&word, at, 8 if length >= 8 else length)
        hash = (hash ^ word) * <uint64_t>0xff51afd7ed558ccd
        hash ^= hash >> 32
        if length <= 8:
            break
        at += 8
        length -= 8
    return hash


cdef inline uint32_t checksum(const char* payload, uint32_t length) noexcept nogil:
    cdef uint64_t hash = stir(<uint64_t>0x9e3779b97f4a7c15 ^ length, payload, CHECK_AT)
    return <uint32_t>stir(hash, payload + PADDING_AT, length - PADDING_AT)


# Eight hexadecimal digits in lower case. What is none gives nonsense, which the checksum finds.
cdef inline uint32_t eight_digits(const char* at) noexcept nogil:
    cdef uint64_t x
    memcpy(&x, at, 8)
    x = (x & <uint64_t>0x0f0f0f0f0f0f0f0f) + 9 * ((x >> 6) & <uint64_t>0x0101010101010101)
    x = ((x << 4) | (x >> 8)) & <uint64_t>0x00ff00ff00ff00ff
    x = ((x << 8) | (x >> 16)) & <uint64_t>0x0000ffff0000ffff
    return <uint32_t>((x << 16) | (x >> 32))


# Whether `length` bytes behind a mark have their separators where a payload has them.
cdef inline bint is_framed(const char* at, uint32_t length) noexcept nogil:
    return (
        at[19] == b":" and at[22] == b":" and at[31] == b":" and at[48] == b":" and at[57] == b":"
        and at[length - 1] == b"."
    )


cdef inline bint is_sound(const char* at, uint32_t length) noexcept nogil:
    return eight_digits(at + CHECK_AT) == checksum(at, length)


cdef inline void read_payload(const char* at, Payload* payload) noexcept nogil:
    payload.channel = eight_digits(at + 11) & 0xffffff
    payload.publisher = eight_digits(at + 14) & 0xff
    payload.n = eight_digits(at + 23)
    payload.sent = <uint64_t>eight_digits(at + 32) << 32 | eight_digits(at + 40)


cdef void write_mark(char* at, uint32_t run) noexcept nogil
cdef void write_payload(
    char* at, uint32_t length, uint32_t run, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t sent
) noexcept nogil
