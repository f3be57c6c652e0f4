# A client's side of one HTTP/1.1 event stream: bytes in, checked payloads out. It knows no socket, loop or clock.
#
# `feed` takes whatever one read gave. `Harvest` is one per thread and holds what the last `feed` found; a `Stream` is one
# per connection and holds only what must outlive a read.
#
# The payload, wherever it stands in an event's data, is ASCII that survives JSON escaping:
#
#     sw1:<run>:<channel>:<publisher>:<n>:<sent>:<check>:<padding>;
#
# hexadecimal of fixed width (8, 6, 2, 8, 16, 8 digits): which run, channel and publisher; its number among the events of
# that publisher on that channel; CLOCK_MONOTONIC in ns; and the checksum of all the rest.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from sse_fast._native.board cimport Fault

cdef enum:
    MARK_BYTES = 13             # "sw1:<run>:"
    PAYLOAD_LEAST = 59
    MOST_PAYLOADS = 9216        # more than two READ_BYTES of the smallest payload hold
    READ_BYTES = 262144
    MEMO_BYTES = 16384
    ID_BYTES = 64
    HEAD_BYTES = 16384
    EVENT_BYTES = 262144

cdef enum Body:
    HEAD
    PLAIN                       # until the connection ends
    LENGTH                      # so many bytes
    CHUNK_SIZE
    CHUNK_EXTENSION
    CHUNK_DATA
    CHUNK_END
    TRAILER
    OVER                        # the last byte was read


cdef struct Payload:
    uint32_t channel
    uint32_t publisher
    uint32_t n
    uint64_t sent


cdef struct Stream:
    uint64_t left               # bytes until the end of the chunk or body
    uint64_t id_number
    char* carry                 # an unfinished head or event; NULL until a read first splits one
    uint32_t carried
    uint32_t carry_room
    uint8_t body
    uint8_t line_is_empty       # in the trailer
    uint8_t id_length           # 0: no id yet
    uint8_t id_prefix           # its length without the decimal number at its end
    uint8_t size_digits
    uint8_t fresh               # nothing was taken yet: a byte order mark may come
    char id[ID_BYTES]


cdef struct Harvest:
    Payload payloads[MOST_PAYLOADS]
    uint32_t count              # payloads of whole events
    uint32_t pending            # with those of the event under way
    uint32_t events             # whole events, also those without a payload
    uint32_t bad[4]             # torn, wrong checksum, ids that fell, payloads of other runs
    int status                  # of a head that was read in this feed, else 0
    bint closes                 # that head says that the connection ends with its body
    Fault fault                 # why the stream cannot go on
    const char* example         # what was wrong, inside what was fed
    size_t example_length
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
cdef bint skip_body(Stream* stream, Harvest* harvest, const char* data, size_t length) noexcept nogil
cdef void write_payload(
    char* at, uint32_t length, uint32_t run, uint32_t channel, uint32_t publisher, uint32_t n, uint64_t sent
) noexcept nogil
