# How the load client opens, watches and closes connections, and writes requests.

from libc.stdint cimport uint32_t, uint64_t

from sse_fast._native.base.linux cimport sockaddr_storage, socklen_t

cdef enum:
    REQUEST_PARTS = 64
    REQUEST_OVERHEAD = 16384    # the most bytes of a request beside its payload

cdef enum PartKind:
    TEXT
    CHANNEL                     # the channel's number, in decimal
    PAYLOAD
    LENGTH                      # the Content-Length
    LAST_EVENT_ID               # the whole header line, where there is an id


cdef struct Part:
    PartKind kind
    const char* text
    uint32_t length


cdef class Request:
    cdef:
        tuple _texts            # keeps the texts alive
        Part parts[REQUEST_PARTS]
        int count
        uint32_t body_fixed, body_channels, body_payloads

    cdef uint32_t write(
        self, char* to, uint32_t channel, const char* payload, uint32_t payload_length, const char* id, uint32_t id_length
    ) noexcept nogil


cdef class Dialer:
    cdef:
        sockaddr_storage address
        socklen_t length
        bint from_many          # over many loopback addresses
        uint32_t worker
        uint64_t dialled

    cdef int dial(self, int receive_buffer) noexcept nogil      # a descriptor that is connecting, or -errno


cdef int watch(int epoll, int fd, uint32_t events, uint64_t tag) noexcept nogil
cdef int failure_of(int fd) noexcept nogil
cdef void hang_up(int fd, bint abruptly) noexcept nogil
