# The log for C callers.
#
# A writer calls `append_record`. A reader keeps an offset of its own: `read_record` looks at one record, the caller copies
# out from `names_at`, and only a `still_holds` that is true afterwards makes what was copied real.

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass


cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

    /* Two lanes of 64 bits; each step can be undone, so that no change of a single word goes unseen before the end. */
    static inline uint32_t checksum_of(const char* record, uint64_t length, uint32_t frame_length) {
        const uint64_t odd = 0x9E3779B97F4A7C15u;
        uint64_t one, two, a = 0, b = odd, at;
        for (at = 0; at < length; at += 16) {
            memcpy(&one, record + at, 8);
            memcpy(&two, record + at + 8, 8);
            if (at == 16) two = frame_length;   /* here stands the checksum too */
            a = (a ^ one) * odd;
            b = (b ^ two) * odd;
            a ^= a >> 29;
            b ^= b >> 32;
        }
        a = (a ^ (b << 32 | b >> 32)) * odd;
        return (uint32_t)(a >> 32);
    }
    """
    uint32_t checksum_of(const char* record, uint64_t length, uint32_t frame_length)


cdef enum:
    PAST_EPOCHS = 48
    ALIGNMENT = 16
    FLAG_PAD = 1                    # fills the end of the ring: a record never wraps; 4: FLAG_SEVERAL, of `names`


cdef struct PastEpoch:
    char epoch[8]
    uint64_t end                    # the first position that is not of this epoch any more


cdef struct LogHeader:
    # what the segment is: written once
    char magic[8]
    uint32_t layout
    uint32_t header_size
    uint64_t capacity               # bytes in the data area, a power of two
    char epoch[8]
    # how far it got: offsets are virtual, they only rise; `offset & (capacity - 1)` is the place
    uint64_t tail                   # the oldest record that is kept
    uint64_t head                   # where the next record goes; storing it commits an append
    uint64_t next_position          # a writer that dies between this and `head` leaves a hole, never a double
    # for a log in a file
    uint32_t checksums              # whether records have them
    uint32_t closed                 # whether all that is here is on the disk
    char boot[40]                   # /proc/sys/kernel/random/boot_id when it was opened last
    uint32_t past_count
    uint32_t checksum               # of what is written once a life: what the segment is, and its past
    PastEpoch past[PAST_EPOCHS]     # oldest first
    # idempotency keys, see `keys`
    uint64_t keys                   # the number of the last that counts
    uint64_t keys_next              # what it is once the append that has begun is committed; 0: none has begun
    uint64_t keys_head              # the head that it began at


cdef struct Record:
    uint32_t length                 # header, names, frame, padding: a multiple of 16
    uint16_t flags
    uint16_t names_length           # of its channels
    uint64_t position
    uint64_t milliseconds           # when it was published: wall clock
    uint32_t frame_length
    uint32_t checksum               # if the log has them: of the whole record but for this field


cdef enum:
    READ_AT_HEAD = 0
    READ_OK = 1
    READ_OVERTAKEN = 2


cdef class Log:
    cdef:
        Py_buffer _view
        LogHeader* header
        pthread_mutex_t* lock
        uint64_t patience           # microseconds
        bint alone                  # no other process has this memory: no lock is needed
        char* data
        uint64_t mask
        char id_prefix[16]          # "id: <epoch>-"
        Py_ssize_t id_prefix_length

    cdef void _prepare_ids(self) noexcept
    cdef int _lay_out(self, uint64_t capacity, epoch, bint checksums) except -1
    cdef uint32_t _checksum_of_header(self, LogHeader* header) noexcept
    cdef int _new_lock(self) except -1
    cdef int _refuse_oversize(self, size_t names_length, size_t body_length) except -1
    cdef uint64_t _measure(self, list batch, list into) except? 0
    cdef object append_record(self, bytes names, uint16_t flags, bytes body)
    cdef object _begin(self)
    cdef int _acquire(self) except -1
    cdef void _release(self) noexcept
    cdef uint64_t _write(
        self, uint64_t head, uint64_t position,
        const char* names, size_t names_length, uint16_t flags, const char* body, size_t body_length,
        uint64_t milliseconds,
    ) noexcept nogil
    cdef void _commit(self, uint64_t head, uint64_t next_position) noexcept nogil
    cdef uint64_t _write_event(self, tuple event, uint64_t head, uint64_t position, uint64_t milliseconds) noexcept
    cdef void _commit_with_keys(self, uint64_t head, uint64_t next_position, uint64_t keys) noexcept nogil
    cdef void _settle_keys(self) noexcept nogil
    cdef uint64_t load_head(self) noexcept nogil
    cdef uint64_t load_tail(self) noexcept nogil
    cdef int read_record(self, uint64_t* offset, Record* record) noexcept nogil
    cdef const char* names_at(self, uint64_t offset) noexcept nogil
    cdef bint still_holds(self, uint64_t offset) noexcept nogil
