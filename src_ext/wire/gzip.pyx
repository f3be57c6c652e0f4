"""Pieces of a gzip stream that many share (RFC 1951 and 1952).

The laws of this file:
- every piece is deflate blocks of its own, in whole bytes: behind the head it may come after any other, so clients that
  joined at different moments are sent the same bytes;
- no block refers to what stood before it: of a piece's length nothing can be read of another piece;
- what is short, or would become no shorter, stands in stored blocks, which take five bytes;
- no piece takes longer than a few milliseconds of the turn in which it is made: a long one is deflated quickly, and one
  that is longer still is stored;
- the check at the end is of all that one client was sent. It is put together out of the pieces' own, and nothing is read
  twice for it.

Python's zlib deflates: a piece costs that once, however many get it.
"""

import os
import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from sse_fast._native.base.siphash cimport KEY, digest_of

cdef object crc32 = zlib.crc32, compressobj = zlib.compressobj
cdef int DEFLATED = zlib.DEFLATED, FULL_FLUSH = zlib.Z_FULL_FLUSH

HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"     # deflate; no name, no time, of no system
cdef bytes LAST_BLOCK = b"\x03\x00"             # an empty one, which says that it is the last

cdef enum:
    STORED_MOST = 0xFFFF            # bytes of a stored block
    STORED_HEAD = 5
    RAW = -15                       # zlib's word for deflate alone, with all of the window
    THOROUGH = 6
    QUICK = 1                       # a quarter of the time for a long piece, and a fifth more bytes
    LONG = 1 << 16                  # bytes past which it is quick for everybody: thorough, these may take 2.5 ms
    LONGEST = 1 << 17               # bytes past which a piece is stored: quick, these may take 3 ms
    REMEMBERED_BYTES = 1 << 20      # of what was deflated
    AROUND = 200                    # bytes that one that is remembered takes beside its own


cpdef bytes stored(bytes data):
    """As it stands, in stored blocks."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), blocks = max(1, (size + STORED_MOST - 1) // STORED_MOST)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size + blocks * STORED_HEAD)
    cdef unsigned char* to = <unsigned char*>PyBytes_AS_STRING(made)
    cdef const char* begin = PyBytes_AS_STRING(data)
    cdef Py_ssize_t taken
    for _ in range(blocks):
        taken = min(size, STORED_MOST)
        to[0] = 0
        to[1], to[2] = taken & 0xFF, taken >> 8
        to[3], to[4] = ~to[1] & 0xFF, ~to[2] & 0xFF
        memcpy(to + STORED_HEAD, begin, taken)
        to += STORED_HEAD + taken
        begin += taken
        size -= taken
    return made


cpdef bytes ending(uint32_t check, uint32_t size):
    """The end of a stream: the last block, and behind it the check and the size, modulo 2**32, of all it has."""
    return LAST_BLOCK + check.to_bytes(4, "little") + size.to_bytes(4, "little")


cpdef uint32_t check_of(bytes data) except? 0:
    """The CRC-32 of RFC 1952."""
    return crc32(data)


# ---- a check of several, out of each one's: CRCs are polynomials over GF(2), the highest bit is the power 0 --------------

cdef enum:
    POLYNOMIAL = 0xEDB88320


cdef uint32_t multiplied(uint32_t one, uint32_t other) noexcept nogil:
    """Modulo the polynomial."""
    cdef uint32_t bit = <uint32_t>1 << 31, product = 0
    while True:
        if one & bit:
            product ^= other
            if one & (bit - 1) == 0:
                return product
        bit >>= 1
        if bit == 0:
            return product
        other = (other >> 1) ^ (<uint32_t>POLYNOMIAL if other & 1 else 0)


cpdef uint32_t shift_of(uint64_t length) noexcept:
    """What the check of all that stands before so many bytes is multiplied by."""
    cdef uint32_t power = <uint32_t>1 << 23, shift = <uint32_t>1 << 31     # a byte is the power 8
    while length:
        if length & 1:
            shift = multiplied(power, shift)
        power = multiplied(power, power)
        length >>= 1
    return shift


cpdef uint32_t joined(uint32_t before, uint32_t shift, uint32_t check) noexcept:
    """The check of what has the check `before` and, behind it, of what has `check` and `shift`."""
    return multiplied(shift, before) ^ check


# ---- deflating --------------------------------------------------------------------------------------------------------


cdef class Deflater:
    """Deflater(least): pieces of fewer bytes than `least`, or of more than 128 KiB, are stored.

    What it keeps: two compressors, of a quarter of a megabyte each, once one was needed; and for a while what it made, by
    a digest, as who comes back is sent what others were sent before: a megabyte, the oldest goes first.
    """

    def __cinit__(self, Py_ssize_t least=0):
        cdef bytes key = os.urandom(KEY)
        memcpy(self._key, PyBytes_AS_STRING(key), KEY)
        self.least = least
        self._streams = [None, None]
        self._made = {}

    cpdef bytes deflated(self, bytes data, bint apart=False, bint quick=False):
        """Of whole frames. `apart`: each of them by itself, so that none refers to another. `quick`: few will get it."""
        cdef bytes digest, made
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if size < self.least or size > LONGEST:
            return stored(data)
        quick = quick or size > LONG
        digest = digest_of(self._key, PyBytes_AS_STRING(data), size)
        if apart:
            digest += b"/"
        made = self._made.get(digest)
        if made is None:
            made = self._each(data, quick) if apart else self._one(data, quick)
            self.pieces += 1
            self._remember(digest, made)
        return made

    cdef bytes _each(self, bytes data, bint quick):
        cdef list parts = []
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), short = 0, at = 0, end
        while at < size:
            end = data.find(b"\n\n", at) + 2
            if end < 2:
                end = size
            if end - at >= self.least:
                if short < at:
                    parts.append(stored(data[short:at]))
                parts.append(self._one(data[at:end], quick))
                short = end
            at = end
        if short < size:
            parts.append(stored(data[short:]))
        return b"".join(parts)

    cdef bytes _one(self, bytes data, bint quick):
        cdef bytes made
        cdef object stream = self._streams[quick]
        self._streams[quick] = None         # one that failed has part of it: it is not used again
        if stream is None:
            stream = compressobj(QUICK if quick else THOROUGH, DEFLATED, RAW)
        made = stream.compress(data) + stream.flush(FULL_FLUSH)
        self._streams[quick] = stream
        if PyBytes_GET_SIZE(made) < PyBytes_GET_SIZE(data):
            return made
        return stored(data)

    cdef int _remember(self, bytes digest, bytes made) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(made) + AROUND
        if size > REMEMBERED_BYTES:
            return 0
        while self._bytes + size > REMEMBERED_BYTES:
            self._bytes -= PyBytes_GET_SIZE(self._made.pop(next(iter(self._made)))) + AROUND
        self._made[digest] = made
        self._bytes += size
        return 0
