"""POSTs of one event whose header block is known: parsed, decided about and answered without parsing or deciding.

The requests of one publisher differ in their channel and their body, seldom in anything else. So of a header block, which
is all behind the request line, that was once parsed and decided about, a digest is remembered, and what followed from it.
A later request with the same block means the same, if its request line is as that one's was but for a name, of harmless
characters: letters, digits and `-._~`, one segment or two. What is not of this kind, from the first byte that is not, is
left to whoever parses; and everything that fails before it was published.

What it keeps: digests under a key of this process alone, so no secret stays in memory and nobody can make another block
that is taken for one (SipHash); not more than `most`, the oldest goes. It knows no HTTP but these few bytes.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

from sse_fast._native.base.siphash cimport KEY, digest_of
from sse_fast._native.wire.frame cimport frame_of
from sse_fast.event_rules import MAX_CHANNEL_BYTES

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t length, const void* needle, size_t needle_length)

cdef enum:
    MOST_BLOCK = 4096               # bytes of a header block that is looked for
    FEW = 512                       # bytes of an answer beside its head: date, digits, id

cdef Py_ssize_t LONGEST = MAX_CHANNEL_BYTES
cdef const char* VERSION = b" HTTP/1.1\r\n"
cdef Py_ssize_t VERSION_LENGTH = 11
cdef unsigned char HARMLESS[256]
cdef int character
for character in range(256):
    HARMLESS[character] = chr(character) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def is_plain(bytes name not None):
    """Whether what stands behind the start of such a request's target is taken here."""
    return 0 < PyBytes_GET_SIZE(name) == plain_length(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))


cdef Py_ssize_t plain_length(const char* name, Py_ssize_t size) noexcept nogil:
    """Bytes of a name in one segment or two, at its beginning; 0: there is none."""
    cdef Py_ssize_t at = 0, slash = -1
    while at < size and at <= LONGEST:
        if not HARMLESS[<unsigned char>name[at]]:
            if name[at] != c"/" or slash >= 0:
                break
            slash = at
        at += 1
    if at > LONGEST or slash == 0 or slash == at - 1:
        return 0
    return at


@cython.final
cdef class Known:
    """What is known of a header block."""


@cython.final
cdef class Posts:
    """Posts(start, limit, append, hand_out, *, most=1024): `start` is what such a request begins with, up to the channel's name;
    `limit`: bytes of an encoded event; `append((channel, frame))` publishes it, and returns its id, or None where it
    would have to wait; if it raises, but for MemoryError, nothing was published. `hand_out()` is called when a turn of
    requests is through, in which something was. `date`: the answers' field, whole,
    with the line that ends the head; nothing is taken before there is one, nor while it is not `enabled`."""

    def __cinit__(
        self, bytes start not None, Py_ssize_t limit, append not None, hand_out not None, *, Py_ssize_t most=1024
    ):
        cdef bytes key = os.urandom(KEY)
        memcpy(self.key, PyBytes_AS_STRING(key), KEY)
        self.start, self.limit, self.append, self._hand_out, self.most = start, limit, append, hand_out, most
        self.known = {}
        self.date = b""
        self.enabled = True

    def remember(self, bytes block not None, Py_ssize_t length, bytes before not None, bytes behind not None):
        """A header block, with the empty line that ends it: behind it comes a body of so many bytes. The answer's head is
        `before`, the length of its body, `behind`, and the date."""
        cdef Known known = Known.__new__(Known)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        if size > MOST_BLOCK or len(before) + len(behind) + FEW > ROOM:
            return
        known.length, known.before, known.behind = length, before, behind
        self.known[digest_of(self.key, PyBytes_AS_STRING(block), size)] = known
        if len(self.known) > self.most:
            del self.known[next(iter(self.known))]

    def forget(self):
        self.known.clear()

    def __len__(self):
        return len(self.known)

    cdef Py_ssize_t take(self, const char* data, Py_ssize_t size, int* most) except -1:
        """Publish what such requests `data` begins with, at most so many, and take them from `most`. Returns how many
        bytes they are; their answers are in `room`."""
        cdef Py_ssize_t at = 0, used
        self.filled = 0
        while at < size and most[0] and self.enabled:
            used = self._take_one(data + at, size - at)
            if used == 0:
                break
            at += used
            most[0] -= 1
        return at

    cdef int hand_out(self) except -1:
        self.news = False
        self._hand_out()
        return 0

    cdef Py_ssize_t _take_one(self, const char* data, Py_ssize_t size) except -1:
        """The bytes of the first request; 0: it is none of these, or not all there."""
        cdef Py_ssize_t start = PyBytes_GET_SIZE(self.start), name_length, left
        cdef const char* name = data + start
        cdef const char* block
        cdef const char* end
        cdef Known known
        cdef bytes channel, frame
        if size <= start or memcmp(data, PyBytes_AS_STRING(self.start), start) != 0 or not self.known:
            return 0
        name_length = plain_length(name, size - start)
        left = size - start - name_length - VERSION_LENGTH
        if name_length == 0 or left <= 0 or memcmp(name + name_length, VERSION, VERSION_LENGTH) != 0:
            return 0
        block = name + name_length + VERSION_LENGTH
        end = <const char*>memmem(block, min(left, MOST_BLOCK), b"\r\n\r\n", 4)
        if end == NULL:
            return 0
        end += 4
        known = self.known.get(digest_of(self.key, block, end - block))
        if known is None or data + size - end < known.length or not self.date:
            return 0
        if self.filled + PyBytes_GET_SIZE(known.before) + PyBytes_GET_SIZE(known.behind) + FEW > ROOM:
            return 0
        try:
            frame = frame_of(PyBytes_FromStringAndSize(end, known.length), None, None, None, None)
            if PyBytes_GET_SIZE(frame) > self.limit:
                return 0
            self.news = True            # whether it raises or not
            id = self.append((self._channel(name, name_length), frame))
        except MemoryError:
            raise                       # it may have been published, and must not be again
        except Exception:
            return 0                    # who parses will meet it too, and answer in its words
        if id is None:
            return 0
        self._answer(known, id)
        self.taken += 1
        return end + known.length - data

    cdef bytes _channel(self, const char* name, Py_ssize_t length):
        """The channel's name as the log keeps it: two segments are joined by a colon."""
        cdef bytes channel = PyBytes_FromStringAndSize(name, length)
        cdef char* at = PyBytes_AS_STRING(channel)
        cdef Py_ssize_t i
        for i in range(length):
            if at[i] == c"/":
                at[i] = c":"
        return channel

    cdef int _answer(self, Known known, str id) except -1:
        """Behind those that are there already."""
        cdef char digits[24]
        cdef Py_ssize_t id_length
        cdef const char* text = PyUnicode_AsUTF8AndSize(id, &id_length)
        cdef int digits_length = snprintf(digits, sizeof(digits), b"%zd", id_length + 9)
        cdef char* to = self.room + self.filled
        if PyBytes_GET_SIZE(self.date) + id_length > FEW - 64:
            raise ValueError("an answer's date and id are far shorter")
        to = put(to, PyBytes_AS_STRING(known.before), PyBytes_GET_SIZE(known.before))
        to = put(to, digits, digits_length)
        to = put(to, PyBytes_AS_STRING(known.behind), PyBytes_GET_SIZE(known.behind))
        to = put(to, PyBytes_AS_STRING(self.date), PyBytes_GET_SIZE(self.date))
        to = put(to, b'{"id":"', 7)
        to = put(to, text, id_length)
        to = put(to, b'"}', 2)
        self.filled = to - self.room
        return 0


cdef inline char* put(char* to, const char* text, Py_ssize_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length
