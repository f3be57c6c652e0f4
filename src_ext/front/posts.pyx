"""POSTs of one event whose header block is known: parsed, decided about and answered without parsing or deciding.

The requests of one publisher differ in their channel and their body, seldom in anything else. So of a header block, which
is all behind the request line, that was once parsed and decided about, a digest is remembered, and what followed from it:
of all but the digits of its Content-Length, which stand where they stood, and are read each time.
A later request with the same block means the same, if its request line is as that one's was but for a name, of harmless
characters: letters, digits and `-._~`, one segment or two. What is not of this kind, from the first byte that is not, is
left to whoever parses; and everything that fails before it was published.

A form is known in the same way: a request to one place, whose body alone says what is published. What reads it is called
with the body, and gives back what is answered.

Who sends it may have credentials, which end, and may grant only some channels: both are looked at each time.

What it keeps: digests under a key of this process alone, so no secret stays in memory and nobody can make another block
that is taken for one (SipHash); not more than `most`, the oldest goes. It knows no HTTP but these few bytes.
"""

import logging
import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

from sse_fast._native.base.linux cimport memmem
from sse_fast._native.base.siphash cimport KEY, digest_of
from sse_fast._native.wire.frame cimport frame_of
from sse_fast._native.wire.templates cimport TypedChannels
from sse_fast.event_rules import SHORT_NAME

cdef enum:
    MOST_BLOCK = 4096               # bytes of a header block that is looked for
    FEW = 512                       # bytes of an answer beside its head: date, digits, id
    MOST_DIGITS = 18                # of a Content-Length
    MOST_TEXT = 1024                # bytes of what is answered to a form

logger = logging.getLogger("sse_fast.transports")
cdef double FOREVER = float("inf")
cdef Py_ssize_t LONGEST = SHORT_NAME
cdef const char* VERSION = b" HTTP/1.1\r\n"
cdef Py_ssize_t VERSION_LENGTH = 11
cdef const char* NAME = b"content-length:"
cdef Py_ssize_t NAME_LENGTH = 15
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


cdef Py_ssize_t length_at(const char* block, Py_ssize_t size) noexcept nogil:
    """Where the value of its first Content-Length stands; -1: it has none."""
    cdef Py_ssize_t at = 0, i
    cdef const char* end
    while True:
        if size - at <= NAME_LENGTH:
            return -1
        i = 0
        while i < NAME_LENGTH and (block[at + i] | 0x20) == NAME[i]:
            i += 1
        if i == NAME_LENGTH:
            at += i
            return at + 1 if block[at] == c" " else at
        end = <const char*>memmem(block + at, size - at, b"\r\n", 2)
        if end == NULL:
            return -1
        at = end + 2 - block


@cython.final
cdef class Known:
    """What is known of a header block."""


