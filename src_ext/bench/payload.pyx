"""The payload of the load client's events, as it is written; payload.pxd has the format, and how it is read."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

globals().update(PAYLOAD_LEAST=<int>PAYLOAD_LEAST)

cdef const char* DIGITS = "0123456789abcdef"


cdef inline void hexadecimal(char* at, int digits, uint64_t value) noexcept nogil:
    while digits:
        digits -= 1
        at[digits] = DIGITS[value & 15]
        value >>= 4


cdef void write_mark(char* at, uint32_t run) noexcept nogil:
    memcpy(at, b"sw1:00000000:", MARK_BYTES)
    hexadecimal(at + 4, 8, run)


cdef void write_payload(
    char* at, uint32_t length, uint32_t run, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t sent
) noexcept nogil:
    cdef uint32_t i
    memcpy(at, b"sw1:00000000:000000:00:00000000:0000000000000000:00000000:", 58)
    hexadecimal(at + 4, 8, run)
    hexadecimal(at + 13, 6, channel)
    hexadecimal(at + 20, 2, publisher)
    hexadecimal(at + 23, 8, n)
    hexadecimal(at + 32, 16, sent)
    for i in range(58, length - 1):
        at[i] = <char>(97 + (i + n) % 26)
    at[length - 1] = b"."  # what a form takes as it is, too
    hexadecimal(at + CHECK_AT, 8, checksum(at, length))


def payload(uint32_t length, uint32_t run, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t sent):
    """A payload of so many bytes (at least 59), as the load client publishes it."""
    if length < PAYLOAD_LEAST:
        raise ValueError(f"a payload has at least {PAYLOAD_LEAST} bytes")
    text = PyBytes_FromStringAndSize(NULL, length)
    write_payload(PyBytes_AS_STRING(text), length, run, channel, publisher, n, sent)
    return text
