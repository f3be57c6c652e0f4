# A client's side of one HTTP/1.1 event stream: bytes in, checked payloads out. It knows no socket, loop or clock.
#
# `feed` takes whatever one read gave. `Harvest` is one per thread and holds what the last `feed` found; a `Stream` is one
# per connection and holds only what must outlive a read.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from sse_fast._native.bench.framing cimport Answer, Framing
from sse_fast._native.bench.payload cimport MARK_BYTES, Payload
from sse_fast._native.wire.grammar cimport Lines

cdef enum:
    MOST_PAYLOADS = 9216        # more than two READ_BYTES of the smallest payload hold
    READ_BYTES = 262144
    MEMO_BYTES = 16384
    ID_BYTES = 64
    EVENT_BYTES = 262144        # all lines of one event
    CLOSING_BYTES = 47


# What reads before brought of an event whose end has not come.
cdef struct Held:
    uint32_t count
    uint32_t room
    bint has_data
    bint has_id
    uint8_t id_length
    char id[ID_BYTES + 1]       # a byte more: one that is too long is told
    Payload* payloads           # right behind this


cdef struct Stream:
    Framing framing
    Lines lines
    Held* held                  # what a read left that ended within an event; NULL until one first does
    uint8_t closing             # the event under way is sse_fast's `$closing`
    uint8_t closing_length      # of its data, why the server lets the stream go; 0: it has not said so
    uint64_t id_number
    uint8_t id_length           # 0: no id yet
    uint8_t id_prefix           # its length without the decimal number at its end
    char id[ID_BYTES]
    char closing_data[CLOSING_BYTES]


cdef struct Harvest:
    Payload payloads[MOST_PAYLOADS]
    uint32_t count              # payloads of whole events
    uint32_t pending            # with those of the event under way
    uint32_t events             # whole events, also those without a payload
    uint32_t bad[4]             # torn, wrong checksum, ids that fell, payloads of other runs
    bint has_data               # the event under way
    const char* id              # its id; NULL: it has none
    size_t id_length
    char own_id[ID_BYTES + 1]   # one that stood in no single read
    Answer answer               # the head, and why the stream cannot go on
    # settings
    char mark[MARK_BYTES]
    uint32_t payload_bytes
    # what the counts above are the result of: the next stream often gets the very same bytes
    uint32_t memo_length
    uint8_t memo_body
    uint8_t memo_id_length, memo_id_prefix, first_id_prefix
    uint64_t memo_id_number, first_id_number
    uint32_t ids_seen
    char memo[MEMO_BYTES]
    char memo_id[ID_BYTES]

cdef enum Bad:
    BAD_TORN
    BAD_CHECKSUM
    BAD_IDS
    BAD_FOREIGN


cdef void begin(Stream* stream, bint resumes) noexcept nogil
cdef void forget(Stream* stream) noexcept nogil
cdef void set_up(Harvest* harvest, uint32_t run, uint32_t payload_bytes) noexcept nogil
cdef void feed(Stream* stream, Harvest* harvest, const char* data, size_t length) noexcept nogil