@cython.final
cdef class Posts:
    """Posts(start, limit, append, hand_out, *, most=1024): `start` is what such a request begins with, up to the channel's name;
    `limit`: bytes of an encoded event; `append((channel, frame))` publishes it, and returns its id, or None where it
    would have to wait; if it raises, but for MemoryError, nothing was published. `hand_out()` is called when a turn of
    requests is through, in which something was. `date`: the answers' field, whole,
    with the line that ends the head; nothing is taken before there is one, nor while it is not `enabled`. `now`: the
    time, in seconds since 1970, as good as who sets it has it: what is known ends by it.
    `admits(address, publisher, channel)`: whether this publisher, of `remember`, may publish now by a connection from there;
    `undo`, with the same, is called where it did not then. None: everybody may. `typed`: channels that are not taken
    here.

    `later((channel, frame), waiting)` takes the place of `append` where it is given: events go to an engine, and `waiting`
    is told what came of it, not within this call: see `Waiting`. False: it would have to wait even for that.
    `failed(connection, request, error)` answers then who was not published. `waiting`: so many are. Who is answered while it
    is not `enabled` is answered last, and `date` has to say so.

    `form_line`: the request line, with its end, of forms; `most_form`: bytes of one."""

    def __cinit__(
        self, bytes start not None, Py_ssize_t limit, append not None, hand_out not None, *, Py_ssize_t most=1024
    ):
        cdef bytes key = os.urandom(KEY)
        memcpy(self.key, PyBytes_AS_STRING(key), KEY)
        self.start, self.limit, self.append, self._hand_out, self.most = start, limit, append, hand_out, most
        self.admits = self.undo = self.typed = self.later = self.failed = None
        self.known, self.forms = {}, {}
        self.form_line, self.most_form = b"", 0
        self.date = b""
        self.enabled = True

    def remember(
        self, bytes block not None, bytes before not None, bytes behind not None, *, allows=None, double until=FOREVER,
        publisher=None, request=None,
    ):
        """A header block, with the empty line that ends it, which has one Content-Length, or none and no body. The answer's
        head is `before`, the length of its body, `behind`, and the date. `allows(name)`: whether who sends it may publish
        to a channel, by its name's bytes; None: to any. `until`: for how long, in seconds since 1970. `publisher`: for
        `admits`. `request`: for `failed`. Not remembered is one whose length is written as few write it."""
        cdef Known known = Known.__new__(Known)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block), length
        cdef bytes digest
        if size > MOST_BLOCK or len(before) + len(behind) + FEW > ROOM:
            return
        digest = self._digest(PyBytes_AS_STRING(block), size, &length)
        if digest is None:
            return
        known.before, known.behind, known.allows, known.until = before, behind, allows, until
        known.publisher, known.request = publisher, request
        known.form = None
        self.known[digest] = known
        if len(self.known) > self.most:
            del self.known[next(iter(self.known))]

    def remember_form(self, bytes block not None, bytes before not None, bytes behind not None, *, form not None, double until=FOREVER):
        """The same of a header block behind `form_line`. `form(body)` publishes what is in it, and returns the answer's
        text; None: somebody else has to, and nothing was; if it raises, nothing was either."""
        cdef Known known = Known.__new__(Known)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block), length
        cdef bytes digest
        if size > MOST_BLOCK or len(before) + len(behind) + FEW + MOST_TEXT > ROOM:
            return
        digest = self._digest(PyBytes_AS_STRING(block), size, &length)
        if digest is None:
            return
        known.before, known.behind, known.form, known.until = before, behind, form, until
        known.allows = known.publisher = known.request = None
        self.forms[digest] = known
        if len(self.forms) > self.most:
            del self.forms[next(iter(self.forms))]

    def forget(self):
        self.known.clear()
        self.forms.clear()

    def __len__(self):
        return len(self.known) + len(self.forms)

    cdef Py_ssize_t take(self, const char* data, Py_ssize_t size, int* most, address, connection) except -1:
        """Publish what such requests `data`, from this address, begins with, at most so many, and take them from `most`.
        Returns how many bytes they are; their answers are in `room`, or that of one comes later: `waits`."""
        cdef Py_ssize_t at = 0, used
        self.filled = 0
        self.waits = None
        while at < size and most[0] and self.enabled:
            used = self._take_one(data + at, size - at, address, connection)
            if used == 0:
                break
            at += used
            most[0] -= 1
            if self.waits is not None:
                break
        return at

    cdef bytes _digest(self, const char* block, Py_ssize_t size, Py_ssize_t* length):
        """Of a block without the digits of its length, which it has at one place, so that no other block comes to be the
        same. None: those digits are not there, or not as few as the number takes."""
        cdef char kept[MOST_BLOCK]
        cdef Py_ssize_t at = length_at(block, size), end = at
        length[0] = 0
        if at < 0:
            return digest_of(self.key, block, size)
        while end < size and c"0" <= block[end] <= c"9" and end - at < MOST_DIGITS:
            length[0] = 10 * length[0] + block[end] - c"0"
            end += 1
        if end == at or block[end] != c"\r" or (block[at] == c"0" and end - at > 1):
            return None
        memcpy(kept, block, at)
        memcpy(kept + at, block + end, size - end)
        return digest_of(self.key, kept, at + size - end)

    cdef int hand_out(self) except -1:
        self.news = False
        self._hand_out()
        return 0

    cdef Py_ssize_t _take_form(self, const char* data, Py_ssize_t size) except -1:
        """`_take_one` of a form."""
        cdef Py_ssize_t start = PyBytes_GET_SIZE(self.form_line), length
        cdef const char* block = data + start
        cdef const char* end
        cdef Known known
        cdef bytes digest
        end = <const char*>memmem(block, min(size - start, MOST_BLOCK), b"\r\n\r\n", 4)
        if end == NULL:
            return 0
        end += 4
        digest = self._digest(block, end - block, &length)
        known = self.forms.get(digest) if digest is not None else None
        if known is None or self.now >= known.until or length > self.most_form or data + size - end < length or not self.date:
            return 0
        if self.filled + PyBytes_GET_SIZE(known.before) + PyBytes_GET_SIZE(known.behind) + FEW + MOST_TEXT > ROOM:
            return 0
        try:
            self.news = True            # whether it raises or not
            text = known.form(PyBytes_FromStringAndSize(end, length))
        except MemoryError:
            raise                       # it may have been published, and must not be again
        except Exception:
            return 0
        if text is None:
            return 0
        self._answer(known, text)
        self.taken += 1
        return end + length - data

    cdef Py_ssize_t _take_one(self, const char* data, Py_ssize_t size, address, connection) except -1:
        """The bytes of the first request; 0: it is none of these, or not all there."""
        cdef Py_ssize_t line = PyBytes_GET_SIZE(self.form_line)
        if self.forms and size > line and memcmp(data, PyBytes_AS_STRING(self.form_line), line) == 0:
            return self._take_form(data, size)
        return self._take_event(data, size, address, connection)

    cdef Py_ssize_t _take_event(self, const char* data, Py_ssize_t size, address, connection) except -1:
        """The same of one that names the channel."""
        cdef Py_ssize_t start = PyBytes_GET_SIZE(self.start), name_length, left, length
        cdef const char* name = data + start
        cdef const char* block
        cdef const char* end
        cdef Known known
        cdef bytes digest, frame, channel
        cdef Waiting waits
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
        digest = self._digest(block, end - block, &length)
        known = self.known.get(digest) if digest is not None else None
        if known is None or self.now >= known.until or length > self.limit or data + size - end < length or not self.date:
            return 0
        if self.filled + PyBytes_GET_SIZE(known.before) + PyBytes_GET_SIZE(known.behind) + FEW > ROOM:
            return 0
        try:
            channel = self._channel(name, name_length)
            if known.allows is not None and not known.allows(channel):
                return 0
            if self.typed is not None and self.typed.place_of(channel) >= 0:
                return 0                # its event has to fit, and who parses sees whether it does
            frame = frame_of(PyBytes_FromStringAndSize(end, length), None, None, None, None)
            if PyBytes_GET_SIZE(frame) > self.limit:
                return 0
            if self.admits is not None and not self.admits(address, known.publisher, channel):
                return 0                # who parses will meet that too, and answer in its words
            id = None
            try:
                self.news = True        # whether it raises or not
                if self.later is not None:
                    waits = Waiting.__new__(Waiting)
                    waits.posts, waits.known, waits.connection = self, known, connection
                    waits.channel, waits.address = channel, address
                    if self.later((channel, frame), waits):
                        id = self.waits = waits
                        self.waiting += 1
                        return end + length - data
                    return 0
                id = self.append((channel, frame))
            finally:
                if id is None and self.undo is not None:
                    self.undo(address, known.publisher, channel)
        except MemoryError:
            raise                       # it may have been published, and must not be again
        except Exception:
            return 0
        if id is None:
            return 0
        self._answer(known, id)
        self.taken += 1
        return end + length - data

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
        cdef bint alone = known.form is not None
        cdef int digits_length = snprintf(digits, sizeof(digits), b"%zd", id_length + (0 if alone else 9))
        cdef char* to = self.room + self.filled
        if PyBytes_GET_SIZE(self.date) + id_length > FEW - 64 + (MOST_TEXT if alone else 0):
            raise ValueError("an answer's date and id are far shorter")
        to = put(to, PyBytes_AS_STRING(known.before), PyBytes_GET_SIZE(known.before))
        to = put(to, digits, digits_length)
        to = put(to, PyBytes_AS_STRING(known.behind), PyBytes_GET_SIZE(known.behind))
        to = put(to, PyBytes_AS_STRING(self.date), PyBytes_GET_SIZE(self.date))
        if alone:
            to = put(to, text, id_length)
        else:
            to = put(to, b'{"id":"', 7)
            to = put(to, text, id_length)
            to = put(to, b'"}', 2)
        self.filled = to - self.room
        return 0


