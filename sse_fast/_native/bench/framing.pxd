# How an HTTP/1.1 response is framed (RFC 9112, sections 6 and 7), as the load client reads it: a head, and a body whose
# pieces are found between chunk sizes. It looks at no byte of the body.
#
# `Framing` is one per connection and holds what must outlive a read. For each read: `take_head` until the body begins, then
# `next_piece` until the read is used up. `Answer` is one per thread and says what the last read told of the response.

from libc.stdint cimport uint64_t, uint8_t

from sse_fast._native.bench.board cimport EXAMPLE_BYTES, Fault
from sse_fast._native.wire.carry cimport Carry

cdef enum:
    HEAD_BYTES = 16384

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


cdef struct Framing:
    uint64_t left               # bytes until the end of the chunk or body
    uint8_t body
    uint8_t line_is_empty       # in the trailer
    uint8_t size_digits
    Carry head                  # unfinished


cdef struct Answer:
    int status                  # of a head that was read in this feed, else 0
    bint closes                 # that head says that the connection ends with its body
    Fault fault                 # why the response cannot be read on
    size_t example_length       # 0: there is none
    char example[EXAMPLE_BYTES]     # what was wrong


cdef void begin_response(Framing* framing) noexcept nogil
cdef void forget_response(Framing* framing) noexcept nogil
cdef void begin_answer(Answer* answer) noexcept nogil
cdef void blame(Answer* answer, const char* example, size_t length) noexcept nogil
cdef const char* take_head(
    Framing* framing, Answer* answer, const char* at, const char* end, bint events
) noexcept nogil
cdef const char* next_piece(
    Framing* framing, Answer* answer, const char* at, const char* end, const char** piece_end
) noexcept nogil
cdef bint skip_body(Framing* framing, Answer* answer, const char* data, size_t length) noexcept nogil
