# The grammar of an event stream (WHATWG HTML, sections 9.2.5 and 9.2.6): bytes in pieces of any size in, whole lines out.
# Both readers have it compiled in: EventParser, which makes Python objects of the lines, and the load client, which looks
# for its payloads in them.
#
# `Lines` is one per stream and holds what must outlive a read: the unfinished line. For each read, `begin_read` and then
# `next_line` until it says USED_UP. A `Line` is good until the next call.
#
# A line is there with the very byte that ends it, so after CR at once. Each byte is looked at a constant number of times.

from libc.stdint cimport uint64_t, uint8_t
from libc.string cimport memchr, memcmp

from sse_fast._native.base.text cimport same_letters
from sse_fast._native.wire.carry cimport Carry, keep, tidy

cdef enum Field:
    BLANK                       # the end of an event
    COMMENT
    DATA
    EVENT
    ID                          # never with a NUL in it
    RETRY                       # only of digits
    IGNORED

cdef enum Outcome:
    LINE
    USED_UP                     # the rest of the read is an unfinished line
    TOO_LARGE                   # nothing of this stream can be read any more
    NO_MEMORY

cdef enum:
    MOST_DIGITS = 18            # of `retry`; more say no more


cdef struct Line:
    Field field
    const char* value           # without the one space that may lead it
    size_t length
    uint64_t milliseconds       # of RETRY


cdef struct Lines:
    Carry unfinished
    size_t size                 # bytes of the event under way: its lines of data, event and id, without their ends
    uint8_t begun               # its first line has come: from here on a byte order mark is text
    uint8_t after_cr            # the read before ended in CR: an LF belongs to that


cdef struct Reading:
    const char* at
    const char* end
    const char* lf              # the next one from `at` on, or `end`
    const char* cr


cdef inline const char* find(const char* at, const char* end, char what) noexcept nogil:
    cdef const char* found = <const char*>memchr(at, what, end - at)
    return found if found != NULL else end


cdef inline void begin_lines(Lines* lines) noexcept nogil:
    """A stream begins, on a connection of its own."""
    lines.unfinished.length = lines.size = 0
    lines.begun = lines.after_cr = False


cdef inline void begin_read(Reading* reading, const char* data, size_t length) noexcept nogil:
    reading.at = data
    reading.end = data + length
    reading.lf = find(data, reading.end, b"\n")
    reading.cr = find(data, reading.end, b"\r")


cdef inline Outcome next_line(Lines* lines, Reading* reading, size_t most, Line* line) noexcept nogil:
    """The next line whose end is there. An event may have `most` bytes, its unfinished line included."""
    cdef const char* at = reading.at
    cdef const char* eol
    cdef size_t length
    if lines.after_cr and at < reading.end:
        lines.after_cr = False
        at += at[0] == b"\n"
    # Both only move on, so a read is searched once for each, whatever its lines end in.
    if reading.lf < at:
        reading.lf = find(at, reading.end, b"\n")
    if reading.cr < at:
        reading.cr = find(at, reading.end, b"\r")
    eol = reading.lf if reading.lf < reading.cr else reading.cr
    length = eol - at
    if lines.size + lines.unfinished.length + length > most:
        return TOO_LARGE
    reading.at = eol
    if eol == reading.end:
        return leave(lines, at, length)
    reading.at += 1
    if eol == reading.cr:
        if reading.at == reading.end:
            lines.after_cr = True
        else:
            reading.at += reading.at[0] == b"\n"
    if lines.unfinished.length:
        if not keep(&lines.unfinished, at, length):
            return NO_MEMORY
        at, length = lines.unfinished.bytes, lines.unfinished.length
        lines.unfinished.length = 0
    if not lines.begun:
        lines.begun = True
        if length >= 3 and memcmp(at, b"\xef\xbb\xbf", 3) == 0:
            at, length = at + 3, length - 3
    read_line(line, at, length)
    if line.field == BLANK:
        lines.size = 0
    elif line.field == DATA or line.field == ID or line.field == EVENT:
        lines.size += length
    return LINE


cdef inline Outcome leave(Lines* lines, const char* at, size_t length) noexcept nogil:
    """The read ends with an unfinished line, or after a whole one."""
    if length == 0:
        tidy(&lines.unfinished)
    elif not keep(&lines.unfinished, at, length):
        return NO_MEMORY
    return USED_UP


cdef inline void read_line(Line* line, const char* at, size_t length) noexcept nogil:
    """One line, without its end: which field it is, if any, and its value."""
    line.field = IGNORED
    if length == 0:
        line.field = BLANK
    elif at[0] == b"d":
        if length >= 4 and memcmp(at, b"data", 4) == 0 and read_value(line, at, length, 4):
            line.field = DATA
    elif at[0] == b"i":
        if length >= 2 and at[1] == b"d" and read_value(line, at, length, 2):
            if memchr(line.value, 0, line.length) == NULL:
                line.field = ID
    elif at[0] == b":":
        line.field = COMMENT
        read_value(line, at, length, 0)
    elif at[0] == b"e":
        if length >= 5 and memcmp(at, b"event", 5) == 0 and read_value(line, at, length, 5):
            line.field = EVENT
    elif at[0] == b"r":
        if length >= 5 and memcmp(at, b"retry", 5) == 0 and read_value(line, at, length, 5) and read_number(line):
            line.field = RETRY


cdef inline bint read_value(Line* line, const char* at, size_t length, size_t name) noexcept nogil:
    """What stands after a name of so many bytes. False: the name goes on."""
    cdef size_t skipped = name
    if length > name:
        if at[name] != b":":
            return False
        skipped += 2 if length > name + 1 and at[name + 1] == b" " else 1
    line.value, line.length = at + skipped, length - skipped
    return True


cdef inline bint read_number(Line* line) noexcept nogil:
    """The value as a number in base ten, at most 10^18. False: it is anything but ASCII digits."""
    cdef size_t i, digits = 0
    line.milliseconds = 0
    for i in range(line.length):
        if not b"0" <= line.value[i] <= b"9":
            return False
        digits += digits > 0 or line.value[i] != b"0"
        if digits <= MOST_DIGITS:
            line.milliseconds = line.milliseconds * 10 + <uint64_t>(line.value[i] - 48)
    if digits > MOST_DIGITS:
        line.milliseconds = <uint64_t>1_000_000_000_000_000_000
    return line.length > 0


cdef inline bint is_event_stream(const char* content_type, size_t length) noexcept nogil:
    """text/event-stream in letters of any case, with or without parameters."""
    cdef const char* at = content_type
    cdef const char* end = at + length
    while at < end and (at[0] == b" " or at[0] == b"\t"):
        at += 1
    if end - at < 17 or not same_letters(at, b"text/event-stream", 17):
        return False
    at += 17
    while at < end and (at[0] == b" " or at[0] == b"\t"):
        at += 1
    return at == end or at[0] == b";"