@cython.final
cdef class Waiting:
    """A request whose event is on its way, as a future that is told of it: by `set_result`, of what `ids` has its id, or by
    `set_exception`. It has the connection as its context meanwhile. Whoever is gone is published all the same."""

    def done(self):
        return self.posts is None

    def set_result(self, published):
        cdef Posts posts = self._over()
        cdef object connection = self.connection
        self.connection = None
        posts.taken += 1
        if connection is None:
            return
        try:
            posts.filled = 0
            posts._answer(self.known, str(published.ids[0]))
            connection.answer(PyBytes_FromStringAndSize(posts.room, posts.filled), not posts.enabled)
        except Exception:               # others are told after it
            connection.abort()
            logger.exception("an answer failed, and its connection is closed; the others go on")

    def set_exception(self, error):
        cdef Posts posts = self._over()
        cdef object connection = self.connection
        self.connection = None
        if posts.undo is not None:
            posts.undo(self.address, self.known.publisher, self.channel)
        if connection is not None:
            try:
                posts.failed(connection, self.known.request, error)
            except Exception:
                connection.abort()
                logger.exception("an answer failed, and its connection is closed; the others go on")

    cdef Posts _over(self):
        cdef Posts posts = self.posts
        if posts is None:
            raise RuntimeError("it was told before")
        self.posts = None
        posts.waiting -= 1
        return posts

    def gone(self, connection):
        self.connection = None

    def late(self, connection):
        pass                            # it was given no time

    def writable(self, connection):
        pass                            # nothing was sent

    def feed(self, connection, data):
        raise RuntimeError("nothing is read while an answer is waited for")


cdef inline char* put(char* to, const char* text, Py_ssize_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length
